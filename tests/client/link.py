"""A network in memory between a client and a broker, or a peer that a test scripts.

``Link`` is the endpoint that a client is given. It can be cut, be down, and lead to
whatever builds server protocols. Time is the test's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from mqttd.client import Client, ClientSettings
from mqttd.testing.transport import MemoryTransport
from mqttd.testing.virtual import VirtualClock
from mqttd.wire.packets import Connack, Connect, Packet
from mqttd.wire.parser import Parser
from mqttd.wire.serializer import serialize

P = TypeVar("P")
T = TypeVar("T")

CLIENT = IPv4Address("TCP", "192.0.2.1", 50_000)
SERVER = IPv4Address("TCP", "192.0.2.254", 1883)


class End(MemoryTransport):
    """One of two that are joined: what one writes the other reads, a turn later."""

    other: End

    def _move(self) -> None:
        super()._move()
        if self._arrived:
            self._clock.callLater(0, self._carry)

    def _carry(self) -> None:
        self.other.send(self.take())

    def _end(self, ending: str, reason: Exception) -> None:
        if self.ending:
            return
        last = self.take()
        super()._end(ending, reason)
        if ending == "closed":
            self._clock.callLater(0, self._close_other, last)
        elif ending == "aborted":
            self._clock.callLater(0, self.other.drop)

    def _close_other(self, last: bytes) -> None:
        self.other.send(last)
        self.other.close()


@implementer(IStreamClientEndpoint)
class Link:
    """Leads to what *build* makes."""

    def __init__(self, clock: VirtualClock, build: Callable[[Any], Any]) -> None:
        self.clock = clock
        self.build = build
        self.down = False
        #: Attempts to connect, by their times.
        self.attempts: list[float] = []
        self.near: End | None = None

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        self.attempts.append(self.clock.seconds())
        if self.down:
            return fail(ConnectionRefusedError())
        near, far = End(self.clock, SERVER, CLIENT), End(self.clock, CLIENT, SERVER)
        near.other, far.other = far, near
        self.near = near
        for end, protocol in ((near, factory.buildProtocol(SERVER)), (far, self.build(CLIENT))):
            end.protocol = protocol
        assert near.protocol is not None
        assert far.protocol is not None
        near.protocol.makeConnection(near)
        far.protocol.makeConnection(far)
        return succeed(near.protocol)

    def cut(self) -> None:
        """The network breaks; what is on its way is lost."""
        assert self.near is not None
        self.near.drop()
        self.near.other.drop()


class Peer(Protocol):
    """A server that does what it is told and nothing else."""

    def __init__(self, version: int = 5) -> None:
        self.version = version
        self.parser = Parser(1 << 20)
        self.packets: list[Any] = []
        self.lost = False
        #: What CONNECT is answered with; None: nothing.
        self.connack: Connack | None = Connack()

    def dataReceived(self, data: bytes) -> None:
        self.parser.feed(data)
        while (packet := self.parser.next_packet()) is not None:
            self.packets.append(packet)
            if isinstance(packet, Connect) and self.connack is not None:
                self.send(self.connack)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True

    def send(self, packet: Packet) -> None:
        self.write(serialize(packet, self.version))

    def write(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data)

    def take(self, kind: type[P]) -> list[P]:
        """The packets of a kind that have come, once."""
        found = [packet for packet in self.packets if isinstance(packet, kind)]
        self.packets = [packet for packet in self.packets if not isinstance(packet, kind)]
        return found


class Peers:
    """A ``Peer`` for each connection."""

    def __init__(self, clock: VirtualClock, version: int = 5, **settings: Any) -> None:
        self.clock = clock
        self.version = version
        self.connack: Connack | None = Connack()
        self.all: list[Peer] = []
        self.link = Link(clock, self._build)
        self.client = Client(
            clock, self.link, ClientSettings(version=version, keep_alive=0, **settings)
        )

    def _build(self, address: Any) -> Peer:
        self.all.append(Peer(self.version))
        self.last.connack = self.connack
        return self.last

    @property
    def last(self) -> Peer:
        return self.all[-1]

    def advance(self, seconds: float = 0) -> None:
        self.clock.advance_through(seconds)


def result(deferred: Deferred[T]) -> list[Any]:
    """What a Deferred has fired with, or the failure's value; nothing if it has not."""
    found: list[Any] = []
    deferred.addCallbacks(found.append, lambda failure: found.append(failure.value))
    return found
