"""How a command fails."""

from __future__ import annotations


class Failed(Exception):
    """A command could not do what it should: shown in one line, exit code 1."""
