"""The client inside the process: all of MQTT, without a socket and without copies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, TimeoutError, ensureDeferred
from twisted.logger import capturedLogs

from mqttd.broker import inprocess
from mqttd.broker.inbox import ClientClosed, Inbox, Incoming
from mqttd.broker.inprocess import BUFFER, InProcessClient, OutgoingFull, Refused, make_settings
from mqttd.interfaces import PUBLISH, RECEIVE, SUBSCRIBE, Refuse
from mqttd.settings import BrokerSettings, Overflow, ProtocolSettings, SessionSettings
from mqttd.testing import VirtualBroker
from mqttd.wire.packets import Publish, Will
from tests.broker.doubles import Rules


@pytest.fixture
def virtual() -> Iterator[VirtualBroker]:
    broker = VirtualBroker()
    yield broker
    broker.broker.drain()
    broker.advance()
    broker.stop()
    assert broker.clock.getDelayedCalls() == []


def result(virtual: VirtualBroker, deferred: Deferred[Any]) -> Any:
    """What *deferred* has fired with by now; raises what it failed with."""
    virtual.advance()
    results: list[Any] = []
    failures: list[Any] = []
    deferred.addCallbacks(results.append, failures.append)
    if failures:
        failures[0].raiseException()
    assert results, "it has not fired"
    return results[0]


def make(virtual: VirtualBroker, client_id: str = "app", **more: Any) -> InProcessClient:
    client: InProcessClient = result(virtual, virtual.broker.client(client_id, **more))
    return client


def subscribe(client: InProcessClient, topic_filter: str, *rest: Any, **more: Any) -> Inbox:
    found: list[Inbox] = []
    client.subscribe(topic_filter, *rest, **more).addCallback(found.append)
    return found[0]


def topics(inbox: Inbox, virtual: VirtualBroker) -> list[str]:
    return [result(virtual, inbox.get()).topic for _ in range(len(inbox))]


# --- life --------------------------------------------------------------------------


def test_it_is_a_client_like_others(virtual: VirtualBroker) -> None:
    client = make(virtual, principal="me")
    assert virtual.broker.connections["app"] is client
    assert client.principal == "me"
    assert client.peer.address == "in-process"
    assert not client.session_present
    assert make(virtual, "").client_id.startswith("in-process-")


def test_it_leaves_nothing_behind(virtual: VirtualBroker) -> None:
    calls = len(virtual.clock.getDelayedCalls())
    client = make(virtual)
    subscribe(client, "t", print)
    client.publish("u", b"", 2)
    client.close()
    assert result(virtual, client.when_closed()) == "disconnect"
    assert "app" not in virtual.broker.connections
    assert "app" not in virtual.broker.sessions
    assert len(virtual.clock.getDelayedCalls()) == calls
    with pytest.raises(ClientClosed, match="disconnect"):
        result(virtual, client.publish("t"))


@pytest.mark.parametrize("how", ["taken-over", "kicked", "shutdown"])
def test_whoever_waits_is_told_of_the_end(virtual: VirtualBroker, how: str) -> None:
    client = make(virtual)
    inbox = subscribe(client, "t")
    virtual.connect("mute").subscribe("ask")
    waiting: list[Any] = [inbox.get(), client.when_closed(), client.request("ask", timeout=100)]
    if how == "taken-over":
        virtual.connect("app")
    elif how == "kicked":
        client.kick("out")
    else:
        virtual.broker.drain()
    assert result(virtual, waiting[1]) == how
    for each in (waiting[0], waiting[2]):
        with pytest.raises(ClientClosed):
            result(virtual, each)


def test_a_session_goes_on_and_is_resumed(virtual: VirtualBroker) -> None:
    first = make(virtual, session_expiry=100)
    subscribe(first, "t", qos=1)
    first.close()
    virtual.publish("t", b"1", 1)
    virtual.publish("t", b"2", 1)
    claimed: list[bytes] = []
    again = make(
        virtual,
        clean_start=False,
        session_expiry=100,
        on_message=lambda message: claimed.append(message.payload),
    )
    virtual.advance()
    assert again.session_present
    assert claimed == [b"1", b"2"]
    assert not again.session.inflight
    again.close()
    virtual.advance(101)
    assert "app" not in virtual.broker.sessions


def test_what_nobody_claims_is_counted_and_holds_nothing_up(virtual: VirtualBroker) -> None:
    first = make(virtual, session_expiry=100)
    subscribe(first, "t", qos=1)
    first.close()
    for _ in range(2 * BUFFER):
        virtual.publish("t", b"", 1)
    again = make(virtual, clean_start=False, session_expiry=100)
    virtual.advance()
    assert virtual.broker.metrics.errors["in-process-unclaimed"] == 2 * BUFFER
    assert not again.session.inflight
    assert again.session.queued == 0


def test_a_will_is_published_if_wanted(virtual: VirtualBroker) -> None:
    watcher = virtual.connect("watcher")
    watcher.subscribe("will")
    make(virtual, will=Will("will", b"1")).close()
    virtual.advance()
    watcher.expect_nothing()
    make(virtual, will=Will("will", b"2")).close(will=True)
    virtual.advance()
    assert watcher.expect(Publish).payload == b"2"


def test_who_is_refused_learns_why() -> None:
    virtual = VirtualBroker()
    virtual.broker.hooks.add("authenticated", lambda client: Refuse(0x8A, "not here"))
    with pytest.raises(Refused, match="not here") as caught:
        make(virtual)
    assert caught.value.reason == 0x8A
    assert virtual.broker.connections == {}
    virtual.stop()


# --- publish -----------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_it_publishes_reaches_clients(virtual: VirtualBroker, qos: int) -> None:
    other = virtual.connect("other")
    other.subscribe("t", qos=2)
    client = make(virtual)
    sent = client.publish("t", b"payload", qos, content_type="text/plain")
    assert result(virtual, sent) == 0
    (message,) = other.messages()
    assert (message.payload, message.qos) == (b"payload", qos)
    assert message.properties["content_type"] == "text/plain"
    assert not client.session.awaiting_release


def test_it_learns_whether_anybody_listens(virtual: VirtualBroker) -> None:
    client = make(virtual)
    assert result(virtual, client.publish("t", qos=1)) == 0x10
    assert result(virtual, client.publish("t", qos=2)) in (0, 0x10)


def test_it_may_use_dollar_topics_but_not_the_brokers_own(virtual: VirtualBroker) -> None:
    client = make(virtual)
    assert result(virtual, client.publish("$app/x", qos=1)) == 0x10
    with pytest.raises(Refused):
        result(virtual, client.publish("$SYS/x", qos=1))


@pytest.mark.parametrize("topic", ["", "a/#", "+", "a\0b", "x" * 70_000])
def test_a_bad_topic_is_the_callers_error(virtual: VirtualBroker, topic: str) -> None:
    client = make(virtual)
    with pytest.raises(ValueError, match="not a Topic Name"):
        client.publish(topic)
    with pytest.raises(TypeError):
        client.publish("t", "text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="QoS 3"):
        client.publish("t", b"", 3)
    assert client.is_connected


def test_many_exchanges_go_on_within_the_receive_maximum() -> None:
    virtual = VirtualBroker(BrokerSettings(protocol=ProtocolSettings(receive_maximum=3)))
    answers: list[Deferred[None]] = []

    def later(message: Any, client: Any) -> Deferred[None]:
        answers.append(Deferred())
        return answers[-1]

    virtual.broker.hooks.add("message_publish", later)
    other = virtual.connect("other")
    other.subscribe("t", qos=2)
    client = make(virtual)
    sent = [client.publish("t", b"%d" % n, n % 3) for n in range(30)]
    while answers:
        answers.pop().callback(None)
        virtual.advance()
    assert [result(virtual, each) for each in sent] == [0] * 30
    assert [m.payload for m in other.messages()] == [b"%d" % n for n in range(30)]
    virtual.stop()


def test_what_waits_to_be_sent_is_bounded(
    virtual: VirtualBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inprocess, "MAXIMUM_OUTGOING", 5)
    virtual.broker.hooks.add("message_publish", lambda *_: Deferred())
    client = make(virtual)
    sent = [client.publish("t") for _ in range(10)]
    with pytest.raises(OutgoingFull):
        result(virtual, sent[9])
    client.close()
    for each in sent[:9]:
        each.addErrback(lambda failure: None)


def test_it_is_held_back_by_a_slow_receiver() -> None:
    session = SessionSettings(
        overflow=Overflow.PAUSE_PUBLISHERS, maximum_queued_messages=5, maximum_inflight=2
    )
    virtual = VirtualBroker(BrokerSettings(session=session))
    slow = virtual.connect("slow", keep_alive=0)
    slow.subscribe("t", qos=1)
    client = make(virtual)
    sent = [client.publish("t", b"%d" % n, 1) for n in range(30)]
    virtual.advance()
    assert not sent[20].called
    received: list[bytes] = []
    while messages := slow.messages():
        for message in messages:
            received.append(message.payload)
            slow.acknowledge(message)
        virtual.advance()
    assert received == [b"%d" % n for n in range(30)]
    assert all(each.called for each in sent)
    virtual.stop()


# --- subscribe -----------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_callback_gets_the_brokers_own_message(virtual: VirtualBroker, qos: int) -> None:
    client = make(virtual)
    got: list[Incoming] = []
    inbox = subscribe(client, "a/+", got.append, qos=qos)
    assert inbox.qos == qos
    payload = b"payload"
    other = make(virtual, "other")
    result(virtual, other.publish("a/b", payload, 2))
    (incoming,) = got
    assert incoming.payload is payload
    assert (incoming.topic, incoming.qos, incoming.retain) == ("a/b", qos, False)
    assert not client.session.inflight


def test_messages_come_in_a_turn_of_their_own(virtual: VirtualBroker) -> None:
    client = make(virtual)
    got: list[Incoming] = []
    subscribe(client, "t", got.append)
    client.publish("t")
    assert got == []
    virtual.advance()
    assert len(got) == 1


def test_a_callback_that_waits_gets_the_next_message_later(virtual: VirtualBroker) -> None:
    client = make(virtual)
    waiting: list[tuple[bytes, Deferred[None]]] = []

    async def work(message: Incoming) -> None:
        waiting.append((message.payload, Deferred()))
        await waiting[-1][1]

    subscribe(client, "t", work, qos=1)
    for n in range(3):
        virtual.publish("t", b"%d" % n, 1)
    for n in range(3):
        ((payload, deferred),) = waiting
        assert payload == b"%d" % n
        assert len(client.session.inflight) == 3 - n
        waiting.clear()
        deferred.callback(None)
        virtual.advance()
    assert waiting == []


@pytest.mark.parametrize("later", [False, True])
def test_a_callback_that_fails_is_logged_and_gets_the_next(
    virtual: VirtualBroker, later: bool, logged_failures: list[Any]
) -> None:
    client = make(virtual)
    got: list[bytes] = []

    def broken(message: Incoming) -> None:
        got.append(message.payload)
        raise RuntimeError("meant to be")

    async def broken_later(message: Incoming) -> None:
        broken(message)

    subscribe(client, "t", broken_later if later else broken, qos=1)
    with capturedLogs():
        virtual.publish("t", b"1", 1)
        virtual.publish("t", b"2", 1)
    assert got == [b"1", b"2"]
    assert not client.session.inflight
    assert virtual.broker.metrics.errors["in-process"] == 2
    assert len(logged_failures) == 2
    logged_failures.clear()


def test_messages_are_taken_by_deferreds_in_order(virtual: VirtualBroker) -> None:
    client = make(virtual)
    inbox = subscribe(client, "t")
    early = inbox.get()
    cancelled = inbox.get()
    cancelled.addErrback(lambda failure: None)
    cancelled.cancel()
    for n in range(3):
        virtual.publish("t", b"%d" % n)
    assert result(virtual, early).payload == b"0"
    assert result(virtual, inbox.get()).payload == b"1"
    assert result(virtual, inbox.get()).payload == b"2"


def test_messages_are_iterated_over_until_the_end(virtual: VirtualBroker) -> None:
    client = make(virtual)
    inbox = subscribe(client, "t")
    got: list[bytes] = []

    async def read() -> str:
        async for message in inbox:
            got.append(message.payload)
        return "done"

    reading = ensureDeferred(read())
    virtual.publish("t", b"1")
    virtual.publish("t", b"2")
    assert got == [b"1", b"2"]
    inbox.unsubscribe()
    assert result(virtual, reading) == "done"
    virtual.publish("t", b"3")
    assert got == [b"1", b"2"]


def test_overlapping_subscriptions_each_get_a_message_that_is_acknowledged_once(
    virtual: VirtualBroker,
) -> None:
    client = make(virtual)
    one, two = subscribe(client, "a/#", qos=1), subscribe(client, "+/b", qos=1)
    virtual.publish("a/b", b"", 1)
    assert len(client.session.inflight) == 1
    assert result(virtual, one.get()) is result(virtual, two.get())
    assert not client.session.inflight


def test_the_same_filter_again_replaces(virtual: VirtualBroker) -> None:
    client = make(virtual)
    one = subscribe(client, "t")
    two = subscribe(client, "t")
    virtual.publish("t")
    assert (len(one), len(two)) == (0, 1)
    with pytest.raises(ClientClosed, match="replaced"):
        result(virtual, one.get())


def test_retained_messages_come_with_the_subscription(virtual: VirtualBroker) -> None:
    virtual.publish("a/1", b"x", retain=True)
    virtual.publish("a/2", b"y", retain=True)
    client = make(virtual)
    got: list[tuple[str, bool]] = []
    subscribe(client, "a/+", lambda m: got.append((m.topic, m.retain)))
    virtual.advance()
    assert sorted(got) == [("a/1", True), ("a/2", True)]
    quiet: list[Any] = []
    subscribe(client, "a/#", quiet.append, retain_handling=2)
    virtual.advance()
    assert quiet == []


def test_shared_subscriptions_share(virtual: VirtualBroker) -> None:
    inboxes = [subscribe(make(virtual, name), "$share/g/t", qos=1) for name in ("a", "b")]
    for _ in range(10):
        virtual.publish("t", b"", 1)
    assert [len(inbox) for inbox in inboxes] == [5, 5]


def test_no_local_is_obeyed(virtual: VirtualBroker) -> None:
    client = make(virtual)
    inbox = subscribe(client, "t", no_local=True)
    client.publish("t")
    virtual.connect("other").publish("t", b"other")
    assert result(virtual, inbox.get()).payload == b"other"
    assert len(inbox) == 0


def test_a_slow_receiver_fills_its_queue_and_harms_nobody() -> None:
    session = SessionSettings(maximum_queued_messages=50)
    virtual = VirtualBroker(BrokerSettings(session=session))
    client = make(virtual)
    inbox = subscribe(client, "t")
    other = virtual.connect("other")
    other.subscribe("t")
    for n in range(1000):
        virtual.publish("t", b"%d" % n)
    assert len(inbox) == BUFFER
    assert client.session.queued == 50
    assert len(other.messages()) == 1000
    assert virtual.broker.metrics.dropped["queue-full"] == 1000 - BUFFER - 50
    payloads = []
    while len(inbox):
        payloads.append(int(result(virtual, inbox.get()).payload))
    assert payloads == [*range(BUFFER), *range(950, 1000)]
    virtual.stop()


def test_a_receiver_of_qos_1_is_held_by_its_window(virtual: VirtualBroker) -> None:
    client = make(virtual)
    inbox = subscribe(client, "t", qos=1)
    for n in range(100):
        virtual.publish("t", b"%d" % n, 1)
    assert len(client.session.inflight) == client.window == len(inbox)
    got = [int(result(virtual, inbox.get()).payload) for _ in range(100)]
    assert got == list(range(100))


def test_publishing_from_a_callback_works(virtual: VirtualBroker) -> None:
    client = make(virtual)
    got: list[bytes] = []

    def echo(message: Incoming) -> Deferred[int]:
        return client.publish("out", message.payload, 2)

    subscribe(client, "in", echo, qos=2)
    subscribe(client, "out", lambda m: got.append(m.payload), qos=2)
    for n in range(50):
        virtual.publish("in", b"%d" % n, 2)
    assert got == [b"%d" % n for n in range(50)]


# --- rights ----------------------------------------------------------------------------


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [("no", b"", 0x87), ("$SYS/x", b"", 0x87), ("a/" * 9, b"", 0x90), ("t", bytes(99), 0x97)],
)
def test_a_refusal_is_the_same_at_every_qos(
    topic: str, payload: bytes, reason: int, slow: bool
) -> None:
    rules = Rules((PUBLISH, "no"), slow=slow)
    virtual = VirtualBroker(authorizer=rules)
    protocol = ProtocolSettings(maximum_topic_levels=5, maximum_payload_size=50)
    client = make(
        virtual, listener=evolve(make_settings(virtual.broker.settings), protocol=protocol)
    )
    said = []
    for qos in (0, 1, 2):
        waiting = client.publish(topic, payload, qos)
        if rules.asked:
            rules.answer()
        with pytest.raises(Refused) as caught:
            result(virtual, waiting)
        said.append((caught.value.reason, caught.value.text))
    assert said == [said[0]] * 3
    assert said[0][0] == reason
    # The next one is not taken for it.
    waiting = client.publish("yes")
    if rules.asked:
        rules.answer()
    assert result(virtual, waiting) == 0
    virtual.stop()


@pytest.mark.parametrize("refusal", [Refuse(0x99, "not JSON"), Refuse(0x8A, "odd"), "nonsense"])
def test_a_hook_s_refusal_is_the_same_at_every_qos(virtual: VirtualBroker, refusal: object) -> None:
    client = make(virtual)
    virtual.broker.hooks.add("message_publish", lambda message, _: refusal)
    said = []
    for qos in (0, 1):
        with pytest.raises(Refused) as caught:
            result(virtual, client.publish("t", b"", qos))
        said.append((caught.value.reason, caught.value.text))
    assert said[0] == said[1]


def test_access_rules_see_who_it_is() -> None:
    rules = Rules((PUBLISH, "no"), (SUBSCRIBE, "no"), (RECEIVE, "secret"))
    virtual = VirtualBroker(authorizer=rules)
    client = make(virtual, principal="me", claims={"role": "x"})
    with pytest.raises(Refused, match="not allowed"):
        result(virtual, client.publish("no", qos=1))
    with pytest.raises(Refused) as caught:
        result(virtual, client.subscribe("no"))
    assert caught.value.reason == 0x87
    inbox = subscribe(client, "secret")
    virtual.publish("secret")
    assert len(inbox) == 0
    asked = rules.requests[0]
    assert (asked.avatar.principal, asked.avatar.claims) == ("me", {"role": "x"})
    assert (asked.client_id, asked.listener_name) == ("app", "in-process")
    root = make(virtual, "root", superuser=True)
    assert result(virtual, root.publish("no", qos=1)) == 0x10
    virtual.stop()


def test_it_can_live_under_a_mount_point(virtual: VirtualBroker) -> None:
    settings = BrokerSettings()
    listener = evolve(make_settings(settings), mount_point="site/", protocol=ProtocolSettings())
    client = make(virtual, listener=listener)
    inbox = subscribe(client, "#")
    client.publish("t")
    virtual.publish("outside")
    assert topics(inbox, virtual) == ["t"]


def test_hooks_see_it_like_any_client(virtual: VirtualBroker) -> None:
    seen: list[tuple[str, str]] = []
    hooks = virtual.broker.hooks
    hooks.add("connected", lambda c: seen.append(("connected", c.client_id)))
    hooks.add("message_publish", lambda m, c: seen.append(("publish", c.client_id)))
    hooks.add("message_delivered", lambda m, c: seen.append(("delivered", c.client_id)))
    hooks.add("message_acknowledged", lambda m, s: seen.append(("acked", s.client_id)))
    client = make(virtual)
    subscribe(client, "t", lambda m: None, qos=1)
    result(virtual, client.publish("t", b"", 1))
    assert [event for event, _ in seen] == ["connected", "publish", "delivered", "acked"]
    assert {client_id for _, client_id in seen} == {"app"}


# --- request and response -----------------------------------------------------------------


def test_a_request_gets_its_response(virtual: VirtualBroker) -> None:
    server, client = make(virtual, "server"), make(virtual, "client")

    def answer(message: Incoming) -> Deferred[int]:
        return message.respond(message.payload.upper(), content_type="text/plain")

    subscribe(server, "shout", answer, qos=1)
    answers = [client.request("shout", word) for word in (b"a", b"b", b"c")]
    assert [result(virtual, each).payload for each in answers] == [b"A", b"B", b"C"]
    assert result(virtual, client.request("shout", b"x")).properties["content_type"]


def test_a_network_client_can_answer(virtual: VirtualBroker) -> None:
    client = make(virtual)
    server = virtual.connect("server")
    server.subscribe("ask", qos=1)
    waiting = client.request("ask", b"?")
    virtual.advance()
    request = server.expect(Publish)
    properties = request.properties
    forged = {"correlation_data": b"guess"}
    server.publish(properties["response_topic"], b"forged", **forged)  # type: ignore[arg-type]
    server.publish(
        properties["response_topic"], b"!", correlation_data=properties["correlation_data"]
    )
    assert result(virtual, waiting).payload == b"!"


def test_a_request_ends_in_time(virtual: VirtualBroker) -> None:
    client = make(virtual)
    with pytest.raises(Refused, match="nobody takes requests on 'ask'"):
        result(virtual, client.request("ask"))
    subscribe(make(virtual, "mute"), "ask", lambda m: None, qos=1)
    waiting = client.request("ask", timeout=5)
    virtual.advance(4.9)
    assert not waiting.called
    virtual.advance(0.2)
    with pytest.raises(TimeoutError, match="no response on 'ask' within 5 s"):
        result(virtual, waiting)
    cancelled = client.request("ask")
    cancelled.addErrback(lambda failure: None)
    cancelled.cancel()


def test_only_a_request_can_be_answered(virtual: VirtualBroker) -> None:
    client = make(virtual)
    inbox = subscribe(client, "t")
    client.publish("t")
    with pytest.raises(ValueError, match="no response topic"):
        result(virtual, inbox.get()).respond(b"")
