"""``mqttctl tokens``: who may use the HTTP API from elsewhere."""

from __future__ import annotations

from mqttd.ctl.context import Context
from mqttd.ctl.parser import Subparsers, command, group
from mqttd.settings import ROLES


def add_to(subparsers: Subparsers) -> None:
    tokens = group(subparsers, "tokens", "who may use the HTTP API from elsewhere")
    command(tokens, "list", show_all, "list the tokens, without their secrets")
    creating = command(tokens, "create", create, "make a token; it is shown this once")
    creating.add_argument("name")
    creating.add_argument("--role", choices=ROLES, default="viewer", help="default: viewer")
    removing = command(tokens, "remove", remove, "take a token away")
    removing.add_argument("name")


def show_all(context: Context) -> None:
    context.out.table(context.api.get("tokens")["items"], ("name", "role", "created"))


def create(context: Context) -> None:
    given = context.arguments
    made = context.api.post("tokens", body={"name": given.name, "role": given.role})
    if context.out.as_json:
        context.out.value(made)
    else:
        context.out.line(made["token"])


def remove(context: Context) -> None:
    context.api.delete("tokens", context.arguments.name)
    context.out.line(f"the token {context.arguments.name} is gone")
