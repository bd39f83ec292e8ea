"""All of authentication: made of the settings, started, reloaded, stopped.

``service.py`` owns one. It makes the chain and the portal that the broker asks,
the processes for hashing and the methods of enhanced authentication. A reload
that fails in any part leaves that part as it was, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from attrs import field, frozen
from twisted.cred.portal import Portal
from twisted.cred.strcred import makeChecker
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from mqttd.access.chain import Chain, CredCheckers
from mqttd.access.hashing import HashPool
from mqttd.access.realm import MQTTRealm
from mqttd.interfaces import IAuthenticationMethod, Revoked
from mqttd.settings import BrokerSettings
from mqttd.settings_authentication import (
    AuthenticatorSettings,
    CertificateSettings,
    CredSettings,
    JWTSettings,
    LDAPSettings,
    PasswordFileSettings,
    RedisSettings,
    SCRAMSettings,
    SQLSettings,
    WebLoginSettings,
)

log = Logger()


class AuthenticationError(ValueError):
    """An authenticator cannot be made; the text names it and says why."""

    def __init__(self, title: str, text: str) -> None:
        super().__init__(f"authentication {title!r}: {text}")


@frozen
class Changed:
    """What a reload of authentication did."""

    #: Authenticators that are new, gone or different.
    names: tuple[str, ...] = ()
    #: The settings were not taken over: one authenticator could not be made.
    refused: bool = False
    errors: tuple[str, ...] = ()
    #: Name of an authenticator -> whom it does not vouch for any more.
    revoked: dict[str, Revoked] = field(factory=dict)


class Authentication:
    """Who is asked who a client is."""

    def __init__(
        self,
        reactor: Any,
        settings: BrokerSettings,
        *,
        checkers: Iterable[Any] = (),
        seconds: Callable[[], float],
    ) -> None:
        """
        :param checkers: twisted.cred's, besides those of the settings.
        :param seconds: monotonic time.
        :raise AuthenticationError: when one cannot be made.
        """
        self._reactor = reactor
        self._seconds = seconds
        self._pool = HashPool(reactor, settings.password_hashing)
        checkers = tuple(checkers)
        self._unnamed = (CredCheckers("cred", checkers),) if checkers else ()
        self._made: dict[AuthenticatorSettings, Any] = {}
        self._running = False
        for each in settings.authentication:
            self._made[each] = self._make(each)
        self._take()

    def _take(self) -> None:
        """Put what is made to use."""
        everyone = tuple(self._made.values())
        self.chain = Chain(everyone, self._unnamed, self._seconds)
        known = bool(everyone or self._unnamed)
        self.portal = Portal(MQTTRealm(), [self.chain]) if known else None
        self.methods = self._find_methods()

    def _find_methods(self) -> tuple[IAuthenticationMethod, ...]:
        kinds = [kind for kind in self._made if isinstance(kind, SCRAMSettings)]
        if not kinds:
            return ()
        from mqttd.access.scram import SCRAMMethod

        return (SCRAMMethod(tuple(self._made[kind] for kind in kinds)),)

    # --- life -----------------------------------------------------------------

    def start(self) -> None:
        """Before the first login."""
        self._running = True
        self._pool.start()
        for authenticator in self.chain:
            authenticator.start()

    def stop(self) -> Deferred[Any]:
        """After the last one; fires when the processes for hashing are gone."""
        if not self._running:
            return succeed(None)
        self._running = False
        for authenticator in self.chain:
            authenticator.stop()
        return self._pool.stop()

    def reload(self, settings: tuple[AuthenticatorSettings, ...]) -> Changed:
        """Take *settings* over, and read the files of those that stay anew."""
        wanted: dict[AuthenticatorSettings, Any] = {}
        new: list[AuthenticatorSettings] = []
        for each in settings:
            if each in self._made:
                wanted[each] = self._made[each]
                continue
            try:
                wanted[each] = self._make(each)
            except AuthenticationError as error:
                # All or nothing: half a chain could let in whom the other half refuses.
                return Changed(refused=True, errors=(f"{error}; all stays as it was",))
            new.append(each)
        errors, revoked = self._reread([each for each in wanted if each not in new])
        gone = [each for each in self._made if each not in wanted]
        read = tuple(f"authentication {title}" for title in revoked)
        names = self._exchange(wanted, new, gone, revoked)
        return Changed((*names, *read), errors=errors, revoked=revoked)

    def _reread(
        self, staying: list[AuthenticatorSettings]
    ) -> tuple[tuple[str, ...], dict[str, Revoked]]:
        errors: list[str] = []
        revoked: dict[str, Revoked] = {}
        for each in staying:
            try:
                lost = self._made[each].reload()
            except (ValueError, OSError) as error:
                text = "what was read before stays in force"
                errors.append(f"authentication {each.title!r}: {error}; {text}")
                continue
            if lost != Revoked():
                revoked[each.title] = lost
        return tuple(errors), revoked

    def _exchange(
        self,
        wanted: dict[AuthenticatorSettings, Any],
        new: list[AuthenticatorSettings],
        gone: list[AuthenticatorSettings],
        revoked: dict[str, Revoked],
    ) -> tuple[str, ...]:
        if wanted == self._made and list(wanted) == list(self._made):
            return ()
        if self._running:
            for each in new:
                wanted[each].start()
            for each in gone:
                self._made[each].stop()
        self._made = wanted
        self._take()
        revoked.update({each.title: Revoked(everyone=True) for each in gone})
        touched = dict.fromkeys(each.title for each in (*gone, *new))
        return tuple(f"authentication {title}" for title in touched) or ("authentication",)

    # --- making -----------------------------------------------------------------

    def _make(self, settings: AuthenticatorSettings) -> Any:
        """The authenticator of *settings*.

        Libraries and whatever they import are only needed for what is configured.
        """
        try:
            return self._maker(settings)
        except (ValueError, OSError) as error:
            raise AuthenticationError(settings.title, str(error)) from None

    def _maker(self, settings: AuthenticatorSettings) -> Any:
        match settings:
            case PasswordFileSettings():
                from mqttd.access.password_file import PasswordFile

                return PasswordFile(settings, self._pool)
            case CertificateSettings():
                from mqttd.access.certificate import CertificateLogin

                return CertificateLogin(settings)
            case JWTSettings():
                from mqttd.access.token import TokenLogin

                return TokenLogin(settings, self._reactor, self._seconds)
            case WebLoginSettings():
                from mqttd.access.web_login import WebLogin

                return WebLogin(settings, self._reactor, self._seconds)
            case SCRAMSettings():
                from mqttd.access.scram import SCRAMUsers

                return SCRAMUsers(settings)
            case CredSettings():
                return CredCheckers(settings.title, map(_checker, settings.auth))
        return self._server(settings)

    def _server(self, settings: AuthenticatorSettings) -> Any:
        from mqttd.access.stored_hash import DirectoryLogin, RedisLogin, SQLLogin

        match settings:
            case SQLSettings():
                return SQLLogin(settings, self._pool, self._reactor)
            case RedisSettings():
                return RedisLogin(settings, self._pool, self._reactor)
        return DirectoryLogin(cast(LDAPSettings, settings), self._reactor)


def _checker(description: str) -> Any:
    kind = description.partition(":")[0]
    try:
        return makeChecker(description)
    except Exception as error:
        # What follows the type may be a password.
        raise ValueError(f"auth = {kind + ':...'!r}: {type(error).__name__}") from None
