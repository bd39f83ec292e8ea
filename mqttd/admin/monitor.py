"""The watch over the process: event loop, collector, memory, queues, outputs.

It reports what emqttd's ``sysmon`` reports of an Erlang machine, as far as
Python has the like, and keeps the alarms that follow from it. ``Admin`` starts
it. It changes nothing; when something is wrong it says so.

=================  ==========================================================
``long_schedule``  The reactor came back late: something ran for too long.
``long_gc``        A full garbage collection stopped the process for too long.
``large_heap``     Resident memory is over its high watermark.
``busy_port``      Connections whose output takes no more (sampled).
``busy_dist_port`` Never: nodes have no ports of their own to each other.
=================  ==========================================================
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from math import floor
from typing import TYPE_CHECKING, Any

from mqttd.admin.alarms import Alarms, Severity
from mqttd.admin.census import HIGH_WATERMARK, Census, CensusTaker, queue_share
from mqttd.admin.memory import Memory
from mqttd.admin.publisher import SystemPublisher

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.timers import Timer

SYSMON = ("long_gc", "long_schedule", "large_heap", "busy_port", "busy_dist_port")

#: Seconds between looks. A stall shows by its part after the look it delays,
#: so one that is shorter than this may go unseen.
LOOK_INTERVAL = 0.5

#: Seconds from which on a delay of the event loop is reported, and is an alarm.
STALL, LONG_STALL = 0.25, 1.0

#: Seconds without a long stall after which its alarm is over.
STALL_MEMORY = 60.0

#: Seconds from which on a garbage collection is reported.
LONG_COLLECTION = 0.1

#: Seconds between looks at memory and at alarms of queues.
SLOW_INTERVAL = 5.0

#: Shares of the memory that may be used: alarm, and all clear.
MEMORY_HIGH, MEMORY_LOW = 0.8, 0.7

#: Share of its bounds under which a queue's alarm is over.
QUEUE_LOW = 0.6

#: Alarms of queues that may be active; there may be a million sessions.
MAXIMUM_QUEUE_ALARMS = 100

STALL_ALARM, MEMORY_ALARM = "event-loop-stall", "memory"


class Monitor:
    """Watches one broker and the process it lives in."""

    def __init__(
        self,
        broker: Broker,
        system: SystemPublisher,
        alarms: Alarms,
        census: CensusTaker,
        memory: Callable[[], Memory],
        limit: int | None,
    ) -> None:
        """*memory* measures what is used, *limit* is what may be; None: unknown."""
        self._broker = broker
        self._system = system
        self._alarms = alarms
        self._memory = memory
        self._limit = limit
        self._timer: Timer | None = None
        self._last_stall = 0.0
        self._collection_began = 0.0
        self._longest_collection = 0.0
        self._slow_due = 0.0
        #: Alarm id -> client id, of the sessions whose queues are too full.
        self._full_queues: dict[str, str] = {}
        #: The longest delay of the event loop so far; seconds.
        self.longest_stall = 0.0
        self._census = census

    def start(self) -> None:
        self._census.on_census.append(self._counted)
        gc.callbacks.append(self._collecting)
        self._slow_due = self._broker.seconds()
        self._wait()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        gc.callbacks.remove(self._collecting)
        self._census.on_census.remove(self._counted)

    def _wait(self) -> None:
        # The wheel's own ticks, where a timer is exact and lateness is real.
        due = (floor(self._broker.seconds() / LOOK_INTERVAL) + 1) * LOOK_INTERVAL
        self._timer = self._broker.wheel.call_at(due, self._look, due)

    def _look(self, due: float) -> None:
        now = self._broker.seconds()
        self._wait()
        self._broker.metrics.loop_delay.observe(max(0.0, now - due))
        self._watch_loop(now, now - due)
        if self._longest_collection >= LONG_COLLECTION:
            pause, self._longest_collection = self._longest_collection, 0.0
            self._report("long_gc", f"a garbage collection took {pause:.3f} s")
        if now >= self._slow_due:
            self._slow_due = now + SLOW_INTERVAL
            self._watch_memory()
            self._watch_queues()

    def _report(self, name: str, text: str) -> None:
        self._system.publish(f"{self._system.prefix}sysmon/{name}", text.encode())

    # --- event loop -------------------------------------------------------------

    def _watch_loop(self, now: float, late: float) -> None:
        if late >= STALL:
            self.longest_stall = max(self.longest_stall, late)
            text = f"the event loop was stopped for at least {late:.3f} s"
            self._report("long_schedule", text)
            if late >= LONG_STALL:
                self._last_stall = now
                self._alarms.activate(
                    STALL_ALARM, Severity.WARNING, "the event loop does not keep up", text
                )
        elif STALL_ALARM in self._alarms and now - self._last_stall >= STALL_MEMORY:
            self._alarms.clear(STALL_ALARM)

    # --- collector ----------------------------------------------------------------

    def _collecting(self, phase: str, info: dict[str, Any]) -> None:
        # Comes in the middle of anything: take the time and do nothing else.
        if info["generation"] < 2:
            return
        if phase == "start":
            self._collection_began = self._broker.seconds()
        else:
            pause = self._broker.seconds() - self._collection_began
            self._longest_collection = max(self._longest_collection, pause)

    # --- memory -------------------------------------------------------------------

    def _watch_memory(self) -> None:
        used, limit = self._memory().current, self._limit
        if used is None or not limit:
            return
        if used >= limit * MEMORY_HIGH:
            if MEMORY_ALARM not in self._alarms:
                text = f"{used} of {limit} bytes are in use"
                self._report("large_heap", text)
                self._alarms.activate(MEMORY_ALARM, Severity.CRITICAL, "memory gets short", text)
        elif used < limit * MEMORY_LOW:
            self._alarms.clear(MEMORY_ALARM)

    # --- sessions -----------------------------------------------------------------

    def _counted(self, census: Census) -> None:
        if census.blocked:
            names = ", ".join(repr(name[:64]) for name in census.blocked_clients)
            more = census.blocked - len(census.blocked_clients)
            others = f" and {more} more" if more else ""
            self._report("busy_port", f"the output is full: {names}{others}")
        for client_id in census.full:
            if len(self._full_queues) >= MAXIMUM_QUEUE_ALARMS:
                return
            alarm_id = f"session-queue:{client_id}"
            if self._alarms.activate(
                alarm_id,
                Severity.WARNING,
                "the queue of a session is nearly full",
                f"over {HIGH_WATERMARK:.0%} of what may wait for {client_id!r}",
            ):
                self._full_queues[alarm_id] = client_id

    def _watch_queues(self) -> None:
        """End the alarms of queues that have drained, or have gone with their session."""
        for alarm_id, client_id in list(self._full_queues.items()):
            session = self._broker.sessions.get(client_id)
            if session is None or queue_share(session) < QUEUE_LOW:
                del self._full_queues[alarm_id]
                self._alarms.clear(alarm_id)
