"""Sessions, and what each is subscribed to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import list_of, page, page_of
from mqttd.admin.http.problems import Problem, not_found
from mqttd.admin.http.schemas import (
    PREFIX,
    QOS,
    SHORT_TOPIC,
    SUBSCRIPTION,
    TOPIC,
    show_subscription,
)
from mqttd.admin.http.table import PAGING, Parameter, Role, Route
from mqttd.broker import subscribing
from mqttd.wire.codes import ReasonCode
from mqttd.wire.errors import ProtocolViolation
from mqttd.wire.packets import SubscriptionRequest

if TYPE_CHECKING:
    from mqttd.broker.session import Session

SESSION = {
    "type": "object",
    "required": ["client_id", "user", "online"],
    "properties": {
        "client_id": {"type": "string", "description": "The client id."},
        "user": {"type": ["string", "null"], "description": "Whose it is."},
        "online": {"type": "boolean", "description": "Its client is connected."},
        "age": {"type": "number", "description": "Seconds."},
        "expiry": {
            "type": ["integer", "null"],
            "description": "Seconds that it outlives its connection; null: for ever.",
        },
        "mount_point": {
            "type": "string",
            "description": "What stands before its topics in the broker.",
        },
        "subscriptions": {"type": "integer", "description": "How many it has."},
        "queued": {"type": "integer", "description": "Messages that wait."},
        "queued_bytes": {"type": "integer", "description": "Their bytes."},
        "inflight": {"type": "integer", "description": "Messages sent and not acknowledged."},
        "unreleased": {"type": "integer", "description": "QoS 2 messages from the client."},
        "dropped": {"type": "integer", "description": "Messages that it did not get."},
        "will": {"type": "boolean", "description": "It has a will."},
    },
}


async def show_all(call: Call) -> dict[str, Any]:
    sessions = call.daemon.broker.sessions
    prefix, online = call.query["prefix"] or "", call.query["online"]

    def wanted(name: str) -> bool:
        session = sessions.get(name)
        return (
            session is not None
            and name.startswith(prefix)
            and (online is None or session.online is online)
        )

    def shown(name: str) -> dict[str, Any] | None:
        session = sessions.get(name)
        return None if session is None else _shown(session, call)

    names = [session.client_id for session in sessions]
    return await page(call, names, shown, wanted)


def show(call: Call) -> dict[str, Any]:
    return _shown(find(call), call)


def remove(call: Call) -> None:
    """End the session, and its connection if there is one."""
    broker = call.daemon.broker
    session = find(call)
    connection = broker.connections.get(session.client_id)
    if connection is not None:
        connection.disconnect(
            ReasonCode.ADMINISTRATIVE_ACTION, "ended by an administrator", "administrative-action"
        )
    if broker.sessions.get(session.client_id) is session:
        broker.sessions.end(session)


def subscriptions(call: Call) -> dict[str, Any]:
    session = find(call)
    return {
        "items": [
            show_subscription(session.client_id, each)
            for _, each in sorted(session.subscriptions.items())
        ]
    }


async def subscribe(call: Call) -> dict[str, Any]:
    session = find(call)
    connection = call.daemon.broker.connections.get(session.client_id)
    if connection is None:
        raise Problem(409, "Only a client that is connected can be subscribed.")
    request = SubscriptionRequest(call.body["topic_filter"], call.body.get("qos", 0))
    try:
        reason = await subscribing.judge(connection, request)
    except ProtocolViolation as error:
        raise Problem(422, f"Not a topic filter: {error.text}.") from None
    if reason is not None:
        raise Problem(409, f"The client may not: {reason.name.lower().replace('_', ' ')}.")
    if not connection.is_connected:
        raise Problem(409, "The client has left.")
    subscription, is_new = subscribing.enter(connection, request, 0)
    if subscribing.wants_retained(subscription, request, is_new):
        subscribing.replay(connection, subscription)
    return show_subscription(session.client_id, subscription)


def unsubscribe(call: Call) -> None:
    session = find(call)
    name = call.query["topic_filter"]
    broker = call.daemon.broker
    if not subscribing.remove(broker, session, name):
        raise not_found("subscription", name)
    connection = broker.connections.get(session.client_id)
    if connection is not None:
        broker.hooks.tell(broker.hooks.unsubscribed, connection, name)


def find(call: Call) -> Session:
    """The session that the path names.

    :raise Problem: 404.
    """
    session: Session | None = call.daemon.broker.sessions.get(call.path["client_id"])
    if session is None:
        raise not_found("session", call.path["client_id"])
    return session


def _shown(session: Session, call: Call) -> dict[str, Any]:
    queue = session.queue
    return {
        "client_id": session.client_id,
        "user": session.principal,
        "online": session.online,
        "age": round(call.daemon.broker.seconds() - session.created_at, 3),
        "expiry": session.expiry,
        "mount_point": session.mount_point,
        "subscriptions": len(session.subscriptions),
        "queued": session.queued,
        "queued_bytes": 0 if queue is None else queue.bytes,
        "inflight": len(session.inflight or ()),
        "unreleased": len(session.awaiting_release or ()),
        "dropped": session.dropped,
        "will": session.will is not None,
    }


ROUTES = (
    Route(
        "GET",
        "/sessions",
        Role.VIEWER,
        show_all,
        "Sessions, by client id",
        "sessions",
        query=(*PAGING, PREFIX, Parameter("online", {"type": "boolean"}, "Those only.")),
        answer=page_of(SESSION),
    ),
    Route(
        "GET",
        "/sessions/{client_id}",
        Role.VIEWER,
        show,
        "One session",
        "sessions",
        example={"client_id": "sensor-12"},
        answer=SESSION,
    ),
    Route(
        "DELETE",
        "/sessions/{client_id}",
        Role.OPERATOR,
        remove,
        "End a session and all that hangs on it; its client is disconnected",
        "sessions",
        example={"client_id": "sensor-14"},
    ),
    Route(
        "GET",
        "/sessions/{client_id}/subscriptions",
        Role.VIEWER,
        subscriptions,
        "What a session is subscribed to",
        "sessions",
        example={"client_id": "sensor-12"},
        answer=list_of(SUBSCRIPTION),
    ),
    Route(
        "POST",
        "/sessions/{client_id}/subscriptions",
        Role.OPERATOR,
        subscribe,
        "Subscribe a client that is connected, by its own rights",
        "sessions",
        body={
            "type": "object",
            "required": ["topic_filter"],
            "additionalProperties": False,
            "properties": {
                "topic_filter": {**TOPIC, "description": "The topic filter."},
                "qos": {**QOS, "description": "The quality of service."},
            },
        },
        example={
            "client_id": "sensor-12",
            "body": {"topic_filter": "commands/sensor-12/#", "qos": 1},
        },
        answer=SUBSCRIPTION,
        status=201,
        problems=(409,),
    ),
    Route(
        "DELETE",
        "/sessions/{client_id}/subscriptions",
        Role.OPERATOR,
        unsubscribe,
        "End a subscription",
        "sessions",
        query=(
            Parameter(
                "topic_filter", SHORT_TOPIC, "The filter, with its mount point.", required=True
            ),
        ),
        example={"client_id": "sensor-12", "topic_filter": "old/#"},
    ),
)
