"""Pieces of reStructuredText that the makers share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

#: What underlines a section, by depth: the pages themselves use "=", "-" and "~".
UNDERLINES = {1: "-", 2: "~", 3: "^"}


def heading(text: str, depth: int) -> Iterator[str]:
    yield from ("", text, UNDERLINES[depth] * len(text), "")


def indented(lines: Iterable[str], by: int = 3) -> Iterator[str]:
    for line in lines:
        yield " " * by + line if line.strip() else ""


def described(
    directive: str, signature: str, content: Iterable[str], *options: str
) -> Iterator[str]:
    """An entry of a reference: ``.. directive:: signature`` with what it says."""
    yield ""
    yield f".. {directive}:: {signature}"
    yield from indented(options)
    yield ""
    yield from indented(content)


def literal(text: str) -> str:
    return f"``{text}``" if text else '``""``'


def table(rows: Iterable[tuple[str, ...]], *titles: str, widths: str = "auto") -> Iterator[str]:
    """A list-table; each cell is one line."""
    yield from ("", ".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", "")
    for row in (titles, *rows):
        for index, cell in enumerate(row):
            yield f"   {'* -' if index == 0 else '  -'} {cell}"
    yield ""
