"""What stands behind the fixed header, for every packet but PUBLISH.

The parser calls one of these methods per packet, with the bytes it lies in and
the position of its body. Each checks what the packet can break by itself and
returns it, or raises ``ProtocolViolation``. Buffers and fixed headers are the
parser's; what a packet means is the broker's.
"""

from __future__ import annotations

from typing import Final

from mqttd.wire import properties as codec
from mqttd.wire.codes import (
    BRIDGE_BIT,
    MQTT5,
    MQTT31,
    MQTT311,
    ConnectReturnCode,
    PacketType,
    ReasonCode,
)
from mqttd.wire.errors import ProtocolViolation, malformed, protocol_error
from mqttd.wire.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Pubcomp,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
    Will,
)
from mqttd.wire.strings import read_binary, read_string, read_two_bytes

_PROTOCOLS: Final = frozenset(((b"MQIsdp", MQTT31), (b"MQTT", MQTT311), (b"MQTT", MQTT5)))

#: SUBACK return codes of 3.1.1.
_SUBACK_RETURN_CODES: Final = frozenset((0, 1, 2, 0x80))

#: Reason codes that a packet type may carry (section 2.4).
_REASONS: Final[dict[PacketType, frozenset[int]]] = {
    PacketType.CONNACK: frozenset(
        (0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, *range(0x9A, 0x9E), 0x9F)
    ),
    PacketType.PUBACK: frozenset((0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99)),
    PacketType.PUBREC: frozenset((0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99)),
    PacketType.PUBREL: frozenset((0x00, 0x92)),
    PacketType.PUBCOMP: frozenset((0x00, 0x92)),
    PacketType.SUBACK: frozenset(
        (0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2)
    ),
    PacketType.UNSUBACK: frozenset((0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91)),
    PacketType.DISCONNECT: frozenset(
        (0x00, 0x04, *range(0x80, 0x84), 0x87, 0x89, 0x8B, *range(0x8D, 0x91), *range(0x93, 0xA3))
    ),
    PacketType.AUTH: frozenset((0x00, 0x18, 0x19)),
}


