"""One network connection of a client: bytes, the handshake, keep alive.

``Client`` makes one for each attempt and learns of CONNACK, of packets, and of the end.
What packets mean for messages is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mqttd.client.settings import ClientSettings
from mqttd.interfaces import IClientAuthentication
from mqttd.messaging import Refused
from mqttd.wire.codes import MQTT5, ConnectReturnCode, ReasonCode
from mqttd.wire.errors import ProtocolViolation
from mqttd.wire.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingresp,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Unsuback,
)
from mqttd.wire.parser import Parser
from mqttd.wire.serializer import PINGREQ, serialize

log = Logger()

#: What may come after CONNACK.
_IN_SESSION = (Publish, Puback, Pubrec, Pubrel, Pubcomp, Suback, Unsuback)


class ConnectionEnded(Exception):
    """A connection is over; the text says why."""


class Owner(Protocol):
    """Who is told what happens on the connection."""

    def opened(self, protocol: ClientProtocol, connack: Connack) -> None: ...

    def packet_received(self, packet: Any) -> None: ...

    def writable_again(self) -> None: ...

    def ended(self, protocol: ClientProtocol, reason: Exception) -> None: ...


@implementer(IPushProducer)
class ClientProtocol(TwistedProtocol):
    """The connection."""

    def __init__(
        self,
        owner: Owner,
        clock: Any,
        seconds: Callable[[], float],
        settings: ClientSettings,
        connect: Connect,
        authentication: IClientAuthentication | None = None,
    ) -> None:
        self._owner = owner
        self._clock = clock
        self._seconds = seconds
        self._settings = settings
        self._connect = connect
        self._authentication = authentication
        self._parser = Parser(settings.maximum_packet_size, server_side=False)
        self._parser.version = settings.version
        #: CONNACK with success has come, and the end has not.
        self.is_open = False
        #: False while the network takes nothing more.
        self.writable = True
        #: Why it ends, where we know better than the transport.
        self._reason: Exception | None = None
        self._is_lost = False
        self._timer: IDelayedCall | None = None
        self._ping_sent: float | None = None
        self._sent_at = self._received_at = 0.0
        self._keep_alive = float(settings.keep_alive)
        self._reading_paused = self._waiting = self._parsing = False

    # --- Twisted's side ---------------------------------------------------------------

    def connectionMade(self) -> None:
        self.transport: Any
        self.transport.registerProducer(self, True)
        self._timer = self._clock.callLater(self._settings.connect_timeout, self._no_connack)
        if self._authentication is None:
            self._send_connect(None)
        else:
            self._ask(self._authentication.start, self._send_connect)

    def dataReceived(self, data: bytes) -> None:
        self._received_at = self._seconds()
        self._parser.feed(data)
        self._parse()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_open = False
        self._is_lost = True
        self._stop_timer()
        error = self._reason
        if error is None:
            text = f"the connection was cut: {reason.getErrorMessage()}"
            error = ConnectionEnded("the server has left" if reason.check(ConnectionDone) else text)
        self._reason = error
        self._owner.ended(self, error)

    def pauseProducing(self) -> None:
        self.writable = False

    def resumeProducing(self) -> None:
        self.writable = True
        if self.is_open:
            self._owner.writable_again()

    def stopProducing(self) -> None:
        self.writable = False

    @property
    def asked_clean(self) -> bool:
        return self._connect.clean_start

    # --- for the client -------------------------------------------------------------------

    def send(self, packet: Packet) -> None:
        """Write *packet*; nothing happens on a connection that is over."""
        self.write(serialize(packet, self._settings.version))

    def write(self, frame: bytes) -> None:
        if self._reason is None:
            self._sent_at = self._seconds()
            self.transport.write(frame)

    def pause(self) -> None:
        """Read no further."""
        if not self._reading_paused:
            self._reading_paused = True
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on, in a turn of its own."""
        if self._reading_paused and self._reason is None:
            self._reading_paused = False
            self._received_at = self._seconds()
            self._ping_sent = None
            self.transport.resumeProducing()
            self._clock.callLater(0, self._parse)

    def close(self) -> None:
        """Take leave: DISCONNECT, and the end when it is sent."""
        self._leave(ConnectionEnded("closed by the program"), ReasonCode.SUCCESS)

    def fail(self, error: Exception, reason: int = 0) -> None:
        """Break it off; a 5.0 server is told *reason*, if there is one."""
        if self._reason is not None:
            return
        if reason and self._settings.version == MQTT5:
            self._leave(error, reason)
        else:
            self._end(error)
            self.transport.abortConnection()

    def _leave(self, error: Exception, reason: int) -> None:
        if self._is_lost:
            return
        if self.is_open:
            self.send(Disconnect(reason))
        self._end(error)
        # A peer that takes nothing more shall not keep us.
        self._timer = self._clock.callLater(self._settings.ping_timeout, self._cut)
        self.transport.loseConnection()

    def _cut(self) -> None:
        self._timer = None
        self.transport.abortConnection()

    def _end(self, error: Exception) -> None:
        self._reason = error
        self.is_open = False
        self._stop_timer()

    # --- packets ----------------------------------------------------------------------------

    def _parse(self) -> None:
        if self._parsing:
            return
        self._parsing = True
        try:
            while self._reason is None and not self._reading_paused and not self._waiting:
                packet = self._parser.next_packet()
                if packet is None:
                    return
                self._received(packet)
        except ProtocolViolation as violation:
            error = ConnectionEnded(f"the server broke the rules: {violation.text}")
            self.fail(error, violation.reason)
        except Exception as error:
            log.failure("A packet from the server could not be handled")
            self.fail(ConnectionEnded(f"failed here: {error}"), ReasonCode.UNSPECIFIED_ERROR)
        finally:
            self._parsing = False

    def _received(self, packet: Any) -> None:
        match packet:
            case Connack() if not self.is_open:
                self._connack(packet)
            case Auth():
                self._auth(packet)
            case Pingresp() if self.is_open:
                self._ping_sent = None
                if self._keep_alive:
                    self._expect()
            case Disconnect() if self.is_open:
                text = packet.properties.get("reason_string", "the server has sent DISCONNECT")
                self.fail(Refused(packet.reason, text))
            case _ if self.is_open and isinstance(packet, _IN_SESSION):
                self._owner.packet_received(packet)
            case _:
                raise ProtocolViolation(
                    ReasonCode.PROTOCOL_ERROR, f"{packet.type.name} at the wrong time"
                )

    def _send_connect(self, data: bytes | None) -> None:
        connect, method = self._connect, self._authentication
        if method is not None:
            connect.properties["authentication_method"] = method.method
            if data is not None:
                connect.properties["authentication_data"] = data
        self.send(connect)

    def _connack(self, packet: Connack) -> None:
        if packet.reason:
            self.fail(refusal(packet, self._settings.version))
            return
        if self._authentication is not None:
            data = packet.properties.get("authentication_data")
            self._ask(lambda: self._finish(data), lambda _: self._opened(packet))
            return
        self._opened(packet)

    def _finish(self, data: bytes | None) -> Any:
        assert self._authentication is not None
        return self._authentication.finish(data)

    def _opened(self, packet: Connack) -> None:
        self._stop_timer()
        self.is_open = True
        self._keep_alive = float(
            packet.properties.get("server_keep_alive", self._settings.keep_alive)
        )
        if self._keep_alive:
            self._expect()
        self._owner.opened(self, packet)

    def _auth(self, packet: Auth) -> None:
        method = self._authentication
        if method is None or packet.properties.get("authentication_method") != method.method:
            raise ProtocolViolation(ReasonCode.PROTOCOL_ERROR, "AUTH that nobody has asked for")
        data = packet.properties.get("authentication_data")
        self._ask(lambda: method.respond(data), self._answer)

    def _answer(self, data: bytes | None) -> None:
        assert self._authentication is not None
        properties: Properties = {"authentication_method": self._authentication.method}
        if data is not None:
            properties["authentication_data"] = data
        self.send(Auth(ReasonCode.CONTINUE_AUTHENTICATION, properties))

    def _ask(self, ask: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Ask the method of authentication; what comes meanwhile waits."""
        self._waiting = True
        answer: Deferred[Any] = maybeDeferred(ask)
        answer.addCallbacks(lambda data: self._asked(then, data), self._not_authenticated)

    def _asked(self, then: Callable[[Any], None], data: Any) -> None:
        self._waiting = False
        if self._reason is None:
            then(data)
            self._parse()

    def _not_authenticated(self, failure: Failure) -> None:
        self._waiting = False
        text = f"authentication failed: {failure.getErrorMessage()}"
        self.fail(ConnectionEnded(text), ReasonCode.NOT_AUTHORIZED)

    # --- time -----------------------------------------------------------------------------------

    def _no_connack(self) -> None:
        self._timer = None
        self.fail(ConnectionEnded("no CONNACK in time"))

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _due(self) -> float:
        """When the next PINGREQ is due, or its answer overdue."""
        if self._ping_sent is not None:
            return self._ping_sent + self._settings.ping_timeout
        # Also when only we send: a dead server takes much before it shows.
        return min(self._sent_at, self._received_at) + self._keep_alive

    def _expect(self) -> None:
        self._stop_timer()
        self._timer = self._clock.callLater(max(0.0, self._due() - self._seconds()), self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._seconds()
        if self._reading_paused:
            # We do not listen: that is not the server's fault.
            self._ping_sent, self._received_at = None, now
        # A timer may come a rounding too early, and never by more.
        if self._due() <= now + 0.001:
            if self._ping_sent is not None:
                self.fail(ConnectionEnded("the server does not answer PINGREQ"))
                return
            self.write(PINGREQ)
            self._ping_sent = now
        self._expect()


def refusal(packet: Connack, version: int) -> Refused:
    """The no of a CONNACK."""
    text = packet.properties.get("reason_string", "")
    if not text:
        kind = ReasonCode if version == MQTT5 else ConnectReturnCode
        text = kind(packet.reason).name.lower().replace("_", " ")
    reference = packet.properties.get("server_reference")
    text += f", use {reference}" if reference else ""
    return Refused(packet.reason, f"the server refused the connection: {text}")
