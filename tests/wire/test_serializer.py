"""Frames that are shared, and what has no encoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttd.wire import serializer
from mqttd.wire.packets import (
    Auth,
    Connack,
    Connect,
    Packet,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Unsuback,
    Will,
)
from mqttd.wire.parser import Parser
from mqttd.wire.properties import encode_properties, passthrough_of
from mqttd.wire.serializer import publish_frame, serialize, variable_byte_integer
from tests.conftest import interpreted
from tests.vectors import compile_wire


@given(
    topic=st.text("abc/ä", min_size=1, max_size=200),
    payload=st.binary(max_size=400),
    qos=st.integers(0, 2),
    retain=st.booleans(),
    dup=st.booleans(),
    version=st.sampled_from([3, 4, 5]),
    packet_ids=st.lists(st.integers(1, 65_535), min_size=1, max_size=3),
)
def test_a_shared_frame_reads_back_for_every_receiver(
    topic: str,
    payload: bytes,
    qos: int,
    retain: bool,
    dup: bool,
    version: int,
    packet_ids: list[int],
) -> None:
    properties: Properties = {"content_type": "c", "user_property": [("k", "v")]}
    block = encode_properties(properties) if version == 5 else None
    dup = dup and qos > 0
    before, after = publish_frame(topic.encode(), payload, qos, retain, dup, block)
    parser = Parser(1 << 20, server_side=False)
    parser.version = version
    for packet_id in packet_ids:
        parser.feed(before + packet_id.to_bytes(2, "big") + after if qos else before)
        assert parser.next_packet() == Publish(
            topic,
            payload,
            qos,
            retain,
            dup,
            packet_id if qos else 0,
            properties if version == 5 else {},
            block or b"",
        )
    assert parser.pending == 0


@pytest.mark.statement("MQTT-2.2.1-2", "MQTT311-2.3.1-5", "MQTT-2.2.2-1")
def test_a_qos_0_frame_is_whole() -> None:
    assert publish_frame(b"t", b"x", 0, False, False, b"") == (b"\x30\x05\x00\x01t\x00x", b"")
    assert publish_frame(b"t", b"x", 0, False, False, None) == (b"\x30\x04\x00\x01tx", b"")


@pytest.mark.parametrize(
    ("prefix", "packet"),
    [
        (serializer.PUBACK, Puback(0x0102)),
        (serializer.PUBREC, Pubrec(0x0102)),
        (serializer.PUBREL, Pubrel(0x0102)),
        (serializer.PUBCOMP, Pubcomp(0x0102)),
    ],
)
@pytest.mark.parametrize("version", [3, 4, 5])
def test_constant_acknowledgements_are_what_the_packets_give(
    prefix: bytes, packet: Packet, version: int
) -> None:
    assert prefix + b"\x01\x02" == serialize(packet, version)


def test_constant_unsuback_is_what_the_packet_gives_below_5() -> None:
    assert serialize(Unsuback(0x0102, [0x11]), 4) == serializer.UNSUBACK + b"\x01\x02"


@pytest.mark.parametrize("version", [3, 4])
def test_below_5_properties_and_reasons_are_not_written(version: int) -> None:
    assert serialize(Puback(1, 0x87, {"reason_string": "no"}), version) == b"\x40\x02\x00\x01"
    publish = Publish("t", b"x", properties={"topic_alias": 1})
    assert serialize(publish, version) == b"\x30\x04\x00\x01tx"


def test_31_has_no_session_present() -> None:
    assert serialize(Connack(True), 3) == b"\x20\x02\x00\x00"
    assert serialize(Connack(True), 4) == b"\x20\x02\x01\x00"


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7F"),
        (128, "8001"),
        (16_383, "FF7F"),
        (16_384, "808001"),
        (2_097_151, "FFFF7F"),
        (2_097_152, "80808001"),
        (268_435_455, "FFFFFF7F"),
    ],
)
@pytest.mark.statement("MQTT-1.5.5-1")
def test_variable_byte_integers_are_minimal(value: int, encoded: str) -> None:
    assert variable_byte_integer(value) == bytes.fromhex(encoded)


@pytest.mark.parametrize("value", [-1, 268_435_456])
def test_other_numbers_have_no_variable_byte_integer(value: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        variable_byte_integer(value)


TOO_LONG = "x" * 65_536


@pytest.mark.parametrize(
    "packet",
    [
        Connect(client_id=TOO_LONG, version=5),
        Connect(client_id="ä" * 40_000, version=5),
        Connect(client_id="a\0b", version=5),
        Connect(client_id="a\ud800b", version=5),
        Connect(keep_alive=65_536, version=5),
        Connect(user_name=TOO_LONG, version=5),
        Connect(password=TOO_LONG.encode(), version=5),
        Connect(will=Will("t", TOO_LONG.encode()), version=5),
        Publish(TOO_LONG),
        Publish("t", properties={"topic_alias": 65_536}),
        Publish("t", properties={"message_expiry_interval": -1}),
        Publish("t", properties={"payload_format_indicator": 256}),
        Publish("t", properties={"content_type": TOO_LONG}),
        Publish("t", properties={"correlation_data": TOO_LONG.encode()}),
        Publish("t", properties={"user_property": [("k", TOO_LONG)]}),
        Publish("t", properties={"subscription_identifier": [268_435_456]}),
        Puback(65_536),
        Puback(1, 256),
        Suback(1, [256]),
        Auth(256),
    ],
    ids=lambda packet: packet.type.name,
)
def test_what_has_no_encoding_is_a_value_error(packet: Packet) -> None:
    with pytest.raises(ValueError, match=r"fit|string|surrogates|range"):
        serialize(packet, 5)


@interpreted
def test_a_packet_over_256_mb_is_a_value_error() -> None:
    class Huge(bytes):
        """Says that it is larger than it is."""

        def __len__(self) -> int:
            return 268_435_456

    with pytest.raises(ValueError, match="does not fit"):
        publish_frame(b"t", Huge(), 1, False, False, b"")


def test_properties_are_written_in_their_order() -> None:
    properties: Properties = {
        "user_property": [("b", "1"), ("a", "2")],
        "topic_alias": 3,
        "content_type": "c",
        "message_expiry_interval": 4,
        "will_delay_interval": 5,
        "subscription_identifier": [6],
    }
    assert encode_properties(properties) == compile_wire(
        '26 "b" "1" 26 "a" "2" 23 0003 03 "c" 02 00000004 18 00000005 0B 06'
    )
    assert passthrough_of(properties) == compile_wire('26 "b" "1" 26 "a" "2" 03 "c"')
