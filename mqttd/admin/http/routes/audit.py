"""The audit log: the last changes since the start."""

from __future__ import annotations

from typing import Any

from attrs import asdict

from mqttd.admin.http.audit import KEPT
from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import list_of
from mqttd.admin.http.table import Parameter, Role, Route

CHANGE = {
    "type": "object",
    "required": ["time", "user", "address", "method", "path", "status"],
    "properties": {
        "time": {"type": "number", "description": "Unix time, seconds."},
        "user": {"type": "string", "description": "Who did it."},
        "address": {"type": "string", "description": "Where from; unix: by the socket."},
        "method": {"type": "string", "description": "The method of the request."},
        "path": {"type": "string", "description": "As it came, percent-encoded."},
        "status": {"type": "integer", "description": "How it ended; 400 and above: not done."},
    },
}


def show(call: Call) -> dict[str, Any]:
    return {"items": [asdict(each) for each in call.daemon.control.audit.last(call.query["last"])]}


ROUTES = (
    Route(
        "GET",
        "/audit",
        Role.ADMINISTRATOR,
        show,
        "The last changes since the start, the newest first",
        "audit",
        query=(
            Parameter(
                "last",
                {"type": "integer", "minimum": 1, "maximum": KEPT},
                "How many to return at most.",
                100,
            ),
        ),
        answer=list_of(CHANGE),
    ),
)
