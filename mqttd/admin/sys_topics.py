"""``$SYS``: the figures of the broker as retained messages.

At the start and at each ``sys_interval`` it takes a snapshot and publishes what
is not what it was. It counts nothing and decides no value: ``stats`` and
``names`` do. Events (presence, alarms, sysmon) go out by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from platform import python_implementation, python_version
from typing import TYPE_CHECKING

from twisted import __version__ as twisted_version

from mqttd.admin.memory import Memory, read_memory
from mqttd.admin.names import (
    bridges,
    emqttd_metrics,
    emqttd_stats,
    mosquitto,
    reasons,
    uptime_text,
)
from mqttd.admin.publisher import SystemPublisher
from mqttd.admin.stats import Stats

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.timers import Timer
    from mqttd.interfaces import IBridges

#: Not by an import statement: the package names the service too, which stands above.
VERSION: str = import_module("mqttd").__version__

DESCRIPTION = (
    f"mqttd, an MQTT broker on Twisted {twisted_version}, "
    f"{python_implementation()} {python_version()}"
)

#: Values that are there only once something has been counted.
_NOT_WHEN_ZERO = frozenset({"publish/bytes/received", "publish/bytes/sent"})


class SysTopics:
    """Publishes the figures of one broker."""

    def __init__(
        self,
        broker: Broker,
        stats: Stats,
        system: SystemPublisher,
        wall_clock: Callable[[], float],
        memory: Callable[[], Memory] = read_memory,
        bridges: IBridges | None = None,
    ) -> None:
        """*wall_clock* gives Unix time, in seconds."""
        self._broker = broker
        self._stats = stats
        self._system = system
        self._wall_clock = wall_clock
        self._memory = memory
        self._bridges = bridges
        self._said: dict[str, bytes] = {}
        self._timer: Timer | None = None

    def start(self) -> None:
        """Publish everything now, and go on; nothing at ``sys_interval`` 0."""
        if self._broker.settings.sys_interval:
            self._tick(self._broker.seconds())

    def stop(self) -> None:
        """Say no more, and leave nothing retained that would not stay true."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for topic in self._said:
            self._system.forget(topic)
        self._said.clear()

    def _tick(self, due: float) -> None:
        # From due time to due time, so that the wheel's lateness does not add up.
        now, interval = self._broker.seconds(), self._broker.settings.sys_interval
        following = due + interval if due + interval > now else now + interval
        self._timer = self._broker.wheel.call_at(following, self._tick, following)
        self.publish()

    def publish(self) -> None:
        """Publish what has changed since the last time, and take away what is gone."""
        values = self.values()
        for topic in self._said.keys() - values.keys():
            self._system.forget(topic)
            del self._said[topic]
        for topic, text in values.items():
            payload = text.encode()
            if self._said.get(topic) != payload and self._system.publish(topic, payload, True):
                self._said[topic] = payload

    def values(self) -> dict[str, str]:
        """All that is to be said now: topic -> text."""
        self._stats.sample()
        snapshot = self._stats.snapshot()
        now = datetime.fromtimestamp(self._wall_clock(), UTC)
        here = {
            "version": VERSION,
            "sysdescr": DESCRIPTION,
            "uptime": uptime_text(snapshot.uptime),
            "datetime": now.strftime("%Y-%m-%d %H:%M:%S"),
        }
        counts = emqttd_stats(snapshot) | emqttd_metrics(snapshot) | reasons(snapshot)
        here |= {name: str(count) for name, count in counts.items()}
        if self._bridges is not None:
            here |= bridges(self._bridges.statuses())
        there = mosquitto(snapshot, self._stats.load, self._memory(), VERSION)
        return (
            {"$SYS/brokers": self._broker.node}
            | {self._system.prefix + name: text for name, text in here.items()}
            | {
                f"$SYS/broker/{name}": text
                for name, text in there.items()
                if text != "0" or name not in _NOT_WHEN_ZERO
            }
        )
