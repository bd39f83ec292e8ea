"""What happens, as it happens: clients that come and go, alarms, figures."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall

from mqttd.admin.alarms import Alarm
from mqttd.admin.http.call import Call
from mqttd.admin.http.routes.alarms import shown
from mqttd.admin.http.routes.stats import show as figures
from mqttd.admin.http.sse import MEDIA_TYPE, EventStream
from mqttd.admin.http.table import Parameter, Role, Route


class _Watch:
    """One listener's view of the broker."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._broker = call.daemon.broker
        self._broker.hooks.add("connected", self._connected)
        self._broker.hooks.add("disconnected", self._disconnected)
        self._alarms = call.daemon.admin.alarms
        self._alarms.observers.append(self._alarm)
        self._timer: IDelayedCall | None = None
        self.stream = EventStream(call, self._end)
        self._every = call.query["stats_every"]
        if self._every:
            self._tell()

    def _connected(self, connection: Any) -> None:
        self.stream.send("connected", _shown(connection))

    def _disconnected(self, connection: Any, reason: str) -> None:
        self.stream.send("disconnected", {**_shown(connection), "reason": reason})

    def _alarm(self, alarm: Alarm) -> None:
        self.stream.send("alarm" if alarm.cleared_at is None else "all-clear", shown(alarm))

    def _tell(self) -> None:
        self.stream.send("stats", figures(self._call))
        self._timer = self._call.daemon.clock.callLater(self._every, self._tell)

    def _end(self) -> None:
        self._broker.hooks.remove("connected", self._connected)
        self._broker.hooks.remove("disconnected", self._disconnected)
        self._alarms.observers.remove(self._alarm)
        if self._timer is not None:
            self._timer.cancel()


def _shown(connection: Any) -> dict[str, Any]:
    return {
        "client_id": connection.client_id,
        "user": connection.user_name,
        "address": connection.transport.peer.address,
    }


def watch(call: Call) -> Any:
    return _Watch(call).stream.begun


ROUTES = (
    Route(
        "GET",
        "/events",
        Role.VIEWER,
        watch,
        "Clients that come and go, alarms, and figures, as Server-Sent Events",
        "events",
        query=(
            Parameter(
                "stats_every",
                {"type": "integer", "minimum": 1, "maximum": 3600},
                "Seconds between figures (as GET /stats says them); none without it.",
            ),
        ),
        example={"stats_every": 5},
        answer={"type": "string"},
        produces=MEDIA_TYPE,
    ),
)
