"""The OpenAPI 3.1 document of the API, made from the route table.

``routes.meta`` serves it; ``docs`` and the tests read it.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from mqttd import __version__
from mqttd.admin.http.table import Route

PROBLEM = {
    "type": "object",
    "description": "RFC 9457.",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "string"}},
    },
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document for *routes*."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mqttd",
            "version": __version__,
            "description": "The control API of mqttd, an MQTT broker.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/api/v1"}],
        "security": [{"token": []}, {"password": []}],
        "paths": paths,
        "components": {
            "schemas": {"Problem": PROBLEM},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic"},
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.tag}_{route.handler.__name__}",
        "summary": route.summary,
        "description": f"Needs the role {route.role.name.lower()}.",
        "tags": [route.tag],
        "parameters": [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
                **_example(route, name),
            }
            for name in route.variables
        ]
        + [
            {
                "name": each.name,
                "in": "query",
                "required": each.required,
                "description": each.description,
                "schema": _with_default(each.schema, each.default),
                **_example(route, each.name),
            }
            for each in route.query
        ],
        "responses": _responses(route),
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": route.body, **_example(route, "body")}},
        }
    return operation


def _example(route: Route, name: str) -> dict[str, Any]:
    return {"example": route.example[name]} if name in route.example else {}


def _with_default(schema: Any, default: Any) -> dict[str, Any]:
    return dict(schema) if default is None else {**schema, "default": default}


def _responses(route: Route) -> dict[str, Any]:
    if route.answer is None:
        good: dict[str, Any] = {"204": {"description": HTTPStatus(204).phrase}}
    else:
        content = {route.produces: {"schema": route.answer}}
        good = {
            str(route.status): {
                "description": HTTPStatus(route.status).phrase,
                "content": content,
            }
        }
    statuses = {400, 401, 403, 429, 503, *route.problems}
    if route.body is not None:
        statuses |= {413, 415, 422}
    if route.variables:
        statuses.add(404)
    schema = {"$ref": "#/components/schemas/Problem"}
    bad = {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": schema}},
        }
        for status in sorted(statuses)
    }
    return {**good, **bad}
