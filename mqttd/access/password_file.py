"""Files of users: passwords as ``user:hash``, groups as ``group: user user``.

The password file is mosquitto's, or Apache's htpasswd; lines that are empty or
begin with "#" say nothing. A file with anything wrong in it is refused as a whole: when the
broker reads it again, the old one stays in force. Nothing of a line but its
number and user name is ever shown.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.cred.error import UnauthorizedLogin
from twisted.logger import Logger
from zope.interface import implementer

from mqttd.access.hashing import Compares
from mqttd.access.passwords import BadHash, check_hash, decoy, need_library
from mqttd.interfaces import NOT_MINE, Avatar, IAuthenticator, Revoked
from mqttd.settings_authentication import PasswordFileSettings, UserFileSettings

log = Logger()


class BadFile(ValueError):
    """A file that cannot be used; the text names it, the line and the remedy."""


def read_passwords(path: str, *, may_be_empty: bool = False) -> dict[str, str]:
    """User -> hash, as the file at *path* has them.

    :raise BadFile: unless every line is right.
    """
    users: dict[str, str] = {}
    schemes: set[str] = set()
    for number, line in _lines(path):
        user, colon, encoded = line.partition(":")
        place = f"{path}, line {number}"
        if not colon or not user:
            raise BadFile(f"{place}: not of the form user:hash")
        if user in users:
            raise BadFile(f"{place}: user {user!r} is there twice")
        try:
            schemes.add(check_hash(encoded))
        except BadHash as error:
            raise BadFile(f"{place}: user {user!r} has {error}") from None
        users[user] = encoded
    for scheme in schemes:
        need_library(scheme)
    if not users and not may_be_empty:
        raise BadFile(f"{path}: no user in it; add one by: mqttctl passwd add {path} USER")
    return users


def read_groups(path: str) -> dict[str, list[str]]:
    """User -> groups, from lines ``group: user user ...``.

    :raise BadFile: unless every line is right.
    """
    groups: dict[str, list[str]] = {}
    for number, line in _lines(path):
        group, colon, users = line.partition(":")
        if not colon or not group.strip():
            raise BadFile(f"{path}, line {number}: not of the form group: user user ...")
        for user in users.split():
            groups.setdefault(user, []).append(group.strip())
    return groups


def _lines(path: str) -> Iterator[tuple[int, str]]:
    try:
        text = Path(path).read_bytes().decode()
    except OSError as error:
        raise BadFile(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadFile(f"{path}: not UTF-8 text") from None
    if text and not text.endswith("\n"):
        raise BadFile(f"{path}: the last line has no end, so the file may be half written")
    for number, line in enumerate(text.split("\n"), 1):
        # mosquitto writes \n; an editor may have made it \r\n.
        line = line.removesuffix("\r")
        if "\0" in line:
            raise BadFile(f"{path}, line {number}: a NUL character")
        if line.strip() and not line.startswith("#"):
            yield number, line


class Users:
    """Passwords and groups of one pair of files, read together."""

    def __init__(self, settings: UserFileSettings) -> None:
        self._settings = settings
        self.passwords: dict[str, str] = {}
        self._groups: dict[str, list[str]] = {}

    def read(self) -> Revoked:
        """Take the files over; whom they do not vouch for any more."""
        settings = self._settings
        passwords = read_passwords(settings.path)
        if os.stat(settings.path).st_mode & stat.S_IROTH:
            log.warn("{path}: everyone on this machine can read it", path=settings.path)
        groups = read_groups(settings.groups_file) if settings.groups_file else {}
        different = (passwords, groups) != (self.passwords, self._groups)
        before, self.passwords = self.passwords, passwords
        old, self._groups = self._groups, groups
        removed = before.keys() - passwords.keys()
        changed = {
            user
            for user in before.keys() & passwords.keys()
            if before[user] != passwords[user]
            or set(old.get(user, ())) != set(groups.get(user, ()))
        }
        return Revoked(frozenset(removed), frozenset(changed), different=different)

    def avatar(self, user: str) -> Avatar:
        groups = self._groups.get(user)
        return Avatar(
            user,
            superuser=user in self._settings.superusers,
            claims={"groups": list(groups)} if groups else {},
            source=self._settings.title,
        )


@implementer(IAuthenticator)
class PasswordFile:
    """Knows the users of a password file."""

    def __init__(self, settings: PasswordFileSettings, pool: Compares) -> None:
        """:raise BadFile: when the files cannot be used."""
        self.name = settings.title
        self._pool = pool
        self._users = Users(settings)
        self._decoy = ""
        self.reload()

    def start(self) -> None:
        """Nothing to open."""

    def stop(self) -> None:
        """Nothing to close."""

    def reload(self) -> Revoked:
        gone = self._users.read()
        self._decoy = decoy(_usual(self._users.passwords.values()))
        return gone

    async def authenticate(self, credentials: Any) -> Any:
        if not credentials.has_username:
            return NOT_MINE
        user = credentials.username.decode()
        encoded = self._users.passwords.get(user)
        if credentials.password is None:
            if encoded is None:
                return NOT_MINE
            raise UnauthorizedLogin("no password")
        right = await self._pool.matches(credentials, encoded, self._decoy)
        # The file may have changed while we waited.
        if encoded is None:
            return NOT_MINE
        if not right or self._users.passwords.get(user) != encoded:
            raise UnauthorizedLogin("the password is wrong")
        return self._users.avatar(user)


def _usual(hashes: Any) -> str:
    """One of the hashes of the kind that most users have."""
    kinds: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for encoded in hashes:
        kind = check_hash(encoded) + str(encoded.split("$")[1:-2])
        kinds[kind] += 1
        examples[kind] = encoded
    return examples[kinds.most_common(1)[0][0]]
