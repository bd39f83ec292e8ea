"""The flight recorder: the last packets of a client, now or before a failure."""

from __future__ import annotations

from typing import Any

from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import list_of
from mqttd.admin.http.problems import Problem, not_found
from mqttd.admin.http.table import Parameter, Role, Route
from mqttd.admin.tracing.files import Filed, FlightFileError
from mqttd.admin.tracing.flights import Dump
from mqttd.broker.reasons import FAILURES

FAILURE = {
    "type": "object",
    "required": ["client_id", "at", "cause", "text"],
    "properties": {
        "client_id": {"type": "string", "description": "The client id."},
        "address": {"type": "string", "description": "Where the client comes from."},
        "version": {"type": "integer", "description": "Protocol level: 3, 4 or 5."},
        "at": {"type": "number", "description": "Unix time, seconds."},
        "cause": {
            "enum": ["violation", "error", *sorted(FAILURES), "request"],
            "description": "What kind of failure; request: none, somebody asked.",
        },
        "text": {"type": "string", "description": "What went wrong."},
        "count": {"type": "integer", "description": "Failures of this client."},
    },
}

DUMP = {
    "type": "object",
    "required": [*FAILURE["required"], "records"],
    "properties": {
        **FAILURE["properties"],  # type: ignore[dict-item]
        "keep_alive": {"type": "integer", "description": "Seconds; 0: none."},
        "subscriptions": {
            "type": "array",
            "items": {"type": "object"},
            "description": "What it was subscribed to.",
        },
        "offending": {
            "type": ["object", "null"],
            "description": "The packet that broke the rules; null: it was none.",
        },
        "records": {
            "type": "array",
            "items": {"type": "object"},
            "description": "The packets, the oldest first.",
        },
    },
}

SHOWN = Parameter(
    "payload",
    {"type": "integer", "minimum": 0, "maximum": 128},
    "Bytes of each payload that are shown, as far as they were kept.",
    0,
)


def failures(call: Call) -> dict[str, Any]:
    kept = call.daemon.admin.flights.failures
    return {"items": [dump.summary() for dump in reversed(kept.values())]}


def failure(call: Call) -> dict[str, Any]:
    client_id = call.path["client_id"]
    found: Dump | Filed | None = call.daemon.admin.flights.failures.get(client_id)
    if found is None:
        raise not_found("failure kept of the client", client_id)
    try:
        return found.document(call.query["payload"])
    except FlightFileError as error:
        raise Problem(404, f"The failure is lost: {error}.") from None


def now(call: Call) -> dict[str, Any]:
    client_id = call.path["client_id"]
    found: Dump | None = call.daemon.admin.flights.of(client_id)
    if found is None:
        raise not_found("connected client", client_id)
    return found.document(call.query["payload"])


ROUTES = (
    Route(
        "GET",
        "/flight/failures",
        Role.VIEWER,
        failures,
        "Clients whose last packets were kept after a failure",
        "flight",
        answer=list_of(FAILURE),
    ),
    Route(
        "GET",
        "/flight/failures/{client_id}",
        Role.OPERATOR,
        failure,
        "The last packets of a client before its latest failure",
        "flight",
        query=(SHOWN,),
        example={"client_id": "pump-9"},
        answer=DUMP,
    ),
    Route(
        "GET",
        "/clients/{client_id}/flight",
        Role.OPERATOR,
        now,
        "The last packets of a client that is connected",
        "flight",
        query=(SHOWN,),
        example={"client_id": "sensor-12"},
        answer=DUMP,
    ),
)
