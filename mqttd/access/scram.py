"""SCRAM-SHA-256 (RFC 7677) as enhanced authentication of MQTT 5.0.

The handshake drives it. The password never passes the network, and the server
keeps nothing from which it could be used elsewhere. Client and server messages
are scramp's; here is only whom it serves. A user that is not known gets a salt
like others, always the same, and fails at the end like a wrong password.
"""

from __future__ import annotations

import hmac
import os
from collections import Counter
from typing import Any

from twisted.cred.error import UnauthorizedLogin
from zope.interface import implementer

from mqttd.access.extras import need
from mqttd.access.password_file import Users
from mqttd.access.passwords import SCRAM_ITERATIONS, SCRAMKeys, scram_keys
from mqttd.interfaces import (
    NOT_MINE,
    Accepted,
    Challenge,
    IAuthenticationExchange,
    IAuthenticationMethod,
    IAuthenticator,
    Revoked,
)
from mqttd.settings_authentication import ALL, SCRAMSettings

NAME = "SCRAM-SHA-256"

#: Bytes of a client's message; RFC 5802 has no limit of its own.
MAXIMUM_MESSAGE = 4096


@implementer(IAuthenticator)
class SCRAMUsers:
    """The SCRAM-SHA-256 entries of a password file."""

    def __init__(self, settings: SCRAMSettings) -> None:
        """:raise ValueError: for files that cannot be used, or a missing library."""
        self.name = settings.title
        need("scramp", "scram")
        self._settings = settings
        self._users = Users(settings)
        self._keys: dict[str, SCRAMKeys] = {}
        self._iterations = SCRAM_ITERATIONS
        self._secret = os.urandom(32)
        self.reload()

    def start(self) -> None:
        """Nothing to open."""

    def stop(self) -> None:
        """Nothing to close."""

    def reload(self) -> Revoked:
        gone = self._users.read()
        entries = {user: scram_keys(text) for user, text in self._users.passwords.items()}
        self._keys = {user: keys for user, keys in entries.items() if keys is not None}
        usual = Counter(keys.iterations for keys in self._keys.values()).most_common(1)
        self._iterations = usual[0][0] if usual else SCRAM_ITERATIONS
        return gone

    def authenticate(self, credentials: Any) -> Any:
        """A password in CONNECT is for others to judge."""
        return NOT_MINE

    def keys_of(self, user: str) -> SCRAMKeys | None:
        return self._keys.get(user)

    def false_keys(self, user: str) -> SCRAMKeys:
        """Keys that no password has; the salt is the same each time."""
        salt = hmac.digest(self._secret, user.encode(), "sha256")[:16]
        return SCRAMKeys(self._iterations, salt, os.urandom(32), os.urandom(32))

    def avatar(self, user: str) -> Any:
        return self._users.avatar(user)


@implementer(IAuthenticationMethod)
class SCRAMMethod:
    """The method, for whichever listener has chosen whichever users."""

    name = NAME

    def __init__(self, sources: tuple[SCRAMUsers, ...]) -> None:
        self._sources = sources

    def start(self, credentials: Any) -> SCRAMExchange:
        chosen = credentials.listener.authentication
        sources = [each for each in self._sources if ALL in chosen or each.name in chosen]
        if not sources:
            raise UnauthorizedLogin("not on this listener")
        return SCRAMExchange(sources)


@implementer(IAuthenticationExchange)
class SCRAMExchange:
    """One exchange: the client's first message, its last, and what we say to each."""

    def __init__(self, sources: list[SCRAMUsers]) -> None:
        self._sources = sources
        self._scramp = need("scramp", "scram")
        self._server = self._scramp.ScramMechanism(NAME).make_server(self._find)
        self._user = ""
        #: Who knows the user, and by which keys; None: nobody does.
        self._known: tuple[SCRAMUsers, SCRAMKeys] | None = None
        self._begun = False

    def respond(self, data: bytes | None) -> Challenge | Accepted:
        try:
            text = (data or b"").decode()
            if not text or len(text) > MAXIMUM_MESSAGE:
                raise UnauthorizedLogin("no message of SCRAM")
            return self._finish(text) if self._begun else self._begin(text)
        except (UnicodeDecodeError, ValueError, self._scramp.ScramException):
            raise UnauthorizedLogin("SCRAM says no") from None

    def _begin(self, message: str) -> Challenge:
        self._begun = True
        header = message.split(",", 2)
        if len(header) < 3 or header[1]:
            # Somebody else's rights are not to be had by asking.
            raise UnauthorizedLogin("an authorization identity")
        self._server.set_client_first(message)
        return Challenge(self._server.get_server_first().encode())

    def _find(self, user: str) -> tuple[Any, ...]:
        self._user = user
        keys = self._sources[0].false_keys(user)
        for source in self._sources:
            found = source.keys_of(user)
            if found is not None:
                self._known, keys = (source, found), found
                break
        return keys.salt, keys.stored_key, keys.server_key, keys.iterations

    def _finish(self, message: str) -> Accepted:
        self._server.set_client_final(message)
        answer = self._server.get_server_final().encode()
        if self._known is None or self._known[0].keys_of(self._user) != self._known[1]:
            raise UnauthorizedLogin("not known, or not any more")
        return Accepted(self._known[0].avatar(self._user), answer)
