"""MQTT 5.0 properties: one table, and the codec it drives (section 2.2.2).

The parser decodes property blocks with it, the serializer and message delivery
encode them. It checks everything that a property block alone can get wrong:
unknown or misplaced properties, duplicates, values out of range. It knows
nothing of what the properties mean.
"""

from __future__ import annotations

from typing import Any, Final

from mqttd.wire.codes import PacketType, ReasonCode
from mqttd.wire.errors import ProtocolViolation, malformed, protocol_error
from mqttd.wire.packets import Properties
from mqttd.wire.strings import (
    encode_binary,
    encode_integer,
    encode_string,
    read_binary,
    read_string,
    read_variable_byte_integer,
    variable_byte_integer,
)

# How a value is laid out, and what it may be.
_BOOLEAN: Final = 0  # one byte, 0 or 1
_TWO: Final = 1
_FOUR: Final = 2
_VARIABLE: Final = 3
_STRING: Final = 4
_BINARY: Final = 5
_PAIR: Final = 6

#: Where Will Properties stand among the packet bits; type 0 is no packet.
WILL: Final = 1 << 0
CONNECT: Final = 1 << PacketType.CONNECT
CONNACK: Final = 1 << PacketType.CONNACK
PUBLISH: Final = 1 << PacketType.PUBLISH
SUBSCRIBE: Final = 1 << PacketType.SUBSCRIBE
SUBACK: Final = 1 << PacketType.SUBACK
UNSUBSCRIBE: Final = 1 << PacketType.UNSUBSCRIBE
UNSUBACK: Final = 1 << PacketType.UNSUBACK
DISCONNECT: Final = 1 << PacketType.DISCONNECT
AUTH: Final = 1 << PacketType.AUTH

_MESSAGE: Final = PUBLISH | WILL
_ANSWERS: Final = (
    CONNACK
    | 1 << PacketType.PUBACK
    | 1 << PacketType.PUBREC
    | 1 << PacketType.PUBREL
    | 1 << PacketType.PUBCOMP
    | SUBACK
    | UNSUBACK
    | DISCONNECT
    | AUTH
)
_ANY: Final = _ANSWERS | _MESSAGE | CONNECT | SUBSCRIBE | UNSUBSCRIBE

#: Identifier -> (name, layout, packets that may carry it): section 2.2.2.2.
_TABLE: Final[dict[int, tuple[str, int, int]]] = {
    0x01: ("payload_format_indicator", _BOOLEAN, _MESSAGE),
    0x02: ("message_expiry_interval", _FOUR, _MESSAGE),
    0x03: ("content_type", _STRING, _MESSAGE),
    0x08: ("response_topic", _STRING, _MESSAGE),
    0x09: ("correlation_data", _BINARY, _MESSAGE),
    0x0B: ("subscription_identifier", _VARIABLE, PUBLISH | SUBSCRIBE),
    0x11: ("session_expiry_interval", _FOUR, CONNECT | CONNACK | DISCONNECT),
    0x12: ("assigned_client_identifier", _STRING, CONNACK),
    0x13: ("server_keep_alive", _TWO, CONNACK),
    0x15: ("authentication_method", _STRING, CONNECT | CONNACK | AUTH),
    0x16: ("authentication_data", _BINARY, CONNECT | CONNACK | AUTH),
    0x17: ("request_problem_information", _BOOLEAN, CONNECT),
    0x18: ("will_delay_interval", _FOUR, WILL),
    0x19: ("request_response_information", _BOOLEAN, CONNECT),
    0x1A: ("response_information", _STRING, CONNACK),
    0x1C: ("server_reference", _STRING, CONNACK | DISCONNECT),
    0x1F: ("reason_string", _STRING, _ANSWERS),
    0x21: ("receive_maximum", _TWO, CONNECT | CONNACK),
    0x22: ("topic_alias_maximum", _TWO, CONNECT | CONNACK),
    0x23: ("topic_alias", _TWO, PUBLISH),
    0x24: ("maximum_qos", _BOOLEAN, CONNACK),
    0x25: ("retain_available", _BOOLEAN, CONNACK),
    0x26: ("user_property", _PAIR, _ANY),
    0x27: ("maximum_packet_size", _FOUR, CONNECT | CONNACK),
    0x28: ("wildcard_subscription_available", _BOOLEAN, CONNACK),
    0x29: ("subscription_identifier_available", _BOOLEAN, CONNACK),
    0x2A: ("shared_subscription_available", _BOOLEAN, CONNACK),
}

_BY_NAME: Final = {name: (bytes((key,)), kind) for key, (name, kind, _) in _TABLE.items()}

#: Properties that belong to one hop, or to the broker, and do not travel on:
#: Message Expiry Interval, Subscription Identifier, Will Delay Interval, Topic Alias.
_HOP_IDENTIFIERS: Final = frozenset((0x02, 0x0B, 0x18, 0x23))
_HOP_NAMES: Final = frozenset(_TABLE[key][0] for key in _HOP_IDENTIFIERS)

_NON_ZERO: Final = frozenset(("receive_maximum", "maximum_packet_size", "subscription_identifier"))


def read_properties(
    data: bytes, position: int, end: int, packet: int, maximum_user_properties: int
) -> tuple[Properties, int]:
    """Properties with their length in front; *packet* is one of the bits above."""
    size, start = read_variable_byte_integer(data, position, end)
    if not size:
        return {}, start
    stop = start + size
    if stop > end:
        raise malformed("properties run past the end of their packet")
    properties, _ = _decode(data, start, stop, packet, maximum_user_properties)
    return properties, stop


