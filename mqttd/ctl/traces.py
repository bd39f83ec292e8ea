"""``mqttctl trace``: packets of a client, an address or a topic, live or to a file."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from mqttd.ctl.context import Context
from mqttd.ctl.output import clean, shown
from mqttd.ctl.parser import Subparsers, command, group

#: Parts of a record that stand at the beginning of its line.
HEAD = frozenset({"at", "client_id", "address", "direction", "packet", "event", "head"})
ARROWS = {"in": "->", "out": "<-"}


def add_to(subparsers: Subparsers) -> None:
    traces = group(subparsers, "trace", "packets of a client, an address or a topic")
    watching = command(traces, "live", live, "show packets until ^C")
    _what(watching)
    watching.add_argument("--count", type=int, metavar="N", help="end after so many packets")
    starting = command(traces, "start", start, "write packets to a file on the broker's machine")
    starting.add_argument("name")
    _what(starting)
    starting.add_argument("--for", dest="duration", type=int, metavar="SECONDS", default=600)
    command(traces, "list", show_all, "list traces that run or have a file")
    showing = command(traces, "show", show, "show the last records of a file")
    showing.add_argument("name")
    showing.add_argument("--limit", type=int, default=100, metavar="N")
    following = command(traces, "follow", follow, "show packets of a trace that runs, until ^C")
    following.add_argument("name")
    following.add_argument("--count", type=int, metavar="N", help="end after so many packets")
    stopping = command(traces, "stop", stop, "end a trace; its file stays")
    stopping.add_argument("name")
    stopping.add_argument("--delete", action="store_true", help="delete its files too")


def _what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--client", default="", help="client id, or its beginning and a star")
    parser.add_argument("--address", default="", help="address or network")
    parser.add_argument("--topic", default="", help="topic filter; slows all clients down")
    parser.add_argument(
        "--payload", type=int, default=0, metavar="BYTES", help="show so much of each payload"
    )


def _wanted(context: Context) -> dict[str, Any]:
    given = context.arguments
    wanted = {"client_id": given.client, "address": given.address, "topic": given.topic}
    return {name: text for name, text in wanted.items() if text} | {"payload": given.payload}


def live(context: Context) -> None:
    _print_events(context, ("packets",), _wanted(context))


def follow(context: Context) -> None:
    _print_events(context, ("traces", context.arguments.name, "events"), {})


def start(context: Context) -> None:
    given = context.arguments
    body = {"name": given.name, "duration": given.duration, **_wanted(context)}
    trace = context.api.post("traces", body=body)
    if context.out.as_json:
        context.out.value(trace)
    else:
        context.out.line(f"for {given.duration} s to {trace['file']}")


def show_all(context: Context) -> None:
    found = context.api.get("traces")["items"]
    columns = ("name", "running", "client_id", "address", "topic", "packets", "missed", "file")
    context.out.table(found, columns)


def show(context: Context) -> None:
    given = context.arguments
    for record in context.api.get("traces", given.name, "records", limit=given.limit)["items"]:
        _print(context, record)


def stop(context: Context) -> None:
    given = context.arguments
    context.api.delete("traces", given.name, delete=given.delete)
    context.out.line(f"the trace {given.name} is {'deleted' if given.delete else 'ended'}")


def _print_events(context: Context, path: tuple[str, ...], query: dict[str, Any]) -> None:
    count = 0
    for event, data in context.api.events(*path, **query):
        if event == "missed":
            context.out.line(f"({data['events']} packets were missed)")
        if event != "packet":
            continue
        _print(context, data)
        count += 1
        if count == context.arguments.count:
            return


def _print(context: Context, record: dict[str, Any]) -> None:
    if context.out.as_json:
        context.out.record(record)
    else:
        context.out.line(line(record))


def time_of(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def line(record: dict[str, Any]) -> str:
    """A record for people: when, which way, who, what."""
    at = datetime.fromtimestamp(record["at"], UTC).strftime("%H:%M:%S.%f")
    arrow = ARROWS.get(record["direction"], "--")
    what = record.get("packet") or record.get("event") or ""
    rest = {name: value for name, value in record.items() if name not in HEAD}
    who = clean(record.get("client_id") or record.get("address") or "")
    return f"{at} {arrow} " + "  ".join(filter(None, (who, what, shown(rest) if rest else "")))
