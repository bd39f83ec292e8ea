"""Traces, the flight recorder and slow subscribers by the API."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mqttd.settings_watch import TraceSettings
from tests.admin.http.harness import Stream, Web


@pytest.fixture
def web(make_web: Callable[..., Web], tmp_path: Path) -> Web:
    return make_web(trace=TraceSettings(directory=str(tmp_path), maximum_running=2))


def events(stream: Stream) -> list[Any]:
    """The data of all packets that a stream has brought."""
    text = stream.received.decode()
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def listen(web: Web, path: str) -> Stream:
    stream = web.open()
    assert stream is not None
    stream.send(f"GET /api/v1{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return stream


def test_a_trace_is_started_listed_read_and_deleted(web: Web, tmp_path: Path) -> None:
    answer = web.ask("POST", "/traces", {"name": "one", "client_id": "a", "duration": 60})
    assert (answer.status, answer.json["file"]) == (201, str(tmp_path / "one.jsonl"))
    web.connect("a")
    (trace,) = web.get("/traces")["items"]
    assert (trace["name"], trace["running"], trace["packets"]) == ("one", True, 2)
    assert [r["packet"] for r in web.get("/traces/one/records")["items"]] == ["CONNECT", "CONNACK"]
    assert web.ask("DELETE", "/traces/one").status == 204
    assert web.get("/traces")["items"] == [{"name": "one", "running": False}]
    assert web.ask("DELETE", "/traces/one").status == 404
    assert web.ask("DELETE", "/traces/one?delete=true").status == 204
    assert web.get("/traces")["items"] == []


def test_a_live_trace_lasts_as_long_as_its_listener(web: Web) -> None:
    stream = listen(web, "/packets?client_id=a")
    web.connect("a")
    assert [event["packet"] for event in events(stream)] == ["CONNECT", "CONNACK"]
    assert len(web.admin.traces.running) == 1
    stream.close()
    assert web.admin.traces.running == {}


def test_a_trace_to_a_file_can_be_followed(web: Web) -> None:
    web.ask("POST", "/traces", {"name": "one", "client_id": "a"})
    stream = listen(web, "/traces/one/events")
    web.connect("a")
    assert len(events(stream)) == 2
    stream.close()
    web.connect("a")
    assert web.ask("GET", "/traces/none/events").status == 404


def test_what_cannot_be_traced_says_why(web: Web) -> None:
    assert web.ask("GET", "/packets").status == 409
    assert web.ask("POST", "/traces", {"name": "../a", "client_id": "a"}).status == 422
    assert web.ask("GET", "/traces/none/records").status == 404
    for name in ("one", "two"):
        assert web.ask("POST", "/traces", {"name": name, "client_id": "a"}).status == 201
    answer = web.ask("POST", "/traces", {"name": "three", "client_id": "a"})
    assert (answer.status, "maximum_running" in answer.json["detail"]) == (409, True)


# --- the flight recorder --------------------------------------------------------------


def test_the_last_packets_of_a_client_are_shown(web: Web) -> None:
    web.connect("a/b").publish("t", b"secret")
    records = web.get("/clients/a%2Fb/flight")["records"]
    assert [record["packet"] for record in records] == ["CONNACK", "PUBLISH"]
    assert "payload" not in records[1]
    shown = web.get("/clients/a%2Fb/flight?payload=3")["records"]
    assert shown[1]["payload"] == "sec"
    assert web.ask("GET", "/clients/nobody/flight").status == 404


def test_failures_are_listed_and_shown(web: Web) -> None:
    web.connect("a").send_bytes(b"\x00\x00")
    (failure,) = web.get("/flight/failures")["items"]
    assert (failure["client_id"], failure["cause"]) == ("a", "violation")
    assert web.get("/flight/failures/a")["records"]
    assert web.ask("GET", "/flight/failures/b").status == 404


def test_slow_subscribers_are_listed(web: Web) -> None:
    assert web.get("/slow-subscribers")["items"] == []
    client = web.connect("a", receive_maximum=1)
    client.subscribe("t", qos=1)
    for _ in range(3):
        web.virtual.publish("t", b"x", qos=1)
    web.advance(12)
    (slow,) = web.get("/slow-subscribers?limit=5")["items"]
    assert (slow["client_id"], slow["inflight"], slow["queued"]) == ("a", 1, 2)
    assert slow["unacknowledged_for"] >= 5
