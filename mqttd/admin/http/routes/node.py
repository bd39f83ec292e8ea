"""The broker as a whole: what it is, and reading its settings again."""

from __future__ import annotations

import os
import platform
from typing import Any

from twisted.copyright import version as twisted_version

from mqttd import __version__
from mqttd.admin.http.call import Call
from mqttd.admin.http.problems import Problem
from mqttd.admin.http.table import Role, Route

NAMES = {"type": "array", "items": {"type": "string"}}


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
                "node": {"type": "string"},
                "version": {"type": "string"},
                "python": {"type": "string"},
                "twisted": {"type": "string"},
                "process": {"type": "integer"},
                "uptime": {"type": "number", "description": "Seconds."},
                "draining": {"type": "boolean"},
                "clients": {"type": "integer"},
                "sessions": {"type": "integer"},
                "subscriptions": {"type": "integer"},
                "retained": {"type": "integer"},
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
        answer={
            "type": "object",
            "required": ["changed", "restart_needed"],
            "properties": {"changed": NAMES, "restart_needed": NAMES},
        },
        problems=(409,),
    ),
)
