"""The incremental packet parser: bytes in, packets out.

A transport feeds what it received and takes packets until there is none. Every
rule that one packet can break by itself is checked here, so what comes out is
well-formed; what a packet means at this point of a connection (a session, an
alias, a granted QoS) is not known here. Nor are sockets, time or settings.

Theory of operation. Received chunks are kept as they came: one that is being
parsed, with an offset, and a list of those behind it. Packets are parsed in
place, one slice per field. When the current chunk ends inside a packet, its
rest is joined with the chunks behind it, but only once enough bytes are there
to get further; so every byte is copied a constant number of times however
finely it was chopped. First byte and length are judged as soon as they are
there, so that an unwanted packet is refused before its body is stored.

Variable byte integers that are longer than need be are refused in the fixed
header too, in every version.
"""

from __future__ import annotations

from collections.abc import Callable
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
from mqttd.wire.strings import (
    decode_utf8,
    read_binary,
    read_string,
    read_two_bytes,
    read_variable_byte_integer,
)

#: A fixed header is at most this long, bytes.
_LONGEST_HEADER: Final = 5

#: Topics that a connection repeats are decoded and checked once: so many of
#: them, of at most so many bytes.
_CACHED_TOPICS: Final = 32
_LONGEST_CACHED_TOPIC: Final = 128
#: What a parser that has seen no topic yet looks into; never written to.
_NO_TOPICS: Final[dict[bytes, str]] = {}

#: Fixed header flags, where they are not 0 (section 2.1.3).
_FLAGS: Final[dict[int, int]] = {
    PacketType.PUBREL: 2,
    PacketType.SUBSCRIBE: 2,
    PacketType.UNSUBSCRIBE: 2,
}

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


