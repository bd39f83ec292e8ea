"""Who is let in: what is decided about a connection before anything is read from it.

It stands where the port looks for a factory, outside any TLS, so that to refuse
costs an accept and a close and no handshake. (A factory inside Twisted's TLS
cannot refuse at all: the socket would stay open.) What it lets in goes to the
factory behind it. Knows nothing of MQTT.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from mqttd.net.addresses import AccessRules, Networks, plain
from mqttd.net.limiter import TokenBucket
from mqttd.net.proxy import ProxyProtocol
from mqttd.settings import ListenerSettings

if TYPE_CHECKING:
    from mqttd.net.factory import MQTTFactory
    from mqttd.net.websocket import WebSocket


log = Logger()

#: Seconds between two lines in the log about refusals for the same reason.
REPORT_INTERVAL = 60.0
#: Connections accepted in one turn of the reactor, at most.
MOST_ACCEPTED = 100


class Gate(Factory):
    """The limits of one listener on connecting.

    *inner* is the factory behind it: *factory*, perhaps with TLS around it.
    """

    noisy = False

    def __init__(
        self, factory: MQTTFactory, inner: IProtocolFactory, settings: ListenerSettings
    ) -> None:
        self.factory = factory
        self.inner = inner
        self.broker = factory.broker
        #: Connections whose PROXY header or WebSocket request is not complete.
        self.waiting: set[ProxyProtocol | WebSocket] = set()
        #: The port in front, once there is one.
        self.port: Any = None
        self._bucket: TokenBucket | None = None
        self._call: IDelayedCall | None = None
        self.held = False
        self._accept: Callable[[], Any] = lambda: None
        #: Reason -> how many were refused, and when the log said so.
        self._refused: dict[str, int] = {}
        self._told: dict[str, float] = {}
        self.change(settings)

    def change(self, settings: ListenerSettings) -> None:
        """Take other settings for the connections to come."""
        self.settings = settings
        self._rules = AccessRules(settings.access)
        self._proxies = Networks(settings.proxy_sources)
        rate = settings.limits.connection_rate
        if rate is None:
            self._bucket = None
            self._rested()
        elif self._bucket is None:
            self._bucket = TokenBucket(rate, self.broker.seconds)
        elif (self._bucket.rate, self._bucket.burst) != (rate.rate, rate.burst or rate.rate):
            self._bucket.change(rate)
            if self._call is not None:
                self._call.reset(self._bucket.wait_for(1))

    @property
    def connections(self) -> int:
        """Those inside, and those that wait before it."""
        return len(self.factory.protocols) + len(self.waiting)

    def logPrefix(self) -> str:
        return f"mqttd {self.settings.name or self.settings.endpoint}"

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:  # type: ignore[override]
        if self._bucket is not None:
            self._spend(self._bucket)
        limit = self.settings.limits.maximum_connections
        if limit and self.connections >= limit:
            self.refuse("maximum-connections")
            return None
        host: str | None = getattr(addr, "host", None)
        if self.settings.proxy_protocol:
            # Whoever may open a Unix socket was let in by the file system.
            if host is not None and host not in self._proxies:
                self.refuse("proxy-source")
                return None
            return ProxyProtocol(self)
        return self.inner.buildProtocol(addr) if self.admits(host) else None

    def let_in(self, peer: IAddress, waited: float) -> IProtocol | None:
        """The protocol for *peer*, whose PROXY header took *waited* seconds."""
        if not self.admits(getattr(peer, "host", None)):
            return None
        protocol = self.inner.buildProtocol(peer)
        innermost: Any = protocol
        while hasattr(innermost, "wrappedProtocol"):
            innermost = innermost.wrappedProtocol
        innermost.waited = waited
        return protocol

    def admits(self, host: str | None) -> bool:
        """Whether a client at *host* may come in; None: it has no IP address."""
        host = None if host is None else plain(host)
        if not self._rules.allow(host or ""):
            self.refuse("access-rule")
            return False
        admission = self.broker.admission
        if admission is not None and host is not None:
            refusal = admission.refuses_address(host)
            if refusal is not None:
                self.refuse(refusal)
                return False
        limit = self.settings.limits.maximum_connections_per_address
        if limit and host is not None and self.factory.connections_of(host) >= limit:
            self.refuse("maximum-connections-per-address")
            return False
        return True

    def refuse(self, reason: str) -> None:
        """Count a connection that is not let in; the log tells it now and then."""
        refused = self._refused[reason] = self._refused.get(reason, 0) + 1
        self.broker.metrics.refused[reason] += 1
        now = self.broker.seconds()
        if now - self._told.get(reason, -REPORT_INTERVAL) >= REPORT_INTERVAL:
            self._told[reason] = now
            log.warn(
                "{name} refuses connections ({reason}): {refused} so far",
                name=self.settings.name or self.settings.endpoint,
                reason=reason,
                refused=refused,
            )

    # --- the rate of connections ---------------------------------------------------

    def hold(self) -> None:
        """Accept nothing until ``release``; clients wait in the kernel's backlog."""
        self.held = True
        if self.port is not None:
            self.port.stopReading()

    def release(self) -> None:
        """Accept again."""
        self.held = False
        self._start_reading()

    def close(self) -> None:
        """The port is going away."""
        self.port = None
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def abort_waiting(self) -> None:
        """Cut the connections that wait: clients they are not yet."""
        for protocol in list(self.waiting):
            protocol.abort()

    def open(self, port: Any) -> None:
        """Stand before what *port* leads to."""
        self.port = port
        self.inner, port.factory = port.factory, self
        self._accept, port.doRead = port.doRead, self._accept_some
        if self.held:
            port.stopReading()

    def _accept_some(self) -> Any:
        """Accept those that wait, but no more than the rate allows now.

        The port goes on with its turn whatever the gate says meanwhile.
        """
        if self.port is not None:
            most = MOST_ACCEPTED
            if self._bucket is not None:
                most = max(1, min(most, int(self._bucket.saved)))
            self.port.numberAccepts = most
        return self._accept()

    def _spend(self, bucket: TokenBucket) -> None:
        """Count a connection against the rate, and rest when it is used up."""
        bucket.take(1)
        delay = bucket.wait_for(1)
        if not delay or self.port is None:
            return
        self.port.stopReading()
        if self._call is None:
            self._call = self.broker.clock.callLater(delay, self._rested)
        else:
            self._call.reset(delay)

    def _rested(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        self._start_reading()

    def _start_reading(self) -> None:
        if self.port is not None and not self.held and self._call is None:
            self.port.startReading()
