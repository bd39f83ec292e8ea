"""The keys that tokens are checked with: from a file, a JWKS file, or a JWKS URL.

A JWKS that cannot be fetched or read leaves the one before in force; without
any, no token is good. A token that names an unknown key makes us look for newer
keys, but not more often than ``SOONEST`` allows, or tokens with invented names would
make us pester the server.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mqttd.access.backends import BackendError
from mqttd.access.backends.web import WebClient
from mqttd.access.extras import need
from mqttd.settings_authentication import JWTSettings

log = Logger()

#: Seconds between two looks for a key that a token names and we have not.
SOONEST = 10.0

#: Bytes of a secret for HS..., by what the algorithm's name ends with (RFC 7518).
_SECRET = {"256": 32, "384": 48, "512": 64}

#: First letters of an algorithm -> type of key in a JWKS.
_TYPES = {"HS": "oct", "RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


class KeyRing:
    """Finds the key of a token."""

    def __init__(self, settings: JWTSettings, reactor: Any, seconds: Callable[[], float]) -> None:
        """:raise ValueError: for files that cannot be used."""
        self._settings = settings
        self._seconds = seconds
        self._jwt = need("jwt", "jwt")
        need("cryptography", "jwt")
        #: Key id -> key; "" is the key of tokens that name none.
        self._keys: dict[str, Any] = {}
        self._fetched_at: float | None = None
        self._fetching: list[Deferred[None]] | None = None
        self._client: WebClient | None = None
        if settings.jwks_url:
            self._client = WebClient(reactor, ca_file=settings.ca_file, timeout=settings.timeout)
        self.reload()

    def reload(self) -> None:
        """Read the file anew; a JWKS from a URL is fetched with the next token."""
        settings = self._settings
        if settings.jwks_file:
            self._keys = self._from_jwks(_read(settings.jwks_file), settings.jwks_file)
        elif settings.key_file:
            self._keys = {"": self._from_file(settings.key_file)}
        else:
            self._fetched_at = None

    def close(self) -> None:
        """Close idle connections."""
        if self._client is not None:
            self._client.close()

    async def find(self, key_id: str, algorithm: str) -> Any | None:
        """The key *key_id* for *algorithm*, or None when there is no such key.

        :raise BackendError: when keys cannot be had.
        """
        if self._client is not None:
            await self._refresh(key_id)
        # A file with one key in PEM serves whatever name a token gives it.
        key = self._keys.get(key_id if self._settings.key_file == "" else "")
        if key is None and len(self._keys) == 1 and not key_id:
            (key,) = self._keys.values()
        if isinstance(key, self._jwt.PyJWK):
            return key.key if _serves(key, algorithm) else None
        return key

    async def _refresh(self, key_id: str) -> None:
        age = None if self._fetched_at is None else self._seconds() - self._fetched_at
        if age is not None and (
            age < SOONEST or (age < self._settings.refresh and key_id in self._keys)
        ):
            if not self._keys:
                raise BackendError("the keys could not be fetched")
            return
        if self._fetching is not None:
            turn: Deferred[None] = Deferred()
            self._fetching.append(turn)
            await turn
            return
        self._fetching = []
        try:
            await self._fetch()
        finally:
            waiting, self._fetching = self._fetching, None
            self._fetched_at = self._seconds()
            for turn in waiting:
                turn.callback(None)
        if not self._keys:
            raise BackendError("the keys could not be fetched")

    async def _fetch(self) -> None:
        url = self._settings.jwks_url
        assert self._client is not None
        try:
            status, body = await self._client.request("GET", url)
            if status != 200:
                raise BackendError(f"status {status}")
            self._keys = self._from_jwks(body, url)
        except (BackendError, ValueError) as error:
            log.error(
                "The keys of {url} could not be fetched: {error}; {what}",
                url=url,
                error=error,
                what="those of before stay in force" if self._keys else "no token is good",
            )

    def _from_file(self, path: str) -> Any:
        data = _read(path)
        if self._settings.algorithms[0].startswith("HS"):
            return _secret(data, path, self._settings.algorithms)
        serialization = need("cryptography.hazmat.primitives.serialization", "jwt")
        try:
            if b"BEGIN CERTIFICATE" in data:
                x509 = need("cryptography.x509", "jwt")
                return x509.load_pem_x509_certificate(data).public_key()
            return serialization.load_pem_public_key(data)
        except ValueError:
            raise ValueError(f"{path}: not a public key in PEM") from None

    def _from_jwks(self, data: bytes, source: str) -> dict[str, Any]:
        """Key id -> key; keys of kinds that are not used here are left out."""
        try:
            found = json.loads(data)["keys"]
            keys = [each for each in found if self._is_for_us(each)]
            made = {str(each.get("kid", "")): self._jwt.PyJWK(each) for each in keys}
        except (ValueError, KeyError, TypeError, AttributeError, self._jwt.PyJWTError):
            raise ValueError(f"{source}: not a JSON Web Key Set") from None
        if not made:
            raise ValueError(f"{source}: no key in it for {', '.join(self._settings.algorithms)}")
        for key in made.values():
            if key.key_type == "oct":
                _secret(key.key, source, self._settings.algorithms)
        return made

    def _is_for_us(self, key: dict[str, Any]) -> bool:
        wanted = self._settings.algorithms
        return (
            key["kty"] in {_TYPES[name[:2]] for name in wanted}
            and key.get("alg", wanted[0]) in wanted
            and key.get("use", "sig") == "sig"
        )


def _serves(key: Any, algorithm: str) -> bool:
    """Whether *key* is one for *algorithm*, by its type and by what its own "alg" says."""
    declared = key._jwk_data.get("alg")
    return key.key_type == _TYPES[algorithm[:2]] and declared in (None, algorithm)


def _secret(data: bytes, source: str, algorithms: tuple[str, ...]) -> bytes:
    """The shared secret in *data*, long enough for what is signed with it."""
    secret = data.rstrip(b"\r\n")
    least = max(_SECRET[name[-3:]] for name in algorithms)
    if len(secret) < least:
        raise ValueError(f"{source}: the secret must have at least {least} bytes")
    return secret


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
