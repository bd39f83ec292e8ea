"""One timer wheel for every deadline of the broker.

CONNECT, keep alive, retry, expiry of sessions and messages, will delay and
close deadlines all wait here: setting a timer is an append to a list, and one
delayed call of the clock serves them all. A timer fires at its time or up to
one tick later, never earlier. An exception in a callback is logged and
contained.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

log = Logger()


class Timer:
    """One deadline; ``cancel`` may be called at any time, more than once."""

    __slots__ = ("arguments", "callback", "due")

    def __init__(self, due: float, callback: Callable[..., None], arguments: tuple[Any, ...]):
        self.due = due
        self.callback: Callable[..., None] | None = callback
        self.arguments = arguments

    @property
    def active(self) -> bool:
        return self.callback is not None

    def cancel(self) -> None:
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
        self._call: IDelayedCall | None = None
        self._next = 0
        self._stopped = False

    def call_later(self, delay: float, callback: Callable[..., None], *arguments: Any) -> Timer:
        """Call *callback* after *delay* seconds."""
        return self.call_at(self.seconds() + delay, callback, *arguments)

    def call_at(self, due: float, callback: Callable[..., None], *arguments: Any) -> Timer:
        """Call *callback* when ``seconds()`` is *due*."""
        timer = Timer(due, callback, arguments)
        slot = ceil(due / self._tick)
        bucket = self._buckets.get(slot)
        if bucket is None:
            self._buckets[slot] = [timer]
            if not self._stopped and (self._call is None or slot < self._next):
                self._wait_for(slot)
        else:
            bucket.append(timer)
        return timer

    def stop(self) -> None:
        """Forget every timer; nothing is left on the clock."""
        self._stopped = True
        self._buckets.clear()
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
        for slot in sorted(slot for slot in self._buckets if slot * self._tick <= now):
            for timer in self._buckets.pop(slot, ()):
                callback, arguments = timer.callback, timer.arguments
                if callback is None:
                    continue
                timer.cancel()
                try:
                    callback(*arguments)
                except Exception:
                    log.failure("A timer failed")
        if self._buckets and not self._stopped:
            slot = min(self._buckets)
            if self._call is None or slot < self._next:
                self._wait_for(slot)
