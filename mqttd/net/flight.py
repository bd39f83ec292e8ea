"""The flight recorder of one connection: the first bytes of what came and went last.

``MQTTProtocol`` and ``Outbound`` note each chunk of input and each flush of output, not
each packet: what the fast lane moves in one piece is one entry. An entry is its head,
which begins with a packet, and says how long the whole was; who reads it
(``admin.tracing.flight``) decodes it. All of a connection is one ``bytearray``, since
idle connections are many: entries as objects would take four times the room.

Those two do it without a call, since a chunk may be one message and calls are what
costs; so an entry is written there as it is read here.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from mqttd.interfaces import FlightEntry

#: Bytes that an entry keeps of what it is about.
HEAD = 128

#: What is not longer is not noted: a PINGREQ would push out what is worth more.
SHORT = 2

#: Seconds; bytes of input so far; bytes that the entry is about, below 0 for output.
_ENTRY = Struct("<dqi")
pack = _ENTRY.pack


def entries(flight: bytes | bytearray) -> Iterator[FlightEntry]:
    """What was noted, the oldest first."""
    position = 0
    while position < len(flight):
        seconds, taken, size = _ENTRY.unpack_from(flight, position)
        position += _ENTRY.size
        head = bytes(flight[position : position + min(abs(size), HEAD)])
        position += len(head)
        yield FlightEntry(seconds, taken - size, abs(size), head, size < 0)
