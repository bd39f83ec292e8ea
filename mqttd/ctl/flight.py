"""``mqttctl flight``: the last packets of a client, now or before a failure."""

from __future__ import annotations

from mqttd.ctl.context import Context
from mqttd.ctl.parser import Subparsers, command, group
from mqttd.ctl.traces import line, time_of


def add_to(subparsers: Subparsers) -> None:
    flight = group(subparsers, "flight", "the last packets of a client")
    command(flight, "list", show_all, "list clients whose packets were kept after a failure")
    showing = command(flight, "show", show, "show the last packets before a failure")
    asking = command(flight, "now", now, "show the last packets of a client that is connected")
    for each in (showing, asking):
        each.add_argument("client_id")
        each.add_argument(
            "--payload", type=int, default=0, metavar="BYTES", help="show so much of each payload"
        )


def show_all(context: Context) -> None:
    found = context.api.get("flight", "failures")["items"]
    if not context.out.as_json:
        found = [{**each, "at": time_of(each["at"])} for each in found]
    context.out.table(found, ("client_id", "address", "at", "count", "cause", "text"))


def show(context: Context) -> None:
    _show(context, "flight", "failures", context.arguments.client_id)


def now(context: Context) -> None:
    _show(context, "clients", context.arguments.client_id, "flight")


def _show(context: Context, *path: str) -> None:
    dump = context.api.get(*path, payload=context.arguments.payload)
    if context.out.as_json:
        context.out.value(dump)
        return
    for record in dump["records"]:
        context.out.line(line(record))
    context.out.line(f"{time_of(dump['at'])}  {dump['cause']}  {dump['text']}".rstrip())
