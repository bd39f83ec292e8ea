"""What a stranger or a browser may send to the control API: catalogue items 75 and 76."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mqttd.plugins import Plugins
from mqttd.settings_watch import TraceSettings
from tests.admin.http.harness import Stream, Web

#: Ways to say that one wants to be elsewhere.
ELSEWHERE = [
    "../secret",
    "..%2fsecret",
    "%2e%2e/secret",
    "%2e%2e%2fsecret",
    "%252e%252e%252fsecret",
    "..%5csecret",
    "..%c0%afsecret",
    "secret%00",
    "%2fetc%2fpasswd",
    ".",
    "..",
    "%2e%2e",
]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """Its traces are in a folder beside which there is a secret."""
    (tmp_path / "traces").mkdir()
    (tmp_path / "secret.jsonl").write_text('{"secret": 1}\n')
    made = Web(trace=TraceSettings(directory=str(tmp_path / "traces"), maximum_running=2))
    made.daemon.plugins = Plugins(made.broker, (), ())
    yield made
    made.stop()


@pytest.mark.parametrize("name", ELSEWHERE)
def test_75_no_path_leads_to_a_file_that_is_not_meant(web: Web, tmp_path: Path, name: str) -> None:
    for method, path in (
        ("GET", f"/traces/{name}/records"),
        ("DELETE", f"/traces/{name}?delete=true"),
        ("GET", f"/flight/failures/{name}"),
        ("GET", f"/plugins/{name}"),
    ):
        answer = web.ask(method, path)
        assert answer.status in (400, 404, 405), (method, path)
        assert b'"secret"' not in answer.body
    assert web.ask("POST", "/traces", {"name": "../secret", "client_id": "a"}).status == 422
    assert (tmp_path / "secret.jsonl").exists()


def drip(web: Web, head: bytes, piece: bytes) -> list[Stream]:
    """As many connections as there may be, each of which sends *piece* once a second."""
    streams = []
    while (stream := web.open()) is not None:
        stream.send(head)
        streams.append(stream)
    for _ in range(29):
        for stream in streams:
            stream.send(piece)
        web.advance(1)
    return streams


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"GET /api/v1/node HTTP/1.1\r\n", b"A: b\r\n"),
        (b"GET /api", b"/"),
        (b"POST /api/v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n", b"x"),
        (
            b"POST /api/v1/reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\nx\r\n",
        ),
    ],
    ids=["headers", "line", "body", "chunks"],
)
def test_75_who_drips_gives_his_place_away(web: Web, head: bytes, piece: bytes) -> None:
    streams = drip(web, head, piece)
    assert len(streams) == web.site.maximum_connections
    assert web.open() is None
    web.advance(2)
    assert all(stream.is_closed for stream in streams)
    for stream in streams:
        stream.close()
    assert web.get("/node")


#: A body for each operation that takes one, of types that it does not take.
WRONG: list[Any] = [None, 1, "text", [], [{}], {"name": 1}, {"topic": ["a"]}, {"user": {}}]


@pytest.mark.parametrize("body", WRONG, ids=json.dumps)
def test_75_wrong_types_are_told_and_change_nothing(web: Web, body: Any) -> None:
    for method, path in (
        ("POST", "/publish"),
        ("POST", "/publish/bulk"),
        ("POST", "/traces"),
        ("POST", "/tokens"),
        ("POST", "/plugins"),
        ("PATCH", "/config"),
    ):
        headers = {"Content-Type": "application/json"}
        answer = web.ask(method, path, headers=headers, content=json.dumps(body).encode())
        assert answer.status == 422, (path, answer)
        assert answer.json["detail"]
    assert web.admin.traces.running == {}
    assert web.daemon.taken == []


@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: x=1", "a\nb", "a\x00b", "a\x1b[2J"])
def test_75_no_text_of_a_client_becomes_a_header(web: Web, text: str) -> None:
    web.virtual.publish("t/" + text.replace("\x00", ""), b"x", retain=True)
    if "\x00" not in text:
        web.connect(text)
    for path in ("/clients", "/retained", "/sessions", "/topics"):
        answer = web.ask("GET", path)
        assert answer.status == 200
        assert "set-cookie" not in answer.headers
        # As JSON has it, and so one line.
        assert answer.body.count(b"\n") == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example", "Content-Type": "text/plain"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=["form", "sandbox", "fetch"],
)
def test_75_a_page_of_elsewhere_changes_nothing_and_is_told_nothing(
    web: Web, headers: dict[str, str]
) -> None:
    client = web.connect("a")
    for method, path in (("DELETE", "/clients/a"), ("POST", "/reload"), ("GET", "/clients")):
        answer = web.ask(method, path, headers=headers)
        assert answer.status == 403
        assert not {each for each in answer.headers if each.startswith("access-control-")}
    assert web.ask("OPTIONS", "/clients/a", headers=headers).status == 403
    assert not client.closed


def test_76_html_in_names_is_never_sent_as_html(web: Web) -> None:
    evil = "<script>alert(1)</script>"
    web.connect(evil).publish(f"t/{evil}", b"x", retain=True)
    for path in ("/clients", "/retained", f"/clients/{evil.replace('/', '%2F')}", f"/{evil}"):
        answer = web.ask("GET", path.replace("<", "%3C").replace(">", "%3E"))
        assert answer.headers["content-type"] in ("application/json", "application/problem+json")
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/events?stats_every=1",
        "/messages?topic_filter=%23",
        "/packets?client_id=a",
        "/traces/one/events",
    ],
)
@pytest.mark.parametrize("paused", [False, True], ids=["reading", "not reading"])
def test_75_a_browser_that_leaves_in_the_middle_of_a_stream_leaves_nothing(
    web: Web, path: str, paused: bool
) -> None:
    if "one" in path:
        web.ask("POST", "/traces", {"name": "one", "client_id": "a"})

    def left() -> tuple[Any, ...]:
        traces = web.admin.traces
        hooks = web.broker.hooks
        return (
            len(web.broker.sessions),
            len(hooks.connected),
            len(hooks.disconnected),
            len(web.admin.alarms.observers),
            sorted(traces.running),
            [len(each.sinks) for each in traces.running.values()],
            len(web.site.connections),
        )

    before = left()
    stream = web.open()
    assert stream is not None
    stream.send(f"GET /api/v1{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert left() != before
    if paused:
        producer: Any = stream.transport.producer
        producer.pauseProducing()
    client = web.connect("a")
    for number in range(200):
        client.publish("t", str(number).encode())
    stream.close()
    client.disconnect()
    web.advance(2)
    assert left() == before
    assert web.get("/node")
