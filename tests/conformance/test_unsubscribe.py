"""Sections 3.10 and 3.11: UNSUBSCRIBE and UNSUBACK."""

from __future__ import annotations

import pytest

from mqttd.settings import SessionSettings
from mqttd.testing import VirtualBroker
from mqttd.wire.codes import MQTT5, ReasonCode
from mqttd.wire.packets import Pubcomp, Publish, Pubrec, Pubrel, Unsuback, Unsubscribe

from .support import (
    all_versions,
    broker_with,
    each_version,
    expect_closed,
    frame,
    keep,
    none_for,
    text,
)


@pytest.mark.statement("MQTT-3.10.3-1", "MQTT311-3.10.3-1")
@each_version
@pytest.mark.parametrize("topic_filter", [b"\xff", b"a/\xc3", b"\xed\xa0\x80", b"a\0"])
def test_a_filter_that_is_not_utf8_closes(
    mqtt: VirtualBroker, version: int, topic_filter: bytes
) -> None:
    client = mqtt.connect("c", version)
    client.send_bytes(frame(0xA2, b"\x00\x01", none_for(version), text(topic_filter)))
    expect_closed(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.statement("MQTT-3.10.3-2", "MQTT311-3.10.3-2")
@each_version
def test_an_unsubscribe_without_filters_closes(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version)
    client.send(Unsubscribe(1, []))
    expect_closed(client, ReasonCode.PROTOCOL_ERROR)


@pytest.mark.statement("MQTT-3.10.4-1", "MQTT311-3.10.4-1", "MQTT-3.10.4-2", "MQTT311-3.10.4-2")
@all_versions
def test_the_very_filter_is_taken_away(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version)
    client.subscribe("a/b", "x/+", "y/#")
    client.unsubscribe("a/+", "A/b", "a/b/", "x/1", "y", "#", "$share/g/a/b")
    for topic in ("a/b", "x/1", "y"):
        mqtt.publish(topic)
        client.expect(Publish, topic=topic)
    for topic_filter, topic in (("x/+", "x/1"), ("a/b", "a/b"), ("y/#", "y")):
        client.unsubscribe(topic_filter)
        mqtt.publish(topic, qos=1)
        client.expect_nothing()


@pytest.mark.statement("MQTT-3.10.4-2", "MQTT311-3.10.4-2")
@each_version
def test_an_overlapping_subscription_goes_on(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version)
    client.subscribe("a/+", qos=2)
    client.subscribe("a/b", qos=1)
    client.unsubscribe("a/+")
    mqtt.publish("a/b", qos=2)
    client.expect(Publish, qos=1)
    mqtt.publish("a/c")
    client.expect_nothing()


@pytest.mark.statement("MQTT-3.10.4-3", "MQTT311-3.10.4-3")
@each_version
def test_deliveries_under_way_are_completed(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version, **keep(version))
    client.subscribe("t", qos=2)
    mqtt.publish("t", b"1", qos=1)
    mqtt.publish("t", b"2", qos=2)
    first, second = client.messages()
    client.unsubscribe("t")
    client.send(Pubrec(second.packet_id))
    client.expect(Pubrel, packet_id=second.packet_id)
    client.drop()
    client = mqtt.connect("c", version, **keep(version))
    (again,) = client.messages()
    assert (again.packet_id, again.payload, again.dup) == (first.packet_id, b"1", True)
    client.acknowledge(again)
    client.expect(Pubrel, packet_id=second.packet_id)
    client.send(Pubcomp(second.packet_id))
    client.drop()
    mqtt.connect("c", version, **keep(version)).expect_nothing()


@pytest.mark.statement("MQTT-3.10.4-3", "MQTT311-3.10.4-3")
def test_what_a_full_window_held_back_may_still_come() -> None:
    broker = broker_with(session=SessionSettings(maximum_inflight=1))
    client = broker.connect("c", 4)
    client.subscribe("t", qos=1)
    broker.publish("t", b"1", qos=1)
    broker.publish("t", b"2", qos=1)
    client.unsubscribe("t")
    broker.publish("t", b"3", qos=1)
    client.acknowledge(client.expect(Publish, payload=b"1"))
    assert b"3" not in [message.payload for message in client.messages()]


@pytest.mark.statement("MQTT-3.10.4-4", "MQTT-3.10.4-5", "MQTT311-3.10.4-4", "MQTT311-3.10.4-5")
@all_versions
def test_unsubscribe_is_answered_whether_or_not_it_matched(
    mqtt: VirtualBroker, version: int
) -> None:
    client = mqtt.connect("c", version)
    client.subscribe("t")
    client.send(Unsubscribe(65_535, ["t"]), Unsubscribe(2, ["t"]), Unsubscribe(3, ["u"]))
    for packet_id in (65_535, 2, 3):
        client.expect(Unsuback, packet_id=packet_id)


@pytest.mark.statement("MQTT-3.10.4-6", "MQTT-3.11.3-1", "MQTT-3.11.3-2", "MQTT311-3.10.4-6")
@each_version
def test_many_filters_get_one_unsuback_in_order(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version)
    client.subscribe("a", "b", "c")
    unsuback = client.unsubscribe("a", "none", "b", "a")
    none = ReasonCode.NO_SUBSCRIPTION_EXISTED
    assert unsuback.reasons == ([0, none, 0, none] if version == MQTT5 else [])
    client.expect_nothing()
    for topic in ("a", "b", "c"):
        mqtt.publish(topic)
    assert [message.topic for message in client.messages()] == ["c"]
