"""The ``jwt`` authenticator: a signed token says who a client is, and until when.

The algorithm is what the settings say, never what a token says. The claims of
a good token become those of the avatar, for access rules to look at. PyJWT
does the checking: it refuses to take a public key for a shared secret, and has
no dependency besides cryptography, which is here already.
"""

from __future__ import annotations

import json
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Any

from twisted.cred.error import UnauthorizedLogin
from zope.interface import implementer

from mqttd.access.extras import need
from mqttd.access.token_keys import KeyRing
from mqttd.interfaces import NOT_MINE, Avatar, IAuthenticator, Revoked
from mqttd.settings_authentication import JWTSettings

#: Three parts in base64url: what is not of this form is no token at all.
_TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)


@implementer(IAuthenticator)
class TokenLogin:
    """Knows the bearers of tokens."""

    def __init__(
        self,
        settings: JWTSettings,
        reactor: Any,
        seconds: Callable[[], float],
        now: Callable[[], float] = time.time,
    ) -> None:
        """
        :param seconds: monotonic time, in which avatars expire.
        :param now: Unix time, in which tokens expire.
        :raise ValueError: for files that cannot be used.
        """
        self.name = settings.title
        self._settings = settings
        self._seconds = seconds
        self._now = now
        self._jwt = need("jwt", "jwt")
        self._keys = KeyRing(settings, reactor, seconds)

    def start(self) -> None:
        """Keys from a URL are fetched with the first token."""

    def stop(self) -> None:
        self._keys.close()

    def reload(self) -> Revoked:
        self._keys.reload()
        return Revoked()

    async def authenticate(self, credentials: Any) -> Any:
        token = self._token_of(credentials)
        if token is None:
            return NOT_MINE
        if len(token) > self._settings.maximum_token_size:
            raise UnauthorizedLogin("the token is too large")
        header = _header(token)
        if header is None:
            return NOT_MINE
        if header.get("alg") not in self._settings.algorithms:
            raise UnauthorizedLogin("the algorithm is not one of the configured ones")
        key = await self._keys.find(_text(header.get("kid")), header["alg"])
        if key is None:
            raise UnauthorizedLogin("no key for this token")
        return self._avatar(self._claims(token, key), credentials)

    def _token_of(self, credentials: Any) -> str | None:
        """What has the form of a token, where the settings look for one."""
        if self._settings.token == "username":
            data = credentials.username
        else:
            data = credentials.password or b""
        text = data.decode("ascii", "replace")
        return text if _TOKEN.fullmatch(text) else None

    def _claims(self, token: str, key: Any) -> dict[str, Any]:
        settings = self._settings
        options = {"require": ["exp"] if settings.require_expiry else []}
        try:
            claims: dict[str, Any] = self._jwt.decode(
                token,
                key,
                algorithms=list(settings.algorithms),
                options=options,
                issuer=settings.issuer or None,
                audience=settings.audience or None,
                leeway=settings.leeway,
            )
        except self._jwt.PyJWTError as error:
            # The name of the class says enough and holds nothing of the token.
            raise UnauthorizedLogin(type(error).__name__) from None
        return claims

    def _avatar(self, claims: dict[str, Any], credentials: Any) -> Avatar:
        settings = self._settings
        user = claims.get(settings.user_claim)
        if not isinstance(user, str) or not user or "\0" in user:
            raise UnauthorizedLogin("the token names nobody")
        by_name = settings.token == "password" and credentials.has_username
        if settings.user_name_must_match and by_name and credentials.username.decode() != user:
            raise UnauthorizedLogin("the token is another user's")
        if settings.client_id_claim:
            client_id = claims.get(settings.client_id_claim)
            if client_id != credentials.client_id:
                raise UnauthorizedLogin("the token is for another client id")
        groups = claims.get(settings.groups_claim, [])
        listed = isinstance(groups, list) and all(isinstance(group, str) for group in groups)
        superuser = bool(settings.superuser_claim) and claims.get(settings.superuser_claim) is True
        return Avatar(
            user,
            superuser=superuser,
            expires_at=self._expiry(claims),
            claims={**claims, "groups": groups if listed else []},
            source=self.name,
        )

    def _expiry(self, claims: dict[str, Any]) -> float | None:
        if "exp" not in claims:
            return None
        left = float(claims["exp"]) + self._settings.leeway - self._now()
        return self._seconds() + max(0.0, left)


def _header(token: str) -> dict[str, Any] | None:
    """The header of *token*; None if it has none, and so is no token but a password."""
    part = token.partition(".")[0]
    try:
        header = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:
        return None
    return header if isinstance(header, dict) and "alg" in header else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
