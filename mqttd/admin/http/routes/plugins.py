"""Plugins: look, load, reload and unload, until the next start."""

from __future__ import annotations

import inspect
from typing import Any

from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import list_of
from mqttd.admin.http.problems import Problem, not_found
from mqttd.admin.http.table import Role, Route
from mqttd.config import ConfigError
from mqttd.config.change import read_plugin, show_plugin, with_secrets
from mqttd.plugins import PluginError, RunningPlugin, find_plugin
from mqttd.settings import PluginSettings

PLUGIN = {
    "type": "object",
    "required": ["name", "kind", "priority"],
    "properties": {
        "name": {"type": "string", "description": "Its name here."},
        "kind": {"type": "string", "description": "Module and class."},
        "priority": {"type": "integer", "description": "Its hooks come before those with more."},
        "description": {"type": "string", "description": "What it is for, in its own words."},
        "settings": {"type": "object", "description": "As in [[plugin]], without secrets."},
    },
}
SETTINGS = {"type": "object", "description": "As in [[plugin]]."}
AVAILABLE = {
    "type": "object",
    "required": ["use", "running"],
    "properties": {
        "use": {"type": "string", "description": "What to call it by."},
        "running": {"type": "boolean", "description": "It runs already."},
        "description": {"type": "string", "description": "What it is for, in its own words."},
        "settings": {
            "type": "object",
            "description": "As in [[plugin]], what holds if nothing is said.",
        },
        "problem": {
            "type": ["string", "null"],
            "description": "Why it cannot be used, or not without settings.",
        },
    },
}
USE = {"type": "string", "minLength": 1, "maxLength": 1024}


def show_all(call: Call) -> dict[str, Any]:
    return {"items": [_shown(each) for each in call.daemon.plugins.running]}


def show_available(call: Call) -> dict[str, Any]:
    plugins = call.daemon.plugins
    running = {each.settings.use for each in plugins.running if each.settings is not None}
    return {"items": [_available(use, use in running) for use in sorted(plugins.allowed)]}


def _available(use: str, running: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"use": use, "running": running, "problem": None}
    try:
        shown["description"] = _first_line(find_plugin(use))
        shown["settings"] = show_plugin(read_plugin({"use": use}))
    except PluginError as error:
        shown["problem"] = str(error)
    except ConfigError as error:
        shown["problem"] = "\n".join(error.lines())
    return shown


def show(call: Call) -> dict[str, Any]:
    return _with_settings(_find(call))


def load(call: Call) -> dict[str, Any]:
    use = call.body["use"]
    plugins = call.daemon.plugins
    if use not in plugins.allowed:
        known = ", ".join(sorted(plugins.allowed))
        raise Problem(
            422,
            f"No plugin {use!r} is installed, nor in the configuration; there are {known}.",
        )
    settings = _read(use, call.body.get("settings", {}))
    try:
        return _with_settings(plugins.load(settings))
    except PluginError as error:
        raise Problem(409, f"{error}.") from None


async def reload(call: Call) -> dict[str, Any]:
    each = _find(call)
    settings = each.settings
    if settings is not None and "settings" in call.body:
        settings = _read(settings.use, with_secrets(call.body["settings"], settings))
    try:
        return _with_settings(await call.daemon.plugins.reload(each.name, settings))
    except KeyError:
        raise not_found("plugin", each.name) from None
    except PluginError as error:
        raise Problem(409, f"{error}.") from None


async def unload(call: Call) -> None:
    await call.daemon.plugins.unload(_find(call).name)


def _find(call: Call) -> RunningPlugin:
    name = call.path["name"]
    try:
        found: RunningPlugin = call.daemon.plugins.find(name)
        return found
    except KeyError:
        raise not_found("plugin", name) from None


def _read(use: str, settings: dict[str, Any]) -> PluginSettings:
    try:
        return read_plugin({**settings, "use": use})
    except ConfigError as error:
        raise Problem(422, "This plugin cannot be so.", errors=error.lines()) from None


def _shown(each: RunningPlugin) -> dict[str, Any]:
    kind = type(each.plugin)
    return {
        "name": each.name,
        "kind": f"{kind.__module__}:{kind.__qualname__}",
        "priority": each.priority,
        "description": _first_line(kind),
    }


def _first_line(kind: Any) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def _with_settings(each: RunningPlugin) -> dict[str, Any]:
    settings = {} if each.settings is None else show_plugin(each.settings)
    return {**_shown(each), "settings": settings}


ROUTES = (
    Route(
        "GET",
        "/plugins",
        Role.VIEWER,
        show_all,
        "Plugins that run",
        "plugins",
        answer=list_of(PLUGIN),
    ),
    Route(
        "GET",
        "/available-plugins",
        Role.ADMINISTRATOR,
        show_available,
        "Plugins that can be loaded: those that are installed, or in the configuration",
        "plugins",
        answer=list_of(AVAILABLE),
    ),
    Route(
        "GET",
        "/plugins/{name}",
        Role.ADMINISTRATOR,
        show,
        "One plugin and its settings",
        "plugins",
        example={"name": "rewrite"},
        answer=PLUGIN,
    ),
    Route(
        "POST",
        "/plugins",
        Role.ADMINISTRATOR,
        load,
        "Start one more plugin that is installed, until the next start of the daemon",
        "plugins",
        body={
            "type": "object",
            "required": ["use"],
            "additionalProperties": False,
            "properties": {
                "use": {**USE, "description": "What to start: a name, or package.module:Class."},
                "settings": SETTINGS,
            },
        },
        example={
            "body": {
                "use": "auto-subscribe",
                "settings": {"subscriptions": [{"filter": "news/%c", "qos": 1}]},
            }
        },
        answer=PLUGIN,
        status=201,
        problems=(409,),
    ),
    Route(
        "PUT",
        "/plugins/{name}",
        Role.ADMINISTRATOR,
        reload,
        "Stop a plugin and make it anew, of these settings or of what it had",
        "plugins",
        body={
            "type": "object",
            "additionalProperties": False,
            "properties": {"settings": SETTINGS},
        },
        example={
            "name": "rewrite",
            "body": {"settings": {"rules": [{"filter": "old/#", "topic": "new/$1"}]}},
        },
        answer=PLUGIN,
        problems=(409,),
    ),
    Route(
        "DELETE",
        "/plugins/{name}",
        Role.ADMINISTRATOR,
        unload,
        "Stop a plugin",
        "plugins",
        example={"name": "delayed"},
    ),
)
