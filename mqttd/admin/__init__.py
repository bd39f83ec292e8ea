"""How the broker is watched: $SYS topics, presence, alarms, statistics.

``Admin`` is all of it for one broker. The service starts it after the broker
and before the listeners, and stops it when the connections are gone. It plugs
into the broker by its public parts only; without it the broker is the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mqttd.admin.alarms import Alarms
from mqttd.admin.bridging import BridgeAlarms
from mqttd.admin.history import History
from mqttd.admin.machine import Machine
from mqttd.admin.memory import Memory, memory_limit, read_memory
from mqttd.admin.monitor import Monitor
from mqttd.admin.presence import Presence
from mqttd.admin.publisher import SystemPublisher
from mqttd.admin.slow import SlowSubscribers
from mqttd.admin.stats import Stats
from mqttd.admin.storing import StoreAlarm
from mqttd.admin.sys_topics import SysTopics
from mqttd.admin.tracing import Flights, Traces

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.interfaces import IBridges

__all__ = ["Admin"]


class Admin:
    """What one broker says about itself."""

    def __init__(
        self,
        broker: Broker,
        *,
        bridges: IBridges | None = None,
        wall_clock: Callable[[], float] = time.time,
        memory: Callable[[], Memory] = read_memory,
        limit: int | None = None,
    ) -> None:
        """
        :param bridges: its links to other brokers.
        :param wall_clock: Unix time in seconds, for what people read.
        :param memory: what the process uses.
        :param limit: what it may use, in bytes; by default what the system allows.
        """
        system = SystemPublisher(broker)
        #: What alarms are active, and were.
        self.alarms = Alarms(system, wall_clock)
        #: ``snapshot()`` for whoever shows figures.
        self.stats = Stats(broker, system)
        #: The last hour of them.
        self.history = History(broker, self.stats)
        self.presence = Presence(broker, system, wall_clock)
        self.monitor = Monitor(
            broker, system, self.alarms, self.stats.census, memory, limit or memory_limit()
        )
        self.machine = Machine(broker, self.alarms)
        #: Who does not keep up.
        self.slow = SlowSubscribers(broker)
        self.store_alarm = StoreAlarm(broker, self.alarms)
        self.bridge_alarms = BridgeAlarms(broker, self.alarms, bridges)
        self.sys_topics = SysTopics(broker, self.stats, system, wall_clock, memory, bridges)
        #: Packets of those that somebody looks into.
        self.traces = Traces(broker, wall_clock)
        #: What was kept of those that failed.
        self.flights = Flights(broker, wall_clock, self.alarms)
        self._system = system
        self._running = False

    def start(self) -> None:
        """Begin; the broker has been started. A second call does nothing."""
        if self._running:
            return
        self._running = True
        self.flights.start()
        self.stats.start()
        self.history.start()
        self.monitor.start()
        self.machine.start()
        self.slow.start()
        self.store_alarm.start()
        self.bridge_alarms.start()
        self.presence.start()
        self.sys_topics.start()

    def stop(self) -> None:
        """End, before the broker is stopped. Nothing stays retained, no call waits."""
        if not self._running:
            return
        self._running = False
        self.traces.stop()
        self.flights.stop()
        self.sys_topics.stop()
        self.presence.stop()
        self.bridge_alarms.stop()
        self.store_alarm.stop()
        self.slow.stop()
        self.machine.stop()
        self.monitor.stop()
        self.history.stop()
        self.stats.stop()
        self._system.forget_all()
