"""Packet identifiers as a client gives them out (MQTT 5.0 section 2.2.1)."""

from __future__ import annotations

from collections.abc import Container
from itertools import count


class PacketIds:
    """Numbers from 1 to 65,535, in turn, so that one comes back as late as possible."""

    __slots__ = ("_count",)

    def __init__(self) -> None:
        self._count = count()

    def next(self, used: Container[int]) -> int:
        """One that is not *used*; there must be one."""
        while True:
            packet_id = next(self._count) % 65_535 + 1
            if packet_id not in used:
                return packet_id
