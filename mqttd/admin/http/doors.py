"""Who comes through a door of the API.

Whoever may open the Unix socket is an administrator: that right is the file
system's to give. Over TCP somebody shows a token, or a name and a password that the
checkers of the broker know (twisted.cred) and to whom ``[http] roles`` gives a role.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Any

from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.web.server import Request

from mqttd.admin.http.call import Identity
from mqttd.admin.http.problems import Problem
from mqttd.admin.http.table import Role
from mqttd.admin.http.tokens import Tokens
from mqttd.broker.credentials import MQTTCredentials
from mqttd.interfaces import IMQTTAvatar, LoginUnavailable, Peer
from mqttd.settings import ListenerSettings

log = Logger()

#: Whoever could open the socket.
OPERATOR = Identity("operator", Role.ADMINISTRATOR)

#: Seconds that a wrong password waits for its answer.
PENALTY = 1.0

#: What a client may show, in the words of RFC 9110.
CHALLENGE = {"WWW-Authenticate": 'Basic realm="mqttd", charset="UTF-8"'}

#: Where credentials say they come in.
_LISTENER = ListenerSettings("http", name="http")


def by_socket(request: Request) -> Deferred[Identity]:
    """The one who could open the Unix socket."""
    return succeed(OPERATOR)


class Doorkeeper:
    """Lets people in over TCP."""

    def __init__(self, daemon: Any, tokens: Tokens) -> None:
        self._daemon = daemon
        self._tokens = tokens

    def __call__(self, request: Request) -> Deferred[Identity]:
        return Deferred.fromCoroutine(self._identify(request))

    async def _identify(self, request: Request) -> Identity:
        address = getattr(request.getClientAddress(), "host", "unknown")
        scheme, _, shown = (request.getHeader("authorization") or "").partition(" ")
        shown = shown.strip()
        if not shown:
            raise Problem(401, "Show a token, or a name and a password.", headers=CHALLENGE)
        identity: Identity | None = None
        if scheme.lower() == "bearer":
            identity = self._tokens.find(shown, address)
        elif scheme.lower() == "basic":
            identity = await self._log_in(shown, address)
        if identity is None:
            log.warn("HTTP: {address} is not let in", address=address)
            if scheme.lower() == "basic":
                # Passwords can be guessed; tokens cannot.
                await deferLater(self._daemon.clock, PENALTY)
            raise Problem(401, "Token or password is not right.", headers=CHALLENGE)
        return identity

    async def _log_in(self, shown: str, address: str) -> Identity | None:
        portal = self._daemon.broker.portal
        try:
            name, separator, password = b64decode(shown, validate=True).partition(b":")
            user = name.decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        if portal is None or not separator or not user:
            return None
        admission = self._daemon.broker.admission
        if admission is not None and (reason := admission.refuses_login("", user, address)):
            status = 403 if reason == "banned" else 429
            raise Problem(status, f"Not let in: {reason.replace('-', ' ')}.")
        credentials = MQTTCredentials("", name, True, password, Peer(address), _LISTENER)
        try:
            _, avatar, _ = await portal.login(credentials, None, IMQTTAvatar)
        except LoginUnavailable:
            raise Problem(503, "Authentication is not available.") from None
        except UnauthorizedLogin:
            # Guesses count, whether they come by MQTT or by HTTP.
            if admission is not None:
                admission.login_failed(address)
            return None
        except Exception:
            log.failure("HTTP: a checker failed; refused")
            raise Problem(503, "Authentication is not available.") from None
        role = self._daemon.settings.http.roles.get(avatar.principal)
        if role is None:
            raise Problem(403, f"{user} has no role: [http] roles gives one.")
        return Identity(avatar.principal, Role[role.upper()], address)
