"""Libraries that only some of the authenticators need.

Each is an extra of the distribution; what is not installed is an error that
says how to get it, told when the broker starts and not when a client comes.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class MissingExtra(ValueError):
    """A library is not installed."""


def need(module: str, extra: str) -> Any:
    """The module *module*.

    :raise MissingExtra: that names the *extra* which has it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        text = f"needs {error.name or module}: pip install 'txmqttd[{extra}]'"
        raise MissingExtra(text) from None
