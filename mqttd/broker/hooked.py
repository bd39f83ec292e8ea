"""The way of a packet when a hook decides about it.

``receiving``, ``subscribing`` and the wills come here only when there is a hook for
the event; without one nothing here runs. What a hook lets pass, changed or not, is
then checked as if the client had sent it so: first the hook, then the rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.internet.defer import Deferred

from mqttd.broker import receiving, subscribing
from mqttd.broker.hooks import FAILED, Failed
from mqttd.broker.message import Message
from mqttd.interfaces import PUBLISH, Divert, Refuse
from mqttd.settings import DeniedPublish
from mqttd.wire.codes import MQTT5, ReasonCode
from mqttd.wire.errors import ProtocolViolation
from mqttd.wire.topics import check_topic_name

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.connection import Connection
    from mqttd.wire.packets import Publish, SubscriptionRequest, Unsubscribe

#: What the answers to PUBLISH and to SUBSCRIBE and UNSUBSCRIBE may say (sections
#: 3.4.2.1, 3.9.3 and 3.11.3).
_OF_PUBLISH = frozenset((0x80, 0x83, 0x87, 0x90, 0x97, 0x99))
_OF_FILTER = frozenset((0x80, 0x83, 0x87, 0x8F, 0x97, 0x9E, 0xA1, 0xA2))


# --- PUBLISH --------------------------------------------------------------------


def publish(connection: Connection, packet: Publish, topic: str) -> Deferred[None] | None:
    """Ask the hooks about a PUBLISH whose alias is resolved, and go on from there."""
    settings = connection.transport.listener.protocol
    levels, length = settings.maximum_topic_levels, settings.maximum_topic_length
    if (reason := check_topic_name(topic, levels, length)) is not None:
        receiving.refuse(connection, packet, reason)
        return None
    message = receiving.message_of(connection, packet, topic)
    answer = connection.broker.hooks.ask("message_publish", message, connection)
    if isinstance(answer, Deferred):
        return connection.contain(answer.addCallback(_decided, connection, packet))
    return _decided(answer, connection, packet)


def _decided(answer: Any, connection: Connection, packet: Publish) -> Deferred[None] | None:
    if not connection.is_connected:
        return None
    if isinstance(answer, Refuse):
        _refuse(connection, packet, answer)
        return None
    message: Message = answer.message if isinstance(answer, Divert) else answer
    # From here on it is as if the client had sent this.
    sent = evolve(
        packet,
        topic=message.topic,
        payload=message.payload,
        retain=message.retain,
        properties=message.properties,
        passthrough=message.passthrough,
    )
    reason = receiving.check(connection, sent, sent.topic)
    if reason is not None:
        receiving.refuse(connection, sent, reason)
        return None
    topic = connection.mount_point + sent.topic
    durability = connection.broker.durability
    if (
        sent.qos
        and durability is not None
        and durability.problem
        and (
            (isinstance(answer, Divert) and answer.keeps)
            or durability.concerns(connection, topic, sent.qos, sent.retain)
        )
    ):
        # When it can be kept again, the hooks are asked again.
        return receiving.not_kept(connection, packet, durability)
    allowed = connection.guard.allowed(PUBLISH, topic, sent.qos, sent.retain)
    if isinstance(allowed, Deferred):
        return connection.contain(allowed.addCallback(_judged, connection, sent, answer))
    _judged(allowed, connection, sent, answer)
    return None


def _judged(allowed: bool, connection: Connection, sent: Publish, answer: Any) -> None:
    if not connection.is_connected:
        return
    if not allowed:
        receiving.refuse(connection, sent, ReasonCode.NOT_AUTHORIZED)
    elif isinstance(answer, Divert):
        _divert(connection, sent, answer)
    else:
        receiving.route(connection, sent, connection.mount_point + sent.topic)


def _divert(connection: Connection, sent: Publish, divert: Divert) -> None:
    message = receiving.message_of(connection, sent, connection.mount_point + sent.topic)
    if connection.broker.durability is not None:
        connection.broker.durability.begin()
    reason = connection.broker.hooks.divert(divert, message)
    if reason >= 0x80:
        _refuse(connection, sent, FAILED if reason == FAILED.reason else Refuse(reason))
    elif sent.qos:
        receiving.acknowledge(connection, sent, ReasonCode.SUCCESS)


def _refuse(connection: Connection, packet: Publish, refusal: Refuse) -> None:
    """A hook said no, or did not decide."""
    connection.broker.metrics.dropped["hook"] += 1
    if connection.broker.hooks.message_dropped:
        tell_refused(connection, packet, "hook")
    if connection.version >= MQTT5:
        if packet.qos:
            reason = _fitting(refusal, _OF_PUBLISH)
            receiving.acknowledge(connection, packet, reason, refusal.text)
        else:
            connection.publish_refused(_fitting(refusal, _OF_PUBLISH), refusal.text)
        return
    denied_publish = connection.transport.listener.protocol.denied_publish
    undecided = isinstance(refusal, Failed) and packet.qos
    if undecided or denied_publish is DeniedPublish.DISCONNECT:
        # To acknowledge what nobody has decided about would be to lose it.
        raise ProtocolViolation(ReasonCode.UNSPECIFIED_ERROR, refusal.text)
    if packet.qos:
        receiving.acknowledge(connection, packet, ReasonCode.SUCCESS)


def tell_refused(connection: Connection, packet: Publish, reason: str) -> None:
    """Tell the hooks that the message of *packet* went to nobody."""
    hooks = connection.broker.hooks
    message = receiving.message_of(connection, packet, packet.topic)
    hooks.tell(hooks.message_dropped, message, connection.client_id, reason)


# --- wills ----------------------------------------------------------------------


def publish_will(broker: Broker, message: Message, mount_point: str) -> None:
    """Ask the hooks about a will that its client may publish, and publish it."""
    Deferred.fromCoroutine(_publish_will(broker, message, mount_point))


async def _publish_will(broker: Broker, message: Message, mount_point: str) -> None:
    answer: Any = message
    if broker.hooks.will:
        answer = await _asked(broker, "will", message, message.publisher)
    if isinstance(answer, Message) and broker.hooks.message_publish:
        inner = answer.changed(topic=answer.topic.removeprefix(mount_point))
        answer = _mounted(await _asked(broker, "message_publish", inner, None), mount_point)
    if not await _will_may(broker, answer, message, mount_point):
        broker.metrics.dropped["will-denied"] += 1
    elif isinstance(answer, Divert):
        broker.hooks.divert(answer, answer.message)
    else:
        broker.publisher.publish(answer)


def _mounted(answer: Any, mount_point: str) -> Any:
    """*answer* with the mount point before the topic of its message."""
    if isinstance(answer, Refuse):
        return answer
    if isinstance(answer, Divert):
        return evolve(answer, message=_mounted(answer.message, mount_point))
    return answer.changed(topic=mount_point + answer.topic)


async def _will_may(broker: Broker, answer: Any, asked: Message, mount_point: str) -> bool:
    """Whether what the hooks made of a will may be published."""
    if isinstance(answer, Refuse):
        return False
    message: Message = answer.message if isinstance(answer, Divert) else answer
    if message.topic == asked.topic and message.retain == asked.retain:
        return True
    settings = broker.settings.protocol
    topic = message.topic.removeprefix(mount_point)
    levels, length = settings.maximum_topic_levels, settings.maximum_topic_length
    if check_topic_name(topic, levels, length) is not None or (
        topic.startswith("$") and receiving.is_reserved(topic, settings.dollar_topics)
    ):
        return False
    guard = message.guard
    if guard is None:
        return True
    allowed = guard.allowed(PUBLISH, message.topic, message.qos, message.retain)
    return (await allowed if isinstance(allowed, Deferred) else allowed) is True


async def _asked(broker: Broker, event: str, value: Any, *arguments: Any) -> Any:
    answer = broker.hooks.ask(event, value, *arguments)
    return await answer if isinstance(answer, Deferred) else answer


# --- SUBSCRIBE and UNSUBSCRIBE ----------------------------------------------------


async def subscribe(
    connection: Connection, requests: list[SubscriptionRequest]
) -> list[SubscriptionRequest | Refuse]:
    """What the hooks make of the *requests* of a SUBSCRIBE."""
    for request in requests:  # a filter that is none ends the connection as ever
        subscribing.check_form(request.topic_filter)
    asked = [evolve(request) for request in requests]
    answer = await _asked(connection.broker, "subscribe", asked, connection)
    if isinstance(answer, Refuse):
        answer = [answer] * len(requests)
    return [
        _refusal(item)
        if isinstance(item, Refuse)
        else item
        if _is_filter(item.topic_filter)
        else FAILED
        for item in answer
    ]


async def unsubscribe(connection: Connection, packet: Unsubscribe) -> None:
    """UNSUBSCRIBE, as far as the hooks let it."""
    for topic_filter in packet.topic_filters:
        subscribing.check_form(topic_filter)
    asked = list(packet.topic_filters)
    answer = await _asked(connection.broker, "unsubscribe", asked, connection)
    if not connection.is_connected:
        return
    if isinstance(answer, Refuse):
        answer = [answer] * len(asked)
    filters = [
        _refusal(item) if isinstance(item, Refuse) else item if _is_filter(item) else FAILED
        for item in answer
    ]
    waiting = subscribing.unsubscribe_from(connection, packet, filters)
    if waiting is not None:
        await waiting


def _fitting(refusal: Refuse, reasons: frozenset[int]) -> ReasonCode:
    """The reason of *refusal*, or the general one where the packet can not say it."""
    reason = refusal.reason
    fits = reason in reasons
    return ReasonCode(reason) if fits else ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR


def _refusal(refusal: Refuse) -> Refuse:
    return Refuse(_fitting(refusal, _OF_FILTER), refusal.text)


def _is_filter(topic_filter: str) -> bool:
    """Whether the filter that a hook has written is one."""
    try:
        subscribing.check_form(topic_filter)
    except ProtocolViolation:
        return False
    return True


async def subscribe_for(connection: Connection, requests: list[SubscriptionRequest]) -> list[int]:
    """Subscribe without a SUBSCRIBE: by the client's rights and limits, all the same."""
    reasons: list[int] = []
    for request in requests:
        reason: ReasonCode | None = ReasonCode.TOPIC_FILTER_INVALID
        if _is_filter(request.topic_filter):
            reason = await subscribing.judge(connection, request)
        if not connection.is_connected:
            return reasons
        if reason is None:
            subscription, is_new = subscribing.enter(connection, request, 0)
            reason = ReasonCode(subscription.qos)
            if subscribing.wants_retained(subscription, request, is_new):
                subscribing.replay(connection, subscription)
        reasons.append(int(reason))
    return reasons
