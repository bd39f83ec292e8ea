"""The ``http`` authenticator: a web service says who a client is.

It gets a POST with what CONNECT says, and answers with a status and a small
JSON document; ``docs/authentication.rst`` has the contract. What is not in the
contract is an error, so that a page of some proxy lets nobody in.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from attrs import evolve
from twisted.cred.error import UnauthorizedLogin
from zope.interface import implementer

from mqttd.access.backends import BackendError
from mqttd.access.backends.template import values_of
from mqttd.access.backends.web import WebService
from mqttd.identity import user_name
from mqttd.interfaces import NOT_MINE, Avatar, IAuthenticator, Revoked
from mqttd.settings import Identity
from mqttd.settings_authentication import WebLoginSettings


@implementer(IAuthenticator)
class WebLogin:
    """Asks a web service."""

    def __init__(
        self, settings: WebLoginSettings, reactor: Any, seconds: Callable[[], float]
    ) -> None:
        """:raise ValueError: for files that cannot be used."""
        self.name = settings.title
        self._seconds = seconds
        self._service = WebService(settings, reactor)

    def start(self) -> None:
        """Connections are made when there is something to ask."""

    def stop(self) -> None:
        """Close idle connections."""
        self._service.client.close()

    def reload(self) -> Revoked:
        self._service.client.reload()
        return Revoked()

    async def authenticate(self, credentials: Any) -> Any:
        status, body = await self._service.ask(credentials, _question(credentials))
        if status in (200, 204):
            return self._allowed(body, credentials)
        if 400 <= status < 500 and status not in (408, 429):
            raise UnauthorizedLogin("the web service says no")
        raise BackendError(f"status {status}")

    def _allowed(self, body: bytes, credentials: Any) -> Any:
        answer = _parsed(body)
        match answer.get("result", "allow"):
            case "deny":
                raise UnauthorizedLogin("the web service says no")
            case "ignore":
                return NOT_MINE
            case "allow":
                return self._avatar(answer, credentials)
        raise BackendError("an answer whose result is not allow, deny or ignore")

    def _avatar(self, answer: dict[str, Any], credentials: Any) -> Avatar:
        user = answer.get("username", credentials.username.decode())
        claims = answer.get("claims", {})
        groups = answer.get("groups", [])
        expires_in = answer.get("expires_in")
        superuser = answer.get("superuser", False)
        right = (
            isinstance(user, str)
            and isinstance(claims, dict)
            and isinstance(groups, list)
            and all(isinstance(group, str) for group in groups)
            and isinstance(superuser, bool)
            and (expires_in is None or _is_positive(expires_in))
        )
        if not right:
            raise BackendError("an answer with a field of the wrong type")
        if not user:
            raise UnauthorizedLogin("nobody was named")
        avatar = Avatar(user, superuser, claims={**claims, "groups": groups}, source=self.name)
        if expires_in is not None:
            avatar = evolve(avatar, expires_at=self._seconds() + expires_in)
        return avatar


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e10


def _parsed(body: bytes) -> dict[str, Any]:
    """The document in *body*; none at all says nothing more than the status."""
    text = body.strip()
    if text in (b"allow", b"deny", b"ignore"):
        return {"result": text.decode()}
    try:
        document = json.loads(text) if text else {}
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise BackendError("an answer that is not a JSON object")
    return document


def _question(credentials: Any) -> dict[str, str | None]:
    password = credentials.password
    try:
        text = None if password is None else password.decode()
    except UnicodeDecodeError:
        raise UnauthorizedLogin("a password that is not UTF-8 text") from None
    certificate = credentials.peer.certificate
    return {
        **values_of(credentials),
        "password": text,
        "certificate_common_name": (
            None if certificate is None else user_name(certificate, Identity.COMMON_NAME)
        ),
    }
