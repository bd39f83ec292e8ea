"""The rooms of the package, as their own first lines name them, and what is compiled."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from docs.from_code.markup import literal

ROOT = Path(__file__).parents[2]


def rooms() -> Iterator[str]:
    """Each package, and each module that stands beside them."""
    package = ROOT / "mqttd"
    for folder in sorted(package.rglob("__init__.py"))[1:]:
        yield from _room(folder, f"{folder.parent.relative_to(package)}/")
    for module in sorted(package.glob("[!_]*.py")):
        yield from _room(module, module.name)


def compiled() -> Iterator[str]:
    """The modules that a compiled build has as C, from setup.py."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMPILED":
            yield ", ".join(literal(name) for name in ast.literal_eval(node.value)) + "."


def _room(path: Path, name: str) -> Iterator[str]:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    yield literal(name)
    yield f"   {' '.join(text.split(chr(10) * 2)[0].split())}"
