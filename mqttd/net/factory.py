"""Builds the protocol of each connection, and knows all that live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory

from mqttd.net.limiter import Limits
from mqttd.net.outbound import Flusher
from mqttd.net.protocol import MQTTProtocol

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.settings import ListenerSettings


class MQTTFactory(ServerFactory):
    """One listener's factory.

    *flusher* and *limits* are the broker's, shared by all of its listeners.
    """

    noisy = False

    def __init__(
        self,
        broker: Broker,
        settings: ListenerSettings,
        flusher: Flusher | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.broker = broker
        #: For connections to come; may be replaced.
        self.settings = settings
        self.flusher = flusher or Flusher(broker.clock)
        self.limits = limits or Limits(broker.settings.shared_limits, broker.seconds)
        self.protocols: set[MQTTProtocol] = set()

    def buildProtocol(self, addr: IAddress | None) -> MQTTProtocol:  # type: ignore[override]
        protocol = MQTTProtocol(self)
        self.protocols.add(protocol)
        self.broker.metrics.connections_accepted += 1
        return protocol

    def abort_all(self) -> None:
        """Cut every connection that is left."""
        for protocol in list(self.protocols):
            protocol.abort()
