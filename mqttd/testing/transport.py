"""A network connection in memory, as a Twisted protocol sees it.

``VirtualBroker`` gives one to each protocol that it builds; the client's end is
the part of the class below the line. Like a socket of the reactor it pauses a
streaming producer while too much waits to be taken, drops what comes after
``loseConnection``, and reports the end of the connection in a later turn. It
knows nothing of MQTT.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IProtocol, IReactorTime, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

#: What one read gives at most, as with the reactor's sockets; bytes.
READ_SIZE = 65_536


@implementer(ITCPTransport, IConsumer)
class MemoryTransport:
    """The server's end of a connection, and by its last methods the client's."""

    def __init__(
        self, clock: IReactorTime, peer: IPv4Address, host: IPv4Address, buffer_size: int = 65_536
    ) -> None:
        """*buffer_size*: bytes that may wait before the producer is paused."""
        self.protocol: IProtocol | None = None
        self.buffer_size = buffer_size
        self.disconnecting = False
        #: "" while the connection is open; then "closed" or "aborted" by the
        #: server, or "by client".
        self.ending = ""
        self.producer: Any = None
        self._clock = clock
        self._peer = peer
        self._host = host
        self._streaming = False
        self._producer_paused = False
        self._reading = True
        self._client_reads = True
        self._input: list[bytes] = []
        self._output = bytearray()
        self._arrived = bytearray()
        self._options = {"no_delay": False, "keep_alive": False}

    # --- ITransport and IConsumer, for the server's protocol -------------------

    def write(self, data: bytes) -> None:
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data must be bytes, not {type(data).__name__}")
        if self.ending or self.disconnecting:
            return
        self._output += data
        self._move()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if not self.ending:
            self.disconnecting = True
            self._input.clear()
            self._move()

    def loseWriteConnection(self) -> None:
        self.loseConnection()

    def abortConnection(self) -> None:
        if not self.ending:
            self.disconnecting = True
            self._output.clear()
            self._end("aborted", ConnectionAborted())

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError("a producer is registered already")
        if self.ending:
            producer.stopProducing()
            return
        self.producer = producer
        self._streaming = streaming
        self._producer_paused = False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None
        self._producer_paused = False
        self._move()

    def pauseProducing(self) -> None:
        self._reading = False

    def resumeProducing(self) -> None:
        if not self.ending and not self.disconnecting:
            self._reading = True
            self._clock.callLater(0, self._read)

    def stopProducing(self) -> None:
        self.loseConnection()

    def getPeer(self) -> IPv4Address:
        return self._peer

    def getHost(self) -> IPv4Address:
        return self._host

    def getTcpNoDelay(self) -> bool:
        return self._options["no_delay"]

    def setTcpNoDelay(self, enabled: bool) -> None:
        self._options["no_delay"] = bool(enabled)

    def getTcpKeepAlive(self) -> bool:
        return self._options["keep_alive"]

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self._options["keep_alive"] = bool(enabled)

    # --- the network between the two --------------------------------------------

    def _move(self) -> None:
        """Carry output to the client as far as it reads."""
        if self._client_reads and self._output:
            self._arrived += self._output
            self._output.clear()
        producer = self.producer
        if producer is not None and self._streaming:
            if not self._producer_paused and len(self._output) > self.buffer_size:
                self._producer_paused = True
                producer.pauseProducing()
            elif self._producer_paused and not self._output:
                self._producer_paused = False
                producer.resumeProducing()
        if self.disconnecting and not self._output and not self._producer_paused:
            self._end("closed", ConnectionDone())

    def _read(self) -> None:
        while self._input and self._reading and not self.disconnecting and not self.ending:
            data = self._input.pop(0)
            assert self.protocol is not None
            self.protocol.dataReceived(data)

    def _end(self, ending: str, reason: Exception) -> None:
        if self.ending:
            return
        self.ending = ending
        self._input.clear()
        self._output.clear()
        # Not now: a protocol does not expect it inside its own call.
        self._clock.callLater(0, self._lost, Failure(reason))

    def _lost(self, reason: Failure) -> None:
        if self.producer is not None:
            producer, self.producer = self.producer, None
            producer.stopProducing()
        assert self.protocol is not None
        self.protocol.connectionLost(reason)

    # --- the client's end ---------------------------------------------------------

    @property
    def is_paused(self) -> bool:
        """The server does not read; what the client sends waits."""
        return not self._reading

    @property
    def waiting(self) -> int:
        """Bytes that the server wrote and a client that does not read lets wait."""
        return len(self._output)

    def send(self, data: bytes) -> None:
        """Bytes from the client; they are lost when the connection has ended."""
        if self.ending or self.disconnecting:
            return
        self._input.extend(data[i : i + READ_SIZE] for i in range(0, len(data), READ_SIZE))
        self._read()

    def take(self) -> bytes:
        """What has arrived at the client since the last call."""
        data = bytes(self._arrived)
        self._arrived.clear()
        return data

    def stop_reading(self) -> None:
        """The client takes nothing any more; the server's output backs up."""
        self._client_reads = False

    def start_reading(self) -> None:
        """The client reads again, first what was held up."""
        self._client_reads = True
        self._move()

    def close(self) -> None:
        """The client closes its end properly."""
        self._end("by client", ConnectionDone())

    def drop(self) -> None:
        """The network breaks; the server notices at once."""
        self._end("by client", ConnectionLost())