class BodyParser:
    """Parses packet bodies; knows the connection's version and the limits."""

    __slots__ = ("_maximum_filters", "_maximum_user_properties", "server_side", "version")

    def __init__(
        self, server_side: bool, maximum_user_properties: int, maximum_filters: int
    ) -> None:
        self.server_side = server_side
        #: 0 until a CONNECT told it; then 3, 4 or 5. Known even when the rest
        #: of that CONNECT is bad, so that the answer can be in its language.
        self.version = 0
        self._maximum_user_properties = maximum_user_properties
        self._maximum_filters = maximum_filters

    # --- packets that clients send -------------------------------------------

    def connect(self, data: bytes, position: int, end: int) -> Connect:
        if self.version:  # [MQTT-3.1.0-2] [MQTT311-3.1.0-2]
            raise protocol_error("a second CONNECT")
        version, bridge, position = self._protocol(data, position, end)
        self.version = version
        if position + 3 > end:
            raise malformed("CONNECT is cut off")
        flags = data[position]
        self._check_connect_flags(flags)
        keep_alive, position = read_two_bytes(data, position + 1, end)
        properties: Properties = {}
        if version == MQTT5:
            properties, position = self._properties(data, position, end, codec.CONNECT)
            _check_authentication(properties)
        # The order: [MQTT-3.1.3-1] [MQTT-3.1.3-3] [MQTT-3.1.3-4]
        # [MQTT311-3.1.3-1] [MQTT311-3.1.3-3] [MQTT311-3.1.3-4]
        client_id, position = read_string(data, position, end)
        will = None
        if flags & 0x04:  # [MQTT-3.1.2-9] [MQTT311-3.1.2-9]
            will, position = self._will(data, position, end, flags)
        user_name = password = None
        # 3.1 lets a client set the flag and leave the field out.
        if flags & 0x80 and (position < end or version != MQTT31):
            # [MQTT-3.1.2-17] [MQTT-3.1.3-12] [MQTT311-3.1.2-19] [MQTT311-3.1.3-11]
            user_name, position = read_string(data, position, end)
        if flags & 0x40 and (position < end or version != MQTT31):
            # [MQTT-3.1.2-19] [MQTT311-3.1.2-21]
            password, position = read_binary(data, position, end)
        if position != end:
            # [MQTT-3.1.2-16] [MQTT-3.1.2-18] [MQTT311-3.1.2-18] [MQTT311-3.1.2-20]
            raise malformed("CONNECT has bytes that its flags do not announce")
        return Connect(
            client_id=client_id,
            version=version,
            clean_start=bool(flags & 0x02),
            keep_alive=keep_alive,
            will=will,
            user_name=user_name,
            password=password,
            properties=properties,
            bridge=bridge,
        )

    def _protocol(self, data: bytes, position: int, end: int) -> tuple[int, bool, int]:
        """Version, bridge bit, and the position behind the protocol level."""
        name, position = read_binary(data, position, end)
        if name not in (b"MQTT", b"MQIsdp"):  # [MQTT-3.1.2-1] [MQTT311-3.1.2-1]
            raise ProtocolViolation(
                ReasonCode.UNSUPPORTED_PROTOCOL_VERSION, "CONNECT of another protocol than MQTT"
            )
        if position >= end:
            raise malformed("CONNECT is cut off")
        level = data[position]
        version = level & ~BRIDGE_BIT
        bridge = level != version
        if (name, version) not in _PROTOCOLS or (bridge and version == MQTT5):
            # 3.1.1 demands an answer, so the refusal is in its language.
            # [MQTT-3.1.2-2] [MQTT311-3.1.2-2]
            self.version = MQTT311 if name == b"MQTT" else MQTT31
            raise ProtocolViolation(
                ReasonCode.UNSUPPORTED_PROTOCOL_VERSION,
                f"CONNECT with protocol {name.decode()} level {level}",
            )
        return version, bridge, position + 1

    def _check_connect_flags(self, flags: int) -> None:
        if flags & 0x01 and self.version != MQTT31:  # [MQTT-3.1.2-3] [MQTT311-3.1.2-3]
            raise malformed("CONNECT with the reserved flag")
        if flags & 0x18 == 0x18:  # [MQTT-3.1.2-12] [MQTT311-3.1.2-14]
            raise malformed("CONNECT with will QoS 3")
        if flags & 0x38 and not flags & 0x04:
            # [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT311-3.1.2-11] [MQTT311-3.1.2-13]
            # [MQTT311-3.1.2-15]
            raise malformed("CONNECT with will QoS or will retain, and no will")
        if flags & 0xC0 == 0x40 and self.version != MQTT5:  # [MQTT311-3.1.2-22]
            raise malformed("CONNECT with a password and no user name")

    def _will(self, data: bytes, position: int, end: int, flags: int) -> tuple[Will, int]:
        properties: Properties = {}
        passthrough = b""
        if self.version == MQTT5:
            properties, passthrough, position = codec.read_message_properties(
                data, position, end, codec.WILL, self._maximum_user_properties
            )
        topic, position = read_string(data, position, end)  # [MQTT-3.1.3-11] [MQTT311-3.1.3-10]
        if not topic:  # [MQTT-4.7.3-1] [MQTT311-4.7.3-1]
            raise ProtocolViolation(ReasonCode.TOPIC_NAME_INVALID, "the will topic is empty")
        if "+" in topic or "#" in topic:  # [MQTT-4.7.0-1] [MQTT311-4.7.1-1]
            raise ProtocolViolation(ReasonCode.TOPIC_NAME_INVALID, "the will topic has a wildcard")
        payload, position = read_binary(data, position, end)
        qos = flags >> 3 & 3
        retain = bool(flags & 0x20)
        return Will(topic, payload, qos, retain, properties, passthrough), position

    def subscribe(self, data: bytes, position: int, end: int) -> Subscribe:
        packet_id, position = _packet_id(data, position, end)
        properties: Properties = {}
        allowed = 0x03
        if self.version == MQTT5:
            properties, position = self._properties(data, position, end, codec.SUBSCRIBE)
            allowed = 0x3F
        subscriptions: list[SubscriptionRequest] = []
        while position < end:
            # [MQTT-3.8.3-1] [MQTT311-3.8.3-1]
            topic_filter, position = read_string(data, position, end)
            if position == end:
                raise malformed("SUBSCRIBE is cut off")
            options = data[position]
            position += 1
            if options & ~allowed:  # [MQTT-3.8.3-5] [MQTT311-3-8.3-4]
                raise malformed("SUBSCRIBE with reserved option bits")
            if options & 0x03 == 0x03:  # [MQTT311-3-8.3-4]
                raise protocol_error("SUBSCRIBE with QoS 3")
            if options & 0x30 == 0x30:
                raise protocol_error("SUBSCRIBE with retain handling 3")
            if options & 0x04 and topic_filter.startswith("$share/"):  # [MQTT-3.8.3-4]
                raise protocol_error("SUBSCRIBE with no local on a shared subscription")
            if len(subscriptions) == self._maximum_filters:
                raise _too_many_filters(self._maximum_filters)
            subscriptions.append(
                SubscriptionRequest(
                    topic_filter,
                    options & 0x03,
                    bool(options & 0x04),
                    bool(options & 0x08),
                    options >> 4,
                )
            )
        if not subscriptions:  # [MQTT-3.8.3-2] [MQTT311-3.8.3-3]
            raise protocol_error("SUBSCRIBE without a topic filter")
        return Subscribe(packet_id, subscriptions, properties)

    def unsubscribe(self, data: bytes, position: int, end: int) -> Unsubscribe:
        packet_id, position = _packet_id(data, position, end)
        properties: Properties = {}
        if self.version == MQTT5:
            properties, position = self._properties(data, position, end, codec.UNSUBSCRIBE)
        topic_filters: list[str] = []
        while position < end:
            # [MQTT-3.10.3-1] [MQTT311-3.10.3-1]
            topic_filter, position = read_string(data, position, end)
            if len(topic_filters) == self._maximum_filters:
                raise _too_many_filters(self._maximum_filters)
            topic_filters.append(topic_filter)
        if not topic_filters:  # [MQTT-3.10.3-2] [MQTT311-3.10.3-2]
            raise protocol_error("UNSUBSCRIBE without a topic filter")
        return Unsubscribe(packet_id, topic_filters, properties)

    def pingreq(self, data: bytes, position: int, end: int) -> Pingreq:
        if position != end:
            raise malformed("PINGREQ with a body")
        return Pingreq()

    # --- packets that both sides send ----------------------------------------

    def _acknowledgement(
        self, data: bytes, position: int, end: int, kind: PacketType
    ) -> tuple[int, int, Properties]:
        """Packet identifier, reason and properties of PUBACK and its kin."""
        packet_id, position = _packet_id(data, position, end)
        if position == end:
            return packet_id, 0, {}
        if self.version != MQTT5:
            raise malformed(f"{kind.name} of more than two bytes")
        reason, properties = self._reason_and_properties(data, position, end, kind)
        return packet_id, reason, properties

    def _reason_and_properties(
        self, data: bytes, position: int, end: int, kind: PacketType
    ) -> tuple[int, Properties]:
        """A reason code, and properties if anything follows it."""
        reason = data[position]
        # [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1] [MQTT-3.14.2-1]
        # [MQTT-3.15.2-1]
        if reason not in _REASONS[kind]:
            raise protocol_error(f"{kind.name} with reason code 0x{reason:02X}")
        position += 1
        if position == end:
            return reason, {}
        properties, position = self._properties(data, position, end, 1 << kind)
        if position != end:
            raise malformed(f"{kind.name} has bytes behind its properties")
        return reason, properties

    def _properties(
        self, data: bytes, position: int, end: int, packet: int
    ) -> tuple[Properties, int]:
        return codec.read_properties(data, position, end, packet, self._maximum_user_properties)

    def puback(self, data: bytes, position: int, end: int) -> Puback:
        if end - position == 2:  # most of them
            packet_id = data[position] << 8 | data[position + 1]
            if packet_id:
                return Puback(packet_id, 0, {})
        return Puback(*self._acknowledgement(data, position, end, PacketType.PUBACK))

    def pubrec(self, data: bytes, position: int, end: int) -> Pubrec:
        return Pubrec(*self._acknowledgement(data, position, end, PacketType.PUBREC))

    def pubrel(self, data: bytes, position: int, end: int) -> Pubrel:
        return Pubrel(*self._acknowledgement(data, position, end, PacketType.PUBREL))

    def pubcomp(self, data: bytes, position: int, end: int) -> Pubcomp:
        return Pubcomp(*self._acknowledgement(data, position, end, PacketType.PUBCOMP))

    def disconnect(self, data: bytes, position: int, end: int) -> Disconnect:
        if position == end:
            return Disconnect()
        if self.version != MQTT5:
            raise malformed("DISCONNECT with a body")
        reason, properties = self._reason_and_properties(data, position, end, PacketType.DISCONNECT)
        if not self.server_side and "session_expiry_interval" in properties:  # [MQTT-3.14.2-2]
            raise protocol_error("a server's DISCONNECT with a session expiry interval")
        return Disconnect(reason, properties)

    def auth(self, data: bytes, position: int, end: int) -> Auth:
        if self.version != MQTT5:
            raise malformed("packet type 15 is reserved before MQTT 5.0")
        reason = 0
        properties: Properties = {}
        if position != end:
            reason, properties = self._reason_and_properties(data, position, end, PacketType.AUTH)
            if "authentication_method" not in properties:
                raise protocol_error("AUTH without an authentication method")
        if reason == (ReasonCode.SUCCESS if self.server_side else ReasonCode.REAUTHENTICATE):
            raise protocol_error(f"AUTH with reason code 0x{reason:02X} from this side")
        return Auth(reason, properties)

    # --- packets that servers send -------------------------------------------

    def connack(self, data: bytes, position: int, end: int) -> Connack:
        if position + 2 > end:
            raise malformed("CONNACK is cut off")
        flags, reason = data[position], data[position + 1]
        position += 2
        if self.version == MQTT31:
            flags = 0  # the byte is not used there
        if flags > 1:  # [MQTT-3.2.2-1]
            raise malformed("CONNACK with reserved flags")
        if flags and reason:  # [MQTT-3.2.2-6] [MQTT311-3.2.2-4]
            raise protocol_error("CONNACK that refuses with session present")
        properties: Properties = {}
        if self.version == MQTT5:
            if reason not in _REASONS[PacketType.CONNACK]:  # [MQTT-3.2.2-8]
                raise protocol_error(f"CONNACK with reason code 0x{reason:02X}")
            properties, position = self._properties(data, position, end, codec.CONNACK)
            _check_authentication(properties)
        elif reason > ConnectReturnCode.NOT_AUTHORIZED:
            raise protocol_error(f"CONNACK with return code {reason}")
        if position != end:
            raise malformed("CONNACK has bytes behind its end")
        return Connack(bool(flags), reason, properties)

    def suback(self, data: bytes, position: int, end: int) -> Suback:
        packet_id, position = _packet_id(data, position, end)
        properties: Properties = {}
        if self.version == MQTT5:
            properties, position = self._properties(data, position, end, codec.SUBACK)
        reasons = list(data[position:end])
        allowed = _SUBACK_RETURN_CODES if self.version != MQTT5 else _REASONS[PacketType.SUBACK]
        if not reasons:
            raise protocol_error("SUBACK without a reason code")
        if not allowed.issuperset(reasons):  # [MQTT-3.9.3-2] [MQTT311-3.9.3-2]
            raise protocol_error("SUBACK with a reason code that it cannot have")
        return Suback(packet_id, reasons, properties)

    def unsuback(self, data: bytes, position: int, end: int) -> Unsuback:
        packet_id, position = _packet_id(data, position, end)
        if self.version != MQTT5:
            if position != end:
                raise malformed("UNSUBACK of more than two bytes")
            return Unsuback(packet_id)
        properties, position = self._properties(data, position, end, codec.UNSUBACK)
        reasons = list(data[position:end])
        if not reasons:
            raise protocol_error("UNSUBACK without a reason code")
        if not _REASONS[PacketType.UNSUBACK].issuperset(reasons):  # [MQTT-3.11.3-2]
            raise protocol_error("UNSUBACK with a reason code that it cannot have")
        return Unsuback(packet_id, reasons, properties)

    def pingresp(self, data: bytes, position: int, end: int) -> Pingresp:
        if position != end:
            raise malformed("PINGRESP with a body")
        return Pingresp()


def _packet_id(data: bytes, position: int, end: int) -> tuple[int, int]:
    packet_id, position = read_two_bytes(data, position, end)
    if not packet_id:  # [MQTT-2.2.1-3] [MQTT311-2.3.1-1]
        raise protocol_error("packet identifier 0")
    return packet_id, position


def _check_authentication(properties: Properties) -> None:
    if "authentication_data" in properties and "authentication_method" not in properties:
        raise protocol_error("authentication data without an authentication method")


def _too_many_filters(maximum: int) -> ProtocolViolation:
    return ProtocolViolation(ReasonCode.QUOTA_EXCEEDED, f"more than {maximum} topic filters")
