"""The operations of the API, one module for each kind of thing.

A new module joins by its name in ``MODULES``; see ``mqttd.admin.http`` for what a
module has.
"""

from __future__ import annotations

from importlib import import_module

from mqttd.admin.http.table import Route

MODULES = (
    "meta",
    "node",
    "stats",
    "alarms",
    "listeners",
    "bridges",
    "clients",
    "sessions",
    "routing",
    "topics",
    "retained",
    "messages",
    "events",
    "traces",
    "flight",
    "slow",
    "plugins",
    "config",
    "access",
    "users",
    "tokens",
    "audit",
)

#: Those whose paths stand at the root of the site.
ROOT_MODULES = ("watch",)


def all_routes() -> list[Route]:
    """Every route of the API, in the order of ``MODULES``."""
    return _collect(MODULES)


def root_routes() -> list[Route]:
    """The routes at the root of the site."""
    return _collect(ROOT_MODULES)


def _collect(modules: tuple[str, ...]) -> list[Route]:
    routes: list[Route] = []
    for name in modules:
        routes += import_module(f"mqttd.admin.http.routes.{name}").ROUTES
    return routes
