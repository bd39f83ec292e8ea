"""Schemas that several routes share."""

from __future__ import annotations

from typing import Any

from mqttd.admin.http.table import Parameter

QOS = {"type": "integer", "enum": [0, 1, 2]}

#: A topic name or filter; whether it is one, MQTT's own rules say.
TOPIC = {"type": "string", "minLength": 1, "maxLength": 65535}

#: The same in a query, where the length of a URL bounds it.
SHORT_TOPIC = {"type": "string", "minLength": 1, "maxLength": 4096}

PREFIX = Parameter(
    "prefix", {"type": "string", "maxLength": 4096}, "Names that begin with this only."
)

#: A rate as the configuration writes it; null for no limit.
RATE = {"type": ["string", "null"], "maxLength": 64, "description": 'Such as "100/s burst 500".'}

#: What came of new settings.
RELOADED = {
    "type": "object",
    "required": ["changed", "restart_needed"],
    "properties": {
        "changed": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Settings and listeners that are different now.",
        },
        "restart_needed": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Settings that only a restart changes.",
        },
    },
}

SUBSCRIPTION = {
    "type": "object",
    "required": ["client_id", "topic_filter", "qos"],
    "properties": {
        "client_id": {"type": "string", "description": "Whose it is."},
        "topic_filter": {"type": "string", "description": "The filter, with its mount point."},
        "qos": {**QOS, "description": "The quality of service."},
        "no_local": {"type": "boolean", "description": "Its own messages do not come to it."},
        "retain_as_published": {
            "type": "boolean",
            "description": "The RETAIN flag comes as it was published.",
        },
        "identifier": {"type": "integer", "description": "0: none."},
        "thinned": {
            "type": "object",
            "description": "By which wishes it gets fewer messages: max-rate, conflate, sample.",
            "additionalProperties": {"type": "string"},
        },
        "suppressed": {"type": "integer", "description": "Messages that it did not get for them."},
    },
}


def show_subscription(client_id: str, subscription: Any) -> dict[str, Any]:
    """What ``SUBSCRIPTION`` describes."""
    thinned = {}
    if subscription.is_thinned:
        thinned = {
            "thinned": dict(subscription.wants.asked),
            "suppressed": subscription.suppressed,
        }
    return thinned | {
        "client_id": client_id,
        "topic_filter": subscription.topic_filter,
        "qos": subscription.qos,
        "no_local": subscription.no_local,
        "retain_as_published": subscription.retain_as_published,
        "identifier": subscription.identifier,
    }
