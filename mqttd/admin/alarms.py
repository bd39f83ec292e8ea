"""Alarms: what is wrong now, and what was wrong before.

Whoever watches something activates an alarm and clears it; the registry keeps
it, logs it and says it on ``$SYS/brokers/<node>/alarms``. An alarm is a state,
not an event: activating it again changes nothing, and an alert stays retained
until the alarm is cleared. What deserves one is decided elsewhere
(``monitor``).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from enum import Enum

from attrs import evolve, frozen
from twisted.logger import Logger, LogLevel

from mqttd.admin.publisher import SystemPublisher, level_of

log = Logger()

#: Alarms that may be active; bounds what a flood of causes can use.
MAXIMUM_ACTIVE = 1000

#: Cleared alarms that are remembered.
MAXIMUM_HISTORY = 100


class Severity(Enum):
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


_LEVELS = {
    Severity.WARNING: LogLevel.warn,
    Severity.ERROR: LogLevel.error,
    Severity.CRITICAL: LogLevel.critical,
}


@frozen
class Alarm:
    """One thing that is, or was, wrong."""

    id: str
    severity: Severity
    #: A few words that are the same each time.
    title: str
    #: A sentence with the figures of this time.
    summary: str
    #: Unix time, seconds.
    since: float
    #: Unix time at which it was over; None while it is active.
    cleared_at: float | None = None


class Alarms:
    """The registry of one broker."""

    def __init__(self, system: SystemPublisher, wall_clock: Callable[[], float]) -> None:
        """*wall_clock* gives Unix time."""
        self._system = system
        self._wall_clock = wall_clock
        self._active: dict[str, Alarm] = {}
        self._history: deque[Alarm] = deque(maxlen=MAXIMUM_HISTORY)
        #: Called with each alarm when it begins, and when it is over.
        self.observers: list[Callable[[Alarm], None]] = []
        #: Alarms that were not taken, since too many were active.
        self.left_out = 0

    @property
    def active(self) -> tuple[Alarm, ...]:
        """What is wrong now, oldest first."""
        return tuple(self._active.values())

    @property
    def history(self) -> tuple[Alarm, ...]:
        """What was wrong, as far as it is remembered; latest last."""
        return tuple(self._history)

    def __contains__(self, alarm_id: str) -> bool:
        return alarm_id in self._active

    def activate(self, alarm_id: str, severity: Severity, title: str, summary: str) -> bool:
        """Raise an alarm; False if it is active already, or too many are."""
        if alarm_id in self._active:
            return False
        if len(self._active) >= MAXIMUM_ACTIVE:
            self.left_out += 1
            return False
        alarm = Alarm(alarm_id, severity, title, summary, self._wall_clock())
        self._active[alarm_id] = alarm
        log.emit(
            _LEVELS[severity],
            "Alarm {alarm_id!r}: {title}: {summary}",
            alarm_id=alarm_id,
            title=title,
            summary=summary,
        )
        self._system.publish(self._topic(alarm_id, "alert"), _alert(alarm), retain=True)
        self._tell(alarm)
        return True

    def clear(self, alarm_id: str) -> bool:
        """End an alarm; False if it is not active."""
        alarm = self._active.pop(alarm_id, None)
        if alarm is None:
            return False
        now = self._wall_clock()
        over = evolve(alarm, cleared_at=now)
        self._history.append(over)
        log.info("Alarm {alarm_id!r} is over", alarm_id=alarm_id)
        self._system.forget(self._topic(alarm_id, "alert"))
        payload = json.dumps({"id": alarm_id, "ts": int(now)}).encode()
        self._system.publish(self._topic(alarm_id, "clear"), payload)
        self._tell(over)
        return True

    def _tell(self, alarm: Alarm) -> None:
        for observer in list(self.observers):
            observer(alarm)

    def _topic(self, alarm_id: str, what: str) -> str:
        return f"{self._system.prefix}alarms/{level_of(alarm_id)}/{what}"


def _alert(alarm: Alarm) -> bytes:
    fields = {
        "id": alarm.id,
        "severity": alarm.severity.value,
        "title": alarm.title,
        "summary": alarm.summary,
        "ts": int(alarm.since),
    }
    return json.dumps(fields).encode()
