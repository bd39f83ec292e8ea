"""What there is and what has happened: one typed picture of a broker.

``SysTopics`` reads it, and whatever else shows figures shall read the same one.
Taking a ``Snapshot`` reads counters that are kept anyway; only queues, windows
and subscribers need a walk over the sessions, which ``census`` does in slices.
It publishes nothing.

Counters of messages leave out what the broker itself says on ``$SYS``. Packets
and bytes are those of the network, ``$SYS`` included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import frozen

from mqttd.admin.census import Census, CensusTaker
from mqttd.admin.load import LoadAverages
from mqttd.wire.codes import PacketType

if TYPE_CHECKING:
    from mqttd.admin.publisher import SystemPublisher
    from mqttd.broker.broker import Broker
    from mqttd.broker.timers import Timer

#: Seconds between looks for maxima and averages.
SAMPLE_INTERVAL = 5.0

#: Seconds between walks over all sessions.
CENSUS_INTERVAL = 10.0

#: Reasons in ``Metrics.dropped`` under which no message was lost: it was only
#: not retained, or it was no message.
_NO_MESSAGE_LOST = frozenset(
    {"answer-too-large", "retained-payload", "retained-count", "retained-bytes"}
)


@frozen
class Level:
    """How many there are now, and the most there were since the start.

    The maxima of clients and sessions are exact, the others as seen every
    ``SAMPLE_INTERVAL`` and with each snapshot.
    """

    count: int
    maximum: int


@frozen
class Gauges:
    """What there is now."""

    clients: Level
    sessions: Level
    #: Distinct Topic Filters that are subscribed to.
    topics: Level
    #: Sessions with a subscription.
    subscribers: Level
    subscriptions: Level
    #: Distinct filters and the nodes that they lead to: with one node, ``topics``.
    routes: Level
    #: Retained messages, without those on $SYS.
    retained: Level
    #: Topics, payloads and properties of the retained messages.
    retained_bytes: int
    #: Subscriptions that belong to a shared one.
    shared_subscriptions: int
    #: Sessions whose client is away.
    offline_sessions: int
    queued_messages: int
    queued_bytes: int
    inflight: int
    #: Connections whose output takes no more.
    blocked_connections: int


@frozen
class Counters:
    """What has happened since the start; everything only grows."""

    bytes_received: int
    bytes_sent: int
    #: Packets by type, indexed by ``PacketType``.
    packets_received: tuple[int, ...]
    packets_sent: tuple[int, ...]
    #: Acknowledgements of packet ids that were not in use.
    packets_missed: tuple[int, ...]
    #: PUBLISH packets by QoS, repetitions included.
    messages_received: tuple[int, ...]
    messages_sent: tuple[int, ...]
    #: Payload bytes of PUBLISH packets.
    payload_bytes_received: int
    payload_bytes_sent: int
    #: Messages that found no subscriber.
    messages_unrouted: int
    #: What was not delivered, by reason.
    dropped: Mapping[str, int]
    #: Connections that ended, by reason.
    closed: Mapping[str, int]
    #: Connections refused, by reason.
    refused: Mapping[str, int]
    #: Exceptions contained, by where.
    errors: Mapping[str, int]
    connections_accepted: int
    sessions_expired: int

    @property
    def messages_dropped(self) -> int:
        """Messages lost to a receiver, or refused from a publisher."""
        return sum(n for reason, n in self.dropped.items() if reason not in _NO_MESSAGE_LOST)


@frozen
class Snapshot:
    """A broker at one moment."""

    #: Seconds since the broker started.
    uptime: float
    gauges: Gauges
    counters: Counters


class Stats:
    """Makes snapshots, and remembers what one alone can not tell."""

    def __init__(self, broker: Broker, system: SystemPublisher) -> None:
        self._broker = broker
        self._system = system
        self.census = CensusTaker(broker)
        self.load = LoadAverages(self._totals(), broker.seconds())
        self._maxima: dict[str, int] = {}
        self._timers: list[Timer] = []

    def start(self) -> None:
        """Begin to sample."""
        self.load = LoadAverages(self._totals(), self._broker.seconds())
        self._timers = [
            self._broker.wheel.call_later(SAMPLE_INTERVAL, self._sample),
            self._broker.wheel.call_later(CENSUS_INTERVAL, self._walk),
        ]

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers = []
        self.census.stop()

    def _sample(self) -> None:
        self._timers[0] = self._broker.wheel.call_later(SAMPLE_INTERVAL, self._sample)
        self.sample()

    def sample(self) -> None:
        """Bring averages and maxima up to now."""
        self.load.update(self._totals(), self._broker.seconds())
        self._gauges(self.census.latest)

    def _walk(self) -> None:
        self._timers[1] = self._broker.wheel.call_later(CENSUS_INTERVAL, self._walk)
        self.census.walk()

    def snapshot(self) -> Snapshot:
        """The broker as it is now."""
        broker = self._broker
        return Snapshot(
            broker.seconds() - broker.started_at,
            self._gauges(self.census.count()),
            self._counters(),
        )

    def _gauges(self, census: Census) -> Gauges:
        broker = self._broker
        router, retained, sessions = broker.router, broker.retained, broker.sessions
        clients = len(broker.connections)
        return Gauges(
            clients=Level(clients, max(clients, broker.maximum_connections)),
            sessions=Level(len(sessions), max(len(sessions), sessions.maximum)),
            topics=self._level("topics", router.route_count),
            subscribers=self._level("subscribers", census.subscribers),
            subscriptions=self._level("subscriptions", router.subscription_count),
            routes=self._level("routes", router.route_count),
            retained=self._level("retained", retained.count - self._system.retained_count),
            retained_bytes=retained.bytes - self._system.retained_bytes,
            shared_subscriptions=router.shared_count,
            offline_sessions=sessions.offline,
            queued_messages=census.queued_messages,
            queued_bytes=census.queued_bytes,
            inflight=census.inflight,
            blocked_connections=census.blocked,
        )

    def _level(self, name: str, count: int) -> Level:
        maximum = self._maxima[name] = max(count, self._maxima.get(name, 0))
        return Level(count, maximum)

    def _counters(self) -> Counters:
        metrics = self._broker.metrics
        own = metrics.system_dropped
        return Counters(
            bytes_received=metrics.bytes_received,
            bytes_sent=metrics.bytes_sent,
            packets_received=tuple(metrics.packets_received),
            packets_sent=tuple(metrics.packets_sent),
            packets_missed=tuple(metrics.packets_missed),
            messages_received=tuple(metrics.messages_received),
            messages_sent=self._messages_sent(),
            payload_bytes_received=metrics.payload_bytes_received,
            payload_bytes_sent=metrics.payload_bytes_sent,
            messages_unrouted=metrics.messages_unrouted - metrics.system_unrouted,
            dropped={
                reason: n - own[reason] for reason, n in metrics.dropped.items() if n > own[reason]
            },
            closed=dict(metrics.closed),
            refused=dict(metrics.refused),
            errors=dict(metrics.errors),
            connections_accepted=metrics.connections_accepted,
            sessions_expired=metrics.sessions_expired,
        )

    def _messages_sent(self) -> tuple[int, ...]:
        metrics = self._broker.metrics
        return tuple(
            n - own for n, own in zip(metrics.messages_sent, metrics.system_sent, strict=True)
        )

    def _totals(self) -> dict[str, int]:
        """What averages are made of, under the names of ``$SYS/broker/load``."""
        metrics = self._broker.metrics
        counters = self._counters()
        return {
            "messages/received": sum(metrics.packets_received),
            "messages/sent": sum(metrics.packets_sent),
            "publish/received": sum(metrics.messages_received),
            "publish/sent": sum(counters.messages_sent),
            "publish/dropped": counters.messages_dropped,
            "bytes/received": metrics.bytes_received,
            "bytes/sent": metrics.bytes_sent,
            "sockets": metrics.connections_accepted,
            "connections": metrics.packets_received[PacketType.CONNECT],
        }
