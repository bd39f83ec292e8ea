"""Alarms: what is wrong now, and what was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import list_of
from mqttd.admin.http.problems import not_found
from mqttd.admin.http.table import Parameter, Role, Route

if TYPE_CHECKING:
    from mqttd.admin.alarms import Alarm

ALARM = {
    "type": "object",
    "required": ["id", "severity", "title", "since"],
    "properties": {
        "id": {"type": "string", "description": "What it is about; it names the alarm."},
        "severity": {"enum": ["warning", "error", "critical"], "description": "How bad it is."},
        "title": {"type": "string", "description": "A few words, the same each time."},
        "summary": {"type": "string", "description": "A sentence with the figures of this time."},
        "since": {"type": "number", "description": "Unix time, seconds."},
        "cleared_at": {
            "type": ["number", "null"],
            "description": "Unix time, seconds; null: it is active.",
        },
    },
}


def shown(alarm: Alarm) -> dict[str, Any]:
    return {
        "id": alarm.id,
        "severity": alarm.severity.value,
        "title": alarm.title,
        "summary": alarm.summary,
        "since": alarm.since,
        "cleared_at": alarm.cleared_at,
    }


def show_all(call: Call) -> dict[str, Any]:
    alarms = call.daemon.admin.alarms
    found = alarms.history if call.query["history"] else alarms.active
    return {"items": [shown(alarm) for alarm in found]}


def clear(call: Call) -> None:
    if not call.daemon.admin.alarms.clear(call.path["alarm_id"]):
        raise not_found("active alarm", call.path["alarm_id"])


ROUTES = (
    Route(
        "GET",
        "/alarms",
        Role.VIEWER,
        show_all,
        "Active alarms, or those that are over",
        "alarms",
        query=(Parameter("history", {"type": "boolean"}, "Those that are over.", False),),
        answer=list_of(ALARM),
    ),
    Route(
        "DELETE",
        "/alarms/{alarm_id}",
        Role.OPERATOR,
        clear,
        "Clear an alarm; it comes again if its cause is still there",
        "alarms",
        example={"alarm_id": "flight-files"},
    ),
)
