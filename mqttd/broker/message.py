"""An application message on its way through the broker.

The publish service makes one per PUBLISH (or will), the router's targets share
it, queues and the retained store keep it. It knows nothing of packets, sessions
or sockets; whoever encodes it may keep the encodings in ``frames``.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from mqttd.wire.packets import Properties
from mqttd.wire.properties import passthrough_of

if TYPE_CHECKING:
    from mqttd.broker.access import Guard

#: Stands for "no properties" in every message without; never to be changed.
NO_PROPERTIES: Properties = {}


class _Forgetful(dict[Any, Any]):
    """A cache that keeps nothing, for messages that are stored for long."""

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


NOT_CACHED = _Forgetful()


class Message:
    """One application message (MQTT 5.0 section 3.3); its data never changes."""

    __slots__ = (
        "_size",
        "created_at",
        "expires_at",
        "frames",
        "guard",
        "passthrough",
        "payload",
        "properties",
        "publisher",
        "qos",
        "retain",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes = b"",
        qos: int = 0,
        retain: bool = False,
        properties: Properties | None = None,
        passthrough: bytes = b"",
        expires_at: float | None = None,
        publisher: str | None = None,
        guard: Guard | None = None,
        created_at: float = 0.0,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        #: Decoded properties, to be read only.
        self.properties = properties or NO_PROPERTIES
        #: Encoded properties that travel on unaltered; see ``packets.Publish``.
        self.passthrough = passthrough
        #: Broker clock time at which it is no longer to be sent; None: never.
        self.expires_at = expires_at
        #: Client id of the publisher; None when the broker itself speaks.
        self.publisher = publisher
        #: The guard of the publisher, for access checks made later.
        self.guard = guard
        #: Broker clock time at which it came in.
        self.created_at = created_at
        #: Encodings, filled and read by ``mqttd.broker.delivery``.
        self.frames: dict[Any, Any] | None = None
        self._size = -1

    def __repr__(self) -> str:
        return f"<Message {self.topic!r} QoS {self.qos}, {len(self.payload)} bytes>"

    @property
    def size(self) -> int:
        """Bytes of topic, payload and passthrough properties."""
        size = self._size
        if size < 0:
            topic = self.topic
            length = len(topic) if topic.isascii() else len(topic.encode())
            size = self._size = length + len(self.payload) + len(self.passthrough)
        return size

    def expired(self, now: float) -> bool:
        """Whether delivery must not begin any more at clock time *now*."""
        expires_at = self.expires_at
        return expires_at is not None and now >= expires_at  # [MQTT-3.3.2-5]

    def remaining(self, now: float) -> int | None:
        """Whole seconds left at *now* for Message Expiry Interval; None: no expiry.

        A second counts as waited when it is over, so a message that is passed
        on at once carries the interval that it came with.
        """
        if self.expires_at is None:
            return None
        # The small allowance keeps a rounding error from adding a second.
        return max(0, ceil(self.expires_at - now - 1e-6))  # [MQTT-3.3.2-6]

    def changed(
        self,
        topic: str | None = None,
        payload: bytes | None = None,
        retain: bool | None = None,
        properties: Properties | None = None,
    ) -> Message:
        """A copy with these parts in place of its own; a message never changes."""
        copy = Message(
            self.topic if topic is None else topic,
            self.payload if payload is None else payload,
            self.qos,
            self.retain if retain is None else retain,
            self.properties if properties is None else properties,
            self.passthrough if properties is None else passthrough_of(properties),
            self.expires_at,
            self.publisher,
            self.guard,
            self.created_at,
        )
        if properties is not None:
            expiry = properties.get("message_expiry_interval")
            copy.expires_at = None if expiry is None else self.created_at + expiry
        return copy

    def stored(self) -> Message:
        """A copy to be kept for long: encodings of it are not cached.

        Without this, one subscription to ``#`` would leave a frame in every
        retained message, which more than doubles what they cost.
        """
        copy = Message(
            self.topic,
            self.payload,
            self.qos,
            self.retain,
            self.properties,
            self.passthrough,
            self.expires_at,
            self.publisher,
            self.guard,
            self.created_at,
        )
        copy.frames = NOT_CACHED
        copy._size = self._size
        return copy
