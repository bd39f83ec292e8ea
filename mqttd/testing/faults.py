"""A broker that misbehaves as a test tells it to.

``Faults`` is a list of things to go wrong: acknowledgements that are late, lost, sent
twice or negative, bytes that are no MQTT, connections that die at a certain packet.
``attach`` puts it between the broker and the network of a listener's factory; the broker
itself stays right, and what it does not say goes wrong on the way. Each fault is
used up by as many packets as it was made for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from attrs import define, frozen
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from mqttd.interfaces import Peer
from mqttd.net.factory import MQTTFactory
from mqttd.net.protocol import MQTTProtocol
from mqttd.wire.codes import MAXIMUM_REMAINING_LENGTH, PacketType, ReasonCode
from mqttd.wire.packets import Connack, Packet, Properties
from mqttd.wire.parser import Parser
from mqttd.wire.serializer import serialize

#: Bytes that no MQTT peer may send: packet type 0, and a length without an end.
GARBAGE = b"\x00\xff\xff\xff\xff\xff"

#: What is done to one frame on its way to the client: it gets the connection and the
#: frame, and writes what shall go out.
Action = Callable[["FaultyProtocol", bytes], None]


@define
class Fault:
    """One thing to go wrong."""

    #: Type of the packets from the broker that it is for; None: any.
    packet_type: PacketType | None
    action: Action
    #: How many packets go wrong, after how many that do not.
    times: int = 1
    after: int = 0
    client_id: str | None = None

    def takes(self, packet_type: int, client_id: str) -> bool:
        """Whether this packet goes wrong; counts it."""
        if not self.times or self.packet_type not in (None, packet_type):
            return False
        if self.client_id not in (None, client_id):
            return False
        if self.after:
            self.after -= 1
            return False
        self.times -= 1
        return True


@frozen
class Seen:
    """A packet that went by: to or from the client."""

    client_id: str
    sent: bool
    packet_type: PacketType


class Faults:
    """What is to go wrong, and what has gone by.

    *packet* is a class of ``mqttd.wire.packets`` (``Puback``), of what the broker sends.
    Everywhere *times* packets go wrong, after *after* that do not, for all clients or
    for *client_id*.
    """

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._killed_at: dict[str | None, int] = {}
        #: The packets that went by, in order, whether or not they got through.
        self.seen: list[Seen] = []

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self._faults.clear()
        self._killed_at.clear()

    @property
    def pending(self) -> int:
        """How many packets are still to go wrong."""
        return sum(fault.times for fault in self._faults) + len(self._killed_at)

    # --- faults -----------------------------------------------------------------------

    def drop(self, packet: type[Packet], times: int = 1, **more: Any) -> None:
        """The client never gets it."""
        self._add(packet, lambda connection, frame: None, times, more)

    def delay(self, packet: type[Packet], seconds: float, times: int = 1, **more: Any) -> None:
        """The client gets it later; what follows overtakes it."""

        def action(connection: FaultyProtocol, frame: bytes) -> None:
            connection.write_later(seconds, frame)

        self._add(packet, action, times, more)

    def duplicate(self, packet: type[Packet], times: int = 1, **more: Any) -> None:
        """The client gets it twice."""
        self._add(packet, lambda connection, frame: connection.pass_on(frame * 2), times, more)

    def answer(self, packet: type[Packet], reason: int, times: int = 1, **more: Any) -> None:
        """The client gets it with this reason code (SUBACK: for every filter).

        A CONNACK that says no is followed by the end of the connection. Properties of the
        packet may be given by name.
        """
        options: dict[str, Any] = {}
        for name in ("after", "client_id"):
            if name in more:
                options[name] = more.pop(name)

        def action(connection: FaultyProtocol, frame: bytes) -> None:
            changed = _with_reason(connection, frame, reason, more)
            connection.pass_on(serialize(changed, connection.version))
            if isinstance(changed, Connack) and reason:
                connection.close()

        self._add(packet, action, times, options)

    def quota_exceeded(self, packet: type[Packet], times: int = 1, **more: Any) -> None:
        """``answer`` with 0x97, quota exceeded."""
        self.answer(packet, ReasonCode.QUOTA_EXCEEDED, times, **more)

    def redirect(self, server: str, times: int = 1) -> None:
        """CONNECT is answered with 0x9C, use another server: *server*."""
        reason = ReasonCode.USE_ANOTHER_SERVER
        self.answer(Connack, reason, times, server_reference=server)

    def send_instead(
        self, packet: type[Packet], data: bytes = GARBAGE, times: int = 1, **more: Any
    ) -> None:
        """The client gets these bytes in place of it."""
        self._add(packet, lambda connection, frame: connection.pass_on(data), times, more)

    def cut(self, packet: type[Packet], times: int = 1, **more: Any) -> None:
        """The connection dies where the client would have got it."""
        self._add(packet, lambda connection, frame: connection.abort(), times, more)

    def cut_short(self, packet: type[Packet], size: int = 1, times: int = 1, **more: Any) -> None:
        """The client gets its first *size* bytes, and the connection dies."""

        def action(connection: FaultyProtocol, frame: bytes) -> None:
            connection.pass_on(frame[:size])
            connection.flush_all()
            connection.write_later(0, b"", connection.abort)

        self._add(packet, action, times, more)

    def fall_silent(self, client_id: str | None = None) -> None:
        """Nothing reaches the client any more; the connection stays open."""
        nothing: Action = lambda connection, frame: None  # noqa: E731
        self._faults.append(Fault(None, nothing, 1_000_000_000, 0, client_id))

    def kill_at(self, number: int, client_id: str | None = None) -> None:
        """The next connection dies when its packet *number* comes, which is not handled;
        CONNECT is number 1."""
        self._killed_at[client_id] = number

    def _add(self, packet: type[Packet], action: Action, times: int, more: dict[str, Any]) -> None:
        self._faults.append(Fault(packet.type, action, times, **more))

    # --- for the connections ------------------------------------------------------------

    def on_the_way(self, packet_type: int, client_id: str) -> Action | None:
        """What becomes of a packet to the client."""
        self.seen.append(Seen(client_id, True, PacketType(packet_type)))
        for fault in self._faults:
            if fault.takes(packet_type, client_id):
                if not fault.times:
                    self._faults.remove(fault)
                return fault.action
        return None

    def kills(self, packet_type: int, client_id: str, number: int) -> bool:
        """Whether packet *number* from the client is the connection's last."""
        self.seen.append(Seen(client_id, False, PacketType(packet_type)))
        for who in (client_id, None):
            if self._killed_at.get(who) == number:
                del self._killed_at[who]
                return True
        return False


