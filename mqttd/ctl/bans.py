"""``mqttctl ban``: who is kept out."""

from __future__ import annotations

import time
from argparse import ArgumentTypeError
from typing import Any

from mqttd.access.bans import KINDS
from mqttd.config.values import format_duration, parse_duration
from mqttd.ctl.context import Context
from mqttd.ctl.parser import Subparsers, command, group

COLUMNS = ("kind", "value", "ends_in", "reason", "by")


def add_to(subparsers: Subparsers) -> None:
    bans = group(subparsers, "ban", "clients, users, addresses and networks that are kept out")
    adding = command(bans, "add", add, "ban somebody, and end the connections that concerns")
    adding.add_argument("--for", dest="duration", type=_duration, metavar="TIME", help="such as 1h")
    adding.add_argument("--reason", default="", help="a few words for those who read the list")
    removing = command(bans, "remove", remove, "end a ban")
    for each in (adding, removing):
        each.add_argument("kind", choices=[kind.replace("_", "-") for kind in KINDS])
        each.add_argument("value")
    listing = command(bans, "list", show_all, "list the bans in force")
    listing.add_argument("--limit", type=int, metavar="N", help="at most so many")


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{error}; such as 10m, 1h or 7d") from None


def add(context: Context) -> None:
    given = context.arguments
    body = {"kind": _kind(given), "value": given.value, "reason": given.reason}
    if given.duration is not None:
        body["seconds"] = given.duration
    ban = context.api.post("bans", body=body)
    if context.out.as_json:
        context.out.value(ban)
    else:
        kind = ban["kind"].replace("_", " ")
        context.out.line(f"{kind} {ban['value']} is banned; {ban['ended']} connections ended")


def remove(context: Context) -> None:
    given = context.arguments
    context.api.delete("bans", _kind(given), given.value)
    context.out.line(f"{given.kind} {given.value} is not banned any more")


def show_all(context: Context) -> None:
    now = time.time()
    bans = [
        {**ban, "ends_in": _left(ban, now)}
        for ban in context.api.items("bans", most=context.arguments.limit)
    ]
    context.out.table(bans, COLUMNS)


def _kind(given: Any) -> str:
    return str(given.kind).replace("-", "_")


def _left(ban: dict[str, Any], now: float) -> str:
    if ban["until"] is None:
        return "never"
    return format_duration(max(1, round(ban["until"] - now)))
