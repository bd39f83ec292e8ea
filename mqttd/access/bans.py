"""The bans: by client id, user, address and network, for a time or for ever.

Admission asks it at every door; the control API and flapping detection add to it.
What an operator bans is kept in a file, which is written as a whole and put in place
at once. A file that cannot be read is an error and not an empty list: whoever was
kept out stays out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from mqttd.config.errors import ConfigError, Problem

CLIENT_ID, USER, ADDRESS, NETWORK = KINDS = ("client_id", "user", "address", "network")

#: Bans there may be.
MOST_BANS = 100_000

Network = IPv4Network | IPv6Network


class BanError(ValueError):
    """A ban that cannot be made; the text says why."""


@frozen
class Ban:
    """Somebody who is kept out."""

    #: One of ``KINDS``.
    kind: str
    value: str
    #: Wall clock time, in seconds since 1970, at which it ends; None: never.
    until: float | None = None
    reason: str = ""
    #: Who made it.
    by: str = ""
    #: Wall clock time at which it was made.
    since: float = 0.0
    #: Whether it is kept over a restart.
    persistent: bool = True


def checked(kind: str, value: str) -> str:
    """*value* as it is kept.

    :raise BanError: when nobody could be banned by it, or everybody.
    """
    if kind not in KINDS:
        raise BanError(f"{kind!r} is none of {', '.join(KINDS)}")
    if not value:
        raise BanError(f"the {kind.replace('_', ' ')} is empty")
    if kind in (CLIENT_ID, USER):
        return value
    try:
        network = _network(value)
    except ValueError:
        raise BanError(f"{value!r} is no {kind}") from None
    if not network.prefixlen:
        raise BanError(f"{value} is everyone")
    return str(network.network_address) if kind == ADDRESS else str(network)


def _network(text: str) -> Network:
    network = ip_network(text)
    mapped = network.network_address
    if isinstance(network, IPv6Network) and network.prefixlen == 128:
        mapped = ip_address(text.partition("/")[0])
        if getattr(mapped, "ipv4_mapped", None) is not None:
            return ip_network(str(mapped.ipv4_mapped))  # type: ignore[union-attr]
    return network


class BanList:
    """All bans in force."""

    def __init__(self, now: Callable[[], float], path: str | Path | None = None) -> None:
        """*now* is the wall clock; *path* the file, None to keep nothing.

        :raise ConfigError: when the file is there and cannot be used.
        """
        self._now = now
        self._path = None if path is None else Path(path)
        self._bans: dict[tuple[str, str], Ban] = {}
        #: Networks, addresses among them, by version and length of the prefix.
        self._networks: dict[tuple[int, int], dict[int, Ban]] = {}
        if self._path is not None and self._path.exists():
            for ban in _load(self._path):
                self._put(ban)

    def __len__(self) -> int:
        return len(self._bans)

    def __iter__(self) -> Iterator[Ban]:
        """Those that have not ended."""
        now = self._now()
        return iter([ban for ban in self._bans.values() if not _is_over(ban, now)])

    def add(self, ban: Ban) -> Ban:
        """Ban somebody, in place of an earlier ban of the same; as it is kept.

        :raise BanError: when that makes no sense, or there are too many.
        :raise OSError: when the file cannot be written; then nothing has changed.
        """
        value = checked(ban.kind, ban.value)
        ban = Ban(ban.kind, value, ban.until, ban.reason, ban.by, self._now(), ban.persistent)
        if len(self._bans) >= MOST_BANS and (ban.kind, value) not in self._bans:
            self._purge()
            if len(self._bans) >= MOST_BANS:
                raise BanError(f"there are {MOST_BANS} bans already")
        before = self._bans.get((ban.kind, value))
        self._put(ban)
        if ban.persistent or (before is not None and before.persistent):
            self._save_or(lambda: self._restore(ban, before))
        return ban

    def remove(self, kind: str, value: str) -> Ban | None:
        """End a ban; it, or None when there was none.

        :raise BanError: when there can be none.
        :raise OSError: when the file cannot be written; then nothing has changed.
        """
        ban = self._bans.get((kind, checked(kind, value)))
        if ban is None:
            return None
        self._take(ban)
        if ban.persistent:
            self._save_or(lambda: self._put(ban))
        return ban

    def of_client(self, client_id: str, user: str | None) -> Ban | None:
        """The ban of this client id or user, if there is one."""
        if not self._bans:
            return None
        found = self._bans.get((CLIENT_ID, client_id))
        if (found is None or self._ended(found)) and user is not None:
            found = self._bans.get((USER, user))
        return None if found is None or self._ended(found) else found

    def of_address(self, address: str) -> Ban | None:
        """The ban of this address or of a network around it, if there is one."""
        if not self._networks:
            return None
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError:
            return None  # "unix" or "memory"
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        number = int(parsed)
        # Ending a ban takes it out, and perhaps its group.
        for version, length in list(self._networks):
            if version == parsed.version:
                shift = parsed.max_prefixlen - length
                found = self._networks[version, length].get(number >> shift)
                if found is not None and not self._ended(found):
                    return found
        return None

    # --- inside -------------------------------------------------------------------------

    def _ended(self, ban: Ban) -> bool:
        if not _is_over(ban, self._now()):
            return False
        self._take(ban)
        return True

    def _purge(self) -> None:
        for ban in list(self._bans.values()):
            self._ended(ban)

    def _put(self, ban: Ban) -> None:
        self._bans[ban.kind, ban.value] = ban
        if ban.kind in (ADDRESS, NETWORK):
            group, number = _place(ban)
            self._networks.setdefault(group, {})[number] = ban

    def _take(self, ban: Ban) -> None:
        self._bans.pop((ban.kind, ban.value), None)
        if ban.kind not in (ADDRESS, NETWORK):
            return
        group, number = _place(ban)
        bans = self._networks.get(group, {})
        bans.pop(number, None)
        # The same one may be banned as an address and as a network.
        for kind, value in ((ADDRESS, ban.value.partition("/")[0]), (NETWORK, _text(ban))):
            other = self._bans.get((kind, value))
            if other is not None and _place(other) == (group, number):
                bans[number] = other
        if not bans:
            self._networks.pop(group, None)

    def _restore(self, ban: Ban, before: Ban | None) -> None:
        self._take(ban)
        if before is not None:
            self._put(before)

    def _save_or(self, undo: Callable[[], None]) -> None:
        try:
            self._save()
        except OSError:
            undo()
            raise

    def _save(self) -> None:
        """Write the file beside the old one, and put it in its place."""
        if self._path is None:
            return
        bans = [asdict(ban) for ban in self if ban.persistent]
        for ban in bans:
            del ban["persistent"]
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._path.with_name(self._path.name + ".new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(bans, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)


def _is_over(ban: Ban, now: float) -> bool:
    return ban.until is not None and ban.until <= now


def _place(ban: Ban) -> tuple[tuple[int, int], int]:
    network = ip_network(ban.value)
    shift = network.max_prefixlen - network.prefixlen
    return (network.version, network.prefixlen), int(network.network_address) >> shift


def _text(ban: Ban) -> str:
    return str(ip_network(ban.value))


def _load(path: Path) -> list[Ban]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(said, list):
            raise ValueError("not a list")
        return [_ban(one) for one in said]
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        text = f"cannot be used: {reason}; mend it, or take it away to begin without bans"
        raise ConfigError(str(path), [Problem((), text)]) from None


def _ban(said: Any) -> Ban:
    ban = Ban(**said)
    until_is_right = ban.until is None or isinstance(ban.until, (int, float))
    texts = (ban.kind, ban.value, ban.reason, ban.by)
    if not until_is_right or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{said!r} is no ban")
    return Ban(ban.kind, checked(ban.kind, ban.value), ban.until, ban.reason, ban.by, ban.since)
