"""The configuration in force: look at it, and change it until the next reload."""

from __future__ import annotations

from typing import Any

from mqttd.admin.http.call import Call
from mqttd.admin.http.problems import Problem
from mqttd.admin.http.schemas import RELOADED
from mqttd.admin.http.table import Role, Route
from mqttd.config import ConfigError
from mqttd.config.change import change_settings, show_settings
from mqttd.config.structure import FLAT_TABLES, PARTS

#: The tables of the file that can be changed.
TABLES = (*FLAT_TABLES, *PARTS)


def show(call: Call) -> dict[str, Any]:
    return show_settings(call.daemon.settings)


def change(call: Call) -> dict[str, Any]:
    daemon = call.daemon
    try:
        settings = change_settings(daemon.settings, call.body)
    except ConfigError as error:
        raise Problem(422, "The settings stay as they were.", errors=error.lines()) from None
    result = daemon.take_over(settings)
    if result.errors:
        raise Problem(409, "The settings stay as they were.", errors=result.errors)
    return {"changed": list(result.changed), "restart_needed": list(result.restart_needed)}


ROUTES = (
    Route(
        "GET",
        "/config",
        Role.ADMINISTRATOR,
        show,
        "The configuration in force, as its file would say it",
        "config",
        answer={"type": "object"},
    ),
    Route(
        "PATCH",
        "/config",
        Role.ADMINISTRATOR,
        change,
        "Change settings, written as in the file, until the next reload",
        "config",
        body={
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {
                name: {"type": "object", "description": f"What is new in [{name}]."}
                for name in TABLES
            },
        },
        example={"body": {"session": {"maximum_inflight": 50}, "log": {"level": "info"}}},
        answer=RELOADED,
        problems=(409,),
    ),
)
