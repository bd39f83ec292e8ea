"""Subscribers that do not keep up: who they are, and by how much.

``Admin`` has one ``SlowSubscribers``. It looks at every connection now and then, in
slices, and keeps the worst. How long a client takes to acknowledge is seen by the oldest
message on its way to it: the fast lane notes no time, so that of its messages the time
since the look that first saw them is told, which is less than the truth by one interval
at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import nlargest
from itertools import islice
from typing import TYPE_CHECKING, Any

from attrs import frozen
from twisted.internet.interfaces import IDelayedCall

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.connection import Connection
    from mqttd.broker.session import Session
    from mqttd.broker.timers import Timer

#: Seconds between looks.
INTERVAL = 5.0

#: Connections looked at in one turn of the reactor.
SLICE = 2000

#: Seconds without an acknowledgement from which on a client is slow.
SLOW = 1.0

#: Slow clients that are remembered, the worst.
MOST = 1000


@frozen
class Slow:
    """One that does not keep up."""

    client_id: str
    #: Seconds that the oldest message on its way has waited to be acknowledged.
    unacknowledged_for: float
    #: Messages on their way; those that wait; their bytes.
    inflight: int
    queued: int
    queued_bytes: int
    #: Its network connection takes no more for now.
    blocked: bool
    #: Messages that it did not get, in all.
    dropped: int

    @property
    def rank(self) -> tuple[float, int, bool]:
        return self.unacknowledged_for, self.queued, self.blocked


class SlowSubscribers:
    """The slow ones of *broker*."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._timer: Timer | None = None
        self._call: IDelayedCall | None = None
        #: Client id -> its oldest message, and when that was first seen.
        self._oldest: dict[str, tuple[int, Any, float]] = {}
        #: As of the last look, the worst first.
        self.latest: tuple[Slow, ...] = ()

    def start(self) -> None:
        self._timer = self._broker.wheel.call_later(INTERVAL, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        self._timer = None
        # A copy of the references: connections come and go between the turns.
        self._step(iter(list(self._broker.connections.values())), [], {})

    def _step(
        self,
        connections: Iterator[Connection],
        found: list[Slow],
        oldest: dict[str, tuple[int, Any, float]],
    ) -> None:
        self._call = None
        looked = 0
        for connection in islice(connections, SLICE):
            looked += 1
            slow = self._examine(connection.session, oldest)
            if slow is not None:
                found.append(slow)
        if len(found) > 2 * MOST:
            found = _worst(found)
        if looked == SLICE:
            self._call = self._broker.clock.callLater(0, self._step, connections, found, oldest)
            return
        self._oldest = oldest
        self.latest = tuple(_worst(found))
        self._timer = self._broker.wheel.call_later(INTERVAL, self._look)

    def _examine(self, session: Session, oldest: dict[str, tuple[int, Any, float]]) -> Slow | None:
        waited = self._waited(session, oldest) if session.inflight else 0.0
        queue, consumer = session.queue, session.consumer
        queued = 0 if queue is None else queue.messages
        blocked = consumer is not None and not consumer.writable
        if waited < SLOW and not queued and not blocked:
            return None
        return Slow(
            session.client_id,
            round(waited, 3),
            len(session.inflight),
            queued,
            0 if queue is None else queue.bytes,
            blocked,
            session.dropped,
        )

    def _waited(self, session: Session, oldest: dict[str, tuple[int, Any, float]]) -> float:
        """Seconds that the oldest message of *session* has been on its way, as far as
        that is known."""
        now = self._broker.seconds()
        packet_id, sent = next(iter(session.inflight.items()))
        known = self._oldest.get(session.client_id)
        since = now
        if known is not None and known[0] == packet_id and known[1] is sent:
            since = known[2]
        elif not isinstance(sent, bytes) and sent.sent_at:
            since = sent.sent_at
        oldest[session.client_id] = packet_id, sent, since
        return now - since


def _worst(found: list[Slow]) -> list[Slow]:
    return nlargest(MOST, found, key=lambda slow: slow.rank)
