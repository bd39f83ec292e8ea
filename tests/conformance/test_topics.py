"""Section 4.7: Topic Names and Topic Filters."""

from __future__ import annotations

import pytest

from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import Disconnect, Publish, Suback, Subscribe, SubscriptionRequest

from .support import all_versions, broker_with, each_version, expect_closed, frame, none_for, text


def expect_refused(client: VirtualClient, topic_filter: str) -> None:
    """The filter is none: the broker closes, or says so in SUBACK."""
    client.send(Subscribe(1, [SubscriptionRequest(topic_filter)]))
    if client.closed:
        assert client.take(Suback) == []
        if client.version == 5:
            client.expect(Disconnect)
    else:
        assert client.expect(Suback).reasons[0] >= 0x80
    assert len(client.broker.broker.router) == 0


@pytest.mark.statement("MQTT-4.7.1-1", "MQTT311-4.7.1-2")
@all_versions
@pytest.mark.parametrize("topic_filter", ["a#", "#a", "a/#/b", "#/", "##", "a/b#", "/#/", "+#"])
def test_the_multi_level_wildcard_stands_alone_and_last(
    mqtt: VirtualBroker, version: int, topic_filter: str
) -> None:
    expect_refused(mqtt.connect("c", version), topic_filter)


@pytest.mark.statement("MQTT-4.7.1-2", "MQTT311-4.7.1-3")
@all_versions
@pytest.mark.parametrize("topic_filter", ["a+", "+a", "a/b+", "a/+b/c", "++", "a/++"])
def test_the_single_level_wildcard_takes_a_whole_level(
    mqtt: VirtualBroker, version: int, topic_filter: str
) -> None:
    expect_refused(mqtt.connect("c", version), topic_filter)


@pytest.mark.statement(
    "MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.7.0-1", "MQTT311-4.7.1-1", "MQTT311-4.7.1-2"
)
@pytest.mark.statement("MQTT311-4.7.1-3")
@all_versions
@pytest.mark.parametrize("topic_filter", ["#", "/#", "a/#", "+", "+/+", "/+", "a/+/b/#", "+/#"])
def test_wildcards_in_their_place_are_taken(
    mqtt: VirtualBroker, version: int, topic_filter: str
) -> None:
    assert mqtt.connect("c", version).subscribe(topic_filter, qos=1).reasons == [1]


@pytest.mark.statement("MQTT-4.7.2-1", "MQTT311-4.7.2-1")
@all_versions
def test_leading_wildcards_do_not_match_dollar_topics(mqtt: VirtualBroker, version: int) -> None:
    for topic in ("$SYS/broker/uptime", "$x", "$"):
        mqtt.publish(topic, b"kept", retain=True)
    client = mqtt.connect("c", version)
    client.subscribe("#", "+", "+/#", "+/broker/+", "+/broker/#", qos=1)
    for topic in ("$SYS/broker/uptime", "$x", "$"):
        mqtt.publish(topic, b"live")
    client.expect_nothing()
    client.subscribe("$SYS/#")
    client.expect(Publish, topic="$SYS/broker/uptime", payload=b"kept")
    client.subscribe("$SYS/+/uptime")
    mqtt.publish("$SYS/broker/uptime", b"live")
    assert b"live" in [message.payload for message in client.messages()]


@pytest.mark.statement("MQTT-4.7.3-1", "MQTT311-4.7.3-1")
@all_versions
def test_topics_and_filters_are_not_empty(mqtt: VirtualBroker, version: int) -> None:
    writer = mqtt.connect("writer", version)
    writer.send(Publish("", b"x"))
    assert writer.closed
    expect_refused(mqtt.connect("reader", version), "")


@pytest.mark.statement("MQTT-4.7.3-2", "MQTT311-4.7.3-2")
@each_version
def test_filters_hold_no_null_character(mqtt: VirtualBroker, version: int) -> None:
    for first, rest in ((0x82, b"\x00"), (0xA2, b"")):
        client = mqtt.connect("c", version)
        client.send_bytes(frame(first, b"\x00\x01", none_for(version), text(b"a\0b"), rest))
        expect_closed(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.statement("MQTT-4.7.3-3", "MQTT311-4.7.3-3")
@each_version
def test_topics_are_taken_up_to_65535_bytes(version: int) -> None:
    broker = broker_with(maximum_topic_length=65_535)
    topic = "é" * 32_767 + "x"
    assert len(topic.encode()) == 65_535
    client = broker.connect("c", version)
    client.subscribe(topic, qos=1)
    client.publish(topic, b"x")
    client.expect(Publish, topic=topic)


@pytest.mark.statement("MQTT-4.7.3-3", "MQTT311-4.7.3-3")
@each_version
def test_topics_above_the_limit_are_refused(version: int) -> None:
    broker = broker_with(maximum_topic_length=100)
    client = broker.connect("c", version)
    suback = client.subscribe("a" * 101)
    assert suback.reasons[0] >= 0x80
    client.send(Publish("é" * 51))
    assert client.closed


@pytest.mark.statement("MQTT-4.7.3-4", "MQTT311-4.7.3-4")
@all_versions
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a/b", "A/b"),
        ("a/b", "/a/b"),
        ("a/b", "a/b/"),
        ("a/b", "a//b"),
        ("a/b", "a/./b"),
        ("a/b", "a/b "),
        ("caf\u00e9", "cafe\u0301"),
        ("\u212b", "\u00c5"),
        ("\ufb01", "fi"),
        ("a\u200bb", "ab"),
        ("%61", "a"),
        ("\U0001f600", "\U0001f601"),
    ],
)
def test_topics_are_matched_as_they_are(
    mqtt: VirtualBroker, version: int, one: str, other: str
) -> None:
    reader = mqtt.connect("reader", version)
    reader.subscribe(one)
    writer = mqtt.connect("writer", version)
    writer.publish(other, b"other")
    writer.publish(one, b"one")
    reader.expect(Publish, topic=one, payload=b"one")
    reader.expect_nothing()
