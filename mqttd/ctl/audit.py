"""``mqttctl audit``: who has changed what since the daemon's start."""

from __future__ import annotations

from mqttd.ctl.context import Context
from mqttd.ctl.output import moment
from mqttd.ctl.parser import Subparsers, command


def add_to(subparsers: Subparsers) -> None:
    showing = command(subparsers, "audit", show, "who has changed what, the newest first")
    showing.add_argument("--last", type=int, default=20, metavar="N", help="so many (default: 20)")


def show(context: Context) -> None:
    found = context.api.get("audit", last=context.arguments.last)["items"]
    if not context.out.as_json:
        found = [{**each, "time": moment(each["time"])} for each in found]
    context.out.table(found, ("time", "user", "address", "method", "path", "status"))
