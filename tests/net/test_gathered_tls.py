"""TLS with the records of a read handed on in one piece: against OpenSSL in memory."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from OpenSSL.SSL import Error
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from mqttd.net import brief_tls
from mqttd.net.brief_tls import BriefConnection
from mqttd.net.gathered_tls import MOST, RECORD
from mqttd.net.tls import ServerTLS, TLSFactory
from mqttd.settings import TLSSettings
from tests.certificates import Authority


class Listening(Protocol):
    """Notes what it gets, and answers each piece."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.reason: Failure | None = None
        self.abort_at = self.lose_at = b""
        self.transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)
        if data == self.abort_at:
            self.transport.abortConnection()
        elif data == self.lose_at:
            self.transport.lose_at_once()
        else:
            self.transport.write(b"got it")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason


class Counting:
    """An ``SSL.Connection``; notes which of its methods had nothing to give."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.in_vain: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.connection, name)

        def call(*arguments: Any) -> Any:
            try:
                return method(*arguments)
            except Error:
                self.in_vain.append(name)
                raise

        return call


class Line:
    """A client of the standard library, and the server's end."""

    def __init__(self, folder: Path) -> None:
        authority = Authority()
        certificate = authority.issue("localhost").write(folder / "server.pem")
        server = ServerTLS(TLSSettings(certificate=certificate))
        inner = ServerFactory.forProtocol(Listening)
        factory = TLSFactory(server, False, inner, Clock())
        protocol = factory.buildProtocol(None)
        self.transport: Any = StringTransport()
        protocol.makeConnection(self.transport)
        self.server = protocol
        self.listening: Any = protocol.wrappedProtocol
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cadata=authority.pem.decode())
        self.client = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def carry(self) -> None:
        """What waits goes over, in one read each way."""
        data = self.outgoing.read()
        if data:
            self.server.dataReceived(data)
        self.incoming.write(self.transport.value())
        self.transport.clear()

    def ending(self) -> Failure:
        """How the connection ends, which it must."""
        assert self.transport.disconnecting
        self.server.connectionLost(Failure(ConnectionDone()))
        reason: Failure = self.listening.reason
        return reason

    def shake_hands(self) -> None:
        for _ in range(3):
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                self.carry()
            else:
                self.carry()
                return


