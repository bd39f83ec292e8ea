"""One message as an in-process client receives it.

``inprocess`` makes it and puts it into the inboxes of the subscriptions that it came
by (``mqttd.messaging``). What waits there fills the session's window and then its
queue, as with a slow client on the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from mqttd.broker.message import Message
from mqttd.messaging import ClientClosed, response_to
from mqttd.messaging import Inbox as AnyInbox

if TYPE_CHECKING:
    from mqttd.broker.inprocess import InProcessClient
    from mqttd.wire.packets import Properties

__all__ = ["ClientClosed", "Inbox", "Incoming"]


class Incoming:
    """One message as it came to the client; its data is the broker's own."""

    __slots__ = ("_client", "_packet_id", "message", "open", "qos", "retain", "topic")

    def __init__(
        self, client: InProcessClient, message: Message, qos: int, retain: bool, packet_id: int
    ) -> None:
        self.message = message
        #: As the client sees it: without its mount point.
        self.topic = message.topic.removeprefix(client.mount_point)
        #: The QoS of this delivery.
        self.qos = qos
        self.retain = retain
        #: Subscriptions that are not done with it.
        self.open = 0
        self._client = client
        self._packet_id = packet_id

    def __repr__(self) -> str:
        return f"<Incoming {self.topic!r} QoS {self.qos}, {len(self.payload)} bytes>"

    @property
    def payload(self) -> bytes:
        return self.message.payload

    @property
    def properties(self) -> Properties:
        """To be read only."""
        return self.message.properties

    def respond(self, payload: bytes, qos: int | None = None, **properties: Any) -> Deferred[int]:
        """Answer a request: publish to its response topic, with its correlation data.

        :raise ValueError: the message names no response topic.
        """
        topic, properties = response_to(self, self.properties, properties)
        qos = self.qos if qos is None else qos
        return self._client.publish(topic, payload, qos, **properties)

    def done(self) -> None:
        """One of its subscriptions is done with it."""
        self.open -= 1
        if not self.open:
            self._client.taken(self._packet_id, self.qos)


Inbox = AnyInbox[Incoming]
