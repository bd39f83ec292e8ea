"""SUBSCRIBE and UNSUBSCRIBE: what a connected client wants to get.

Handlers of the protocol machine. Each filter is judged by itself, in order: its
form, what this server offers, the session's bounds, the access rules. Only then
it goes to the router, and retained messages follow the SUBACK.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from mqttd.broker import hooked, thinning
from mqttd.broker.subscription import Subscription
from mqttd.broker.thinning import Thinned, Thinning
from mqttd.interfaces import SUBSCRIBE, Refuse
from mqttd.wire.codes import MQTT5, SUBACK_FAILURE, ReasonCode, RetainHandling
from mqttd.wire.errors import ProtocolViolation, malformed, protocol_error
from mqttd.wire.packets import (
    Properties,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from mqttd.wire.topics import check_topic_filter, split_shared

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.connection import Connection
    from mqttd.broker.session import Session

#: The form alone is checked: no cap of ours on levels and bytes.
ANY_LEVELS = ANY_LENGTH = 65_536


def subscribe(connection: Connection, packet: Subscribe) -> Deferred[None] | None:
    """SUBSCRIBE (section 3.8)."""
    return connection.run(_subscribe(connection, packet))


async def _subscribe(connection: Connection, packet: Subscribe) -> None:
    identifiers = packet.properties.get("subscription_identifier", ())
    identifier = identifiers[0] if identifiers else 0
    if identifier and not connection.transport.listener.protocol.subscription_identifiers:
        raise ProtocolViolation(
            ReasonCode.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
            "subscription identifiers are not supported",
        )
    wants: Thinning | None = None
    properties = Properties()
    if "user_property" in packet.properties:
        wants, properties = _thinning(connection, packet)
    reasons: list[int] = []
    replays: list[Subscription] = []
    requests: list[Any] = packet.subscriptions
    if connection.broker.hooks.subscribe:
        requests = await hooked.subscribe(connection, requests)
    for request in requests:  # [MQTT-3.8.4-5] [MQTT311-3.8.4-4]
        reason = await judge(connection, request)
        if not connection.is_connected:
            return
        if reason is None and wants is not None:
            reason = _unfit_for_thinning(wants, request)
        if reason is None:
            subscription, is_new = enter(connection, request, identifier, wants)
            if wants_retained(subscription, request, is_new):
                replays.append(subscription)
            reason = ReasonCode(subscription.qos)  # [MQTT-3.8.4-7] [MQTT311-3.8.4-5]
        reasons.append(int(reason) if connection.version >= MQTT5 else _return_code(reason))
    # [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-6] [MQTT-3.9.3-1] [MQTT-3.9.3-2]
    # [MQTT311-3.8.4-1] [MQTT311-3.8.4-2] [MQTT311-3.9.3-1] [MQTT311-3.9.3-2]
    durability = connection.broker.durability
    if durability is not None and connection.session.durable and min(reasons) < 0x80:
        await durability.committed()
        if not connection.is_connected:
            return
    # [MQTT-2.2.1-6] [MQTT311-2.3.1-7]
    connection.send(Suback(packet.packet_id, reasons, properties))
    for subscription in replays:
        replay(connection, subscription)


def _thinning(connection: Connection, packet: Subscribe) -> tuple[Thinning | None, Properties]:
    """What the user properties of *packet* ask for, and what SUBACK says to it."""
    if not connection.transport.listener.protocol.thinned_subscriptions:
        return None, Properties()
    try:
        wants = thinning.read(packet.properties["user_property"])
    except ValueError as error:
        return UNREADABLE, connection.explain(str(error))
    if wants is None or not connection.problem_information:  # [MQTT-3.1.2-29]
        return wants, Properties()
    return wants, Properties(user_property=list(wants.asked))


#: Stands for wishes that can not be read: no filter is subscribed to by halves.
UNREADABLE = Thinning()


def _unfit_for_thinning(wants: Thinning, request: SubscriptionRequest) -> ReasonCode | None:
    """A member of a group would suppress what others then do not get."""
    shared = request.topic_filter.startswith(("$share/", "$queue/"))
    if wants is UNREADABLE or shared:
        return ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR
    return None


def _return_code(reason: ReasonCode) -> int:
    return SUBACK_FAILURE if reason >= 0x80 else int(reason)


async def judge(connection: Connection, request: SubscriptionRequest | Refuse) -> ReasonCode | None:
    """Why this subscription can not be made; None if it can.

    Raises ``ProtocolViolation`` for a filter that is not one.
    """
    if isinstance(request, Refuse):
        return ReasonCode(request.reason)
    settings = connection.transport.listener.protocol
    durability = connection.broker.durability
    if durability is not None and durability.problem and connection.session.durable:
        return ReasonCode.QUOTA_EXCEEDED  # nothing can be kept at present
    topic_filter = request.topic_filter
    group, inner = check_form(topic_filter)
    if group is not None:
        if request.no_local:  # [MQTT-3.8.3-4]
            raise protocol_error("No Local on a shared subscription")
        if not settings.shared_subscriptions:
            return ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
    reason = check_topic_filter(
        topic_filter, settings.maximum_topic_levels, settings.maximum_topic_length
    )
    if reason is not None:
        return reason
    if not settings.wildcard_subscriptions and ("+" in inner or "#" in inner):
        return ReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED  # [MQTT311-3.8.3-2]
    session = connection.session
    limit = session.settings.maximum_subscriptions
    if 0 < limit <= len(session.subscriptions) and mounted(connection, topic_filter) not in (
        session.subscriptions
    ):
        return ReasonCode.QUOTA_EXCEEDED
    # The rules see what is matched: without $share/<group>/, with the mount point.
    topic = connection.mount_point + inner
    allowed = connection.guard.allowed(SUBSCRIBE, topic, request.qos)
    if isinstance(allowed, Deferred):
        allowed = await allowed
    return None if allowed else ReasonCode.NOT_AUTHORIZED


def check_form(topic_filter: str) -> tuple[str | None, str]:
    """(group or None, filter inside); a filter that is none is a violation.

    [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.8.2-1] [MQTT-4.8.2-2] [MQTT311-4.7.1-2]
    """
    if check_topic_filter(topic_filter, ANY_LEVELS, ANY_LENGTH) is not None:
        raise malformed(f"{topic_filter[:80]!r} is not a topic filter")
    return split_shared(topic_filter)


def mounted(connection: Connection, topic_filter: str) -> str:
    """The filter as the router knows it: the mount point inside $share/<group>/."""
    _, inner = check_form(topic_filter)
    mount_point = connection.mount_point
    return topic_filter[: len(topic_filter) - len(inner)] + mount_point + inner


def enter(
    connection: Connection,
    request: SubscriptionRequest,
    identifier: int,
    wants: Thinning | None = None,
) -> tuple[Subscription, bool]:
    """Make the subscription; True with it if there was none on this filter."""
    session = connection.session
    settings = connection.transport.listener.protocol
    topic_filter = mounted(connection, request.topic_filter)
    kind = Subscription if wants is None else partial(Thinned, connection.broker, wants)
    subscription = kind(
        session,
        topic_filter,
        min(request.qos, settings.maximum_qos),  # [MQTT-3.2.2-10]
        no_local=request.no_local or _is_never_local(connection, topic_filter),
        # A bridge of 3.1 or 3.1.1 can not ask for it and needs it.
        retain_as_published=request.retain_as_published or connection.is_bridge,
        identifier=identifier,
    )
    # [MQTT-3.8.4-3] [MQTT311-3.8.4-3] one step: no message falls between old and new
    replaced = connection.broker.router.subscribe(subscription)
    session.subscriptions[topic_filter] = subscription
    if session.durable:
        session.subscribed(subscription)
    hooks = connection.broker.hooks
    if hooks.subscribed:
        hooks.tell(hooks.subscribed, connection, subscription)
    return subscription, replaced is None


def _is_never_local(connection: Connection, topic_filter: str) -> bool:
    """No Local for those who have no way to ask for it: bridges, and by setting."""
    if connection.version >= MQTT5 or topic_filter.startswith(("$share/", "$queue/")):
        return False
    return connection.is_bridge or connection.session.settings.no_local


def wants_retained(subscription: Subscription, request: SubscriptionRequest, is_new: bool) -> bool:
    if subscription.group is not None:
        return False  # section 4.8.2: no retained messages for shared subscriptions
    handling = request.retain_handling
    # [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT311-3.3.1-6]
    return handling == RetainHandling.SEND or (handling == RetainHandling.SEND_IF_NEW and is_new)


def replay(connection: Connection, subscription: Subscription) -> None:
    messages = connection.broker.retained.walk(subscription.topic_filter)
    connection.session.replay(messages, subscription)  # [MQTT-3.8.4-4]


def unsubscribe(connection: Connection, packet: Unsubscribe) -> Deferred[None] | None:
    """UNSUBSCRIBE (section 3.10)."""
    if connection.broker.hooks.unsubscribe:
        return connection.run(hooked.unsubscribe(connection, packet))
    return unsubscribe_from(connection, packet, list(packet.topic_filters))


def unsubscribe_from(
    connection: Connection, packet: Unsubscribe, topic_filters: list[str | Refuse]
) -> Deferred[None] | None:
    """End the subscriptions to *topic_filters* and answer *packet*; a Deferred if
    the answer has to wait."""
    session = connection.session
    hooks = connection.broker.hooks
    reasons: list[int] = []
    for topic_filter in topic_filters:  # [MQTT-3.10.4-6] [MQTT311-3.10.4-6]
        if isinstance(topic_filter, Refuse):
            reasons.append(topic_filter.reason)
            continue
        name = mounted(connection, topic_filter)
        # [MQTT-3.10.4-1] [MQTT-3.10.4-2] what is on its way or queued is still delivered
        # [MQTT-3.10.4-3] [MQTT311-3.10.4-2] [MQTT311-3.10.4-3]
        if not remove(connection.broker, session, name):
            reasons.append(ReasonCode.NO_SUBSCRIPTION_EXISTED)
        else:
            if hooks.unsubscribed:
                hooks.tell(hooks.unsubscribed, connection, name)
            reasons.append(ReasonCode.SUCCESS)
    if session.durable:
        return connection.run(_unsubscribed(connection, packet, reasons))
    _answer(connection, packet, reasons)
    return None


def remove(broker: Broker, session: Session, name: str) -> bool:
    """End the subscription *name* (with the mount point); False if there is none."""
    if session.subscriptions.pop(name, None) is None:
        return False
    broker.router.unsubscribe(session, name)
    if session.durable:
        session.unsubscribed(name)
    return True


async def _unsubscribed(connection: Connection, packet: Unsubscribe, reasons: list[int]) -> None:
    if connection.broker.durability is not None:
        await connection.broker.durability.committed()
    if connection.is_connected:
        _answer(connection, packet, reasons)


def _answer(connection: Connection, packet: Unsubscribe, reasons: list[int]) -> None:
    # [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.11.3-1] [MQTT-3.11.3-2]
    # [MQTT-2.2.1-6] [MQTT311-2.3.1-7] [MQTT311-3.10.4-4] [MQTT311-3.10.4-5]
    connection.send(Unsuback(packet.packet_id, reasons if connection.version >= MQTT5 else []))
