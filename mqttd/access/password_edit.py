"""Changes password files and files of groups: all at once or not at all, and nothing else.

``mqttctl passwd`` and the control API call it. A daemon that reads the file meanwhile finds the
old one or the new one whole; what two people change at once is both there.
Comments and the order of lines stay.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from mqttd.access.password_file import BadFile, read_groups, read_passwords

#: The owner reads and writes; a daemon of another user needs a group of its own.
MODE = 0o600


class UserExists(BadFile):
    """Somebody has the name already."""


class NoSuchUser(BadFile):
    """Nobody has the name."""


class LastUser(BadFile):
    """Without this one the file would be empty, and refused."""


def check_user(user: str) -> None:
    """:raise ValueError: for a user name that no line can hold."""
    if not user or user.startswith("#") or ":" in user or not user.isprintable():
        raise ValueError(
            f"{user!r} can not be a user here: not empty, no colon, no control characters, no # "
            "at the beginning"
        )


def create(path: str, hashes: Mapping[str, str], *, replace: bool = False) -> None:
    """Write a new file with these users.

    :raise BadFile: when there is one already and *replace* is False.
    """
    if not replace and os.path.lexists(path):
        raise BadFile(f"{path}: exists already; use add, or --force to write it anew")
    _write(Path(path), [f"{user}:{encoded}" for user, encoded in hashes.items()], None)


def change(
    path: str,
    hashes: Mapping[str, str | None],
    *,
    known: bool | None = None,
    may_be_empty: bool = True,
) -> frozenset[str]:
    """Set the hash of each user, or take the user out (None); who was there before.

    :param known: whether the users must be there, or must not be; None: either.
    :raise UserExists: or ``NoSuchUser``, when that is not so.
    :raise LastUser: when nobody would be left, and that may not be.
    :raise BadFile: when the file is not right as it is. Then nothing has changed.
    """
    with _locked(path):
        before = read_passwords(path, may_be_empty=True)
        _check_known(path, hashes, before, known)
        left = dict(hashes)
        lines = []
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            user = line.partition(":")[0]
            if line.startswith("#") or user not in before or user not in hashes:
                lines.append(line)
            elif (encoded := left.pop(user)) is not None:
                lines.append(f"{user}:{encoded}")
        lines += [f"{user}:{encoded}" for user, encoded in left.items() if encoded is not None]
        gone = {user for user, encoded in hashes.items() if encoded is None}
        if not may_be_empty and not (before.keys() | hashes.keys()) - gone:
            raise LastUser(f"{path}: nobody would be left, and a file without users is refused")
        _write(Path(path), lines, os.stat(path))
    return frozenset(before) & hashes.keys()


def check_group(group: str) -> None:
    """:raise ValueError: for the name of a group that no line can hold."""
    if not group.strip() or group.startswith("#") or ":" in group or not group.isprintable():
        raise ValueError(
            f"{group!r} can not be a group here: not empty, no colon, no control characters, no # "
            "at the beginning"
        )


def change_groups(path: str, user: str, groups: Iterable[str]) -> None:
    """Let *user* be in *groups* and in no other; groups that are new get a line.

    :raise ValueError: for names that the file cannot hold.
    :raise BadFile: when the file is not right as it is. Then nothing has changed.
    """
    wanted = list(dict.fromkeys(group.strip() for group in groups))
    if wanted and user.split() != [user]:
        raise ValueError(f"{user!r} cannot be in a group: its lines have a space between users")
    for group in wanted:
        check_group(group)
    with _locked(path):
        read_groups(path)
        lines = []
        for line in Path(path).read_text(encoding="utf-8").split("\n")[:-1]:
            group, colon, users = line.partition(":")
            if line.startswith("#") or not colon:
                lines.append(line)
                continue
            members = [each for each in users.split() if each != user]
            if group.strip() in wanted:
                wanted.remove(group.strip())
                members.append(user)
            same = sorted(members) == sorted(users.split())
            lines.append(line if same else f"{group}: {' '.join(members)}".rstrip())
        lines += [f"{group}: {user}" for group in wanted]
        _write(Path(path), lines, os.stat(path))


def _check_known(
    path: str, users: Iterable[str], before: Mapping[str, str], known: bool | None
) -> None:
    for user in users:
        if known is True and user not in before:
            raise NoSuchUser(f"{path}: no user {user!r}")
        if known is False and user in before:
            raise UserExists(f"{path}: user {user!r} is there already")


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Hold the file, and make sure that it is the one that has the name now."""
    while True:
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise BadFile(f"{path}: cannot be read: {error.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                yield
                return
        finally:
            os.close(handle)


def _write(path: Path, lines: list[str], like: os.stat_result | None) -> None:
    """Put *lines* into a new file and give it the name, with owner and mode of *like*."""
    text = "".join(f"{line}\n" for line in lines)
    target = path.resolve()
    try:
        with NamedTemporaryFile("w", dir=target.parent, delete=False, encoding="utf-8") as new:
            try:
                _resemble(new.fileno(), like)
                new.write(text)
                new.flush()
                os.fsync(new.fileno())
                os.replace(new.name, target)
            except BaseException:
                os.unlink(new.name)
                raise
    except OSError as error:
        raise BadFile(f"{path}: cannot be written: {error.strerror}") from None


def _resemble(handle: int, like: os.stat_result | None) -> None:
    if like is None:
        os.fchmod(handle, MODE)
        return
    if (like.st_uid, like.st_gid) != (os.getuid(), os.getgid()):
        os.fchown(handle, like.st_uid, like.st_gid)
    os.fchmod(handle, like.st_mode & 0o777)
