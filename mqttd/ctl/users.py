"""``mqttctl users``: the users of a running daemon's password file.

``mqttctl passwd`` does the same to a file without a daemon. Passwords are asked for, or
come by standard input.
"""

from __future__ import annotations

from typing import Any

from mqttd.ctl.context import Context
from mqttd.ctl.parser import Run, Subparsers, command, group
from mqttd.ctl.passwd import new_password


def add_to(subparsers: Subparsers) -> None:
    users = group(subparsers, "users", "who may connect, by the daemon's password file")

    def put(name: str, run: Run, help: str, *arguments: str) -> Any:
        parser = command(users, name, run, help)
        for argument in arguments:
            parser.add_argument(argument)
        parser.add_argument("--source", help="title of the authentication that has the file")
        return parser

    put("list", show_all, "list the users")
    put("add", add, "add a user; asks for the password", "user")
    put("password", change, "give a user another password; ends its connections", "user")
    grouping = put("groups", change_groups, "put a user into these groups and no others", "user")
    grouping.add_argument("group", nargs="*")
    put("delete", delete, "take a user out; ends its connections", "user")


def show_all(context: Context) -> None:
    found = list(context.api.items("users", source=context.arguments.source))
    context.out.table(found, ("user", "source", "scheme", "groups", "superuser"))


def add(context: Context) -> None:
    given = context.arguments
    body = {"user": given.user, "password": new_password().decode()}
    context.api.call("POST", ("users",), {"source": given.source}, body)
    context.out.line(f"user {given.user} added")


def change(context: Context) -> None:
    given = context.arguments
    body = {"password": new_password().decode()}
    context.api.call("PUT", ("users", given.user), {"source": given.source}, body)
    context.out.line(f"user {given.user} has another password")


def change_groups(context: Context) -> None:
    given = context.arguments
    body = {"groups": given.group}
    context.api.call("PUT", ("users", given.user, "groups"), {"source": given.source}, body)
    context.out.line(f"user {given.user} is in {', '.join(given.group) or 'no group'}")


def delete(context: Context) -> None:
    given = context.arguments
    context.api.delete("users", given.user, source=given.source)
    context.out.line(f"user {given.user} deleted")
