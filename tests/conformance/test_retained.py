"""Retained messages (section 3.3.1.3, and Retain Handling in 3.8.3.1)."""

from __future__ import annotations

import pytest

from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.codes import MQTT5
from mqttd.wire.packets import Publish

from .support import all_versions, each_version


def seen(mqtt: VirtualBroker, version: int, topic_filter: str = "t") -> list[Publish]:
    """What a new subscriber gets."""
    reader = mqtt.connect("late", version)
    reader.subscribe(topic_filter, qos=2)
    messages = reader.messages()
    reader.disconnect()
    return messages


@pytest.fixture
def writer(mqtt: VirtualBroker) -> VirtualClient:
    return mqtt.connect("writer")


@pytest.mark.statement("MQTT-3.3.1-5", "MQTT311-3.3.1-5", "MQTT311-3.3.1-6")
@all_versions
def test_the_last_retained_message_is_stored_with_its_qos(
    mqtt: VirtualBroker, version: int
) -> None:
    writer = mqtt.connect("writer", version)
    for qos in (0, 2, 1):
        writer.publish("t", f"QoS {qos}".encode(), qos=qos, retain=True)
    writer.publish("u", b"another topic", qos=2, retain=True)
    (message,) = seen(mqtt, version)
    assert (message.payload, message.qos, message.retain) == (b"QoS 1", 1, True)


@pytest.mark.statement("MQTT311-3.3.1-6", "MQTT-3.3.1-9")
@all_versions
def test_a_new_subscription_gets_every_matching_retained_message(
    mqtt: VirtualBroker, version: int
) -> None:
    writer = mqtt.connect("writer", version)
    for topic in ("a/1", "a/2", "b/1", "$a/1"):
        mqtt.publish(topic, topic.encode(), retain=True)
    writer.publish("a/2", b"newer", retain=True)
    found = {message.topic: message.payload for message in seen(mqtt, version, "a/+")}
    assert found == {"a/1": b"a/1", "a/2": b"newer"}
    assert {message.topic for message in seen(mqtt, version, "#")} == {"a/1", "a/2", "b/1"}


@pytest.mark.statement("MQTT311-3.3.1-7", "MQTT-3.3.1-5")
@each_version
def test_a_qos_0_retained_message_discards_the_older_one(mqtt: VirtualBroker, version: int) -> None:
    writer = mqtt.connect("writer", version)
    writer.publish("t", b"old", qos=1, retain=True)
    writer.publish("t", b"new", qos=0, retain=True)
    assert [message.payload for message in seen(mqtt, version)] == [b"new"]


@pytest.mark.statement("MQTT311-3.3.1-8", "MQTT311-3.3.1-9", "MQTT-3.3.1-12")
@all_versions
def test_retain_is_set_for_new_subscriptions_alone(mqtt: VirtualBroker, version: int) -> None:
    reader = mqtt.connect("reader", version)
    reader.subscribe("t")
    mqtt.connect("writer", version).publish("t", b"kept", retain=True)
    reader.expect(Publish, payload=b"kept", retain=False)
    (message,) = seen(mqtt, version)
    assert message.retain


@pytest.mark.statement("MQTT-3.3.1-6", "MQTT-3.3.1-7", "MQTT311-3.3.1-10", "MQTT311-3.3.1-11")
@all_versions
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_empty_retained_message_removes_the_stored_one(
    mqtt: VirtualBroker, version: int, qos: int
) -> None:
    reader = mqtt.connect("reader", version)
    reader.subscribe("t")
    writer = mqtt.connect("writer", version)
    writer.publish("t", b"kept", retain=True)
    writer.publish("t", b"", qos=qos, retain=True)
    reader.expect(Publish, payload=b"kept")
    reader.expect(Publish, payload=b"", retain=False)  # live, it is a message like any
    assert seen(mqtt, version) == []
    assert mqtt.broker.retained.count == 0


@pytest.mark.statement("MQTT-3.3.1-8", "MQTT311-3.3.1-12")
@all_versions
@pytest.mark.parametrize("payload", [b"passing", b""])
def test_without_retain_nothing_is_stored_or_removed(
    mqtt: VirtualBroker, version: int, payload: bytes
) -> None:
    writer = mqtt.connect("writer", version)
    writer.publish("t", payload, qos=1)
    assert seen(mqtt, version) == []
    writer.publish("t", b"kept", retain=True)
    writer.publish("t", payload, qos=1)
    assert [message.payload for message in seen(mqtt, version)] == [b"kept"]


@pytest.mark.statement("MQTT-3.3.1-9")
def test_retain_handling_0_sends_at_every_subscribe(
    mqtt: VirtualBroker, writer: VirtualClient
) -> None:
    writer.publish("t", b"kept", retain=True)
    reader = mqtt.connect("reader")
    for _ in range(3):
        reader.subscribe("t", retain_handling=0)
        reader.expect(Publish, payload=b"kept", retain=True)


@pytest.mark.statement("MQTT-3.3.1-10")
def test_retain_handling_1_sends_for_new_subscriptions(
    mqtt: VirtualBroker, writer: VirtualClient
) -> None:
    writer.publish("t", b"kept", retain=True)
    reader = mqtt.connect("reader", session_expiry_interval=100)
    reader.subscribe("t", retain_handling=1)
    reader.expect(Publish, payload=b"kept", retain=True)
    reader.subscribe("t", retain_handling=1)
    reader.expect_nothing()
    # Also when the subscription is one of a resumed session.
    reader.drop()
    reader = mqtt.connect("reader", clean_start=False, session_expiry_interval=100)
    reader.subscribe("t", retain_handling=1)
    reader.expect_nothing()
    reader.unsubscribe("t")
    reader.subscribe("t", retain_handling=1)
    reader.expect(Publish, payload=b"kept", retain=True)


@pytest.mark.statement("MQTT-3.3.1-11")
def test_retain_handling_2_sends_nothing(mqtt: VirtualBroker, writer: VirtualClient) -> None:
    writer.publish("t", b"kept", retain=True)
    reader = mqtt.connect("reader")
    reader.subscribe("t", retain_handling=2)
    reader.subscribe("t", retain_handling=2)
    reader.expect_nothing()


@pytest.mark.statement("MQTT-3.3.1-12", "MQTT-3.3.1-13")
@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("as_published", [False, True])
def test_retain_as_published(
    mqtt: VirtualBroker, writer: VirtualClient, retain: bool, as_published: bool
) -> None:
    reader = mqtt.connect("reader", MQTT5)
    reader.subscribe("t", retain_as_published=as_published)
    writer.publish("t", b"x", retain=retain)
    reader.expect(Publish, retain=retain and as_published)
