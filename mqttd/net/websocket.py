"""MQTT over WebSocket (MQTT 5.0 section 6): frames outside, MQTT's bytes inside.

The listener puts a ``WebSocketFactory`` between its gate (and TLS) and its
protocols. A ``WebSocket`` answers the HTTP request, finds out who it is from, asks
the gate about that one, and then is the transport of an ``MQTTProtocol``: payloads
go in as they come, in whatever frames, and each write is one frame. What the
protocol pauses is paused at the socket, so that a slow client costs no memory.
wsproto does the framing; no extension is offered, so nothing is ever inflated.

Until the HTTP request is complete the connection waits with the gate and is bounded
in time by the CONNECT deadline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import RemoteProtocolError
from zope.interface import implementer

from mqttd.net.addresses import Networks, is_address, plain

if TYPE_CHECKING:
    from mqttd.broker.timers import Timer
    from mqttd.net.factory import MQTTFactory
    from mqttd.net.gate import Gate
    from mqttd.net.protocol import MQTTProtocol
    from mqttd.settings import WebSocketSettings

log = Logger()

#: Spoken here, the first that a client offers being taken.
#: [MQTT-6.0.0-4] [MQTT311-6.0.0-4]
SUBPROTOCOLS = ("mqtt", "mqttv3.1")

#: States in which bytes of ours may go out.
_OPEN = ConnectionState.OPEN


class WebSocketFactory(Factory):
    """Puts WebSocket around the protocols of a factory."""

    noisy = False

    def __init__(self, factory: MQTTFactory, gate: Gate, settings: WebSocketSettings) -> None:
        self.factory = factory
        self.gate = gate
        self.settings = settings
        self.trusted = Networks(settings.trusted_proxies)

    def buildProtocol(self, addr: IAddress | None) -> WebSocket:
        return WebSocket(self, addr)


class Refused(Exception):
    """The HTTP request is answered with an error."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@implementer(IHandshakeListener)
