"""Packets as bytes: any packet whole, and a PUBLISH in parts that can be shared.

The protocol machine writes its answers with ``serialize``; message delivery
takes ``publish_frame``, encodes a message once per version and QoS, and only
patches the packet identifier for each receiver. Nothing is checked but what
has no encoding (``ValueError``): whether a packet is allowed is the caller's
business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mqttd.wire.codes import BRIDGE_BIT, MQTT5, MQTT31, PacketType, ReasonCode
from mqttd.wire.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)
from mqttd.wire.properties import encode_properties, passthrough_of, with_length
from mqttd.wire.strings import (
    encode_binary,
    encode_integer,
    encode_string,
    variable_byte_integer,
)

__all__ = [
    "PINGREQ",
    "PINGRESP",
    "PUBACK",
    "PUBCOMP",
    "PUBREC",
    "PUBREL",
    "UNSUBACK",
    "encode_properties",
    "passthrough_of",
    "publish_frame",
    "serialize",
    "variable_byte_integer",
]

PINGREQ: Final = b"\xc0\x00"
PINGRESP: Final = b"\xd0\x00"

# The first two bytes of a four-byte acknowledgement; the packet identifier, two
# bytes, makes it whole. In 5.0 these say Success without properties.
PUBACK: Final = b"\x40\x02"
PUBREC: Final = b"\x50\x02"
PUBREL: Final = b"\x62\x02"  # [MQTT-3.6.1-1] [MQTT311-3.6.1-1]
PUBCOMP: Final = b"\x70\x02"
#: Below 5.0 only.
UNSUBACK: Final = b"\xb0\x02"


def serialize(packet: Packet, version: int) -> bytes:
    """*packet* in the language of *version* (3, 4 or 5).

    Properties are written from ``properties`` alone, ``passthrough`` is not
    looked at, and below 5.0 there are none. Raises ``ValueError`` for what has
    no encoding: a string over 65,535 bytes, a packet over 256 MB, a number
    that does not fit its field.
    """
    return _SERIALIZERS[packet.type](packet, version)


def publish_frame(
    topic: bytes,
    payload: bytes,
    qos: int,
    retain: bool,
    dup: bool,
    properties: bytes | None,
) -> tuple[bytes, bytes]:
    """A PUBLISH as (what comes before the packet identifier, what comes after).

    Only the two bytes of the packet identifier stand between them, so that one
    frame serves many receivers. With QoS 0 there is no packet identifier: the
    first part is the whole frame and the second is empty. *properties* is the
    encoded block without its length, or ``None`` below 5.0. Raises
    ``ValueError`` when a part is too long.
    """
    first = PacketType.PUBLISH << 4 | dup << 3 | qos << 1 | retain
    name = encode_binary(topic)
    block = b"" if properties is None else with_length(properties)
    size = len(name) + len(block) + len(payload)
    if not qos:  # [MQTT-2.2.1-2] [MQTT311-2.3.1-5]
        return b"".join((bytes((first,)), variable_byte_integer(size), name, block, payload)), b""
    return bytes((first,)) + variable_byte_integer(size + 2) + name, block + payload


def _frame(kind: PacketType, *parts: bytes, flags: int = 0) -> bytes:
    """A packet with its fixed header."""
    body = b"".join(parts)
    # [MQTT-2.1.3-1] [MQTT311-2.2.2-1]
    return bytes((kind << 4 | flags,)) + variable_byte_integer(len(body)) + body


def _properties(properties: Properties, version: int) -> bytes:
    """The block with its length; nothing below 5.0."""
    if version != MQTT5:
        return b""
    if not properties:
        return b"\0"  # [MQTT-2.2.2-1]
    return with_length(encode_properties(properties))


def _connect(packet: Connect, version: int) -> bytes:
    flags = packet.clean_start << 1
    payload = [encode_string(packet.client_id)]
    if packet.will is not None:
        flags |= 0x04 | packet.will.qos << 3 | packet.will.retain << 5
        payload += _will(packet.will, version)
    if packet.user_name is not None:
        flags |= 0x80
        payload.append(encode_string(packet.user_name))
    if packet.password is not None:
        flags |= 0x40
        payload.append(encode_binary(packet.password))
    level = version | BRIDGE_BIT if packet.bridge else version
    return _frame(
        PacketType.CONNECT,
        encode_string("MQIsdp" if version == MQTT31 else "MQTT"),
        bytes((level, flags)),
        encode_integer(packet.keep_alive, 2),
        _properties(packet.properties, version),
        *payload,
    )


def _will(will: Will, version: int) -> list[bytes]:
    return [
        _properties(will.properties, version),
        encode_string(will.topic),
        encode_binary(will.payload),
    ]


def _connack(packet: Connack, version: int) -> bytes:
    # 3.1 has no session present; the byte is unused there.
    flags = packet.session_present and version != MQTT31  # [MQTT-3.2.2-1]
    if version != MQTT5:
        return bytes((PacketType.CONNACK << 4, 2, flags, packet.reason))
    return _frame(
        PacketType.CONNACK,
        bytes((flags, packet.reason)),
        _properties(packet.properties, version),
    )


def _publish(packet: Publish, version: int) -> bytes:
    before, after = publish_frame(
        packet.topic.encode("utf-8"),
        packet.payload,
        packet.qos,
        packet.retain,
        packet.dup,
        encode_properties(packet.properties) if version == MQTT5 else None,
    )
    if not packet.qos:
        return before
    return before + encode_integer(packet.packet_id, 2) + after


def _acknowledgement(packet: Puback | Pubrec | Pubrel | Pubcomp, version: int) -> bytes:
    """As short as the version allows (sections 3.4.2.1 and 3.4.2.2)."""
    kind = packet.type
    flags = 2 if kind == PacketType.PUBREL else 0
    return _frame(
        kind,
        encode_integer(packet.packet_id, 2),
        _short_reason(packet.reason, packet.properties, version),
        flags=flags,
    )


def _short_reason(reason: int, properties: Properties, version: int) -> bytes:
    """Reason code and properties, each left out where it may be."""
    if version != MQTT5 or (not properties and reason == ReasonCode.SUCCESS):
        return b""
    if not properties:
        return bytes((reason,))
    return bytes((reason,)) + _properties(properties, version)


def _subscribe(packet: Subscribe, version: int) -> bytes:
    parts = [encode_integer(packet.packet_id, 2), _properties(packet.properties, version)]
    for request in packet.subscriptions:
        options = request.qos
        if version == MQTT5:
            options |= request.no_local << 2 | request.retain_as_published << 3
            options |= request.retain_handling << 4
        parts += (encode_string(request.topic_filter), bytes((options,)))
    return _frame(PacketType.SUBSCRIBE, *parts, flags=2)


def _suback(packet: Suback, version: int) -> bytes:
    return _frame(
        PacketType.SUBACK,
        encode_integer(packet.packet_id, 2),
        _properties(packet.properties, version),
        bytes(packet.reasons),
    )


def _unsubscribe(packet: Unsubscribe, version: int) -> bytes:
    return _frame(
        PacketType.UNSUBSCRIBE,
        encode_integer(packet.packet_id, 2),
        _properties(packet.properties, version),
        *(encode_string(topic_filter) for topic_filter in packet.topic_filters),
        flags=2,
    )


def _unsuback(packet: Unsuback, version: int) -> bytes:
    parts = [encode_integer(packet.packet_id, 2)]
    if version == MQTT5:
        parts += (_properties(packet.properties, version), bytes(packet.reasons))
    return _frame(PacketType.UNSUBACK, *parts)


def _pingreq(packet: Packet, version: int) -> bytes:
    return PINGREQ


def _pingresp(packet: Packet, version: int) -> bytes:
    return PINGRESP


def _disconnect(packet: Disconnect, version: int) -> bytes:
    return _frame(PacketType.DISCONNECT, _short_reason(packet.reason, packet.properties, version))


def _auth(packet: Auth, version: int) -> bytes:
    # Unlike DISCONNECT, AUTH leaves out reason and properties together or not at all.
    if packet.reason == ReasonCode.SUCCESS and not packet.properties:
        return _frame(PacketType.AUTH)
    return _frame(PacketType.AUTH, bytes((packet.reason,)), _properties(packet.properties, version))


_SERIALIZERS: Final[dict[PacketType, Callable[[Any, int], bytes]]] = {
    PacketType.CONNECT: _connect,
    PacketType.CONNACK: _connack,
    PacketType.PUBLISH: _publish,
    PacketType.PUBACK: _acknowledgement,
    PacketType.PUBREC: _acknowledgement,
    PacketType.PUBREL: _acknowledgement,
    PacketType.PUBCOMP: _acknowledgement,
    PacketType.SUBSCRIBE: _subscribe,
    PacketType.SUBACK: _suback,
    PacketType.UNSUBSCRIBE: _unsubscribe,
    PacketType.UNSUBACK: _unsuback,
    PacketType.PINGREQ: _pingreq,
    PacketType.PINGRESP: _pingresp,
    PacketType.DISCONNECT: _disconnect,
    PacketType.AUTH: _auth,
}
