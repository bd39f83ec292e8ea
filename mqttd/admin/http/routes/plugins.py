"""Plugins: look, load, reload and unload, until the next start."""

from __future__ import annotations

import inspect
from typing import Any

from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import list_of
from mqttd.admin.http.problems import Problem, not_found
from mqttd.admin.http.table import Role, Route
from mqttd.config import ConfigError
from mqttd.config.change import read_plugin, show_plugin
from mqttd.plugins import PluginError, RunningPlugin, offered
from mqttd.settings import PluginSettings

PLUGIN = {
    "type": "object",
    "required": ["name", "kind", "priority"],
    "properties": {
        "name": {"type": "string"},
        "kind": {"type": "string", "description": "Module and class."},
        "priority": {"type": "integer", "description": "Its hooks come before those with more."},
        "description": {"type": "string"},
        "settings": {"type": "object", "description": "As in [[plugin]], without secrets."},
    },
}
SETTINGS = {"type": "object", "description": "As in [[plugin]]."}
USE = {"type": "string", "minLength": 1, "maxLength": 1024}


def show_all(call: Call) -> dict[str, Any]:
    return {"items": [_shown(each) for each in call.daemon.plugins.running]}


def show(call: Call) -> dict[str, Any]:
    return _with_settings(_find(call))


def load(call: Call) -> dict[str, Any]:
    use = call.body["use"]
    plugins = call.daemon.plugins
    if not plugins.is_allowed(use):
        known = ", ".join(sorted(offered()))
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
        settings = _read(settings.use, call.body["settings"])
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
    text = inspect.getdoc(kind) or ""
    return {
        "name": each.name,
        "kind": f"{kind.__module__}:{kind.__qualname__}",
        "priority": each.priority,
        "description": text.partition("\n")[0],
    }


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
        "/plugins/{name}",
        Role.ADMINISTRATOR,
        show,
        "One plugin and its settings",
        "plugins",
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
            "properties": {"use": USE, "settings": SETTINGS},
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
    ),
)
