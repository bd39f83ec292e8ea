"""Entries of a flight recorder as packets, as far as their bytes were kept.

An entry has the head of several packets, the last of them cut off maybe. Of a PUBLISH
the header is enough. What is no packet is shown with its first bytes, but for CONNECT
and AUTH, which carry secrets. ``head`` is what a replay needs: the bytes of the packet
without its payload, in hexadecimal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mqttd.admin.tracing.describe import describe
from mqttd.interfaces import FlightEntry
from mqttd.wire.codes import MAXIMUM_REMAINING_LENGTH, PacketType
from mqttd.wire.errors import ProtocolViolation
from mqttd.wire.packets import Publish
from mqttd.wire.parser import Parser
from mqttd.wire.serializer import variable_byte_integer

#: Bytes of a packet that cannot be read that are shown.
UNREADABLE = 64

_SECRET = (PacketType.CONNECT, PacketType.AUTH)


def decode(
    entries: Iterable[FlightEntry], version: int, wall: Callable[[float], float], shown: int = 0
) -> Iterator[dict[str, Any]]:
    """The packets of *entries*, in order.

    :param wall: Unix time of the broker's clock.
    :param shown: bytes of each payload that are shown, as far as they were kept.
    """
    done = 0  # bytes of the input that were shown already
    for entry in entries:
        about = {"at": round(wall(entry.seconds), 6), "direction": "out" if entry.out else "in"}
        position = 0 if entry.out else max(0, done - entry.offset)
        while position < len(entry.head):
            size = _size(entry.head, position)
            if not size or (position + size > entry.size):
                # Its rest came later; then it is in another entry.
                break
            words = frame(entry.head[position : position + size], size, version, entry.out, shown)
            yield about | words
            position += size
        if not entry.out:
            done = max(done, entry.offset + position)
        if position and entry.size - max(position, len(entry.head)) > 0:
            yield about | {"bytes_not_kept": entry.size - max(position, len(entry.head))}


def _size(data: bytes, position: int) -> int:
    """Bytes of the packet that begins there; 0 when that cannot be told."""
    length = shift = 0
    for index in range(position + 1, min(position + 5, len(data))):
        length |= (data[index] & 0x7F) << shift
        if data[index] < 0x80:
            return index + 1 + length - position
        shift += 7
    return 0


def frame(data: bytes, size: int, version: int, out: bool, shown: int = 0) -> dict[str, Any]:
    """One packet of *size* bytes, of which *data* is the beginning."""
    words: dict[str, Any] = {"size": size}
    if len(data) < size:
        words["cut"] = True
    kind = data[0] >> 4
    name = PacketType(kind).name if kind else "reserved"
    if len(data) < size and kind != PacketType.PUBLISH:
        return {"packet": name} | words
    parser = Parser(MAXIMUM_REMAINING_LENGTH + 5, server_side=not out)
    parser.version = version
    parser.feed(data if len(data) == size else _shortened(data))
    try:
        packet = parser.next_packet()
    except ProtocolViolation as violation:
        words["unreadable"] = violation.text
        return {"packet": name} | words | _bytes(data[:UNREADABLE], kind)
    if packet is None:
        return {"packet": name} | words
    words = describe(packet, version, shown) | words
    header = len(data)
    if isinstance(packet, Publish):
        header -= len(packet.payload)
        words["payload_size"] = size - header
    return words | _bytes(data[:header], kind)


def _bytes(data: bytes, kind: int) -> dict[str, str]:
    return {} if kind in _SECRET else {"head": data.hex()}


def _shortened(data: bytes) -> bytes:
    """*data*, the beginning of a packet, as a whole one."""
    body = 2
    while body < len(data) and data[body - 1] >= 0x80:
        body += 1
    return data[:1] + variable_byte_integer(len(data) - body) + data[body:]
