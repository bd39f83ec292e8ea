"""The operations of the API, one module for each kind of thing.

A new module joins by its name in ``MODULES``; see ``mqttd.admin.http`` for what a
module has.
"""

from __future__ import annotations

from importlib import import_module

from mqttd.admin.http.table import Route

MODULES = ("meta", "node", "clients")


def all_routes() -> list[Route]:
    """Every route, in the order of ``MODULES``."""
    routes: list[Route] = []
    for name in MODULES:
        routes += import_module(f"mqttd.admin.http.routes.{name}").ROUTES
    return routes
