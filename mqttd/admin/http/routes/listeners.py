"""Listeners: look, stop and start, pause, and change their limits while they run."""

from __future__ import annotations

from typing import Any

from attrs import evolve, fields

from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import list_of
from mqttd.admin.http.problems import Problem, not_found
from mqttd.admin.http.table import Role, Route
from mqttd.config import ConfigError
from mqttd.config.change import change_part, show_part
from mqttd.settings import ConnectionLimits, ListenerSettings

LISTENER = {
    "type": "object",
    "required": ["name", "endpoint", "open", "connections"],
    "properties": {
        "name": {"type": "string", "description": "Its name, or its endpoint."},
        "endpoint": {"type": "string", "description": "Where it listens, as a Twisted endpoint."},
        "address": {
            "type": ["string", "null"],
            "description": "Where it listens, as the system says; null: it is not open.",
        },
        "open": {"type": "boolean", "description": "Whether it listens."},
        "paused": {"type": "boolean", "description": "Newcomers wait."},
        "connections": {"type": "integer", "description": "Connections that came by it."},
        "tls": {"type": "boolean", "description": "It speaks TLS."},
        "websocket": {"type": "boolean", "description": "It speaks MQTT over WebSocket."},
        "proxy_protocol": {"type": "boolean", "description": "It expects a PROXY header."},
        "allow_anonymous": {"type": "boolean", "description": "It takes clients without a name."},
        "limits": {"type": "object", "description": "Its limits, as [limits] writes them."},
    },
}

LIMITS = {
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,
    "properties": {
        field.name: {
            "type": ["string", "number", "integer"],
            "description": f"As limits.{field.name} in the configuration.",
        }
        for field in fields(ConnectionLimits)
    },
}


def show_all(call: Call) -> dict[str, Any]:
    return {"items": [_shown(call, settings) for settings in call.daemon.settings.listeners]}


def show(call: Call) -> dict[str, Any]:
    return _shown(call, _find(call))


def stop(call: Call) -> None:
    settings = _find(call)
    if settings.endpoint not in call.daemon.listeners:
        raise Problem(409, f"{call.path['name']} is not open.")
    call.daemon.close_listener(settings.endpoint)


async def start(call: Call) -> None:
    settings = _find(call)
    if settings.endpoint in call.daemon.listeners:
        raise Problem(409, f"{call.path['name']} is open.")
    try:
        await call.daemon.open_listener(settings)
    except Exception as error:
        raise Problem(409, str(error)) from None


def pause(call: Call) -> None:
    _running(call).pause()


def resume(call: Call) -> None:
    _running(call).resume()


def change(call: Call) -> dict[str, Any]:
    settings = _find(call)
    try:
        limits = change_part(settings.limits, call.body, ("limits",))
    except ConfigError as error:
        raise Problem(422, "The limits stay as they were.", errors=error.lines()) from None
    changed = evolve(settings, limits=limits)
    daemon = call.daemon
    others = (changed if each is settings else each for each in daemon.settings.listeners)
    result = daemon.take_over(evolve(daemon.settings, listeners=tuple(others)))
    if result.errors:
        raise Problem(409, "The limits stay as they were.", errors=result.errors)
    return _shown(call, changed)


def _find(call: Call) -> ListenerSettings:
    name = call.path["name"]
    for settings in call.daemon.settings.listeners:
        if name in (settings.name, settings.endpoint):
            found: ListenerSettings = settings
            return found
    raise not_found("listener", name)


def _running(call: Call) -> Any:
    listener = call.daemon.listeners.get(_find(call).endpoint)
    if listener is None:
        raise Problem(409, f"{call.path['name']} is not open.")
    return listener


def _shown(call: Call, settings: ListenerSettings) -> dict[str, Any]:
    listener = call.daemon.listeners.get(settings.endpoint)
    address = None if listener is None else listener.address
    return {
        "name": settings.name or settings.endpoint,
        "endpoint": settings.endpoint,
        "address": None if address is None else _written(address),
        "open": address is not None,
        "paused": listener is not None and listener.paused,
        "connections": 0 if listener is None else listener.connections,
        "tls": settings.tls is not None,
        "websocket": settings.websocket is not None,
        "proxy_protocol": settings.proxy_protocol,
        "allow_anonymous": settings.allow_anonymous,
        "limits": show_part(settings.limits),
    }


def _written(address: Any) -> str:
    if hasattr(address, "host"):
        host = f"[{address.host}]" if ":" in address.host else address.host
        return f"{host}:{address.port}"
    name = getattr(address, "name", None)
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name or address)


ROUTES = (
    Route(
        "GET",
        "/listeners",
        Role.VIEWER,
        show_all,
        "All listeners of the configuration",
        "listeners",
        answer=list_of(LISTENER),
    ),
    Route(
        "GET",
        "/listeners/{name}",
        Role.VIEWER,
        show,
        "One listener",
        "listeners",
        example={"name": "main"},
        answer=LISTENER,
    ),
    Route(
        "PATCH",
        "/listeners/{name}/limits",
        Role.OPERATOR,
        change,
        "Change limits, written as in the configuration, until the next reload",
        "listeners",
        body=LIMITS,
        example={"name": "main", "body": {"maximum_connections": 1000, "connection_rate": "100/s"}},
        answer=LISTENER,
        problems=(409,),
    ),
    Route(
        "POST",
        "/listeners/{name}/stop",
        Role.OPERATOR,
        stop,
        "Close a listener; its clients stay",
        "listeners",
        example={"name": "old"},
        problems=(409,),
    ),
    Route(
        "POST",
        "/listeners/{name}/start",
        Role.OPERATOR,
        start,
        "Open a listener that was closed",
        "listeners",
        example={"name": "new"},
        problems=(409,),
    ),
    Route(
        "POST",
        "/listeners/{name}/pause",
        Role.OPERATOR,
        pause,
        "Let newcomers wait in the kernel",
        "listeners",
        example={"name": "main"},
        problems=(409,),
    ),
    Route(
        "POST",
        "/listeners/{name}/resume",
        Role.OPERATOR,
        resume,
        "Accept newcomers again",
        "listeners",
        example={"name": "main"},
        problems=(409,),
    ),
)
