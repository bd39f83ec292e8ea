"""What a command gets to work with: arguments, the API, the output."""

from __future__ import annotations

import argparse
from functools import cached_property
from typing import TextIO

from mqttd.ctl.api import API, open_api
from mqttd.ctl.output import Output


class Context:
    """One run of ``mqttctl``."""

    def __init__(self, arguments: argparse.Namespace, out: TextIO) -> None:
        self.arguments = arguments
        self.out = Output(out, as_json=getattr(arguments, "json", False))

    @cached_property
    def api(self) -> API:
        """The daemon's control API."""
        return open_api(
            getattr(self.arguments, "socket", None),
            getattr(self.arguments, "url", None),
            getattr(self.arguments, "token_file", None),
            getattr(self.arguments, "ca_file", None),
        )
