"""The seams of ``mqttd.interfaces``: hooks and what else a program may replace."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from sphinx.pycode import ModuleAnalyzer

from docs.from_code.markup import described, heading
from mqttd import interfaces

#: What a program provides, or is given; the others are between the broker's own parts.
_SEAMS = (
    "IPlugin",
    "IClient",
    "Refuse",
    "Divert",
    "IAuthenticator",
    "IMQTTCredentials",
    "Avatar",
    "IAuthenticationMethod",
    "IAuthenticationExchange",
    "IAuthorizer",
    "AccessRequest",
    "IRuleSource",
    "IStore",
    "IDaemon",
)


def hooks() -> Iterator[str]:
    """The events of ``IHooks``: those that decide, and those that observe."""
    events = [each for each in _classes()["IHooks"].body if isinstance(each, ast.FunctionDef)]
    decide = [each for each in events if ast.unparse(each.returns or ast.Name("None")) != "None"]
    observe = [each for each in events if each not in decide]
    for title, those in (("Events that decide", decide), ("Events that observe", observe)):
        yield from heading(title, 2)
        for each in those:
            yield from _method(each, "hook")


def others() -> Iterator[str]:
    """The other interfaces, with what each has."""
    classes = _classes()
    for name in _SEAMS:
        node = classes[name]
        yield from heading(name, 1)
        yield from (ast.get_docstring(node) or "").split("\n")
        for each in node.body:
            if isinstance(each, ast.FunctionDef):
                yield from _method(each, "describe")
            elif isinstance(each, (ast.AnnAssign, ast.Assign)):
                yield from _attribute(name, each)


def _source() -> str:
    return Path(inspect.getfile(interfaces)).read_text()


def _classes() -> dict[str, ast.ClassDef]:
    body = ast.parse(_source()).body
    return {each.name: each for each in body if isinstance(each, ast.ClassDef)}


def _comment(owner: str, name: str) -> list[str]:
    found = ModuleAnalyzer.for_module(interfaces.__name__).find_attr_docs()
    return found.get((owner, name), [])


def _method(node: ast.FunctionDef, directive: str) -> Iterator[str]:
    signature = f"{node.name}({ast.unparse(node.args)})"
    returns = ast.unparse(node.returns) if node.returns else "None"
    if returns not in ("None", "Any"):
        signature += f" -> {returns}"
    text = (ast.get_docstring(node) or "").split("\n")
    yield from described(directive, signature.replace("*", "\\*"), text)


def _attribute(owner: str, node: ast.AnnAssign | ast.Assign) -> Iterator[str]:
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    kind = f": {ast.unparse(node.annotation)}" if isinstance(node, ast.AnnAssign) else ""
    text = ""
    value = node.value
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "Attribute":
        text = str(ast.literal_eval(value.args[0]))
    elif value is not None and not isinstance(value, ast.Call):
        kind += f" = {ast.get_source_segment(_source(), value)}"
    name = ast.unparse(target)
    yield from described("describe", f"{name}{kind}", [text] if text else _comment(owner, name))
