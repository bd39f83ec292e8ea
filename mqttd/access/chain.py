"""The chain: asks one authenticator after the other who a client is.

The portal calls it for each CONNECT. Each authenticator that the listener
chose says yes, no or "not mine"; the first yes or no decides, and an error is
a no. When all say "not mine", the client is nobody: it comes in where the
listener allows that, and only there.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import evolve
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from zope.interface import implementer

from mqttd.broker.credentials import MQTTCredentials
from mqttd.interfaces import (
    NOT_MINE,
    Avatar,
    IAuthenticator,
    IMQTTAvatar,
    IMQTTCredentials,
    LoginUnavailable,
    Peer,
    Revoked,
)
from mqttd.settings import ListenerSettings
from mqttd.settings_authentication import ALL

log = Logger()

#: Seconds in which one authenticator's errors are told once.
QUIET = 10.0


@implementer(ICredentialsChecker)
class Chain:
    """Asks each authenticator in turn; behind the portal like any checker."""

    #: Whatever asks for a user and a password besides MQTT gets in here, too.
    credentialInterfaces = (IMQTTCredentials, IUsernamePassword)

    def __init__(
        self,
        authenticators: Iterable[Any],
        unnamed: Iterable[Any] = (),
        seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """
        :param authenticators: those that listeners choose by name.
        :param unnamed: those that "all" stands for besides, at its end.
        :param seconds: monotonic time.
        """
        self.authenticators = tuple(authenticators)
        self.unnamed = tuple(unnamed)
        self._seconds = seconds
        #: Name of an authenticator -> how often it answered what.
        self.answers: dict[str, Counter[str]] = {}
        self._complaints: dict[str, tuple[float, int]] = {}

    def __iter__(self) -> Any:
        return iter((*self.authenticators, *self.unnamed))

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """An avatar, whole; cred's name for what the realm then passes on."""
        return Deferred.fromCoroutine(self._ask(_as_mqtt(credentials)))

    async def _ask(self, credentials: Any) -> Any:
        listener: ListenerSettings | None = credentials.listener
        for authenticator in self.chosen((ALL,) if listener is None else listener.authentication):
            answer = await self._answer(authenticator, credentials)
            if answer is not NOT_MINE:
                return answer
        if listener is not None and listener.allow_anonymous:
            return Avatar()
        raise UnauthorizedLogin("nobody knows this client")

    def chosen(self, names: Sequence[str]) -> tuple[Any, ...]:
        """The authenticators that *names* stand for, in their order."""
        if names == (ALL,):
            return (*self.authenticators, *self.unnamed)
        found: list[Any] = []
        for name in names:
            if name == ALL:
                found += [each for each in self if each not in found]
            else:
                found += [each for each in self.authenticators if each.name == name]
        return tuple(found)

    async def _answer(self, authenticator: Any, credentials: Any) -> Any:
        name = authenticator.name
        count = self.answers.setdefault(name, Counter())
        try:
            answer = await maybeDeferred(authenticator.authenticate, credentials)
        except LoginUnavailable as error:
            count["error"] += 1
            self._complain(name, str(error))
            raise
        except UnauthorizedLogin:
            count["no"] += 1
            raise
        except Exception as error:
            count["error"] += 1
            self._complain(name, _safely(error))
            raise LoginUnavailable("an error") from None
        return self._checked(answer, name, count)

    def _checked(self, answer: Any, name: str, count: Counter[str]) -> Any:
        if answer is NOT_MINE:
            count["not mine"] += 1
            return answer
        if not IMQTTAvatar.providedBy(answer):
            count["error"] += 1
            self._complain(name, f"an answer that is no avatar but a {type(answer).__name__}")
            raise LoginUnavailable("nonsense")
        count["yes"] += 1
        if isinstance(answer, Avatar) and not answer.source:
            answer = evolve(answer, source=name)
        return answer

    def _complain(self, name: str, text: str) -> None:
        """Tell the log, in a flood of errors not of each."""
        now = self._seconds()
        last, more = self._complaints.get(name, (-QUIET, 0))
        if now - last < QUIET:
            self._complaints[name] = last, more + 1
            return
        self._complaints[name] = now, 0
        log.error(
            "Authentication by {authenticator} failed: {text}; the login is refused"
            " ({more} more since the last report)",
            authenticator=name,
            text=text,
            more=more,
        )


def _safely(error: BaseException) -> str:
    """What failed and where, without the message, which may hold a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def _as_mqtt(credentials: Any) -> Any:
    """Credentials from elsewhere (an HTTP login) as those of a client without an id."""
    if IMQTTCredentials.providedBy(credentials):
        return credentials
    return MQTTCredentials(
        "", credentials.username, True, credentials.password, Peer("memory"), None
    )


@implementer(IAuthenticator)
class CredCheckers:
    """Checkers of twisted.cred as one authenticator; one that says yes is enough."""

    def __init__(self, name: str, checkers: Iterable[Any]) -> None:
        self.name = name
        self._checkers = tuple(checkers)

    def start(self) -> None:
        """Checkers have no life of their own."""

    def stop(self) -> None:
        """As ``start``."""

    def reload(self) -> Revoked:
        """Checkers read their files when and as they like."""
        return Revoked()

    async def authenticate(self, credentials: Any) -> Any:
        refusal: Exception | None = None
        for checker in self._checkers:
            if not any(each.providedBy(credentials) for each in checker.credentialInterfaces):
                continue
            if not credentials.has_username and IMQTTCredentials not in (
                checker.credentialInterfaces
            ):
                continue
            try:
                return _avatar(await maybeDeferred(checker.requestAvatarId, credentials))
            except UnauthorizedLogin as error:
                refusal = error
        if refusal is not None:
            raise refusal
        return NOT_MINE


def _avatar(answer: Any) -> Any:
    """What a checker answered as an avatar; nothing at all is a no."""
    if IMQTTAvatar.providedBy(answer):
        return answer
    if isinstance(answer, tuple) or not answer:
        # ANONYMOUS is an empty tuple: cred's way to say "nobody in particular".
        if answer == ():
            return Avatar()
        raise UnauthorizedLogin("the checker named nobody")
    return Avatar(answer.decode() if isinstance(answer, bytes) else str(answer))
