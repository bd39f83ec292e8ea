"""Sections 1.5 and 2: strings, integers, flags, packet identifiers, property lengths."""

from __future__ import annotations

import pytest

from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.codes import MQTT5, ReasonCode
from mqttd.wire.packets import (
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)

from .support import V5, all_versions, each_version, expect_closed, frame, none_for, text


def publish_frame(version: int, topic: bytes) -> bytes:
    return frame(0x30, text(topic), none_for(version), b"payload")


@pytest.mark.statement("MQTT-1.5.4-1", "MQTT311-1.5.3-1", "MQTT-3.3.2-1", "MQTT311-3.3.2-1")
@each_version
@pytest.mark.parametrize(
    "topic",
    [b"caf\xe9", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"a\xed\xbf\xbfb", b"\xf4\x90\x80\x80"],
)
def test_ill_formed_utf8_closes_the_connection(
    mqtt: VirtualBroker, version: int, topic: bytes
) -> None:
    client = mqtt.connect("writer", version)
    client.send_bytes(publish_frame(version, topic))
    expect_closed(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.statement(
    "MQTT-1.5.4-2", "MQTT311-1.5.3-2", "MQTT-4.7.3-2", "MQTT311-4.7.3-2", "MQTT-3.8.3-1"
)
@each_version
def test_a_null_character_closes_the_connection(mqtt: VirtualBroker, version: int) -> None:
    writer = mqtt.connect("writer", version)
    writer.send_bytes(publish_frame(version, b"a\0b"))
    expect_closed(writer, ReasonCode.MALFORMED_PACKET)
    reader = mqtt.connect("reader", version)
    reader.send_bytes(frame(0x82, b"\x00\x01", none_for(version), text(b"a\0b"), b"\x00"))
    expect_closed(reader, ReasonCode.MALFORMED_PACKET)


@pytest.mark.statement("MQTT-1.5.4-3", "MQTT311-1.5.3-3")
@all_versions
def test_a_byte_order_mark_is_part_of_the_topic(mqtt: VirtualBroker, version: int) -> None:
    marked, plain, both = (mqtt.connect(name, version) for name in ("marked", "plain", "both"))
    marked.subscribe("\ufefftopic")
    plain.subscribe("topic")
    both.subscribe("#")
    both.send_bytes(publish_frame(version, b"\xef\xbb\xbftopic"))
    marked.expect(Publish, topic="\ufefftopic")
    both.expect(Publish, topic="\ufefftopic")
    plain.expect_nothing()


@pytest.mark.statement("MQTT-1.5.5-1")
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(frame(0x30, text("t"), b"\x80\x00", b"p"), id="property length"),
        pytest.param(b"\x30\x85\x00" + text("t") + b"\x00p", id="remaining length"),
        pytest.param(frame(0x30, text("t"), b"\x80\x80\x80\x80\x01"), id="five bytes"),
    ],
)
def test_integers_longer_than_need_be_are_malformed(mqtt: VirtualBroker, data: bytes) -> None:
    client = mqtt.connect("writer")
    client.send_bytes(data)
    expect_closed(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.statement("MQTT-1.5.5-1")
@pytest.mark.parametrize(("size", "encoded"), [(127, b"\x7f"), (128, b"\x80\x01")])
def test_lengths_are_sent_in_the_fewest_bytes(
    mqtt: VirtualBroker, size: int, encoded: bytes
) -> None:
    reader = mqtt.connect("reader", 4)
    reader.subscribe("t")
    mqtt.publish("t", bytes(size - 3))
    assert reader.transport.take()[:4] == b"\x30" + encoded + b"\x00\x01"[: 3 - len(encoded)]


@pytest.mark.statement("MQTT-1.5.7-1")
@pytest.mark.parametrize(
    "pair",
    [text(b"\xff") + text("value"), text("key") + text(b"\xed\xa0\x80"), text("k") + text(b"\0")],
)
def test_both_strings_of_a_user_property_are_checked(mqtt: VirtualBroker, pair: bytes) -> None:
    client = mqtt.connect("writer")
    block = b"\x26" + pair
    client.send_bytes(frame(0x30, text("t"), bytes((len(block),)), block))
    expect_closed(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.statement(
    "MQTT-2.1.3-1",
    "MQTT-3.6.1-1",
    "MQTT-3.8.1-1",
    "MQTT-3.10.1-1",
    "MQTT-3.14.1-1",
    "MQTT311-2.2.2-1",
    "MQTT311-2.2.2-2",
    "MQTT311-3.6.1-1",
    "MQTT311-3.8.1-1",
    "MQTT311-3.10.1-1",
    "MQTT311-3.14.1-1",
)
@each_version
@pytest.mark.parametrize(
    "first", [0x41, 0x52, 0x60, 0x63, 0x74, 0x80, 0x83, 0x8A, 0xA0, 0xAA, 0xC1, 0xE1, 0xE8]
)
def test_reserved_header_flags_are_checked(mqtt: VirtualBroker, version: int, first: int) -> None:
    kind = first >> 4
    body = {
        4: b"\x00\x01",
        5: b"\x00\x01",
        6: b"\x00\x01",
        7: b"\x00\x01",
        8: b"\x00\x01" + none_for(version) + text("t") + b"\x00",
        10: b"\x00\x01" + none_for(version) + text("t"),
    }.get(kind, b"")
    client = mqtt.connect("client", version)
    client.send_bytes(frame(first, body))
    expect_closed(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.statement("MQTT-2.1.3-1", "MQTT-3.6.1-1", "MQTT311-2.2.2-1", "MQTT311-3.6.1-1")
@each_version
def test_the_server_sets_reserved_flags_as_told(mqtt: VirtualBroker, version: int) -> None:
    reader = mqtt.connect("reader", version)
    reader.subscribe("t", qos=2)
    mqtt.publish("t", qos=2)
    message = reader.expect(Publish)
    reader.send(Pubrec(message.packet_id))
    assert reader.transport.take() == b"\x62\x02" + message.packet_id.to_bytes(2, "big")


@pytest.mark.statement("MQTT-2.2.1-2", "MQTT311-2.3.1-5")
@each_version
def test_qos_0_has_no_packet_identifier(mqtt: VirtualBroker, version: int) -> None:
    reader = mqtt.connect("reader", version)
    reader.subscribe("t", qos=2)
    mqtt.connect("writer", version).publish("t", b"\x12\x34")
    assert reader.transport.take() == frame(0x30, text("t"), none_for(version), b"\x12\x34")


@pytest.mark.statement("MQTT-2.2.1-3", "MQTT311-2.3.1-1")
@each_version
@pytest.mark.parametrize("kind", ["PUBLISH 1", "PUBLISH 2", "SUBSCRIBE", "UNSUBSCRIBE"])
def test_packet_identifier_0_is_an_error(mqtt: VirtualBroker, version: int, kind: str) -> None:
    empty = none_for(version)
    data = {
        "PUBLISH 1": frame(0x32, text("t"), b"\x00\x00", empty),
        "PUBLISH 2": frame(0x34, text("t"), b"\x00\x00", empty),
        "SUBSCRIBE": frame(0x82, b"\x00\x00", empty, text("t"), b"\x00"),
        "UNSUBSCRIBE": frame(0xA2, b"\x00\x00", empty, text("t")),
    }[kind]
    client = mqtt.connect("client", version)
    client.send_bytes(data)
    expect_closed(client, ReasonCode.PROTOCOL_ERROR)


@pytest.mark.statement("MQTT-2.2.1-4", "MQTT-4.3.2-1", "MQTT-4.3.3-1", "MQTT311-2.3.1-4")
@each_version
def test_server_takes_unused_packet_identifiers(mqtt: VirtualBroker, version: int) -> None:
    reader = mqtt.connect("reader", version)
    reader.subscribe("t", qos=2)
    for number in range(10):
        mqtt.publish("t", qos=1 + number % 2)
    messages = reader.messages()
    identifiers = {message.packet_id for message in messages}
    assert len(identifiers) == 10
    assert 0 not in identifiers
    # Two stay unacknowledged; their identifiers are not taken again.
    held = {message.packet_id for message in messages[:2]}
    for message in messages[2:]:
        reader.acknowledge(message)
    for _ in range(200):
        mqtt.publish("t", qos=1)
        message = reader.expect(Publish)
        assert message.packet_id not in held | {0}
        reader.acknowledge(message)


@pytest.mark.statement("MQTT-2.2.1-4", "MQTT311-2.3.1-4")
def test_server_passes_over_identifiers_in_use_when_it_begins_anew(mqtt: VirtualBroker) -> None:
    reader = mqtt.connect("reader", 4)
    reader.subscribe("t", qos=1)
    mqtt.publish("t", qos=1)
    held = reader.expect(Publish).packet_id
    seen = 0
    for _ in range(65_535):
        mqtt.broker.publish("t", b"", qos=1)
        mqtt.clock.advance(0)
        seen = int.from_bytes(reader.transport.take()[-2:], "big")
        assert seen not in (0, held)
        reader.transport.send(b"\x40\x02" + seen.to_bytes(2, "big"))


@pytest.mark.statement("MQTT-2.2.1-5", "MQTT311-2.3.1-6")
@each_version
def test_acknowledgements_have_the_identifier_of_the_publish(
    mqtt: VirtualBroker, version: int
) -> None:
    client = mqtt.connect("client", version)
    client.subscribe("out", qos=2)
    client.send(Publish("t", qos=1, packet_id=0x1234))
    client.expect(Puback, packet_id=0x1234)
    client.send(Publish("t", qos=2, packet_id=0xFFFF))
    client.expect(Pubrec, packet_id=0xFFFF)
    client.send(Pubrel(0xFFFF))
    client.expect(Pubcomp, packet_id=0xFFFF)
    mqtt.publish("out", qos=2)
    message = client.expect(Publish)
    client.send(Pubrec(message.packet_id))
    client.expect(Pubrel, packet_id=message.packet_id)


@pytest.mark.statement("MQTT-2.2.1-6", "MQTT311-2.3.1-7")
@each_version
def test_suback_and_unsuback_have_the_identifier_of_the_request(
    mqtt: VirtualBroker, version: int
) -> None:
    client = mqtt.connect("client", version)
    client.send(Subscribe(0xABCD, [SubscriptionRequest("t")]))
    client.expect(Suback, packet_id=0xABCD)
    client.send(Unsubscribe(0xABCE, ["t"]))
    client.expect(Unsuback, packet_id=0xABCE)


@pytest.mark.statement("MQTT-2.2.2-1")
@pytest.mark.parametrize("version", [V5])
def test_no_properties_are_a_length_of_zero(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("client", version)
    client.send(Subscribe(1, [SubscriptionRequest("t")]))
    assert client.transport.take() == b"\x90\x04\x00\x01\x00\x00"
    mqtt.publish("t", b"x")
    assert client.transport.take() == b"\x30\x05\x00\x01t\x00x"
    client.send(Unsubscribe(2, ["t"]))
    assert client.transport.take() == b"\xb0\x04\x00\x02\x00\x00"


@pytest.mark.statement("MQTT-2.2.2-1")
@pytest.mark.parametrize("first", [0x30, 0x82, 0xA2])
def test_a_missing_property_length_is_malformed(mqtt: VirtualBroker, first: int) -> None:
    client: VirtualClient = mqtt.connect("client", MQTT5)
    client.send_bytes(frame(first, text("") if first == 0x30 else b"\x00\x01"))
    expect_closed(client, ReasonCode.MALFORMED_PACKET)
