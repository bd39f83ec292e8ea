"""What one connection has to say, gathered and written in one piece.

A lone ``transport.write`` costs a system call; written together, frames cost
next to nothing. So a connection's frames wait in a list, and every output that
was touched is flushed once: at the end of the chunk of input that caused it, or
else in the next turn of the reactor.

Frames are held back for two reasons: the network does not take them (Twisted
pauses us), or a token bucket is in debt. ``writable`` is False then, so that
sessions queue. What is written nevertheless (answers, mostly) waits in the list,
and when that is twice the limit the connection is read no further.

``MQTTProtocol`` is an ``Outbound``; this half knows nothing of input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mqttd.broker.pause import CLOSING, OUTPUT
from mqttd.interfaces import IPacketWatcher
from mqttd.net.flight import AT_ONCE, SHORT, Flight, forget, piece
from mqttd.net.limiter import Limiter
from mqttd.net.peer import innermost, unsent

if TYPE_CHECKING:
    from mqttd.broker.connection import Connection
    from mqttd.broker.timers import Timer
    from mqttd.net.factory import MQTTFactory
    from mqttd.settings import ConnectionLimits, ListenerSettings

log = Logger()

#: Bytes in Twisted's own buffer above which it pauses us.
TRANSPORT_BUFFER: Final = 65_536
#: The least it is set to; it is also how much Twisted reads at once.
LEAST_BUFFER = 4096

#: Why output is held back: bits of a mask.
FULL: Final = 1
PACED: Final = 2

#: First four bits of a PUBLISH, and with those of QoS, which are 0 for QoS 0.
_PUBLISH: Final = 0x30
_KIND_AND_QOS: Final = 0xF6


class Flusher:
    """Remembers which outputs have something to flush; one per broker."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        #: Outputs that have frames that wait; once until flushed.
        self.touched: list[Outbound] = []
        self._call: IDelayedCall | None = None
        #: How many chunks of input are being handled. Who handles one counts it here,
        #: and flushes at its end; by hand, since two calls are much for a small one.
        self.chunks = 0

    def call(self) -> None:
        """Flush in the next turn: no chunk is being handled that would do it."""
        if self._call is None:
            self._call = self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._call = None
        self.flush()

    def flush(self) -> None:
        """Write out everything that waits."""
        touched, self.touched = self.touched, []
        for output in touched:
            try:
                output.flush()
            except Exception:
                log.failure("Output could not be written")

    def stop(self) -> None:
        """Flush, and leave nothing on the clock."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self.flush()


class Outbound:
    """The output of one connection; the transport's producer.

    And what Twisted's ``Protocol`` would be: that is no base class of it, since a
    compiled class has only compiled ones.
    """

    # Slots, and not a dict: on a busy port Python does not share the dicts' keys,
    # and 600 bytes more are needed for each connection. What few connections ever
    # set has its default in the class, and then goes into a dict after all.
    __slots__ = (
        "__dict__",
        "_flight",
        "_frames",
        "_holding",
        "_pauses",
        "_room",
        "_waiting",
        "connected",
        "connection",
        "factory",
        "listener",
        "pacer",
        "transport",
        "writable",
    )

    #: For the compiler: what may be deleted.
    __deletable__: ClassVar = ["connection"]

    factory: MQTTFactory
    listener: ListenerSettings
    connection: Connection
    # Twisted's interfaces for it are many and partial.
    transport: Any

    #: Who is shown the packets.
    watcher: IPacketWatcher | None = None
    _pace_call: IDelayedCall | None = None
    _stall_timer: Timer | None = None
    _full_since = 0.0

    def __init__(self) -> None:
        self.connected = 0
        self.transport = None
        self.writable = True
        #: The limits on what goes out; None for none.
        self.pacer: Limiter | None = None
        #: Bytes that may gather before ``write`` takes a closer look.
        self._room = TRANSPORT_BUFFER
        self._frames: list[bytes] = []
        self._waiting = 0
        self._holding = 0
        self._pauses = 0
        #: What came and went last; None before CONNECT, and where it is not wanted.
        self._flight: Flight | None = None

    def start_output(self, limits: ConnectionLimits) -> None:
        """The transport is there."""
        buffer = limits.output_buffer
        if buffer < TRANSPORT_BUFFER:
            socket = innermost(self.transport)
            if hasattr(socket, "bufferSize"):
                socket.bufferSize = max(buffer, LEAST_BUFFER)
        if limits.outbound_bytes is not None or limits.outbound_messages is not None:
            self.pacer = self.factory.limits.limiter()
            self.pacer.change(limits.outbound_bytes, limits.outbound_messages)
        self.set_room()
        self.transport.registerProducer(self, True)

    def set_room(self) -> None:
        """Take a closer look at each frame if there is a pacer or a watcher."""
        paced = self.pacer is not None and self.pacer.is_limited
        looked_at = paced or self.watcher is not None
        room = 0 if looked_at else self.listener.limits.output_buffer
        if room != self._room:
            self._room = room

    def stop_output(self) -> None:
        """The connection is gone: nothing is left to write or to wait for."""
        self._frames.clear()
        self._waiting = 0
        if self._pace_call is not None:
            self._pace_call.cancel()
            self._pace_call = None
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def write(self, data: bytes) -> None:
        frames = self._frames
        if not frames and not self._holding:
            # By hand, as ``chunks``.
            flusher = self.factory.flusher
            flusher.touched.append(self)
            if not flusher.chunks:
                flusher.call()
        frames.append(data)
        waiting = self._waiting = self._waiting + len(data)
        if waiting > self._room:
            self._look_closer(waiting)

    def write_now(self, data: bytes, came: bytes = b"", seconds: float = 0.0) -> None:
        """Write all that a chunk has for this client; it may be nothing.

        What ``write`` and ``flush`` do, in one, for a chunk that is one message. *came* is
        that message, and *seconds* when, if it is from this client.
        """
        factory = self.factory
        if (
            self._frames
            or self._holding
            or len(data) > self._room
            # Others have sent something too, maybe for this one: that leaves with it.
            or (not came and factory.flusher.chunks)
        ):
            self.write_in_order(data, came, seconds)
            return
        flight = self._flight
        if flight is not None and (came or data[0] & _KIND_AND_QOS != _PUBLISH):
            flight += (seconds or factory.broker.seconds(), came, data)
            if len(flight) > factory.flight_room:
                forget(flight)
        if data:
            factory.broker.metrics.bytes_sent += len(data)
            try:
                self.transport.write(data)
            except Exception:
                log.failure("Output could not be written")

    def write_in_order(self, data: bytes, came: bytes = b"", seconds: float = 0.0) -> None:
        """The same, behind what waits."""
        flight = self._flight
        if came and flight is not None:
            flight += (seconds, came, b"")
            if len(flight) > self.factory.flight_room:
                forget(flight)
        if data:
            flusher = self.factory.flusher
            flusher.chunks += 1
            self.write(data)
            flusher.chunks -= 1
            if flusher.touched and not flusher.chunks:
                flusher.flush()

    def _look_closer(self, waiting: int) -> None:
        if self.watcher is not None:
            self.watcher.sent(self._frames[-1])
        limit = self.listener.limits.output_buffer
        if not self._holding:
            if waiting > limit or self.pacer is not None:
                self.flush()
            return
        if waiting > limit:
            self.writable = False
        if waiting > 2 * limit:
            # Nobody reads the answers: then no more questions are taken.
            self.pause(OUTPUT)

    def flush(self) -> None:
        """Give Twisted all that waits, as far as nothing holds it back."""
        frames = self._frames
        if self._holding or not frames:
            return
        if self.pacer is not None:
            self._flush_paced(self.pacer)
            return
        # As flush_all does, without the calls.
        alone = len(frames) == 1
        data = frames[0] if alone else b"".join(frames)
        frames.clear()
        self._waiting = 0
        if data:
            broker = self.factory.broker
            broker.metrics.bytes_sent += len(data)
            flight = self._flight
            # A single frame that is PUBLISH with QoS 0, or a run of them, is not noted: no
            # answer is due to it.
            if flight is not None and not (alone and data[0] & _KIND_AND_QOS == _PUBLISH):
                self._note(flight, data)
            self.transport.write(data)

    def _note(self, flight: Flight, went: bytes) -> None:
        if len(went) > SHORT:
            now = self.factory.broker.seconds()
            if flight and flight[-1] == b"" and now < flight[-3] + AT_ONCE:  # type: ignore[operator]
                flight[-1] = piece(went)
                return
            flight += (now, b"", piece(went))
            if len(flight) > self.factory.flight_room:
                forget(flight)

    def _flush_paced(self, pacer: Limiter) -> None:
        frames = self._frames
        count, delay = self._afford(pacer)
        data = b"".join(frames[:count])
        del frames[:count]
        self._waiting -= len(data)
        self._hand_over(data)
        if delay:
            self._hold_back(delay)

    def flush_all(self) -> None:
        """Give Twisted all that waits."""
        data = b"".join(self._frames)
        self._frames.clear()
        self._waiting = 0
        self._hand_over(data)

    def _hand_over(self, data: bytes) -> None:
        if data:
            broker = self.factory.broker
            broker.metrics.bytes_sent += len(data)
            flight = self._flight
            if flight is not None:
                self._note(flight, data)
            self.transport.write(data)

    def _hold_back(self, delay: float) -> None:
        self._holding |= PACED
        self.writable = False
        self._pace_call = self.factory.broker.clock.callLater(delay, self._paid)

    def pace_anew(self) -> None:
        """The pacer has other rates: what waited for the old ones need not."""
        if self._pace_call is None or self.pacer is None:
            return
        self._pace_call.cancel()
        self._pace_call = None
        delay = self.pacer.debt
        if delay:
            self._hold_back(delay)
        else:
            self._let_go(PACED)

    def _afford(self, pacer: Limiter) -> tuple[int, float]:
        """How many frames may go, and how long the rest waits after them."""
        count = 0
        for frame in self._frames:
            count += 1
            delay = pacer.take_bytes(len(frame))
            if pacer.messages and frame[0] & 0xF0 == _PUBLISH:
                delay = max(delay, pacer.take_messages(_packets(frame)))
            if delay:
                return count, delay
        return count, 0.0

    def _paid(self) -> None:
        self._pace_call = None
        self._let_go(PACED)

    # --- as Twisted's producer ----------------------------------------------------

    def pauseProducing(self) -> None:
        """The network takes no more for now; called at each write."""
        if self._holding & FULL:
            return
        self._holding |= FULL
        limits = self.listener.limits
        if limits.output_buffer <= TRANSPORT_BUFFER:
            self.writable = False
        if limits.send_timeout:
            self._full_since = self.factory.broker.seconds()
            if self._stall_timer is None:
                self._watch_stall(limits.send_timeout)

    def resumeProducing(self) -> None:
        """The network has taken everything."""
        self._let_go(FULL)

    def stopProducing(self) -> None:
        """Twisted's transport is gone; ``connectionLost`` follows."""

    def _let_go(self, reason: int) -> None:
        if not self._holding & reason or self._pauses & CLOSING:
            return
        self._holding &= ~reason
        self.flush()
        if not self._holding:
            self.writable = True
            self.connection.resume_delivery()
            self.resume(OUTPUT)

    # --- a client that takes nothing ------------------------------------------------

    def _watch_stall(self, delay: float) -> None:
        wheel = self.factory.broker.wheel
        self._stall_timer = wheel.call_later(delay, self._look_at_stall, unsent(self.transport))

    def _look_at_stall(self, before: int) -> None:
        self._stall_timer = None
        if not self._holding & FULL:
            return
        timeout = self.listener.limits.send_timeout
        left = self._full_since + timeout - self.factory.broker.seconds()
        if left > 0:
            self._watch_stall(left)
        elif unsent(self.transport) != before:
            self._watch_stall(timeout)
        else:
            self.connection.end("send-timeout")
            self.abort()

    # --- the other half -----------------------------------------------------------

    def pause(self, reason: int) -> None:
        raise NotImplementedError

    def resume(self, reason: int) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        raise NotImplementedError


def _packets(data: bytes) -> int:
    """How many packets *data* is; the fast lane writes several in one piece."""
    count = position = 0
    while position < len(data):
        count += 1
        length = shift = 0
        while True:
            position += 1
            length |= (data[position] & 0x7F) << shift
            if data[position] < 0x80:
                break
            shift += 7
        position += 1 + length
    return count
