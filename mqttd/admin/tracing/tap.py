"""The watcher of one connection: shows its packets to the traces that want them.

``Traces`` puts one on each connection that a trace may be about. It resolves topic
aliases, since nobody could read a trace without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from zope.interface import implementer

from mqttd.admin.tracing.describe import describe
from mqttd.interfaces import IPacketWatcher
from mqttd.wire.codes import MAXIMUM_REMAINING_LENGTH, MQTT311
from mqttd.wire.errors import ProtocolViolation
from mqttd.wire.packets import Connect, Packet, Publish
from mqttd.wire.parser import Parser

if TYPE_CHECKING:
    from mqttd.admin.tracing.traces import Traces
    from mqttd.broker.connection import Connection

log = Logger()


@implementer(IPacketWatcher)
class Tap:
    """Watches *connection* for *traces*."""

    def __init__(self, traces: Traces, connection: Connection) -> None:
        self._traces = traces
        self.connection = connection
        self._address = connection.transport.peer.address
        self.client_id: str | None = connection.client_id or None
        self._version = connection.version
        #: Reads what goes out.
        self._parser = Parser(MAXIMUM_REMAINING_LENGTH + 5, server_side=False)
        #: Alias -> topic, of the packets that come and of those that go out.
        self._aliases: dict[str, dict[int, str]] = {
            "in": dict(connection.aliases or {}),
            "out": {alias: topic for topic, alias in (connection.assigned_aliases or {}).items()},
        }

    def received(self, packet: Packet) -> None:
        if isinstance(packet, Connect):
            self.client_id = packet.client_id
            self._version = packet.version
            if not self._traces.keeps(self):
                self.connection.transport.watch(None)
                return
        self._show(packet, "in")

    def sent(self, data: bytes) -> None:
        # Chosen by the broker where the client had none.
        self.client_id = self.connection.client_id or self.client_id
        parser = self._parser
        parser.version = self._version or self.connection.version or MQTT311
        parser.feed(data)
        try:
            while (packet := parser.next_packet()) is not None:
                self._show(packet, "out")
        except ProtocolViolation as violation:
            self._event("unreadable", {"text": violation.text})
            self._parser = Parser(MAXIMUM_REMAINING_LENGTH + 5, server_side=False)

    def broken(self, text: str) -> None:
        self._event("violation", {"text": text})

    def ended(self, reason: str) -> None:
        self._event("ended", {"reason": reason})
        self._traces.taps.pop(self.connection, None)

    def fits(self, trace: Any) -> bool:
        """Whether *trace* may want packets of this connection."""
        return bool(trace.wanted.may_fit(self.client_id, self._address))

    def _show(self, packet: Packet, direction: str) -> None:
        # Whatever breaks here must not break the connection.
        try:
            topic = self._topic(packet, direction)
            for trace in self._traces.wanting(self):
                if trace.wanted.fits(packet, topic) and trace.has_room(self._traces.seconds()):
                    words = describe(packet, self._version, trace.shown)
                    if topic and topic != words["topic"]:
                        words["topic"] = topic
                    trace.note(self._record(direction) | words)
        except Exception:
            log.failure("A packet could not be traced")

    def _topic(self, packet: Packet, direction: str) -> str:
        if not isinstance(packet, Publish):
            return ""
        alias = packet.properties.get("topic_alias")
        if alias is None:
            return packet.topic
        if packet.topic:
            self._aliases[direction][alias] = packet.topic
        return self._aliases[direction].get(alias, "")

    def _event(self, name: str, words: dict[str, Any]) -> None:
        """What is no packet; traces by topic do not want it."""
        try:
            for trace in self._traces.wanting(self):
                if not trace.wanted.topic and trace.has_room(self._traces.seconds()):
                    trace.note(self._record("event") | {"event": name} | words)
        except Exception:
            log.failure("The end of a connection could not be traced")

    def _record(self, direction: str) -> dict[str, Any]:
        return {
            "at": round(self._traces.wall_clock(), 6),
            "client_id": self.client_id,
            "address": self._address,
            "direction": direction,
        }
