"""Exchanges byte by byte.

Covers the sequences of mosquitto's ``test/broker/data`` (CONNECT, CONNACK,
PUBLISH, the acknowledgements, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ,
PINGRESP, DISCONNECT, AUTH, FORBIDDEN, FLOW, REGRESSION); the properties of each
packet are in ``test_property_matrix.py``. Not applicable: what CONNACK offers
(its values are each broker's own).

Where mqttd answers otherwise than mosquitto, on purpose:

- Control characters (U+0001 to U+001F, U+007F to U+009F) in strings are taken:
  sections 1.5.4 of 5.0 and 1.5.3 of 3.1.1 ask clients not to send them and leave
  it to the server.
- A repeated PUBLISH of QoS 2 is acknowledged as often as it comes, also without
  DUP; mosquitto closes at the third.
- PUBREL and PUBREC for an unknown packet identifier are answered with reason code
  0x92 in 5.0, where mosquitto says success.
- An unknown protocol level is answered CONNACK 0x01 in the form of 3.1.1.
- Reason codes: a wildcard in a topic name is 0x90 and not 0x81; no topic and no
  alias, QoS 3 and no filter in a SUBSCRIBE, and packet identifier 0 are 0x82 as
  their sections say; packet type 0 and flags of AUTH are 0x81.
- A server's reason codes in a client's DISCONNECT are let pass, as mosquitto does;
  a code that no DISCONNECT has is answered 0x82.
"""

from __future__ import annotations

import pytest

from mqttd.testing import VirtualBroker
from mqttd.wire.codes import MQTT5, MQTT311
from mqttd.wire.packets import Publish
from tests.interop.support import (
    block,
    closed_with,
    each_version,
    frame,
    is_alive,
    none,
    number,
    sent,
    text,
)

ID = number(1234)
MALFORMED = 0x81
ERROR = 0x82
NO_SUBSCRIBERS = 0x10


def publish(version: int, first: int, topic: str | bytes, identifier: bytes = b"") -> bytes:
    return frame(first, text(topic), identifier, none(version), b"payload")


# --- before CONNECT --------------------------------------------------------------------


@each_version
@pytest.mark.parametrize("first", [kind << 4 for kind in range(16) if kind != 1])
def test_nothing_comes_before_connect(broker: VirtualBroker, version: int, first: int) -> None:
    client = broker.open(version)
    client.send_bytes(bytes((first | (2 if first >> 4 in (6, 8, 10) else 0),)) + b"\x02\0\1")
    client.expect_nothing()
    assert client.closed


@pytest.mark.parametrize("first", [kind << 4 for kind in range(16)])
def test_a_remaining_length_of_five_bytes_ends_it(broker: VirtualBroker, first: int) -> None:
    early = broker.open()
    early.send_bytes(bytes((first,)) + b"\x80\x80\x80\x80\x01")
    assert early.closed
    client = broker.connect("c")
    client.send_bytes(bytes((first,)) + b"\x80\x80\x80\x80\x01")
    closed_with(client, MALFORMED, ERROR)


# --- PUBLISH ---------------------------------------------------------------------------


@each_version
@pytest.mark.parametrize("first", [0x30, 0x31])
def test_qos_0(broker: VirtualBroker, version: int, first: int) -> None:
    client = broker.connect("c", version)
    client.send_bytes(publish(version, first, "topic"))
    client.send_bytes(frame(first, text("topic"), none(version)))
    client.expect_nothing()
    assert is_alive(client)


@each_version
@pytest.mark.parametrize("first", [0x32, 0x3A])
def test_qos_1(broker: VirtualBroker, version: int, first: int) -> None:
    client = broker.connect("c", version)
    client.send_bytes(publish(version, first, "topic", ID))
    reason = bytes((NO_SUBSCRIBERS,)) if version == MQTT5 else b""
    assert sent(client) == frame(0x40, ID, reason)


