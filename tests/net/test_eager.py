"""The eager transport: what it sends at once, and where Twisted's own way goes on."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from attrs import evolve
from twisted.internet import reactor, tcp, threads
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from mqttd.net import eager as module
from mqttd.net.eager import EagerServer, make_eager
from mqttd.net.protocol import MQTTProtocol
from mqttd.settings import TLSSettings
from tests.certificates import Authority

from .sockets import CONNACK, CONNECT, OnSockets, answer, open_socket


class Socket:
    """A socket of which each ``send`` takes what it is told to, or fails."""

    def __init__(self, *answers: int | OSError) -> None:
        self._answers = list(answers)
        self.sent: list[bytes] = []

    def setblocking(self, blocking: bool) -> None:
        pass

    def fileno(self) -> int:
        return 99

    def send(self, data: Any) -> int:
        answer = self._answers.pop(0) if self._answers else len(data)
        if isinstance(answer, OSError):
            raise answer
        answer = min(answer, len(data))
        self.sent.append(bytes(data[:answer]))
        return answer


class Poller:
    """As much of a reactor as a transport needs: who wants to read and write."""

    def __init__(self) -> None:
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.addReader, self.removeReader = self.readers.add, self.readers.discard
        self.addWriter, self.removeWriter = self.writers.add, self.writers.discard

    def callLater(self, delay: float, call: Any, *arguments: Any) -> None:
        pass


def transport(net: Socket) -> Any:
    arguments: tuple[Any, ...] = (net, Protocol(), ("192.0.2.1", 1), None, 0, Poller())
    return EagerServer(*arguments)


def wants_to_write(eager: Any) -> bool:
    poller: Poller = eager.reactor
    return eager in poller.writers


@implementer(IPushProducer, IPullProducer)
class Producer:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


def test_what_nothing_waits_before_is_sent_at_once() -> None:
    net = Socket()
    eager = transport(net)
    eager.write(b"one")
    eager.write(b"two")
    assert net.sent == [b"one", b"two"]
    assert not wants_to_write(eager)


@pytest.mark.parametrize("taken", [1, 4])
def test_what_the_socket_does_not_take_follows_in_order(taken: int) -> None:
    net = Socket(taken)
    eager = transport(net)
    eager.write(b"first")
    eager.write(b"second")
    assert net.sent == [b"first"[:taken]]
    assert wants_to_write(eager)
    eager.doWrite()
    assert b"".join(net.sent) == b"firstsecond"
    assert not wants_to_write(eager)
    eager.write(b"third")
    assert net.sent[-1] == b"third"


def test_nothing_overtakes_what_is_half_sent() -> None:
    net = Socket(2, 1)
    eager = transport(net)
    eager.write(b"first")
    eager.doWrite()
    eager.write(b"second")
    assert net.sent == [b"fi", b"r"]
    eager.doWrite()
    assert b"".join(net.sent) == b"firstsecond"


def test_nothing_goes_past_a_tls_that_was_begun_on_it() -> None:
    class Layer(Protocol):
        written = b""

        def write(self, data: bytes) -> None:
            self.written += data

    net = Socket()
    eager = transport(net)
    eager.TLS, eager.protocol = True, Layer()
    eager.write(b"secret")
    assert net.sent == []
    assert eager.protocol.written == b"secret"


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOBUFS])
def test_a_full_socket_is_tried_again_when_it_is_writable(number: int) -> None:
    net = Socket(OSError(number, "full"))
    eager = transport(net)
    eager.write(b"data")
    assert net.sent == []
    assert wants_to_write(eager)
    assert eager.doWrite() is None
    assert net.sent == [b"data"]


def test_a_broken_socket_is_reported_where_twisted_reports_it() -> None:
    broken = OSError(errno.EPIPE, "broken")
    eager = transport(Socket(broken, broken))
    eager.write(b"data")
    assert isinstance(eager.doWrite(), Exception)


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (b"", CONNECTION_DONE),
        (ConnectionResetError(errno.ECONNRESET, "reset"), CONNECTION_LOST),
        (BlockingIOError(errno.EAGAIN, "nothing there"), None),
        (b"data", None),
    ],
)
def test_it_reads_as_twisted_does(read: bytes | OSError, reason: Exception | None) -> None:
    class Reader(Protocol):
        got = b""

        def dataReceived(self, data: bytes) -> None:
            self.got += data

    def recv(size: int) -> bytes:
        assert size == tcp.Server.bufferSize
        if isinstance(read, OSError):
            raise read
        return read

    net: Any = Socket()
    net.recv = recv
    for kind in (EagerServer, tcp.Server):
        reader: Any = Reader()
        arguments: tuple[Any, ...] = (net, reader, ("192.0.2.1", 1), None, 0, Poller())
        server = kind(*arguments)
        assert server.doRead() is reason
        assert reader.got == (read if isinstance(read, bytes) else b"")


class Closing(Protocol):
    """Closes when it has read something."""

    transport: Any
    last = b""
    abort = False

    def dataReceived(self, data: bytes) -> None:
        self.transport.loseConnection()
        if self.abort:
            self.transport.abortConnection()
        if self.last:
            self.transport.write(self.last)


def closing(net: Any, **fields: Any) -> Any:
    protocol = Closing()
    vars(protocol).update(fields)
    net.recv = lambda size: b"bye"
    arguments: tuple[Any, ...] = (net, protocol, ("192.0.2.1", 1), None, 0, Poller())
    eager = EagerServer(*arguments)
    protocol.makeConnection(eager)  # type: ignore[no-untyped-call]
    return eager


def test_a_close_in_a_read_with_nothing_to_send_needs_no_turn() -> None:
    eager = closing(Socket())
    assert eager.doRead() is CONNECTION_DONE
    assert not wants_to_write(eager)


def test_what_is_written_after_the_close_was_asked_for_still_goes_out() -> None:
    net = Socket()
    assert closing(net, last=b"farewell").doRead() is CONNECTION_DONE
    assert net.sent == [b"farewell"]


def test_a_close_waits_for_what_the_socket_did_not_take() -> None:
    net = Socket(3)
    eager = closing(net, last=b"farewell")
    assert eager.doRead() is None
    assert wants_to_write(eager)
    assert eager.doWrite() is CONNECTION_DONE
    assert b"".join(net.sent) == b"farewell"


def test_a_close_waits_for_what_waited_before() -> None:
    net = Socket(3)
    eager = closing(net)
    eager.write(b"earlier")
    assert eager.doRead() is None
    assert eager.doWrite() is CONNECTION_DONE
    assert b"".join(net.sent) == b"earlier"


def test_an_abort_after_a_close_stays_an_abort() -> None:
    eager = closing(Socket(), abort=True)
    assert eager.doRead() is None
    assert eager._aborting


def test_a_close_outside_of_a_read_is_twisteds() -> None:
    eager = closing(Socket())
    eager.loseConnection()
    assert wants_to_write(eager)
    assert eager.doWrite() is CONNECTION_DONE


def test_what_is_too_large_for_one_send_goes_on_with_twisted() -> None:
    net = Socket()
    eager = transport(net)
    data = os.urandom(3 * EagerServer.SEND_LIMIT)
    eager.write(data)
    assert wants_to_write(eager)
    while wants_to_write(eager):
        eager.doWrite()
    assert b"".join(net.sent) == data


def test_only_bytes_are_taken() -> None:
    with pytest.raises(TypeError):
        transport(Socket()).write("text")


def test_nothing_is_sent_for_nothing() -> None:
    net = Socket()
    eager = transport(net)
    eager.write(b"")
    assert net.sent == []
    assert not wants_to_write(eager)


def test_nothing_is_sent_after_the_end() -> None:
    net = Socket()
    eager = transport(net)
    eager.connected = 0
    eager.write(b"late")
    assert net.sent == []


def test_a_producer_is_paused_above_the_limit_and_resumed_when_all_is_sent() -> None:
    net = Socket(10)
    eager = transport(net)
    producer = Producer()
    eager.registerProducer(producer, True)
    eager.write(bytes(eager.bufferSize + 11))
    assert producer.calls == ["pause"]
    eager.doWrite()
    assert producer.calls == ["pause", "resume"]
    eager.write(b"small")
    assert producer.calls == ["pause", "resume"]


def test_a_producer_that_is_asked_for_each_piece_is_asked() -> None:
    eager = transport(Socket())
    producer = Producer()
    eager.registerProducer(producer, False)
    eager.write(b"piece")
    assert wants_to_write(eager)
    eager.doWrite()
    assert producer.calls == ["resume", "resume"]


def test_a_close_comes_after_what_was_written() -> None:
    net = Socket(2)
    eager = transport(net)
    eager.write(b"farewell")
    eager.loseConnection()
    assert eager.doWrite() is not None
    assert b"".join(net.sent) == b"farewell"


def test_only_plain_tcp_ports_are_made_eager() -> None:
    class Port:
        transport: type = tcp.Server

        def doRead(self) -> None:
            pass

    class Other:
        transport = "something else"

    port, other = Port(), Other()
    make_eager(port)
    make_eager(other)
    make_eager(object())
    assert isinstance(port.transport, partial)
    assert port.transport.func is EagerServer
    assert other.transport == "something else"


def test_it_has_all_that_twisted_gives_its_own() -> None:
    net: Any = Socket()
    server: Any = None
    poller: Any = Poller()
    for client in (("192.0.2.1", 1), ("2001:db8::1", 1, 0, 0)):
        theirs: Any = tcp.Server(net, Protocol(), client, server, 0, poller)
        ours: Any = EagerServer(net, Protocol(), client, server, 0, poller)
        # The names for the log, which are made when they are asked for.
        for name in vars(theirs).keys() - {"hostname", "logstr", "repstr"}:
            assert type(getattr(ours, name)) is type(getattr(theirs, name)), name
        assert ours.getPeer() == theirs.getPeer()
        assert ours.logPrefix() == theirs.logPrefix()
        assert client[0] in repr(ours)


# --- accepting --------------------------------------------------------------------------


class Backlog:
    """A socket that listens: each ``accept`` brings one more pair, or an error."""

    def __init__(self, *errors: OSError) -> None:
        self._errors = list(errors)
        self.others: list[socket.socket] = []

    def _accept(self) -> tuple[int, tuple[str, int]]:
        if self._errors:
            raise self._errors.pop(0)
        ours, theirs = socket.socketpair()
        self.others.append(theirs)
        return ours.detach(), ("192.0.2.1", len(self.others))


class Acceptor:
    """As much of a port as is needed to accept."""

    addressFamily, socketType = socket.AF_UNIX, socket.SOCK_STREAM
    transport: Any = tcp.Server
    sessionno = 0

    def __init__(self, factory: Any, *errors: OSError) -> None:
        self.factory = factory
        self.reactor = Poller()
        self.socket = Backlog(*errors)
        self.numberAccepts = 3
        self.troubles = 0
        self._buildAddr: Callable[[Any], Any] = lambda address: IPv4Address("TCP", *address)

    def doRead(self) -> None:
        self.troubles += 1


class Builder:
    """Builds what it is told to; raises what is an error."""

    def __init__(self, *built: Any) -> None:
        self._built = list(built)
        self.addresses: list[Any] = []

    def buildProtocol(self, address: Any) -> Any:
        self.addresses.append(address)
        built = self._built.pop(0)
        if isinstance(built, Exception):
            raise built
        return built


def is_closed(stream: socket.socket) -> bool:
    stream.setblocking(False)
    try:
        return stream.recv(1) == b""
    except BlockingIOError:
        return False


def test_a_port_accepts_as_many_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(module.log, "failure", logged.append)
    first, last = Protocol(), Protocol()
    factory = Builder(first, None, ValueError("ours"), last)
    port = Acceptor(factory)
    make_eager(port)
    port.doRead()
    assert factory.addresses == [IPv4Address("TCP", "192.0.2.1", number) for number in (1, 2, 3)]
    # Neither one that is refused nor one that fails has to do with another.
    assert [is_closed(stream) for stream in port.socket.others] == [False, True, True]
    assert len(logged) == 1
    port.numberAccepts = 1
    port.doRead()
    transports: list[Any] = [first.transport, last.transport]
    assert [transport.sessionno for transport in transports] == [0, 1]
    for transport in transports:
        assert isinstance(transport, EagerServer)
        assert transport in port.reactor.readers
        transport.connectionLost(Failure(CONNECTION_DONE))
    assert not port.troubles
    for stream in port.socket.others:
        stream.close()


class Breaking(Protocol):
    """Fails where its connection begins."""

    seen: Failure | None = None

    def makeConnection(self, transport: Any) -> None:
        raise ValueError("ours")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.seen = reason


def test_a_connection_that_fails_as_it_begins_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(module.log, "failure", logged.append)
    broken, other = Breaking(), Protocol()
    port = Acceptor(Builder(broken, other))
    clock: Any = Clock()
    monkeypatch.setattr(port.reactor, "callLater", clock.callLater, raising=False)
    port.numberAccepts = 2
    make_eager(port)
    port.doRead()
    assert len(logged) == 1
    clock.advance(0)
    assert broken.seen is not None
    assert broken.seen.check(ConnectionAborted)
    assert other.connected
    gone, alive = port.socket.others
    assert [is_closed(stream) for stream in (gone, alive)] == [True, False]
    other.transport.connectionLost(Failure(CONNECTION_DONE))  # type: ignore[union-attr]
    for stream in (gone, alive):
        stream.close()


@pytest.mark.parametrize(
    ("error", "troubles"), [(BlockingIOError(), 0), (OSError(errno.EMFILE, "too many"), 1)]
)
def test_twisted_sees_to_what_is_wrong_with_accepting(error: OSError, troubles: int) -> None:
    factory = Builder()
    port = Acceptor(factory, error)
    make_eager(port)
    port.doRead()
    assert port.troubles == troubles
    assert not factory.addresses


# --- on real sockets ------------------------------------------------------------------


class Source(Protocol):
    """Sends *pieces* and closes."""

    pieces: tuple[bytes, ...] = ()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        # So small that most pieces are taken in part.
        transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
        for piece in self.pieces:
            transport.write(piece)
        transport.loseConnection()


def read_slowly(address: tuple[str, int]) -> str:
    digest = hashlib.sha256()
    with open_socket(address) as stream:
        while piece := stream.recv(50_000):
            digest.update(piece)
            time.sleep(0.0002)
    return digest.hexdigest()


class SlowReader(TestCase):
    async def test_it_gets_everything_in_order(self) -> None:
        pieces = tuple(os.urandom(size) for size in (1, 70_000, 5, 400_000, 0, 130_000, 3) * 3)
        factory = ServerFactory()
        factory.protocol = type("Pieces", (Source,), {"pieces": pieces})
        factory.noisy = False
        net: Any = reactor
        port = net.listenTCP(0, factory, interface="127.0.0.1")
        make_eager(port)
        self.addCleanup(port.stopListening)
        found = await threads.deferToThread(read_slowly, ("127.0.0.1", port.getHost().port))
        assert found == hashlib.sha256(b"".join(pieces)).hexdigest()


def protocols_in_memory() -> int:
    return sum(issubclass(type(thing), MQTTProtocol) for thing in gc.get_objects())


class Listening(OnSockets):
    async def test_listeners_are_eager_with_tls_and_without(self) -> None:
        certificate = Authority().issue("localhost").write(self.folder / "server.pem")
        listener = await self.listen()
        for tls in (None, TLSSettings(certificate=certificate)):
            listener.reload(evolve(listener.settings, tls=tls))
            with await self.client(open_socket, self.where(listener)):
                await self.until(lambda: bool(listener.factory.protocols))
                (protocol,) = listener.factory.protocols
                inner: Any = protocol.transport
                inner = inner.transport if tls else inner
                assert isinstance(inner, EagerServer)
            await self.until(lambda: not listener.connections)

    async def test_a_connection_that_has_ended_is_not_left_to_the_collector(self) -> None:
        listener = await self.listen()
        gc.collect()
        before = protocols_in_memory()
        gc.disable()
        self.addCleanup(gc.enable)
        with await self.client(open_socket, self.where(listener), CONNECT) as stream:
            assert (await self.client(answer, stream)).startswith(CONNACK)
            assert protocols_in_memory() == before + 1
        await self.until(lambda: not listener.connections)
        assert protocols_in_memory() == before

    async def test_an_answer_does_not_wait_for_the_next_turn(self) -> None:
        listener = await self.listen()
        with await self.client(open_socket, self.where(listener)) as stream:
            await self.until(lambda: bool(listener.factory.protocols))
            (protocol,) = listener.factory.protocols
            protocol.transport.write(b"now")
            stream.setblocking(False)
            assert stream.recv(3) == b"now"
            protocol.abort()
            await deferLater(reactor, 0)
