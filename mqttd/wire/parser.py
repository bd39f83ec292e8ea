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
from mqttd.wire.bodies import BodyParser
from mqttd.wire.codes import MQTT5, MQTT31, MQTT311, PacketType, ReasonCode
from mqttd.wire.errors import ProtocolViolation, malformed, protocol_error
from mqttd.wire.packets import Connect, Packet, Publish
from mqttd.wire.strings import decode_utf8, read_variable_byte_integer

#: A fixed header is at most this long, bytes.
_LONGEST_HEADER: Final = 5

#: So many chunks of less than so many bytes are joined while they wait.
_SMALL_CHUNKS: Final = 64
_SMALL_CHUNK: Final = 512

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

#: How a CONNECT that is taken begins -> version.
_PREFIXES: Final = {
    b"\x00\x06MQIsdp\x03": MQTT31,
    b"\x00\x06MQIsdp\x83": MQTT31,
    b"\x00\x04MQTT\x04": MQTT311,
    b"\x00\x04MQTT\x84": MQTT311,
    b"\x00\x04MQTT\x05": MQTT5,
}


class Parser(BodyParser):
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
        "_needed",
        "_offset",
        "_small",
        "_topics",
        "_waiting",
        "maximum_packet_size",
    )

    def __init__(
        self,
        maximum_packet_size: int,
        server_side: bool = True,
        maximum_user_properties: int = 256,
        maximum_filters: int = 1024,
    ) -> None:
        super().__init__(server_side, maximum_user_properties, maximum_filters)
        self.maximum_packet_size = maximum_packet_size
        self._handlers = _FROM_CLIENT if server_side else _FROM_SERVER
        self._buffer = b""
        self._offset = 0
        self._chunks: list[bytes] = []
        self._waiting = 0  # bytes in _chunks
        self._small = 0  # chunks since some were joined, about
        self._needed = 1  # bytes without which there is no getting further
        self._failure: tuple[ReasonCode, str] | None = None
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
            if len(data) < _SMALL_CHUNK:
                self._note_small()

    def _note_small(self) -> None:
        # Each chunk is an object: one of two bytes takes twenty times their room.
        self._small += 1
        if self._small == _SMALL_CHUNKS:
            self._chunks[-_SMALL_CHUNKS:] = [b"".join(self._chunks[-_SMALL_CHUNKS:])]
            self._small = 0

    def window(self) -> tuple[bytes, int]:
        """The bytes in hand and where the next packet begins in them.

        For a caller that takes whole packets by itself and then says so with
        ``skip_to``. Empty while a packet is pending in parts.
        """
        if self._waiting or self._needed != 1:
            held = len(self._buffer) - self._offset
            if held + self._waiting < self._needed or self._failure is not None:
                return b"", 0
            self._gather(held)
            self._needed = 1
        return self._buffer, self._offset

    def skip_to(self, offset: int) -> None:
        """Everything before *offset* of the window has been taken."""
        if offset == len(self._buffer):
            self._buffer = b""
            offset = 0
        self._offset = offset

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
                    if not held and not self._waiting and self._failure is None:
                        return None
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
                    raise self._too_large(data, body, end - start)  # [MQTT-3.2.2-15]
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
            # A new one each time: the first holds the frames it came through.
            raise ProtocolViolation(*self._failure)
        rest = self._buffer[self._offset :]
        self._offset = 0
        if held + self._waiting < self._needed:
            # The copy lets go of the parsed part: an idle connection with half
            # a packet must not pin a whole chunk.
            self._buffer = rest
            return False
        self._buffer = b"".join((rest, *self._chunks))
        self._chunks = []
        self._waiting = self._small = 0
        return True

    def _fail(self, violation: ProtocolViolation) -> None:
        self._failure = (violation.reason, violation.text)
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
        if kind == PacketType.CONNECT and not self.version:
            return Parser._connect_with_flags
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

    def _connect_with_flags(self, data: bytes, position: int, end: int) -> Connect:
        """3.1 gives the flags no meaning, and only the body tells the version."""
        packet = self.connect(data, position, end)
        if packet.version != MQTT31:  # [MQTT-2.1.3-1] [MQTT311-2.2.2-1] [MQTT311-2.2.2-2]
            raise malformed("CONNECT with fixed header flags")
        return packet

    def _long_length(self, data: bytes, start: int, held: int) -> tuple[int, int]:
        """Remaining Length of more than one byte, and where the body begins.

        (0, 0) when more bytes are needed.
        """
        stop = start + min(held, _LONGEST_HEADER)
        if held < _LONGEST_HEADER and min(data[start + 2 : stop], default=0x80) >= 0x80:
            return 0, 0
        return read_variable_byte_integer(data, start + 1, stop)

    def _too_large(self, data: bytes, body: int, size: int) -> ProtocolViolation:
        kind = PacketType(data[self._offset] >> 4)
        if kind == PacketType.CONNECT and not self.version:
            # The answer is in the right language if the version is here already.
            for prefix, version in _PREFIXES.items():
                if data.startswith(prefix, body):
                    self.version = version
        return ProtocolViolation(
            ReasonCode.PACKET_TOO_LARGE,
            f"{kind.name} of {size} bytes is larger than "
            f"the maximum packet size {self.maximum_packet_size}",
        )

    # --- PUBLISH -------------------------------------------------------------

    def publish(self, data: bytes, position: int, end: int) -> Publish:
        first = data[self._offset]  # the offset is still that of the first byte
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


def _no_topic() -> ProtocolViolation:
    return protocol_error("PUBLISH with neither topic nor topic alias")  # [MQTT-4.7.3-1]


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
    PacketType.PUBLISH: Parser.publish,
    PacketType.PUBACK: Parser.puback,
    PacketType.PUBREC: Parser.pubrec,
    PacketType.PUBREL: Parser.pubrel,
    PacketType.PUBCOMP: Parser.pubcomp,
    PacketType.DISCONNECT: Parser.disconnect,
    PacketType.AUTH: Parser.auth,
}
_FROM_CLIENT: Final = _handler_table(
    {
        **_BOTH,
        PacketType.CONNECT: Parser.connect,
        PacketType.SUBSCRIBE: Parser.subscribe,
        PacketType.UNSUBSCRIBE: Parser.unsubscribe,
        PacketType.PINGREQ: Parser.pingreq,
    }
)
_FROM_SERVER: Final = _handler_table(
    {
        **_BOTH,
        PacketType.CONNACK: Parser.connack,
        PacketType.SUBACK: Parser.suback,
        PacketType.UNSUBACK: Parser.unsuback,
        PacketType.PINGRESP: Parser.pingresp,
    }
)
