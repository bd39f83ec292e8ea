"""Admission: who is kept out, and after how much trouble.

The gate asks before anything is read, the handshake before and after it knows who
a client is, and the protocol machine for each PUBLISH where there are quotas. All
that is remembered of addresses, clients and users is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from attrs import define
from twisted.logger import Logger
from zope.interface import implementer

from mqttd.access.bans import CLIENT_ID, Ban, BanError, BanList
from mqttd.interfaces import IAdmission
from mqttd.settings_access import AbuseSettings
from mqttd.wire.codes import ReasonCode

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.connection import Connection

log = Logger()

#: Addresses, client ids and users remembered of each; the oldest go first.
MOST_REMEMBERED = 50_000

BANNED = "banned"
FAILED_LOGINS = "failed-logins"
TOO_MANY_CONNECTIONS = "maximum-connections-per-user"

#: Ends of a connection that are none of the client's doing.
_NOT_ITS_DOING = frozenset(("shutdown", "administrative-action", "kicked", BANNED))


@define
class Trouble:
    """What happened within one window of time."""

    since: float
    count: int = 0
    #: Of payloads, for quotas.
    bytes: int = 0
    #: How often it was too much, and until when that shuts out.
    times: int = 0
    until: float = 0.0


class Troubles:
    """Name -> what happened; bounded."""

    def __init__(self) -> None:
        self.known: dict[str, Trouble] = {}

    def __len__(self) -> int:
        return len(self.known)

    def get(self, name: str) -> Trouble | None:
        return self.known.get(name)

    def of(self, name: str, now: float, window: float) -> Trouble:
        """The present window of *name*."""
        trouble = self.known.pop(name, None)
        if trouble is None:
            if len(self.known) >= MOST_REMEMBERED:
                del self.known[next(iter(self.known))]
            trouble = Trouble(now)
        elif now - trouble.since >= window:
            trouble.since, trouble.count, trouble.bytes = now, 0, 0
        # Behind the others: whoever makes trouble is remembered longest.
        self.known[name] = trouble
        return trouble


def network_of(address: str) -> str:
    """Whom an address counts for: itself, or in IPv6 its /64, which is one site."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped) if mapped is not None else f"{int(parsed) >> 64:x}::/64"


