"""One message on its way to one session, and the frame that carries it.

A session makes a ``Delivery`` for what it must queue or keep until it is
acknowledged. ``encode`` turns a message into bytes once per variant; every
receiver of the same variant shares them and only the packet id differs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mqttd.broker.message import Message
from mqttd.wire.codes import MQTT5
from mqttd.wire.packets import Publish
from mqttd.wire.parser import Parser
from mqttd.wire.serializer import publish_frame, variable_byte_integer

if TYPE_CHECKING:
    from mqttd.broker.shared import SharedGroup

_MESSAGE_EXPIRY_INTERVAL = b"\x02"
_SUBSCRIPTION_IDENTIFIER = b"\x0b"
_TOPIC_ALIAS = b"\x23"

#: Encodings kept per message; identifiers and a running expiry make many.
MAXIMUM_VARIANTS = 16


class Delivery:
    """A message with what the matching subscriptions make of it."""

    __slots__ = ("group", "identifiers", "message", "qos", "released", "retain", "sent_at")

    def __init__(
        self,
        message: Message,
        qos: int,
        retain: bool,
        identifiers: tuple[int, ...] = (),
        group: SharedGroup | None = None,
    ) -> None:
        self.message = message
        #: QoS granted to this receiver.
        self.qos = qos
        #: The RETAIN flag that the receiver will see.
        self.retain = retain
        #: Subscription identifiers, one per matching subscription.
        self.identifiers = identifiers
        #: The shared subscription that picked this session, if one did.
        self.group = group
        #: QoS 2: PUBREC has come, PUBREL was sent, PUBCOMP is awaited.
        self.released = False
        #: Clock time of the last sending, for retries.
        self.sent_at = 0.0


#: Stands for every QoS 2 message of the fast lane whose PUBREC has come: only
#: its packet id matters any more.
RELEASED: Final = Delivery(Message("", qos=2), 2, False)
RELEASED.released = True


def reopen(frame: bytes, version: int) -> Delivery:
    """What the fast lane sent as *frame*, for the case that it must go out again."""
    parser = Parser(len(frame), server_side=False)
    parser.version = version
    parser.feed(frame)
    packet = parser.next_packet()
    assert isinstance(packet, Publish)
    message = Message(packet.topic, packet.payload, packet.qos, passthrough=packet.passthrough)
    return Delivery(message, packet.qos, False)


def encode(
    message: Message,
    version: int,
    qos: int,
    retain: bool,
    identifiers: tuple[int, ...],
    seconds: Callable[[], float],
) -> tuple[bytes, bytes]:
    """The frame of *message* before and after its packet id.

    Cached in the message: receivers of one variant share one encoding. The
    cache lives as long as the message, so only variants in use are in it.
    """
    expiry: int | None = None
    if version < MQTT5:
        key: object = qos << 1 | retain
    else:
        if message.expires_at is not None:
            expiry = message.remaining(seconds())
        key = (qos, retain, identifiers, expiry)
    frames = message.frames
    if frames is None:
        frames = message.frames = {}
    frame = frames.get(key)
    if frame is None:
        if len(frames) >= MAXIMUM_VARIANTS:
            frames.clear()
        properties = None
        if version >= MQTT5:
            properties = property_block(message, expiry, identifiers)
        frame = frames[key] = publish_frame(
            message.topic.encode(), message.payload, qos, retain, False, properties
        )
    return frame


def encode_alone(
    delivery: Delivery, version: int, topic: str, alias: int, seconds: Callable[[], float]
) -> tuple[bytes, bytes]:
    """The frame for one receiver that sees another topic, or an alias of it."""
    message = delivery.message
    properties = None
    if version >= MQTT5:
        expiry = None if message.expires_at is None else message.remaining(seconds())
        properties = property_block(message, expiry, delivery.identifiers, alias)
    return publish_frame(
        topic.encode(), message.payload, delivery.qos, delivery.retain, False, properties
    )


def property_block(
    message: Message, expiry: int | None, identifiers: tuple[int, ...], alias: int = 0
) -> bytes:
    """The properties of a PUBLISH to a 5.0 client, without their length.

    What the publisher sent travels on unaltered and in order.
    """
    # [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18]
    # [MQTT-3.3.2-20] [MQTT-3.1.3-10]
    if expiry is None and not identifiers and not alias:
        return message.passthrough
    parts = [message.passthrough]
    if expiry is not None:
        parts.append(_MESSAGE_EXPIRY_INTERVAL + expiry.to_bytes(4, "big"))  # [MQTT-3.3.2-6]
    for identifier in identifiers:  # [MQTT-3.3.4-3] [MQTT-3.3.4-4] [MQTT-3.3.4-5]
        parts.append(_SUBSCRIPTION_IDENTIFIER + variable_byte_integer(identifier))
    if alias:
        parts.append(_TOPIC_ALIAS + alias.to_bytes(2, "big"))
    return b"".join(parts)
