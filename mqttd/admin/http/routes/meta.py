"""The API about itself."""

from __future__ import annotations

from typing import Any

from mqttd.admin.http import routes
from mqttd.admin.http.call import Call
from mqttd.admin.http.openapi import document
from mqttd.admin.http.table import Role, Route


def openapi(call: Call) -> dict[str, Any]:
    return document(routes.all_routes())


def whoami(call: Call) -> dict[str, Any]:
    return {"name": call.identity.name, "role": call.identity.role.name.lower()}


ROUTES = (
    Route(
        "GET",
        "/openapi.json",
        Role.VIEWER,
        openapi,
        "This document",
        "meta",
        answer={"type": "object"},
    ),
    Route(
        "GET",
        "/whoami",
        Role.VIEWER,
        whoami,
        "Who I am, and my role",
        "meta",
        answer={
            "type": "object",
            "required": ["name", "role"],
            "properties": {
                "name": {"type": "string", "description": "Name of the token, or of the user."},
                "role": {
                    "enum": [role.name.lower() for role in Role],
                    "description": "What I may do.",
                },
            },
        },
    ),
)