def read_message_properties(
    data: bytes, position: int, end: int, packet: int, maximum_user_properties: int
) -> tuple[Properties, bytes, int]:
    """Properties of a PUBLISH or will, and the encoded part that travels on."""
    size, start = read_variable_byte_integer(data, position, end)
    if not size:
        return {}, b"", start
    stop = start + size
    if stop > end:
        raise malformed("properties run past the end of their packet")
    properties, left_out = _decode(data, start, stop, packet, maximum_user_properties)
    # The bytes as they came: unaltered, and in their order.
    # [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18]
    # [MQTT-3.3.2-20] [MQTT-3.1.3-10]
    if left_out is None:
        return properties, data[start:stop], stop
    pieces = []
    for skip_from, skip_to in left_out:
        pieces.append(data[start:skip_from])
        start = skip_to
    pieces.append(data[start:stop])
    return properties, b"".join(pieces), stop


def _decode(
    data: bytes, position: int, end: int, packet: int, maximum_user_properties: int
) -> tuple[Properties, list[tuple[int, int]] | None]:
    """The properties in ``data[position:end]``, and where the hop's own ones lie."""
    values: Any = {}
    left_out: list[tuple[int, int]] | None = None
    value: Any
    while position < end:
        start = position
        key = data[position]
        entry = _TABLE.get(key)
        if entry is None:
            raise malformed(f"unknown property 0x{key:02X}")
        name, kind, packets = entry
        if not packets & packet:
            raise malformed(f"property {name} does not belong in this packet")
        position += 1
        if kind == _PAIR:
            # [MQTT-1.5.7-1]
            first, position = read_string(data, position, end)
            second, position = read_string(data, position, end)
            pairs = values.get(name)
            if pairs is None:
                values[name] = [(first, second)]
            else:
                pairs.append((first, second))
                if len(pairs) > maximum_user_properties:
                    raise _too_many(maximum_user_properties)
            continue
        if kind == _STRING:
            # [MQTT-3.3.2-13] [MQTT-3.3.2-19]
            value, position = read_string(data, position, end)
            if key == 0x08:
                _check_response_topic(value)
        elif kind == _BINARY:
            value, position = read_binary(data, position, end)
        elif kind == _VARIABLE:
            value, position = read_variable_byte_integer(data, position, end)
        else:
            width = 4 if kind == _FOUR else 2 if kind == _TWO else 1
            position += width
            if position > end:
                raise malformed(f"property {name} is cut off")
            value = int.from_bytes(data[position - width : position], "big")
            if kind == _BOOLEAN and value > 1:
                raise protocol_error(f"property {name} is {value}, neither 0 nor 1")
        if value == 0:
            _check_zero(name)
        if key in _HOP_IDENTIFIERS:
            if left_out is None:
                left_out = []
            left_out.append((start, position))
            if key == 0x0B and packet == PUBLISH:
                values.setdefault(name, []).append(value)
                continue
            if key == 0x0B:
                value = [value]
        if name in values:
            raise protocol_error(f"property {name} stands twice")
        values[name] = value
    if maximum_user_properties == 0 and "user_property" in values:
        raise _too_many(0)
    properties: Properties = values
    return properties, left_out


def _check_response_topic(topic: str) -> None:
    if not topic:  # [MQTT-4.7.3-1]
        raise protocol_error("the response topic is empty")
    if "+" in topic or "#" in topic:  # [MQTT-3.3.2-14]
        raise protocol_error("the response topic has a wildcard")


def _check_zero(name: str) -> None:
    if name == "topic_alias":  # [MQTT-3.3.2-8]
        raise ProtocolViolation(ReasonCode.TOPIC_ALIAS_INVALID, "the topic alias is 0")
    if name in _NON_ZERO:
        raise protocol_error(f"property {name} is 0")


def _too_many(maximum: int) -> ProtocolViolation:
    return ProtocolViolation(ReasonCode.QUOTA_EXCEEDED, f"more than {maximum} user properties")


def encode_properties(properties: Properties) -> bytes:
    """*properties* as bytes, in their order, without the length in front.

    Raises ``ValueError`` for a value that has no encoding and ``KeyError`` for
    a name that is no property.
    """
    return _encode(properties, frozenset())


def passthrough_of(properties: Properties) -> bytes:
    """The encoded part of *properties* that travels on to subscribers.

    What ``Publish.passthrough`` holds: all but Message Expiry Interval, Topic
    Alias, Subscription Identifier and Will Delay Interval.
    """
    return _encode(properties, _HOP_NAMES)


def _encode(properties: Properties, left_out: frozenset[str]) -> bytes:
    pieces: list[bytes] = []
    values: Any = properties
    for name, value in values.items():
        if name in left_out:
            continue
        key, kind = _BY_NAME[name]
        if kind == _PAIR:
            for first, second in value:
                pieces += (key, encode_string(first), encode_string(second))
        elif kind == _VARIABLE:
            for number in value:
                pieces += (key, variable_byte_integer(number))
        else:
            pieces += (key, _encode_value(kind, value))
    return b"".join(pieces)


def _encode_value(kind: int, value: Any) -> bytes:
    if kind == _STRING:
        return encode_string(value)
    if kind == _BINARY:
        return encode_binary(value)
    return encode_integer(value, 4 if kind == _FOUR else 2 if kind == _TWO else 1)


def with_length(block: bytes) -> bytes:
    """An encoded property block with its length in front."""
    return variable_byte_integer(len(block)) + block  # [MQTT-2.2.2-1]
