"""``mqttctl``: the broker by command.

Each group of commands is a module with ``add_to(subparsers)``, which adds its
commands by ``parser.group`` and ``parser.command``; ``__main__`` lists the modules
in ``GROUPS``. A command is a function of a ``Context``: its arguments, the API of a
running daemon (made when first used, so that commands for files need no daemon),
and the output. What goes wrong is a ``Failed`` that says the thing, the place and
the remedy.

Exit codes: 0 done, 1 it failed, 2 it was not understood.
"""

from __future__ import annotations

from mqttd.ctl.context import Context
from mqttd.ctl.errors import Failed
from mqttd.ctl.parser import command, group

__all__ = ["Context", "Failed", "command", "group"]
