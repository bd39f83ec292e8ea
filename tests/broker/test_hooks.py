"""Hooks: what each may do, in which order, and that none can do harm."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.logger import capturedLogs, formatEvent

from mqttd.broker.hooks import EVENTS, SLOW
from mqttd.broker.message import Message
from mqttd.interfaces import PUBLISH, SUBSCRIBE, Divert, IHooks, Refuse
from mqttd.settings import BrokerSettings, DeniedPublish, HookSettings, ProtocolSettings
from mqttd.testing import VirtualBroker
from mqttd.wire.packets import (
    Disconnect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Unsuback,
    Will,
)
from tests.broker.doubles import Rules


@pytest.fixture
def virtual() -> Iterator[VirtualBroker]:
    broker = VirtualBroker()
    yield broker
    broker.stop()


@pytest.fixture(autouse=True)
def meant(logged_failures: list[Any]) -> Iterator[None]:
    """What the hooks of these tests raise is logged, and meant to be."""
    yield
    logged_failures[:] = [f for f in logged_failures if "meant to be" not in str(f.value)]


def raises(*arguments: Any) -> None:
    raise RuntimeError("meant to be")


BROKEN: dict[str, Callable[..., Any]] = {
    "raises": raises,
    "nonsense": lambda *arguments: "nonsense",
    "true": lambda *arguments: True,
    "no reason": lambda *arguments: Refuse(7),
    "fails later": lambda *arguments: succeed(None).addCallback(raises),
}


def payloads(client: Any) -> list[bytes]:
    return [message.payload for message in client.messages()]


def test_the_documented_events_are_the_ones_there_are() -> None:
    assert set(IHooks) == set(EVENTS)


def test_an_unknown_event_is_refused_with_a_hint(virtual: VirtualBroker) -> None:
    with pytest.raises(ValueError, match="did you mean 'message_publish'"):
        virtual.broker.hooks.add("message_publsih", raises)


# --- order ------------------------------------------------------------------------


def test_hooks_are_called_by_priority_then_in_the_order_added(virtual: VirtualBroker) -> None:
    seen: list[str] = []
    for name, priority in (("b", 0), ("c", 0), ("d", 5), ("a", -5)):
        virtual.broker.hooks.add("connected", lambda client, n=name: seen.append(n), priority)
    virtual.connect("x")
    assert seen == ["a", "b", "c", "d"]


def test_each_hook_sees_what_the_one_before_has_made(virtual: VirtualBroker) -> None:
    hooks = virtual.broker.hooks
    hooks.add("message_publish", lambda m, c: m.changed(payload=m.payload + b"2"), 2)
    hooks.add("message_publish", lambda m, c: succeed(m.changed(payload=m.payload + b"1")), 1)
    client = virtual.connect("x")
    client.subscribe("t")
    client.publish("t", b"0")
    assert payloads(client) == [b"012"]


def test_a_refusal_ends_the_chain(virtual: VirtualBroker) -> None:
    seen: list[Message] = []
    virtual.broker.hooks.add("message_publish", lambda m, c: Refuse(), 1)
    virtual.broker.hooks.add("message_publish", lambda m, c: seen.append(m), 2)
    assert virtual.connect("x").publish("t", qos=1) == Puback(1, 0x87, {"reason_string": "refused"})
    assert seen == []


def test_a_plugin_is_added_and_removed_as_a_whole(virtual: VirtualBroker) -> None:
    class Plugin:
        seen: list[str] = []  # noqa: RUF012

        def connected(self, client: Any) -> None:
            self.seen.append("+" + client.client_id)

        def disconnected(self, client: Any, reason: str) -> None:
            self.seen.append("-" + client.client_id)

        def another(self) -> None:
            raise AssertionError

    plugin = Plugin()
    virtual.broker.hooks.add_plugin(plugin)
    virtual.connect("x").drop()
    virtual.broker.hooks.remove_plugin(plugin)
    virtual.connect("y").drop()
    assert plugin.seen == ["+x", "-x"]


# --- observing ----------------------------------------------------------------------


def record(virtual: VirtualBroker, *events: str) -> list[tuple[Any, ...]]:
    seen: list[tuple[Any, ...]] = []

    def observer(event: str) -> Callable[..., None]:
        return lambda *arguments: seen.append((event, *map(plain, arguments)))

    for event in events:
        virtual.broker.hooks.add(event, observer(event))
    return seen


def plain(value: Any) -> Any:
    for name in ("topic", "topic_filter", "client_id"):
        if hasattr(value, name):
            return getattr(value, name)
    return value


def test_the_life_of_a_client_is_told(virtual: VirtualBroker) -> None:
    seen = record(virtual, "connected", "disconnected", "subscribed", "unsubscribed")
    client = virtual.connect("x")
    client.subscribe("a/+", "$share/g/b")
    client.unsubscribe("a/+", "never")
    client.disconnect()
    virtual.connect("y").drop()
    assert seen == [
        ("connected", "x"),
        ("subscribed", "x", "a/+"),
        ("subscribed", "x", "$share/g/b"),
        ("unsubscribed", "x", "a/+"),
        ("disconnected", "x", "disconnect"),
        ("connected", "y"),
        ("disconnected", "y", "connection-lost"),
    ]


def test_the_life_of_a_session_is_told(virtual: VirtualBroker) -> None:
    events = ("created", "resumed", "taken_over", "discarded", "expired")
    seen = record(virtual, *(f"session_{event}" for event in events))

    def told() -> list[str]:
        names = [event.removeprefix("session_") for event, client_id in seen]
        seen.clear()
        return names

    virtual.connect("x", session_expiry_interval=100).drop()
    assert told() == ["created"]
    virtual.connect("x", clean_start=False, session_expiry_interval=100)
    assert told() == ["resumed"]
    virtual.connect("x", clean_start=False, session_expiry_interval=100).drop()
    assert told() == ["taken_over", "resumed"]
    virtual.connect("x", session_expiry_interval=100).drop()
    assert told() == ["discarded", "created"]
    virtual.advance(101)
    assert told() == ["expired"]
    virtual.connect("x").drop()
    assert told() == ["created", "discarded"]


def test_the_way_of_a_message_is_told(virtual: VirtualBroker) -> None:
    seen = record(virtual, "message_delivered", "message_acknowledged")
    client = virtual.connect("x")
    client.subscribe("#", qos=2)
    for qos in (0, 1, 2):
        client.publish(f"t{qos}", qos=qos)
    for message in client.messages():
        client.acknowledge(message)
    assert seen == [
        *(("message_delivered", f"t{qos}", "x") for qos in (0, 1, 2)),
        *(("message_acknowledged", f"t{qos}", "x") for qos in (1, 2)),
    ]


def test_what_is_dropped_is_told_with_the_reason() -> None:
    virtual = VirtualBroker(authorizer=Rules((PUBLISH, "no")))
    seen = record(virtual, "message_dropped")
    virtual.connect("away", session_expiry_interval=100).subscribe("t")
    virtual.connect("away", clean_start=False, session_expiry_interval=100).drop()
    client = virtual.connect("x")
    client.publish("t")
    client.publish("no", qos=1)
    assert seen == [
        ("message_dropped", "t", "away", "offline"),
        ("message_dropped", "no", "x", "not-authorized"),
    ]
    virtual.stop()


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("event", [e for e in EVENTS if e not in ("connect", "will")])
def test_a_broken_hook_ends_nothing_else(event: str, broken: str) -> None:
    virtual = VirtualBroker()
    witness = virtual.connect("witness")
    witness.subscribe("witness", qos=1)
    chains = virtual.broker.hooks
    chains.add(event, BROKEN[broken])
    client = virtual.connect("x", session_expiry_interval=1)
    if not client.closed:
        client.subscribe("t", qos=2)
        client.publish("t", qos=2)
        client.unsubscribe("t")
    virtual.connect("x", clean_start=False).drop()
    virtual.advance(2)
    chains.remove(event, BROKEN[broken])
    virtual.connect("after").publish("witness", b"1", 1)
    assert b"1" in payloads(witness)
    assert not witness.closed
    virtual.stop()


def test_complaints_about_one_hook_do_not_flood_the_log(virtual: VirtualBroker) -> None:
    virtual.broker.hooks.add("message_publish", raises)
    client = virtual.connect("x")
    with capturedLogs() as lines:
        for _ in range(100):
            client.publish("t")
    assert len(lines) == 1
    assert virtual.broker.metrics.errors["hook"] == 100


def test_a_hook_that_blocks_is_named(virtual: VirtualBroker) -> None:
    def blocks(client: Any) -> None:
        virtual.clock.rightNow += 2 * SLOW

    virtual.broker.hooks.add("connected", blocks)
    with capturedLogs() as lines:
        virtual.connect("x")
    (line,) = lines
    assert "blocks held up the whole broker for 0.50 s" in formatEvent(line)


# --- deciding: who comes in ----------------------------------------------------------


@pytest.mark.parametrize("event", ["connect", "authenticated"])
def test_a_client_can_be_refused(virtual: VirtualBroker, event: str) -> None:
    virtual.broker.hooks.add(event, lambda client, *_: Refuse(0x8A, "not you"))
    client = virtual.connect("x")
    assert client.connack is not None
    assert client.connack.reason == 0x8A
    assert client.connack.properties["reason_string"] == "not you"
    assert "x" not in virtual.broker.sessions
    older = virtual.connect("x", version=4)
    assert older.connack is not None
    assert older.connack.reason == 5


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("event", ["connect", "authenticated"])
def test_a_broken_hook_lets_nobody_in(virtual: VirtualBroker, event: str, broken: str) -> None:
    virtual.broker.hooks.add(event, BROKEN[broken])
    client = virtual.connect("x")
    assert client.connack is not None
    assert client.connack.reason == 0x80
    assert virtual.broker.metrics.errors["hook"] == 1


def test_a_hook_may_take_its_time_but_not_for_ever(virtual: VirtualBroker) -> None:
    async def never(client: Any, packet: Any) -> None:
        while True:
            with suppress(Exception):
                await Deferred()

    virtual.broker.hooks.add("connect", never)
    client = virtual.connect("x")
    virtual.advance(4)
    assert client.connack is None
    virtual.advance(2)
    (connack,) = client.received
    assert connack.reason == 0x80  # type: ignore[union-attr]
    assert client.closed


def test_a_late_answer_finds_the_client_gone(virtual: VirtualBroker) -> None:
    answers: list[Deferred[None]] = []

    def later(*arguments: Any) -> Deferred[None]:
        answers.append(Deferred())
        return answers[-1]

    virtual.broker.hooks.add("connect", later)
    virtual.connect("x").drop()
    answers[0].callback(None)
    assert len(virtual.broker.connections) == 0
    virtual.broker.hooks.remove("connect", later)
    virtual.broker.hooks.add("message_publish", later)
    virtual.connect("y").send(Publish("t", b"", 1, packet_id=1))
    virtual.connect("y")
    answers[1].callback(None)
    assert virtual.broker.metrics.errors["connection"] == 0


def test_nothing_of_it_waits_when_the_broker_stops() -> None:
    virtual = VirtualBroker()
    virtual.broker.hooks.add("connect", lambda *_: Deferred())
    virtual.connect("x").drop()
    virtual.stop()
    assert virtual.clock.getDelayedCalls() == []


# --- deciding: messages -------------------------------------------------------------


@pytest.mark.parametrize("version", [3, 4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_refused_message_goes_nowhere(virtual: VirtualBroker, version: int, qos: int) -> None:
    virtual.broker.hooks.add("message_publish", lambda m, c: Refuse(0x97, "enough"))
    client = virtual.connect("x", version)
    client.subscribe("#", qos=2)
    answer = client.publish("t", b"", qos, retain=True)
    if qos:
        assert answer is not None
        assert answer.reason == (0x97 if version == 5 else 0)
    client.expect_nothing()
    assert virtual.broker.retained.count == 0
    assert virtual.broker.metrics.dropped["hook"] == 1


@pytest.mark.parametrize("broken", BROKEN)
def test_what_no_hook_has_decided_is_not_acknowledged(virtual: VirtualBroker, broken: str) -> None:
    virtual.broker.hooks.add("message_publish", BROKEN[broken])
    client = virtual.connect("x")
    answer = client.publish("t", qos=1)
    assert answer is not None
    assert answer.reason == 0x80
    older = virtual.connect("y", version=4)
    older.send(Publish("t", b"", 1, packet_id=1))
    assert older.closed
    older.expect_nothing()


def test_a_refused_message_ends_an_old_client_where_the_listener_says_so() -> None:
    protocol = ProtocolSettings(denied_publish=DeniedPublish.DISCONNECT)
    virtual = VirtualBroker(BrokerSettings(protocol=protocol))
    virtual.broker.hooks.add("message_publish", lambda m, c: Refuse())
    client = virtual.connect("x", version=4)
    client.send(Publish("t"))
    assert client.closed
    virtual.stop()


def test_a_rewritten_topic_is_checked_after_the_hook() -> None:
    rules = Rules((PUBLISH, "secret"), (PUBLISH, "plain"))
    virtual = VirtualBroker(authorizer=rules)
    virtual.broker.hooks.add("message_publish", lambda m, c: m.changed(topic=m.payload.decode()))
    client = virtual.connect("x")
    client.subscribe("#")

    def reason(wanted: str, topic: str = "t") -> int:
        answer = client.publish(topic, wanted.encode(), 1)
        assert answer is not None
        return answer.reason

    assert reason("secret") == 0x87
    assert reason("$SYS/x") == 0x87
    assert reason("a/#") == 0x90
    assert reason("") == 0x90
    assert reason("x" * 5000) == 0x90
    client.expect_nothing()
    # It is the new topic that counts, and not the old one.
    assert reason("open", "plain") == 0
    assert [message.topic for message in client.messages()] == ["open"]
    virtual.stop()


def test_a_hook_can_change_the_parts_of_a_message(virtual: VirtualBroker) -> None:
    def change(message: Message, client: Any) -> Message:
        properties = {**message.properties, "user_property": [("by", "hook")]}
        return message.changed(payload=b"new", retain=True, properties=properties)  # type: ignore[arg-type]

    virtual.broker.hooks.add("message_publish", change)
    client = virtual.connect("x")
    client.subscribe("t", retain_as_published=True)
    client.publish("t", b"old", content_type="text/plain")
    (message,) = client.messages()
    assert message.payload == b"new"
    assert message.retain
    assert message.properties["user_property"] == [("by", "hook")]
    assert message.properties["content_type"] == "text/plain"


def test_packets_wait_behind_a_hook_in_order(virtual: VirtualBroker) -> None:
    answers: list[Deferred[None]] = []

    def later(message: Message, client: Any) -> Deferred[None]:
        answers.append(Deferred())
        return answers[-1]

    virtual.broker.hooks.add("message_publish", later)
    other = virtual.connect("other")
    other.subscribe("#")
    client = virtual.connect("x")
    client.send(*(Publish("t", b"%d" % n) for n in range(5)))
    for _ in range(5):
        assert len(answers) == 1
        answers.pop().callback(None)
        virtual.advance()
    assert payloads(other) == [b"0", b"1", b"2", b"3", b"4"]


def test_a_diverted_message_passes_the_checks_and_then_goes_elsewhere() -> None:
    virtual = VirtualBroker(authorizer=Rules((PUBLISH, "no")))
    taken: list[Message] = []

    def take(message: Message) -> int:
        taken.append(message)
        return 0x97 if message.payload == b"full" else 0

    virtual.broker.hooks.add("message_publish", lambda m, c: Divert(m, take))
    client = virtual.connect("x")
    client.subscribe("#")
    assert client.publish("t", b"1", 1) == Puback(2)
    refused = client.publish("t", b"full", 1)
    assert refused is not None
    assert refused.reason == 0x97
    denied = client.publish("no", b"2", 1)
    assert denied is not None
    assert denied.reason == 0x87
    client.expect_nothing()
    assert [message.payload for message in taken] == [b"1", b"full"]
    virtual.stop()


def test_a_topic_is_rewritten_inside_the_mount_point() -> None:
    settings = BrokerSettings()
    virtual = VirtualBroker(settings)
    virtual.factory.settings = evolve(virtual.listener, mount_point="site/")
    virtual.broker.hooks.add("message_publish", lambda m, c: m.changed(topic="to/" + m.topic))
    client = virtual.connect("x")
    client.subscribe("#")
    client.publish("t")
    assert [message.topic for message in client.messages()] == ["to/t"]
    assert virtual.broker.router.plan("site/to/t").targets
    virtual.stop()


def test_the_broker_itself_is_not_asked(virtual: VirtualBroker) -> None:
    virtual.broker.hooks.add("message_publish", raises)
    client = virtual.connect("x")
    client.subscribe("t")
    virtual.publish("t", b"1")
    assert payloads(client) == [b"1"]


# --- deciding: wills ----------------------------------------------------------------


def test_a_will_passes_the_hooks_and_is_checked_after_them() -> None:
    virtual = VirtualBroker(authorizer=Rules((PUBLISH, "secret")))
    client = virtual.connect("x")
    client.subscribe("#")

    def outcome(hook: Callable[..., Any], event: str) -> list[tuple[str, bytes]]:
        virtual.broker.hooks.add(event, hook)
        virtual.connect("y", will=Will("will", b"1")).drop()
        virtual.broker.hooks.remove(event, hook)
        return [(message.topic, message.payload) for message in client.messages()]

    for event in ("will", "message_publish"):
        assert outcome(lambda m, _: m.changed(topic="other"), event) == [("other", b"1")]
        assert outcome(lambda m, _: None, event) == [("will", b"1")]
        assert outcome(lambda m, _: m.changed(topic="secret"), event) == []
        assert outcome(lambda m, _: m.changed(topic="$SYS/x"), event) == []
        assert outcome(lambda m, _: Refuse(), event) == []
        for broken in BROKEN.values():
            assert outcome(broken, event) == []
    virtual.stop()


# --- deciding: subscriptions ----------------------------------------------------------


def test_filters_are_rewritten_or_refused_one_by_one() -> None:
    virtual = VirtualBroker(authorizer=Rules((SUBSCRIBE, "secret")))

    def change(requests: list[Any], client: Any) -> list[Any]:
        return [
            Refuse(0x97) if request.topic_filter == "no" else evolve(request, topic_filter=new)
            for request, new in zip(requests, ("one", "secret", "", "a/#/b"), strict=True)
        ]

    virtual.broker.hooks.add("subscribe", change)
    client = virtual.connect("x")
    answer = client.subscribe("1", "2", "3", "4", qos=1)
    assert answer == Suback(1, [1, 0x87, 0x80, 0x80])
    assert client.subscribe("no", "2", "3", "4").reasons[0] == 0x97
    assert list(virtual.broker.sessions.get("x").subscriptions) == ["one"]  # type: ignore[union-attr]
    virtual.stop()


def test_a_whole_subscribe_can_be_refused(virtual: VirtualBroker) -> None:
    virtual.broker.hooks.add("subscribe", lambda requests, client: Refuse(0x8A))
    # 0x8A is not for SUBACK.
    assert virtual.connect("x").subscribe("a", "b").reasons == [0x83, 0x83]
    assert virtual.connect("y", version=4).subscribe("a").reasons == [0x80]


@pytest.mark.parametrize("answer", [[], ["a", "b"], [1], "a", [None]])
def test_a_nonsensical_list_refuses_all(virtual: VirtualBroker, answer: Any) -> None:
    virtual.broker.hooks.add("subscribe", lambda requests, client: answer)
    assert virtual.connect("x").subscribe("a").reasons == [0x80]


def test_unsubscribing_is_rewritten_and_refused(virtual: VirtualBroker) -> None:
    client = virtual.connect("x")
    client.subscribe("a", "b", "c")
    virtual.broker.hooks.add("unsubscribe", lambda filters, client: ["a", Refuse(), "b/#/x"])
    assert client.unsubscribe("x", "b", "c") == Unsuback(2, [0, 0x87, 0x80])
    assert set(virtual.broker.sessions.get("x").subscriptions) == {"b", "c"}  # type: ignore[union-attr]


def test_a_hook_can_subscribe_for_the_client_within_its_rights() -> None:
    from mqttd.wire.packets import SubscriptionRequest

    virtual = VirtualBroker(authorizer=Rules((SUBSCRIBE, "secret")))
    virtual.publish("hello", b"retained", retain=True)
    results: list[Any] = []

    def subscribe(client: Any) -> None:
        wanted = [SubscriptionRequest(name, 1) for name in ("hello", "secret", "a/#/b")]
        client.add_subscriptions(wanted).addCallback(results.append)

    virtual.broker.hooks.add("connected", subscribe)
    client = virtual.connect("x")
    assert results == [[1, 0x87, 0x8F]]
    assert payloads(client) == [b"retained"]
    virtual.stop()


def test_a_hook_can_end_a_connection(virtual: VirtualBroker) -> None:
    virtual.broker.hooks.add("subscribed", lambda client, subscription: client.kick("enough"))
    client = virtual.connect("x")
    client.send_bytes(b"\x82\x07\x00\x01\x00\x00\x01t\x00")
    assert client.take(Disconnect)[0].reason == 0x98
    assert client.closed


# --- what it costs --------------------------------------------------------------------


def test_the_fast_lane_is_used_unless_a_hook_looks_at_messages(virtual: VirtualBroker) -> None:
    hooks = virtual.broker.hooks
    for event in set(EVENTS) - {"message_publish", "message_delivered", "message_acknowledged"}:
        hooks.add(event, print)
    assert not hooks.blocks_lane
    for event in ("message_publish", "message_delivered", "message_acknowledged"):
        hooks.add(event, print)
        assert hooks.blocks_lane
        hooks.remove(event, print)
        assert not hooks.blocks_lane


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("by_plugin", [False, True])
def test_who_looks_on_at_some_topics_leaves_the_lane_to_others(
    virtual: VirtualBroker, qos: int, by_plugin: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str]] = []

    class Watcher:
        topics = ("watched/+",)

        def message_delivered(self, message: Message, client: object) -> None:
            seen.append(("delivered", message.topic))

        def message_acknowledged(self, message: Message, session: object) -> None:
            seen.append(("acknowledged", message.topic))

    hooks, watcher = virtual.broker.hooks, Watcher()
    receiver, sender = virtual.connect("r", keep_alive=0), virtual.connect("s", keep_alive=0)
    receiver.subscribe("#", qos=2)

    def publish(topic: str) -> None:
        sender.publish(topic, b"1", qos)
        (message,) = receiver.messages()
        if qos == 1:
            receiver.send(Puback(message.packet_id))
        elif qos == 2:
            receiver.send(Pubrec(message.packet_id))
            receiver.expect(Pubrel)
            receiver.send(Pubcomp(message.packet_id))

    # Both topics are known to the lane before anyone looks on.
    for topic in ("other", "watched/1"):
        publish(topic)
    if by_plugin:
        hooks.add_plugin(watcher)
    else:
        hooks.add("message_delivered", watcher.message_delivered, topics=watcher.topics)
        hooks.add("message_acknowledged", watcher.message_acknowledged, topics=watcher.topics)
    assert not hooks.blocks_lane
    publish("other")
    publish("watched/1")
    publish("watched/1")
    told = [("delivered", "watched/1"), ("acknowledged", "watched/1")] if qos else []
    assert seen == (told or [("delivered", "watched/1")]) * 2
    plain = virtual.broker.publisher.publish
    monkeypatch.setattr(
        virtual.broker.publisher, "publish", lambda *_: pytest.fail("this went the plain way")
    )
    publish("other")
    monkeypatch.setattr(virtual.broker.publisher, "publish", plain)
    seen.clear()
    hooks.remove_plugin(watcher)
    publish("watched/1")
    assert seen == []


def test_only_events_of_messages_have_topics(virtual: VirtualBroker) -> None:
    with pytest.raises(ValueError, match="'connected' has no topic to choose by"):
        virtual.broker.hooks.add("connected", print, topics=("a",))
    dropped: list[str] = []
    virtual.broker.hooks.add(
        "message_dropped", lambda m, *_: dropped.append(m.topic), topics=("$SYS/a",)
    )
    client = virtual.connect("x")
    client.publish("$SYS/a", b"", 1)
    client.publish("$SYS/b", b"", 1)
    assert dropped == ["$SYS/a"]


def test_with_hooks_that_do_nothing_clients_see_the_same() -> None:
    """What a random traffic brings, with and without hooks at every event."""

    def traffic(hooked: bool) -> list[Any]:
        source = random.Random(7)
        virtual = VirtualBroker()
        if hooked:
            for event in EVENTS:
                virtual.broker.hooks.add(event, lambda *arguments: None)
        clients = [virtual.connect(f"c{n}", source.choice((4, 5))) for n in range(4)]
        seen: list[Any] = []
        for _ in range(300):
            client = source.choice(clients)
            topic = source.choice(("a", "a/b", "b"))
            if source.random() < 0.1:
                client.subscribe(source.choice(("a/#", "+", topic)), qos=source.randrange(3))
            client.publish(topic, b"%d" % source.randrange(99), source.randrange(3))
            for receiver in clients:
                for message in receiver.messages():
                    receiver.acknowledge(message)
                    seen.append((receiver.client_id, message))
        virtual.stop()
        return seen

    assert traffic(False) == traffic(True)


def test_the_time_to_decide_is_a_setting() -> None:
    virtual = VirtualBroker(BrokerSettings(hooks=HookSettings(timeout=60)))
    virtual.broker.hooks.add("message_publish", lambda m, c: Deferred())
    client = virtual.connect("x", keep_alive=0)
    client.send(Publish("t", b"", 1, packet_id=1))
    virtual.advance(59)
    client.expect_nothing()
    virtual.advance(2)
    client.expect(Puback, reason=0x80)
    virtual.stop()
