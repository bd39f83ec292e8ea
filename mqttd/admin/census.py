"""What only a look at every session tells: queues, windows, busy outputs.

``Stats`` has it taken now and then. A broker with few sessions is counted at
once; with more of them the walk goes on in slices, one per turn of the reactor,
so that no packet waits for it, and its figures are those of the last walk that
came to its end. It changes nothing in what it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from attrs import define, frozen
from twisted.internet.interfaces import IDelayedCall

from mqttd.broker.queue import OVERHEAD

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.session import Session

#: Sessions looked at in one turn; at 0.2 to 0.4 us each, below a millisecond.
SLICE = 2000

#: Share of a queue's bounds from which on it is reported.
HIGH_WATERMARK = 0.8

#: Full queues reported by one walk.
MAXIMUM_FULL = 100

#: Clients with a busy output that are named.
MAXIMUM_NAMES = 5


@frozen
class Census:
    """Sums over all sessions."""

    sessions: int = 0
    #: Sessions with at least one subscription.
    subscribers: int = 0
    queued_messages: int = 0
    #: Topics, payloads and properties of the queued messages.
    queued_bytes: int = 0
    #: QoS 1 and 2 messages sent and not yet acknowledged to the end.
    inflight: int = 0
    #: Connections whose output takes no more at the moment, and some of them.
    blocked: int = 0
    blocked_clients: tuple[str, ...] = ()
    #: Client ids of sessions whose queue is over the high watermark.
    full: tuple[str, ...] = ()


@define
class _Tally:
    """A census in the making."""

    sessions: int = 0
    subscribers: int = 0
    queued_messages: int = 0
    queued_bytes: int = 0
    inflight: int = 0
    blocked: int = 0
    blocked_clients: tuple[str, ...] = ()
    full: tuple[str, ...] = ()

    def add(self, session: Session) -> None:
        self.sessions += 1
        if session.subscriptions:
            self.subscribers += 1
        if session.inflight:
            self.inflight += len(session.inflight)
        if session.queue is not None:
            self._add_queue(session)
        consumer = session.consumer
        if consumer is not None and not consumer.writable:
            self.blocked += 1
            if self.blocked <= MAXIMUM_NAMES:
                self.blocked_clients += (session.client_id,)

    def _add_queue(self, session: Session) -> None:
        queue = session.queue
        assert queue is not None
        self.queued_messages += queue.messages
        self.queued_bytes += queue.bytes - queue.messages * OVERHEAD
        if queue_share(session) >= HIGH_WATERMARK and len(self.full) < MAXIMUM_FULL:
            self.full += (session.client_id,)

    def result(self) -> Census:
        return Census(
            self.sessions,
            self.subscribers,
            self.queued_messages,
            self.queued_bytes,
            self.inflight,
            self.blocked,
            self.blocked_clients,
            self.full,
        )


def queue_share(session: Session) -> float:
    """How full the queue of *session* is, by the nearer one of its two bounds; 0 to 1."""
    queue, settings = session.queue, session.settings
    if queue is None:
        return 0.0
    return max(
        queue.messages / settings.maximum_queued_messages,
        queue.bytes / settings.maximum_queued_bytes,
    )


class CensusTaker:
    """Walks through the sessions of a broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._call: IDelayedCall | None = None
        self.latest = Census()
        #: Called with each census that is complete.
        self.on_census: list[Callable[[Census], None]] = []

    def count(self) -> Census:
        """The figures: of now if the sessions are few, else of the last walk."""
        if len(self._broker.sessions) <= SLICE:
            tally = _Tally()
            for session in self._broker.sessions:
                tally.add(session)
            self.latest = tally.result()
        return self.latest

    def walk(self) -> None:
        """Take a census and tell ``on_census``; not while another is on its way."""
        if self._call is None:
            # A copy of the references: sessions come and go between the turns.
            self._step(iter(list(self._broker.sessions)), _Tally())

    def stop(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _step(self, sessions: Iterator[Session], tally: _Tally) -> None:
        self._call = None
        before = tally.sessions
        for session in islice(sessions, SLICE):
            tally.add(session)
        if tally.sessions - before == SLICE:
            self._call = self._broker.clock.callLater(0, self._step, sessions, tally)
            return
        self.latest = tally.result()
        for observer in self.on_census:
            observer(self.latest)
