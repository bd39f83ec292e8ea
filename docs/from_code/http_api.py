"""The HTTP API, from its OpenAPI document, which comes from the route table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

from docs.from_code.markup import described, heading, indented, literal
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
            content = _operation(method, path, operation)
            yield from described("operation", f"{method} {path}", content)


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"{operation['summary'].rstrip('.')}. {operation['description']}"
    yield from _example(method, path, operation)
    query = [each for each in operation["parameters"] if each["in"] == "query"]
    if query:
        yield from ("", "Query:", "")
        for each in query:
            yield _line(each["name"], each["schema"], each["required"], _text(each))
    body = operation.get("requestBody")
    if body is not None:
        yield from ("", "Body:", "")
        yield from _fields(body["content"]["application/json"]["schema"])
    yield from _answers(operation["responses"])


def _example(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    """A request, where the operation takes anything."""
    given = {each["name"]: each for each in operation["parameters"] if "example" in each}
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    if not given and "example" not in body:
        return
    asked = {}
    for name, each in given.items():
        value = json.dumps(each["example"]).strip('"')
        if each["in"] == "query":
            asked[name] = value
        else:
            path = path.replace(f"{{{name}}}", quote(value, safe=""))
    yield from ("", "For example::", "")
    yield f"   {method} {path}{'?' if asked else ''}{urlencode(asked)}"
    if "example" in body:
        yield ""
        yield from indented(json.dumps(body["example"], indent=2).splitlines())


def _fields(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """A line for each field of a JSON object, and of those in it."""
    required = schema.get("required", ())
    for name, each in schema.get("properties", {}).items():
        yield _line(prefix + name, each, name in required, each.get("description", ""))
        inner, suffix = each, "."
        while inner.get("type") == "array" and "items" in inner:
            inner, suffix = inner["items"], f"[]{suffix}"
        yield from _fields(inner, prefix + name + suffix)
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        yield _line(f"{prefix}*", more, False, more.get("description", ""))
        yield from _fields(more, f"{prefix}*.")


def _line(name: str, schema: dict[str, Any], required: bool, text: str) -> str:
    needed = ", required" if required else ""
    return f"* {literal(name)} ({_type(schema)}{needed}): {text.replace('`', '``')}".rstrip(": ")


def _text(parameter: dict[str, Any]) -> str:
    text = str(parameter["description"])
    default = parameter["schema"].get("default")
    return text if default is None else f"{text} Default: `{json.dumps(default)}`."


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(str(each) for each in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    kind = schema.get("type", "anything")
    if kind == "array" and schema.get("items", {}).get("type") not in (None, "object"):
        return f"array of {_type(schema['items'])}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _answers(responses: dict[str, Any]) -> Iterator[str]:
    good = [status for status in responses if status < "300"]
    for status in good:
        content = responses[status].get("content", {})
        if not content:
            yield from ("", f"Answers {status}, without a body.")
        for kind, each in content.items():
            fields = list(_fields(each["schema"]))
            yield from ("", f"Answers {status} with {literal(kind)}{':' if fields else '.'}", "")
            yield from fields
    yield from ("", f"Problems: {', '.join(each for each in responses if each not in good)}.")
