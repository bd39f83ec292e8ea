"""The operations of the API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from mqttd.admin.http import Route
from mqttd.admin.http.routes import all_routes, root_routes
from mqttd.admin.http.table import Entry
from mqttd.service import Reloaded
from mqttd.wire.packets import Disconnect
from tests.admin.http.harness import Web


def test_the_node_tells_what_it_is(web: Web) -> None:
    web.connect("a")
    web.advance(5)
    node = web.get("/node")
    assert (node["node"], node["clients"], node["uptime"]) == ("node-1", 1, 5)


def test_reload_tells_what_it_did(web: Web) -> None:
    web.daemon.reloaded = Reloaded(("limits",), ("http",))
    assert web.ask("POST", "/reload").json == {"changed": ["limits"], "restart_needed": ["http"]}


def test_a_reload_that_fails_is_a_conflict(web: Web) -> None:
    web.daemon.reloaded = Reloaded(errors=("mqttd.toml: nonsense",))
    answer = web.ask("POST", "/reload")
    assert (answer.status, answer.json["errors"]) == (409, ["mqttd.toml: nonsense"])


def test_clients_are_listed_with_what_they_are(web: Web) -> None:
    web.connect("a", keep_alive=60, user_name="ann")
    web.advance(5)
    (client,) = web.get("/clients")["items"]
    wanted = {"client_id": "a", "address": "192.0.2.1", "version": 5, "keep_alive": 60}
    assert {name: client[name] for name in wanted} == wanted
    assert client["connected_for"] == 5


def test_pages_follow_each_other(web: Web) -> None:
    names = [f"client-{number:02}" for number in range(25)]
    for name in reversed(names):
        web.connect(name)
    first = web.get("/clients?limit=10")
    assert [item["client_id"] for item in first["items"]] == names[:10]
    assert (first["total"], first["next"]) == (25, "client-09")
    last = web.get("/clients?limit=10&after=client-19")
    assert [item["client_id"] for item in last["items"]] == names[20:]
    assert last["next"] is None


def test_clients_can_be_filtered(web: Web) -> None:
    web.connect("a/1", address="192.0.2.1")
    web.connect("a/2", address="192.0.2.2")
    web.connect("b/1", address="192.0.2.2")

    def found(query: str) -> list[str]:
        return [item["client_id"] for item in web.get(f"/clients?{query}")["items"]]

    assert found("prefix=a/") == ["a/1", "a/2"]
    assert found("address=192.0.2.2") == ["a/2", "b/1"]
    assert found("address=192.0.2.2&prefix=a") == ["a/2"]
    assert found("listener=memory") == ["a/1", "a/2", "b/1"]
    assert found("user=nobody") == []


def test_one_client_is_found_by_any_name(web: Web) -> None:
    web.connect("a/b c\r\n<script>")
    client = web.get("/clients/a%2Fb%20c%0D%0A%3Cscript%3E")
    assert client["client_id"] == "a/b c\r\n<script>"
    assert web.ask("GET", "/clients/other").status == 404


def test_a_kicked_client_hears_why(web: Web) -> None:
    client = web.connect("a")
    assert web.ask("DELETE", "/clients/a").status == 204
    assert client.expect(Disconnect).reason == 0x98
    assert web.ask("DELETE", "/clients/a").status == 404


def test_the_document_describes_every_route(web: Web) -> None:
    document = web.get("/openapi.json")
    assert document["openapi"] == "3.1.0"
    operations = [
        (operation["operationId"], operation)
        for methods in document["paths"].values()
        for operation in methods.values()
    ]
    identifiers = [identifier for identifier, _ in operations]
    assert len(set(identifiers)) == len(identifiers)
    assert all(operation["summary"] for _, operation in operations)
    json.dumps(document)


ALL = [*all_routes(), *root_routes()]


@pytest.mark.parametrize("route", ALL, ids=lambda route: f"{route.method} {route.path}")
def test_each_operation_has_an_example_that_it_takes(route: Route) -> None:
    entry = Entry(route)
    example = dict(route.example)
    assert {name: example.pop(name) for name in route.variables}.keys() == set(route.variables)
    if route.body is not None:
        entry.check_body(example.pop("body"))
    entry.read_query({name: [json.dumps(each).strip('"')] for name, each in example.items()})


@pytest.mark.parametrize("route", ALL, ids=lambda route: f"{route.method} {route.path}")
def test_each_field_says_what_it_means(route: Route) -> None:
    def silent(schema: Mapping[str, Any], where: str) -> Iterator[str]:
        for name, each in schema.get("properties", {}).items():
            if not each.get("description"):
                yield f"{where}.{name}"
            yield from silent(each, f"{where}.{name}")
        for inner in ("items", "additionalProperties"):
            if isinstance(schema.get(inner), Mapping):
                yield from silent(schema[inner], f"{where}[]")

    assert list(silent(route.body or {}, "body")) == []
    assert list(silent(route.answer or {}, "answer")) == []
    assert all(each.description for each in route.query)
