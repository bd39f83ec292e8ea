"""``mqttctl bridges``: how they fare; stop and start them."""

from __future__ import annotations

from functools import partial

from mqttd.ctl.context import Context
from mqttd.ctl.parser import Subparsers, command, group

COLUMNS = ("name", "state", "address", "sent", "received", "queued", "last_error")

#: Action -> what it does, and what is said when it is done.
ACTIONS = {
    "stop": ("stop a bridge; what goes out waits", "is stopped"),
    "start": ("start a bridge; its password and certificates are read again", "is started"),
}


def add_to(subparsers: Subparsers) -> None:
    bridges = group(subparsers, "bridges", "the links to other brokers")
    command(bridges, "list", show_all, "list bridges")
    command(bridges, "show", show, "show one bridge").add_argument("name")
    for name, (text, _) in ACTIONS.items():
        command(bridges, name, partial(act, name), text).add_argument("name")


def show_all(context: Context) -> None:
    context.out.table(context.api.get("bridges")["items"], COLUMNS)


def show(context: Context) -> None:
    context.out.value(context.api.get("bridges", context.arguments.name))


def act(action: str, context: Context) -> None:
    context.api.post("bridges", context.arguments.name, action)
    context.out.line(f"{context.arguments.name} {ACTIONS[action][1]}")