class Parser:
    """Turns one direction of a byte stream into packets.

    *maximum_packet_size* counts whole packets, in bytes. With *server_side* it
    takes what clients send, and the first packet must be CONNECT; without, it
    takes what servers send, and ``version`` must be set by the owner. More than
    *maximum_user_properties* in one property block, or *maximum_filters* in one
    SUBSCRIBE or UNSUBSCRIBE, is a violation (0x97).
    """

    __slots__ = (
        "_buffer",
        "_chunks",
        "_failure",
        "_handlers",
        "_maximum_filters",
        "_maximum_user_properties",
        "_needed",
        "_offset",
        "_topics",
        "_waiting",
        "maximum_packet_size",
        "server_side",
        "version",
    )

    def __init__(
        self,
        maximum_packet_size: int,
        server_side: bool = True,
        maximum_user_properties: int = 256,
        maximum_filters: int = 1024,
    ) -> None:
        self.maximum_packet_size = maximum_packet_size
        self.server_side = server_side
        #: 0 until a CONNECT told it; then 3, 4 or 5. Known even when the rest
        #: of that CONNECT is bad, so that the answer can be in its language.
        self.version = 0
        self._maximum_user_properties = maximum_user_properties
        self._maximum_filters = maximum_filters
        self._handlers = _FROM_CLIENT if server_side else _FROM_SERVER
        self._buffer = b""
        self._offset = 0
        self._chunks: list[bytes] = []
        self._waiting = 0  # bytes in _chunks
        self._needed = 1  # bytes without which there is no getting further
        self._failure: ProtocolViolation | None = None
        self._topics = _NO_TOPICS

    @property
    def pending(self) -> int:
        """Bytes held that no returned packet has used yet."""
        return len(self._buffer) - self._offset + self._waiting

    def feed(self, data: bytes) -> None:
        """Store *data*; after a violation it is dropped."""
        if self._failure is not None:
            return
        if self._offset == len(self._buffer) and not self._waiting:
            self._buffer = data
            self._offset = 0
        else:
            self._chunks.append(data)
            self._waiting += len(data)

    def next_packet(self) -> Packet | None:
        """The next packet, or ``None`` when more bytes are needed for one.

        Raises ``ProtocolViolation``; the stream is lost then, and every later
        call raises the same again.
        """
        # One long function: this is the hot path, and calls are what costs.
        try:
            while True:
                data = self._buffer
                start = self._offset
                held = len(data) - start
                if held < self._needed:
                    if not self._gather(held):
                        return None
                    continue
                first = data[start]
                handler = self._handlers[first]
                if handler is None or not self.version:
                    handler = self._check_first_byte(first)
                if held == 1:
                    self._needed = 2
                    continue
                length = data[start + 1]
                body = start + 2
                if length >= 0x80:
                    length, body = self._long_length(data, start, held)
                    if not body:
                        self._needed = held + 1
                        continue
                end = body + length
                if end - start > self.maximum_packet_size:
                    raise self._too_large(data, body, end - start)
                if end > len(data):
                    self._needed = end - start
                    continue
                packet = handler(self, data, body, end)
                break
        except ProtocolViolation as violation:
            self._fail(violation)
            raise
        self._needed = 1
        if end == len(data):
            self._buffer = b""
            self._offset = 0
        else:
            self._offset = end
        return packet

    # --- buffering ---------------------------------------------------------

    def _gather(self, held: int) -> bool:
        """Join what is *held* with the waiting chunks, if that gets us further."""
        if self._failure is not None:
            raise self._failure
        rest = self._buffer[self._offset :]
        self._offset = 0
        if held + self._waiting < self._needed:
            # The copy lets go of the parsed part: an idle connection with half
            # a packet must not pin a whole chunk.
            self._buffer = rest
            return False
        self._buffer = b"".join((rest, *self._chunks))
        self._chunks = []
        self._waiting = 0
        return True

    def _fail(self, violation: ProtocolViolation) -> None:
        self._failure = violation
        self._buffer = b""
        self._chunks = []
        self._offset = self._waiting = 0
        self._needed = 1

    # --- fixed header ------------------------------------------------------

    def _check_first_byte(self, first: int) -> _Handler:
        """The handler of a first byte that needs a second look, or a violation."""
        kind = first >> 4
        handler = self._handlers[first]
        if self.server_side and not self.version and kind != PacketType.CONNECT:
            # [MQTT-3.1.0-1] [MQTT311-3.1.0-1]
            raise protocol_error("the first packet is not CONNECT")
        if handler is not None:
            return handler
        if self.version == MQTT31 and first & 0x08:
            # 3.1 lets a client repeat SUBSCRIBE, UNSUBSCRIBE and PUBREL with DUP.
            handler = self._handlers[first & 0xF7]
            if handler is not None and kind in _FLAGS:
                return handler
        if not kind:
            raise malformed("packet type 0 is reserved")
        name = PacketType(kind).name
        if self._handlers[kind << 4 | _FLAGS.get(kind, 0)] is None:
            raise protocol_error(f"{name} is not sent in this direction")
        if kind == PacketType.PUBLISH:
            if first & 0x06 == 0x06:  # [MQTT-3.3.1-4] [MQTT311-3.3.1-4]
                raise malformed("PUBLISH with QoS 3")
            # [MQTT-3.3.1-2] [MQTT311-3.3.1-2]
            raise malformed("PUBLISH with DUP and QoS 0")
        # [MQTT-2.1.3-1] [MQTT311-2.2.2-1] [MQTT311-2.2.2-2] and those of single packets:
        # [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1]
        # [MQTT311-3.6.1-1] [MQTT311-3.8.1-1] [MQTT311-3.10.1-1] [MQTT311-3.14.1-1]
        raise malformed(f"{name} with fixed header flags {first & 0x0F:#x}")

    def _long_length(self, data: bytes, start: int, held: int) -> tuple[int, int]:
        """Remaining Length of more than one byte, and where the body begins.

        (0, 0) when more bytes are needed.
        """
        stop = start + min(held, _LONGEST_HEADER)
        if held < _LONGEST_HEADER and data[stop - 1] >= 0x80:
            return 0, 0
        return read_variable_byte_integer(data, start + 1, stop)

    def _too_large(self, data: bytes, body: int, size: int) -> ProtocolViolation:
        first = data[self._offset]
        if first >> 4 == PacketType.CONNECT and not self.version:
            # The answer is in the right language if the version is here already.
            name, level = data[body + 2 : body + 6], data[body + 6 : body + 7]
            if name == b"MQTT" and level in (b"\x04", b"\x84", b"\x05"):
                self.version = level[0] & ~BRIDGE_BIT
        return ProtocolViolation(
            ReasonCode.PACKET_TOO_LARGE,
            f"{PacketType(first >> 4).name} of {size} bytes is larger than "
            f"the maximum packet size {self.maximum_packet_size}",
        )

    # --- packets that clients send -------------------------------------------

    def _connect(self, data: bytes, position: int, end: int) -> Connect:
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
        # [MQTT-3.1.3-1] [MQTT-3.1.3-3] [MQTT-3.1.3-4] and the like of 3.1.1: the order.
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
        if (name, version) not in _PROTOCOLS or (
            bridge and version == MQTT5
        ):  # [MQTT-3.1.2-2] [MQTT311-3.1.2-2]
            # 3.1.1 demands an answer, so the refusal is in its language.
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

    def _subscribe(self, data: bytes, position: int, end: int) -> Subscribe:
        packet_id, position = _packet_id(data, position, end)
        properties: Properties = {}
        allowed = 0x03
        if self.version == MQTT5:
            properties, position = self._properties(data, position, end, codec.SUBSCRIBE)
            allowed = 0x3F
        subscriptions: list[SubscriptionRequest] = []
        while position < end:
            topic_filter, position = read_string(data, position, end)  # [MQTT-3.8.3-1]
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

    def _unsubscribe(self, data: bytes, position: int, end: int) -> Unsubscribe:
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

    def _pingreq(self, data: bytes, position: int, end: int) -> Pingreq:
        if position != end:
            raise malformed("PINGREQ with a body")
        return Pingreq()

    # --- packets that both sides send ----------------------------------------

    def _publish(self, data: bytes, position: int, end: int) -> Publish:
        # position is that of the body; the offset still that of the first byte.
        first = data[self._offset]
        start = position + 2
        if start > end:
            raise malformed("PUBLISH is cut off")
        # [MQTT-3.3.2-1] [MQTT311-3.3.2-1]
        stop = start + (data[position] << 8 | data[position + 1])
        if stop > end:
            raise malformed("the topic of a PUBLISH runs past its end")
        encoded = data[start:stop]
        topic = self._topics.get(encoded)
        if topic is None:
            topic = self._new_topic(encoded)
        qos = first >> 1 & 3
        packet_id = 0
        if qos:
            start = stop
            stop += 2
            if stop > end:
                raise malformed("PUBLISH is cut off in its packet identifier")
            packet_id = data[start] << 8 | data[start + 1]
            if not packet_id:  # [MQTT-2.2.1-3] [MQTT311-2.3.1-1]
                raise protocol_error("PUBLISH with packet identifier 0")
        if self.version == MQTT5:
            if stop < end and not data[stop]:
                if not topic:
                    raise _no_topic()
                stop += 1
            else:
                return self._publish_with_properties(data, stop, end, first, topic, packet_id)
        elif not topic:  # [MQTT311-4.7.3-1]
            raise ProtocolViolation(ReasonCode.TOPIC_NAME_INVALID, "the topic is empty")
        return Publish(
            topic, data[stop:end], qos, first & 1 == 1, first & 8 == 8, packet_id, {}, b""
        )

    def _publish_with_properties(
        self, data: bytes, position: int, end: int, first: int, topic: str, packet_id: int
    ) -> Publish:
        properties, passthrough, position = codec.read_message_properties(
            data, position, end, codec.PUBLISH, self._maximum_user_properties
        )
        if not topic and "topic_alias" not in properties:
            raise _no_topic()
        if self.server_side and "subscription_identifier" in properties:  # [MQTT-3.3.4-6]
            raise protocol_error("a client's PUBLISH with a subscription identifier")
        return Publish(
            topic,
            data[position:end],
            first >> 1 & 3,
            bool(first & 1),
            bool(first & 8),
            packet_id,
            properties,
            passthrough,
        )

    def _new_topic(self, encoded: bytes) -> str:
        """Decode and check a topic, and remember it for the next PUBLISH."""
        topic = decode_utf8(encoded)
        if "+" in topic or "#" in topic:
            # [MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT311-3.3.2-2] [MQTT311-4.7.1-1]
            raise ProtocolViolation(ReasonCode.TOPIC_NAME_INVALID, "a topic with a wildcard")
        if len(encoded) <= _LONGEST_CACHED_TOPIC:
            if self._topics is _NO_TOPICS or len(self._topics) >= _CACHED_TOPICS:
                self._topics = {}
            self._topics[encoded] = topic
        return topic

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

    def _puback(self, data: bytes, position: int, end: int) -> Puback:
        if end - position == 2:  # most of them
            packet_id = data[position] << 8 | data[position + 1]
            if packet_id:
                return Puback(packet_id, 0, {})
        return Puback(*self._acknowledgement(data, position, end, PacketType.PUBACK))

    def _pubrec(self, data: bytes, position: int, end: int) -> Pubrec:
        return Pubrec(*self._acknowledgement(data, position, end, PacketType.PUBREC))

    def _pubrel(self, data: bytes, position: int, end: int) -> Pubrel:
        return Pubrel(*self._acknowledgement(data, position, end, PacketType.PUBREL))

    def _pubcomp(self, data: bytes, position: int, end: int) -> Pubcomp:
        return Pubcomp(*self._acknowledgement(data, position, end, PacketType.PUBCOMP))

    def _disconnect(self, data: bytes, position: int, end: int) -> Disconnect:
        if position == end:
            return Disconnect()
        if self.version != MQTT5:
            raise malformed("DISCONNECT with a body")
        reason, properties = self._reason_and_properties(data, position, end, PacketType.DISCONNECT)
        if not self.server_side and "session_expiry_interval" in properties:  # [MQTT-3.14.2-2]
            raise protocol_error("a server's DISCONNECT with a session expiry interval")
        return Disconnect(reason, properties)

    def _auth(self, data: bytes, position: int, end: int) -> Auth:
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

    def _connack(self, data: bytes, position: int, end: int) -> Connack:
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

    def _suback(self, data: bytes, position: int, end: int) -> Suback:
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

    def _unsuback(self, data: bytes, position: int, end: int) -> Unsuback:
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

    def _pingresp(self, data: bytes, position: int, end: int) -> Pingresp:
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


