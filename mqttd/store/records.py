"""What the store's bytes mean: the encodings of messages and wills, and row states.

The broker encodes what it adds to a store and decodes what it reads; the
operations of ``mqttctl store`` read the same bytes. A store itself carries them
unopened. The layout is part of the version in ``schema``: a change to it needs
a migration there.

A message is a header of fixed size, then topic, source, passthrough properties
and payload, one behind the other.
"""

from __future__ import annotations

from struct import Struct

from attrs import frozen

#: Layout of what follows; the first byte of every message.
VERSION = 1

#: Version, flags (QoS, retain), creation and expiry (seconds, 0: never), lengths of
#: topic, source and properties.
_HEADER = Struct(">BBddHHI")

#: Delay; message expiry interval plus 1, 0 for none.
_WILL = Struct(">IQ")

#: Bits of a row in the store.
SEQ_BITS = 39
MAXIMUM_SID = (1 << 24) - 1
_SEQ_MASK = (1 << SEQ_BITS) - 1

_RETAIN = 1 << 2
_RELEASED = 1 << 3


@frozen
class StoredMessage:
    """A message as it is kept; times are those of ``IStore.time``."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    #: Encoded properties that travel on unaltered.
    passthrough: bytes = b""
    created_at: float = 0.0
    #: None: never.
    expires_at: float | None = None
    #: Who published it: a JSON object, for the access rules; b"" for the broker.
    source: bytes = b""


@frozen
class StoredWill:
    """A will as it is kept. ``message.expires_at`` means nothing."""

    message: StoredMessage
    #: Seconds to wait after the connection is lost.
    delay: int = 0
    #: Message Expiry Interval, counted from publication; None: never expires.
    expiry: int | None = None


def encode_message(
    topic: bytes,
    payload: bytes,
    qos: int,
    retain: bool,
    passthrough: bytes = b"",
    created_at: float = 0.0,
    expires_at: float | None = None,
    source: bytes = b"",
) -> bytes:
    """The body of a message; *topic* in UTF-8, *source* at most 65,535 bytes."""
    header = _HEADER.pack(
        VERSION,
        qos | _RETAIN if retain else qos,
        created_at,
        expires_at or 0.0,
        len(topic),
        len(source),
        len(passthrough),
    )
    return b"".join((header, topic, source, passthrough, payload))


def decode_message(body: bytes) -> StoredMessage:
    """The reverse of ``encode_message``; ValueError when *body* is none."""
    if len(body) < _HEADER.size or body[0] != VERSION:
        raise ValueError("not a stored message")
    _, flags, created_at, expires_at, topic, source, properties = _HEADER.unpack_from(body)
    source_at = _HEADER.size + topic
    properties_at = source_at + source
    payload_at = properties_at + properties
    if payload_at > len(body):
        raise ValueError("a stored message is cut short")
    return StoredMessage(
        str(body[_HEADER.size : source_at], "utf-8"),
        body[payload_at:],
        flags & 3,
        bool(flags & _RETAIN),
        body[properties_at:payload_at],
        created_at,
        expires_at or None,
        body[source_at:properties_at],
    )


def encode_will(message: bytes, delay: int, expiry: int | None) -> bytes:
    """A will; *message* as ``encode_message`` makes it, times in seconds."""
    return _WILL.pack(delay, 0 if expiry is None else expiry + 1) + message


def decode_will(data: bytes) -> StoredWill:
    """The reverse of ``encode_will``; ValueError when *data* is none."""
    if len(data) < _WILL.size:
        raise ValueError("not a stored will")
    delay, expiry = _WILL.unpack_from(data)
    return StoredWill(
        decode_message(data[_WILL.size :]), delay, None if expiry == 0 else expiry - 1
    )


# --- rows -------------------------------------------------------------------

#: The state of a row that was not sent is below this: it has no packet id.
SENT = 1 << 4


def row_state(
    qos: int, retain: bool = False, packet_id: int = 0, order: int = 0, released: bool = False
) -> int:
    """The ``state`` of a row.

    *packet_id* is 0 until it is sent; then *order* is above 0 and grows with each
    message that is sent for the first time. *released*: PUBREC has come.
    """
    flags = qos | (_RETAIN if retain else 0) | (_RELEASED if released else 0)
    return order << 20 | packet_id << 4 | flags


def qos_of(state: int) -> int:
    """QoS granted to the receiver."""
    return state & 3


def retain_of(state: int) -> bool:
    """The RETAIN flag that the receiver will see."""
    return bool(state & _RETAIN)


def is_released(state: int) -> bool:
    """PUBREC has come, PUBCOMP is awaited."""
    return bool(state & _RELEASED)


def packet_id_of(state: int) -> int:
    """The packet id under which it was sent; 0: it was not."""
    return state >> 4 & 0xFFFF


def order_of(state: int) -> int:
    """Place in the order of first sending."""
    return state >> 20


def row_key(sid: int, seq: int) -> int:
    """The one number of a row: sessions one behind the other, each in order."""
    return sid << SEQ_BITS | seq


def sid_of(key: int) -> int:
    return key >> SEQ_BITS


def seq_of(key: int) -> int:
    return key & _SEQ_MASK
