"""Twisted's TLS, with what it does once for each record done once for each read.

A client that sends many small packets sends many small records. Twisted hands on
each by itself, and so each would be answered and encrypted by itself too. Here
the records of a read are handed on in one piece: QoS 1 over TLS, 100 messages
under way, takes a third of the time.

And OpenSSL is not asked what is known. It says by an exception that there is no
more to read or to send, which takes 2 us: so none is provoked after a read that is
one record, after an answer has gone out, and at the end of the connection. A record
that comes alone takes two calls, and so does one that goes.

``tls`` gives this to its connections. It goes into Twisted's own attributes; what
it relies on is tested, and without it ``TLSMemoryBIOProtocol`` does the same.
"""

from __future__ import annotations

from typing import Any

from OpenSSL.SSL import Error, WantReadError, ZeroReturnError
from twisted.internet.interfaces import ITransport
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from mqttd.net.brief_tls import SIZE
from mqttd.net.peer import unread

#: Bytes asked for at once; a record has half as many at most.
RECORD = SIZE
#: Bytes of plain text in one record at most.
MOST = 2**14

#: How a record of data begins, from TLS 1.2 on, and how long its header is.
_DATA = b"\x17\x03\x03"
_HEADER = 5

_CUT = Failure(CONNECTION_LOST)


class GatheredTLS(TLSMemoryBIOProtocol):
    """The server's side of a TLS connection."""

    # Of Twisted's interfaces it has many.
    transport: Any

    #: What OpenSSL had to say was sent since it got its last input.
    _settled = False

    def makeConnection(self, transport: ITransport) -> None:
        # Twisted declares, for each connection anew, one after the other, the
        # interfaces of the transport: 60 us. Nobody asks for them here. A server
        # has nothing to say before the client has, so no handshake is tried.
        self._tlsConnection = self.factory._creatorCallable(self)
        self._appSendBuffer: list[bytes] = []
        Protocol.makeConnection(self, transport)
        self.factory.registerProtocol(self)
        self.wrappedProtocol.makeConnection(self)

    def dataReceived(self, data: bytes) -> None:
        if self._handshakeDone and not self._appSendBuffer and _is_record(data):
            tls = self._tlsConnection
            tls.bio_write(data)
            try:
                came = tls.recv(RECORD)
            except Error as error:
                self._nothing_more(error)
                self._flushSendBIO()
                return
            # Nothing is behind it, and to data OpenSSL has nothing to say.
            self._settled = True
            if not self._aborted:
                self.wrappedProtocol.dataReceived(came)
        else:
            super().dataReceived(data)  # type: ignore[no-untyped-call]

    def _flushReceiveBIO(self) -> None:
        """Hand on all that has come, and what it means that no more does."""
        pieces: list[bytes] = []
        receive = self._tlsConnection.recv
        why: Error | None = None
        self._settled = False
        try:
            while True:
                pieces.append(receive(RECORD))
        except WantReadError:
            pass
        except Error as error:
            # Its traceback has this frame, and that would have it.
            why = error.with_traceback(None)
        if pieces and not self._aborted:
            self.wrappedProtocol.dataReceived(b"".join(pieces))
        if why is not None:
            self._nothing_more(why)
        if not self._settled:
            self._flushSendBIO()

    def _nothing_more(self, why: Error) -> None:
        """OpenSSL has no more data, and says why."""
        if isinstance(why, WantReadError) or self._lostTLSConnection:
            return
        if isinstance(why, ZeroReturnError):
            self._shutdownTLS()  # type: ignore[no-untyped-call]
            self._tlsShutdownFinished(None)  # type: ignore[no-untyped-call]
        else:
            self._tlsShutdownFinished(Failure(why))  # type: ignore[no-untyped-call]

    def write(self, data: bytes) -> None:
        # Twisted's own, where it is one record: in one call instead of four.
        if (
            not self._handshakeDone
            or self._appSendBuffer
            or self.disconnecting
            or self._lostTLSConnection
            or not 0 < len(data) <= MOST
        ):
            super().write(data)  # type: ignore[no-untyped-call]
            return
        tls = self._tlsConnection
        try:
            tls.send(data)
        except WantReadError:
            self._bufferedWrite(data)  # type: ignore[no-untyped-call]
        except Error:
            self._tlsShutdownFinished(Failure())  # type: ignore[no-untyped-call]
        else:
            self._settled = True
            self.transport.write(tls.bio_read(RECORD))

    def _flushSendBIO(self) -> None:
        self._settled = True
        super()._flushSendBIO()  # type: ignore[no-untyped-call]

    def lose_at_once(self) -> None:
        """``loseConnection``, when the client has said that it closes too.

        Twisted's waits for its close_notify, which TLS does not ask of anybody. That is
        better only where it has come already: to leave it unread would be a reset.
        """
        transport = self.transport
        self.loseConnection()  # type: ignore[no-untyped-call]
        if self._is_shut() and transport is not None and not unread(transport):
            transport.loseConnection()

    def _is_shut(self) -> bool:
        """Whether we have said that we close."""
        return bool(
            self.connected
            and self._handshakeDone
            and not (self._aborted or self._lostTLSConnection)
            and not self._appSendBuffer
            and self._producer is None
        )

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._lostTLSConnection:
            # All that came was handed on as it came. So OpenSSL can only complain that
            # the client has not said that it closes, which nobody minds who has.
            self._lostTLSConnection = True
            if self._reason is None and not self.disconnecting:
                self._reason = _CUT
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


def _is_record(data: bytes) -> bool:
    """Whether *data* looks like one record of data, from its first byte to its last.

    The middle of a longer one does once in 2**40 times; what is behind it would then
    be found with the next read.
    """
    return data[:3] == _DATA and int.from_bytes(data[3:_HEADER], "big") == len(data) - _HEADER
