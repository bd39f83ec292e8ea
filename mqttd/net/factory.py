"""Builds the protocol of each connection, and knows all that live."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory

from mqttd.broker.connection import State
from mqttd.net.flight import room
from mqttd.net.hub import Hub
from mqttd.net.limiter import Limits
from mqttd.net.outbound import Flusher
from mqttd.net.peer import peer_of
from mqttd.net.protocol import MQTTProtocol
from mqttd.net.timed import TimedProtocol

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.interfaces import Peer
    from mqttd.settings import ListenerSettings


class Network:
    """What all connections of a broker share, whatever listener they come from."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.flusher = Flusher(broker.clock)
        self.limits = Limits(broker.settings.shared_limits, broker.seconds)
        self._hub: Hub | None = None

    def hub(self, reactor: Any) -> Hub | None:
        """What watches all sockets; None where there is no epoll."""
        if self._hub is None and Hub.serves(reactor):
            self._hub = Hub(reactor, self.flusher)
        return self._hub


class MQTTFactory(ServerFactory):
    """One listener's factory."""

    noisy = False

    def __init__(
        self, broker: Broker, settings: ListenerSettings, network: Network | None = None
    ) -> None:
        network = network or Network(broker)
        self.broker = broker
        #: For connections to come; may be replaced.
        self.settings = settings
        #: Whether each connection sets TCP's options; not where it inherits them.
        self.tells_tcp = True
        self.flusher = network.flusher
        self.limits = network.limits
        #: The length at which a flight recorder forgets its oldest entries.
        self.flight_room = room(broker.settings.flight.size)
        #: Those that are connected.
        self.protocols: set[MQTTProtocol] = set()
        self._addresses: dict[str, int] = {}
        #: What is built for each connection; ``mqttd.testing`` has others.
        self.build: Callable[[MQTTFactory, Peer], MQTTProtocol] = MQTTProtocol
        #: What is built instead for one of so many, if for any.
        self._sample = broker.settings.http.latency_sample
        self._built = 0

    def buildProtocol(self, addr: IAddress | None) -> MQTTProtocol:  # type: ignore[override]
        build = self.build
        if self._sample and build is MQTTProtocol:
            if not self._built % self._sample:
                build = TimedProtocol
            self._built += 1
        return build(self, peer_of(addr))

    def made(self, protocol: MQTTProtocol) -> None:
        """*protocol* is connected and knows its peer."""
        self.protocols.add(protocol)
        self.broker.metrics.connections_accepted += 1
        self.arrived(protocol.peer.address)

    def lost(self, protocol: MQTTProtocol) -> None:
        """*protocol* is not connected any more."""
        self.protocols.discard(protocol)
        self.left(protocol.peer.address)

    def arrived(self, address: str) -> None:
        """One more connection is from *address*."""
        self._addresses[address] = self._addresses.get(address, 0) + 1

    def left(self, address: str) -> None:
        """One less is."""
        left = self._addresses.get(address, 0) - 1
        if left > 0:
            self._addresses[address] = left
        else:
            self._addresses.pop(address, None)

    def connections_of(self, address: str) -> int:
        """How many connections come from *address* (as in ``Peer.address``)."""
        return self._addresses.get(address, 0)

    def abort_newcomers(self) -> None:
        """Cut those that have not sent CONNECT yet."""
        for protocol in list(self.protocols):
            if protocol.connection.state is State.NEW:
                protocol.abort()

    def abort_all(self) -> None:
        """Cut every connection that is left."""
        for protocol in list(self.protocols):
            protocol.abort()