@each_version
@pytest.mark.parametrize("first", [0x34, 0x3C])
def test_qos_2(broker: VirtualBroker, version: int, first: int) -> None:
    client = broker.connect("c", version)
    reason = bytes((NO_SUBSCRIBERS,)) if version == MQTT5 else b""
    client.send_bytes(publish(version, first, "topic", ID))
    assert sent(client) == frame(0x50, ID, reason)
    client.send_bytes(frame(0x62, ID))
    assert sent(client) == frame(0x70, ID)


@each_version
def test_a_repeated_qos_2_message_is_routed_once(broker: VirtualBroker, version: int) -> None:
    client = broker.connect("c", version)
    client.subscribe("#", qos=0)
    for _ in range(3):
        client.send_bytes(publish(version, 0x34, "topic", ID))
    assert [packet.topic for packet in client.messages()] == ["topic"]
    assert sent(client) == frame(0x50, ID) * 3
    assert is_alive(client)


@each_version
@pytest.mark.parametrize(
    ("first", "identifier"),
    [
        pytest.param(0x38, b"", id="DUP, QoS 0"),
        pytest.param(0x36, b"", id="QoS 3, no identifier"),
        pytest.param(0x36, ID, id="QoS 3"),
        pytest.param(0x32, b"\0\0", id="QoS 1, identifier 0"),
        pytest.param(0x34, b"\0\0", id="QoS 2, identifier 0"),
    ],
)
def test_bad_headers_of_publish(
    broker: VirtualBroker, version: int, first: int, identifier: bytes
) -> None:
    client = broker.connect("c", version)
    client.send_bytes(publish(version, first, "topic", identifier))
    closed_with(client, ERROR if identifier == b"\0\0" else MALFORMED)


def test_qos_1_without_an_identifier(broker: VirtualBroker) -> None:
    client = broker.connect("c", MQTT311)
    client.send_bytes(frame(0x32, text("topic")))
    closed_with(client)


BAD_STRINGS = {
    "null": b"top\0\0",
    "U+D800": b"to\xed\xa0\x80",
    "U+DFFF": b"to\xed\xbf\xbf",
    "cut UTF-8": b"top\xf0\xaa",
    "overlong": b"to\xc0\xaf",
}
CONTROL = {
    "U+0001": b"to\x01p",
    "U+001F": b"to\x1fp",
    "U+007F": b"to\x7fp",
    "U+009F": b"t\xc2\x9fp",
}


@each_version
@pytest.mark.parametrize("topic", BAD_STRINGS.values(), ids=BAD_STRINGS)
@pytest.mark.parametrize("packet", ["publish", "subscribe", "unsubscribe"])
def test_bad_strings(broker: VirtualBroker, version: int, topic: bytes, packet: str) -> None:
    client = broker.connect("c", version)
    data = {
        "publish": publish(version, 0x30, topic),
        "subscribe": frame(0x82, ID, none(version), text(topic), b"\0"),
        "unsubscribe": frame(0xA2, ID, none(version), text(topic)),
    }[packet]
    client.send_bytes(data)
    closed_with(client, MALFORMED)


@each_version
@pytest.mark.parametrize("topic", CONTROL.values(), ids=CONTROL)
def test_control_characters_are_let_pass(broker: VirtualBroker, version: int, topic: bytes) -> None:
    client = broker.connect("c", version)
    client.send_bytes(frame(0x82, ID, none(version), text(topic), b"\0"))
    assert sent(client) == frame(0x90, ID, none(version), b"\0")
    client.send_bytes(publish(version, 0x30, topic))
    client.expect(Publish, topic=topic.decode())


@each_version
def test_characters_beyond_16_bits(broker: VirtualBroker, version: int) -> None:
    client = broker.connect("c", version)
    client.send_bytes(publish(version, 0x30, "A\N{CJK UNIFIED IDEOGRAPH-2A6D4}"))
    assert is_alive(client)


@each_version
@pytest.mark.parametrize(
    ("topic", "reason"),
    [("+opic", 0x90), ("#opic", 0x90), ("t/#", 0x90), ("t/+/t", 0x90), ("", ERROR)],
)
def test_bad_topic_names(broker: VirtualBroker, version: int, topic: str, reason: int) -> None:
    client = broker.connect("c", version)
    client.send_bytes(publish(version, 0x30, topic))
    closed_with(client, reason)


