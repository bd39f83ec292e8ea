"""``mqttctl plugins``: look, load, reload and unload, until the next start."""

from __future__ import annotations

import tomllib
from typing import Any

from mqttd.ctl.context import Context
from mqttd.ctl.errors import Failed
from mqttd.ctl.parser import Subparsers, command, group


def add_to(subparsers: Subparsers) -> None:
    plugins = group(subparsers, "plugins", "what takes part by hooks")
    command(plugins, "list", show_all, "list the plugins that run")
    command(plugins, "available", show_available, "list the plugins that can be loaded")
    showing = command(plugins, "show", show, "show one plugin and its settings")
    showing.add_argument("name")
    loading = command(plugins, "load", load, "start one more, until the next start of the daemon")
    loading.add_argument("use", help="name of a plugin that is installed")
    reloading = command(plugins, "reload", reload, "stop one and make it anew")
    reloading.add_argument("name")
    for parser in (loading, reloading):
        parser.add_argument(
            "setting", nargs="*", metavar="KEY=VALUE", help="as in [[plugin]]; all, if any"
        )
    unloading = command(plugins, "unload", unload, "stop one")
    unloading.add_argument("name")


def show_all(context: Context) -> None:
    columns = ("name", "kind", "priority", "description")
    context.out.table(context.api.get("plugins")["items"], columns)


def show_available(context: Context) -> None:
    columns = ("use", "running", "description", "problem")
    context.out.table(context.api.get("available-plugins")["items"], columns)


def show(context: Context) -> None:
    context.out.value(context.api.get("plugins", context.arguments.name))


def load(context: Context) -> None:
    given = context.arguments
    body = {"use": given.use, **_settings(given.setting)}
    made = context.api.post("plugins", body=body)
    context.out.line(f"{made['name']} runs")


def reload(context: Context) -> None:
    given = context.arguments
    made = context.api.put("plugins", given.name, body=_settings(given.setting))
    context.out.line(f"{made['name']} runs anew")


def unload(context: Context) -> None:
    context.api.delete("plugins", context.arguments.name)
    context.out.line(f"{context.arguments.name} is unloaded")


def _settings(pairs: list[str]) -> dict[str, Any]:
    """The body that *pairs*, whose values are TOML or plain words, stand for."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise Failed(f"{pair}: write KEY=VALUE")
        try:
            settings[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key] = text
    return {"settings": settings} if settings else {}
