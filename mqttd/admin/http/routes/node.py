"""The broker as a whole: what it is, and reading its settings again."""

from __future__ import annotations

import os
import platform
from typing import Any

from twisted.copyright import version as twisted_version

from mqttd import __version__
from mqttd.admin.http.call import Call
from mqttd.admin.http.problems import Problem
from mqttd.admin.http.schemas import RELOADED
from mqttd.admin.http.table import Role, Route


def show(call: Call) -> dict[str, Any]:
    daemon = call.daemon
    snapshot = daemon.admin.stats.snapshot()
    return {
        "node": daemon.broker.node,
        "version": __version__,
        "python": platform.python_version(),
        "twisted": twisted_version,
        "process": os.getpid(),
        "uptime": round(snapshot.uptime, 3),
        "draining": daemon.broker.draining,
        "clients": snapshot.gauges.clients.count,
        "sessions": snapshot.gauges.sessions.count,
        "subscriptions": snapshot.gauges.subscriptions.count,
        "retained": snapshot.gauges.retained.count,
        "alarms": len(daemon.admin.alarms.active),
    }


def reload(call: Call) -> dict[str, Any]:
    result = call.daemon.reload()
    if result.errors:
        raise Problem(409, "What is wrong stays as it was.", errors=result.errors)
    return {"changed": list(result.changed), "restart_needed": list(result.restart_needed)}


ROUTES = (
    Route(
        "GET",
        "/node",
        Role.VIEWER,
        show,
        "What this broker is and how it is",
        "node",
        answer={
            "type": "object",
            "required": ["node", "version", "uptime"],
            "properties": {
                "node": {"type": "string", "description": "Name of the broker."},
                "version": {"type": "string", "description": "Version of mqttd."},
                "python": {"type": "string", "description": "Version of Python."},
                "twisted": {"type": "string", "description": "Version of Twisted."},
                "process": {"type": "integer", "description": "Process id."},
                "uptime": {"type": "number", "description": "Seconds."},
                "draining": {"type": "boolean", "description": "It takes leave of its clients."},
                "clients": {"type": "integer", "description": "Clients that are connected."},
                "sessions": {
                    "type": "integer",
                    "description": "Sessions, those of clients that are away included.",
                },
                "subscriptions": {
                    "type": "integer",
                    "description": "Subscriptions of all sessions.",
                },
                "retained": {"type": "integer", "description": "Retained messages."},
                "alarms": {"type": "integer", "description": "Active ones."},
            },
        },
    ),
    Route(
        "POST",
        "/reload",
        Role.ADMINISTRATOR,
        reload,
        "Read the configuration again, as on SIGHUP",
        "node",
        answer=RELOADED,
        problems=(409,),
    ),
)