# --- acknowledgements --------------------------------------------------------------------


@each_version
@pytest.mark.parametrize("first", [0x40, 0x70])
def test_unasked_acknowledgements_that_need_no_answer(
    broker: VirtualBroker, version: int, first: int
) -> None:
    client = broker.connect("c", version)
    client.send_bytes(frame(first, number(1)))
    client.expect_nothing()
    assert is_alive(client)


@each_version
@pytest.mark.parametrize(("first", "answer"), [(0x50, 0x62), (0x62, 0x70)])
def test_unasked_acknowledgements_that_need_one(
    broker: VirtualBroker, version: int, first: int, answer: int
) -> None:
    client = broker.connect("c", version)
    for body in [b"", b"\0", b"\0\0"] if version == MQTT5 else [b""]:
        client.send_bytes(frame(first, number(1), body))
        assert sent(client) == frame(answer, number(1), b"\x92" if version == MQTT5 else b"")
    assert is_alive(client)


def test_a_refusal_needs_no_release(broker: VirtualBroker) -> None:
    client = broker.connect("c")
    for body in (b"\x80", b"\x80\0"):
        client.send_bytes(frame(0x50, number(1), body))
        client.expect_nothing()
    assert is_alive(client)


@each_version
@pytest.mark.parametrize("first", [0x40, 0x50, 0x62, 0x70])
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", MALFORMED, id="empty"),
        pytest.param(b"\1", MALFORMED, id="half an identifier"),
        pytest.param(b"\0\0", ERROR, id="identifier 0"),
        pytest.param(b"\0\1\0\0\0", MALFORMED, id="too long"),
    ],
)
def test_bad_acknowledgements(
    broker: VirtualBroker, version: int, first: int, body: bytes, reason: int
) -> None:
    client = broker.connect("c", version)
    client.send_bytes(frame(first, body))
    closed_with(client, reason)


@pytest.mark.parametrize("first", [0x40, 0x50, 0x62, 0x70])
def test_acknowledgements_with_what_they_do_not_have(broker: VirtualBroker, first: int) -> None:
    old = broker.connect("old", MQTT311)
    old.send_bytes(frame(first, number(1), b"\0"))
    closed_with(old)
    new = broker.connect("new")
    new.send_bytes(frame(first, number(1), b"\xff\0"))
    closed_with(new, ERROR)
    cut = broker.connect("cut")
    cut.send_bytes(frame(first, number(1), b"\0\1"))
    closed_with(cut, MALFORMED)


HEADERS = [
    first ^ flag
    for first in (0x40, 0x50, 0x62, 0x70, 0x82, 0xA2, 0xC0, 0xE0)
    for flag in (1, 2, 4, 8)
]


@each_version
@pytest.mark.parametrize("first", HEADERS, ids=hex)
def test_bad_flags(broker: VirtualBroker, version: int, first: int) -> None:
    client = broker.connect("c", version)
    bodies = {
        0x8: number(1) + none(version) + text("p") + b"\0",
        0xA: number(1) + none(version) + text("p"),
        0xC: b"",
        0xE: b"",
    }
    client.send_bytes(frame(first, bodies.get(first >> 4, number(1))))
    closed_with(client, MALFORMED)


# --- SUBSCRIBE and UNSUBSCRIBE ---------------------------------------------------------------


@each_version
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_subscribe(broker: VirtualBroker, version: int, qos: int) -> None:
    client = broker.connect("c", version)
    client.send_bytes(frame(0x82, ID, none(version), text("p"), bytes((qos,))))
    assert sent(client) == frame(0x90, ID, none(version), bytes((qos,)))
    two = text("p") + b"\0" + text("q") + b"\1"
    client.send_bytes(frame(0x82, ID, none(version), two))
    assert sent(client) == frame(0x90, ID, none(version), b"\0\1")


