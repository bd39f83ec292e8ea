"""SUBSCRIBE and UNSUBSCRIBE."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mqttd.interfaces import SUBSCRIBE
from mqttd.wire.codes import ReasonCode, RetainHandling
from mqttd.wire.packets import Publish, Suback, Subscribe, SubscriptionRequest, Will
from tests.broker.doubles import Rules
from tests.broker.harness import BareBroker, settings_with

Make = Callable[..., BareBroker]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[BareBroker] = []

    def make_one(
        rules: Rules | None = None, session: dict[str, Any] | None = None, **protocol: Any
    ) -> BareBroker:
        made.append(BareBroker(settings_with(protocol=protocol, session=session), authorizer=rules))
        return made[-1]

    yield make_one
    for bare in made:
        bare.stop()


@pytest.mark.statement("MQTT-3.8.4-5", "MQTT-3.8.4-6", "MQTT-3.9.3-1", "MQTT311-3.8.4-4")
@pytest.mark.parametrize("version", [3, 4, 5])
def test_one_code_for_each_filter_in_order(make: Make, version: int) -> None:
    bare = make(Rules((SUBSCRIBE, "no")).only(SUBSCRIBE), maximum_qos=1)
    client = bare.connect("c", version)
    requests = [
        SubscriptionRequest("a", 0),
        SubscriptionRequest("no", 1),
        SubscriptionRequest("b", 2),
        SubscriptionRequest("$share/g/no", 1),
    ]
    denied = ReasonCode.NOT_AUTHORIZED if version == 5 else 0x80
    assert client.subscribe(*requests).reasons == [0, denied, 1, denied]
    assert set(bare.session("c").subscriptions) == {"a", "b"}


@pytest.mark.parametrize("answer", [True, False, RuntimeError("meant to be")])
def test_slow_answers(make: Make, answer: Any, logged_failures: list[Any]) -> None:
    rules = Rules(slow=True).only(SUBSCRIBE)
    bare = make(rules)
    client = bare.connect("c")
    client.send(
        Subscribe(1, [SubscriptionRequest("a"), SubscriptionRequest("b")]), Publish("x", b"later")
    )
    client.expect_nothing()
    assert rules.answer(answer).topic == "a"
    assert rules.answer(True).topic == "b"
    allowed = answer is True
    client.expect(Suback, reasons=[0 if allowed else ReasonCode.NOT_AUTHORIZED, 0])
    assert ("a" in bare.session("c").subscriptions) is allowed
    logged_failures.clear()


def test_a_client_that_leaves_while_asked_about_subscribes_to_nothing(make: Make) -> None:
    rules = Rules(slow=True).only(SUBSCRIBE)
    bare = make(rules)
    client = bare.connect("c", session_expiry_interval=10)
    client.send(Subscribe(1, [SubscriptionRequest("a"), SubscriptionRequest("b")]))
    again = bare.connect("c", clean_start=False, session_expiry_interval=10)
    rules.answer(True)
    bare.advance()
    assert bare.session("c").subscriptions == {}
    assert len(bare.broker.router) == 0
    again.expect_nothing()


def test_the_number_of_subscriptions_is_bounded(make: Make) -> None:
    bare = make(session={"maximum_subscriptions": 3})
    client = bare.connect("c")
    assert client.subscribe("a", "b", "c", "d").reasons == [0, 0, 0, ReasonCode.QUOTA_EXCEEDED]
    assert client.subscribe("b", qos=1).reasons == [1]
    client.unsubscribe("a")
    assert client.subscribe("d").reasons == [0]


def test_what_is_not_available_is_refused(make: Make) -> None:
    bare = make(wildcard_subscriptions=False, shared_subscriptions=False)
    client = bare.connect("c")
    assert client.subscribe("a/+", "#", "$share/g/a", "$queue/a", "a").reasons == [
        ReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
        ReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
        ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
        ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
        0,
    ]


def test_subscription_identifiers_may_be_ruled_out(make: Make) -> None:
    client = make(subscription_identifiers=False).connect("c")
    client.send(Subscribe(1, [SubscriptionRequest("a")], {"subscription_identifier": [1]}))
    client.expect_closed(ReasonCode.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED)


# --- retained -----------------------------------------------------------------------


@pytest.mark.statement("MQTT-3.3.1-9", "MQTT-3.3.1-10", "MQTT-3.3.1-11", "MQTT-3.8.4-4")
@pytest.mark.parametrize(
    ("handling", "first", "second"),
    [
        (RetainHandling.SEND, 1, 1),
        (RetainHandling.SEND_IF_NEW, 1, 0),
        (RetainHandling.DO_NOT_SEND, 0, 0),
    ],
)
def test_retain_handling(bare: BareBroker, handling: int, first: int, second: int) -> None:
    bare.publish("t", b"old", retain=True)
    client = bare.connect("c", session_expiry_interval=10)
    client.subscribe("t", retain_handling=handling)
    assert len(client.messages()) == first
    client.subscribe("t", retain_handling=handling)
    assert len(client.messages()) == second
    again = bare.connect("c", clean_start=False, session_expiry_interval=10)
    again.subscribe("t", retain_handling=handling)
    assert len(again.messages()) == second


def test_retained_messages_follow_the_suback_with_the_identifier(bare: BareBroker) -> None:
    bare.publish("t", b"old", 2, retain=True)
    client = bare.connect("c")
    client.send(Subscribe(1, [SubscriptionRequest("t", 1)], {"subscription_identifier": [9]}))
    client.expect(Suback)
    message = client.expect(Publish, retain=True, qos=1)
    assert message.properties["subscription_identifier"] == [9]


def test_no_retained_messages_for_a_shared_subscription(bare: BareBroker) -> None:
    bare.publish("t", b"old", retain=True)
    client = bare.connect("c")
    client.subscribe("$share/g/t")
    client.expect_nothing()


# --- options ------------------------------------------------------------------------


@pytest.mark.statement("MQTT-3.8.3-3")
def test_no_local(bare: BareBroker) -> None:
    client = bare.connect("c")
    client.subscribe("t", no_local=True)
    client.subscribe("t/#", qos=1, subscription_identifier=[5])
    client.publish("t", b"mine", 1)
    bare.publish("t", b"theirs", 1)
    mine, theirs = client.messages()
    assert (mine.payload, mine.properties["subscription_identifier"]) == (b"mine", [5])
    assert theirs.payload == b"theirs"
    client.unsubscribe("t/#")
    client.publish("t", b"mine", 1)
    assert client.messages() == []


@pytest.mark.statement("MQTT-3.3.1-12", "MQTT-3.3.1-13")
def test_retain_as_published(bare: BareBroker) -> None:
    client = bare.connect("c")
    client.subscribe("plain")
    client.subscribe("kept", retain_as_published=True)
    for topic in ("plain", "kept"):
        bare.publish(topic, b"x", retain=True)
    assert [(m.topic, m.retain) for m in client.messages()] == [("plain", False), ("kept", True)]


@pytest.mark.statement("MQTT-3.8.4-3", "MQTT311-3.8.4-3")
def test_a_second_subscription_to_a_filter_replaces_the_first(bare: BareBroker) -> None:
    client = bare.connect("c")
    client.subscribe("t", qos=2, subscription_identifier=[1])
    client.subscribe("t", qos=0)
    bare.publish("t", b"x", 2)
    (message,) = client.messages()
    assert message.qos == 0
    assert message.properties == {}
    assert len(bare.broker.router) == 1


@pytest.mark.parametrize("version", [3, 4])
def test_a_bridge_gets_no_echo_and_sees_retain(bare: BareBroker, version: int) -> None:
    bridge = bare.connect("bridge", version, bridge=True, will=Will("w", b"x"))
    assert bridge.connack is not None
    assert bridge.connack.reason == 0
    bridge.subscribe("#", qos=1)
    bridge.publish("t", b"mine", 1)
    bare.publish("t", b"theirs", 1, retain=True)
    (message,) = bridge.messages()
    assert (message.payload, message.retain) == (b"theirs", True)


# --- UNSUBSCRIBE ---------------------------------------------------------------------


@pytest.mark.statement("MQTT-3.10.4-1", "MQTT-3.10.4-5", "MQTT-3.11.3-2")
def test_unsubscribe_compares_character_by_character(bare: BareBroker) -> None:
    client = bare.connect("c")
    client.subscribe("a/b", "a/+", "$share/g/a/b")
    assert client.unsubscribe("a/#", "A/b", "a/b", "a/b").reasons == [0x11, 0x11, 0, 0x11]
    bare.publish("a/b", b"x")
    assert len(client.messages()) == 2


@pytest.mark.statement("MQTT-3.10.4-2", "MQTT-3.10.4-3")
def test_what_waits_is_delivered_after_unsubscribe(bare: BareBroker) -> None:
    client = bare.connect("c", receive_maximum=1)
    client.subscribe("t", qos=1)
    bare.publish("t", b"1", 1)
    bare.publish("t", b"2", 1)
    client.unsubscribe("t")
    bare.publish("t", b"3", 1)
    (first,) = client.messages()
    client.acknowledge(first)
    assert client.payloads() == [b"2"]


@pytest.mark.parametrize("version", [3, 4])
def test_unsuback_has_no_codes_below_5(bare: BareBroker, version: int) -> None:
    client = bare.connect("c", version)
    client.subscribe("a")
    assert client.unsubscribe("a", "b").reasons == []
