"""An in-process client while somebody watches it: its packets as bytes, for a trace.

``Passage.watch`` makes an ``InProcessClient`` one of these and back, so that the others
pay nothing. What is an object there, and never on a wire, is encoded here as it would go
over one; nothing here changes what happens.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from mqttd.broker.delivery import Delivery, encode_alone
from mqttd.broker.inprocess import InProcessClient
from mqttd.interfaces import Avatar
from mqttd.wire.packets import Connect, Packet, Pubrel
from mqttd.wire.serializer import serialize


class WatchedClient(InProcessClient):
    """The client of ``watcher``."""

    __slots__ = ()

    @property
    def watcher(self) -> Any:
        """An ``IPacketWatcher``."""
        return self._passage.watcher

    def open(self, avatar: Avatar, packet: Connect) -> Deferred[InProcessClient]:
        self.watcher.received(packet)
        return super().open(avatar, packet)

    def packet_received(self, packet: Packet) -> Deferred[None] | None:
        self.watcher.received(packet)
        return super().packet_received(packet)

    def answered(self, packet: Packet) -> None:
        self.watcher.sent(serialize(packet, self.version))
        super().answered(packet)

    def send_pubrel(self, packet_id: int) -> None:
        self.watcher.sent(serialize(Pubrel(packet_id), self.version))
        super().send_pubrel(packet_id)

    def send_message(self, delivery: Delivery, packet_id: int, dup: bool) -> bool:
        topic = delivery.message.topic.removeprefix(self.mount_point)
        before, after = encode_alone(delivery, self.version, topic, 0, self.broker.seconds)
        middle = packet_id.to_bytes(2, "big") if delivery.qos else b""
        self.watcher.sent(before + middle + after)
        return super().send_message(delivery, packet_id, dup)

    def end(self, label: str, will: bool = True) -> None:
        watcher = self.watcher
        super().end(label, will)
        self._passage.watch(None)
        watcher.ended(label)
