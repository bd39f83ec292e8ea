"""The messages on their way to one client, by packet id, in the order of sending.

A session keeps them in a plain dict, unless a setting bounds their bytes: then in
one that knows the sum, so that a message costs the same however many are on
their way. Session and fast lane use both alike.
"""

from __future__ import annotations

from typing import Any

from mqttd.broker.delivery import Delivery
from mqttd.settings import SessionSettings

#: Packet id -> delivery, or the frame that the fast lane has sent.
Inflight = dict[int, Delivery | bytes]


class MeasuredInflight(Inflight):
    """``Inflight`` that knows how many bytes it holds."""

    __slots__ = ("size",)

    def __init__(self, inflight: Inflight) -> None:
        super().__init__(inflight)
        self.size = sum(map(_size, inflight.values()))

    def __setitem__(self, packet_id: int, sent: Delivery | bytes) -> None:
        if packet_id in self:
            self.size -= _size(self[packet_id])
        self.size += _size(sent)
        super().__setitem__(packet_id, sent)

    def __delitem__(self, packet_id: int) -> None:
        self.size -= _size(self[packet_id])
        super().__delitem__(packet_id)

    def pop(self, packet_id: int, *default: Any) -> Any:
        if packet_id in self:
            self.size -= _size(self[packet_id])
        return super().pop(packet_id, *default)


def suited(inflight: Inflight, settings: SessionSettings) -> Inflight:
    """*inflight* as *settings* need it."""
    if settings.maximum_inflight_bytes:
        return MeasuredInflight(inflight)
    return dict(inflight)


def size_of(inflight: Inflight) -> int:
    """Bytes on their way; *inflight* is ``suited`` to a limit on them."""
    assert isinstance(inflight, MeasuredInflight)
    return inflight.size


def _size(sent: Delivery | bytes) -> int:
    return len(sent) if isinstance(sent, bytes) else sent.message.size
