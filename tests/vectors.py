"""Wire vectors: bytes and what they mean, one table for codec tests both ways.

A row is a packet of some versions from one side. A valid row is decoded to its
packet, and its packet encoded to its bytes (unless ``canonical`` is false: there
is a shorter form); a malformed row must give its reason code. ``labels`` are
the normative statements that a row shows, without brackets.

Wire texts are hex with four shorthands: ``"text"`` is a string with its two
bytes of length, ``'text'`` bare characters, ``<...>`` a body with its Remaining
Length in front and ``{...}`` properties with theirs. Spaces mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import frozen

from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
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
    Will,
)

CLIENT = "client"
SERVER = "server"

V3 = (3,)
V4 = (4,)
V5 = (5,)
V34 = (3, 4)
V45 = (4, 5)
ALL = (3, 4, 5)

MALFORMED = ReasonCode.MALFORMED_PACKET
PROTOCOL = ReasonCode.PROTOCOL_ERROR
VERSION = ReasonCode.UNSUPPORTED_PROTOCOL_VERSION
TOPIC = ReasonCode.TOPIC_NAME_INVALID
ALIAS = ReasonCode.TOPIC_ALIAS_INVALID
QUOTA = ReasonCode.QUOTA_EXCEEDED


@frozen
class Vector:
    """One packet that is taken."""

    name: str
    versions: tuple[int, ...]
    #: Who sends it.
    sender: str
    wire: bytes
    packet: Packet
    labels: tuple[str, ...] = ()
    #: Whether encoding ``packet`` gives ``wire`` again.
    canonical: bool = True


@frozen
class Malformed:
    """Bytes that are refused."""

    name: str
    versions: tuple[int, ...]
    sender: str
    wire: bytes
    reason: ReasonCode
    labels: tuple[str, ...] = ()


def compile_wire(text: str) -> bytes:
    """The bytes of a wire text."""
    data, rest = _compile(iter(text), "")
    assert not rest
    return data


def _compile(characters: Iterator[str], closing: str) -> tuple[bytes, str]:
    data = bytearray()
    digits = ""
    for character in characters:
        if character in "<{":
            inner, _ = _compile(characters, ">" if character == "<" else "}")
            data += _length(len(inner)) + inner
        elif character == closing:
            return bytes(data), ""
        elif character in "\"'":
            quoted = "".join(iter(lambda: next(characters), character)).encode()
            data += (len(quoted).to_bytes(2, "big") if character == '"' else b"") + quoted
        elif character != " ":
            digits += character
            if len(digits) == 2:
                data.append(int(digits, 16))
                digits = ""
    return bytes(data), closing


def _length(value: int) -> bytes:
    data = b""
    while value > 127:
        data += bytes((value % 128 + 128,))
        value //= 128
    return data + bytes((value,))


def good(
    sender: str,
    name: str,
    versions: tuple[int, ...],
    wire: str,
    packet: Packet,
    *labels: str,
    canonical: bool = True,
) -> Vector:
    return Vector(name, versions, sender, compile_wire(wire), packet, labels, canonical)


def bad(
    sender: str,
    name: str,
    versions: tuple[int, ...],
    wire: str,
    reason: ReasonCode,
    *labels: str,
) -> Malformed:
    return Malformed(name, versions, sender, compile_wire(wire), reason, labels)


def request(topic_filter: str, *options: Any) -> SubscriptionRequest:
    return SubscriptionRequest(topic_filter, *options)


_LONG = "x" * 200

# The tables are filled by hand: one row, one or two lines.
# fmt: off
CONNECT_VECTORS = [
    good(CLIENT, "connect-31", V3, '10 <"MQIsdp" 03 02 003C "abc">',
        Connect(client_id="abc", version=3, keep_alive=60)),
    good(CLIENT, "connect-311", V4, '10 <"MQTT" 04 02 003C "abc">',
        Connect(client_id="abc", version=4, keep_alive=60), "MQTT311-3.1.0-1", "MQTT311-3.1.3-3",
        "MQTT311-3.1.3-4"),
    good(CLIENT, "connect-5", V5, '10 <"MQTT" 05 02 003C {} "abc">',
        Connect(client_id="abc", version=5, keep_alive=60), "MQTT-3.1.0-1", "MQTT-2.2.2-1",
        "MQTT-3.1.3-3", "MQTT-3.1.3-4"),
    good(CLIENT, "connect-31-bridge", V3, '10 <"MQIsdp" 83 02 003C "abc">',
        Connect(client_id="abc", version=3, keep_alive=60, bridge=True)),
    good(CLIENT, "connect-311-bridge", V4, '10 <"MQTT" 84 02 003C "abc">',
        Connect(client_id="abc", version=4, keep_alive=60, bridge=True)),
    good(
        CLIENT,
        "connect-311-all",
        V4,
        '10 <"MQTT" 04 F6 FFFF "abc" "w/t" "bye" "joe" "pass">',
        Connect(
            client_id="abc",
            version=4,
            keep_alive=65535,
            will=Will("w/t", b"bye", 2, True),
            user_name="joe",
            password=b"pass",
        ),
        "MQTT311-3.1.3-1",
        "MQTT311-3.1.2-9",
        "MQTT311-3.1.2-14",
        "MQTT311-3.1.2-19",
        "MQTT311-3.1.2-21",
        "MQTT311-3.1.3-10",
        "MQTT311-3.1.3-11",
    ),
    good(
        CLIENT,
        "connect-31-all",
        V3,
        '10 <"MQIsdp" 03 EC 0001 "abc" "w/t" "bye" "joe" "pass">',
        Connect(
            client_id="abc",
            version=3,
            clean_start=False,
            keep_alive=1,
            will=Will("w/t", b"bye", 1, True),
            user_name="joe",
            password=b"pass",
        ),
    ),
    good(
        CLIENT,
        "connect-5-all",
        V5,
        '10 <"MQTT" 05 CE 000A {11 0000000A 21 0014 27 00001000 22 000A 19 01 17 00 26 "k" "v"'
        ' 15 "m" 16 0002 0102} "abc" {18 00000005 01 01 02 0000000A 03 "text" 08 "r/t"'
        ' 09 0001 FF 26 "a" "b"} "w/t" "bye" "joe" "pass">',
        Connect(
            client_id="abc",
            version=5,
            keep_alive=10,
            will=Will(
                "w/t",
                b"bye",
                1,
                False,
                {
                    "will_delay_interval": 5,
                    "payload_format_indicator": 1,
                    "message_expiry_interval": 10,
                    "content_type": "text",
                    "response_topic": "r/t",
                    "correlation_data": b"\xff",
                    "user_property": [("a", "b")],
                },
            ),
            user_name="joe",
            password=b"pass",
            properties={
                "session_expiry_interval": 10,
                "receive_maximum": 20,
                "maximum_packet_size": 4096,
                "topic_alias_maximum": 10,
                "request_response_information": 1,
                "request_problem_information": 0,
                "user_property": [("k", "v")],
                "authentication_method": "m",
                "authentication_data": b"\x01\x02",
            },
        ),
        "MQTT-3.1.3-1",
        "MQTT-3.1.2-9",
        "MQTT-3.1.2-17",
        "MQTT-3.1.2-19",
        "MQTT-3.1.3-11",
        "MQTT-3.1.3-12",
    ),
    good(CLIENT, "connect-5-password-alone-item19", V5, '10 <"MQTT" 05 42 0000 {} "abc" "pass">',
        Connect(client_id="abc", version=5, password=b"pass"), "MQTT-3.1.2-16", "MQTT-3.1.2-19"),
    good(CLIENT, "connect-311-user-alone", V4, '10 <"MQTT" 04 82 0000 "abc" "joe">',
        Connect(client_id="abc", version=4, user_name="joe"), "MQTT311-3.1.2-20"),
    good(CLIENT, "connect-5-user-alone", V5, '10 <"MQTT" 05 82 0000 {} "abc" "joe">',
        Connect(client_id="abc", version=5, user_name="joe"), "MQTT-3.1.2-18"),
    good(CLIENT, "connect-311-empty-id", V4, '10 <"MQTT" 04 02 0000 "">', Connect(version=4)),
    good(CLIENT, "connect-5-empty-id", V5, '10 <"MQTT" 05 00 0000 {} "">',
        Connect(version=5, clean_start=False)),
    good(CLIENT, "connect-311-empty-user-and-password", V4, '10 <"MQTT" 04 C2 0000 "abc" "" "">',
        Connect(client_id="abc", version=4, user_name="", password=b"")),
    good(CLIENT, "connect-311-empty-will-payload", V4, '10 <"MQTT" 04 06 0000 "abc" "w" "">',
        Connect(client_id="abc", version=4, will=Will("w", b""))),
    good(CLIENT, "connect-31-user-flag-without-user", V3, '10 <"MQIsdp" 03 C2 0000 "abc">',
        Connect(client_id="abc", version=3), canonical=False),
    good(CLIENT, "connect-31-reserved-flag-unused", V3, '10 <"MQIsdp" 03 03 0000 "abc">',
        Connect(client_id="abc", version=3), canonical=False),
    good(CLIENT, "connect-id-with-wildcards-and-newline-item21", V4,
        "10 <\"MQTT\" 04 02 0000 000A 'a/+#%c\r\n$\x7f'>",
        Connect(client_id="a/+#%c\r\n$\x7f", version=4)),
    good(CLIENT, "connect-id-with-bom-item36", V5, '10 <"MQTT" 05 02 0000 {} "\ufeffabc">',
        Connect(client_id="\ufeffabc", version=5), "MQTT-1.5.4-3"),
    good(CLIENT, "connect-311-id-with-bom-item36", V4, '10 <"MQTT" 04 02 0000 "\ufeffabc">',
        Connect(client_id="\ufeffabc", version=4), "MQTT311-1.5.3-3"),
    good(
        CLIENT,
        "connect-5-limits-item31",
        V5,
        '10 <"MQTT" 05 02 FFFF {11 FFFFFFFF} "abc">',
        Connect(
            client_id="abc",
            version=5,
            keep_alive=65535,
            properties={"session_expiry_interval": 0xFFFFFFFF},
        ),
    ),
    good(CLIENT, "connect-311-keep-alive-0-item31", V4, '10 <"MQTT" 04 02 0000 "abc">',
        Connect(client_id="abc", version=4)),
    good(CLIENT, "connect-311-dollar-will-item23", V4, '10 <"MQTT" 04 06 0000 "abc" "$SYS/x" "">',
        Connect(client_id="abc", version=4, will=Will("$SYS/x", b""))),
]

BAD_CONNECT_VECTORS = [
    bad(CLIENT, "connect-name-item16", ALL, '10 <"MQTX" 04 02 0000 "abc">', VERSION, "MQTT-3.1.2-1",
        "MQTT311-3.1.2-1"),
    bad(CLIENT, "connect-name-lower-case-item16", ALL, '10 <"mqtt" 04 02 0000 "abc">', VERSION,
        "MQTT-3.1.2-1"),
    bad(CLIENT, "connect-name-empty-item16", ALL, '10 <"" 04 02 0000 "abc">', VERSION),
    bad(CLIENT, "connect-mqisdp-4-item16", ALL, '10 <"MQIsdp" 04 02 0000 "abc">', VERSION,
        "MQTT311-3.1.2-2"),
    bad(CLIENT, "connect-mqtt-3-item16", ALL, '10 <"MQTT" 03 02 0000 "abc">', VERSION,
        "MQTT311-3.1.2-2"),
    bad(CLIENT, "connect-level-0-item16", ALL, '10 <"MQTT" 00 02 0000 "abc">', VERSION,
        "MQTT311-3.1.2-2"),
    bad(CLIENT, "connect-level-6-item16", ALL, '10 <"MQTT" 06 02 0000 {} "abc">', VERSION,
        "MQTT-3.1.2-2"),
    bad(CLIENT, "connect-level-255-item16", ALL, '10 <"MQTT" FF 02 0000 {} "abc">', VERSION,
        "MQTT-3.1.2-2"),
    bad(CLIENT, "connect-bridge-5-item16", ALL, '10 <"MQTT" 85 02 0000 {} "abc">', VERSION),
    bad(CLIENT, "connect-311-reserved-item17", V4, '10 <"MQTT" 04 03 0000 "abc">', MALFORMED,
        "MQTT311-3.1.2-3"),
    bad(CLIENT, "connect-5-reserved-item17", V5, '10 <"MQTT" 05 03 0000 {} "abc">', MALFORMED,
        "MQTT-3.1.2-3"),
    bad(CLIENT, "connect-311-will-qos-3-item18", V4, '10 <"MQTT" 04 1E 0000 "abc" "w" "">',
        MALFORMED, "MQTT311-3.1.2-14"),
    bad(CLIENT, "connect-5-will-qos-3-item18", V5, '10 <"MQTT" 05 1E 0000 {} "abc" {} "w" "">',
        MALFORMED, "MQTT-3.1.2-12"),
    bad(CLIENT, "connect-311-qos-without-will-item18", V4, '10 <"MQTT" 04 0A 0000 "abc">',
        MALFORMED, "MQTT311-3.1.2-11", "MQTT311-3.1.2-13"),
    bad(CLIENT, "connect-5-qos-without-will-item18", V5, '10 <"MQTT" 05 0A 0000 {} "abc">',
        MALFORMED, "MQTT-3.1.2-11"),
    bad(CLIENT, "connect-311-retain-without-will-item18", V4, '10 <"MQTT" 04 22 0000 "abc">',
        MALFORMED, "MQTT311-3.1.2-11", "MQTT311-3.1.2-15"),
    bad(CLIENT, "connect-5-retain-without-will-item18", V5, '10 <"MQTT" 05 22 0000 {} "abc">',
        MALFORMED, "MQTT-3.1.2-13"),
    bad(CLIENT, "connect-311-will-without-flag-item18", V4, '10 <"MQTT" 04 02 0000 "abc" "w" "">',
        MALFORMED, "MQTT311-3.1.2-11"),
    bad(CLIENT, "connect-311-password-without-user-item19", V4, '10 <"MQTT" 04 42 0000 "abc" "p">',
        MALFORMED, "MQTT311-3.1.2-22"),
    bad(CLIENT, "connect-31-password-without-user-item19", V3, '10 <"MQIsdp" 03 42 0000 "abc" "p">',
        MALFORMED),
    bad(CLIENT, "connect-311-user-flag-without-user", V4, '10 <"MQTT" 04 82 0000 "abc">', MALFORMED,
        "MQTT311-3.1.2-19"),
    bad(CLIENT, "connect-5-user-flag-without-user", V5, '10 <"MQTT" 05 82 0000 {} "abc">',
        MALFORMED, "MQTT-3.1.2-17"),
    bad(CLIENT, "connect-311-password-flag-without-password", V4,
        '10 <"MQTT" 04 C2 0000 "abc" "u">', MALFORMED, "MQTT311-3.1.2-21"),
    bad(CLIENT, "connect-5-password-flag-without-password", V5, '10 <"MQTT" 05 42 0000 {} "abc">',
        MALFORMED, "MQTT-3.1.2-19"),
    bad(CLIENT, "connect-311-user-without-flag", V4, '10 <"MQTT" 04 02 0000 "abc" "u">', MALFORMED,
        "MQTT311-3.1.2-18"),
    bad(CLIENT, "connect-311-password-without-flag", V4, '10 <"MQTT" 04 82 0000 "abc" "u" "p">',
        MALFORMED, "MQTT311-3.1.2-20"),
    bad(CLIENT, "connect-5-user-without-flag", V5, '10 <"MQTT" 05 02 0000 {} "abc" "u">', MALFORMED,
        "MQTT-3.1.2-16"),
    bad(CLIENT, "connect-5-password-without-flag", V5, '10 <"MQTT" 05 82 0000 {} "abc" "u" "p">',
        MALFORMED, "MQTT-3.1.2-18"),
    bad(CLIENT, "connect-311-will-flag-without-will", V4, '10 <"MQTT" 04 06 0000 "abc">', MALFORMED,
        "MQTT311-3.1.2-9"),
    bad(CLIENT, "connect-5-will-flag-without-will", V5, '10 <"MQTT" 05 06 0000 {} "abc" {}>',
        MALFORMED, "MQTT-3.1.2-9"),
    bad(CLIENT, "connect-311-without-id", V4, '10 <"MQTT" 04 02 0000>', MALFORMED,
        "MQTT311-3.1.3-3"),
    bad(CLIENT, "connect-5-without-id", V5, '10 <"MQTT" 05 02 0000 {}>', MALFORMED, "MQTT-3.1.3-3"),
    bad(CLIENT, "connect-5-without-properties", V5, '10 <"MQTT" 05 02 0000>', MALFORMED,
        "MQTT-2.2.2-1"),
    bad(CLIENT, "connect-311-trailing-item13", V4, '10 <"MQTT" 04 02 0000 "abc" 00>', MALFORMED),
    bad(CLIENT, "connect-5-trailing-item13", V5, '10 <"MQTT" 05 02 0000 {} "abc" 00>', MALFORMED),
    bad(CLIENT, "connect-empty", ALL, "10 00", MALFORMED),
    bad(CLIENT, "connect-name-only", ALL, '10 <"MQTT">', MALFORMED),
    bad(CLIENT, "connect-to-level", ALL, '10 <"MQTT" 04>', MALFORMED),
    bad(CLIENT, "connect-to-flags", ALL, '10 <"MQTT" 04 02>', MALFORMED),
    bad(CLIENT, "connect-half-keep-alive", ALL, '10 <"MQTT" 04 02 00>', MALFORMED),
    bad(CLIENT, "connect-flags-item10", ALL, '11 <"MQTT" 04 02 0000 "abc">', MALFORMED,
        "MQTT-2.1.3-1", "MQTT311-2.2.2-1", "MQTT311-2.2.2-2"),
    bad(CLIENT, "connect-311-id-overlong-utf8", V4, '10 <"MQTT" 04 02 0000 0002 C080>', MALFORMED,
        "MQTT311-1.5.3-1", "MQTT311-3.1.3-4"),
    bad(CLIENT, "connect-5-id-overlong-utf8", V5, '10 <"MQTT" 05 02 0000 {} 0002 C080>', MALFORMED,
        "MQTT-1.5.4-1", "MQTT-3.1.3-4"),
    bad(CLIENT, "connect-311-id-surrogate-item21", V4, '10 <"MQTT" 04 02 0000 0003 EDA080>',
        MALFORMED, "MQTT311-1.5.3-1"),
    bad(CLIENT, "connect-5-id-surrogate-item21", V5, '10 <"MQTT" 05 02 0000 {} 0003 EDA080>',
        MALFORMED, "MQTT-1.5.4-1"),
    bad(CLIENT, "connect-311-id-nul-item21", V4, '10 <"MQTT" 04 02 0000 0003 610062>', MALFORMED,
        "MQTT311-1.5.3-2"),
    bad(CLIENT, "connect-5-id-nul-item21", V5, '10 <"MQTT" 05 02 0000 {} 0003 610062>', MALFORMED,
        "MQTT-1.5.4-2"),
    bad(CLIENT, "connect-311-user-bad-utf8-item22", V4, '10 <"MQTT" 04 82 0000 "abc" 0002 FFFE>',
        MALFORMED, "MQTT311-3.1.3-11"),
    bad(CLIENT, "connect-5-user-bad-utf8-item22", V5, '10 <"MQTT" 05 82 0000 {} "abc" 0002 FFFE>',
        MALFORMED, "MQTT-3.1.3-12"),
    bad(CLIENT, "connect-311-will-topic-bad-utf8", V4, '10 <"MQTT" 04 06 0000 "abc" 0001 80 "">',
        MALFORMED, "MQTT311-3.1.3-10"),
    bad(CLIENT, "connect-5-will-topic-bad-utf8", V5,
        '10 <"MQTT" 05 06 0000 {} "abc" {} 0001 80 "">', MALFORMED, "MQTT-3.1.3-11"),
    bad(CLIENT, "connect-311-will-topic-empty-item23", V4, '10 <"MQTT" 04 06 0000 "abc" "" "">',
        TOPIC, "MQTT311-4.7.3-1"),
    bad(CLIENT, "connect-5-will-topic-empty-item23", V5, '10 <"MQTT" 05 06 0000 {} "abc" {} "" "">',
        TOPIC, "MQTT-4.7.3-1"),
    bad(CLIENT, "connect-311-will-topic-wildcard-item23", V4,
        '10 <"MQTT" 04 06 0000 "abc" "a/#" "">', TOPIC, "MQTT311-4.7.1-1"),
    bad(CLIENT, "connect-5-will-topic-wildcard-item23", V5,
        '10 <"MQTT" 05 06 0000 {} "abc" {} "+/a" "">', TOPIC, "MQTT-4.7.0-1"),
    bad(CLIENT, "connect-will-property-duplicate-item24", V5,
        '10 <"MQTT" 05 06 0000 {} "abc" {18 00000001 18 00000001} "w" "">', PROTOCOL),
    bad(CLIENT, "connect-will-property-unknown-item24", V5,
        '10 <"MQTT" 05 06 0000 {} "abc" {7F 00} "w" "">', MALFORMED),
    bad(CLIENT, "connect-will-property-misplaced-item24", V5,
        '10 <"MQTT" 05 06 0000 {} "abc" {23 0001} "w" "">', MALFORMED),
    bad(CLIENT, "connect-will-property-past-end-item24", V5,
        '10 <"MQTT" 05 06 0000 {} "abc" 40 18 00000001 "w" "">', MALFORMED),
    bad(CLIENT, "connect-auth-data-without-method-item29", V5,
        '10 <"MQTT" 05 02 0000 {16 0001 00} "abc">', PROTOCOL),
    bad(CLIENT, "connect-receive-maximum-0-item30", V5, '10 <"MQTT" 05 02 0000 {21 0000} "abc">',
        PROTOCOL),
    bad(CLIENT, "connect-maximum-packet-size-0-item30", V5,
        '10 <"MQTT" 05 02 0000 {27 00000000} "abc">', PROTOCOL),
    bad(CLIENT, "connect-property-past-packet-item27", V5, '10 <"MQTT" 05 02 0000 7F 11 00000001>',
        MALFORMED),
    bad(CLIENT, "connect-string-past-properties-item27", V5,
        '10 <"MQTT" 05 02 0000 {15 00FF \'a\'} "abc">', MALFORMED),
    bad(CLIENT, "connect-number-past-properties-item27", V5,
        '10 <"MQTT" 05 02 0000 03 11 0000 "abc">', MALFORMED),
    bad(CLIENT, "connect-property-length-5-bytes", V5, '10 <"MQTT" 05 02 0000 8080808000 "abc">',
        MALFORMED, "MQTT-1.5.5-1"),
    bad(CLIENT, "connect-property-length-not-minimal", V5, '10 <"MQTT" 05 02 0000 8000 "abc">',
        MALFORMED, "MQTT-1.5.5-1"),
    bad(CLIENT, "connect-property-identifier-long", V5,
        '10 <"MQTT" 05 02 0000 {9100 00000001} "abc">', MALFORMED),
    bad(CLIENT, "connect-user-property-key-bad-utf8", V5,
        '10 <"MQTT" 05 02 0000 {26 0001 FF "v"} "abc">', MALFORMED, "MQTT-1.5.7-1"),
    bad(CLIENT, "connect-user-property-value-bad-utf8", V5,
        '10 <"MQTT" 05 02 0000 {26 "k" 0001 FF} "abc">', MALFORMED, "MQTT-1.5.7-1"),
    bad(CLIENT, "connect-user-property-without-value", V5, '10 <"MQTT" 05 02 0000 {26 "k"} "abc">',
        MALFORMED),
]

CONNACK_VECTORS = [
    good(SERVER, "connack-311", V4, "20 <00 00>", Connack()),
    good(SERVER, "connack-31", V3, "20 <00 00>", Connack()),
    good(SERVER, "connack-31-unused-byte", V3, "20 <01 00>", Connack(), canonical=False),
    good(SERVER, "connack-311-session", V4, "20 <01 00>", Connack(True), "MQTT311-3.2.2-2"),
    good(SERVER, "connack-5", V5, "20 <00 00 {}>", Connack(), "MQTT-3.2.2-1", "MQTT-2.2.2-1"),
    good(SERVER, "connack-5-session", V5, "20 <01 00 {}>", Connack(True), "MQTT-3.2.2-3"),
    *(
        good(
            SERVER,
            f"connack-{version}-refused-{code}",
            (version,),
            f"20 <00 {code:02X}>",
            Connack(False, code),
        )
        for version in V34
        for code in range(1, 6)
    ),
    good(
        SERVER,
        "connack-5-all",
        V5,
        '20 <00 00 {11 00000001 21 0002 24 01 25 00 27 00000003 12 "id" 22 0004 1F "why" 26 "k" "v"'
        ' 26 "k" "v" 28 00 29 01 2A 00 13 0005 1A "info" 1C "there" 15 "m" 16 0001 00}>',
        Connack(
            properties={
                "session_expiry_interval": 1,
                "receive_maximum": 2,
                "maximum_qos": 1,
                "retain_available": 0,
                "maximum_packet_size": 3,
                "assigned_client_identifier": "id",
                "topic_alias_maximum": 4,
                "reason_string": "why",
                "user_property": [("k", "v"), ("k", "v")],
                "wildcard_subscription_available": 0,
                "subscription_identifier_available": 1,
                "shared_subscription_available": 0,
                "server_keep_alive": 5,
                "response_information": "info",
                "server_reference": "there",
                "authentication_method": "m",
                "authentication_data": b"\0",
            }
        ),
    ),
]

BAD_CONNACK_VECTORS = [
    bad(SERVER, "connack-reserved-flags", V45, "20 <02 00 {}>", MALFORMED, "MQTT-3.2.2-1"),
    bad(SERVER, "connack-refused-with-session", V45, "20 <01 80 {}>", PROTOCOL, "MQTT-3.2.2-6",
        "MQTT311-3.2.2-4"),
    bad(SERVER, "connack-311-code-6", V34, "20 <00 06>", PROTOCOL),
    bad(SERVER, "connack-311-trailing", V34, "20 <00 00 00>", MALFORMED),
    bad(SERVER, "connack-5-trailing", V5, "20 <00 00 {} 00>", MALFORMED),
    bad(SERVER, "connack-5-without-properties", V5, "20 <00 00>", MALFORMED),
    bad(SERVER, "connack-short", ALL, "20 <00>", MALFORMED),
    bad(SERVER, "connack-empty", ALL, "20 00", MALFORMED),
    bad(SERVER, "connack-flags", ALL, "21 <00 00>", MALFORMED),
    bad(SERVER, "connack-auth-data-without-method", V5, "20 <00 00 {16 0001 00}>", PROTOCOL),
    bad(SERVER, "connack-receive-maximum-0", V5, "20 <00 00 {21 0000}>", PROTOCOL),
    bad(SERVER, "connack-maximum-packet-size-0", V5, "20 <00 00 {27 00000000}>", PROTOCOL),
    bad(SERVER, "connack-maximum-qos-2", V5, "20 <00 00 {24 02}>", PROTOCOL),
]

PUBLISH_VECTORS = [
    good(CLIENT, "publish-qos0", V34, "30 <\"a/b\" 'hi'>", Publish("a/b", b"hi"), "MQTT311-3.3.2-1",
        "MQTT311-2.3.1-5"),
    good(CLIENT, "publish-qos0-5", V5, "30 <\"a/b\" {} 'hi'>", Publish("a/b", b"hi"),
        "MQTT-3.3.2-1", "MQTT-2.2.1-2", "MQTT-2.2.2-1"),
    good(CLIENT, "publish-retain", V34, "31 <\"a/b\" 'hi'>", Publish("a/b", b"hi", 0, True)),
    good(CLIENT, "publish-retain-5", V5, "31 <\"a/b\" {} 'hi'>", Publish("a/b", b"hi", 0, True)),
    good(CLIENT, "publish-empty-payload", V34, '31 <"a/b">', Publish("a/b", b"", 0, True)),
    good(CLIENT, "publish-empty-payload-5", V5, '31 <"a/b" {}>', Publish("a/b", b"", 0, True)),
    good(CLIENT, "publish-qos1", V34, "32 <\"a/b\" 0001 'hi'>",
        Publish("a/b", b"hi", 1, packet_id=1), "MQTT311-2.3.1-1"),
    good(CLIENT, "publish-qos1-5", V5, "32 <\"a/b\" FFFF {} 'hi'>",
        Publish("a/b", b"hi", 1, packet_id=65535)),
    good(CLIENT, "publish-qos2-dup", V34, "3C <\"a/b\" 0102 'hi'>",
        Publish("a/b", b"hi", 2, dup=True, packet_id=258)),
    good(CLIENT, "publish-qos2-dup-5", V5, "3D <\"a/b\" 0102 {} 'hi'>",
        Publish("a/b", b"hi", 2, True, True, 258)),
    good(CLIENT, "publish-two-byte-length", V34, f"30 <\"a/b\" '{_LONG}'>",
        Publish("a/b", _LONG.encode())),
    good(CLIENT, "publish-binary-payload", V34, '30 <"a/b" 00FF80>',
        Publish("a/b", b"\x00\xff\x80")),
    good(CLIENT, "publish-space-and-dollar", V34, '30 <"$a/ b">', Publish("$a/ b")),
    good(CLIENT, "publish-slash", V34, '30 <"/">', Publish("/")),
    good(CLIENT, "publish-non-ascii", V5, '30 <"käse/\U0001f9c0" {}>', Publish("käse/\U0001f9c0")),
    good(CLIENT, "publish-bom-item36", V5, '30 <"\ufeffa" {}>', Publish("\ufeffa"), "MQTT-1.5.4-3"),
    good(CLIENT, "publish-control-characters-allowed", V5, '30 <"a\x01\x7f" {}>',
        Publish("a\x01\x7f")),
    good(CLIENT, "publish-alias-alone-item51", V5, '30 <"" {23 0001}>',
        Publish("", properties={"topic_alias": 1})),
    good(CLIENT, "publish-alias-65535-item51", V5, '30 <"a" {23 FFFF}>',
        Publish("a", properties={"topic_alias": 65535})),
    good(
        CLIENT,
        "publish-all",
        V5,
        '34 <"a/b" 000A {01 01 02 00000005 03 "text" 08 "r" 09 0003 000102 23 0007 26 "k" "1"'
        " 26 \"k\" \"2\"} 'hi'>",
        Publish(
            "a/b",
            b"hi",
            2,
            packet_id=10,
            properties={
                "payload_format_indicator": 1,
                "message_expiry_interval": 5,
                "content_type": "text",
                "response_topic": "r",
                "correlation_data": b"\0\1\2",
                "topic_alias": 7,
                "user_property": [("k", "1"), ("k", "2")],
            },
        ),
    ),
    good(SERVER, "publish-two-subscription-identifiers", V5, '30 <"a" {0B 01 0B FFFFFF7F}>',
        Publish("a", properties={"subscription_identifier": [1, 268_435_455]})),
    good(
        CLIENT,
        "publish-empty-strings",
        V5,
        '30 <"a" {03 "" 09 0000 26 "" ""}>',
        Publish(
            "a",
            properties={"content_type": "", "correlation_data": b"", "user_property": [("", "")]},
        ),
    ),
]

BAD_PUBLISH_VECTORS = [
    bad(CLIENT, "publish-qos3-item11", ALL, '36 <"a" 0001 {}>', MALFORMED, "MQTT-3.3.1-4",
        "MQTT311-3.3.1-4"),
    bad(CLIENT, "publish-qos3-dup-item11", ALL, '3F <"a" 0001 {}>', MALFORMED, "MQTT-3.3.1-4",
        "MQTT311-3.3.1-4"),
    bad(CLIENT, "publish-dup-qos0-item11", ALL, '38 <"a" {}>', MALFORMED, "MQTT-3.3.1-2",
        "MQTT311-3.3.1-2"),
    bad(CLIENT, "publish-empty", ALL, "30 00", MALFORMED, "MQTT-3.3.2-1", "MQTT311-3.3.2-1"),
    bad(CLIENT, "publish-half-length", ALL, "30 <00>", MALFORMED),
    bad(CLIENT, "publish-topic-past-end", ALL, "30 <0005 'abc'>", MALFORMED),
    bad(CLIENT, "publish-without-packet-id-item14", ALL, '32 <"a">', MALFORMED),
    bad(CLIENT, "publish-half-packet-id-item14", ALL, '34 <"a" 00>', MALFORMED),
    bad(CLIENT, "publish-packet-id-0-item52", ALL, '32 <"a" 0000 {}>', PROTOCOL, "MQTT-2.2.1-3",
        "MQTT311-2.3.1-1"),
    bad(CLIENT, "publish-qos2-packet-id-0-item52", ALL, '34 <"a" 0000 {}>', PROTOCOL,
        "MQTT-2.2.1-3", "MQTT311-2.3.1-1"),
    bad(CLIENT, "publish-hash-item45", ALL, '30 <"a/#" {}>', TOPIC, "MQTT-3.3.2-2", "MQTT-4.7.0-1",
        "MQTT311-3.3.2-2", "MQTT311-4.7.1-1"),
    bad(CLIENT, "publish-plus", ALL, '30 <"a/+/b" {}>', TOPIC, "MQTT-3.3.2-2", "MQTT-4.7.0-1",
        "MQTT311-3.3.2-2", "MQTT311-4.7.1-1"),
    bad(CLIENT, "publish-empty-topic-item35", V34, "30 <\"\" 'x'>", TOPIC, "MQTT311-4.7.3-1"),
    bad(CLIENT, "publish-empty-topic-without-alias-item35", V5, '30 <"" {}>', PROTOCOL,
        "MQTT-4.7.3-1"),
    bad(CLIENT, "publish-empty-topic-other-property-item35", V5, '30 <"" {01 00}>', PROTOCOL,
        "MQTT-4.7.3-1"),
    bad(CLIENT, "publish-nul-item36", ALL, "30 <0003 610062 {}>", MALFORMED, "MQTT-4.7.3-2",
        "MQTT311-4.7.3-2", "MQTT-1.5.4-2", "MQTT311-1.5.3-2"),
    bad(CLIENT, "publish-surrogate-item36", ALL, "30 <0003 EDA080 {}>", MALFORMED, "MQTT-1.5.4-1",
        "MQTT311-1.5.3-1"),
    bad(CLIENT, "publish-surrogate-pair-item36", ALL, "30 <0006 EDA080EDB080 {}>", MALFORMED,
        "MQTT-1.5.4-1", "MQTT311-1.5.3-1"),
    bad(CLIENT, "publish-bad-utf8", ALL, "30 <0001 FF {}>", MALFORMED, "MQTT-3.3.2-1",
        "MQTT311-3.3.2-1"),
    bad(CLIENT, "publish-truncated-utf8", ALL, "30 <0002 61C3 {}>", MALFORMED),
    bad(CLIENT, "publish-beyond-unicode", ALL, "30 <0004 F4908080 {}>", MALFORMED),
    bad(CLIENT, "publish-alias-0-item51", V5, '30 <"a" {23 0000}>', ALIAS, "MQTT-3.3.2-8"),
    bad(CLIENT, "publish-alias-twice-item51", V5, '30 <"a" {23 0001 23 0002}>', PROTOCOL),
    bad(CLIENT, "publish-subscription-identifier-item46", V5, '30 <"a" {0B 01}>', PROTOCOL,
        "MQTT-3.3.4-6"),
    bad(SERVER, "publish-subscription-identifier-0-item46", V5, '30 <"a" {0B 00}>', PROTOCOL),
    bad(SERVER, "publish-subscription-identifier-too-big-item46", V5, '30 <"a" {0B FFFFFFFF7F}>',
        MALFORMED),
    bad(CLIENT, "publish-response-topic-hash-item50", V5, '30 <"a" {08 "r/#"}>', PROTOCOL,
        "MQTT-3.3.2-14"),
    bad(CLIENT, "publish-response-topic-plus-item50", V5, '30 <"a" {08 "+/r"}>', PROTOCOL,
        "MQTT-3.3.2-14"),
    bad(CLIENT, "publish-response-topic-empty-item50", V5, '30 <"a" {08 ""}>', PROTOCOL),
    bad(CLIENT, "publish-response-topic-bad-utf8", V5, '30 <"a" {08 0001 FF}>', MALFORMED,
        "MQTT-3.3.2-13"),
    bad(CLIENT, "publish-content-type-bad-utf8", V5, '30 <"a" {03 0001 FF}>', MALFORMED,
        "MQTT-3.3.2-19"),
    bad(CLIENT, "publish-format-indicator-2", V5, '30 <"a" {01 02}>', PROTOCOL),
    bad(CLIENT, "publish-without-properties", V5, '30 <"a">', MALFORMED, "MQTT-2.2.2-1"),
    bad(CLIENT, "publish-properties-past-end-item27", V5, '30 <"a" 05 01 01>', MALFORMED),
    bad(CLIENT, "publish-property-without-value-item27", V5, '30 <"a" {01}>', MALFORMED),
    bad(CLIENT, "publish-correlation-data-past-block-item27", V5, '30 <"a" {09 0010 00} 00000000>',
        MALFORMED),
    bad(CLIENT, "publish-half-string-length-item27", V5, '30 <"a" {03 00}>', MALFORMED),
    bad(CLIENT, "publish-half-binary-length-item27", V5, '30 <"a" {09 00}>', MALFORMED),
]

_ACKNOWLEDGEMENTS: tuple[tuple[str, str, type[Puback | Pubrec | Pubrel | Pubcomp]], ...] = (
    ("puback", "40", Puback),
    ("pubrec", "50", Pubrec),
    ("pubrel", "62", Pubrel),
    ("pubcomp", "70", Pubcomp),
)
_PUBLISH_REASONS = (0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99)
_RELEASE_REASONS = (0x92,)

#: Name, how the packet stands around a reason code, the codes but Success, label.
_REASON_PLACES: tuple[tuple[str, str, str, tuple[int, ...], str], ...] = (
    (CLIENT, "puback", "40 <0001 {code}>", _PUBLISH_REASONS, "MQTT-3.4.2-1"),
    (CLIENT, "pubrec", "50 <0001 {code}>", _PUBLISH_REASONS, "MQTT-3.5.2-1"),
    (CLIENT, "pubrel", "62 <0001 {code}>", _RELEASE_REASONS, "MQTT-3.6.2-1"),
    (CLIENT, "pubcomp", "70 <0001 {code}>", _RELEASE_REASONS, "MQTT-3.7.2-1"),
    (
        SERVER,
        "connack",
        "20 <00 {code} 00>",
        (*range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F),
        "MQTT-3.2.2-8",
    ),
    (
        SERVER,
        "suback",
        "90 <0001 00 {code}>",
        (0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2),
        "MQTT-3.9.3-2",
    ),
    (
        SERVER,
        "unsuback",
        "B0 <0001 00 {code}>",
        (0x11, 0x80, 0x83, 0x87, 0x8F, 0x91),
        "MQTT-3.11.3-2",
    ),
    (
        SERVER,
        "disconnect",
        "E0 <{code}>",
        (
            *(0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90),
            *(0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F),
            *(0xA0, 0xA1, 0xA2),
        ),
        "MQTT-3.14.2-1",
    ),
)


def _with_reason(name: str, code: int) -> Packet:
    packets: dict[str, Packet] = {
        "puback": Puback(1, code),
        "pubrec": Pubrec(1, code),
        "pubrel": Pubrel(1, code),
        "pubcomp": Pubcomp(1, code),
        "connack": Connack(False, code),
        "suback": Suback(1, [code]),
        "unsuback": Unsuback(1, [code]),
        "disconnect": Disconnect(code),
    }
    return packets[name]


REASON_VECTORS = [
    good(
        sender,
        f"{name}-reason-{code:02X}",
        V5,
        wire.format(code=f"{code:02X}"),
        _with_reason(name, code),
        label,
    )
    for sender, name, wire, codes, label in _REASON_PLACES
    for code in codes
]

BAD_REASON_VECTORS = [
    bad(sender, f"{name}-reason-{code:02X}", V5, wire.format(code=f"{code:02X}"), PROTOCOL, label)
    for sender, name, wire, codes, label in _REASON_PLACES
    for code in (0x03, 0x05, 0x10, 0x18, 0x7F, 0x92, 0x8A, 0xA3, 0xFF)
    if code not in codes
]

ACKNOWLEDGEMENT_VECTORS = [
    *(
        good(CLIENT, f"{name}-short", ALL, f"{first} <0102>", kind(258))
        for name, first, kind in _ACKNOWLEDGEMENTS
    ),
    *(
        good(CLIENT, f"{name}-long-success", V5, f"{first} <0001 00>", kind(1), canonical=False)
        for name, first, kind in _ACKNOWLEDGEMENTS
    ),
    *(
        good(
            CLIENT,
            f"{name}-longest-success",
            V5,
            f"{first} <0001 00 {{}}>",
            kind(1),
            canonical=False,
        )
        for name, first, kind in _ACKNOWLEDGEMENTS
    ),
    *(
        good(
            CLIENT,
            f"{name}-with-properties",
            V5,
            f'{first} <0001 00 {{1F "why" 26 "k" "v"}}>',
            kind(1, 0, {"reason_string": "why", "user_property": [("k", "v")]}),
        )
        for name, first, kind in _ACKNOWLEDGEMENTS
    ),
    good(CLIENT, "pubrel-31-dup", V3, "6A <0001>", Pubrel(1), canonical=False),
]

BAD_ACKNOWLEDGEMENT_VECTORS = [
    *(
        vector
        for name, first, _ in _ACKNOWLEDGEMENTS
        for vector in (
            bad(CLIENT, f"{name}-empty", ALL, f"{first} 00", MALFORMED),
            bad(CLIENT, f"{name}-half-packet-id", ALL, f"{first} <00>", MALFORMED),
            bad(CLIENT, f"{name}-packet-id-0-item52", ALL, f"{first} <0000>", PROTOCOL),
            bad(CLIENT, f"{name}-trailing-item13", V34, f"{first} <0001 00>", MALFORMED),
            bad(CLIENT, f"{name}-trailing-5-item13", V5, f"{first} <0001 00 {{}} 00>", MALFORMED),
            bad(CLIENT, f"{name}-properties-past-end-item27", V5, f"{first} <0001 00 05 1F>",
                MALFORMED),
            bad(CLIENT, f"{name}-reason-string-twice-item26", V5,
                f'{first} <0001 00 {{1F "a" 1F "b"}}>', PROTOCOL),
        )
    ),
    bad(CLIENT, "puback-flags-item10", ALL, "42 <0001>", MALFORMED, "MQTT-2.1.3-1",
        "MQTT311-2.2.2-1"),
    bad(CLIENT, "pubrec-flags-item10", ALL, "51 <0001>", MALFORMED, "MQTT-2.1.3-1",
        "MQTT311-2.2.2-1"),
    bad(CLIENT, "pubcomp-flags-item10", ALL, "78 <0001>", MALFORMED, "MQTT-2.1.3-1",
        "MQTT311-2.2.2-1"),
    bad(CLIENT, "pubrel-flags-0-item10", ALL, "60 <0001>", MALFORMED, "MQTT-3.6.1-1",
        "MQTT311-3.6.1-1"),
    bad(CLIENT, "pubrel-flags-3-item10", ALL, "63 <0001>", MALFORMED, "MQTT-3.6.1-1",
        "MQTT311-3.6.1-1"),
    bad(CLIENT, "pubrel-dup-item10", V45, "6A <0001>", MALFORMED, "MQTT-3.6.1-1",
        "MQTT311-3.6.1-1"),
]

SUBSCRIBE_VECTORS = [
    good(CLIENT, "subscribe", V34, '82 <0001 "a/#" 01>', Subscribe(1, [request("a/#", 1)]),
        "MQTT311-3.8.3-1"),
    good(CLIENT, "subscribe-5", V5, '82 <0001 {} "a/#" 01>', Subscribe(1, [request("a/#", 1)]),
        "MQTT-3.8.3-1"),
    good(CLIENT, "subscribe-three", V34, '82 <FFFF "a" 00 "b" 01 "c" 02>',
        Subscribe(65535, [request("a", 0), request("b", 1), request("c", 2)])),
    good(
        CLIENT,
        "subscribe-options",
        V5,
        '82 <0001 {} "a" 2E "b" 14 "c" 08>',
        Subscribe(
            1,
            [
                request("a", 2, True, True, 2),
                request("b", 0, True, False, 1),
                request("c", 0, False, True, 0),
            ],
        ),
    ),
    good(
        CLIENT,
        "subscribe-properties",
        V5,
        '82 <0001 {0B FFFFFF7F 26 "k" "v"} "a" 00>',
        Subscribe(
            1,
            [request("a")],
            {"subscription_identifier": [268_435_455], "user_property": [("k", "v")]},
        ),
    ),
    good(CLIENT, "subscribe-shared", V5, '82 <0001 {} "$share/g/a" 02>',
        Subscribe(1, [request("$share/g/a", 2)])),
    good(CLIENT, "subscribe-31-dup", V3, '8A <0001 "a" 00>', Subscribe(1, [request("a")]),
        canonical=False),
    good(SERVER, "suback", V34, "90 <0001 00 01 02 80>", Suback(1, [0, 1, 2, 128])),
    good(SERVER, "suback-5", V5, "90 <0001 {} 00 8F>", Suback(1, [0, 0x8F])),
    good(SERVER, "suback-5-properties", V5, '90 <0001 {1F "why" 26 "k" "v"} 80>',
        Suback(1, [0x80], {"reason_string": "why", "user_property": [("k", "v")]})),
    good(CLIENT, "unsubscribe", V34, 'A2 <0001 "a" "b/+">', Unsubscribe(1, ["a", "b/+"]),
        "MQTT311-3.10.3-1"),
    good(CLIENT, "unsubscribe-5", V5, 'A2 <0001 {26 "k" "v"} "a">',
        Unsubscribe(1, ["a"], {"user_property": [("k", "v")]}), "MQTT-3.10.3-1"),
    good(CLIENT, "unsubscribe-31-dup", V3, 'AA <0001 "a">', Unsubscribe(1, ["a"]), canonical=False),
    good(SERVER, "unsuback", V34, "B0 <0001>", Unsuback(1)),
    good(SERVER, "unsuback-5", V5, "B0 <0001 {} 00 11>", Unsuback(1, [0, 0x11])),
]

BAD_SUBSCRIBE_VECTORS = [
    bad(CLIENT, "subscribe-flags-0-item10", ALL, '80 <0001 "a" 00>', MALFORMED, "MQTT-3.8.1-1",
        "MQTT311-3.8.1-1"),
    bad(CLIENT, "subscribe-flags-3-item10", ALL, '83 <0001 "a" 00>', MALFORMED, "MQTT-3.8.1-1",
        "MQTT311-3.8.1-1"),
    bad(CLIENT, "subscribe-dup-item10", V45, '8A <0001 "a" 00>', MALFORMED, "MQTT-3.8.1-1",
        "MQTT311-3.8.1-1"),
    bad(CLIENT, "subscribe-no-filter-item40", V34, "82 <0001>", PROTOCOL, "MQTT311-3.8.3-3"),
    bad(CLIENT, "subscribe-no-filter-5-item40", V5, "82 <0001 {}>", PROTOCOL, "MQTT-3.8.3-2"),
    bad(CLIENT, "subscribe-empty", ALL, "82 00", MALFORMED),
    bad(CLIENT, "subscribe-packet-id-0-item52", V34, '82 <0000 "a" 00>', PROTOCOL,
        "MQTT311-2.3.1-1"),
    bad(CLIENT, "subscribe-packet-id-0-5-item52", V5, '82 <0000 {} "a" 00>', PROTOCOL,
        "MQTT-2.2.1-3"),
    bad(CLIENT, "subscribe-without-options", V34, '82 <0001 "a">', MALFORMED),
    bad(CLIENT, "subscribe-without-options-5", V5, '82 <0001 {} "a">', MALFORMED),
    bad(CLIENT, "subscribe-filter-past-end", V34, "82 <0001 0010 'abc'>", MALFORMED),
    bad(CLIENT, "subscribe-qos-3-item40", V34, '82 <0001 "a" 03>', PROTOCOL, "MQTT311-3-8.3-4"),
    bad(CLIENT, "subscribe-qos-3-5-item40", V5, '82 <0001 {} "a" 03>', PROTOCOL),
    *(
        bad(
            CLIENT,
            f"subscribe-reserved-{bit:02X}-item40",
            V34,
            f'82 <0001 "a" {bit:02X}>',
            MALFORMED,
            "MQTT311-3-8.3-4",
        )
        for bit in (0x04, 0x08, 0x10, 0x20, 0x40, 0x80)
    ),
    bad(CLIENT, "subscribe-reserved-40-5-item40", V5, '82 <0001 {} "a" 40>', MALFORMED,
        "MQTT-3.8.3-5"),
    bad(CLIENT, "subscribe-reserved-80-5-item40", V5, '82 <0001 {} "a" 80>', MALFORMED,
        "MQTT-3.8.3-5"),
    bad(CLIENT, "subscribe-retain-handling-3-item40", V5, '82 <0001 {} "a" 30>', PROTOCOL),
    bad(CLIENT, "subscribe-second-filter-bad", V5, '82 <0001 {} "a" 00 "b" 03>', PROTOCOL),
    bad(CLIENT, "subscribe-no-local-shared-item39", V5, '82 <0001 {} "$share/g/a" 04>', PROTOCOL,
        "MQTT-3.8.3-4"),
    bad(CLIENT, "subscribe-identifier-0-item46", V5, '82 <0001 {0B 00} "a" 00>', PROTOCOL),
    bad(CLIENT, "subscribe-identifier-too-big-item46", V5, '82 <0001 {0B 8080808001} "a" 00>',
        MALFORMED),
    bad(CLIENT, "subscribe-identifier-twice-item46", V5, '82 <0001 {0B 01 0B 02} "a" 00>',
        PROTOCOL),
    bad(CLIENT, "subscribe-identifier-not-minimal", V5, '82 <0001 {0B 8100} "a" 00>', MALFORMED,
        "MQTT-1.5.5-1"),
    bad(CLIENT, "subscribe-bad-utf8-item36", V34, "82 <0001 0003 EDBFBF 00>", MALFORMED,
        "MQTT311-3.8.3-1"),
    bad(CLIENT, "subscribe-bad-utf8-5-item36", V5, "82 <0001 {} 0003 EDBFBF 00>", MALFORMED,
        "MQTT-3.8.3-1"),
    bad(CLIENT, "subscribe-nul-item36", V34, "82 <0001 0001 00 00>", MALFORMED, "MQTT311-4.7.3-2"),
    bad(CLIENT, "subscribe-nul-5-item36", V5, "82 <0001 {} 0001 00 00>", MALFORMED, "MQTT-4.7.3-2"),
    bad(CLIENT, "unsubscribe-flags-item10", ALL, 'A0 <0001 "a">', MALFORMED, "MQTT-3.10.1-1",
        "MQTT311-3.10.1-1"),
    bad(CLIENT, "unsubscribe-dup-item10", V45, 'AA <0001 "a">', MALFORMED, "MQTT-3.10.1-1",
        "MQTT311-3.10.1-1"),
    bad(CLIENT, "unsubscribe-no-filter-item40", V34, "A2 <0001>", PROTOCOL, "MQTT311-3.10.3-2"),
    bad(CLIENT, "unsubscribe-no-filter-5-item40", V5, "A2 <0001 {}>", PROTOCOL, "MQTT-3.10.3-2"),
    bad(CLIENT, "unsubscribe-packet-id-0-item52", ALL, "A2 <0000>", PROTOCOL, "MQTT-2.2.1-3",
        "MQTT311-2.3.1-1"),
    bad(CLIENT, "unsubscribe-bad-utf8-item36", V34, "A2 <0001 0001 FF>", MALFORMED,
        "MQTT311-3.10.3-1"),
    bad(CLIENT, "unsubscribe-bad-utf8-5-item36", V5, "A2 <0001 {} 0001 FF>", MALFORMED,
        "MQTT-3.10.3-1"),
    bad(CLIENT, "unsubscribe-past-end", V34, "A2 <0001 0002 'a'>", MALFORMED),
    bad(SERVER, "suback-empty", V34, "90 <0001>", PROTOCOL),
    bad(SERVER, "suback-empty-5", V5, "90 <0001 {}>", PROTOCOL),
    bad(SERVER, "suback-code-3", V34, "90 <0001 03>", PROTOCOL, "MQTT311-3.9.3-2"),
    bad(SERVER, "suback-code-81", V34, "90 <0001 81>", PROTOCOL, "MQTT311-3.9.3-2"),
    bad(SERVER, "unsuback-trailing", V34, "B0 <0001 00>", MALFORMED),
    bad(SERVER, "unsuback-empty-5", V5, "B0 <0001 {}>", PROTOCOL),
]

OTHER_VECTORS = [
    good(CLIENT, "pingreq", ALL, "C0 00", Pingreq()),
    good(SERVER, "pingresp", ALL, "D0 00", Pingresp()),
    good(CLIENT, "disconnect", ALL, "E0 00", Disconnect()),
    good(CLIENT, "disconnect-with-will", V5, "E0 <04>", Disconnect(4)),
    good(CLIENT, "disconnect-success-long", V5, "E0 <00>", Disconnect(), canonical=False),
    good(CLIENT, "disconnect-success-longest", V5, "E0 <00 {}>", Disconnect(), canonical=False),
    good(CLIENT, "disconnect-session-expiry", V5, "E0 <00 {11 00000000}>",
        Disconnect(0, {"session_expiry_interval": 0})),
    good(
        SERVER,
        "disconnect-moved",
        V5,
        'E0 <9D {1C "there:1883" 1F "moved" 26 "k" "v"}>',
        Disconnect(
            0x9D,
            {
                "server_reference": "there:1883",
                "reason_string": "moved",
                "user_property": [("k", "v")],
            },
        ),
    ),
    good(CLIENT, "auth-continue", V5, 'F0 <18 {15 "m" 16 0001 FF}>',
        Auth(0x18, {"authentication_method": "m", "authentication_data": b"\xff"}),
        "MQTT-3.15.2-1"),
    good(CLIENT, "auth-again", V5, 'F0 <19 {15 "m"}>', Auth(0x19, {"authentication_method": "m"})),
    good(SERVER, "auth-continue-server", V5, 'F0 <18 {15 "m"}>',
        Auth(0x18, {"authentication_method": "m"})),
    good(SERVER, "auth-success", V5, 'F0 <00 {15 "m"}>', Auth(0, {"authentication_method": "m"})),
    good(SERVER, "auth-success-short", V5, "F0 00", Auth()),
]

BAD_OTHER_VECTORS = [
    bad(CLIENT, "pingreq-body-item13", ALL, "C0 <00>", MALFORMED),
    bad(CLIENT, "pingreq-flags-item10", ALL, "C2 00", MALFORMED, "MQTT-2.1.3-1", "MQTT311-2.2.2-2"),
    bad(SERVER, "pingresp-body", ALL, "D0 <00>", MALFORMED),
    bad(CLIENT, "disconnect-flags-item10", ALL, "E1 00", MALFORMED, "MQTT-3.14.1-1",
        "MQTT311-3.14.1-1"),
    bad(CLIENT, "disconnect-body-item13", V34, "E0 <00>", MALFORMED),
    bad(CLIENT, "disconnect-trailing-item13", V5, "E0 <00 {} 00>", MALFORMED),
    bad(CLIENT, "disconnect-reason-01", V5, "E0 <01>", PROTOCOL, "MQTT-3.14.2-1"),
    bad(SERVER, "disconnect-session-expiry-by-server", V5, "E0 <00 {11 00000001}>", PROTOCOL,
        "MQTT-3.14.2-2"),
    bad(CLIENT, "auth-311-item9", V34, 'F0 <18 {15 "m"}>', MALFORMED),
    bad(CLIENT, "auth-flags-item10", ALL, 'F1 <18 {15 "m"}>', MALFORMED, "MQTT-3.15.1-1"),
    bad(CLIENT, "auth-reason-01", V5, 'F0 <01 {15 "m"}>', PROTOCOL, "MQTT-3.15.2-1"),
    bad(CLIENT, "auth-success-by-client", V5, 'F0 <00 {15 "m"}>', PROTOCOL, "MQTT-3.15.2-1"),
    bad(CLIENT, "auth-empty-by-client", V5, "F0 00", PROTOCOL, "MQTT-3.15.2-1"),
    bad(SERVER, "auth-again-by-server", V5, 'F0 <19 {15 "m"}>', PROTOCOL, "MQTT-3.15.2-1"),
    bad(CLIENT, "auth-without-method-item29", V5, "F0 <18 {}>", PROTOCOL),
    bad(CLIENT, "auth-data-without-method-item29", V5, "F0 <18 {16 0001 00}>", PROTOCOL),
    bad(CLIENT, "auth-without-properties-item29", V5, "F0 <18>", PROTOCOL),
    bad(CLIENT, "type-0-item9", ALL, "00 00", MALFORMED),
    bad(CLIENT, "type-0-flags-item9", ALL, "0F 00", MALFORMED),
    bad(CLIENT, "connack-from-client-item8", ALL, "20 <00 00>", PROTOCOL),
    bad(CLIENT, "suback-from-client-item8", ALL, "90 <0001 00>", PROTOCOL),
    bad(CLIENT, "unsuback-from-client-item8", ALL, "B0 <0001>", PROTOCOL),
    bad(CLIENT, "pingresp-from-client-item8", ALL, "D0 00", PROTOCOL),
    bad(SERVER, "connect-from-server", ALL, '10 <"MQTT" 04 02 0000 "abc">', PROTOCOL),
    bad(SERVER, "subscribe-from-server", ALL, '82 <0001 "a" 00>', PROTOCOL),
    bad(SERVER, "unsubscribe-from-server", ALL, 'A2 <0001 "a">', PROTOCOL),
    bad(SERVER, "pingreq-from-server", ALL, "C0 00", PROTOCOL),
    bad(CLIENT, "length-5-bytes-item1", ALL, "30 FFFFFFFF7F", MALFORMED),
    bad(CLIENT, "length-5-bytes-continued-item1", ALL, "30 80808080", MALFORMED),
    bad(CLIENT, "length-not-minimal-item2", ALL, "C0 8000", MALFORMED, "MQTT-1.5.5-1"),
    bad(CLIENT, "length-not-minimal-one-item2", ALL, "E0 8100", MALFORMED, "MQTT-1.5.5-1"),
    bad(CLIENT, "length-not-minimal-three-item2", ALL, "E0 808000", MALFORMED, "MQTT-1.5.5-1"),
    bad(CLIENT, "length-not-minimal-four-item2", ALL, "E0 80808000", MALFORMED, "MQTT-1.5.5-1"),
    bad(CLIENT, "length-256-mb-item3", ALL, "30 FFFFFF7F", ReasonCode.PACKET_TOO_LARGE),
]

# fmt: on

#: Where properties may stand: sender, name, wire text.
_PROPERTY_PLACES: tuple[tuple[str, str, str], ...] = (
    (CLIENT, "connect", '10 <"MQTT" 05 02 0000 {%s} "c">'),
    (CLIENT, "will", '10 <"MQTT" 05 06 0000 {} "c" {%s} "w" "">'),
    (SERVER, "connack", "20 <00 00 {%s}>"),
    (CLIENT, "publish", '30 <"t" {%s}>'),
    (SERVER, "publish", '30 <"t" {%s}>'),
    (CLIENT, "puback", "40 <0001 00 {%s}>"),
    (CLIENT, "pubrec", "50 <0001 00 {%s}>"),
    (CLIENT, "pubrel", "62 <0001 00 {%s}>"),
    (CLIENT, "pubcomp", "70 <0001 00 {%s}>"),
    (CLIENT, "subscribe", '82 <0001 {%s} "f" 00>'),
    (SERVER, "suback", "90 <0001 {%s} 00>"),
    (CLIENT, "unsubscribe", 'A2 <0001 {%s} "f">'),
    (SERVER, "unsuback", "B0 <0001 {%s} 00>"),
    (CLIENT, "disconnect", "E0 <00 {%s}>"),
    (SERVER, "disconnect", "E0 <00 {%s}>"),
    (SERVER, "auth", "F0 <00 {%s}>"),
)

_ACKS = "connack puback pubrec pubrel pubcomp suback unsuback disconnect auth"
_EVERYWHERE = _ACKS + " connect will publish subscribe unsubscribe"

#: Name, wire text, value, packets: section 2.2.2.2 of the 5.0 specification.
_PROPERTIES: tuple[tuple[str, str, Any, str], ...] = (
    ("payload_format_indicator", "01 00", 0, "publish will"),
    ("message_expiry_interval", "02 00000000", 0, "publish will"),
    ("content_type", '03 "c"', "c", "publish will"),
    ("response_topic", '08 "r"', "r", "publish will"),
    ("correlation_data", "09 0001 00", b"\0", "publish will"),
    ("subscription_identifier", "0B 8001", [128], "publish subscribe"),
    ("session_expiry_interval", "11 00010203", 0x010203, "connect connack disconnect"),
    ("assigned_client_identifier", '12 "i"', "i", "connack"),
    ("server_keep_alive", "13 0000", 0, "connack"),
    ("authentication_method", '15 "m"', "m", "connect connack auth"),
    ("request_problem_information", "17 01", 1, "connect"),
    ("will_delay_interval", "18 00000000", 0, "will"),
    ("request_response_information", "19 00", 0, "connect"),
    ("response_information", '1A "i"', "i", "connack"),
    ("server_reference", '1C "s"', "s", "connack disconnect"),
    ("reason_string", '1F "s"', "s", _ACKS),
    ("receive_maximum", "21 0001", 1, "connect connack"),
    ("topic_alias_maximum", "22 0000", 0, "connect connack"),
    ("topic_alias", "23 0001", 1, "publish"),
    ("maximum_qos", "24 00", 0, "connack"),
    ("retain_available", "25 01", 1, "connack"),
    ("user_property", '26 "k" "v"', [("k", "v")], _EVERYWHERE),
    ("maximum_packet_size", "27 00000001", 1, "connect connack"),
    ("wildcard_subscription_available", "28 00", 0, "connack"),
    ("subscription_identifier_available", "29 00", 0, "connack"),
    ("shared_subscription_available", "2A 00", 0, "connack"),
)

_BOOLEANS = {
    *("payload_format_indicator", "request_problem_information", "request_response_information"),
    *("maximum_qos", "retain_available", "wildcard_subscription_available"),
    *("subscription_identifier_available", "shared_subscription_available"),
}


def _with_properties(name: str, properties: Properties) -> Packet:
    packets: dict[str, Packet] = {
        "connect": Connect(client_id="c", version=5, properties=properties),
        "will": Connect(client_id="c", version=5, will=Will("w", b"", 0, False, properties)),
        "connack": Connack(properties=properties),
        "publish": Publish("t", properties=properties),
        "puback": Puback(1, 0, properties),
        "pubrec": Pubrec(1, 0, properties),
        "pubrel": Pubrel(1, 0, properties),
        "pubcomp": Pubcomp(1, 0, properties),
        "subscribe": Subscribe(1, [request("f")], properties),
        "suback": Suback(1, [0], properties),
        "unsubscribe": Unsubscribe(1, ["f"], properties),
        "unsuback": Unsuback(1, [0], properties),
        "disconnect": Disconnect(0, properties),
        "auth": Auth(0, properties),
    }
    return packets[name]


#: Senders that may not use a property although its packet may carry it.
_NOT_BY = {
    (CLIENT, "publish", "subscription_identifier"),
    (SERVER, "disconnect", "session_expiry_interval"),
}


def _properties(name: str, value: Any, place: str) -> tuple[str, Properties]:
    """What must stand beside the property, and all as a dict."""
    properties: Any = {name: value}
    if place == "auth" and name != "authentication_method":
        properties = {"authentication_method": "m", name: value}
        return '15 "m"', properties
    return "", properties


PROPERTY_VECTORS = [
    good(
        sender,
        f"{place}-by-{sender}-{name}",
        V5,
        wire % (_properties(name, value, place)[0] + text),
        _with_properties(place, _properties(name, value, place)[1]),
    )
    for sender, place, wire in _PROPERTY_PLACES
    for name, text, value, places in _PROPERTIES
    if place in places.split() and (sender, place, name) not in _NOT_BY
]

BAD_PROPERTY_VECTORS = [
    *(
        bad(sender, f"{place}-by-{sender}-{name}-misplaced-item28", V5, wire % text, MALFORMED)
        for sender, place, wire in _PROPERTY_PLACES
        for name, text, _, places in _PROPERTIES
        if place not in places.split()
    ),
    *(
        bad(sender, f"{place}-by-{sender}-{name}-twice-item26", V5, wire % (text + text), PROTOCOL)
        for sender, place, wire in _PROPERTY_PLACES
        for name, text, _, places in _PROPERTIES
        if place in places.split()
        and (sender, place, name) not in _NOT_BY
        and name != "user_property"
        and (place, name) != ("publish", "subscription_identifier")
    ),
    *(
        bad(sender, f"{place}-by-{sender}-{name}-is-2", V5, wire % (text[:2] + "02"), PROTOCOL)
        for sender, place, wire in _PROPERTY_PLACES
        for name, text, _, places in _PROPERTIES
        if place in places.split() and name in _BOOLEANS
    ),
    *(
        bad(
            sender, f"{place}-by-{sender}-unknown-property-{key}", V5, wire % f"{key} 00", MALFORMED
        )
        for sender, place, wire in _PROPERTY_PLACES
        for key in ("00", "04", "10", "14", "1B", "20", "2B", "7F", "80", "FF")
    ),
]

VALID: list[Vector] = [
    *CONNECT_VECTORS,
    *CONNACK_VECTORS,
    *PUBLISH_VECTORS,
    *REASON_VECTORS,
    *ACKNOWLEDGEMENT_VECTORS,
    *SUBSCRIBE_VECTORS,
    *OTHER_VECTORS,
    *PROPERTY_VECTORS,
]

MALFORMED_VECTORS: list[Malformed] = [
    *BAD_CONNECT_VECTORS,
    *BAD_CONNACK_VECTORS,
    *BAD_PUBLISH_VECTORS,
    *BAD_REASON_VECTORS,
    *BAD_ACKNOWLEDGEMENT_VECTORS,
    *BAD_SUBSCRIBE_VECTORS,
    *BAD_OTHER_VECTORS,
    *BAD_PROPERTY_VECTORS,
]
