"""The client and a real broker, on virtual time."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from mqttd.client import ClientClosed, OutgoingFull, Received
from mqttd.wire.packets import Will
from tests.client.conftest import Net
from tests.client.link import result

both = pytest.mark.parametrize("version", [4, 5])


@both
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_one_publishes_the_other_gets(net: Net, version: int, qos: int) -> None:
    one, two = net.client("one", version), net.client("two", version)
    got: list[Received] = []
    (inbox,) = subscribed(net, two.subscribe("t/+", got.append, qos=2))
    assert inbox.qos == 2
    sent = result(one.publish("t/1", b"x", qos))
    net.advance()
    assert sent == [0]
    assert [(m.topic, m.payload, m.qos) for m in got] == [("t/1", b"x", qos)]
    assert one.unsent == 0


def subscribed(net: Net, deferred: Deferred[Any]) -> list[Any]:
    found = result(deferred)
    net.advance()
    return found


def test_messages_have_their_properties(net: Net) -> None:
    client = net.client()
    (inbox,) = subscribed(net, client.subscribe("t"))
    client.publish("t", b"x", content_type="text", user_property=[("a", "b")])
    net.advance()
    (message,) = result(inbox.get())
    assert message.properties["content_type"] == "text"
    assert message.properties["user_property"] == [("a", "b")]


def test_what_no_server_takes_is_refused_at_once(net: Net) -> None:
    client, old = net.client(), net.client("old", 4)
    for topic, payload, qos in (("a/#", b"", 0), ("", b"", 0), ("t", b"", 3)):
        with pytest.raises(ValueError, match=r"not a|QoS"):
            client.publish(topic, payload, qos)
    with pytest.raises(TypeError):
        client.publish("t", "text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"5\.0"):
        old.publish("t", content_type="x")
    with pytest.raises(ValueError, match="Filter"):
        client.subscribe("a/#/b")


@both
def test_it_may_be_used_before_it_is_connected(net: Net, version: int) -> None:
    client = net.client("c", version)
    net.links[client].down = True
    net.cut(client)
    got: list[Received] = []
    inbox = result(client.subscribe("t", got.append, qos=1))
    sent = result(client.publish("t", b"x", 1))
    net.advance(10)
    assert (inbox, sent, got) == ([], [], [])
    net.links[client].down = False
    net.advance(60)
    assert len(inbox) == len(got) == 1
    assert sent == [0]


@both
@pytest.mark.parametrize("qos", [1, 2])
def test_nothing_is_lost_when_the_link_is_cut_again_and_again(
    net: Net, version: int, qos: int
) -> None:
    more: dict[str, Any] = {"clean_start": False, "retry_first": 0.1, "retry_last": 0.2}
    if version == 5:
        more["session_expiry"] = 3600
    one, two = net.client("one", version, **more), net.client("two", version, **more)
    got: list[int] = []
    two.subscribe("t", lambda m: got.append(int(m.payload)), qos=2)
    net.advance()
    answers = []
    for number in range(300):
        answers.append(result(one.publish("t", b"%d" % number, qos)))
        if number % 7 == 0:
            net.cut(one)
        if number % 11 == 0:
            net.cut(two)
        net.advance(0.05)
    net.advance(10)
    assert answers == [[0]] * 300
    assert sorted(set(got)) == list(range(300))
    if qos == 2:
        assert got == list(range(300))


def test_a_callback_holds_up_the_acknowledgement(net: Net) -> None:
    client = net.client()
    waiting: list[Deferred[None]] = []

    def take(message: Received) -> Deferred[None]:
        waiting.append(Deferred())
        return waiting[-1]

    client.subscribe("t", take, qos=1, at_once=3)
    net.advance()
    for number in range(5):
        net.broker.publish("t", b"%d" % number, 1)
    net.advance()
    assert len(waiting) == 3
    session = net.broker.broker.sessions.get("c")
    assert session is not None
    assert len(session.inflight) == 5
    for _ in range(5):
        waiting.pop(0).callback(None)
        net.advance()
    assert not session.inflight


def test_a_callback_that_fails_has_taken_the_message(net: Net) -> None:
    client = net.client()
    got = []

    def take(message: Received) -> None:
        got.append(message.payload)
        raise RuntimeError("in a test")

    client.subscribe("t", take, qos=1)
    net.advance()
    for payload in (b"1", b"2"):
        net.broker.publish("t", payload, 1)
        net.advance()
    assert got == [b"1", b"2"]
    session = net.broker.broker.sessions.get("c")
    assert session is not None
    assert not session.inflight


def test_messages_by_async_for(net: Net) -> None:
    client = net.client()
    got: list[bytes] = []

    async def run() -> str:
        inbox = await client.subscribe("t/#", qos=1)
        async for message in inbox:
            got.append(message.payload)
            if len(got) == 2:
                await inbox.unsubscribe()
        return "over"

    over = result(Deferred.fromCoroutine(run()))
    net.advance()
    for payload in (b"1", b"2", b"3"):
        net.broker.publish("t/x", payload, 1)
        net.advance()
    assert got == [b"1", b"2"]
    assert over == ["over"]


def test_overlapping_subscriptions_each_get_a_message_once(net: Net) -> None:
    client = net.client()
    got: list[str] = []
    client.subscribe("a/#", lambda m: got.append("wide"))
    client.subscribe("a/b", lambda m: got.append("narrow"))
    net.advance()
    net.broker.publish("a/b")
    assert sorted(got) == ["narrow", "wide"]


def test_a_request_is_answered(net: Net) -> None:
    server, asker = net.client("server"), net.client("asker")
    server.subscribe("ask", lambda m: m.respond(m.payload * 2), qos=1)
    (inbox,) = subscribed(net, asker.subscribe("answers"))
    asker.publish("ask", b"ab", 1, response_topic="answers", correlation_data=b"1")
    net.advance()
    (answer,) = result(inbox.get())
    assert (answer.payload, answer.properties["correlation_data"]) == (b"abab", b"1")


def test_the_queue_is_bounded_and_says_when_there_is_room(net: Net) -> None:
    client = net.client(maximum_queued=10)
    net.links[client].down = True
    net.cut(client)
    sent = [result(client.publish("t", b"x", 1)) for _ in range(11)]
    assert sent[:10] == [[]] * 10
    assert isinstance(sent[10][0], OutgoingFull)
    room = result(client.room())
    assert room == []
    net.links[client].down = False
    net.advance(60)
    assert room == [None]
    assert sent[:10] == [[0x10]] * 10


def test_stopping_takes_leave_and_fails_what_waits(net: Net) -> None:
    client = net.client(will=Will("gone", b"x"))
    watcher = net.broker.connect("w")
    watcher.subscribe("gone")
    net.links[client].down = True
    (inbox,) = subscribed(net, client.subscribe("t"))
    asked = result(inbox.get())
    stopped = result(client.stopService())
    net.advance(1)
    assert stopped == [None]
    assert isinstance(asked[0], ClientClosed)
    assert watcher.messages() == []
    assert "c" not in net.broker.broker.connections


def test_it_can_be_started_again(net: Net) -> None:
    client = net.client()
    client.stopService()
    net.advance(1)
    client.startService()
    net.advance()
    assert result(client.publish("t", b"", 1)) == []
    net.advance()
    assert client.is_connected
    assert client.unsent == 0


def test_an_idle_client_is_kept_alive(net: Net) -> None:
    client = net.client(keep_alive=10)
    net.advance(1000)
    assert client.is_connected
    assert len(net.links[client].attempts) == 1
