"""The protocol of one socket: bytes in, bytes out, and nothing of MQTT's meaning.

Twisted calls it with what arrives; it keeps the limits, feeds the parser and
hands packets to the protocol machine, which sees it as ``ITransport``. It knows
why it does not read (a mask of ``broker.pause`` reasons), what its deadlines
are, and how to close without hanging. Its output is in ``outbound``.

While any pause reason is set nothing is parsed: what has been read waits in the
parser, and is parsed before reading goes on. What was read is always handled; a
rate that it exceeds delays the next read.

A connection that we do not read is not watched by the reactor either, and its
client's PINGREQ lies unseen in the kernel. So the time of a pause does not count
towards keep alive; instead ``_look`` asks the socket now and then whether the
client has left, and a client that we wait for to take our output must take some.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IProtocol,
    IPushProducer,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from mqttd.broker import fast_lane
from mqttd.broker.connection import Connection
from mqttd.broker.pause import CLOSING, OUTPUT, PENDING, RATE
from mqttd.interfaces import FlightEntry, IPacketWatcher, ITransport, Peer
from mqttd.net.flight import HEAD, SHORT, entries, forget, piece
from mqttd.net.gathered_tls import GatheredTLS
from mqttd.net.limiter import Limiter
from mqttd.net.outbound import FULL, Outbound
from mqttd.net.peer import ending_of, innermost, unread, unread_after_end, unsent
from mqttd.net.tls import identify
from mqttd.settings import Rate
from mqttd.wire.codes import PacketType
from mqttd.wire.errors import ProtocolViolation
from mqttd.wire.packets import Packet
from mqttd.wire.parser import Parser

if TYPE_CHECKING:
    from mqttd.broker.timers import Timer
    from mqttd.net.factory import MQTTFactory

log = Logger()

_PUBLISH: Final = PacketType.PUBLISH

#: Seconds between looks at a connection, or less when its keep alive is shorter.
LOOK_INTERVAL = 60.0
#: Seconds that a pause may keep what a client sent before it left.
ABANDONED = 300.0
#: Bytes that are read, for nothing, from a client whose connection is closing.
MOST_DROPPED: Final = 16 * 1024 * 1024


class MQTTProtocol(Outbound):
    """One connection of a listener."""

    __slots__ = (
        "_direct",
        "_fast",
        "_processing",
        "_reading",
        "_silence",
        "_timer",
        "_unnoted",
        "last_seen",
        "limiter",
        "parser",
        "peer",
    )

    #: Seconds from accept until the protocol was made: those of a PROXY header.
    waited = 0.0
    _paused_at = 0.0
    _rate_call: IDelayedCall | None = None
    _rate_until = 0.0
    _dropped = 0

    def __init__(self, factory: MQTTFactory, peer: Peer) -> None:
        super().__init__()
        self.factory = factory
        self.peer = peer
        self.listener = factory.settings
        #: The limits on what comes in; None for none.
        self.limiter: Limiter | None = None
        #: When something came last; the time of pauses is added.
        self.last_seen = 0.0
        #: Seconds without a packet after which the client counts as dead; 0:
        #: never; less: it has yet to be accepted.
        self._silence = -1.0
        self._timer: Timer | None = None
        #: Bytes that wait in the parser and came while the flight recorder looked away.
        self._unnoted = 0
        self._reading = True
        self._processing = False
        #: How long a packet alone may be to take the shortest way; 0: the fast lane
        #: is not for this connection.
        self._fast = 0
        #: The same where nothing is in the parser's hands and no reason to pause, so that
        #: the lane may see what comes before the parser does; else 0.
        self._direct = 0
        protocol = self.listener.protocol
        self.parser = Parser(
            protocol.maximum_packet_size,
            maximum_user_properties=protocol.maximum_user_properties,
            maximum_filters=protocol.maximum_filters_per_packet,
        )

    @property
    def version(self) -> int:
        """Protocol level of the CONNECT, as far as it was parsed."""
        return self.parser.version

    # --- Twisted's side: the connection -------------------------------------------

    def makeConnection(self, transport: Any) -> None:
        self.connected = 1
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        broker, limits = self.factory.broker, self.listener.limits
        self.factory.made(self)
        if self.factory.tells_tcp:
            self._set_options()
        self.limiter = self.factory.limits.for_connection(limits, self.peer.address)
        self.connection = Connection(broker, self)
        self.last_seen = broker.seconds()
        self._watch(limits.connect_timeout - self.waited)
        self.start_output(limits)
        for told in broker.newcomers:
            told(self.connection)

    def _set_options(self) -> None:
        transport = self.transport
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(self.listener.tcp_no_delay)
        if hasattr(transport, "setTcpKeepAlive"):
            transport.setTcpKeepAlive(True)

    def handshakeCompleted(self) -> None:
        """The TLS handshake is done, and the client's certificate known."""
        if not identify(self.peer, self.transport, self.listener.tls):
            self.factory.broker.metrics.refused["certificate-name"] += 1
            self.connection.end("certificate-name")
            self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._pauses |= CLOSING
        self._direct = 0
        self._set_timer(None)
        self._stop_rate_call()
        self.stop_output()
        self.factory.lost(self)
        ending = ending_of(reason)
        self.connection.connection_lost(ending)
        if self.watcher is not None:
            self.watcher.ended(ending)
            self.watch(None)
        if not (self._processing or self._pauses & PENDING):
            # It knows us: what is no cycle is not left to the garbage collector, whose
            # rounds are a twentieth of a short connection.
            del self.connection

    # --- Twisted's side: input ------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        direct, size = self._direct, len(data)
        if not direct:
            self._receive(data)
            return
        # Nothing waits before it. In one function what would be six calls: most chunks
        # are small, and many are one message.
        if size <= direct:
            try:
                answer = fast_lane.take_alone(self.connection, data)
                if answer is not None:
                    now = self.last_seen = self.factory.broker.seconds()
                    self.write_now(answer, data, now)
                    if self.limiter is not None and self.limiter.bytes:
                        self._wait_for_tokens(self.limiter.take_bytes(size))
                    return
            except Exception:
                self._failed()
                return
        factory = self.factory
        broker, flusher = factory.broker, factory.flusher
        broker.metrics.bytes_received += size
        now = self.last_seen = broker.seconds()
        flight = self._flight
        if flight is not None:
            if size > SHORT:
                # As ``piece`` has it.
                came = data if size <= HEAD else (0, size, data[:HEAD])
                flight += (now, came, b"")
                if len(flight) > factory.flight_room:
                    forget(flight)
            else:
                self._note_input(data)
        # As ``_process`` does.
        self._processing = True
        flusher.chunks += 1
        try:
            taken = fast_lane.take(self.connection, data, 0)
            if taken != size:
                self._parse(data[taken:] if taken else data, 0)
        except Exception as error:
            self._broke(error)
        finally:
            self._processing = False
            flusher.chunks -= 1
            if flusher.touched and not flusher.chunks:
                flusher.flush()
        if self._pauses or not self._reading:
            self._read_or_not()
        if self.limiter is not None and self.limiter.bytes:
            self._wait_for_tokens(self.limiter.take_bytes(size))

    def _receive(self, data: bytes) -> None:
        """Take *data* where something waits before it, or it has to wait itself."""
        if self._pauses & CLOSING:
            self._drop(len(data))
            return
        broker = self.factory.broker
        broker.metrics.bytes_received += len(data)
        self.last_seen = broker.seconds()
        self.parser.feed(data)  # [MQTT-4.2-1] [MQTT-4.2.0-1] [MQTT311-7.1.1-1]
        if self._flight is not None:
            self._note_input(data)
        if not self._pauses:
            self._process()
        if self.limiter is not None and self.limiter.bytes:
            self._wait_for_tokens(self.limiter.take_bytes(len(data)))

    def _note_input(self, data: bytes) -> None:
        flight = self._flight
        assert flight is not None
        if self._pauses:
            # The window is not looked at: it would be joined anew each time.
            self._unnoted += len(data)
            return
        if self._direct:
            held, position, before = data, 0, 0
        else:
            held, position = self.parser.window()
            before = max(0, len(held) - position - len(data) - self._unnoted)
        size = len(held) - position
        if not size:
            # A part of a packet, which is noted when it is whole.
            self._unnoted += len(data)
        elif size != SHORT or held[position + 1]:
            flight += (self.last_seen, piece(held, position, before), b"")
            self._unnoted = 0
            if len(flight) > self.factory.flight_room:
                forget(flight)

    def _drop(self, size: int) -> None:
        """The client goes on sending while its connection is closed."""
        self._dropped += size
        if self._dropped > MOST_DROPPED:
            self.abort()

    def _process(self) -> None:
        """Handle the packets in hand until there is none or a reason to pause."""
        flusher = self.factory.flusher
        self._processing = True
        flusher.chunks += 1
        try:
            self._parse(b"", self._fast)
        except Exception as error:
            self._broke(error)
        finally:
            self._processing = False
            flusher.chunks -= 1
            if flusher.touched and not flusher.chunks:
                flusher.flush()
        if self._pauses or not self._reading:
            self._read_or_not()

    def _parse(self, data: bytes, fast: int) -> None:
        """Handle what the parser holds, with *data* behind it.

        *fast*: the lane may have the first packet; it has not refused it already.
        """
        parser, connection = self.parser, self.connection
        self._direct = 0
        if data:
            parser.feed(data)
        while not self._pauses:
            if fast and fast_lane.take_from(connection, parser):
                break
            packet = parser.next_packet()
            if packet is None:
                break
            self._handle(packet)
            fast = self._fast
        pending = parser.pending
        self._unnoted = min(self._unnoted, pending)
        self._direct = 0 if pending or self._pauses else self._fast

    def _handle(self, packet: Packet) -> None:
        if self.watcher is not None:
            self.watcher.received(packet)
        if packet.type is _PUBLISH and self.limiter is not None and self.limiter.messages:
            self._wait_for_tokens(self.limiter.take_messages(1))
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

    def _broke(self, error: Exception) -> None:
        """*error* came of handling what the client has sent."""
        if not isinstance(error, ProtocolViolation):
            self._failed()
            return
        try:
            if self.watcher is not None:
                self.watcher.broken(error.text)
            self.connection.violated(error)
        except Exception:
            self._failed()

    def _failed(self, failure: Failure | None = None) -> None:
        """Something of ours broke: this connection ends, and no other does."""
        log.failure("A packet of {address} failed", failure, address=self.peer.address)
        self.factory.broker.metrics.errors["connection"] += 1
        try:
            self.connection.failed()  # [MQTT311-4.8.0-2]
        except Exception:
            log.failure("Closing the connection of {address} failed", address=self.peer.address)
            self.abort()

    # --- pauses ---------------------------------------------------------------------

    def pause(self, reason: int) -> None:
        if not self._pauses:
            self._paused_at = self.factory.broker.seconds()
        self._pauses |= reason
        self._direct = 0
        if not self._processing:
            self._read_or_not()

    def resume(self, reason: int) -> None:
        if not self._pauses & reason:
            return
        self._pauses &= ~reason
        if self._pauses:
            return
        now = self.factory.broker.seconds()
        # TLS may have brought something during the pause.
        self.last_seen = min(now, self.last_seen + now - self._paused_at)
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

    # --- rates ------------------------------------------------------------------------

    def _wait_for_tokens(self, delay: float) -> None:
        if not delay or self._pauses & CLOSING:
            return
        broker = self.factory.broker
        # The longest of several debts (bytes, messages) decides.
        self._rate_until = max(self._rate_until, broker.seconds() + delay)
        self.pause(RATE)
        if self._rate_call is None:
            self._rate_call = broker.clock.callLater(delay, self._paid_up)

    def _paid_up(self) -> None:
        broker = self.factory.broker
        self._rate_call = None
        left = self._rate_until - broker.seconds()
        # A microsecond is below what the clock can wait for.
        if left > 1e-6:
            self._rate_call = broker.clock.callLater(left, self._paid_up)
        else:
            self.resume(RATE)

    def _stop_rate_call(self) -> None:
        if self._rate_call is not None:
            self._rate_call.cancel()
            self._rate_call = None

    @property
    def inbound_rates(self) -> tuple[Rate | None, Rate | None]:
        """This connection's own limits: bytes, and PUBLISH packets, per second."""
        return (None, None) if self.limiter is None else self.limiter.rates

    @property
    def outbound_rates(self) -> tuple[Rate | None, Rate | None]:
        """The same for what it is sent."""
        return (None, None) if self.pacer is None else self.pacer.rates

    def change_inbound_rates(self, bytes: Rate | None, messages: Rate | None) -> None:
        """Take these limits from now on; None for none. Buckets that it shares stay."""
        if self.limiter is None:
            self.limiter = self.factory.limits.limiter()
        self.limiter.change(bytes, messages)
        if self.connection.is_connected:
            self._choose_lane()
        if self._pauses & RATE:
            self._stop_rate_call()
            self._rate_until = self.factory.broker.seconds() + self.limiter.debt
            self._paid_up()

    def change_outbound_rates(self, bytes: Rate | None, messages: Rate | None) -> None:
        """Take these limits from now on; None for none."""
        if self.pacer is None:
            self.pacer = self.factory.limits.limiter()
        self.pacer.change(bytes, messages)
        self.set_room()
        self.pace_anew()

    def _choose_lane(self) -> None:
        # Message by message is not how the fast lane counts.
        counted = self.limiter is not None and self.limiter.messages
        wanted = self.factory.broker.use_fast_lane and self.watcher is None
        longest = min(fast_lane.LONGEST_ALONE, self.connection.maximum_incoming)
        self._fast = longest if wanted and not counted else 0
        self._direct = self._direct and self._fast

    # --- who looks on -------------------------------------------------------------------

    def watch(self, watcher: IPacketWatcher | None) -> None:
        self.watcher = watcher
        self.set_room()
        if self.connection.is_connected:
            self._choose_lane()

    # --- the protocol machine's side ------------------------------------------------

    def accepted(
        self, version: int, keep_alive: float, maximum_packet_size: int, user: str | None
    ) -> None:
        self.limiter = self.factory.limits.join_user(self.limiter, user)
        self._choose_lane()
        self._silence = keep_alive
        if self.factory.flight_room:
            self._begin_flight()
        delay = min(keep_alive or LOOK_INTERVAL, LOOK_INTERVAL)
        # The timer of the deadline for CONNECT goes on, unless it comes too late.
        if self._timer is None or self._timer.due > self.factory.broker.seconds() + delay:
            self._set_timer(None)
            self._watch(delay)

    def _begin_flight(self) -> None:
        """Only now: CONNECT has a password, and nobody shall find it in a recorder."""
        self._flight = []
        data, position = self.parser.window()
        if len(data) > position:
            self._flight += (self.last_seen, piece(data, position), b"")

    def flight(self) -> tuple[FlightEntry, ...]:
        return tuple(entries(self._flight or []))

    def close(self, announced: bool = False) -> None:
        if self._pauses & CLOSING:
            return
        self._holding = 0
        if self._frames:
            self.flush_all()
        self._pauses |= CLOSING
        self._direct = 0
        self._stop_rate_call()
        transport = self.transport
        transport.unregisterProducer()
        inner = innermost(transport)
        if announced and isinstance(transport, GatheredTLS):
            transport.lose_at_once()
        elif inner is transport and unread(transport):
            # To close before what a client sends would be a reset: it would lose
            # the answer that says why. So the rest is read, and dropped.
            transport.loseWriteConnection()
        else:
            transport.loseConnection()
        if getattr(inner, "ends", False):
            # When the read under way returns; should it not, ``_look`` comes.
            return
        # TLS has yet to hear that the client closes too; TCP reads no more.
        transport.resumeProducing()
        # A client that does not read would keep the connection for ever.
        timeout = self.listener.limits.close_timeout
        self._set_timer(self.factory.broker.wheel.call_later(timeout, self.abort))

    def abort(self) -> None:
        self._pauses |= CLOSING
        self._direct = 0
        self.transport.abortConnection()

    # --- deadlines --------------------------------------------------------------------

    def _set_timer(self, timer: Timer | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer

    def _watch(self, delay: float, waiting: int = -1) -> None:
        """Look after *delay*; *waiting*: output that the client should have taken."""
        # The function and not the method: one object less for each idle connection.
        self._timer = self.factory.broker.wheel.call_later(delay, MQTTProtocol._look, self, waiting)

    def _look(self, waiting: int) -> None:
        """Is the client still there? Its packets say so, or its socket."""
        if self._pauses & CLOSING:
            self.abort()
            return
        if self._silence < 0:
            self.connection.connect_timed_out()
            return
        if self._pauses:
            self._look_at_paused(waiting)
            return
        if not self._silence:
            self._watch(LOOK_INTERVAL)
            return
        left = self.last_seen + self._silence - self.factory.broker.seconds()
        if left > 0:
            self._watch(min(left, LOOK_INTERVAL))
        else:
            self.connection.keep_alive_expired()

    def _look_at_paused(self, waiting: int) -> None:
        unread = unread_after_end(self.transport)
        if unread is not None:
            paused = self.factory.broker.seconds() - self._paused_at
            if not (unread or self.parser.pending) or paused > ABANDONED:
                self.abort()
                return
        if self._pauses & OUTPUT and self._holding & FULL and self._silence:
            left = unsent(self.transport)
            if left == waiting:
                self.connection.keep_alive_expired()
            else:
                self._watch(self._silence, left)
            return
        self._watch(min(self._silence or LOOK_INTERVAL, LOOK_INTERVAL))


# Not by decorator: a decorated class is not compiled.
classImplements(MQTTProtocol, ITransport, IProtocol, IPushProducer, IHandshakeListener)
