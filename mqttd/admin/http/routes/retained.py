"""Retained messages: look and delete."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

from twisted.internet.task import deferLater

from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import SLICE, page, page_of
from mqttd.admin.http.problems import Problem, not_found
from mqttd.admin.http.schemas import SHORT_TOPIC
from mqttd.admin.http.table import PAGING, Parameter, Role, Route
from mqttd.wire.topics import check_topic_filter

if TYPE_CHECKING:
    from mqttd.broker.message import Message

SUMMARY = {
    "type": "object",
    "required": ["topic", "size", "qos"],
    "properties": {
        "topic": {"type": "string", "description": "The topic."},
        "size": {"type": "integer", "description": "Bytes of the payload."},
        "qos": {"type": "integer", "description": "As it was published."},
        "publisher": {"type": ["string", "null"], "description": "Client id; null: the broker."},
        "expires_in": {"type": ["integer", "null"], "description": "Seconds."},
    },
}

MESSAGE = {
    "type": "object",
    "required": ["topic", "payload_base64"],
    "properties": {
        **SUMMARY["properties"],  # type: ignore[dict-item]
        "payload": {"type": ["string", "null"], "description": "Null unless it is UTF-8."},
        "payload_base64": {"type": "string", "description": "The payload as bytes, in base64."},
    },
}

FILTER = Parameter("topic_filter", SHORT_TOPIC, "Topics that match this filter only.")

NEEDED = Parameter("topic_filter", SHORT_TOPIC, "What to delete; # stands for all.", None, True)


async def show_all(call: Call) -> dict[str, Any]:
    retained = call.daemon.broker.retained
    topic_filter = _filter(call, "#")

    def shown(topic: str) -> dict[str, Any] | None:
        message = retained.get(topic)
        return None if message is None else summary(message, call)

    return await page(call, [m.topic for m in retained.match(topic_filter)], shown)


def show(call: Call) -> dict[str, Any]:
    message = call.daemon.broker.retained.get(call.path["topic"])
    if message is None:
        raise not_found("retained message on", call.path["topic"])
    try:
        text = message.payload.decode()
    except UnicodeDecodeError:
        text = None
    return {
        **summary(message, call),
        "payload": text,
        "payload_base64": b64encode(message.payload).decode(),
    }


def remove(call: Call) -> None:
    if call.daemon.broker.retained.delete(call.path["topic"]) is None:
        raise not_found("retained message on", call.path["topic"])


async def remove_all(call: Call) -> dict[str, Any]:
    retained = call.daemon.broker.retained
    topics = [message.topic for message in retained.match(_filter(call, "#"))]
    for number, topic in enumerate(topics):
        if number % SLICE == SLICE - 1:
            await deferLater(call.daemon.clock, 0)
        retained.delete(topic)
    return {"deleted": len(topics)}


def _filter(call: Call, default: str) -> str:
    topic_filter: str = call.query["topic_filter"] or default
    if check_topic_filter(topic_filter, 65_536, 65_535) is not None:
        raise Problem(400, "The topic_filter is none.")
    return topic_filter


def summary(message: Message, call: Call) -> dict[str, Any]:
    return {
        "topic": message.topic,
        "size": len(message.payload),
        "qos": message.qos,
        "publisher": message.publisher,
        "expires_in": message.remaining(call.daemon.broker.seconds()),
    }


ROUTES = (
    Route(
        "GET",
        "/retained",
        Role.VIEWER,
        show_all,
        "Retained messages, by topic and without payloads",
        "retained",
        query=(*PAGING, FILTER),
        example={"topic_filter": "plant/#"},
        answer=page_of(SUMMARY),
    ),
    Route(
        "DELETE",
        "/retained",
        Role.OPERATOR,
        remove_all,
        "Delete the retained messages that a filter matches",
        "retained",
        query=(NEEDED,),
        example={"topic_filter": "plant/2/#"},
        answer={
            "type": "object",
            "required": ["deleted"],
            "properties": {"deleted": {"type": "integer", "description": "How many there were."}},
        },
    ),
    Route(
        "GET",
        "/retained/{topic}",
        Role.OPERATOR,
        show,
        "One retained message, with its payload",
        "retained",
        example={"topic": "plant/1/level"},
        answer=MESSAGE,
    ),
    Route(
        "DELETE",
        "/retained/{topic}",
        Role.OPERATOR,
        remove,
        "Delete one retained message",
        "retained",
        example={"topic": "plant/1/old"},
    ),
)
