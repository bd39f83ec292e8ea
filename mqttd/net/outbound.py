"""What one connection has to say, gathered and written in one piece.

A lone ``transport.write`` costs a system call and two turns of epoll; written
together, frames cost next to nothing. So a connection's frames wait in a list,
and every output that was touched is flushed once: at the end of the chunk of
input that caused it, or else in the next turn of the reactor. The protocol owns
its output; nobody else writes to the transport.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall, IReactorTime

if TYPE_CHECKING:
    from mqttd.net.protocol import MQTTProtocol


class Flusher:
    """Remembers which protocols have something to flush; one per broker."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._touched: list[MQTTProtocol] = []
        self._call: IDelayedCall | None = None
        #: How many chunks of input are being handled; they flush at their end.
        self._chunks = 0

    def touch(self, protocol: MQTTProtocol) -> None:
        """*protocol* has output that waits; once until it was flushed."""
        self._touched.append(protocol)
        if not self._chunks and self._call is None:
            self._call = self._clock.callLater(0, self._turn)

    def enter(self) -> None:
        """A chunk of input is going to be handled."""
        self._chunks += 1

    def leave(self) -> None:
        """It has been: what it caused goes out."""
        self._chunks -= 1
        if self._touched and not self._chunks:
            self.flush()

    def _turn(self) -> None:
        self._call = None
        self.flush()

    def flush(self) -> None:
        """Write out everything that waits."""
        touched, self._touched = self._touched, []
        for protocol in touched:
            protocol.flush()

    def stop(self) -> None:
        """Flush, and leave nothing on the clock."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self.flush()
