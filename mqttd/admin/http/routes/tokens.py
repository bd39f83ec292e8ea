"""Tokens: who has one, making and taking away. The secret is told once, when made."""

from __future__ import annotations

from typing import Any

from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import list_of
from mqttd.admin.http.problems import Problem, not_found
from mqttd.admin.http.table import Role, Route
from mqttd.admin.http.tokens import MAXIMUM_TOKENS
from mqttd.settings import ROLES

TOKEN = {
    "type": "object",
    "required": ["name", "role", "created"],
    "properties": {
        "name": {"type": "string", "description": "Whose it is."},
        "role": {"enum": list(ROLES), "description": "What it lets do."},
        "created": {"type": "integer", "description": "Unix time, seconds."},
    },
}


def show_all(call: Call) -> dict[str, Any]:
    return {
        "items": [
            {"name": token.name, "role": token.role, "created": token.created}
            for token in call.daemon.control.tokens
        ]
    }


def create(call: Call) -> dict[str, Any]:
    tokens = call.daemon.control.tokens
    name, role = call.body["name"], call.body["role"]
    if len(tokens) >= MAXIMUM_TOKENS:
        raise Problem(409, f"There are {MAXIMUM_TOKENS} tokens: take some away.")
    try:
        secret = tokens.add(name, Role[role.upper()])
    except KeyError:
        raise Problem(409, f"There is a token {name!r} already.") from None
    except OSError as error:
        raise Problem(500, f"The file of the tokens cannot be written: {error.strerror}") from None
    return {"name": name, "role": role, "token": secret}


def remove(call: Call) -> None:
    if not call.daemon.control.tokens.remove(call.path["name"]):
        raise not_found("token", call.path["name"])


ROUTES = (
    Route(
        "GET",
        "/tokens",
        Role.ADMINISTRATOR,
        show_all,
        "Whose tokens there are",
        "tokens",
        answer=list_of(TOKEN),
    ),
    Route(
        "POST",
        "/tokens",
        Role.ADMINISTRATOR,
        create,
        "Make a token, which is shown this once",
        "tokens",
        body={
            "type": "object",
            "required": ["name", "role"],
            "additionalProperties": False,
            "properties": {
                "name": {
                    "type": "string",
                    "pattern": "^[A-Za-z0-9_.@-]{1,64}$",
                    "description": "Whose it is.",
                },
                "role": {"enum": list(ROLES), "description": "What it lets do."},
            },
        },
        example={"body": {"name": "ci", "role": "viewer"}},
        answer={
            "type": "object",
            "required": ["name", "role", "token"],
            "properties": {
                "name": {"type": "string", "description": "Whose it is."},
                "role": {"enum": list(ROLES), "description": "What it lets do."},
                "token": {"type": "string", "description": "The secret. It is shown this once."},
            },
        },
        status=201,
        problems=(409,),
    ),
    Route(
        "DELETE",
        "/tokens/{name}",
        Role.ADMINISTRATOR,
        remove,
        "Take a token away",
        "tokens",
        example={"name": "old-ci"},
    ),
)
