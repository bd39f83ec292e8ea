"""What the flight recorders of the connections have, and what they had at a failure.

``Admin`` has one ``Flights``. After a failure the entries are kept as they are, one
dump for each client and so many clients; they are decoded when somebody asks. A copy
goes to a file (``files``), which is found again after a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import field, frozen
from twisted.logger import Logger

from mqttd.admin.tracing.decode import decode, frame
from mqttd.admin.tracing.describe import describe
from mqttd.admin.tracing.files import Filed, FlightFiles
from mqttd.interfaces import FlightEntry
from mqttd.wire.packets import Connect, Packet
from mqttd.wire.serializer import serialize

if TYPE_CHECKING:
    from mqttd.admin.alarms import Alarms
    from mqttd.broker.broker import Broker
    from mqttd.broker.connection import Connection

log = Logger()

#: The cause that says least: most who fail by it have lost their network.
SILENCE = "keep-alive"

#: Subscriptions that a dump names.
MOST_SUBSCRIPTIONS = 1000


@frozen
class Dump:
    """What there is to know of one connection."""

    client_id: str
    address: str
    version: int
    keep_alive: int
    #: Unix time, seconds.
    at: float
    #: "violation", "error", one of ``reasons.FAILURES``, or "request".
    cause: str
    text: str
    entries: tuple[FlightEntry, ...] = field(repr=False)
    subscriptions: tuple[dict[str, Any], ...] = field(repr=False)
    #: The packet that broke the rules, if it was one.
    offending: dict[str, Any] | None
    #: What to add to the broker's clock to get Unix time.
    offset: float
    #: Failures of this client so far, this one included.
    count: int = 1

    def summary(self) -> dict[str, Any]:
        names = ("client_id", "address", "version", "at", "cause", "text", "count")
        return {name: getattr(self, name) for name in names}

    def document(self, shown: int = 0) -> dict[str, Any]:
        """All of it, decoded; what ``mqttd.testing.replay`` takes."""
        records = decode(self.entries, self.version, lambda at: at + self.offset, shown)
        return self.summary() | {
            "keep_alive": self.keep_alive,
            "subscriptions": list(self.subscriptions),
            "offending": self.offending,
            "records": list(records),
        }


class Flights:
    """The dumps of *broker*."""

    def __init__(self, broker: Broker, wall_clock: Callable[[], float], alarms: Alarms) -> None:
        self._broker = broker
        self._wall_clock = wall_clock
        self._files = FlightFiles(broker, alarms)
        #: Client id -> its latest failure; the latest of all is last.
        self.failures: dict[str, Dump | Filed] = {}

    def start(self) -> None:
        """Find what is in files, and keep what comes."""
        self.failures = {each.client_id: each for each in self._files.load()}
        self._broker.failures.append(self._failed)
        self._forget_oldest()

    def stop(self) -> None:
        if self._failed in self._broker.failures:
            self._broker.failures.remove(self._failed)
            self._files.stop()

    def changed(self) -> None:
        """The settings are other ones; what is over their number goes."""
        self._forget_oldest()

    def of(self, client_id: str) -> Dump | None:
        """The recorder of a client that is connected, as it is now."""
        connection = self._broker.connections.get(client_id)
        if connection is None:
            return None
        return self._dump(connection, "request", "", None, 1)

    def _failed(self, connection: Connection, cause: str, text: str, packet: Packet | None) -> None:
        # Before that nobody has said who he is, and the log has it.
        client_id = connection.client_id
        if self._broker.connections.get(client_id) is not connection:
            return
        if not self._broker.settings.flight.maximum_failures:
            return
        try:
            before = self.failures.pop(client_id, None)
            count = before.count + 1 if before is not None else 1
            dump = self._dump(connection, cause, text, packet, count)
            self.failures[client_id] = dump
            self._forget_oldest()
            self._files.save(dump)
            # Whole sites lose their power, and then all their clients are silent.
            if count == 1 and cause != SILENCE:
                log.info(
                    "The last packets of {client_id!r} before it failed ({text}) were kept: "
                    "mqttctl flight show shows them",
                    client_id=client_id,
                    text=text,
                )
        except Exception:
            log.failure("The flight recorder of {client_id!r} was lost", client_id=client_id)

    def _forget_oldest(self) -> None:
        """Keep so many; who was only silent goes first."""
        failures = self.failures
        while len(failures) > self._broker.settings.flight.maximum_failures:
            older = list(failures)[:-1] or list(failures)
            silent = (name for name in older if failures[name].cause == SILENCE)
            oldest = next(silent, older[0])
            del failures[oldest]
            self._files.forget(oldest)

    def _dump(
        self, connection: Connection, cause: str, text: str, packet: Packet | None, count: int
    ) -> Dump:
        now = self._wall_clock()
        return Dump(
            connection.client_id,
            connection.peer.address,
            connection.version,
            connection.keep_alive,
            now,
            cause,
            text,
            tuple(connection.transport.flight()),
            self._subscriptions(connection),
            None if packet is None else _offending(packet, connection.version),
            now - self._broker.seconds(),
            count,
        )

    def _subscriptions(self, connection: Connection) -> tuple[dict[str, Any], ...]:
        session = connection.session
        subscriptions = list(session.subscriptions.values())[:MOST_SUBSCRIPTIONS]
        return tuple({"topic_filter": each.topic_filter, "qos": each.qos} for each in subscriptions)


def _offending(packet: Packet, version: int) -> dict[str, Any]:
    if isinstance(packet, Connect):
        return describe(packet, version, 0)
    try:
        data = serialize(packet, version)
    except ValueError:
        return describe(packet, version, 0)
    return frame(data, len(data), version, False)
