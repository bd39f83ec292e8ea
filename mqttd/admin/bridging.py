"""The alarms of bridges: one for each that has been away for too long.

``Admin`` starts it. It looks every few seconds, and knows of a bridge what anyone may ask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqttd.admin.alarms import Alarms, Severity

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.timers import Timer
    from mqttd.interfaces import IBridges

#: Seconds between looks.
INTERVAL = 5.0


class BridgeAlarms:
    """Follows the bridges of one broker, if it has any."""

    def __init__(self, broker: Broker, alarms: Alarms, bridges: IBridges | None) -> None:
        self._broker = broker
        self._alarms = alarms
        self._bridges = bridges
        self._timer: Timer | None = None
        #: Alarm ids of those that are away.
        self._active: set[str] = set()

    def start(self) -> None:
        if self._bridges is not None:
            self._timer = self._broker.wheel.call_later(INTERVAL, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        assert self._bridges is not None
        self._timer = self._broker.wheel.call_later(INTERVAL, self._look)
        away = {}
        for status in self._bridges.statuses():
            bound = status.settings.alarm_after
            if bound and status.away_for is not None and status.away_for >= bound:
                away[f"bridge:{status.name}"] = status
        for alarm_id in self._active - away.keys():
            self._alarms.clear(alarm_id)
        self._active &= away.keys()
        for alarm_id, status in away.items():
            self._active.add(alarm_id)
            self._alarms.activate(
                alarm_id,
                Severity.WARNING,
                "a bridge is away",
                f"{status.name!r} has no connection to {status.address} for "
                f"{status.away_for:.0f} s: {status.last_error}",
            )
