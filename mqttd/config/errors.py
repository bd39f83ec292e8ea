"""What is wrong with a configuration, said so that a person can mend it.

Raised by the loader with everything found at once; shown by ``tap.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen


@frozen
class Problem:
    """One thing that is wrong."""

    #: Where in the file: ("listener", 0, "limits", "connect_timeout").
    path: tuple[str | int, ...]
    #: What is wrong and what would be right.
    text: str

    @property
    def key(self) -> str:
        """The path as TOML has it; listeners are counted from 1."""
        key = ""
        for step in self.path:
            key += f"[{step + 1}]" if isinstance(step, int) else f".{step}" if key else step
        return key


class ConfigError(Exception):
    """A configuration that cannot be used; one line for each problem."""

    def __init__(self, source: str, problems: Iterable[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        return [f"{self.source}: {_joined(problem)}" for problem in self.problems]


def _joined(problem: Problem) -> str:
    return f"{problem.key}{problem.text}" if problem.path else problem.text
