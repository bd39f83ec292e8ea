"""Messages from a client to the server: the queue, the window, packet ids.

``Client`` adds messages, says when a connection opens, and passes on PUBACK, PUBREC
and PUBCOMP. A message has no packet id before it is first sent, and keeps it until the
exchange is over, across connections as long as the server keeps the session (MQTT 5.0
section 4.4). Where the server has lost the session, what was not acknowledged is sent
anew: nothing is lost, and a message of QoS 2 may then come twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container
from math import ceil
from typing import cast

from attrs import define, evolve, field
from twisted.internet.defer import Deferred

from mqttd.client.keeping import Keeping, when_kept
from mqttd.client.protocol import ClientProtocol
from mqttd.client.settings import ClientSettings
from mqttd.messaging import ClientClosed, OutgoingFull, Refused
from mqttd.wire.codes import ReasonCode
from mqttd.wire.packet_ids import PacketIds
from mqttd.wire.packets import Connack, Properties, Publish, Pubrel
from mqttd.wire.serializer import serialize

#: What a message costs beside its topic, properties and payload; bytes.
OVERHEAD = 100


class MessageExpired(Exception):
    """A message was not sent within its Message Expiry Interval."""


@define(eq=False)
class Sending:
    """A message on its way."""

    packet: Publish
    size: int
    #: By the client's clock; None: never.
    expires_at: float | None = None
    #: Its number in the store; 0: it is not there.
    seq: int = 0
    #: PUBREC has come.
    released: bool = False
    answer: Deferred[int] = field(factory=Deferred)


@define
class Limits:
    """What the server takes, by its CONNACK."""

    inflight: int
    qos: int = 2
    retain: bool = True
    packet_size: int = 268_435_460


class Outgoing:
    """All messages of one client that are not acknowledged."""

    def __init__(
        self, settings: ClientSettings, seconds: Callable[[], float], used: Container[int]
    ) -> None:
        """*used*: packet ids of SUBSCRIBE and UNSUBSCRIBE."""
        self._settings = settings
        self._seconds = seconds
        self._used = used
        self._packet_ids = PacketIds()
        self.keeping: Keeping | None = None
        #: True until what the store holds is here.
        self.held = False
        self._waiting: deque[Sending] = deque()
        #: Packet id -> message, in the order of first sending.
        self.inflight: dict[int, Sending] = {}
        #: Those of ``inflight`` that are to be sent again on this connection.
        self._again: deque[int] = deque()
        #: Packet ids that were sent on this connection.
        self._sent: set[int] = set()
        self.bytes = 0
        self._protocol: ClientProtocol | None = None
        self._limits = Limits(settings.maximum_inflight)
        self._pumping = False
        self._room: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self.inflight)

    # --- for programs --------------------------------------------------------------------

    def add(self, packet: Publish) -> Deferred[int]:
        """Send it as soon as may be; see ``Client.publish``."""
        size = len(packet.topic) + len(packet.payload) + len(packet.passthrough) + OVERHEAD
        if self._is_full(size):
            raise OutgoingFull(f"{len(self)} messages of {self.bytes} bytes wait already")
        sending = Sending(packet, size)
        lifetime = packet.properties.get("message_expiry_interval")
        if lifetime is not None:
            sending.expires_at = self._seconds() + lifetime
        if self.keeping is not None and packet.qos:
            self.keeping.check()
            sending.seq = self.keeping.add(packet, size, lifetime)
        self.bytes += size
        self._waiting.append(sending)
        self.pump()
        return sending.answer

    def _is_full(self, size: int) -> bool:
        settings = self._settings
        if not len(self):
            return False
        return (
            len(self) >= settings.maximum_queued
            or self.bytes + size > settings.maximum_queued_bytes
        )

    def room(self) -> Deferred[None]:
        """Fires when half of the queue is free."""
        waiting: Deferred[None] = Deferred()
        self._room.append(waiting)
        self._tell_room()
        return waiting

    def _tell_room(self) -> None:
        settings = self._settings
        if self._room and (
            2 * len(self) <= settings.maximum_queued
            and 2 * self.bytes <= settings.maximum_queued_bytes
        ):
            ready, self._room = self._room, []
            for each in ready:
                each.callback(None)

    # --- life of the client --------------------------------------------------------------

    def restore(self, rows: list[tuple[int, Publish, bool, float | None]]) -> None:
        """Take up what the store held; it comes before all that was added since."""
        waiting = []
        for seq, packet, released, left in rows:
            size = len(packet.topic) + len(packet.payload) + len(packet.passthrough) + OVERHEAD
            expires_at = None if left is None else self._seconds() + left
            sending = Sending(packet, size, expires_at, seq, released)
            # Nobody of this run of the program waits for it.
            sending.answer.addErrback(lambda failure: None)
            self.bytes += size
            if packet.packet_id:
                self.inflight[packet.packet_id] = sending
            else:
                waiting.append(sending)
        self._waiting.extendleft(reversed(waiting))
        self.held = False
        self.pump()

    def open(self, protocol: ClientProtocol, connack: Connack) -> None:
        """There is a connection, and this is what it allows."""
        properties = connack.properties
        self._limits = Limits(
            min(self._settings.maximum_inflight, properties.get("receive_maximum", 65_535)),
            properties.get("maximum_qos", 2),
            bool(properties.get("retain_available", 1)),
            properties.get("maximum_packet_size", 268_435_460),
        )
        self._protocol = protocol
        self._sent.clear()
        if connack.session_present:
            self._again = deque(self.inflight)
        else:
            self._begin_anew()
        self.pump()

    def _begin_anew(self) -> None:
        """The server knows nothing of packet ids of before."""
        self._again.clear()
        before, self.inflight = self.inflight, {}
        for sending in reversed(before.values()):
            if sending.released:
                self._finish(sending, ReasonCode.SUCCESS)
                continue
            sending.packet.packet_id = 0
            sending.packet.dup = False
            if self.keeping is not None and sending.seq:
                self.keeping.sent(sending.seq, sending.packet)
            self._waiting.appendleft(sending)

    def lost(self) -> None:
        """The connection is over."""
        self._protocol = None

    def close(self, error: ClientClosed) -> None:
        """The client ends; what the store has stays there."""
        self._protocol = None
        left = [*self.inflight.values(), *self._waiting]
        self.inflight.clear()
        self._waiting.clear()
        self._again.clear()
        self.bytes = 0
        room, self._room = self._room, []
        for sending in left:
            if not sending.answer.called:
                sending.answer.errback(error)
        for each in room:
            each.errback(error)

    # --- sending ---------------------------------------------------------------------------

    def pump(self) -> None:
        """Send what the window and the network take."""
        if self._pumping or self.held:
            return
        self._pumping = True
        try:
            while (protocol := self._protocol) is not None and protocol.is_open:
                if not protocol.writable or not self._send_next(protocol):
                    break
        finally:
            self._pumping = False

    def _send_next(self, protocol: ClientProtocol) -> bool:
        full = len(self._sent) >= self._limits.inflight
        if self._again:
            if full and not self.inflight[self._again[0]].released:
                return False
            self._send_again(protocol, self._again.popleft())
            return True
        if not self._waiting or (full and self._waiting[0].packet.qos):
            return False
        sending = self._waiting.popleft()
        error = self._objection(sending)
        if error is not None:
            self._finish(sending, error)
        elif sending.packet.qos:
            self._send_numbered(protocol, sending)
        else:
            protocol.send(self._now(sending))
            self._finish(sending, ReasonCode.SUCCESS)
        return True

    def _objection(self, sending: Sending) -> Exception | None:
        packet, limits = sending.packet, self._limits
        if sending.expires_at is not None and sending.expires_at <= self._seconds():
            return MessageExpired(f"the message on {packet.topic!r} has expired")
        if packet.qos > limits.qos:
            return Refused(
                ReasonCode.QOS_NOT_SUPPORTED, f"the server takes QoS {limits.qos} at most"
            )
        if packet.retain and not limits.retain:
            return Refused(ReasonCode.RETAIN_NOT_SUPPORTED, "the server retains no messages")
        # Only what may be too large is measured.
        if sending.size + 65_535 > limits.packet_size:
            try:
                size = len(serialize(self._now(sending), self._settings.version))
            except ValueError:
                size = limits.packet_size + 1
            if size > limits.packet_size:
                text = f"the server takes packets of {limits.packet_size} bytes at most"
                return Refused(ReasonCode.PACKET_TOO_LARGE, text)
        return None

    def _now(self, sending: Sending) -> Publish:
        """The packet with what is left of its time."""
        packet = sending.packet
        if sending.expires_at is None:
            return packet
        properties = cast(Properties, dict(packet.properties))
        properties["message_expiry_interval"] = max(0, ceil(sending.expires_at - self._seconds()))
        return evolve(packet, properties=properties)

    def _send_numbered(self, protocol: ClientProtocol, sending: Sending) -> None:
        packet = sending.packet
        packet_id = self.next_packet_id()
        packet.packet_id = packet_id
        self.inflight[packet_id] = sending
        self._sent.add(packet_id)
        if self.keeping is not None and sending.seq:
            self.keeping.sent(sending.seq, packet)
        if packet.qos == 2:
            # Sent again after a crash it must have the same packet id.
            now = self._now(sending)
            when_kept(self.keeping, lambda: protocol.send(now))
        else:
            protocol.send(self._now(sending))

    def next_packet_id(self) -> int:
        """One that no packet of ours has."""
        while True:
            packet_id = self._packet_ids.next(self._used)
            if packet_id not in self.inflight:
                return packet_id

    def _send_again(self, protocol: ClientProtocol, packet_id: int) -> None:
        sending = self.inflight.get(packet_id)
        if sending is None:
            return
        self._sent.add(packet_id)
        if sending.released:
            protocol.send(Pubrel(packet_id))
        else:
            sending.packet.dup = True  # [MQTT-3.3.1-1] [MQTT311-3.3.1-1]
            protocol.send(self._now(sending))

    # --- answers -----------------------------------------------------------------------------

    def acknowledged(self, packet_id: int, reason: int, properties: Properties, qos: int) -> None:
        """PUBACK, PUBCOMP, or a PUBREC that refuses; an unknown packet id is let pass."""
        sending = self.inflight.get(packet_id)
        if sending is None or sending.packet.qos != qos or packet_id not in self._sent:
            return
        del self.inflight[packet_id]
        self._sent.discard(packet_id)
        if reason >= 0x80 and not sending.released:
            text = properties.get("reason_string", "the server refused the message")
            self._finish(sending, Refused(reason, text))
        else:
            self._finish(sending, reason)
        self.pump()

    def received(self, packet_id: int) -> None:
        """PUBREC: release the packet id."""
        sending = self.inflight.get(packet_id)
        protocol = self._protocol
        if protocol is None:
            return
        if sending is None or sending.packet.qos != 2 or packet_id not in self._sent:
            # [MQTT-4.3.3-4]: it is answered whatever it was.
            protocol.send(Pubrel(packet_id, self._unknown_id))
            return
        if not sending.released:
            sending.released = True
            if self.keeping is not None and sending.seq:
                self.keeping.released(sending.seq, sending.packet)
        when_kept(
            self.keeping,
            lambda: protocol.send(Pubrel(packet_id)),
        )

    @property
    def _unknown_id(self) -> int:
        # The serializer leaves it out below 5.0.
        return ReasonCode.PACKET_IDENTIFIER_NOT_FOUND

    def _finish(self, sending: Sending, result: int | Exception) -> None:
        self.bytes -= sending.size
        if self.keeping is not None and sending.seq:
            self.keeping.done(sending.seq)
        if not sending.answer.called:
            if isinstance(result, Exception):
                sending.answer.errback(result)
            else:
                sending.answer.callback(result)
        self._tell_room()
