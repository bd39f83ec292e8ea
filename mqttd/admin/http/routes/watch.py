"""For those who watch from outside: ``/metrics``, ``/healthz``, ``/readyz``.

These stand at the root of the site, where probes and Prometheus look for them.
"""

from __future__ import annotations

from typing import Any

from mqttd.admin.http.call import Call, Reply
from mqttd.admin.http.problems import Problem
from mqttd.admin.http.table import Role, Route

#: Prometheus' text format, which clients of OpenMetrics read as well.
TEXT = "text/plain; version=0.0.4; charset=utf-8"


def metrics(call: Call) -> Reply:
    try:
        from mqttd.admin.prometheus import Prometheus
    except ImportError:
        remedy = "metrics need prometheus-client: pip install 'txmqttd[metrics]'"
        raise Problem(501, remedy) from None
    return Reply(Prometheus(call.daemon).text())


def health(call: Call) -> dict[str, Any]:
    """It answers, so it lives."""
    return {"status": "ok"}


def ready(call: Call) -> Reply:
    reasons = unready(call.daemon)
    body = {"status": "unready" if reasons else "ready", "reasons": reasons}
    return Reply(body, 503 if reasons else 200)


def unready(daemon: Any) -> list[str]:
    """Why clients had better go elsewhere; empty when all is well."""
    reasons = ["the broker takes leave of its clients"] if daemon.broker.draining else []
    closed = [each.name for each in daemon.listeners.values() if each.address is None]
    reasons += [f"the listener {name} is not open" for name in closed]
    durability = daemon.broker.durability
    if durability is not None and durability.problem is not None:
        reasons.append(f"nothing is kept, nor acknowledged: {durability.problem}")
    return reasons


STATUS = {
    "type": "object",
    "required": ["status"],
    "properties": {
        "status": {"type": "string", "description": "ok, ready or unready."},
        "reasons": {"type": "array", "items": {"type": "string"}, "description": "Why not."},
    },
}

ROUTES = (
    Route(
        "GET",
        "/metrics",
        Role.VIEWER,
        metrics,
        "Figures for Prometheus",
        "watch",
        answer={"type": "string"},
        produces=TEXT,
        problems=(501,),
    ),
    Route("GET", "/healthz", Role.ANYONE, health, "Does it live?", "watch", answer=STATUS),
    Route("GET", "/readyz", Role.ANYONE, ready, "May clients come?", "watch", answer=STATUS),
)
