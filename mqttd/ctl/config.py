"""``mqttctl config``: the settings in force."""

from __future__ import annotations

import json
from typing import Any

from mqttd.ctl.context import Context
from mqttd.ctl.errors import Failed
from mqttd.ctl.listeners import parse_value
from mqttd.ctl.parser import Subparsers, command, group


def add_to(subparsers: Subparsers) -> None:
    config = group(subparsers, "config", "the configuration in force")
    showing = command(config, "show", show, "show it, or one of its tables")
    showing.add_argument("table", nargs="?")
    setting = command(config, "set", change, "change settings until the next reload")
    setting.add_argument(
        "setting", nargs="+", metavar="TABLE.KEY=VALUE", help="such as log.level=debug"
    )


def show(context: Context) -> None:
    found = context.api.get("config")
    name = context.arguments.table
    if name is not None and name not in found:
        raise Failed(f"there is no table {name}; there are {', '.join(found)}")
    shown = found if name is None else found[name]
    if context.out.as_json or isinstance(shown, list):
        context.out.value(shown if isinstance(shown, list) else dict(shown))
        return
    for table, keys in found.items() if name is None else [(name, shown)]:
        tables = keys if isinstance(keys, list) else [keys]
        for each in tables:
            context.out.line(f"[{table}]")
            context.out.value({key: json.dumps(value) for key, value in each.items()})
            context.out.line("")


def change(context: Context) -> None:
    tables: dict[str, dict[str, Any]] = {}
    for text in context.arguments.setting:
        name, separator, value = text.partition("=")
        table, dot, key = name.partition(".")
        if not (separator and dot and key):
            raise Failed(f"{text}: write TABLE.KEY=VALUE, such as log.level=debug")
        tables.setdefault(table, {})[key] = _value(value)
    result = context.api.patch("config", body=tables)
    if context.out.as_json:
        context.out.value(result)
        return
    context.out.line("changed: " + (", ".join(result["changed"]) or "nothing"))
    if result["restart_needed"]:
        context.out.line("only a restart changes: " + ", ".join(result["restart_needed"]))


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    if text[:1] in ("[", "{", '"'):
        try:
            return json.loads(text)
        except ValueError:
            raise Failed(f"{text}: not JSON") from None
    return parse_value(text)
