"""One listening endpoint: from the text of the settings to sockets that are served.

The service owns listeners and tells them to start, change and stop. A listener
puts the parts of ``net`` together: the port, the gate before it, TLS, and the
factory of the protocols.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from zope.interface import implementer

from mqttd.config.endpoints import with_backlog
from mqttd.interfaces import IRunningListener
from mqttd.net.eager import make_eager
from mqttd.net.factory import MQTTFactory, Network
from mqttd.net.gate import Gate
from mqttd.net.tls import ServerTLS, TLSFactory
from mqttd.settings import ListenerSettings, SettingError

log = Logger()

#: Socket options for the buffers -> the setting.
_BUFFERS = {socket.SO_RCVBUF: "receive_buffer", socket.SO_SNDBUF: "send_buffer"}


class ListenError(Exception):
    """An endpoint that cannot be listened on; says which, and why."""

    def __init__(self, endpoint: str, cause: str) -> None:
        super().__init__(f"cannot listen on {endpoint!r}: {cause}")
        self.endpoint = endpoint
        #: The cause alone, as in ``OSError``.
        self.strerror = cause


@implementer(IRunningListener)
class Listener:
    """A listener; *network* is what all listeners of a broker share."""

    def __init__(self, reactor: Any, network: Network, settings: ListenerSettings) -> None:
        self.settings = settings
        self.factory = MQTTFactory(network.broker, settings, network)
        self._reactor = reactor
        #: What watches the sockets of its clients, if anything but the reactor does.
        self._hub = network.hub(reactor)
        self._tls: ServerTLS | None = None
        self._switch = Switch(self.factory)
        self._gate = Gate(self.factory, self._switch, settings)
        self._port: Any = None
        self._closed: Deferred[None] | None = None

    # --- life -----------------------------------------------------------------------

    async def start(self) -> None:
        """Listen.

        Raises ``ListenError`` for an endpoint that is wrong or taken, and for
        certificates that cannot be used.
        """
        try:
            self._switch.inner = self._inside(self.settings)
            self._port = await self._listen()
            if self._closed is not None:
                # Stopped before there was a port to stop.
                await maybeDeferred(self._port.stopListening)
                return
            if self._hub is not None:
                self._hub.open()
            self._put_gate_before()
        except Exception as error:
            self.stop()
            raise ListenError(self.settings.endpoint, _cause(error)) from error
        log.info("{name} listens on {address}", name=self.name, address=self.address)

    def _listen(self) -> Deferred[Any]:
        description = with_backlog(self.settings.endpoint, self.settings.backlog)
        listening: Deferred[Any] = serverFromString(self._reactor, description).listen(self._switch)
        return listening

    def stop(self) -> Deferred[None]:
        """Listen no more. Done when the port is closed.

        Clients stay; connections on which no CONNECT has begun are not such.
        """
        if self._closed is None:
            self._gate.close()
            self._gate.abort_waiting()
            self.factory.abort_newcomers()
            port, self._port = self._port, None
            if port is not None and self._hub is not None:
                self._hub.close()
            self._closed = succeed(None) if port is None else maybeDeferred(port.stopListening)
        return self._closed

    def abort(self) -> None:
        """Cut every connection that is left."""
        self._gate.abort_waiting()
        self.factory.abort_all()

    # --- run time ---------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.settings.name or self.settings.endpoint

    @property
    def address(self) -> IAddress | None:
        """Where it listens in fact (the port number where 0 was asked for)."""
        address: IAddress | None = None if self._port is None else self._port.getHost()
        return address

    @property
    def connections(self) -> int:
        """Open connections, those without CONNECT included."""
        return self._gate.connections

    @property
    def paused(self) -> bool:
        """Whether it accepts no connection for now."""
        return self._gate.held

    def pause(self) -> None:
        """Accept no connection for now: clients wait in the kernel's backlog."""
        self._gate.hold()

    def resume(self) -> None:
        """Accept connections again."""
        self._gate.release()

    def reload(self, settings: ListenerSettings) -> None:
        """Take other settings, and read certificates and revocation lists again.

        Connections that are there keep what they have. When the new certificates
        cannot be used nothing changes, and ``TLSError`` is raised. The endpoint
        must be the same; a new backlog waits for a new start.
        """
        if settings.endpoint != self.settings.endpoint:
            raise SettingError("endpoint", settings.endpoint, f"{self.settings.endpoint!r} still")
        self._switch.inner = self._inside(settings)
        self.settings = self.factory.settings = settings
        self._gate.change(settings)
        self._set_options()

    # --- inside -------------------------------------------------------------------------

    def _inside(self, settings: ListenerSettings) -> IProtocolFactory:
        """Our factory, with TLS around it if the settings say so."""
        inside = self._protocols(settings)
        if settings.tls is None:
            self._tls = None
            return inside
        if self._tls is not None:
            self._tls.reload(settings.tls)
        else:
            self._tls = ServerTLS(settings.tls)
        return TLSFactory(self._tls, False, inside, self._reactor)

    def _protocols(self, settings: ListenerSettings) -> IProtocolFactory:
        """Our factory, with WebSocket around it if the settings say so."""
        if settings.websocket is None:
            return self.factory
        try:
            from mqttd.net.websocket import WebSocketFactory
        except ImportError as error:
            remedy = "WebSocket needs wsproto: pip install 'txmqttd[websocket]'"
            raise ListenError(settings.endpoint, remedy) from error
        return WebSocketFactory(self.factory, self._gate, settings.websocket)

    def _put_gate_before(self) -> None:
        """Make the gate the first factory that the port asks.

        ``ssl:`` and the like have put one of theirs around ours.
        """
        if not hasattr(self._port, "factory"):
            raise SettingError("endpoint", self.settings.endpoint, "one that limits can be put on")
        make_eager(self._port, self._hub)
        self._gate.open(self._port)
        self._set_options()

    def _set_options(self) -> None:
        """Connections inherit the buffers' sizes from the socket that listens, and more."""
        handle = getattr(self._port, "socket", None)
        if handle is None:
            return
        for option, name in _BUFFERS.items():
            if size := getattr(self.settings, name):
                handle.setsockopt(socket.SOL_SOCKET, option, size)
        self.factory.tells_tcp = not _tell_tcp(handle, self.settings.tcp_no_delay)


def _tell_tcp(handle: socket.socket, no_delay: bool) -> bool:
    """Set what connections inherit on Linux; False where each must be told itself."""
    if sys.platform != "linux" or handle.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    try:
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, no_delay)
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
    except OSError:
        return False
    return True


def _cause(error: Exception) -> str:
    """What went wrong, in the words of the system."""
    # Twisted wraps the error of the socket into one of its own.
    reason: object = getattr(error, "socketError", error)
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__


class Switch(Factory):
    """What an endpoint gets: it leads to a factory that may be exchanged."""

    noisy = False

    def __init__(self, inner: IProtocolFactory) -> None:
        self.inner = inner

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:  # type: ignore[override]
        return self.inner.buildProtocol(addr)