class WebSocket(Protocol):
    """One connection, and the transport of the MQTT protocol in it."""

    transport: Any
    #: The protocol inside, once the request was accepted.
    wrappedProtocol: MQTTProtocol
    #: Seconds since accept, for the CONNECT deadline; those of a PROXY header.
    waited = 0.0
    _inside: MQTTProtocol | None = None
    _timer: Timer | None = None
    #: The address under which it waits.
    _counted: str | None = None
    _secure = False
    _closing = False

    def __init__(self, factory: WebSocketFactory, address: IAddress | None) -> None:
        self._factory = factory
        self._address = address
        self._frames = WSConnection(ConnectionType.SERVER)

    # --- Twisted's side ---------------------------------------------------------------

    def connectionMade(self) -> None:
        gate = self._factory.gate
        broker = gate.broker
        gate.waiting.add(self)
        # Whoever never completes a request shall count, too; but for a proxy, who
        # stands for others.
        host = getattr(self._address, "host", None)
        if host is not None and plain(host) not in self._factory.trusted:
            self._counted = plain(host)
            self._factory.factory.arrived(self._counted)
        self._since = broker.seconds() - self.waited
        timeout = gate.settings.limits.connect_timeout - self.waited
        self._timer = broker.wheel.call_later(timeout, self._timed_out)

    def handshakeCompleted(self) -> None:
        """TLS is up; whoever comes inside will want to know."""
        self._secure = True

    def dataReceived(self, data: bytes) -> None:
        try:
            self._frames.receive_data(data)
            for event in self._frames.events():
                self._handle(event)
        except RemoteProtocolError as error:
            self._reject(error.event_hint, str(error))
        except Exception as error:
            # wsproto lets through what some headers raise in its decoders.
            log.debug("WebSocket of {address}: {error}", address=self._address, error=error)
            self._refused("websocket-request")
            self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._leave()
        if self._inside is not None:
            self._inside.connectionLost(reason)

    # --- the request --------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        if isinstance(event, BytesMessage):
            if self._inside is not None:
                # A packet may be in several frames, or a frame hold several.
                # [MQTT-6.0.0-2] [MQTT311-6.0.0-2]
                self._inside.dataReceived(bytes(event.data))
        elif isinstance(event, Request):
            self._requested(event)
        elif isinstance(event, TextMessage):
            self._fail(
                CloseReason.UNSUPPORTED_DATA, "MQTT is binary"
            )  # [MQTT-6.0.0-1] [MQTT311-6.0.0-1]
        elif isinstance(event, Ping):
            # A client that sends and does not read shall not fill our memory.
            if self._inside is not None and self._inside.writable:
                self._send(event.response())
        elif isinstance(event, CloseConnection):
            self._closed_by_client(event)

    def _requested(self, request: Request) -> None:
        headers = _headers(request)
        try:
            subprotocol = self._check(request, headers)
            address = self._client(headers)
        except Refused as error:
            self._reject(RejectConnection(status_code=error.status), str(error))
            return
        gate = self._factory.gate
        self._leave()
        if address is not self._address and not gate.admits(getattr(address, "host", None)):
            self._reject(RejectConnection(status_code=403), "not admitted")
            return
        self._send(AcceptConnection(subprotocol=subprotocol))
        self._let_in(address, headers)

    def _check(self, request: Request, headers: dict[str, str]) -> str:
        """The subprotocol of a request that may go on."""
        settings = self._factory.settings
        if request.target.partition("?")[0] != settings.path:
            raise Refused(404, f"MQTT is at {settings.path}")
        origin = headers.get("origin")
        if origin is not None and not self._is_welcome(origin, request.host):
            raise Refused(403, f"pages of {origin} are not in origins of [listener.websocket]")
        for name in request.subprotocols:
            if name in SUBPROTOCOLS:
                return name
        raise Refused(400, "no subprotocol mqtt")  # [MQTT-6.0.0-3] [MQTT311-6.0.0-3]

    def _is_welcome(self, origin: str, host: str) -> bool:
        origins = self._factory.settings.origins
        if "*" in origins or origin.lower() in origins:
            return True
        return urlsplit(origin).netloc.lower() == host.lower()

    def _client(self, headers: dict[str, str]) -> IAddress | None:
        """Where the client is: what trusted proxies say, or else the socket."""
        trusted = self._factory.trusted
        forwarded = headers.get("x-forwarded-for")
        host = getattr(self._address, "host", None)
        if forwarded is None or (host is not None and plain(host) not in trusted):
            return self._address
        # Each proxy adds the one it heard; what stands left of an untrusted one is hearsay.
        for hop in reversed(forwarded.split(",")):
            hop = plain(hop.strip())
            if not is_address(hop):
                raise Refused(400, "X-Forwarded-For holds no address")
            if hop not in trusted:
                break
        kind = IPv6Address if ":" in hop else IPv4Address
        return kind("TCP", hop, 0)

    def _let_in(self, address: IAddress | None, headers: dict[str, str]) -> None:
        factory = self._factory
        inside = factory.factory.buildProtocol(address)
        inside.peer.headers = headers
        inside.waited = factory.gate.broker.seconds() - self._since
        self._inside = self.wrappedProtocol = inside
        inside.makeConnection(self)
        if self._secure:
            inside.handshakeCompleted()

    def _reject(self, answer: Event | None, reason: str) -> None:
        log.debug(
            "The WebSocket request of {address} is refused: {reason}",
            address=self._address,
            reason=reason,
        )
        self._refused("websocket-request")
        self._leave()
        if self._closing:
            return
        self._closing = True
        if answer is not None and self._frames.state is ConnectionState.CONNECTING:
            self.transport.write(self._frames.send(answer))
        self.transport.loseConnection()

    def _refused(self, reason: str) -> None:
        if self._inside is None and not self._closing:
            self._factory.gate.refuse(reason)

    def _timed_out(self) -> None:
        self._factory.gate.refuse("connect-timeout")
        self.abort()

    def _leave(self) -> None:
        """Wait with the gate no more."""
        self._factory.gate.waiting.discard(self)
        if self._counted is not None:
            self._factory.factory.left(self._counted)
            self._counted = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- the end ------------------------------------------------------------------------

    def _closed_by_client(self, event: CloseConnection) -> None:
        # What WebSocket ends without DISCONNECT was lost: wills go out.
        if self._frames.state is ConnectionState.REMOTE_CLOSING:
            self._send(event.response())
        elif self._frames.state is _OPEN:
            # A broken frame: the code says in which way.
            self._send(CloseConnection(event.code, event.reason))
        self._closing = True
        self.transport.loseConnection()

    def _fail(self, code: CloseReason, reason: str) -> None:
        if self._frames.state is _OPEN:
            self._send(CloseConnection(code, reason))
        self._closing = True
        self.transport.loseConnection()

    def _send(self, event: Event) -> None:
        self.transport.write(self._frames.send(event))

    def abort(self) -> None:
        self._leave()
        self.transport.abortConnection()

    # --- the transport of the protocol inside ---------------------------------------------

    def write(self, data: bytes) -> None:
        if self._frames.state is _OPEN:
            self.transport.write(self._frames.send(BytesMessage(data)))

    def loseConnection(self) -> None:
        """Say goodbye; the client's answer ends it, or the protocol's deadline."""
        if self._frames.state is _OPEN:
            self._send(CloseConnection(CloseReason.NORMAL_CLOSURE))
        else:
            self.transport.loseConnection()

    def abortConnection(self) -> None:
        self.transport.abortConnection()

    def pauseProducing(self) -> None:
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.transport.resumeProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self.transport.unregisterProducer()

    def getHandle(self) -> Any:
        """OpenSSL's connection, under TLS."""
        return self.transport.getHandle()

    def setTcpNoDelay(self, enabled: bool) -> None:
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(enabled)

    def setTcpKeepAlive(self, enabled: bool) -> None:
        if hasattr(self.transport, "setTcpKeepAlive"):
            self.transport.setTcpKeepAlive(enabled)


def _headers(request: Request) -> dict[str, str]:
    """The request's headers by lower-case name; of several of a name all, by commas."""
    headers = {"host": request.host}
    for name, value in request.extra_headers:
        key, text = name.decode("ascii"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers
