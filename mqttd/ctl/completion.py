"""``mqttctl completion``: completion for the shell, written by shtab."""

from __future__ import annotations

from mqttd.ctl.context import Context
from mqttd.ctl.errors import Failed
from mqttd.ctl.parser import Subparsers, command

SHELLS = ("bash", "zsh", "tcsh")


def add_to(subparsers: Subparsers) -> None:
    parser = command(subparsers, "completion", write, "write what a shell needs for completion")
    parser.add_argument("shell", choices=SHELLS)


def write(context: Context) -> None:
    # Here, since it lists the module that this one is in.
    from mqttd.ctl.__main__ import build_parser

    try:
        import shtab
    except ImportError:
        raise Failed("completion needs shtab: pip install 'txmqttd[completion]'") from None
    context.out.stream.write(shtab.complete(build_parser(), shell=context.arguments.shell))