@each_version
@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        pytest.param(b"", {MALFORMED}, id="empty"),
        pytest.param(b"\1", {MALFORMED}, id="half an identifier"),
        pytest.param(b"ID", {MALFORMED, ERROR}, id="no filter"),
        pytest.param(b"ID\0", {MALFORMED}, id="half a length"),
        pytest.param(b"ID\0\0", {MALFORMED}, id="no options for no filter"),
        pytest.param(b"ID\0\1p", {MALFORMED}, id="no options"),
        pytest.param(b"ID\0\1p\0\0", {MALFORMED}, id="a byte too many"),
        pytest.param(b"ID\0\0\0", {MALFORMED}, id="empty filter"),
        pytest.param(b"ID\0\0\0\0\1q\0", {MALFORMED}, id="first filter empty"),
        pytest.param(b"ID\0\1q\0\0\0\0", {MALFORMED}, id="second filter empty"),
        pytest.param(b"ID\0\1p\3", {MALFORMED, ERROR}, id="QoS 3"),
        pytest.param(b"ID\0\1p\x30", {MALFORMED, ERROR}, id="retain handling 3"),
        pytest.param(b"ID\0\1p\x40", {MALFORMED}, id="reserved bit 6"),
        pytest.param(b"ID\0\1p\x80", {MALFORMED}, id="reserved bit 7"),
        pytest.param(b"\0\0\0\1p\0", {MALFORMED, ERROR}, id="identifier 0"),
    ],
)
def test_bad_subscribes(
    broker: VirtualBroker, version: int, body: bytes, reasons: set[int]
) -> None:
    client = broker.connect("c", version)
    client.send_bytes(frame(0x82, body.replace(b"ID", ID + none(version))))
    closed_with(client, *reasons)


@pytest.mark.parametrize("options", [0x04, 0x08, 0x10, 0x20], ids=hex)
def test_options_of_5_0(broker: VirtualBroker, options: int) -> None:
    client = broker.connect("c")
    client.send_bytes(frame(0x82, ID, b"\0", text("p"), bytes((options,))))
    assert sent(client) == frame(0x90, ID, b"\0\0")
    old = broker.connect("old", MQTT311)
    old.send_bytes(frame(0x82, ID, text("p"), bytes((options,))))
    closed_with(old)


@pytest.mark.parametrize(
    "topic_filter", ["$share/+/p", "$share/#/p", "$share/p/", "$share/p", "$share//p"]
)
def test_bad_shared_filters(broker: VirtualBroker, topic_filter: str) -> None:
    client = broker.connect("c")
    client.send_bytes(frame(0x82, ID, b"\0", text(topic_filter), b"\0"))
    closed_with(client, MALFORMED, ERROR)


def test_no_local_and_shared_do_not_go_together(broker: VirtualBroker) -> None:
    client = broker.connect("c")
    client.send_bytes(frame(0x82, ID, b"\0", text("$share/p/p"), b"\4"))
    closed_with(client, ERROR)


@each_version
@pytest.mark.parametrize("topic_filter", ["a/#/b", "a#", "#a", "a+", "+a", "a/+b", "##", "++"])
def test_bad_wildcards(broker: VirtualBroker, version: int, topic_filter: str) -> None:
    for data in (
        frame(0x82, ID, none(version), text(topic_filter), b"\0"),
        frame(0xA2, ID, none(version), text(topic_filter)),
    ):
        client = broker.connect("c", version)
        client.send_bytes(data)
        closed_with(client, MALFORMED, 0x8F)


@each_version
def test_unsubscribe(broker: VirtualBroker, version: int) -> None:
    client = broker.connect("c", version)
    client.subscribe("p")
    client.send_bytes(frame(0xA2, ID, none(version), text("p"), text("q")))
    assert sent(client) == frame(0xB0, ID, b"\0\0\x11" if version == MQTT5 else b"")


@each_version
@pytest.mark.parametrize("body", [b"", b"\1", b"ID", b"ID\0", b"ID\0\0", b"ID\0\5ab"])
def test_bad_unsubscribes(broker: VirtualBroker, version: int, body: bytes) -> None:
    client = broker.connect("c", version)
    client.send_bytes(frame(0xA2, body.replace(b"ID", ID + none(version))))
    closed_with(client, MALFORMED, ERROR)


# --- the rest ------------------------------------------------------------------------------