@pytest.fixture(params=["brief", "pyOpenSSL's"])
def line(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    brief = request.param == "brief"
    if not brief:
        monkeypatch.setattr(brief_tls, "_fits", lambda: False)
    line = Line(tmp_path)
    assert isinstance(line.server.getHandle(), BriefConnection) is brief
    line.shake_hands()
    return line


def test_the_server_says_nothing_before_the_client_has(tmp_path: Path) -> None:
    line = Line(tmp_path)
    assert line.transport.value() == b""
    assert line.listening.transport is line.server
    line.shake_hands()
    assert line.client.version() == "TLSv1.3"


def test_the_records_of_a_read_come_in_one_piece_and_get_one_answer(line: Line) -> None:
    for number in range(10):
        line.client.write(b"record %d;" % number)
    line.carry()
    assert line.listening.pieces == [b"".join(b"record %d;" % number for number in range(10))]
    assert line.client.read(100) == b"got it"
    with pytest.raises(ssl.SSLWantReadError):
        line.client.read(100)


def test_more_than_is_asked_for_at_once(line: Line) -> None:
    data = bytes(range(256)) * (RECORD // 64)
    line.client.write(data)
    line.carry()
    assert b"".join(line.listening.pieces) == data


def test_what_came_before_the_end_is_handed_on_before_it(line: Line) -> None:
    line.client.write(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        line.client.unwrap()
    line.carry()
    assert line.listening.pieces == [b"last words"]
    assert line.ending().check(ConnectionDone)


def test_what_came_before_a_broken_record_is_handed_on(line: Line) -> None:
    line.client.write(b"good")
    good = line.outgoing.read()
    line.client.write(b"spoilt")
    bad = bytearray(line.outgoing.read())
    bad[-1] ^= 1
    line.server.dataReceived(good + bytes(bad))
    assert line.listening.pieces == [b"good"]
    assert not line.ending().check(ConnectionDone)


def test_nothing_is_handed_on_after_an_abort(line: Line) -> None:
    line.listening.abort_at = b"enough"
    line.client.write(b"enough")
    line.carry()
    line.client.write(b"more")
    line.server.dataReceived(line.outgoing.read())
    assert line.listening.pieces == [b"enough"]


def test_half_a_record_waits_for_the_rest(line: Line) -> None:
    line.client.write(b"in two parts")
    data = line.outgoing.read()
    line.server.dataReceived(data[:10])
    assert line.listening.pieces == []
    line.server.dataReceived(data[10:])
    assert line.listening.pieces == [b"in two parts"]


@pytest.mark.parametrize("size", [1, MOST, MOST + 1, 5 * MOST])
def test_what_is_written_arrives_whatever_its_size(line: Line, size: int) -> None:
    data = bytes(size - 1) + b"!"
    line.server.write(data)
    line.server.write(b"")
    line.carry()
    got = b""
    while len(got) < size:
        got += line.client.read(size)
    assert got == data


def test_what_is_written_before_the_handshake_goes_out_after_it(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.server.write(b"early")
    line.server.write(b"bird")
    line.shake_hands()
    assert line.client.read(100) == b"early"
    assert line.client.read(100) == b"bird"


def test_nothing_is_written_after_the_close(line: Line) -> None:
    line.server.loseConnection()
    line.carry()
    line.server.write(b"too late")
    assert line.transport.value() == b""


def test_a_lone_broken_record_ends_the_connection(line: Line) -> None:
    line.client.write(b"spoilt")
    bad = bytearray(line.outgoing.read())
    bad[-1] ^= 1
    line.server.dataReceived(bytes(bad))
    assert line.listening.pieces == []
    assert line.ending().check(Error)
    line.incoming.write(line.transport.value())
    with pytest.raises(ssl.SSLError, match=r"(?i)bad record mac"):
        line.client.read(100)


def test_one_connection_does_not_see_what_another_reads(line: Line, tmp_path: Path) -> None:
    other = Line(tmp_path)
    other.shake_hands()
    line.client.write(b"a long secret")
    other.client.write(b"short")
    line.carry()
    other.carry()
    line.client.write(b"x")
    line.carry()
    assert line.listening.pieces == [b"a long secret", b"x"]
    assert other.listening.pieces == [b"short"]


def test_a_read_of_more_than_the_buffer_holds(line: Line) -> None:
    handle = line.server.getHandle()
    line.client.write(b"plenty")
    handle.bio_write(line.outgoing.read())
    assert handle.recv(10 * RECORD) == b"plenty"
    handle.send(b"as much")
    line.incoming.write(handle.bio_read(10 * RECORD))
    assert line.client.read(100) == b"as much"


def test_the_brief_way_is_left_where_pyopenssl_is_made_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits = brief_tls._fits.__wrapped__
    assert fits()
    monkeypatch.setattr(brief_tls, "_ATTRIBUTES", ("_ssl", "_not_there"))
    assert not fits()


def in_vain(line: Line) -> list[str]:
    """What OpenSSL is asked for in vain from here on."""
    counting: Any = Counting(line.server._tlsConnection)
    line.server._tlsConnection = counting
    names: list[str] = counting.in_vain
    return names


def test_after_one_record_openssl_is_asked_for_nothing_more(line: Line) -> None:
    asked = in_vain(line)
    for number in range(3):
        line.client.write(b"lone %d" % number)
        line.carry()
        assert line.client.read(100) == b"got it"
    assert line.listening.pieces == [b"lone 0", b"lone 1", b"lone 2"]
    assert asked == []


def test_several_records_are_read_until_there_is_no_more(line: Line) -> None:
    asked = in_vain(line)
    line.client.write(b"one")
    line.client.write(b"two")
    line.carry()
    assert line.listening.pieces == [b"onetwo"]
    assert line.client.read(100) == b"got it"
    assert asked == ["recv"]


def test_a_record_that_is_no_data_gets_its_answer(line: Line) -> None:
    with pytest.raises(ssl.SSLWantReadError):
        line.client.unwrap()
    line.carry()
    line.client.unwrap()  # which wants the server's close_notify
    assert line.ending().check(ConnectionDone)


def test_without_close_notify_the_connection_was_lost(line: Line) -> None:
    line.server.connectionLost(Failure(ConnectionDone()))
    assert line.listening.reason.check(ConnectionLost)


def test_a_client_that_closes_is_not_waited_for(line: Line) -> None:
    asked = in_vain(line)
    line.listening.lose_at = b"bye"
    line.client.write(b"bye")
    line.carry()
    assert line.ending().check(ConnectionDone)
    assert line.client.read(100) == b""  # close_notify, and not a cut
    assert asked == []


def test_a_close_of_ours_waits_for_the_client(line: Line) -> None:
    line.server.loseConnection()
    assert not line.transport.disconnecting
    line.carry()
    line.client.unwrap()
    line.carry()
    assert line.ending().check(ConnectionDone)


def test_nothing_is_closed_at_once_before_the_handshake(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.server.lose_at_once()
    assert line.transport.disconnected or line.transport.disconnecting
    assert line.transport.value() == b""
