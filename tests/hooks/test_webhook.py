"""The web hook: what is posted, in which order, and what happens when nobody takes it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import TestCase
from twisted.web.client import ResponseNeverReceived
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from mqttd.hooks.webhook import WebHook, WebHookSettings, make_post
from mqttd.testing import VirtualBroker
from tests.hooks.conftest import Use


class Server:
    """Takes posts; ``answers`` are status codes, errors or Deferreds, then 200."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[list[dict[str, Any]]] = []
        self.headers: dict[str, str] = {}

    def __call__(self, body: bytes, headers: dict[str, str]) -> Deferred[int]:
        self.requests.append(json.loads(body))
        self.headers = headers
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Deferred):
            return answer
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for request in self.requests for event in request]


def hook(server: Server, *events: str, **more: Any) -> WebHook:
    return WebHook(WebHookSettings(events=events, **more), server, lambda: 1e9)


def test_events_are_told_in_json(use: Use) -> None:
    server = Server()
    events = (
        "connected",
        "disconnected",
        "subscribed",
        "unsubscribed",
        "session_created",
        "message_publish",
        "message_delivered",
        "message_acknowledged",
        "message_dropped",
    )
    virtual = use(hook(server, *events))
    client = virtual.connect("x", user_name="me", password=b"secret")
    client.subscribe("t", qos=1)
    client.publish("t", b"\xff", 1)
    client.acknowledge(client.messages()[0])
    client.unsubscribe("t")
    client.disconnect()
    virtual.advance(2)
    told = {event["event"]: event for event in server.events}
    assert set(told) == set(events) - {"message_dropped"}
    who = {"client_id": "x", "user_name": "me", "address": "192.0.2.1"}
    assert told["connected"].items() >= {**who, "time": 1e9}.items()
    assert told["disconnected"]["detail"] == "disconnect"
    assert told["subscribed"].items() >= {**who, "filter": "t", "qos": 1}.items()
    assert told["unsubscribed"].items() >= {**who, "detail": "t"}.items()
    message = {"topic": "t", "qos": 1, "retain": False, "publisher": "x", "payload": "/w=="}
    for event in ("message_publish", "message_delivered"):
        assert told[event].items() >= {**who, **message}.items()
    assert "secret" not in json.dumps(server.events)


def test_dropped_messages_are_told_with_client_and_reason(use: Use) -> None:
    server = Server()
    virtual = use(hook(server, "message_dropped", payload="text"))
    virtual.connect("away", session_expiry_interval=9).subscribe("t")
    virtual.connect("away", clean_start=False, session_expiry_interval=9).drop()
    virtual.publish("t", b"\xff")
    virtual.advance(2)
    (event,) = server.events
    assert event.items() >= {"client_id": "away", "reason": "offline", "payload": "�"}.items()


def test_only_messages_on_the_topics_are_told(use: Use) -> None:
    server = Server()
    virtual = use(hook(server, "message_publish", topics=("a/#",), payload="none"))
    client = virtual.connect("x")
    client.publish("a/b")
    client.publish("b")
    virtual.advance(2)
    (event,) = server.events
    assert event["topic"] == "a/b"
    assert "payload" not in event
    assert not virtual.broker.hooks.blocks_lane


def test_events_gather_and_a_full_batch_goes_at_once(use: Use) -> None:
    server = Server()
    virtual = use(hook(server, "connected", maximum_batch=3, interval=10))
    virtual.connect("a")
    virtual.advance(9)
    virtual.connect("b")
    assert server.requests == []
    virtual.advance(1)
    assert [len(request) for request in server.requests] == [2]
    for name in "cdefghi":
        virtual.connect(name)
    assert [len(request) for request in server.requests] == [2, 3, 3]
    virtual.advance(10)
    assert [event["client_id"] for event in server.events] == list("abcdefghi")


def test_one_request_at_a_time_and_in_order(use: Use) -> None:
    slow: Deferred[int] = Deferred()
    server = Server(slow)
    virtual = use(hook(server, "connected", maximum_batch=1))
    for name in "abc":
        virtual.connect(name)
    virtual.advance(30)
    assert len(server.requests) == 1
    slow.callback(200)
    virtual.advance(30)
    assert [event["client_id"] for event in server.events] == ["a", "b", "c"]


