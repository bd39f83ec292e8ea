"""Subscribers that do not keep up."""

from __future__ import annotations

from typing import Any

from attrs import asdict

from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import list_of
from mqttd.admin.http.table import Parameter, Role, Route

SLOW = {
    "type": "object",
    "required": ["client_id", "unacknowledged_for", "inflight", "queued"],
    "properties": {
        "client_id": {"type": "string", "description": "The client id."},
        "unacknowledged_for": {
            "type": "number",
            "description": "Seconds that its oldest message waits to be acknowledged, at least.",
        },
        "inflight": {"type": "integer", "description": "Messages sent and not acknowledged."},
        "queued": {"type": "integer", "description": "Messages that wait."},
        "queued_bytes": {"type": "integer", "description": "Their bytes."},
        "blocked": {"type": "boolean", "description": "It takes nothing from the network."},
        "dropped": {"type": "integer", "description": "Messages that it did not get, in all."},
    },
}


def show_slow(call: Call) -> dict[str, Any]:
    slow = call.daemon.admin.slow.latest
    return {"items": [asdict(each) for each in slow[: call.query["limit"]]]}


ROUTES = (
    Route(
        "GET",
        "/slow-subscribers",
        Role.VIEWER,
        show_slow,
        "Connected clients that do not keep up, the worst first",
        "clients",
        query=(
            Parameter("limit", {"type": "integer", "minimum": 1, "maximum": 1000}, "At most.", 100),
        ),
        answer=list_of(SLOW),
    ),
)
