"""Messages by hand: publish one or many, and listen."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from typing import Any, cast

from attrs import evolve
from twisted.internet.defer import Deferred

from mqttd.admin.http.call import Call
from mqttd.admin.http.problems import Problem
from mqttd.admin.http.schemas import QOS, SHORT_TOPIC, TOPIC
from mqttd.admin.http.sse import MEDIA_TYPE, EventStream
from mqttd.admin.http.table import Parameter, Role, Route
from mqttd.broker.inprocess import Refused, make_settings
from mqttd.settings import Overflow
from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import Properties
from mqttd.wire.topics import check_topic_filter, check_topic_name

#: Properties of PUBLISH that may be given, with their schemas.
PROPERTIES = {
    "message_expiry_interval": {
        "type": "integer",
        "minimum": 0,
        "maximum": 4_294_967_295,
        "description": "Seconds until nobody wants it any more.",
    },
    "content_type": {"type": "string", "maxLength": 65535, "description": "What the payload is."},
    "response_topic": {**TOPIC, "description": "Where answers shall go."},
    "payload_format_indicator": {
        "type": "integer",
        "enum": [0, 1],
        "description": "1: the payload is UTF-8.",
    },
    "user_property": {
        "type": "array",
        "maxItems": 100,
        "items": {
            "type": "array",
            "minItems": 2,
            "maxItems": 2,
            "items": {"type": "string", "maxLength": 65535},
        },
        "description": "Pairs of a name and a value.",
    },
}

MESSAGE = {
    "type": "object",
    "required": ["topic"],
    "additionalProperties": False,
    "not": {"required": ["payload", "payload_base64"]},
    "properties": {
        "topic": {**TOPIC, "description": "Where to: no wildcards, not below $SYS."},
        "payload": {"type": "string", "description": "Text; or payload_base64 for bytes."},
        "payload_base64": {"type": "string", "description": "The payload as bytes, in base64."},
        "qos": {**QOS, "description": "The quality of service."},
        "retain": {"type": "boolean", "description": "Whether it is to be retained."},
        "properties": {
            "type": "object",
            "additionalProperties": False,
            "properties": PROPERTIES,
            "description": "Properties of MQTT 5.0.",
        },
    },
}

RESULT = {
    "type": "object",
    "required": ["matched"],
    "properties": {
        "matched": {"type": "boolean", "description": "Whether anybody subscribes to it."}
    },
}

#: Messages that wait for a listener who is slow.
WAITING = 1000


async def publish(call: Call) -> dict[str, Any]:
    matched = _publish(call, call.body)
    await _safe(call)
    return {"matched": matched}


async def publish_many(call: Call) -> dict[str, Any]:
    messages = call.body["messages"]
    # All or nothing, as far as their form goes.
    for number, message in enumerate(messages):
        _check(message, f"messages[{number}]: ")
    matched = [_publish(call, message) for message in messages]
    await _safe(call)
    return {"matched": matched}


def _publish(call: Call, message: dict[str, Any]) -> bool:
    payload = _check(message)
    reason = call.daemon.broker.publish(
        message["topic"],
        payload,
        message.get("qos", 0),
        message.get("retain", False),
        _properties(message),
    )
    return bool(reason == ReasonCode.SUCCESS)


def _properties(message: dict[str, Any]) -> Properties:
    given = dict(message.get("properties", {}))
    if "user_property" in given:
        given["user_property"] = [tuple(pair) for pair in given["user_property"]]
    return cast(Properties, given)


def _check(message: dict[str, Any], where: str = "") -> bytes:
    """The payload of a message that may be published.

    :raise Problem: 422.
    """
    _check_topic(message["topic"], where)
    properties = message.get("properties", {})
    if "response_topic" in properties:
        _check_topic(properties["response_topic"], where)
    for text in _texts(properties):
        if "\0" in text or len(text.encode("utf-8", "surrogatepass")) > 65_535:
            raise Problem(422, f"{where}A property is no text that MQTT can carry.")
    if "payload" in message and "payload_base64" in message:
        raise Problem(422, f"{where}Give payload or payload_base64.")
    try:
        if "payload_base64" in message:
            return b64decode(message["payload_base64"], validate=True)
        return str(message.get("payload", "")).encode()
    except (binascii.Error, ValueError):
        raise Problem(422, f"{where}The payload is not what it should be.") from None


def _check_topic(topic: str, where: str) -> None:
    if check_topic_name(topic, 65_536, 65_535) is not None or topic.startswith("$SYS/"):
        raise Problem(422, f"{where}{topic[:80]!a} is no topic to publish to.")


def _texts(properties: dict[str, Any]) -> list[str]:
    pairs = properties.get("user_property", ())
    texts = [text for pair in pairs for text in pair]
    return texts + [properties[name] for name in ("content_type",) if name in properties]


async def _safe(call: Call) -> None:
    """Wait until what was published is on disk, where it is to be."""
    durability = getattr(call.daemon.broker, "durability", None)
    if durability is not None:
        await durability.committed()


async def listen(call: Call) -> Any:
    """A client of the broker whose messages go out as events."""
    topic_filter = call.query["topic_filter"]
    if check_topic_filter(topic_filter, 65_536, 65_535) is not None:
        raise Problem(400, "The topic_filter is none.")
    broker = call.daemon.broker
    settings = make_settings(broker.settings)
    bounds = evolve(
        settings.session,
        maximum_queued_messages=WAITING,
        overflow=Overflow.DROP_OLDEST,
        queue_qos0=True,
    )
    client = await broker.client(superuser=True, listener=evolve(settings, session=bounds))
    pending: list[Deferred[None]] = []
    streams: list[EventStream] = []

    def received(incoming: Any) -> Deferred[None] | None:
        stream = streams[0]
        stream.send("message", shown(incoming))
        if not stream.paused:
            return None
        # The session's queue, which is bounded, takes what the listener does not.
        pending.append(Deferred())
        return pending[-1]

    def resume() -> None:
        waiting, pending[:] = pending[:], []
        for deferred in waiting:
            deferred.callback(None)

    streams.append(EventStream(call, client.close))
    streams[0].on_resume = resume
    try:
        await client.subscribe(topic_filter, received, qos=call.query["qos"])
    except Refused as error:
        streams[0].send("refused", {"reason": str(error)})
        call.request.finish()
    return streams[0].begun


def shown(incoming: Any) -> dict[str, Any]:
    """One message for people; bytes that are no text in base64."""
    message = {"topic": incoming.topic, "qos": incoming.qos, "retain": incoming.retain}
    try:
        message["payload"] = incoming.payload.decode()
    except UnicodeDecodeError:
        message["payload_base64"] = b64encode(incoming.payload).decode()
    properties = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in incoming.properties.items()
        if name in (*PROPERTIES, "correlation_data")
    }
    return {**message, "properties": properties} if properties else message


ROUTES = (
    Route(
        "POST",
        "/publish",
        Role.OPERATOR,
        publish,
        "Publish a message, as the broker itself",
        "messages",
        body=MESSAGE,
        example={"body": {"topic": "plant/1/level", "payload": "17.5", "qos": 1, "retain": True}},
        answer=RESULT,
    ),
    Route(
        "POST",
        "/publish/bulk",
        Role.OPERATOR,
        publish_many,
        "Publish many messages, in order",
        "messages",
        body={
            "type": "object",
            "required": ["messages"],
            "additionalProperties": False,
            "properties": {
                "messages": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 1000,
                    "items": MESSAGE,
                    "description": "In this order; all or none, as far as their form goes.",
                }
            },
        },
        example={
            "body": {
                "messages": [
                    {"topic": "plant/1/on", "payload": "1"},
                    {"topic": "plant/2/on", "payload_base64": "AQ=="},
                ]
            }
        },
        answer={
            "type": "object",
            "required": ["matched"],
            "properties": {
                "matched": {
                    "type": "array",
                    "items": {"type": "boolean"},
                    "description": "Of each, whether anybody subscribes to it.",
                }
            },
        },
    ),
    Route(
        "GET",
        "/messages",
        Role.OPERATOR,
        listen,
        "Listen to messages, as Server-Sent Events",
        "messages",
        query=(
            Parameter("topic_filter", SHORT_TOPIC, "What to listen to.", required=True),
            Parameter("qos", QOS, "At most this QoS.", 0),
        ),
        example={"topic_filter": "plant/#"},
        answer={"type": "string"},
        produces=MEDIA_TYPE,
    ),
)
