"""The entry of ``mqttctl``: command line in, exit code out."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib import import_module

from mqttd.ctl.context import Context
from mqttd.ctl.errors import Failed
from mqttd.ctl.parser import make_parser

#: The modules with commands, in the order of the help.
GROUPS = (
    "node",
    "watch",
    "clients",
    "sessions",
    "subscriptions",
    "retained",
    "messages",
    "traces",
    "flight",
    "listeners",
    "bridges",
    "plugins",
    "config",
    "access",
    "users",
    "passwd",
    "bans",
    "store",
    "tokens",
    "audit",
    "importing",
    "completion",
)


def build_parser() -> ArgumentParser:
    """The parser with every command."""
    parser = make_parser()
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in GROUPS:
        import_module(f"mqttd.ctl.{name}").add_to(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command."""
    arguments = build_parser().parse_args(argv)
    try:
        return arguments.run(Context(arguments, sys.stdout)) or 0
    except Failed as error:
        print(f"mqttctl: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    except BrokenPipeError:
        # The reader (head, say) has seen enough; Python shall not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
