"""What a connected client sends: PUBLISH, and acknowledgements of ours.

Handlers of the protocol machine, one per packet type. They check what the
packet alone can not tell, ask the guard, hand messages to the publish service
and answer. QoS 2 is routed when PUBLISH comes; its packet id is remembered until
PUBREL, so that it is routed once (section 4.3.3, and invariant 3).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from mqttd.broker import fast_lane, hooked
from mqttd.broker.message import Message
from mqttd.interfaces import PUBLISH
from mqttd.settings import DeniedPublish
from mqttd.wire.codes import MQTT5, PacketType, ReasonCode
from mqttd.wire.errors import ProtocolViolation, protocol_error
from mqttd.wire.packets import Puback, Pubcomp, Publish, Pubrec, Pubrel
from mqttd.wire.serializer import serialize
from mqttd.wire.topics import check_topic_name

if TYPE_CHECKING:
    from mqttd.broker.connection import Connection
    from mqttd.broker.durability import Durability

#: Topics that are not for clients to publish to, by their first character.
RESERVED_PREFIX = "$"
#: Where mosquitto's bridges say whether they are connected, by a retained message
#: and a will; refused, they would not connect.
_BRIDGE_STATE = re.compile(r"\$SYS/broker/connection/[^/]+/state")

_PUBACK = b"\x40\x02"
_PUBREC = b"\x50\x02"
_PUBCOMP = b"\x70\x02"


def publish(connection: Connection, packet: Publish) -> Deferred[None] | None:
    """PUBLISH (section 3.3)."""
    metrics = connection.broker.metrics
    durability = connection.broker.durability
    metrics.messages_received[packet.qos] += 1
    metrics.payload_bytes_received += len(packet.payload)
    topic = packet.topic
    if connection.version >= MQTT5:
        topic = _resolve_alias(connection, packet)
    if packet.qos:
        if packet.qos == 2 and _is_repeated(connection, packet.packet_id):
            acknowledge(connection, packet, ReasonCode.SUCCESS)  # [MQTT-4.3.3-10]
            return None
        _check_quota(connection)
    admission = connection.broker.admission
    if admission is not None and admission.has_quota:
        principal, address = connection.guard.avatar.principal, connection.transport.peer.address
        if not admission.may_publish(principal, address, len(packet.payload)):
            refuse(connection, packet, ReasonCode.QUOTA_EXCEEDED, "the quota is used up")
            return None
    hooks = connection.broker.hooks
    if hooks.message_publish and hooks.concerns(topic):
        return hooked.publish(connection, packet, topic)
    reason = check(connection, packet, topic)
    if reason is not None:
        refuse(connection, packet, reason)
        return None
    topic = connection.mount_point + topic
    if (
        packet.qos
        and durability is not None
        and durability.problem
        and durability.concerns(connection, topic, packet.qos, packet.retain)
    ):
        return not_kept(connection, packet, durability)
    allowed = connection.guard.allowed(PUBLISH, topic, packet.qos, packet.retain)
    if allowed is True:
        route(connection, packet, topic)
        fast_lane.learn(connection, packet, topic)
    elif allowed is False:
        refuse(connection, packet, ReasonCode.NOT_AUTHORIZED)
    else:
        return connection.contain(allowed.addCallback(_decided, connection, packet, topic))
    return None


def not_kept(
    connection: Connection, packet: Publish, durability: Durability
) -> Deferred[None] | None:
    """The message must be kept, and nothing can be at present."""
    if connection.version >= MQTT5:
        refuse(connection, packet, ReasonCode.QUOTA_EXCEEDED)
        return None
    # [MQTT311-3.3.5-2] has no way to say no: the client waits, and then comes again.
    return durability.recovery().addCallback(_recovered, connection, packet)


def _recovered(none: None, connection: Connection, packet: Publish) -> Deferred[None] | None:
    if not connection.is_connected:
        return None
    metrics = connection.broker.metrics
    metrics.messages_received[packet.qos] -= 1
    metrics.payload_bytes_received -= len(packet.payload)
    try:
        return publish(connection, packet)
    except ProtocolViolation as violation:
        connection.violated(violation)
        return None


def _decided(allowed: bool, connection: Connection, packet: Publish, topic: str) -> None:
    if not connection.is_connected:
        return
    if allowed:
        route(connection, packet, topic)
    else:
        refuse(connection, packet, ReasonCode.NOT_AUTHORIZED)


def _resolve_alias(connection: Connection, packet: Publish) -> str:
    """The topic, after topic aliases (section 3.3.2.3.4)."""
    alias = packet.properties.get("topic_alias")
    if alias is None:
        return packet.topic
    # [MQTT-3.2.2-17] [MQTT-3.2.2-18]
    if alias > connection.transport.listener.protocol.topic_alias_maximum:
        raise ProtocolViolation(
            ReasonCode.TOPIC_ALIAS_INVALID, "the topic alias is over the maximum"
        )  # [MQTT-3.3.2-9]
    aliases = connection.aliases
    if aliases is None:
        aliases = connection.aliases = {}
    if packet.topic:
        aliases[alias] = packet.topic  # [MQTT-3.3.2-12]
        return packet.topic
    topic = aliases.get(alias)
    if topic is None:
        raise protocol_error("the topic alias is unknown")
    return topic


def _is_repeated(connection: Connection, packet_id: int) -> bool:
    awaiting = connection.session.awaiting_release
    return awaiting is not None and packet_id in awaiting


def _check_quota(connection: Connection) -> None:
    # QoS 1 is acknowledged at once, or pauses the client when too much of it waits
    # (``receipts``), so only QoS 2 adds up. [MQTT-3.3.4-7]
    # [MQTT-3.3.4-8] bind the client; this is the answer.
    awaiting = connection.session.awaiting_release
    if awaiting is not None and len(awaiting) >= connection.maximum_awaiting:
        raise ProtocolViolation(
            ReasonCode.RECEIVE_MAXIMUM_EXCEEDED, "more QoS 2 messages than the receive maximum"
        )


def check(connection: Connection, packet: Publish, topic: str) -> ReasonCode | None:
    """The reason to refuse the message, if its packet or topic has one."""
    settings = connection.transport.listener.protocol
    if packet.qos > settings.maximum_qos:  # [MQTT-3.2.2-11]
        raise ProtocolViolation(ReasonCode.QOS_NOT_SUPPORTED, f"QoS {packet.qos} is not supported")
    if packet.retain and not settings.retain_available:  # [MQTT-3.2.2-14]
        raise ProtocolViolation(
            ReasonCode.RETAIN_NOT_SUPPORTED, "retained messages are not supported"
        )
    reason = check_topic_name(topic, settings.maximum_topic_levels, settings.maximum_topic_length)
    if reason is not None:
        return reason
    if topic.startswith(RESERVED_PREFIX) and is_reserved(topic, settings.dollar_topics):
        return ReasonCode.NOT_AUTHORIZED
    if 0 < settings.maximum_payload_size < len(packet.payload):
        return ReasonCode.QUOTA_EXCEEDED
    if (
        settings.check_payload_format
        and packet.properties.get("payload_format_indicator") == 1
        and not _is_utf8(packet.payload)
    ):
        return ReasonCode.PAYLOAD_FORMAT_INVALID
    return None


def is_reserved(topic: str, dollar_topics: bool) -> bool:
    """Whether *topic*, which begins with "$", is not for clients to publish to."""
    if topic == "$SYS" or topic.startswith("$SYS/"):
        return _BRIDGE_STATE.fullmatch(topic) is None
    return not dollar_topics


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def route(connection: Connection, packet: Publish, topic: str) -> None:
    if packet.qos and connection.broker.durability is not None:
        connection.broker.durability.begin()
    reason = connection.broker.publisher.publish(message_of(connection, packet, topic), connection)
    if packet.qos:
        # The session has what it needs: from here the message is ours. [MQTT-4.5.0-1]
        acknowledge(connection, packet, reason)


def message_of(connection: Connection, packet: Publish, topic: str) -> Message:
    """The application message that *packet* brings to *topic*."""
    now = connection.broker.seconds()
    expiry = packet.properties.get("message_expiry_interval")
    return Message(
        topic,
        packet.payload,
        packet.qos,
        packet.retain,
        properties=packet.properties,
        passthrough=packet.passthrough,
        expires_at=None if expiry is None else now + expiry,
        publisher=connection.client_id,
        guard=connection.guard,
        created_at=now,
    )


def acknowledge(
    connection: Connection, packet: Publish, reason: ReasonCode, text: str = ""
) -> None:
    """PUBACK or PUBREC. [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-3.3.4-1] [MQTT311-3.3.4-1]"""
    packet_id = packet.packet_id
    if packet.qos == 2 and reason < 0x80:  # [MQTT-4.3.2-5] [MQTT311-4.3.2-2] a QoS 1 id is not kept
        connection.session.remember(packet_id)
    durability = connection.broker.durability
    if reason and connection.version >= MQTT5:
        properties = connection.explain(text or _TEXTS[reason]) if reason >= 0x80 else {}
        answer = Puback if packet.qos == 1 else Pubrec
        packet_with_reason = answer(packet_id, reason, properties)
        if durability is None:
            connection.send(packet_with_reason)
        elif frame := connection.frame(packet_with_reason):
            durability.acknowledge(connection, (frame,))
        return
    frame = (_PUBACK if packet.qos == 1 else _PUBREC) + packet_id.to_bytes(2, "big")
    if durability is not None and (durability.receipt is not None or connection.receipts):
        durability.acknowledge(connection, (frame,))
        return
    kind = PacketType.PUBACK if packet.qos == 1 else PacketType.PUBREC
    connection.broker.metrics.packets_sent[kind] += 1
    # [MQTT-2.2.1-5] [MQTT311-2.3.1-6] [MQTT-4.6.0-2] [MQTT-4.6.0-3] answered as they come
    # [MQTT311-4.6.0-2] [MQTT311-4.6.0-3]
    connection.transport.write(frame)


_TEXTS = {
    ReasonCode.NOT_AUTHORIZED: "not allowed to publish to this topic",
    ReasonCode.TOPIC_NAME_INVALID: "the topic is too long or has too many levels",
    ReasonCode.PAYLOAD_FORMAT_INVALID: "the payload is not UTF-8",
    ReasonCode.QUOTA_EXCEEDED: "the payload is too large, or nothing can be kept at present",
}

#: Reasons for which a message is dropped and the client may go on.
_DROPPED = frozenset((ReasonCode.NOT_AUTHORIZED, ReasonCode.QUOTA_EXCEEDED))


def refuse(connection: Connection, packet: Publish, reason: ReasonCode, text: str = "") -> None:
    """A message that is well-formed and not accepted."""
    label = reason.name.lower().replace("_", "-")
    connection.broker.metrics.dropped[label] += 1
    if connection.broker.hooks.message_dropped:
        hooked.tell_refused(connection, packet, label)
    if connection.version >= MQTT5:
        if packet.qos:
            acknowledge(connection, packet, reason, text)  # [MQTT-4.3.3-9] no id is kept
        elif not connection.publish_refused(reason, text or _TEXTS[reason]) and (
            reason not in _DROPPED
        ):
            raise ProtocolViolation(reason, _TEXTS[reason])
        return
    # [MQTT311-3.3.5-2] there is no way to say no: acknowledge and drop, or close.
    denied_publish = connection.transport.listener.protocol.denied_publish
    if reason not in _DROPPED or (
        reason is ReasonCode.NOT_AUTHORIZED and denied_publish is DeniedPublish.DISCONNECT
    ):
        raise ProtocolViolation(reason, _TEXTS[reason])
    if packet.qos:
        acknowledge(connection, packet, ReasonCode.SUCCESS)


def pubrel(connection: Connection, packet: Pubrel) -> None:
    """PUBREL: the client knows that we have the message; forget its packet id."""
    durability = connection.broker.durability
    if durability is not None:
        durability.begin()
    packet_id = packet.packet_id
    known = connection.session.forget(packet_id)
    if not known:
        connection.broker.metrics.packets_missed[PacketType.PUBREL] += 1
    if durability is not None:
        reason = ReasonCode.SUCCESS
        if not known and connection.version >= MQTT5:
            reason = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
        frame = serialize(Pubcomp(packet_id, reason), connection.version)
        durability.acknowledge(connection, (frame,))
    elif known or connection.version < MQTT5:
        connection.broker.metrics.packets_sent[PacketType.PUBCOMP] += 1
        # [MQTT-4.3.3-11] [MQTT-2.2.1-5]
        connection.transport.write(_PUBCOMP + packet_id.to_bytes(2, "big"))
    else:
        connection.send(Pubcomp(packet_id, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND))


def puback(connection: Connection, packet: Puback) -> None:
    """PUBACK: a QoS 1 message is delivered, or refused. [MQTT-4.4.0-2]"""
    if not connection.session.acknowledged(packet.packet_id):
        _missed(connection, PacketType.PUBACK, packet.packet_id)


def pubrec(connection: Connection, packet: Pubrec) -> None:
    """PUBREC: a QoS 2 message has arrived, or was refused. [MQTT-4.4.0-2]"""
    success = packet.reason < 0x80
    if connection.session.received(packet.packet_id, success):
        if success:
            connection.session.release(packet.packet_id)  # [MQTT311-4.6.0-4] [MQTT-4.6.0-4]
        return
    _missed(connection, PacketType.PUBREC, packet.packet_id)
    if success:
        # Without an answer the client could never give the packet id up.
        reason = ReasonCode.SUCCESS
        if connection.version >= MQTT5:
            reason = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND
        connection.send(Pubrel(packet.packet_id, reason))


def pubcomp(connection: Connection, packet: Pubcomp) -> None:
    """PUBCOMP: a QoS 2 message is done."""
    if not connection.session.completed(packet.packet_id):
        _missed(connection, PacketType.PUBCOMP, packet.packet_id)


def _missed(connection: Connection, kind: PacketType, packet_id: int) -> None:
    connection.broker.metrics.packets_missed[kind] += 1
    if packet_id in connection.session.inflight:
        # One that is known is at another point of its flow (section 4.3): the
        # message would wait for ever, and its place in the window with it.
        raise protocol_error(f"{kind.name} is not the answer to packet {packet_id}")