@each_version
@pytest.mark.parametrize("first", [0x20, 0x90, 0xB0, 0xD0], ids=hex)
def test_packets_of_servers(broker: VirtualBroker, version: int, first: int) -> None:
    client = broker.connect("c", version)
    client.send_bytes(frame(first, b"" if first == 0xD0 else b"\0\0\0"))
    closed_with(client, ERROR)


@each_version
@pytest.mark.parametrize("first", [0x00, 0x01, 0x02, 0x04, 0x08, 0xF0, 0xF1], ids=hex)
@pytest.mark.parametrize("body", [b"", b"\0"], ids=["empty", "one byte"])
def test_packets_of_nobody(broker: VirtualBroker, version: int, first: int, body: bytes) -> None:
    client = broker.connect("c", version)
    client.send_bytes(frame(first, body))
    closed_with(client, MALFORMED, ERROR)


def test_a_bad_first_byte_needs_no_length(broker: VirtualBroker) -> None:
    client = broker.connect("c")
    client.send_bytes(b"\x0a\xc0")
    closed_with(client, MALFORMED, ERROR)


@each_version
def test_ping(broker: VirtualBroker, version: int) -> None:
    client = broker.connect("c", version)
    client.send_bytes(b"\xc0\0")
    assert sent(client) == b"\xd0\0"
    client.send_bytes(b"\xc0\1\0")
    closed_with(client, MALFORMED)


@each_version
def test_disconnect(broker: VirtualBroker, version: int) -> None:
    client = broker.connect("c", version)
    client.send_bytes(b"\xe0\0")
    client.expect_nothing()
    assert client.closed


def test_disconnect_of_3_1_1_has_no_body(broker: VirtualBroker) -> None:
    client = broker.connect("c", MQTT311)
    client.send_bytes(b"\xe0\1\0")
    closed_with(client)


CODES_OF_CLIENTS = [0x00, 0x04, *range(0x80, 0x84), 0x90, *range(0x93, 0x9A)]
CODES_OF_SERVERS = [0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, *range(0x9A, 0xA3)]


@pytest.mark.parametrize("code", [*CODES_OF_CLIENTS, *CODES_OF_SERVERS], ids=hex)
def test_reasons_to_disconnect(broker: VirtualBroker, code: int) -> None:
    for body in (bytes((code,)), bytes((code, 0))):
        client = broker.connect("c")
        client.send_bytes(frame(0xE0, body))
        client.expect_nothing()
        assert client.closed


@pytest.mark.parametrize("code", [0x01, 0x05, 0x10, 0xFF], ids=hex)
def test_reasons_that_there_are_not(broker: VirtualBroker, code: int) -> None:
    client = broker.connect("c")
    client.send_bytes(frame(0xE0, bytes((code,))))
    closed_with(client, ERROR)


def test_a_session_that_was_to_end_cannot_be_kept_at_the_end(broker: VirtualBroker) -> None:
    client = broker.connect("c", session_expiry_interval=0)
    client.send_bytes(frame(0xE0, b"\0", block(b"\x11" + number(1, 4))))
    closed_with(client, ERROR)


# --- flows from the broker -------------------------------------------------------------------


@each_version
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_flow_to_a_subscriber(broker: VirtualBroker, version: int, qos: int) -> None:
    client = broker.connect("c", version)
    client.subscribe("p", qos=qos)
    broker.connect("helper", MQTT311).publish("p", b"message", qos=qos)
    identifier = number(1) if qos else b""
    assert sent(client) == frame(0x30 | qos << 1, text("p"), identifier, none(version), b"message")
    if qos == 1:
        client.send_bytes(frame(0x40, number(1)))
    elif qos == 2:
        client.send_bytes(frame(0x50, number(1)))
        assert sent(client) == frame(0x62, number(1))
        # A second PUBREC, as after a lost PUBREL, is answered again.
        client.send_bytes(frame(0x50, number(1)))
        assert sent(client) == frame(0x62, number(1))
        client.send_bytes(frame(0x70, number(1)))
    client.expect_nothing()
    assert is_alive(client)


