"""Twisted's TLS, with what it does once for each record done once for each read.

A client that sends many small packets sends many small records. Twisted hands on
each by itself, and so each would be answered and encrypted by itself too. Here
the records of a read are handed on in one piece: QoS 1 over TLS, 100 messages
under way, takes a third of the time.

``tls`` gives this to its connections. It goes into Twisted's own attributes; what
it relies on is tested, and without it ``TLSMemoryBIOProtocol`` does the same.
"""

from __future__ import annotations

from OpenSSL.SSL import Error, WantReadError, ZeroReturnError
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Protocol
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

#: Bytes asked for at once; a record has half as many at most.
RECORD = 2**15


class GatheredTLS(TLSMemoryBIOProtocol):
    """The server's side of a TLS connection."""

    def makeConnection(self, transport: ITransport) -> None:
        # Twisted declares, for each connection anew, one after the other, the
        # interfaces of the transport: 60 us. Nobody asks for them here. A server
        # has nothing to say before the client has, so no handshake is tried.
        self._tlsConnection = self.factory._creatorCallable(self)
        self._appSendBuffer: list[bytes] = []
        Protocol.makeConnection(self, transport)
        self.factory.registerProtocol(self)
        self.wrappedProtocol.makeConnection(self)

    def _flushReceiveBIO(self) -> None:
        """Hand on all that has come, and what it means that no more does."""
        pieces: list[bytes] = []
        receive = self._tlsConnection.recv
        try:
            while True:
                pieces.append(receive(RECORD))
        except WantReadError:
            self._hand_on(pieces)
        except ZeroReturnError:
            self._hand_on(pieces)
            if not self._lostTLSConnection:
                self._shutdownTLS()  # type: ignore[no-untyped-call]
                self._tlsShutdownFinished(None)  # type: ignore[no-untyped-call]
        except Error:
            failure = Failure()
            self._hand_on(pieces)
            if not self._lostTLSConnection:
                self._tlsShutdownFinished(failure)  # type: ignore[no-untyped-call]
        self._flushSendBIO()  # type: ignore[no-untyped-call]

    def _hand_on(self, pieces: list[bytes]) -> None:
        if pieces and not self._aborted:
            self.wrappedProtocol.dataReceived(b"".join(pieces))
