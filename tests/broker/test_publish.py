"""The publish service: who gets a message, and what the publisher is told."""

from __future__ import annotations

import pytest

from mqttd.wire.codes import ReasonCode
from tests.broker.harness import BareBroker


def test_the_broker_itself_may_publish(bare: BareBroker) -> None:
    client = bare.connect("c")
    client.subscribe("#", "$SYS/#", qos=2)
    assert bare.broker.publish("nobody/x", b"") is ReasonCode.SUCCESS
    bare.publish("$SYS/x", b"1", 2, retain=True, content_type="text")
    assert [(m.topic, m.qos) for m in client.messages()] == [("nobody/x", 0), ("$SYS/x", 2)]
    late = bare.connect("late")
    late.subscribe("$SYS/x")
    (message,) = late.messages()
    assert message.properties == {"content_type": "text"}


def test_a_message_for_nobody_is_counted(bare: BareBroker) -> None:
    assert bare.broker.publish("t", b"x") is ReasonCode.NO_MATCHING_SUBSCRIBERS
    assert bare.broker.metrics.messages_unrouted == 1


@pytest.mark.statement("MQTT-3.3.4-2", "MQTT-3.3.4-4", "MQTT311-3.3.5-1")
def test_overlapping_subscriptions_give_one_copy(bare: BareBroker) -> None:
    client = bare.connect("c")
    client.subscribe("a/#", qos=0, subscription_identifier=[1])
    client.subscribe("a/+", qos=2, subscription_identifier=[2])
    client.subscribe("a/b", qos=1)
    bare.publish("a/b", b"x", 2)
    (message,) = client.messages()
    assert message.qos == 2
    assert sorted(message.properties["subscription_identifier"]) == [1, 2]


def test_a_shared_subscription_gets_its_own_copy(bare: BareBroker) -> None:
    client = bare.connect("c")
    client.subscribe("t", "$share/g/t", "$share/h/t")
    bare.publish("t", b"x")
    assert len(client.messages()) == 3


@pytest.mark.statement("MQTT-3.8.4-8", "MQTT311-3.8.4-6")
@pytest.mark.parametrize("sent", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_qos_is_the_lower_of_both(bare: BareBroker, sent: int, granted: int) -> None:
    client = bare.connect("c")
    client.subscribe("t", qos=granted)
    bare.publish("t", b"x", sent)
    assert client.messages()[0].qos == min(sent, granted)


def test_each_receiver_gets_its_own_version_and_what_belongs_to_it(bare: BareBroker) -> None:
    five = bare.connect("five")
    five.subscribe("t", qos=1, subscription_identifier=[7])
    four = bare.connect("four", 4)
    four.subscribe("t", qos=0)
    three = bare.connect("three", 3)
    three.subscribe("t", qos=2)
    publisher = bare.connect("p")
    publisher.publish(
        "t", b"x", 2, content_type="text", user_property=[("k", "1"), ("k", "2")], topic_alias=1
    )
    assert five.messages()[0].properties == {
        "content_type": "text",
        "user_property": [("k", "1"), ("k", "2")],
        "subscription_identifier": [7],
    }
    assert [m.qos for m in four.messages() + three.messages()] == [0, 2]
