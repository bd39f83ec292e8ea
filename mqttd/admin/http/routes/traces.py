"""Traces: start, end, read, and follow as events."""

from __future__ import annotations

from typing import Any

from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import list_of
from mqttd.admin.http.problems import Problem, not_found
from mqttd.admin.http.sse import MEDIA_TYPE, EventStream
from mqttd.admin.http.table import Parameter, Role, Route
from mqttd.admin.tracing import Trace, TraceError, Wanted
from mqttd.admin.tracing.traces import NAME

#: Bytes of a payload that are shown at most.
MOST_SHOWN = 65_536

_TEXT = {"type": "string", "maxLength": 4096}
_SHOWN = {"type": "integer", "minimum": 0, "maximum": MOST_SHOWN}

ORDER = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": {
            "type": "string",
            "pattern": f"^{NAME}$",
            "maxLength": 64,
            "description": "Its name; files have it, too.",
        },
        "client_id": {**_TEXT, "description": "A client id, or its beginning and a star."},
        "address": {**_TEXT, "description": "An address, or a network (CIDR)."},
        "topic": {**_TEXT, "description": "A topic filter."},
        "payload": {**_SHOWN, "description": "Bytes of each payload that are shown."},
        "duration": {
            "type": "integer",
            "minimum": 1,
            "maximum": 604_800,
            "description": "Seconds until it ends by itself; 600 if not given.",
        },
    },
}

TRACE = {
    "type": "object",
    "required": ["name", "running"],
    "properties": {
        "name": {"type": "string", "description": "Its name; files have it, too."},
        "running": {"type": "boolean", "description": "False: it has ended, and left a file."},
        "client_id": {
            "type": "string",
            "description": 'The client, or the beginning of its id and a star; "": any.',
        },
        "address": {"type": "string", "description": 'The address or network; "": any.'},
        "topic": {"type": "string", "description": 'The topic filter; "": all packets.'},
        "payload": {"type": "integer", "description": "Bytes of each payload that are shown."},
        "began": {"type": "number", "description": "Unix time, seconds."},
        "ends_at": {
            "type": ["number", "null"],
            "description": "Unix time, seconds; null: with its listener.",
        },
        "packets": {"type": "integer", "description": "Packets taken so far."},
        "missed": {"type": "integer", "description": "Packets over its rate."},
        "file": {"type": "string", "description": "On the broker's machine."},
        "problem": {
            "type": "string",
            "description": 'Why nothing is written any more; "": all is well.',
        },
    },
}


def shown(trace: Trace) -> dict[str, Any]:
    wanted = trace.wanted
    return {
        "name": trace.name,
        "running": True,
        "client_id": wanted.client_id,
        "address": wanted.address,
        "topic": wanted.topic,
        "payload": trace.shown,
        "began": trace.began,
        "ends_at": trace.ends_at,
        "packets": trace.packets,
        "missed": trace.missed,
        "file": trace.path,
        "problem": trace.problem,
    }


def show_all(call: Call) -> dict[str, Any]:
    traces = call.daemon.admin.traces
    over = [name for name in traces.recorded() if name not in traces.running]
    items = [shown(trace) for trace in traces.running.values()]
    return {"items": items + [{"name": name, "running": False} for name in over]}


def start(call: Call) -> dict[str, Any]:
    given = call.body
    wanted = Wanted(given.get("client_id", ""), given.get("address", ""), given.get("topic", ""))
    try:
        return shown(
            call.daemon.admin.traces.record(
                given["name"], wanted, given.get("payload", 0), given.get("duration", 600)
            )
        )
    except TraceError as error:
        raise Problem(409, _sentence(error)) from None


def end(call: Call) -> None:
    traces, name = call.daemon.admin.traces, call.path["name"]
    try:
        done = traces.delete(name) if call.query["delete"] else traces.end(name)
    except TraceError as error:
        raise Problem(409, _sentence(error)) from None
    if not done:
        raise not_found("trace that runs" if not call.query["delete"] else "trace", name)


def records(call: Call) -> dict[str, Any]:
    try:
        found = call.daemon.admin.traces.last_records(call.path["name"], call.query["limit"])
    except TraceError as error:
        raise Problem(404, _sentence(error)) from None
    return {"items": found}


def follow(call: Call) -> Any:
    """The records of a trace that runs, as they come."""
    trace = call.daemon.admin.traces.running.get(call.path["name"])
    if trace is None:
        raise not_found("trace that runs", call.path["name"])
    stream = EventStream(call, lambda: trace.sinks.remove(sink))

    def sink(record: dict[str, Any]) -> None:
        stream.send("packet", record)

    trace.sinks.append(sink)
    return stream.begun


def live(call: Call) -> Any:
    """A trace that lasts as long as its listener."""
    query = call.query
    traces = call.daemon.admin.traces
    wanted = Wanted(query["client_id"], query["address"], query["topic"])
    streams: list[EventStream] = []
    try:
        trace = traces.live(
            wanted, query["payload"], lambda record: streams[0].send("packet", record)
        )
    except TraceError as error:
        raise Problem(409, _sentence(error)) from None
    streams.append(EventStream(call, lambda: traces.end(trace.name)))
    return streams[0].begun


def _sentence(error: TraceError) -> str:
    text = str(error)
    return text[0].upper() + text[1:] + "."


ROUTES = (
    Route(
        "GET",
        "/traces",
        Role.VIEWER,
        show_all,
        "Traces that run, and those that have left a file",
        "traces",
        answer=list_of(TRACE),
    ),
    Route(
        "POST",
        "/traces",
        Role.OPERATOR,
        start,
        "Trace packets to a file",
        "traces",
        body=ORDER,
        example={
            "body": {"name": "pump-7", "client_id": "pump-7", "payload": 100, "duration": 600}
        },
        answer=TRACE,
        status=201,
        problems=(409,),
    ),
    Route(
        "DELETE",
        "/traces/{name}",
        Role.OPERATOR,
        end,
        "End a trace, and delete its files if asked to",
        "traces",
        query=(Parameter("delete", {"type": "boolean"}, "Delete its files too.", False),),
        example={"name": "pump-6", "delete": True},
        problems=(409,),
    ),
    Route(
        "GET",
        "/traces/{name}/records",
        Role.OPERATOR,
        records,
        "The last records in the file of a trace",
        "traces",
        query=(
            Parameter("limit", {"type": "integer", "minimum": 1, "maximum": 1000}, "At most.", 100),
        ),
        example={"name": "pump-8"},
        answer=list_of({"type": "object"}),
    ),
    Route(
        "GET",
        "/traces/{name}/events",
        Role.OPERATOR,
        follow,
        "Follow a trace that runs, as Server-Sent Events",
        "traces",
        example={"name": "pump-8"},
        answer={"type": "string"},
        produces=MEDIA_TYPE,
    ),
    Route(
        "GET",
        "/packets",
        Role.OPERATOR,
        live,
        "Trace packets, as Server-Sent Events, for as long as somebody listens",
        "traces",
        query=(
            Parameter("client_id", _TEXT, "A client id, or its beginning and a star.", ""),
            Parameter("address", _TEXT, "An address, or a network (CIDR).", ""),
            Parameter("topic", _TEXT, "A topic filter.", ""),
            Parameter("payload", _SHOWN, "Bytes of each payload that are shown.", 0),
        ),
        example={"client_id": "sensor-*", "payload": 100},
        answer={"type": "string"},
        produces=MEDIA_TYPE,
        problems=(409,),
    ),
)
