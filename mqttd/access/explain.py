"""Why? What would become of a publication, subscription or delivery, and who says so.

The control API asks on behalf of an operator. Answers are made by the rules in
force, in the order in which the broker asks; nothing is sent, counted or changed.
Of a client that is connected or has a session, it knows who that is; of any other,
only what the question says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen
from twisted.internet.defer import Deferred

from mqttd.access.authorizer import AccessControl
from mqttd.broker.access import Guard
from mqttd.broker.receiving import is_reserved
from mqttd.interfaces import (
    PUBLISH,
    RECEIVE,
    SUBSCRIBE,
    AccessRequest,
    Avatar,
    Decision,
    Peer,
)
from mqttd.wire.topics import check_topic_filter, check_topic_name, matches, split_shared

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.subscription import Target

#: Receivers that are told one by one.
MOST_RECEIVERS = 100
#: Levels and bytes that a topic in a question may have.
MOST = 65_535


class QuestionError(ValueError):
    """A question that makes no sense; the text says why."""


@frozen
class Question:
    """May this client do this?"""

    action: str
    #: Topic name, or for a subscription a filter, as the client says it.
    topic: str
    client_id: str = ""
    #: None: whoever the client is, if it is known.
    user: str | None = None
    qos: int = 0
    retain: bool = False
    address: str | None = None
    listener: str | None = None
    claims: dict[str, Any] = field(factory=dict)


@frozen
class Receiver:
    """One who subscribes to what is published."""

    client_id: str
    #: Its group, for a shared subscription; one member of each gets a message.
    group: str | None
    qos: int
    #: "sent", "queued", "denied" or "dropped".
    outcome: str
    #: Who says so, or why.
    by: str


@frozen
class Explanation:
    """The answer."""

    allowed: bool
    by: str
    client_id: str
    user: str | None
    #: "connected", "session" or "unknown".
    state: str
    #: The topic that was judged, with the mount point.
    topic: str
    #: What the rules in shadow would say.
    shadow: Decision | None = None
    #: For a publication that is allowed: the first of those who subscribe.
    receivers: tuple[Receiver, ...] = ()
    total_receivers: int = 0


async def explain(broker: Broker, question: Question) -> Explanation:
    """Say what decides about *question*.

    :raise QuestionError: when there is no such action or topic.
    """
    inner = _checked(question)
    guard, state, mount_point = _asker(broker, question)
    topic = mount_point + inner
    request = guard.request(question.action, topic, question.qos, question.retain)
    decision = _before_rules(broker, question, guard) or await _decide(broker, guard, request)
    explanation = Explanation(
        decision.allowed,
        decision.by,
        guard.client_id,
        guard.avatar.principal,
        state,
        topic,
        await _in_shadow(broker, request),
    )
    if question.action != PUBLISH or not decision.allowed:
        return explanation
    targets = list(_targets(broker, topic))
    receivers = [
        await _receiver(broker, guard, question, topic, target)
        for target in targets[:MOST_RECEIVERS]
    ]
    return evolve(explanation, receivers=tuple(receivers), total_receivers=len(targets))


def _checked(question: Question) -> str:
    """The topic, or the filter inside a shared subscription."""
    if question.action not in (PUBLISH, SUBSCRIBE, RECEIVE):
        raise QuestionError(f"{question.action!r} is none of publish, subscribe, receive")
    if question.action != SUBSCRIBE:
        if check_topic_name(question.topic, MOST, MOST) is not None:
            raise QuestionError(f"{question.topic!r} is no topic name")
        return question.topic
    if check_topic_filter(question.topic, MOST, MOST) is not None:
        raise QuestionError(f"{question.topic!r} is no topic filter")
    return split_shared(question.topic)[1]


def _asker(broker: Broker, question: Question) -> tuple[Guard, str, str]:
    """The client of the question, how we know it, and its mount point."""
    connection = broker.connections.get(question.client_id)
    session = broker.sessions.get(question.client_id)
    if connection is not None:
        known, state, mount_point = connection.guard, "connected", connection.mount_point
    elif session is not None and session.guard is not None:
        known, state, mount_point = session.guard, "session", session.mount_point
    else:
        known, state, mount_point = None, "unknown", ""
    if known is None or question.user not in (None, known.avatar.principal):
        avatar: Any = Avatar(question.user, claims=question.claims)
        state, mount_point = "unknown", ""
        peer, listener = None, ""
    else:
        avatar, peer, listener = known.avatar, known.peer, known.listener_name
    if question.address is not None:
        peer = Peer(question.address)
    listener = listener if question.listener is None else question.listener
    guard = Guard(
        broker.authorizer,
        avatar,
        question.client_id,
        peer,
        listener,
        broker.metrics,
        broker.seconds,
    )
    return guard, state, mount_point


def _before_rules(broker: Broker, question: Question, guard: Guard) -> Decision | None:
    """What is decided before any rule is asked."""
    admission: Any = broker.admission
    if admission is not None:
        address = guard.peer.address if guard.peer is not None else ""
        user = guard.avatar.principal
        if refusal := admission.refuses_login(guard.client_id, user, address):
            return Decision(False, f"not let in: {refusal}")
    topic, session = question.topic, broker.sessions.get(question.client_id)
    if question.action == PUBLISH and topic.startswith("$"):
        connection = broker.connections.get(question.client_id)
        settings = broker.settings.protocol
        if connection is not None:
            settings = connection.transport.listener.protocol
        if is_reserved(topic, settings.dollar_topics):
            return Decision(False, "topics that begin with $ are not for clients")
    if question.action == RECEIVE and session is not None:
        mounted = session.mount_point + topic
        if not any(matches(split_shared(name)[1], mounted) for name in session.subscriptions):
            return Decision(False, "the client subscribes to no filter that matches")
    return None


async def _decide(broker: Broker, guard: Guard, request: AccessRequest) -> Decision:
    """By whom, and how, *request* is decided."""
    authorizer = broker.authorizer
    if guard.avatar.superuser:
        return Decision(True, "a superuser")
    if request.action not in authorizer.checks:
        return Decision(True, f"no rule is about {request.action}")
    if isinstance(authorizer, AccessControl):
        decided = authorizer.decide(request)
        return await decided if isinstance(decided, Deferred) else decided
    allowed = guard.allowed(request.action, request.topic, request.qos, request.retain)
    if isinstance(allowed, Deferred):
        allowed = await allowed
    return Decision(allowed, type(authorizer).__name__)


async def _in_shadow(broker: Broker, request: AccessRequest) -> Decision | None:
    authorizer = broker.authorizer
    if not isinstance(authorizer, AccessControl) or request.avatar.superuser:
        return None
    decided = authorizer.decide_in_shadow(request)
    return await decided if isinstance(decided, Deferred) else decided


# --- who would get it -------------------------------------------------------------------


def _targets(broker: Broker, topic: str) -> Iterator[Target]:
    plan = broker.router.plan(topic)
    yield from plan.targets
    for group in plan.groups:
        yield from group.members


async def _receiver(
    broker: Broker, publisher: Guard, question: Question, topic: str, target: Target
) -> Receiver:
    session: Any = target.session
    group = None if target.group is None else target.group.name
    qos = min(question.qos, target.qos)

    def outcome(what: str, by: str) -> Receiver:
        return Receiver(session.client_id, group, qos, what, by)

    if target.no_local and session.client_id == publisher.client_id and target.own is None:
        return outcome("dropped", "No Local: it is the publisher's own")
    if session.guard is not None:
        retain = question.retain and target.retain_as_published
        decision = await _decide(
            broker, session.guard, session.guard.request(RECEIVE, topic, qos, retain)
        )
        if not decision.allowed:
            return outcome("denied", decision.by)
        by = decision.by
    else:
        by = "judged when its client comes"
    if not session.online:
        if not qos and not session.settings.queue_qos0:
            return outcome("dropped", "it is away, and QoS 0 is not kept")
        return outcome("queued", f"it is away; {by}")
    waits = not session.consumer.writable or session.queued
    return outcome("queued", f"its output is full; {by}") if waits else outcome("sent", by)
