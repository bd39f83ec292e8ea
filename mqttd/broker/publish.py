"""The publish service: one application message in, deliveries out.

Connections, wills, $SYS and the embedding program publish here. It keeps
retained messages, asks the router for the plan, and hands the message to each
session; it knows neither bytes nor connections, apart from holding back a
publisher whose receiver asks for it (``pause-publishers``).

Access is not decided here: whoever brings a message has had it checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mqttd.broker.delivery import Delivery
from mqttd.broker.message import Message
from mqttd.interfaces import RECEIVE
from mqttd.wire.codes import ReasonCode

if TYPE_CHECKING:
    from mqttd.broker.access import Guard
    from mqttd.broker.broker import Broker
    from mqttd.broker.roles import Publisher
    from mqttd.broker.session import Session
    from mqttd.broker.shared import SharedGroup
    from mqttd.broker.subscription import Subscription, Target


#: Members of a group that may be passed over for one message.
MOST_PASSED = 32


class PublishService:
    """Routes application messages to sessions."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        #: The connection whose message is being routed just now.
        self._current: Publisher | None = None

    def publish(self, message: Message, publisher: Publisher | None = None) -> ReasonCode:
        """Retain and route *message*; says whether anyone subscribes to it."""
        if message.retain:  # [MQTT311-3.3.1-12]
            self._broker.retained.store(message)
        # A will may be published while another message is being routed.
        previous, self._current = self._current, publisher
        try:
            return self.route(message)
        finally:
            self._current = previous

    def route(self, message: Message) -> ReasonCode:
        """Give *message* to every session that the router names."""
        plan = self._broker.router.plan(message.topic)  # [MQTT-3.3.2-3] [MQTT311-3.3.2-3]
        self.deliver(message, plan.targets)
        for group in plan.groups:
            self._route_shared(message, group)
        if plan.targets or plan.groups:
            return ReasonCode.SUCCESS
        self._broker.metrics.messages_unrouted += 1
        return ReasonCode.NO_MATCHING_SUBSCRIBERS

    def deliver(self, message: Message, targets: Iterable[Target]) -> None:
        """Give *message* to the sessions of *targets*."""
        for target in targets:
            if target.selective:
                chosen = target.select(message)
                if chosen is not None:  # [MQTT-3.8.3-3]
                    chosen.session.deliver(message, chosen)
            else:
                target.session.deliver(message, target)

    def publish_shared(
        self, message: Message, groups: Iterable[SharedGroup], publisher: Publisher
    ) -> None:
        """Give *message* of *publisher* to one member of each of *groups*."""
        previous, self._current = self._current, publisher
        try:
            for group in groups:
                self._route_shared(message, group)
        finally:
            self._current = previous

    def _route_shared(self, message: Message, group: SharedGroup) -> bool:
        member = group.pick(message)
        if member is None:
            return False
        if RECEIVE in self._broker.authorizer.checks:
            member = _who_may(message, group, member)
        member.session.deliver(message, member)  # [MQTT-4.8.2-4]
        return True

    def redistribute(self, delivery: Delivery, session: Session | None) -> None:
        """*session* ended with *delivery* undone: give it to another member.

        Only a shared subscription has others; a QoS 2 message that was sent
        already stays with the one it was sent to.
        """
        group = delivery.group
        durability = self._broker.durability
        if durability is not None:
            # Who waits for this delivery waits for the next one.
            routed, durability.receipt = durability.receipt, getattr(delivery, "receipt", None)
        if group is None or not self._route_shared(delivery.message, group):
            self._broker.metrics.dropped["session-ended"] += 1
        if durability is not None:
            durability.receipt = routed
        if session is not None:
            session.gone(delivery)

    # --- pause-publishers -----------------------------------------------------

    def hold_publisher(self, session: Session) -> bool:
        """Pause the current publisher until *session* has room.

        False when there is nobody to pause: the message comes from the broker,
        or from the very client that is too slow.
        """
        publisher = self._current
        if publisher is None or publisher.session is session:
            return False
        if not session.waits(publisher):
            deadline = self._broker.wheel.call_later(
                session.settings.maximum_publisher_pause, self._give_up, session
            )
            session.add_waiting_publisher(publisher, deadline)
            publisher.hold()
        return True

    def _give_up(self, session: Session) -> None:
        session.stalled = True
        session.release_publishers()


def _who_may(message: Message, group: SharedGroup, picked: Subscription) -> Subscription:
    """*picked*, or another member of *group* if that one may not have *message*.

    A session asks again when it sends. Without this the messages that one member
    may not have would be lost to the others.
    """
    if _may(message, picked):
        return picked
    # Those behind it, so that its share is not all the first one's; and of these
    # those who are here.
    members = list(group.members)
    index = members.index(picked)
    others = members[index + 1 :] + members[:index]
    others.sort(key=lambda member: not member.session.online)
    return next((each for each in others[:MOST_PASSED] if _may(message, each)), picked)


def _may(message: Message, member: Subscription) -> bool:
    guard: Guard | None = member.session.guard  # type: ignore[attr-defined]
    qos = min(message.qos, member.qos)
    return guard is None or guard.allowed(RECEIVE, message.topic, qos, False) is not False
