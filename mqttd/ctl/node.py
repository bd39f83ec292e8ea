"""``mqttctl status`` and ``mqttctl reload``: the daemon as a whole."""

from __future__ import annotations

from mqttd.ctl.context import Context
from mqttd.ctl.parser import Subparsers, command


def add_to(subparsers: Subparsers) -> None:
    command(subparsers, "status", status, "what this broker is and how it is")
    command(subparsers, "reload", reload, "read the configuration again, as on SIGHUP")


def status(context: Context) -> None:
    context.out.value(context.api.get("node"))


def reload(context: Context) -> None:
    result = context.api.post("reload")
    if context.out.as_json:
        context.out.value(result)
        return
    context.out.line("changed: " + (", ".join(result["changed"]) or "nothing"))
    if result["restart_needed"]:
        context.out.line("only a restart changes: " + ", ".join(result["restart_needed"]))
