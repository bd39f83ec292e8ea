"""A listener without a port: MQTT over WebSocket at a resource of somebody's web site.

An embedding program that has a ``twisted.web`` site of its own puts an
``MQTTResource`` into it; the listener behind it (its endpoint is ``site:`` and a name)
has the limits, rules and settings of any other. A request that asks for the upgrade
gets its connection taken over from HTTP, and from there on everything is as in
``websocket``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from mqttd.net.listener import Listener, ListenError
from mqttd.settings import SettingError

log = Logger()

#: What the endpoint of such a listener begins with.
SITE = "site:"


@implementer(IAddress)
@frozen
class SiteAddress:
    """Where such a listener is: at whatever sites its resource stands."""

    name: str


class SiteListener(Listener):
    """A listener whose connections come from a web site."""

    _started = False

    @property
    def address(self) -> IAddress | None:
        open_now = self._started and self._closed is None
        return SiteAddress(self.settings.endpoint) if open_now else None

    async def start(self) -> None:
        """Be ready. Raises ``ListenError``."""
        settings = self.settings
        if settings.websocket is None or settings.tls is not None or settings.proxy_protocol:
            raise ListenError(
                settings.endpoint, "a site: listener has websocket, and neither tls nor a proxy"
            )
        self._switch.inner = self._inside(settings)
        self._started = True
        log.info("{name} waits for connections from a web site", name=self.name)

    def take(self, request: Request) -> bool:
        """Take the connection of *request* over; False: it is not let in."""
        protocol: Any = self._gate.buildProtocol(request.getClientAddress())
        if protocol is None:
            return False
        assert self.settings.websocket is not None
        _take_over(request, protocol, self.settings.websocket.path)
        return True


def _take_over(request: Request, protocol: Any, path: str) -> None:
    """Give the connection of *request* to *protocol*, which has yet to answer it."""
    channel: Any = request.channel
    transport = channel.transport
    channel.setTimeout(None)
    # The channel has paused the transport for the time of a request, and stands
    # there as its producer.
    transport.unregisterProducer()
    forget = channel.connectionLost

    def lost(reason: Failure = connectionDone) -> None:
        protocol.connectionLost(reason)
        forget(reason)

    channel.dataReceived = protocol.dataReceived
    channel.connectionLost = lost
    protocol.makeConnection(transport)
    if request.isSecure():
        protocol.handshakeCompleted()
    protocol.dataReceived(_head(request, path))
    transport.resumeProducing()


def _head(request: Request, path: str) -> bytes:
    """The request as it came, but for where it was mounted."""
    lines = [b"GET " + path.encode() + b" HTTP/1.1"]
    for name, values in request.requestHeaders.getAllRawHeaders():
        lines += (name + b": " + value for value in values)
    return b"\r\n".join(lines) + b"\r\n\r\n"


class MQTTResource(Resource):
    """Where a web site speaks MQTT."""

    isLeaf = True

    def __init__(self, find: Callable[[], SiteListener | None]) -> None:
        """*find* gives the listener; None while the broker does not run."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._find = find

    def render_GET(self, request: Request) -> bytes | int:
        upgrade = request.getHeader("upgrade") or ""
        if upgrade.lower() != "websocket":
            request.setResponseCode(426)
            request.setHeader("Upgrade", "websocket")
            return b"This is for MQTT over WebSocket.\n"
        listener = self._find()
        if listener is None:
            request.setResponseCode(503)
            return b"The broker does not run.\n"
        if not listener.take(request):
            request.setResponseCode(403)
            return b"Not admitted.\n"
        return NOT_DONE_YET


def find_site(listeners: dict[str, Listener], name: str) -> Callable[[], SiteListener | None]:
    """What finds the listener ``site:``*name* in *listeners*, whenever it is asked.

    :raise SettingError: *name* is not one.
    """
    endpoint = SITE + name
    if not name:
        raise SettingError("endpoint", endpoint, f"{SITE} and a name")

    def find() -> SiteListener | None:
        listener = listeners.get(endpoint)
        return listener if isinstance(listener, SiteListener) else None

    return find
