"""The command line: groups, commands, and the options that all of them take.

Uses argparse only as far as its documented parts go. Options for all may stand
before or after the name of a command.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mqttd import __version__

if TYPE_CHECKING:
    from mqttd.ctl.context import Context

#: What a command is run by; the exit code is 0 unless it returns another.
Run = Callable[["Context"], "int | None"]

#: What ``add_subparsers`` returns.
Subparsers = Any


def make_parser() -> argparse.ArgumentParser:
    """The parser without any command."""
    parser = argparse.ArgumentParser(
        prog="mqttctl",
        description="Look at a running mqttd, and change it.",
        epilog="Without options it talks to the daemon of the same user by its Unix socket. "
        "Exit codes: 0 done, 1 failed, 2 not understood.",
        parents=[_common()],
    )
    parser.add_argument("--version", action="version", version=f"mqttctl {__version__}")
    return parser


def group(subparsers: Subparsers, name: str, help: str) -> Subparsers:
    """Add the group *name*; returns where its commands go."""
    parser = subparsers.add_parser(name, help=help, description=_sentence(help))
    return parser.add_subparsers(metavar="COMMAND", required=True)


def command(
    subparsers: Subparsers, name: str, run: Run, help: str, **more: Any
) -> argparse.ArgumentParser:
    """Add the command *name*; its own arguments go into the parser returned."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, help=help, description=_sentence(help), parents=[_common()], **more
    )
    parser.set_defaults(run=run)
    return parser


def _common() -> argparse.ArgumentParser:
    # Without a default, so that what stands before a command is not undone after.
    absent = argparse.SUPPRESS
    common = argparse.ArgumentParser(add_help=False, argument_default=absent)
    options = common.add_argument_group("options for all commands")
    options.add_argument("--json", action="store_true", help="write JSON, for scripts")
    options.add_argument("--socket", metavar="PATH", help="the daemon's control socket")
    options.add_argument("--url", help="the daemon's HTTP API, such as https://broker.example:8443")
    options.add_argument(
        "--token-file", metavar="FILE", help="file with the token for --url (or $MQTTD_TOKEN)"
    )
    options.add_argument(
        "--ca-file", metavar="FILE", help="PEM file of the authority that --url is trusted by"
    )
    return common


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