@pytest.mark.parametrize("problem", [500, 503, 429, ConnectionRefusedError()])
def test_what_the_server_does_not_take_now_it_gets_later(use: Use, problem: Any) -> None:
    server = Server(problem, problem)
    plugin = hook(server, "connected")
    virtual = use(plugin)
    virtual.connect("x", keep_alive=0)
    virtual.advance(1)
    assert len(server.requests) == 1
    virtual.advance(1)
    assert len(server.requests) == 2
    virtual.advance(1.9)
    assert len(server.requests) == 2
    virtual.advance(0.1)
    assert len(server.requests) == 3
    assert (plugin.posted, plugin.lost) == (1, 0)


@pytest.mark.parametrize("status", [400, 401, 404, 301])
def test_what_it_will_never_take_is_given_up(use: Use, status: int) -> None:
    server = Server(*[status] * 5)
    plugin = hook(server, "connected")
    virtual = use(plugin)
    virtual.connect("x", keep_alive=0)
    virtual.advance(600)
    assert len(server.requests) == (5 if status == 301 else 1)
    assert plugin.lost == virtual.broker.metrics.dropped["webhook"] == 1


def test_a_server_that_is_down_for_a_day_costs_a_bounded_queue(use: Use) -> None:
    server = Server(*[ConnectionRefusedError()] * 10_000)
    plugin = hook(server, "connected", maximum_waiting=50, maximum_batch=10, attempts=3)
    virtual = use(plugin)
    for hour in range(24):
        for number in range(20):
            virtual.connect(f"{hour}-{number}", keep_alive=0).disconnect()
        virtual.advance(3600)
        assert len(plugin) <= 50
    assert plugin.lost + len(plugin) == 24 * 20
    server.answers.clear()
    virtual.connect("back", keep_alive=0)
    virtual.advance(120)
    assert server.events[-1]["client_id"] == "back"


def test_the_bound_in_bytes_holds_too(use: Use) -> None:
    plugin = hook(Server(Deferred()), "message_publish", maximum_bytes=1000, maximum_batch=1)
    virtual = use(plugin)
    client = virtual.connect("x")
    for _ in range(100):
        client.publish("t", bytes(100))
    assert plugin._bytes <= 1000
    assert plugin.lost > 50
    plugin._sending = False  # its request never ends


def test_the_rest_is_posted_at_the_stop(use: Use) -> None:
    server = Server()
    virtual = use(plugin := hook(server, "connected", interval=100))
    virtual.connect("x")
    stopped = plugin.stop()
    assert stopped.called
    assert len(server.events) == 1


def test_a_stop_does_not_wait_for_a_server_that_is_down(use: Use) -> None:
    server = Server(500, 500, 500)
    virtual = use(plugin := hook(server, "connected"))
    virtual.connect("x", keep_alive=0)
    virtual.advance(1)  # the first try; a pause follows
    stopped = plugin.stop()
    virtual.advance(60)
    assert stopped.called
    assert plugin.lost == 1


def test_the_token_comes_from_a_file(use: Use, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("abc\n")
    server = Server()
    virtual = use(hook(server, "connected", token_file=str(token)))
    virtual.connect("x")
    virtual.advance(2)
    assert server.headers["Authorization"] == "Bearer abc"


def test_without_treq_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "treq", None)
    virtual = VirtualBroker()
    with pytest.raises(ImportError, match=r"txmqttd\[webhook\]"):
        WebHook(WebHookSettings()).start(virtual.broker)
    virtual.stop()


class OverHTTP(TestCase):
    """With treq, to a server that is really there."""

    def serve(self, render: Any) -> str:
        resource = Resource()
        resource.isLeaf = True
        resource.render_POST = render  # type: ignore[attr-defined]
        some_reactor: Any = reactor
        port = some_reactor.listenTCP(0, Site(resource), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return f"http://127.0.0.1:{port.getHost().port}/events"

    async def test_a_body_is_posted(self) -> None:
        seen: list[Any] = []

        def render(request: Any) -> bytes:
            seen.append((request.content.read(), request.getHeader("X-Test")))
            request.setResponseCode(202)
            return b"thank you"

        post, close = make_post(reactor, self.serve(render), 5)
        assert await post(b"[]", {"X-Test": "1"}) == 202
        assert await post(b"[1]", {"X-Test": "2"}) == 202
        assert seen == [(b"[]", "1"), (b"[1]", "2")]
        await close()

    async def test_a_server_that_never_answers_is_left(self) -> None:
        post, close = make_post(reactor, self.serve(lambda request: NOT_DONE_YET), 0.2)
        with pytest.raises(ResponseNeverReceived):
            await post(b"[]", {})
        await close()
