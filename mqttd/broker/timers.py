"""One timer wheel for every deadline of the broker.

CONNECT, keep alive, retry, expiry of sessions and messages, will delay and
close deadlines all wait here: setting a timer is an append to a list, and one
delayed call of the clock serves them all. A timer fires at its time or up to
one tick later, never earlier. An exception in a callback is logged and
contained.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from math import ceil
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

log = Logger()

#: Cancelled timers that may wait for their time before they are looked for.
MAXIMUM_CANCELLED = 1024


class Timer:
    """One deadline; ``cancel`` may be called at any time, more than once."""

    __slots__ = ("_wheel", "arguments", "callback", "due")

    def __init__(
        self,
        wheel: TimerWheel,
        due: float,
        callback: Callable[..., None],
        arguments: tuple[Any, ...],
    ) -> None:
        self._wheel = wheel
        self.due = due
        self.callback: Callable[..., None] | None = callback
        self.arguments = arguments

    @property
    def active(self) -> bool:
        return self.callback is not None

    def cancel(self) -> None:
        if self.callback is not None:
            self.clear()
            self._wheel.note_cancelled()

    def clear(self) -> None:
        """Let go of what was to be called."""
        self.callback = None
        self.arguments = ()


class TimerWheel:
    """Deadlines in buckets of *tick* seconds on *clock*."""

    def __init__(
        self, clock: IReactorTime, seconds: Callable[[], float] | None = None, tick: float = 0.5
    ) -> None:
        """*seconds* is the monotonic time; the clock's own by default."""
        self.seconds: Callable[[], float] = seconds or clock.seconds
        self._clock = clock
        self._tick = tick
        self._buckets: dict[int, list[Timer]] = {}
        #: The keys of the buckets, and some that were, as a heap.
        self._slots: list[int] = []
        self._held = 0
        self._cancelled = 0
        self._call: IDelayedCall | None = None
        self._next = 0
        self._stopped = False

    def __len__(self) -> int:
        """Timers held, cancelled ones included."""
        return self._held

    def call_later(self, delay: float, callback: Callable[..., None], *arguments: Any) -> Timer:
        """Call *callback* after *delay* seconds."""
        return self.call_at(self.seconds() + delay, callback, *arguments)

    def call_at(self, due: float, callback: Callable[..., None], *arguments: Any) -> Timer:
        """Call *callback* when ``seconds()`` is *due*."""
        timer = Timer(self, due, callback, arguments)
        if self._stopped:
            return timer
        self._held += 1
        slot = ceil(due / self._tick)
        bucket = self._buckets.get(slot)
        if bucket is None:
            self._buckets[slot] = [timer]
            heappush(self._slots, slot)
            if self._call is None or slot < self._next:
                self._wait_for(slot)
        else:
            bucket.append(timer)
        return timer

    def stop(self) -> None:
        """Forget every timer; nothing is left on the clock."""
        self._stopped = True
        self._buckets.clear()
        self._slots.clear()
        self._held = self._cancelled = 0
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _wait_for(self, slot: int) -> None:
        if self._call is not None:
            self._call.cancel()
        self._next = slot
        delay = max(0.0, slot * self._tick - self.seconds())
        self._call = self._clock.callLater(delay, self._turn)

    def _turn(self) -> None:
        self._call = None
        # The small allowance keeps a rounding error from costing a tick.
        now = self.seconds() + 1e-6
        due: list[int] = []
        while self._slots and self._slots[0] * self._tick <= now:
            due.append(heappop(self._slots))
        for slot in due:
            bucket = self._buckets.pop(slot, [])
            self._held -= len(bucket)
            for timer in bucket:
                self._fire(timer)
        self._wait_for_next()

    def _wait_for_next(self) -> None:
        while self._slots and self._slots[0] not in self._buckets:
            heappop(self._slots)
        if self._slots and (self._call is None or self._slots[0] < self._next):
            self._wait_for(self._slots[0])

    def _fire(self, timer: Timer) -> None:
        callback, arguments = timer.callback, timer.arguments
        if callback is None:
            self._cancelled = max(0, self._cancelled - 1)
            return
        timer.clear()
        try:
            callback(*arguments)
        except Exception:
            log.failure("A timer failed")

    # --- cancelled timers -------------------------------------------------------

    def note_cancelled(self) -> None:
        """A timer was cancelled: it goes when half of those held are such.

        Deadlines that are far off and renewed all the time would pile up.
        """
        self._cancelled += 1
        if self._cancelled > MAXIMUM_CANCELLED and self._cancelled * 2 > self._held:
            self._forget_cancelled()

    def _forget_cancelled(self) -> None:
        buckets: dict[int, list[Timer]] = {}
        for slot, bucket in self._buckets.items():
            waiting = [timer for timer in bucket if timer.active]
            if waiting:
                buckets[slot] = waiting
        self._buckets = buckets
        self._slots = sorted(buckets)
        self._held = sum(map(len, buckets.values()))
        self._cancelled = 0
