"""The alarm of the store: it lasts as long as nothing can be made safe.

``Admin`` starts it. The broker's own part in a failure is in
``mqttd.broker.durability``; this only says it to those who listen to ``$SYS``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqttd.admin.alarms import Alarms, Severity

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker

STORE_ALARM = "store"


class StoreAlarm:
    """Follows the store of one broker, if it has one."""

    def __init__(self, broker: Broker, alarms: Alarms) -> None:
        self._alarms = alarms
        self._store = None if broker.durability is None else broker.durability.store

    def start(self) -> None:
        if self._store is not None:
            self._store.on_problem.append(self._changed)
            self._changed(self._store.problem)

    def stop(self) -> None:
        if self._store is not None:
            self._store.on_problem.remove(self._changed)

    def _changed(self, problem: str | None) -> None:
        # Another problem takes the place of the first.
        self._alarms.clear(STORE_ALARM)
        if problem is not None:
            title = "nothing is kept, nor acknowledged"
            self._alarms.activate(STORE_ALARM, Severity.CRITICAL, title, problem)
