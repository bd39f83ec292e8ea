"""The HTTP API, from its OpenAPI document, which comes from the route table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docs.from_code.markup import described, heading, literal
from mqttd.admin.http.openapi import document
from mqttd.admin.http.routes import all_routes, root_routes


def operations() -> Iterator[str]:
    """Every operation, by what it is about."""
    api = document(all_routes())
    yield from _by_tag(api["paths"], api["servers"][0]["url"])
    yield from _by_tag(document(root_routes())["paths"], "")


def _by_tag(paths: dict[str, Any], base: str) -> Iterator[str]:
    tags: dict[str, list[tuple[str, str, Any]]] = {}
    for path, methods in paths.items():
        for method, operation in methods.items():
            entry = (method.upper(), base + path, operation)
            tags.setdefault(operation["tags"][0], []).append(entry)
    for tag, entries in tags.items():
        yield from heading(tag.capitalize(), 1)
        for method, path, operation in entries:
            yield from described("operation", f"{method} {path}", _operation(operation))


def _operation(operation: dict[str, Any]) -> Iterator[str]:
    yield f"{operation['summary'].rstrip('.')}. {operation['description']}"
    yield ""
    for each in operation["parameters"]:
        if each["in"] == "query":
            needed = ", required" if each["required"] else ""
            yield f":{each['name']} ({_type(each['schema'])}{needed}): {_text(each)}"
    body = operation.get("requestBody")
    if body is not None:
        yield f":Body: {_shape(body['content']['application/json']['schema'])}"
    yield f":Answers: {_answers(operation['responses'])}"


def _text(parameter: dict[str, Any]) -> str:
    text = str(parameter["description"]).replace("`", "``")
    default = parameter["schema"].get("default")
    return text if default is None else f"{text} Default: {literal(str(default))}."


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(str(each) for each in schema["enum"])
    return str(schema.get("type", "anything"))


def _shape(schema: dict[str, Any]) -> str:
    """What a JSON value holds, in a line: names, those that must be there first."""
    if schema.get("type") == "array":
        return f"a list, of each: {_shape(schema.get('items', {}))}"
    names = list(schema.get("properties", ()))
    required = [each for each in names if each in schema.get("required", ())]
    optional = [each for each in names if each not in required]
    said = ", ".join(literal(each) for each in required)
    if optional:
        said += f"{'; ' if said else ''}optional " + ", ".join(literal(each) for each in optional)
    return said or f"JSON ({_plain(schema.get('type', 'any'))})"


def _plain(kind: Any) -> str:
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _answers(responses: dict[str, Any]) -> str:
    good = [status for status in responses if status < "300"]
    said = []
    for status in good:
        content = responses[status].get("content", {})
        shapes = [
            f"{literal(kind)}: {_shape(each['schema'])}"
            if kind == "application/json"
            else literal(kind)
            for kind, each in content.items()
        ]
        said.append(f"{status} {', '.join(shapes)}".rstrip())
    bad = ", ".join(status for status in responses if status not in good)
    return f"{'; '.join(said)}. Problems: {bad}."
