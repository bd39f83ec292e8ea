"""Joins statements, code and tests by their labels.

``__main__`` prints what this module finds and a test holds it to be complete.
Nothing is run or collected: source files are read as text, test files as
syntax trees, and the wire vectors as the data that they are.
"""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from attrs import define, field, frozen

ROOT = Path(__file__).resolve().parent.parent.parent
STATEMENTS = Path(__file__).with_name("statements.toml")

#: Table in ``statements.toml`` -> what stands before the number in a label.
PREFIXES = {"mqtt5": "MQTT-", "mqtt311": "MQTT311-"}
BINDS_A_SERVER = frozenset({"server", "both"})
BINDS = BINDS_A_SERVER | {"client", "not offered"}

# Wider than the right labels, so that a misspelt one is found and reported.
_LABEL = re.compile(r"\[(MQTT[\w.]*-[\d.]+-?[\w.-]*)\]")


@frozen
class Statement:
    """One normative statement."""

    label: str
    binds: str
    gist: str
    why: str = ""

    @property
    def binds_a_server(self) -> bool:
        return self.binds in BINDS_A_SERVER


@frozen
class Place:
    """A label's occurrence: a line of code, or a test."""

    path: str
    line: int
    #: Name of the test, or of the vector; "" for code.
    name: str = ""

    def __str__(self) -> str:
        return f"{self.path}::{self.name}" if self.name else f"{self.path}:{self.line}"


@define
class Row:
    """A statement with what was found for it."""

    statement: Statement
    code: list[Place] = field(factory=list)
    tests: list[Place] = field(factory=list)

    @property
    def problems(self) -> list[str]:
        if not self.statement.binds_a_server:
            return []
        return [
            f"no {what}"
            for what, places in (("line of code", self.code), ("test", self.tests))
            if not places
        ]


@define
class Table:
    """All rows by label, and the labels that no statement has."""

    rows: dict[str, Row]
    unknown: list[tuple[str, Place]] = field(factory=list)

    @property
    def incomplete(self) -> list[Row]:
        return [row for row in self.rows.values() if row.problems]


def read_statements(path: Path = STATEMENTS) -> tuple[dict[str, Statement], dict[str, str]]:
    """The statements by label, and other spellings of labels with the right one."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    statements = {}
    for name, prefix in PREFIXES.items():
        for number, entry in document[name].items():
            statement = Statement(prefix + number, *entry)
            if statement.binds not in BINDS:
                raise ValueError(f"{path}: {statement.label}: binds {statement.binds!r}")
            statements[statement.label] = statement
    return statements, document["aliases"]


def build(root: Path = ROOT) -> Table:
    """Read statements, code and tests under *root* and join them."""
    statements, aliases = read_statements()
    table = Table({label: Row(statement) for label, statement in statements.items()})

    def add(labels: Iterable[tuple[str, Place]], column: str) -> None:
        for label, place in labels:
            row = table.rows.get(aliases.get(label, label))
            if row is None:
                table.unknown.append((label, place))
            elif place not in (places := getattr(row, column)):
                places.append(place)

    for path in _files(root / "mqttd"):
        add(labels_in_code(path, root), "code")
    for path in _files(root / "tests"):
        if path.name.startswith("test_"):
            add(labels_in_tests(path, root), "tests")
    if (root / "tests" / "vectors.py").exists():
        add(labels_in_vectors(root), "tests")
    return table


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def labels_in_code(path: Path, root: Path) -> Iterator[tuple[str, Place]]:
    """Labels in brackets, wherever they stand in the file."""
    name = path.relative_to(root).as_posix()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for label in _LABEL.findall(line):
            yield label, Place(name, number)


def labels_in_tests(path: Path, root: Path) -> Iterator[tuple[str, Place]]:
    """Arguments of ``pytest.mark.statement`` on tests, classes and parameters."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    yield from _marks(tree.body, path.relative_to(root).as_posix(), ())


def _marks(body: list[ast.stmt], path: str, names: tuple[str, ...]) -> Iterator[tuple[str, Place]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            inner = (*names, node.name)
            for decorator in node.decorator_list:
                yield from _arguments(decorator, Place(path, node.lineno, "::".join(inner)))
            yield from _marks(node.body, path, inner)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            place = Place(path, node.lineno, "::".join((*names, node.name)))
            for decorator in node.decorator_list:
                yield from _arguments(decorator, place)
        else:
            # Tables of parameters that a module builds, and ``pytestmark``.
            yield from _arguments(node, Place(path, node.lineno, "::".join(names) or "module"))


def _arguments(node: ast.AST, place: Place) -> Iterator[tuple[str, Place]]:
    for call in ast.walk(node):
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr == "statement"
        ):
            for argument in call.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value, place


def labels_in_vectors(root: Path) -> Iterator[tuple[str, Place]]:
    """The ``labels`` of the rows of ``tests/vectors.py``."""
    module = importlib.import_module("tests.vectors")
    for value in vars(module).values():
        if not isinstance(value, list | tuple):
            continue
        for row in value:
            for label in getattr(row, "labels", ()):
                yield label, Place("tests/vectors.py", 0, str(getattr(row, "name", row)))
