"""The protocol of one socket: bytes in, bytes out, and nothing of MQTT's meaning.

Twisted calls it with what arrives; it keeps the limits, feeds the parser and
hands packets to the protocol machine, which sees it as ``ITransport``. It knows
why it does not read (a mask of ``broker.pause`` reasons), what its deadlines
are, and how to close without hanging.

Input. While any pause reason is set nothing is parsed: what has been read waits
in the parser, and is parsed before reading goes on. Output. Frames gather in a
list and leave once per chunk of input or turn of the reactor (``outbound``).
While the network does not take them ``writable`` is False, and sessions queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mqttd.broker import fast_lane
from mqttd.broker.connection import Connection
from mqttd.broker.pause import CLOSING, OUTPUT, PENDING, RATE
from mqttd.interfaces import ITransport, Peer
from mqttd.net.limiter import Limiter
from mqttd.net.peer import peer_is_gone
from mqttd.net.tls import identify
from mqttd.wire.codes import PacketType
from mqttd.wire.errors import ProtocolViolation
from mqttd.wire.packets import Packet
from mqttd.wire.parser import Parser

if TYPE_CHECKING:
    from mqttd.broker.timers import Timer
    from mqttd.net.factory import MQTTFactory
    from mqttd.settings import ListenerSettings

log = Logger()

#: Pauses that are our doing: their time does not count against the client.
OUR_DOING = ~(OUTPUT | CLOSING)

_PUBLISH = PacketType.PUBLISH


@implementer(ITransport, IPushProducer, IHandshakeListener)
class MQTTProtocol(Protocol):
    """One connection of a listener."""

    factory: MQTTFactory
    # Twisted's interfaces for it are many and partial; see docs/design.rst.
    transport: Any
    connection: Connection
    #: Seconds from accept until the protocol was made: those of a PROXY header.
    waited = 0.0
    #: When something came last; the time of our own pauses is added.
    last_seen: float

    def __init__(self, factory: MQTTFactory, peer: Peer) -> None:
        self.factory = factory
        self.peer = peer
        self.listener: ListenerSettings = factory.settings
        self.writable = True
        protocol = self.listener.protocol
        self.parser = Parser(
            protocol.maximum_packet_size,
            maximum_user_properties=protocol.maximum_user_properties,
            maximum_filters=protocol.maximum_filters_per_packet,
        )
        #: The limits on what comes in; None for none.
        self.limiter: Limiter | None = None
        #: The limits on what goes out.
        self.pacer: Limiter | None = None
        self._frames: list[bytes] = []
        self._waiting = 0
        #: Twisted's buffer is full, or the pacer waits: frames stay here.
        self._holding = False
        self._pauses = 0
        self._paused_at = 0.0
        self._reading = True
        self._processing = False
        self._fast = False
        self._silence = 0.0
        self._timer: Timer | None = None

    @property
    def version(self) -> int:
        """Protocol level of the CONNECT, as far as it was parsed."""
        return self.parser.version

    # --- Twisted's side: the connection -------------------------------------------

    def connectionMade(self) -> None:
        transport, broker = self.transport, self.factory.broker
        for option in ("setTcpNoDelay", "setTcpKeepAlive"):
            setter = getattr(transport, option, None)
            if setter is not None:
                setter(True)
        self.factory.made(self)
        limits = self.listener.limits
        self.limiter = self.factory.limits.for_connection(limits, self.peer.address)
        if limits.outbound_bytes is not None or limits.outbound_messages is not None:
            self.pacer = Limiter()
            bucket = self.factory.limits.bucket
            self.pacer.add(bucket(limits.outbound_bytes), bucket(limits.outbound_messages))
        self.connection = Connection(broker, self)
        self.last_seen = broker.seconds()
        timeout = limits.connect_timeout - self.waited
        self._timer = broker.wheel.call_later(timeout, self._connect_timed_out)
        transport.registerProducer(self, True)

    def handshakeCompleted(self) -> None:
        """The TLS handshake is done, and the client's certificate known."""
        identify(self.peer, self.transport, self.listener.tls)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._pauses |= CLOSING
        self._set_timer(None)
        self.factory.lost(self)
        self._frames.clear()
        self.connection.connection_lost(_label(reason))

    # --- Twisted's side: input ------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        broker = self.factory.broker
        broker.metrics.bytes_received += len(data)
        self.last_seen = broker.seconds()
        self.parser.feed(data)
        if not self._pauses:
            self._process()
        if self.limiter is not None and self.limiter.bytes:
            self._wait_for_tokens(self.limiter.take_bytes(len(data)))

    def _process(self) -> None:
        """Handle the packets in hand, until there is none or a reason to pause."""
        parser, connection = self.parser, self.connection
        flusher = self.factory.flusher
        self._processing = True
        flusher.enter()
        try:
            while not self._pauses:
                if self._fast:
                    fast_lane.take(connection, parser)
                packet = parser.next_packet()
                if packet is None:
                    break
                self._handle(packet)
        except ProtocolViolation as violation:
            connection.violated(violation)
        except Exception:
            self._failed()
        finally:
            self._processing = False
            flusher.leave()
        self._read_or_not()

    def _handle(self, packet: Packet) -> None:
        if packet.type is _PUBLISH and self.limiter is not None and self.limiter.messages:
            self._wait_for_tokens(self.limiter.take_message())
        waiting = self.connection.packet_received(packet)
        if waiting is not None:
            self._wait(waiting)

    def _wait(self, waiting: Deferred[None]) -> None:
        """Let the handler finish before the next packet is looked at."""
        self.pause(PENDING)
        waiting.addCallbacks(self._handled, self._handler_failed)

    def _handled(self, result: object) -> None:
        self.resume(PENDING)

    def _handler_failed(self, failure: Failure) -> None:
        self._failed(failure)
        self.resume(PENDING)

    def _failed(self, failure: Failure | None = None) -> None:
        """Something of ours broke: this connection ends, and no other does."""
        log.failure("A packet of {address} failed", failure, address=self.peer.address)
        self.factory.broker.metrics.errors["connection"] += 1
        self.connection.failed()  # [MQTT311-4.8.0-2]

    # --- pauses ---------------------------------------------------------------------

    def pause(self, reason: int) -> None:
        if not self._pauses:
            self._paused_at = self.factory.broker.seconds()
        self._pauses |= reason
        if not self._processing:
            self._read_or_not()

    def resume(self, reason: int) -> None:
        if not self._pauses & reason:
            return
        self._pauses &= ~reason
        if self._pauses:
            return
        if reason & OUR_DOING:
            self.last_seen += self.factory.broker.seconds() - self._paused_at
        if not self._processing:
            self._process()

    def _read_or_not(self) -> None:
        wanted = not self._pauses
        if wanted != self._reading and not self._pauses & CLOSING:
            self._reading = wanted
            if wanted:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    def _wait_for_tokens(self, delay: float) -> None:
        if delay > 0.0:
            self.pause(RATE)
            self.factory.broker.clock.callLater(delay, self.resume, RATE)

    # --- output ---------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        frames = self._frames
        if not frames and not self._holding:
            self.factory.flusher.touch(self)
        frames.append(data)
        waiting = self._waiting = self._waiting + len(data)
        if waiting > self.listener.limits.output_buffer:
            self._too_much(waiting)

    def _too_much(self, waiting: int) -> None:
        if not self._holding:
            self.flush()
            return
        self.writable = False
        if waiting > 2 * self.listener.limits.output_buffer:
            # Nobody reads the answers: then no more questions are taken.
            self.pause(OUTPUT)

    def flush(self) -> None:
        """Give Twisted all that waits, unless it is full."""
        if self._holding or not self._frames:
            return
        data = b"".join(self._frames)
        count = len(self._frames)
        self._frames.clear()
        self._waiting = 0
        self.factory.broker.metrics.bytes_sent += len(data)
        self.transport.write(data)
        if self.pacer is not None:
            self._pace(len(data), count)

    def _pace(self, size: int, count: int) -> None:
        pacer = self.pacer
        assert pacer is not None
        delay = pacer.take_bytes(size)
        for bucket in pacer.messages:
            delay = max(delay, bucket.take(count))
        if delay > 0.0 and not self._holding:
            self.pauseProducing()
            self.factory.broker.clock.callLater(delay, self.resumeProducing)

    def pauseProducing(self) -> None:
        """The network takes no more for now; called at each write."""
        self._holding = True
        self.writable = False

    def resumeProducing(self) -> None:
        """The network has taken everything."""
        if not self._holding or self._pauses & CLOSING:
            return
        self._holding = False
        self.flush()
        if not self._holding:
            self.writable = True
            self.connection.resume_delivery()
            self.resume(OUTPUT)

    def stopProducing(self) -> None:
        """Twisted's transport is gone; ``connectionLost`` follows."""

    # --- the protocol machine's side ------------------------------------------------

    def accepted(
        self, version: int, keep_alive: float, maximum_packet_size: int, user: str | None
    ) -> None:
        self._set_timer(None)
        self.limiter = self.factory.limits.join_user(self.limiter, user)
        # Message by message is not how the fast lane counts.
        counted = self.limiter is not None and self.limiter.messages
        self._fast = self.factory.broker.use_fast_lane and not counted
        self._silence = keep_alive
        if keep_alive:
            self._watch(keep_alive)
        else:
            self._watch(self.PROBE_INTERVAL)

    def close(self) -> None:
        if self._pauses & CLOSING:
            return
        self.pause(CLOSING)
        self._reading = False
        self.transport.pauseProducing()
        self._holding = False
        self.flush()
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        # A peer that does not read would keep the connection for ever.
        timeout = self.listener.limits.close_timeout
        self._set_timer(self.factory.broker.wheel.call_later(timeout, self.abort))

    def abort(self) -> None:
        self._pauses |= CLOSING
        self.transport.abortConnection()

    # --- deadlines --------------------------------------------------------------------

    #: Seconds between looks at a connection that has no keep alive.
    PROBE_INTERVAL = 60.0

    def _set_timer(self, timer: Timer | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer

    def _connect_timed_out(self) -> None:
        self.connection.connect_timed_out()

    def _watch(self, delay: float) -> None:
        self._timer = self.factory.broker.wheel.call_later(delay, self._look)

    def _look(self) -> None:
        """Is the client still there? Its packets say so, or its socket."""
        if self._pauses & OUR_DOING:
            # We do not read, so nothing tells us that it left but its socket.
            if peer_is_gone(self.transport):
                self.abort()
                return
            self._watch(self._silence or self.PROBE_INTERVAL)
            return
        if not self._silence:
            self._watch(self.PROBE_INTERVAL)
            return
        left = self.last_seen + self._silence - self.factory.broker.seconds()
        if left > 0:
            self._watch(left)
        else:
            self.connection.keep_alive_expired()


def _label(reason: Failure) -> str:
    """How a connection ended, for the metrics."""
    if reason.check(ConnectionDone):
        return "closed-by-client"
    return "aborted" if reason.check(ConnectionAborted) else "connection-lost"
