"""Messages from the server to a client: when each is acknowledged, and that QoS 2 is once.

``Client`` passes on PUBLISH and PUBREL, and hands messages to subscriptions. One is
acknowledged when they are done with it, so that a crash before that brings it again.
The packet id of a QoS 2 message is remembered from then to PUBREL, across connections
as long as the server keeps the session.
"""

from __future__ import annotations

from collections.abc import Callable

from mqttd.client.keeping import Keeping, when_kept
from mqttd.client.protocol import ClientProtocol
from mqttd.client.received import Received
from mqttd.client.settings import ClientSettings
from mqttd.wire.codes import MQTT5, ReasonCode
from mqttd.wire.errors import ProtocolViolation
from mqttd.wire.packets import Connack, Puback, Pubcomp, Publish, Pubrec, Pubrel

#: Messages handed out and not done with, above which we read no further. While we
#: wait for answers ourselves we must read; then QoS 0 is dropped above the second
#: bound, and the third, which only messages of QoS 1 and 2 reach, holds always.
BUFFER = 100
DROP_ABOVE = 900
HARD_BUFFER = 1000


class Incoming:
    """What the server has sent and nobody is done with."""

    def __init__(
        self,
        settings: ClientSettings,
        deliver: Callable[[Publish, tuple[ClientProtocol, int]], None],
        must_read: Callable[[], bool],
    ) -> None:
        """*must_read*: whether answers are awaited that only reading brings."""
        self._settings = settings
        self._deliver = deliver
        self._must_read = must_read
        self.keeping: Keeping | None = None
        self._protocol: ClientProtocol | None = None
        #: Grows when the server has lost the session.
        self._generation = 0
        #: Messages that are handed out.
        self.untaken = 0
        #: QoS 0 messages that were dropped.
        self.dropped = 0
        #: Packet ids of this connection that are handed out.
        self._open: set[int] = set()
        #: QoS 2, of the session: handed out, and done with but not released.
        self._handed: set[int] = set()
        self.finished: set[int] = set()

    def open(self, protocol: ClientProtocol, connack: Connack) -> None:
        self._protocol = protocol
        self._open.clear()
        if not connack.session_present:
            self._generation += 1
            self._handed.clear()
            if self.keeping is not None:
                for packet_id in self.finished:
                    self.keeping.let_go(packet_id)
            self.finished.clear()

    def lost(self) -> None:
        self._protocol = None

    def publish(self, packet: Publish) -> None:
        protocol = self._protocol
        assert protocol is not None
        if not packet.topic or "topic_alias" in packet.properties:
            # We have said that there shall be none [MQTT-3.1.2-26].
            raise ProtocolViolation(ReasonCode.TOPIC_ALIAS_INVALID, "a topic alias")
        if packet.qos and not self._is_new(packet):
            return
        if not packet.qos and self.untaken >= DROP_ABOVE:
            self.dropped += 1
            return
        self.untaken += 1
        self._deliver(packet, (protocol, self._generation))
        self.watch()

    def _is_new(self, packet: Publish) -> bool:
        packet_id = packet.packet_id
        if packet_id in self._open:
            return False  # sent again while we are at it
        if packet.qos == 2 and packet_id in self.finished:
            assert self._protocol is not None
            self._protocol.send(Pubrec(packet_id))
            return False
        # More than Receive Maximum is no error here: mosquitto sends more when it resumes a
        # session with a long queue, and would do so again after each farewell. What we do
        # not take, we do not read.
        self._open.add(packet_id)
        if packet.qos == 2:
            if packet_id in self._handed:
                return False  # handed out when it came by a connection of before
            self._handed.add(packet_id)
        return True

    def taken(self, received: Received, token: tuple[ClientProtocol, int]) -> None:
        """All subscriptions are done with it."""
        self.untaken -= 1
        packet_id, qos = received.packet.packet_id, received.qos
        if qos == 2 and token[1] == self._generation:
            self._handed.discard(packet_id)
            self.finished.add(packet_id)
            if self.keeping is not None:
                self.keeping.took(packet_id)
            when_kept(self.keeping, lambda: self._finish(packet_id))
        elif qos == 1 and token[0] is self._protocol:
            self._open.discard(packet_id)
            token[0].send(Puback(packet_id))
        self.watch()

    def _finish(self, packet_id: int) -> None:
        # By a connection on which it has not come the server is not owed an answer.
        if self._protocol is not None and packet_id in self._open:
            self._open.discard(packet_id)
            self._protocol.send(Pubrec(packet_id))

    def released(self, packet: Pubrel) -> None:
        """PUBREL: forget the packet id, and say so when that is safe."""
        protocol, packet_id = self._protocol, packet.packet_id
        assert protocol is not None
        reason = ReasonCode.SUCCESS
        if packet_id in self.finished:
            self.finished.discard(packet_id)
            if self.keeping is not None:
                self.keeping.let_go(packet_id)
        elif self._settings.version == MQTT5:
            reason = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
        when_kept(
            self.keeping,
            lambda: protocol.send(Pubcomp(packet_id, reason)),
        )

    def watch(self) -> None:
        """Read on, or no further, by what is not taken yet."""
        if self._protocol is None:
            return
        must_read = self._must_read()
        if self.untaken >= (HARD_BUFFER if must_read else BUFFER):
            self._protocol.pause()
        elif self.untaken <= BUFFER // 2 or must_read:
            self._protocol.resume()
