"""``python -m tests.conformance``: print the table, fail when it has holes.

Exit status 1 when a statement that binds a server has no test or no line of
code, or when code or a test carries a label that no statement has.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable

from tests.conformance.table import Place, Row, Table, build

VERSIONS = {"MQTT-": "MQTT 5.0", "MQTT311-": "MQTT 3.1.1"}


def version(row: Row) -> str:
    return VERSIONS[row.statement.label.split("-")[0] + "-"]


def as_text(rows: Iterable[Row]) -> Iterable[str]:
    for row in rows:
        statement = row.statement
        why = f" ({statement.why})" if statement.why else ""
        yield f"{statement.label:<17} {statement.binds:<11} {statement.gist}{why}"
        for name, places in (("code", row.code), ("tests", row.tests)):
            for place in places:
                yield f"    {name:<6}{place}"
                name = ""
        for problem in row.problems:
            yield f"    {problem.upper()}"


def _cells(row: Row, code: Callable[[str], str]) -> list[str]:
    statement = row.statement
    binds = f"{statement.binds}: {statement.why}" if statement.why else statement.binds
    return [
        statement.label,
        binds,
        statement.gist,
        _several(_lines(row.code), code),
        _several([str(place).removeprefix("tests/") for place in row.tests], code),
    ]


def _lines(places: Iterable[Place]) -> list[str]:
    """Lines of one file together: ``file.py:12,40``."""
    files: dict[str, list[str]] = {}
    for place in places:
        files.setdefault(place.path.removeprefix("mqttd/"), []).append(str(place.line))
    return [f"{path}:{','.join(lines)}" for path, lines in files.items()]


def _several(items: list[str], code: Callable[[str], str], most: int = 3) -> str:
    shown = [code(item) for item in items[:most]]
    if len(items) > most:
        shown.append(f"and {len(items) - most} more")
    return ", ".join(shown)


HEADER = ["Statement", "Binds", "Gist", "Code", "Tests"]


def as_markdown(rows: Iterable[Row]) -> Iterable[str]:
    yield "| " + " | ".join(HEADER) + " |"
    yield "|" + "---|" * len(HEADER)
    for row in rows:
        yield "| " + " | ".join(_cells(row, "`{}`".format)) + " |"


def as_rst(rows: Iterable[Row]) -> Iterable[str]:
    yield from (".. list-table::", "   :header-rows: 1", "   :widths: 14 10 26 25 25", "")
    yield from _list_row(HEADER)
    for row in rows:
        yield from _list_row(_cells(row, "``{}``".format))


def _list_row(cells: list[str]) -> Iterable[str]:
    for number, cell in enumerate(cells):
        yield f"   {'*' if number == 0 else ' '} - {cell}".rstrip()


def summary(table: Table) -> Iterable[str]:
    for name in VERSIONS.values():
        rows = [row for row in table.rows.values() if version(row) == name]
        bound = [row for row in rows if row.statement.binds_a_server]
        whole = sum(not row.problems for row in bound)
        others = Counter(row.statement.binds for row in rows if not row.statement.binds_a_server)
        rest = ", ".join(f"{count} {binds}" for binds, count in sorted(others.items()))
        yield (
            f"{name}: {len(rows)} statements, {len(bound)} bind a server and {whole} of them "
            f"have code and tests ({whole / len(bound):.1%}); {rest}"
        )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--missing", action="store_true", help="only statements with a hole")
    parser.add_argument("--version", choices=("5.0", "3.1.1"), help="only that version's")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="as a Markdown table")
    form.add_argument("--rst", action="store_true", help="as a reStructuredText table")
    options = parser.parse_args(arguments)

    table = build()
    rows = table.incomplete if options.missing else list(table.rows.values())
    if options.version:
        rows = [row for row in rows if version(row) == f"MQTT {options.version}"]
    show = as_markdown if options.markdown else as_rst if options.rst else as_text
    print("\n".join(show(rows)))
    to_people = sys.stderr if options.markdown or options.rst else sys.stdout
    print("", *summary(table), sep="\n", file=to_people)
    for label, place in table.unknown:
        print(f"{place}: no statement has the label {label}", file=sys.stderr)
    if table.incomplete:
        count = len(table.incomplete)
        print(f"{count} statements lack code or tests (--missing shows them)", file=sys.stderr)
    return 1 if table.incomplete or table.unknown else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
