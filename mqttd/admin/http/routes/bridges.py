"""Bridges: how they fare; stop and start them by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import list_of
from mqttd.admin.http.problems import Problem, not_found
from mqttd.admin.http.table import Role, Route
from mqttd.bridge import BridgeError, State
from mqttd.config.change import show_part

if TYPE_CHECKING:
    from mqttd.bridge import BridgeStatus

BRIDGE = {
    "type": "object",
    "required": ["name", "state", "since", "sent", "received", "queued"],
    "properties": {
        "name": {"type": "string", "description": "As the configuration has it."},
        "state": {"enum": [state.value for state in State], "description": "How it fares."},
        "since": {"type": "number", "description": "Unix time, seconds."},
        "away_for": {
            "type": ["number", "null"],
            "description": "Seconds without a connection that should be there; null: all is well.",
        },
        "address": {"type": "string", "description": "The one in use, or tried next."},
        "addresses": {"type": "array", "items": {"type": "string"}, "description": "All of them."},
        "client_id": {"type": "string", "description": "On the other side."},
        "version": {"type": "string", "description": "Of MQTT, on the other side."},
        "start": {"type": "string", "description": "When it connects."},
        "last_error": {"type": "string", "description": "Why it was away last."},
        "attempts": {"type": "integer", "description": "To connect."},
        "sent": {"type": "integer", "description": "Messages that went out."},
        "received": {"type": "integer", "description": "Messages that came in."},
        "dropped": {
            "type": "object",
            "description": "Messages that did neither, by reason.",
            "additionalProperties": {"type": "integer"},
        },
        "queued": {"type": "integer", "description": "Messages that wait to go out."},
        "queued_bytes": {"type": "integer", "description": "Their bytes."},
        "topics": {
            "type": "array",
            "items": {"type": "object"},
            "description": "What is passed on, as in [[bridge]].",
        },
    },
}


def show_all(call: Call) -> dict[str, Any]:
    return {"items": [_shown(each) for each in call.daemon.bridges.statuses()]}


def show(call: Call) -> dict[str, Any]:
    name = call.path["name"]
    for each in call.daemon.bridges.statuses():
        if each.name == name:
            return _shown(each)
    raise not_found("bridge", name)


def stop(call: Call) -> None:
    if not _is_started(call):
        raise Problem(409, f"{call.path['name']} is stopped.")
    call.daemon.bridges.stop_one(call.path["name"])


def start(call: Call) -> None:
    if _is_started(call):
        raise Problem(409, f"{call.path['name']} is started.")
    try:
        call.daemon.bridges.start_one(call.path["name"])
    except BridgeError as error:
        raise Problem(409, str(error)) from None


def _is_started(call: Call) -> bool:
    name = call.path["name"]
    try:
        started: bool = call.daemon.bridges.is_started(name)
    except KeyError:
        raise not_found("bridge", name) from None
    return started


def _shown(status: BridgeStatus) -> dict[str, Any]:
    settings = status.settings
    away_for = status.away_for
    return {
        "name": status.name,
        "state": status.state.value,
        "since": round(status.since, 3),
        "away_for": None if away_for is None else round(away_for, 3),
        "address": status.address,
        "addresses": list(settings.addresses),
        "client_id": status.client_id,
        "version": settings.version,
        "start": settings.start.value,
        "last_error": status.last_error,
        "attempts": status.attempts,
        "sent": status.sent,
        "received": status.received,
        "dropped": dict(status.dropped),
        "queued": status.queued,
        "queued_bytes": status.queued_bytes,
        "topics": [show_part(topic) for topic in settings.topics],
    }


ROUTES = (
    Route(
        "GET",
        "/bridges",
        Role.VIEWER,
        show_all,
        "All bridges of the configuration, and how they fare",
        "bridges",
        answer=list_of(BRIDGE),
    ),
    Route(
        "GET",
        "/bridges/{name}",
        Role.VIEWER,
        show,
        "One bridge",
        "bridges",
        example={"name": "uplink"},
        answer=BRIDGE,
    ),
    Route(
        "POST",
        "/bridges/{name}/stop",
        Role.OPERATOR,
        stop,
        "Stop a bridge; what goes out waits",
        "bridges",
        example={"name": "uplink"},
        problems=(409,),
    ),
    Route(
        "POST",
        "/bridges/{name}/start",
        Role.OPERATOR,
        start,
        "Start a bridge that is stopped; its files are read again",
        "bridges",
        example={"name": "uplink"},
        problems=(409,),
    ),
)
