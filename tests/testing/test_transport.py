"""The in-memory transport behaves like a socket of the reactor."""

from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from mqttd.testing import MemoryTransport


class Recorder(Protocol):
    """Notes what happens to it."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def dataReceived(self, data: bytes) -> None:
        self.events.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.events.append(reason.type)

    def pauseProducing(self) -> None:
        self.events.append("pause")

    def resumeProducing(self) -> None:
        self.events.append("resume")

    def stopProducing(self) -> None:
        self.events.append("stop")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def protocol() -> Recorder:
    return Recorder()


@pytest.fixture
def transport(clock: Clock, protocol: Recorder) -> MemoryTransport:
    here, there = IPv4Address("TCP", "127.0.0.1", 1883), IPv4Address("TCP", "127.0.0.1", 5000)
    transport = MemoryTransport(clock, there, here, buffer_size=10)
    transport.protocol = protocol
    protocol.makeConnection(transport)  # type: ignore[no-untyped-call]
    return transport


def test_it_provides_what_a_tcp_transport_provides(transport: MemoryTransport) -> None:
    assert verifyObject(ITCPTransport, transport)
    assert verifyObject(IConsumer, transport)
    transport.setTcpNoDelay(True)
    assert transport.getTcpNoDelay()
    assert not transport.getTcpKeepAlive()
    assert transport.getPeer().port == 5000


def test_input_waits_while_the_server_does_not_read(
    clock: Clock, transport: MemoryTransport, protocol: Recorder
) -> None:
    transport.pauseProducing()
    assert transport.is_paused
    transport.send(b"one")
    transport.send(b"two")
    assert protocol.events == []
    transport.resumeProducing()
    clock.advance(0)
    assert protocol.events == [b"one", b"two"]


def test_one_read_has_a_limit(transport: MemoryTransport, protocol: Recorder) -> None:
    transport.send(bytes(100_000))
    assert [len(data) for data in protocol.events if isinstance(data, bytes)] == [65_536, 34_464]


def test_a_streaming_producer_is_paused_until_all_is_taken(
    transport: MemoryTransport, protocol: Recorder
) -> None:
    transport.registerProducer(protocol, True)
    transport.write(bytes(100))
    assert protocol.events == []  # the client reads
    transport.stop_reading()
    transport.write(bytes(10))
    assert protocol.events == []
    transport.write(b"x")
    transport.write(b"x")
    assert protocol.events == ["pause"]
    assert transport.waiting == 12
    transport.start_reading()
    assert protocol.events == ["pause", "resume"]
    assert len(transport.take()) == 112


def test_close_waits_for_the_output_and_drops_later_input(
    clock: Clock, transport: MemoryTransport, protocol: Recorder
) -> None:
    transport.stop_reading()
    transport.write(b"farewell")
    transport.loseConnection()
    transport.write(b"too late")
    transport.send(b"too late")
    clock.advance(100)
    assert transport.ending == ""
    transport.start_reading()
    assert transport.ending == "closed"
    assert protocol.events == []  # in a later turn
    clock.advance(0)
    assert protocol.events == [ConnectionDone]
    assert transport.take() == b"farewell"


def test_abort_drops_the_output(
    clock: Clock, transport: MemoryTransport, protocol: Recorder
) -> None:
    transport.stop_reading()
    transport.write(b"lost")
    transport.abortConnection()
    transport.start_reading()
    clock.advance(0)
    assert transport.ending == "aborted"
    assert transport.take() == b""
    assert protocol.events == [ConnectionAborted]


@pytest.mark.parametrize(("act", "reason"), [("close", ConnectionDone), ("drop", ConnectionLost)])
def test_the_client_ends_it(
    clock: Clock, transport: MemoryTransport, protocol: Recorder, act: str, reason: type
) -> None:
    transport.registerProducer(protocol, True)
    getattr(transport, act)()
    getattr(transport, act)()
    transport.write(b"to nobody")
    clock.advance(0)
    assert transport.ending == "by client"
    assert protocol.events == ["stop", reason]
    assert clock.getDelayedCalls() == []


def test_text_is_not_bytes(transport: MemoryTransport) -> None:
    with pytest.raises(TypeError, match="str"):
        transport.write("text")  # type: ignore[arg-type]
