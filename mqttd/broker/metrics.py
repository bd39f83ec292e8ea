"""Counters of the whole broker: plain integers, added to where things happen.

Anyone may count; nobody computes here. ``admin`` reads them. Names say what is
counted, from the broker's point of view (received: by the broker).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

#: Upper bounds of the buckets of a time; seconds.
TIMES = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Histogram:
    """How often a value was how large."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = TIMES) -> None:
        self.bounds = bounds
        #: One more than bounds: the last has what is above them all.
        self.counts = [0] * (len(bounds) + 1)
        #: The sum of all values.
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Metrics:
    """One per broker. Every field only grows, so a reader takes differences."""

    def __init__(self) -> None:
        self.bytes_received = 0
        self.bytes_sent = 0
        #: Packets by type, indexed by ``PacketType``.
        self.packets_received = [0] * 16
        self.packets_sent = [0] * 16
        #: Acknowledgements for packet ids that we do not know, by type.
        self.packets_missed = [0] * 16
        #: PUBLISH packets by QoS.
        self.messages_received = [0, 0, 0]
        self.messages_sent = [0, 0, 0]
        #: Application messages that found no subscriber.
        self.messages_unrouted = 0
        #: Deliveries that did not happen, by reason.
        self.dropped: Counter[str] = Counter()
        #: Connections that ended, by reason.
        self.closed: Counter[str] = Counter()
        #: Connections refused before CONNECT was answered, by reason.
        self.refused: Counter[str] = Counter()
        self.connections_accepted = 0
        #: Exceptions contained, by where.
        self.errors: Counter[str] = Counter()
        #: Sessions that ended because their expiry interval had passed.
        self.sessions_expired = 0
        #: Payload bytes of PUBLISH packets.
        self.payload_bytes_received = 0
        self.payload_bytes_sent = 0
        #: Seconds that the event loop came back late.
        self.loop_delay = Histogram()
        #: Seconds from reading a chunk of input until it was handled, where
        #: the settings want that measured.
        self.processing = Histogram()
        #: The share that $SYS has in ``messages_sent``, ``messages_unrouted`` and
        #: ``dropped``; take it away to get what applications have caused.
        self.system_sent = [0, 0, 0]
        self.system_unrouted = 0
        self.system_dropped: Counter[str] = Counter()
