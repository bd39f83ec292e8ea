"""The flight recorder of one connection: the first bytes of what came and went last.

``MQTTProtocol`` and ``Outbound`` note each chunk of input and each flush of output, not
each packet: what the fast lane moves in one piece is one entry. An entry is its head,
which begins with a packet, and says how long the whole was; who reads it
(``admin.tracing.flight``) decodes it.

Since a chunk may be one message, and to note it should cost next to nothing, nothing is
copied and no call is made: those two append the time, what came and what went to a list,
the very ``bytes`` where they are short, and now and then forget the oldest quarter. It is
bounded by the number of entries, and so are their bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mqttd.interfaces import FlightEntry

#: Bytes that an entry keeps of what it is about.
HEAD: Final = 128

#: A whole packet that is not longer is not noted: PINGREQ would push out what is worth more.
SHORT: Final = 2

#: Seconds in which what goes is noted as an answer to what came last, in its entry.
AT_ONCE = 0.001

#: Bytes of memory that an entry is taken for: 200 where it is a message of 90 bytes and
#: its PUBACK, less than 400 in any case, Python's own overhead included.
ENTRY = 256

#: Bytes of it that an earlier entry has already, its size, and its first bytes.
Piece = tuple[int, int, bytes]

#: Seconds, what came, what went; and again.
Flight = list[float | bytes | Piece]


def room(size: int) -> int:
    """The length of a list that takes about *size* bytes with what it holds."""
    return size // ENTRY * 3 or 3 * bool(size)


def forget(flight: Flight) -> None:
    """Take out the oldest quarter. One by one would cost more than to note them."""
    del flight[: len(flight) // 12 * 3 or 3]


def piece(data: bytes, position: int = 0, overlap: int = 0) -> bytes | Piece:
    """What is noted of *data* from *position* on."""
    size = len(data) - position
    if size <= HEAD and not (position or overlap):
        return data
    return overlap, size, data[position : position + HEAD]


def entries(flight: Flight) -> Iterator[FlightEntry]:
    """What was noted, the oldest first."""
    end: int | None = None
    for index in range(0, len(flight), 3):
        seconds: float
        seconds, came, went = flight[index : index + 3]  # type: ignore[assignment]
        if came:
            overlap, size, head = _parts(came)
            # Of what the first has in common with those before it nothing is known.
            begin = 0 if end is None else end - overlap
            end = begin + size
            yield FlightEntry(seconds, begin, size, head, False)
        # Who gets his own message of QoS 0 back gets what he gave.
        if went and went is not came:
            _, size, head = _parts(went)
            yield FlightEntry(seconds, 0, size, head, True)


def _parts(noted: float | bytes | Piece) -> Piece:
    if isinstance(noted, bytes):
        return 0, len(noted), noted[:HEAD]
    assert isinstance(noted, tuple)
    return noted
