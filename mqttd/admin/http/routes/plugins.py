"""Plugins that run."""

from __future__ import annotations

import inspect
from typing import Any

from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import list_of
from mqttd.admin.http.table import Role, Route

PLUGIN = {
    "type": "object",
    "required": ["name", "kind"],
    "properties": {
        "name": {"type": "string"},
        "kind": {"type": "string", "description": "Module and class."},
        "description": {"type": "string"},
    },
}


def show_all(call: Call) -> dict[str, Any]:
    return {"items": [_shown(plugin) for plugin in call.daemon.plugins.running]}


def _shown(plugin: object) -> dict[str, Any]:
    kind = type(plugin)
    text = inspect.getdoc(kind) or ""
    return {
        "name": kind.__name__,
        "kind": f"{kind.__module__}:{kind.__qualname__}",
        "description": text.partition("\n")[0],
    }


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
)
