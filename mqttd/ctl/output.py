"""What a command writes: tables for people, JSON for scripts.

Text that comes from clients may hold anything, so that control characters are
shown and not sent to the terminal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

#: Longest cell of a table; what is cut is in --json.
WIDEST = 60


class Output:
    """Standard output, in the form that was asked for."""

    def __init__(self, stream: TextIO, as_json: bool = False) -> None:
        self.stream = stream
        self.as_json = as_json

    def line(self, text: str) -> None:
        """A line for people; nothing for scripts."""
        if not self.as_json:
            print(clean(text), file=self.stream, flush=True)

    def record(self, value: Any) -> None:
        """One of many values, as JSON on a line of its own."""
        print(json.dumps(value), file=self.stream, flush=True)

    def bytes(self, data: bytes) -> None:
        """*data* as it is."""
        self.stream.flush()
        buffer = getattr(self.stream, "buffer", None)
        if buffer is None:
            self.stream.write(data.decode("utf-8", "replace"))
        else:
            buffer.write(data)
            buffer.flush()

    def value(self, value: Any) -> None:
        """A mapping: one line for each of its parts, or JSON."""
        if self.as_json or not isinstance(value, Mapping):
            print(json.dumps(value, indent=2), file=self.stream)
            return
        width = max((len(name) for name in value), default=0)
        for name, part in value.items():
            print(f"{name:<{width}}  {shown(part)}", file=self.stream)

    def table(self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
        """*rows*, of which people see *columns* and scripts everything."""
        rows = list(rows)
        if self.as_json:
            print(json.dumps(rows, indent=2), file=self.stream)
            return
        cells = [[_cut(shown(row.get(name))) for name in columns] for row in rows]
        titles = [name.replace("_", " ").upper() for name in columns]
        widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
        numeric = [
            all(isinstance(row.get(name), (int, float)) for row in rows) and bool(rows)
            for name in columns
        ]
        for line in (titles, *cells):
            texts = (
                f"{cell:>{width}}" if right else f"{cell:<{width}}"
                for cell, width, right in zip(line, widths, numeric, strict=True)
            )
            print("  ".join(texts).rstrip(), file=self.stream)


def shown(value: Any) -> str:
    """*value* as people read it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(shown(item) for item in value) or "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={shown(part)}" for name, part in value.items()) or "-"
    return clean(str(value))


def clean(text: str) -> str:
    """*text* with what is no printable character written as Python does."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 3] + "..."


def moment(seconds: float) -> str:
    """*seconds* since 1970, for people."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