@each_version
@pytest.mark.parametrize(
    ("qos", "answers"),
    [
        pytest.param(1, [0x50], id="PUBREC for QoS 1"),
        pytest.param(1, [0x70], id="PUBCOMP for QoS 1"),
        pytest.param(2, [0x40], id="PUBACK for QoS 2"),
        pytest.param(2, [0x70], id="PUBCOMP before PUBREC"),
        pytest.param(2, [0x50, 0x40], id="PUBACK for PUBREL"),
    ],
)
def test_wrong_acknowledgements(
    broker: VirtualBroker, version: int, qos: int, answers: list[int]
) -> None:
    client = broker.connect("c", version)
    client.subscribe("p", qos=qos)
    broker.connect("helper", MQTT311).publish("p", b"message", qos=qos)
    client.expect(Publish)
    for first in answers[:-1]:
        client.send_bytes(frame(first, number(1)))
        sent(client)
    client.send_bytes(frame(answers[-1], number(1)))
    closed_with(client, ERROR)


@each_version
def test_the_properties_of_a_release_change_nothing(broker: VirtualBroker, version: int) -> None:
    client = broker.connect("c", version)
    bodies = [b""]
    if version == MQTT5:
        user = b"\x26" + text("key") + text("value")
        bodies += [b"\0", b"\0\0", b"\0" + block(user)]
    for body in bodies:
        client.publish("unheard", b"message", qos=0)
        client.send_bytes(publish(version, 0x34, "p", number(1)))
        sent(client)
        client.send_bytes(frame(0x62, number(1), body))
        assert sent(client) == frame(0x70, number(1))


@pytest.mark.parametrize(
    "properties",
    [
        pytest.param(b"\x01\x01", id="payload format"),
        pytest.param(b"\x02" + number(1, 4), id="expiry"),
        pytest.param(b"\x03" + text("p"), id="content type"),
        pytest.param(b"\x08" + text("p"), id="response topic"),
        pytest.param(b"\x09" + text("p"), id="correlation data"),
        pytest.param(b"\x26" + text("p") + text("q"), id="user property"),
    ],
)
def test_properties_come_back_as_they_went(broker: VirtualBroker, properties: bytes) -> None:
    client = broker.connect("c")
    client.subscribe("topic", qos=1)
    data = frame(0x30, text("topic"), block(properties), b"payload")
    client.send_bytes(data)
    assert sent(client) == data


def test_an_alias_is_the_senders_own(broker: VirtualBroker) -> None:
    client = broker.connect("c")
    client.subscribe("topic", qos=1)
    plain = frame(0x30, text("topic"), b"\0", b"payload")
    for topic in ("topic", ""):
        client.send_bytes(frame(0x30, text(topic), b"\3\x23\0\1", b"payload"))
        assert sent(client) == plain


def test_a_subscription_identifier_is_added(broker: VirtualBroker) -> None:
    client = broker.connect("c")
    client.send_bytes(frame(0x82, ID, b"\2\x0b\1", text("topic"), b"\1"))
    sent(client)
    client.send_bytes(frame(0x30, text("topic"), b"\0", b"payload"))
    assert sent(client) == frame(0x30, text("topic"), b"\2\x0b\1", b"payload")


# --- accidents of the past -------------------------------------------------------------------


@each_version
def test_neighbours_survive_an_unsubscribe(broker: VirtualBroker, version: int) -> None:
    first = broker.connect("c", version)
    first.subscribe("drash/1/#", "erash/2/#", "crash/3/#")
    first.unsubscribe("drash/1/#")
    first.drop()
    second = broker.connect("d", version)
    second.subscribe("crash/3/#")
    second.publish("crash/3/x", b"found")
    assert [message.payload for message in second.messages()] == [b"found"]


@each_version
def test_a_shared_and_a_plain_subscription_are_two(broker: VirtualBroker, version: int) -> None:
    client = broker.connect("c", version)
    client.subscribe("$share/name/test", qos=1)
    client.subscribe("test")
    client.unsubscribe("test")
    client.publish("test", b"payload")
    assert [message.payload for message in client.messages()] == [b"payload"]
    client.drop()
    again = broker.connect("c", version)
    again.publish("test", b"payload")
    again.expect_nothing()
