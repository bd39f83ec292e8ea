"""Tokens: who may use the API from elsewhere, kept in one file.

``doors`` asks whose a token is, ``routes.tokens`` makes and takes away. Only a hash of
each is kept, so that the file lets nobody in; a token has 256 bits of chance, which no
slow hash could better. A broker that nobody has a token for offers one for a start: it
lives in memory, and ends when the first real one is made.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any

from attrs import asdict, frozen
from twisted.logger import Logger

from mqttd.admin.http.call import Identity
from mqttd.admin.http.table import Role

log = Logger()

#: So that scanners for leaked secrets know one when they see it.
PREFIX = "mqttd_"

MAXIMUM_TOKENS = 1000


class TokenError(Exception):
    """The file cannot be used; says which and why."""


@frozen
class Token:
    """What is kept of a token."""

    name: str
    role: str
    sha256: str
    #: Unix time, seconds.
    created: int


class Tokens:
    """All tokens of one daemon."""

    def __init__(self, path: str, wall_clock: Callable[[], float] = time.time) -> None:
        """:param path: "" keeps them in memory only."""
        self._path = path
        self._wall_clock = wall_clock
        self._by_hash: dict[str, Token] = {}
        self._first = ""

    def load(self) -> None:
        """Read the file, if there is one.

        :raise TokenError: then nothing has changed.
        """
        try:
            with open(self._path, encoding="utf-8") as file:
                entries = json.load(file)["tokens"]
            tokens = [Token(**entry) for entry in entries]
            if any(token.role not in _ROLES for token in tokens):
                raise ValueError("an unknown role")
        except FileNotFoundError:
            tokens = []
        except (OSError, ValueError, TypeError, KeyError) as error:
            reason = getattr(error, "strerror", None) or f"not a file of tokens ({error})"
            raise TokenError(f"the tokens in {self._path} cannot be used: {reason}") from None
        self._by_hash = {token.sha256: token for token in tokens}

    def __iter__(self) -> Any:
        return iter(sorted(self._by_hash.values(), key=lambda token: token.name))

    def __len__(self) -> int:
        return len(self._by_hash)

    def offer_first(self) -> str:
        """The token for a start; it is an administrator's."""
        self._first = PREFIX + secrets.token_urlsafe(32)
        return self._first

    def find(self, secret: str, address: str) -> Identity | None:
        """Who comes with *secret* from *address*; None when it is no token."""
        token = self._by_hash.get(_hash(secret))
        if token is not None:
            return Identity(token.name, _ROLES[token.role], address)
        if self._first and secrets.compare_digest(self._first.encode(), secret.encode()):
            return Identity("first-token", Role.ADMINISTRATOR, address)
        return None

    def add(self, name: str, role: Role) -> str:
        """Make a token; returns the secret, which nobody can ask for again.

        :raise KeyError: when the name is taken.
        :raise OSError: when the file cannot be written; then there is no token.
        """
        if any(token.name == name for token in self):
            raise KeyError(name)
        secret = PREFIX + secrets.token_urlsafe(32)
        token = Token(name, role.name.lower(), _hash(secret), int(self._wall_clock()))
        self._write({**self._by_hash, token.sha256: token})
        self._first = ""
        return secret

    def remove(self, name: str) -> bool:
        """Take a token away; False when there is none of the name."""
        left = {key: token for key, token in self._by_hash.items() if token.name != name}
        if len(left) == len(self._by_hash):
            return False
        self._write(left)
        return True

    def _write(self, tokens: dict[str, Token]) -> None:
        if self._path:
            text = json.dumps({"tokens": [asdict(each) for each in tokens.values()]}, indent=1)
            _replace(self._path, text + "\n")
        self._by_hash = tokens


_ROLES = {role.name.lower(): role for role in Role if role is not Role.ANYONE}


def _hash(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _replace(path: str, text: str) -> None:
    """Put *text* in place of the file, whole or not at all, and for its owner only."""
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    new = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(new)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
