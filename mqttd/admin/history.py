"""The last hour in figures: what charts show of the time before anybody looked.

``Admin`` starts it, ``routes.stats`` gives it out. Every ``INTERVAL`` it takes a snapshot and
keeps, of each figure, what there was or how much it grew: a ring of 360 numbers for each of
a dozen figures and for each reason of a drop, about 3 KB a ring. It asks the broker nothing
that ``Stats`` does not.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from math import nan
from typing import TYPE_CHECKING

from mqttd.admin.stats import Snapshot, Stats

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.metrics import Histogram
    from mqttd.broker.timers import Timer

#: Seconds between samples.
INTERVAL = 10.0

#: Samples that are kept: an hour.
KEPT = 360

#: Share of the values that a latency is the bound of.
SHARE = 0.99


class Ring:
    """The last ``KEPT`` numbers; not a number where nothing was measured."""

    def __init__(self, before: float) -> None:
        """*before*: what there was before the first is added."""
        self._numbers = array("d", [before]) * KEPT
        self._next = 0

    def add(self, number: float) -> None:
        self._numbers[self._next] = number
        self._next = (self._next + 1) % KEPT

    def last(self, count: int) -> Sequence[float | None]:
        """The last *count* of them, the oldest first."""
        start = self._next
        numbers = (*self._numbers[start:], *self._numbers[:start])[KEPT - count :]
        return [None if number != number else round(number, 6) for number in numbers]


class History:
    """The figures of one broker."""

    def __init__(self, broker: Broker, stats: Stats) -> None:
        self._broker = broker
        self._stats = stats
        self._timer: Timer | None = None
        self._before: Snapshot | None = None
        self._delays: list[int] = []
        self._answers: list[int] = []
        #: Uptime at each sample, seconds.
        self.times: deque[float] = deque(maxlen=KEPT)
        #: Name -> what there was, or how much there was a second.
        self.figures: dict[str, Ring] = {}
        #: Reason -> drops a second.
        self.dropped: dict[str, Ring] = {}

    def start(self) -> None:
        """Begin to sample, with nothing of what was before."""
        self.times.clear()
        self.figures, self.dropped = {}, {}
        self._take_over(self._stats.snapshot())
        self._wait()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        self._timer = self._broker.wheel.call_later(INTERVAL, self._sample)

    def _sample(self) -> None:
        self._wait()
        self.sample()

    def sample(self) -> None:
        """Put down what there is, and what has happened since the last sample."""
        now, before = self._stats.snapshot(), self._before
        assert before is not None
        elapsed = now.uptime - before.uptime
        if elapsed <= 0:
            return
        self.times.append(round(now.uptime, 3))
        _add(
            self.figures, nan, {**_levels(now), **_rates(now, before, elapsed), **self._latencies()}
        )
        grown = {
            reason: (n - before.counters.dropped.get(reason, 0)) / elapsed
            for reason, n in now.counters.dropped.items()
        }
        _add(self.dropped, 0.0, dict.fromkeys(self.dropped, 0.0) | grown)
        self._take_over(now)

    def _take_over(self, snapshot: Snapshot) -> None:
        metrics = self._broker.metrics
        self._before = snapshot
        self._delays = list(metrics.loop_delay.counts)
        self._answers = list(metrics.processing.counts)

    def _latencies(self) -> dict[str, float]:
        metrics = self._broker.metrics
        return {
            "event_loop": _within(metrics.loop_delay, self._delays),
            "processing": _within(metrics.processing, self._answers),
        }


def _add(rings: dict[str, Ring], before: float, numbers: Mapping[str, float]) -> None:
    for name, number in numbers.items():
        if name not in rings:
            rings[name] = Ring(before)
        rings[name].add(number)


def _levels(now: Snapshot) -> dict[str, float]:
    gauges = now.gauges
    return {
        "clients": gauges.clients.count,
        "sessions": gauges.sessions.count,
        "blocked": gauges.blocked_connections,
        "queued": gauges.queued_messages,
        "inflight": gauges.inflight,
    }


def _rates(now: Snapshot, before: Snapshot, elapsed: float) -> dict[str, float]:
    new, old = now.counters, before.counters
    return {
        "messages_in": _grown(new.messages_received, old.messages_received) / elapsed,
        "messages_out": _grown(new.messages_sent, old.messages_sent) / elapsed,
        "bytes_in": (new.bytes_received - old.bytes_received) / elapsed,
        "bytes_out": (new.bytes_sent - old.bytes_sent) / elapsed,
        "unrouted": (new.messages_unrouted - old.messages_unrouted) / elapsed,
    }


def _grown(new: Iterable[int], old: Iterable[int]) -> int:
    return sum(new) - sum(old)


def _within(histogram: Histogram, before: Sequence[int]) -> float:
    """Seconds within which ``SHARE`` of the values since *before* were; NaN without one."""
    counts = [new - old for new, old in zip(histogram.counts, before, strict=True)]
    wanted, seen = SHARE * sum(counts), 0
    if not wanted:
        return nan
    for bound, count in zip(histogram.bounds, counts, strict=False):
        seen += count
        if seen >= wanted:
            return bound
    # It is above the last bound, which is as much as is known.
    return histogram.bounds[-1]
