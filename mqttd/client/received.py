"""One message as it came over the network, handed to subscriptions.

``Client`` makes it of a PUBLISH. It is acknowledged when all its subscriptions are
done with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from mqttd.messaging import response_to

if TYPE_CHECKING:
    from mqttd.client.client import Client
    from mqttd.wire.packets import Properties, Publish


class Received:
    """A message."""

    __slots__ = ("_client", "_connection", "open", "packet")

    def __init__(self, client: Client, packet: Publish, connection: object) -> None:
        self.packet = packet
        #: Subscriptions that are not done with it.
        self.open = 0
        self._client = client
        #: The connection that it came by; another one will bring it again.
        self._connection = connection

    def __repr__(self) -> str:
        return f"<Received {self.topic!r} QoS {self.qos}, {len(self.payload)} bytes>"

    @property
    def topic(self) -> str:
        return self.packet.topic

    @property
    def payload(self) -> bytes:
        return self.packet.payload

    @property
    def qos(self) -> int:
        """The QoS of this delivery."""
        return self.packet.qos

    @property
    def retain(self) -> bool:
        return self.packet.retain

    @property
    def dup(self) -> bool:
        """It may have come before."""
        return self.packet.dup

    @property
    def properties(self) -> Properties:
        """To be read only; empty below MQTT 5.0."""
        return self.packet.properties

    def respond(self, payload: bytes, qos: int | None = None, **properties: Any) -> Deferred[int]:
        """Answer a request: publish to its response topic, with its correlation data.

        :raise ValueError: the message names no response topic.
        """
        topic, properties = response_to(self, self.properties, properties)
        return self._client.publish(topic, payload, self.qos if qos is None else qos, **properties)

    def done(self) -> None:
        """One of its subscriptions is done with it."""
        self.open -= 1
        if not self.open:
            self._client.taken(self, self._connection)
