"""Section 3.3: PUBLISH, its properties, and which subscriptions it meets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mqttd.settings import DeniedPublish, SessionSettings
from mqttd.testing import VirtualBroker
from mqttd.wire.codes import MQTT5, ReasonCode
from mqttd.wire.packets import (
    Properties,
    Puback,
    Publish,
    Pubrec,
    SubscriptionRequest,
)

from .support import (
    Rules,
    all_versions,
    broker_with,
    each_version,
    expect_closed,
    frame,
    keep,
    none_for,
    properties,
    text,
)

ALL_PROPERTIES = Properties(
    payload_format_indicator=1,
    content_type="text/plain",
    response_topic="answers/to/me",
    correlation_data=b"\x00\xff",
    user_property=[("b", "2"), ("a", "1"), ("b", "2"), ("", "")],
)


# --- flags -----------------------------------------------------------------------


@pytest.mark.statement("MQTT-3.3.1-1", "MQTT311-3.3.1-1")
@each_version
@pytest.mark.parametrize("qos", [1, 2])
def test_a_publish_sent_again_has_dup(mqtt: VirtualBroker, version: int, qos: int) -> None:
    client = mqtt.connect("c", version, **keep(version))
    client.subscribe("t", qos=qos)
    mqtt.publish("t", b"again", qos=qos)
    first = client.expect(Publish, dup=False)
    client.drop()
    client = mqtt.connect("c", version, **keep(version))
    client.expect(Publish, dup=True, packet_id=first.packet_id, payload=b"again", qos=qos)


@pytest.mark.statement("MQTT-3.3.1-2", "MQTT311-3.3.1-2")
@each_version
def test_qos_0_with_dup_is_malformed(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version)
    client.send_bytes(frame(0x38, text("t"), none_for(version)))
    expect_closed(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.statement("MQTT-3.3.1-2", "MQTT311-3.3.1-2", "MQTT-4.3.1-1", "MQTT311-4.3.1-1")
@all_versions
def test_qos_0_is_sent_with_dup_0(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version, **keep(version))
    client.subscribe("t", qos=0)
    client.send(Publish("t", b"x", qos=1, dup=True, packet_id=1))
    (message,) = client.messages()
    assert (message.qos, message.dup) == (0, False)
    client.drop()
    # What was sent with QoS 0 is not sent again.
    mqtt.connect("c", version, **keep(version)).expect_nothing()


@pytest.mark.statement("MQTT-3.3.1-3", "MQTT311-3.3.1-3")
@all_versions
@pytest.mark.parametrize("qos", [1, 2])
def test_dup_is_not_passed_on(mqtt: VirtualBroker, version: int, qos: int) -> None:
    reader = mqtt.connect("reader", version)
    reader.subscribe("t", qos=2)
    mqtt.connect("writer", version).publish("t", b"x", qos=qos, dup=True)
    reader.expect(Publish, dup=False, qos=qos)


@pytest.mark.statement("MQTT-3.3.1-4", "MQTT311-3.3.1-4")
@each_version
def test_qos_3_closes_the_connection(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version)
    client.send_bytes(frame(0x36, text("t"), b"\x00\x01", none_for(version)))
    expect_closed(client, ReasonCode.MALFORMED_PACKET)


# --- topic -----------------------------------------------------------------------


@pytest.mark.statement("MQTT-3.3.2-2", "MQTT-4.7.0-1", "MQTT311-3.3.2-2", "MQTT311-4.7.1-1")
@each_version
@pytest.mark.parametrize("topic", ["#", "a/#", "+", "a/+/b", "a+", "a#b"])
def test_a_topic_with_a_wildcard_closes_the_connection(
    mqtt: VirtualBroker, version: int, topic: str
) -> None:
    reader = mqtt.connect("reader")
    reader.subscribe("#")
    client = mqtt.connect("c", version)
    client.send(Publish(topic))
    expect_closed(client, ReasonCode.TOPIC_NAME_INVALID)
    reader.expect_nothing()


@pytest.mark.statement("MQTT-3.3.2-3", "MQTT311-3.3.2-3")
@all_versions
@pytest.mark.parametrize(
    ("topic_filter", "matching"),
    [
        ("a/b", {"a/b"}),
        ("a/+", {"a/b", "a/", "a/c"}),
        ("a/#", {"a", "a/b", "a/", "a/c", "a/b/c"}),
        ("+/b", {"a/b", "/b", "A/b"}),
        ("+", {"a", "b"}),
        ("/+", {"/b"}),
        ("+/+", {"a/b", "a/", "a/c", "/b", "A/b"}),
    ],
)
def test_what_is_delivered_matches_the_filter(
    mqtt: VirtualBroker, version: int, topic_filter: str, matching: set[str]
) -> None:
    reader = mqtt.connect("reader", version)
    reader.subscribe(topic_filter)
    for topic in ("a", "b", "a/b", "a/", "a/c", "a/b/c", "/b", "A/b", "$a/b"):
        mqtt.publish(topic, topic.encode())
    messages = reader.messages()
    assert {message.topic for message in messages} == matching
    assert all(message.payload == message.topic.encode() for message in messages)


# --- what passes through ---------------------------------------------------------------


@pytest.mark.statement(
    "MQTT-3.3.2-4",
    "MQTT-3.3.2-15",
    "MQTT-3.3.2-16",
    "MQTT-3.3.2-17",
    "MQTT-3.3.2-18",
    "MQTT-3.3.2-20",
)
@pytest.mark.parametrize("way", ["live", "queued", "retained", "sent again"])
def test_properties_pass_unaltered(mqtt: VirtualBroker, way: str) -> None:
    writer = mqtt.connect("writer")
    reader = mqtt.connect("reader", **keep(MQTT5))
    if way == "retained":
        writer.publish("t", b"text", qos=1, retain=True, **ALL_PROPERTIES)
    reader.subscribe("t", qos=1)
    if way == "queued":
        reader.drop()
    if way != "retained":
        writer.publish("t", b"text", qos=1, **ALL_PROPERTIES)
    if way == "sent again":
        reader.expect(Publish)
        reader.drop()
    if way in ("queued", "sent again"):
        reader = mqtt.connect("reader", **keep(MQTT5))
    found = reader.expect(Publish, payload=b"text").properties
    assert found == ALL_PROPERTIES
    assert found["user_property"] == ALL_PROPERTIES["user_property"]


@pytest.mark.statement("MQTT-3.3.2-4")
def test_a_payload_format_of_0_passes_as_well(mqtt: VirtualBroker) -> None:
    reader = mqtt.connect("reader")
    reader.subscribe("t")
    writer = mqtt.connect("writer")
    writer.publish("t", b"\xff", payload_format_indicator=0)
    assert reader.expect(Publish).properties == {"payload_format_indicator": 0}
    writer.publish("t", b"\xff")
    assert reader.expect(Publish).properties == {}


@pytest.mark.statement("MQTT-3.3.2-13", "MQTT-3.3.2-14", "MQTT-3.3.2-19")
@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (b"\x08" + text(b"\xff"), ReasonCode.MALFORMED_PACKET),
        (b"\x08" + text("a/+"), ReasonCode.TOPIC_NAME_INVALID),
        (b"\x08" + text("#"), ReasonCode.TOPIC_NAME_INVALID),
        (b"\x03" + text(b"\xc3"), ReasonCode.MALFORMED_PACKET),
    ],
    ids=["response topic not UTF-8", "response topic +", "response topic #", "content type"],
)
def test_response_topic_and_content_type_are_checked(
    mqtt: VirtualBroker, block: bytes, reason: ReasonCode
) -> None:
    client = mqtt.connect("c")
    client.send_bytes(frame(0x30, text("t"), properties(block)))
    assert client.closed
    (farewell,) = client.received
    assert getattr(farewell, "reason", None) in (reason, ReasonCode.PROTOCOL_ERROR)


# --- expiry -------------------------------------------------------------------------------


@pytest.mark.statement("MQTT-3.3.2-5")
@pytest.mark.parametrize("retain", [False, True])
def test_an_expired_message_is_not_delivered(mqtt: VirtualBroker, retain: bool) -> None:
    reader = mqtt.connect("reader", **keep(MQTT5))
    reader.subscribe("t", qos=1)
    reader.drop()
    writer = mqtt.connect("writer")
    writer.publish("t", b"short", qos=1, message_expiry_interval=10, retain=retain)
    writer.publish("t", b"long", qos=1, message_expiry_interval=100)
    mqtt.advance(11)
    reader = mqtt.connect("reader", **keep(MQTT5))
    assert [message.payload for message in reader.messages()] == [b"long"]
    reader.subscribe("t")
    reader.expect_nothing()


@pytest.mark.statement("MQTT-3.3.2-6")
@pytest.mark.parametrize(("waited", "left"), [(0, 100), (40, 60), (99, 1)])
def test_the_expiry_interval_counts_down(mqtt: VirtualBroker, waited: int, left: int) -> None:
    reader = mqtt.connect("reader", **keep(MQTT5))
    reader.subscribe("t", qos=1)
    reader.drop()
    writer = mqtt.connect("writer")
    writer.publish("t", qos=1, message_expiry_interval=100)
    writer.publish("r", b"kept", message_expiry_interval=100, retain=True)
    mqtt.advance(waited)
    reader = mqtt.connect("reader", **keep(MQTT5))
    assert reader.expect(Publish).properties == {"message_expiry_interval": left}
    reader.subscribe("r")
    assert reader.expect(Publish).properties == {"message_expiry_interval": left}


# --- topic aliases from the client --------------------------------------------------------


@pytest.mark.statement("MQTT-3.3.2-12")
def test_every_alias_within_the_maximum_is_taken() -> None:
    broker = broker_with(topic_alias_maximum=10)
    reader = broker.connect("reader")
    reader.subscribe("#")
    writer = broker.connect("writer")
    for alias in range(1, 11):
        writer.publish(f"t/{alias}", topic_alias=alias)
        reader.expect(Publish, topic=f"t/{alias}", properties={})
    for alias in range(10, 0, -1):
        writer.publish("", b"by alias", topic_alias=alias)
        reader.expect(Publish, topic=f"t/{alias}", payload=b"by alias", properties={})
    writer.publish("other", topic_alias=1)
    writer.publish("", topic_alias=1)
    assert [message.topic for message in reader.messages()] == ["other", "other"]


@pytest.mark.statement("MQTT-3.3.2-7")
def test_aliases_end_with_the_connection(mqtt: VirtualBroker) -> None:
    writer = mqtt.connect("writer", **keep(MQTT5))
    writer.publish("t", topic_alias=1)
    writer.drop()
    writer = mqtt.connect("writer", **keep(MQTT5))
    writer.send(Publish("", properties={"topic_alias": 1}))
    assert writer.closed
    (farewell,) = writer.received
    assert getattr(farewell, "reason", None) in (
        ReasonCode.PROTOCOL_ERROR,
        ReasonCode.TOPIC_ALIAS_INVALID,
    )


@pytest.mark.statement("MQTT-3.3.2-7", "MQTT-3.3.2-11", "MQTT-3.1.2-26")
def test_aliases_to_the_client_begin_anew_with_each_connection(mqtt: VirtualBroker) -> None:
    for _ in range(2):
        reader = mqtt.connect("reader", topic_alias_maximum=2, **keep(MQTT5))
        reader.subscribe("t")
        mqtt.publish("t")
        first = reader.expect(Publish, topic="t")
        mqtt.publish("t")
        second = reader.messages()[0]
        if "topic_alias" in first.properties:
            assert second.properties["topic_alias"] == first.properties["topic_alias"]
        reader.drop()


@pytest.mark.statement("MQTT-3.3.2-8")
def test_alias_0_disconnects(mqtt: VirtualBroker) -> None:
    client = mqtt.connect("c")
    client.send_bytes(frame(0x30, text("t"), properties(b"\x23\x00\x00")))
    expect_closed(client, ReasonCode.TOPIC_ALIAS_INVALID)


@pytest.mark.statement("MQTT-3.3.2-11", "MQTT-3.3.2-8", "MQTT-3.1.2-26")
@pytest.mark.parametrize("maximum", [1, 3, 65_535])
def test_aliases_to_the_client_stay_within_its_maximum(mqtt: VirtualBroker, maximum: int) -> None:
    reader = mqtt.connect("reader", topic_alias_maximum=maximum)
    reader.subscribe("#")
    known: dict[int, str] = {}
    topics = [f"t/{number}" for number in range(5)] * 3
    for topic in topics:
        mqtt.publish(topic)
        message = reader.expect(Publish)
        alias = message.properties.get("topic_alias")
        if alias is not None:
            assert 1 <= alias <= maximum
            if message.topic:
                known[alias] = message.topic
        assert (message.topic or known[alias or 0]) == topic
    assert known  # the broker does use aliases where the client takes them


@pytest.mark.statement("MQTT-3.1.2-27")
@pytest.mark.parametrize("fields", [{}, {"topic_alias_maximum": 0}])
def test_no_aliases_for_a_client_that_takes_none(
    mqtt: VirtualBroker, fields: dict[str, Any]
) -> None:
    reader = mqtt.connect("reader", **fields)
    reader.subscribe("t")
    for _ in range(3):
        mqtt.publish("t")
        reader.expect(Publish, topic="t", properties={})


# --- answers ------------------------------------------------------------------------------------


@pytest.mark.statement("MQTT-3.3.4-1", "MQTT311-3.3.4-1")
@all_versions
def test_a_publish_is_answered_as_its_qos_says(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version)
    client.send(Publish("t", qos=0))
    client.expect_nothing()
    client.send(Publish("t", qos=1, packet_id=1))
    client.expect(Puback, packet_id=1)
    client.expect_nothing()
    client.send(Publish("t", qos=2, packet_id=2))
    client.expect(Pubrec, packet_id=2)
    client.expect_nothing()


@pytest.mark.statement("MQTT311-3.3.5-2")
@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_forbidden_publish_is_acknowledged_and_dropped_in_311(version: int, qos: int) -> None:
    broker = broker_with(authorizer=Rules(("publish", "secret")))
    reader = broker.connect("reader")
    reader.subscribe("#")
    client = broker.connect("c", version)
    client.publish("secret", b"x", qos=qos, retain=True)  # acknowledged as usual
    assert not client.closed
    reader.expect_nothing()
    reader.subscribe("#")
    reader.expect_nothing()


@pytest.mark.statement("MQTT311-3.3.5-2")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_forbidden_publish_closes_the_connection_if_so_set(qos: int) -> None:
    broker = broker_with(
        authorizer=Rules(("publish", "secret")), denied_publish=DeniedPublish.DISCONNECT
    )
    client = broker.connect("c", 4)
    client.send(Publish("secret", qos=qos, packet_id=1 if qos else 0))
    expect_closed(client)


# --- overlapping subscriptions ---


@pytest.mark.statement("MQTT-3.3.4-2", "MQTT311-3.3.5-1")
@all_versions
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_overlapping_subscriptions_deliver_at_the_highest_qos(
    mqtt: VirtualBroker, version: int, qos: int
) -> None:
    reader = mqtt.connect("reader", version)
    reader.subscribe(
        SubscriptionRequest("a/+", 2), SubscriptionRequest("a/#", 0), SubscriptionRequest("a/b", 1)
    )
    mqtt.publish("a/b", b"x", qos=qos)
    assert max(message.qos for message in reader.messages()) == qos


@pytest.mark.statement("MQTT-3.3.4-3", "MQTT-3.3.4-4", "MQTT-3.3.4-5")
@pytest.mark.parametrize("version", [MQTT5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_every_identifier_comes_with_the_message(
    mqtt: VirtualBroker, qos: int, publish: Callable[..., None]
) -> None:
    one, many = mqtt.connect("one"), mqtt.connect("many")
    one.subscribe("t", qos=2, subscription_identifier=[9])
    many.subscribe("+", qos=2, subscription_identifier=[268_435_455])
    many.subscribe("#", qos=0, subscription_identifier=[7])
    many.subscribe("t", qos=1)
    publish("t", b"x", qos=qos)
    one.expect(Publish, properties={"subscription_identifier": [9]})
    message = many.expect(Publish)
    assert sorted(message.properties["subscription_identifier"]) == [7, 268_435_455]
    many.expect_nothing()  # the broker sends one copy


@pytest.mark.statement("MQTT-3.3.4-5", "MQTT-3.3.4-3")
def test_the_copy_of_a_shared_subscription_has_its_own_identifier(
    mqtt: VirtualBroker,
) -> None:
    reader = mqtt.connect("reader")
    reader.subscribe("t", subscription_identifier=[1])
    reader.subscribe("$share/g/t", subscription_identifier=[2])
    reader.subscribe("$share/h/+")
    mqtt.publish("t", b"x")
    found = [message.properties.get("subscription_identifier") for message in reader.messages()]
    assert sorted(found, key=str) == [None, [1], [2]]


@pytest.mark.statement("MQTT-3.3.4-4")
def test_a_retained_message_has_the_identifier_of_its_subscription(
    mqtt: VirtualBroker,
) -> None:
    mqtt.publish("t", b"kept", retain=True)
    reader = mqtt.connect("reader")
    reader.subscribe("t", subscription_identifier=[9])
    assert reader.expect(Publish).properties == {"subscription_identifier": [9]}


@pytest.mark.statement("MQTT-3.3.4-6")
def test_a_subscription_identifier_from_a_client_is_an_error(mqtt: VirtualBroker) -> None:
    client = mqtt.connect("c")
    client.send_bytes(frame(0x30, text("t"), properties(b"\x0b\x01")))
    expect_closed(client, ReasonCode.PROTOCOL_ERROR)


@pytest.mark.statement("MQTT-3.3.4-2", "MQTT311-3.3.5-1")
def test_one_copy_is_queued_for_overlapping_subscriptions() -> None:
    broker = broker_with(session=SessionSettings(maximum_inflight=1))
    reader = broker.connect("reader", **keep(MQTT5))
    reader.subscribe("a/+", "a/#", "a/b", qos=1)
    reader.drop()
    broker.publish("a/b", b"1", qos=1)
    reader = broker.connect("reader", **keep(MQTT5))
    assert [message.payload for message in reader.messages()] == [b"1"]