def _with_reason(
    connection: FaultyProtocol, frame: bytes, reason: int, properties: dict[str, Any]
) -> Packet:
    parser = Parser(MAXIMUM_REMAINING_LENGTH + 5, server_side=False)
    parser.version = connection.version
    parser.feed(frame)
    packet: Any = parser.next_packet()
    if hasattr(packet, "reasons"):
        packet.reasons = [reason] * len(packet.reasons)
    elif hasattr(packet, "reason"):
        packet.reason = reason
    else:
        raise TypeError(f"{type(packet).__name__} has no reason code")
    if properties:
        packet.properties = cast(Properties, properties)
    if isinstance(packet, Connack) and reason:
        packet.session_present = False
    return packet  # type: ignore[no-any-return]


class FaultyProtocol(MQTTProtocol):
    """A connection whose packets go by ``Faults`` one by one."""

    def __init__(self, factory: MQTTFactory, peer: Peer, *, faults: Faults) -> None:
        super().__init__(factory, peer)
        self._faults = faults
        self._came = b""
        #: What comes is no MQTT: the broker's own parser is to judge it.
        self._raw = False
        self._number = 0
        self._calls: set[IDelayedCall] = set()

    @property
    def client_id(self) -> str:
        return self.connection.client_id

    def write(self, data: bytes) -> None:
        frames, rest, _ = split_frames(data)
        assert not rest
        for frame in frames:
            action = self._faults.on_the_way(frame[0] >> 4, self.client_id)
            if action is None:
                self.pass_on(frame)
            else:
                action(self, frame)

    def write_now(self, data: bytes, came: bytes = b"", seconds: float = 0.0) -> None:
        self.write_in_order(data, came, seconds)

    def pass_on(self, data: bytes) -> None:
        """Write *data* as it is."""
        super().write(data)

    def write_later(
        self, seconds: float, data: bytes, then: Callable[[], None] = lambda: None
    ) -> None:
        """Write *data* after *seconds*, if there is still a connection."""

        def write() -> None:
            self._calls.discard(call)
            if data:
                self.pass_on(data)
            then()

        call = self.factory.broker.clock.callLater(seconds, write)
        self._calls.add(call)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        for call in self._calls:
            call.cancel()
        self._calls.clear()
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        if self._raw:
            super().dataReceived(data)
            return
        frames, self._came, self._raw = split_frames(self._came + data)
        for frame in frames:
            self._number += 1
            packet_type = frame[0] >> 4
            if self._faults.kills(packet_type, self.client_id, self._number):
                self.abort()
                return
            super().dataReceived(frame)
        if self._raw:
            super().dataReceived(self._came)


def split_frames(data: bytes) -> tuple[list[bytes], bytes, bool]:
    """The whole packets in *data*, what is left behind them, and whether that can be
    no packet."""
    frames: list[bytes] = []
    start = 0
    while start + 2 <= len(data):
        length = shift = 0
        position = start + 1
        while position < len(data):
            byte = data[position]
            length |= (byte & 0x7F) << shift
            position += 1
            shift += 7
            if byte < 0x80 or shift > 21:
                break
        else:
            break
        if byte >= 0x80 or not data[start] >> 4:
            return frames, data[start:], True
        end = position + length
        if end > len(data):
            break
        frames.append(data[start:end])
        start = end
    return frames, data[start:], False


def attach(factory: MQTTFactory, faults: Faults) -> None:
    """Let *faults* have every packet of the connections that *factory* makes."""
    factory.build = partial(FaultyProtocol, faults=faults)