def _no_topic() -> ProtocolViolation:
    return protocol_error("PUBLISH with neither topic nor topic alias")  # [MQTT-4.7.3-1]


def _too_many_filters(maximum: int) -> ProtocolViolation:
    return ProtocolViolation(ReasonCode.QUOTA_EXCEEDED, f"more than {maximum} topic filters")


_Handler = Callable[[Parser, bytes, int, int], Packet]


def _handler_table(handlers: dict[PacketType, _Handler]) -> tuple[_Handler | None, ...]:
    """First byte -> what parses that packet; ``None`` where the byte is not allowed."""
    table: list[_Handler | None] = [None] * 256
    for kind, handler in handlers.items():
        table[kind << 4 | _FLAGS.get(kind, 0)] = handler
    publish = handlers[PacketType.PUBLISH]
    for flags in range(16):
        qos = flags >> 1 & 3
        table[PacketType.PUBLISH << 4 | flags] = (
            None if qos == 3 or (flags & 8 and not qos) else publish
        )
    return tuple(table)


_BOTH: Final[dict[PacketType, _Handler]] = {
    PacketType.PUBLISH: Parser._publish,
    PacketType.PUBACK: Parser._puback,
    PacketType.PUBREC: Parser._pubrec,
    PacketType.PUBREL: Parser._pubrel,
    PacketType.PUBCOMP: Parser._pubcomp,
    PacketType.DISCONNECT: Parser._disconnect,
    PacketType.AUTH: Parser._auth,
}
_FROM_CLIENT: Final = _handler_table(
    {
        **_BOTH,
        PacketType.CONNECT: Parser._connect,
        PacketType.SUBSCRIBE: Parser._subscribe,
        PacketType.UNSUBSCRIBE: Parser._unsubscribe,
        PacketType.PINGREQ: Parser._pingreq,
    }
)
_FROM_SERVER: Final = _handler_table(
    {
        **_BOTH,
        PacketType.CONNACK: Parser._connack,
        PacketType.SUBACK: Parser._suback,
        PacketType.UNSUBACK: Parser._unsuback,
        PacketType.PINGRESP: Parser._pingresp,
    }
)