@implementer(IAdmission)
class Admission:
    """The doors of one broker."""

    def __init__(
        self,
        settings: AbuseSettings,
        bans: BanList,
        seconds: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        """*seconds* is the broker's clock, *now* the wall clock, for bans."""
        self.settings = settings
        self.bans = bans
        self._seconds = seconds
        self._now = now
        self._logins = Troubles()
        self._ends = Troubles()
        self._quotas = Troubles()
        #: User -> its connections, by client id.
        self._users: dict[str, dict[str, Any]] = {}
        self._broker: Broker | None = None

    # --- life -----------------------------------------------------------------------

    def start(self, broker: Broker) -> None:
        """Watch over *broker*."""
        self._broker = broker
        broker.admission = self
        broker.hooks.add("connected", self._connected)
        broker.hooks.add("disconnected", self._disconnected)

    def stop(self) -> None:
        if self._broker is not None:
            self._broker.hooks.remove("connected", self._connected)
            self._broker.hooks.remove("disconnected", self._disconnected)
            self._broker.admission = None
            self._broker = None

    def change(self, settings: AbuseSettings) -> None:
        """Take other settings; what has been counted stays."""
        begins = not self.has_quota
        self.settings = settings
        if begins and self.has_quota and self._broker is not None:
            # The fast lane counts nothing: what it has learned is to be forgotten.
            for connection in self._broker.connections.values():
                connection.routes = None

    # --- doors ------------------------------------------------------------------------

    def refuses_address(self, address: str) -> str | None:
        if self.bans.of_address(address) is not None:
            return BANNED
        return FAILED_LOGINS if self._is_shut_out(address) else None

    def refuses_login(self, client_id: str, user: str | None, address: str) -> str | None:
        if self.bans.of_client(client_id, user) is not None:
            return BANNED
        return self.refuses_address(address)

    def refuses_client(self, client_id: str, principal: str | None) -> str | None:
        if self.bans.of_client(client_id, principal) is not None:
            return BANNED
        limit = self.settings.maximum_connections_per_user
        if limit and principal is not None:
            # A client that comes again takes its own place.
            others = self._users.get(principal, {}).keys() - {client_id}
            if len(others) >= limit:
                return TOO_MANY_CONNECTIONS
        return None

    def _connected(self, connection: Connection) -> None:
        principal = connection.principal
        if principal is not None:
            self._users.setdefault(principal, {})[connection.client_id] = connection

    def _disconnected(self, connection: Connection, reason: str) -> None:
        principal = connection.principal
        mine = self._users.get(principal or "")
        if mine is not None and mine.get(connection.client_id) is connection:
            del mine[connection.client_id]
            if not mine:
                del self._users[principal or ""]
        if self.settings.flapping_limit and reason not in _NOT_ITS_DOING:
            self._flapped(connection.client_id)

    # --- failed logins -----------------------------------------------------------------

    def login_failed(self, address: str) -> None:
        settings = self.settings
        if not settings.failed_logins:
            return
        now = self._seconds()
        trouble = self._logins.of(network_of(address), now, settings.failed_login_window)
        trouble.count += 1
        if trouble.count < settings.failed_logins:
            return
        if now - trouble.until > settings.maximum_failed_login_delay:
            trouble.times = 0  # it was good for long
        delay = settings.failed_login_delay * 2.0 ** min(trouble.times, 32)
        delay = min(delay, settings.maximum_failed_login_delay)
        trouble.times += 1
        trouble.count, trouble.until = 0, now + delay
        log.warn(
            "{address} failed to log in {count} times; not let in for {delay:g} seconds",
            address=network_of(address),
            count=settings.failed_logins,
            delay=delay,
        )

    def _is_shut_out(self, address: str) -> bool:
        if not self._logins.known:
            return False
        trouble = self._logins.get(network_of(address))
        return trouble is not None and self._seconds() < trouble.until

    # --- flapping ------------------------------------------------------------------------

    def _flapped(self, client_id: str) -> None:
        settings = self.settings
        trouble = self._ends.of(client_id, self._seconds(), settings.flapping_window)
        trouble.count += 1
        if trouble.count < settings.flapping_limit:
            return
        trouble.count = 0
        until = self._now() + settings.flapping_ban
        reason = f"{settings.flapping_limit} connections within {settings.flapping_window:g} s"
        try:
            self.bans.add(Ban(CLIENT_ID, client_id, until, reason, "flapping", persistent=False))
        except BanError as error:
            log.error("Cannot ban {client_id!r}: {error}", client_id=client_id, error=error)
            return
        log.warn("{client_id!r} is banned: {reason}", client_id=client_id, reason=reason)

    # --- quotas ---------------------------------------------------------------------------

    @property
    def has_quota(self) -> bool:
        return bool(self.settings.message_quota or self.settings.byte_quota)

    def may_publish(self, principal: str | None, address: str, size: int) -> bool:
        settings = self.settings
        # Names and addresses must not be mistaken for each other.
        name = f"user {principal}" if principal is not None else f"at {network_of(address)}"
        used = self._quotas.of(name, self._seconds(), settings.quota_period)
        if 0 < settings.message_quota <= used.count:
            return False
        if 0 < settings.byte_quota < used.bytes + size:
            return False
        used.count += 1
        used.bytes += size
        return True

    # --- bans -----------------------------------------------------------------------------

    def ban(self, ban: Ban) -> tuple[Ban, int]:
        """Ban somebody and end the connections that concerns; how many.

        :raise BanError: when that makes no sense.
        :raise OSError: when it cannot be kept.
        """
        return self.bans.add(ban), self.enforce()

    def enforce(self) -> int:
        """End the connections of everyone who is banned; how many."""
        if self._broker is None:
            return 0
        ended = 0
        for connection in list(self._broker.connections.values()):
            names = (connection.user_name, connection.principal)
            if self.bans.of_address(connection.peer.address) is not None or any(
                self.bans.of_client(connection.client_id, name) is not None for name in names
            ):
                connection.disconnect(ReasonCode.ADMINISTRATIVE_ACTION, "banned", BANNED)
                ended += 1
        return ended
