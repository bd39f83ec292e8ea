"""``mqttctl listeners``: look, stop and start, pause, limit."""

from __future__ import annotations

from functools import partial

from mqttd.ctl.context import Context
from mqttd.ctl.errors import Failed
from mqttd.ctl.parser import Subparsers, command, group

COLUMNS = ("name", "endpoint", "address", "open", "paused", "connections", "tls", "websocket")

#: Action -> what it does, and what is said when it is done.
ACTIONS = {
    "stop": ("close a listener; its clients stay", "is closed"),
    "start": ("open a listener that was closed", "is open"),
    "pause": ("let newcomers wait in the kernel", "accepts nobody for now"),
    "resume": ("accept newcomers again", "accepts clients"),
}


def add_to(subparsers: Subparsers) -> None:
    listeners = group(subparsers, "listeners", "the listeners of the configuration")
    command(listeners, "list", show_all, "list listeners")
    showing = command(listeners, "show", show, "show one listener and its limits")
    showing.add_argument("name")
    for name, (text, _) in ACTIONS.items():
        acting = command(listeners, name, partial(act, name), text)
        acting.add_argument("name")
    limiting = command(listeners, "limit", limit, "change limits until the next reload")
    limiting.add_argument("name")
    limiting.add_argument("limit", nargs="+", metavar="KEY=VALUE", help="as in [limits]")


def show_all(context: Context) -> None:
    context.out.table(context.api.get("listeners")["items"], COLUMNS)


def show(context: Context) -> None:
    context.out.value(context.api.get("listeners", context.arguments.name))


def act(action: str, context: Context) -> None:
    context.api.post("listeners", context.arguments.name, action)
    context.out.line(f"{context.arguments.name} {ACTIONS[action][1]}")


def limit(context: Context) -> None:
    given = context.arguments
    body = parse_pairs(given.limit)
    context.out.value(context.api.patch("listeners", given.name, "limits", body=body)["limits"])


def parse_pairs(pairs: list[str]) -> dict[str, str | int | float]:
    """``key=value`` arguments; numbers become numbers.

    :raise Failed: for one that is no pair.
    """
    found: dict[str, str | int | float] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise Failed(f"{pair}: write KEY=VALUE")
        found[key] = parse_value(value)
    return found


def parse_value(text: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
