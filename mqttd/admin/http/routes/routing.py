"""Where messages go: all subscriptions, and the filters that lead to them."""

from __future__ import annotations

from typing import Any

from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import page, page_of
from mqttd.admin.http.schemas import PREFIX, SHORT_TOPIC, SUBSCRIPTION, show_subscription
from mqttd.admin.http.table import PAGING, Parameter, Role, Route
from mqttd.wire.topics import matches, split_shared

ROUTE = {
    "type": "object",
    "required": ["topic_filter", "subscribers"],
    "properties": {
        "topic_filter": {"type": "string", "description": "What is subscribed to."},
        "subscribers": {"type": "integer", "description": "For themselves."},
        "groups": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "description": "The share name."},
                    "members": {"type": "integer", "description": "Sessions that share it."},
                },
            },
            "description": "Shared subscriptions to it.",
        },
    },
}

#: Parts the two halves of a subscription's name in a page; no text of MQTT has it.
_BETWEEN = "\0"


async def subscriptions(call: Call) -> dict[str, Any]:
    sessions = call.daemon.broker.sessions
    fits = _filter(call)

    def names(session: Any) -> list[str]:
        return [
            f"{session.client_id}{_BETWEEN}{name}"
            for name in list(session.subscriptions)
            if fits(name)
        ]

    def shown(name: str) -> dict[str, Any] | None:
        client_id, _, topic_filter = name.partition(_BETWEEN)
        session = sessions.get(client_id)
        found = None if session is None else session.subscriptions.get(topic_filter)
        return None if found is None else show_subscription(client_id, found)

    return await page(call, sessions, shown, names=names)


def _filter(call: Call) -> Any:
    topic, exact = call.query["topic"], call.query["topic_filter"]
    if topic is not None:
        return lambda name: matches(split_shared(name)[1], topic)
    if exact is not None:
        return lambda name: exact in (name, split_shared(name)[1])
    return lambda name: True


async def routes(call: Call) -> dict[str, Any]:
    prefix, topic = call.query["prefix"] or "", call.query["topic"]
    infos = {info.topic_filter: info for info in call.daemon.broker.router.routes()}

    def wanted(name: str) -> bool:
        return name.startswith(prefix) and (topic is None or matches(name, topic))

    def shown(name: str) -> dict[str, Any]:
        info = infos[name]
        groups = [{"name": group.name, "members": len(group)} for group in info.groups]
        return {"topic_filter": name, "subscribers": info.subscribers, "groups": groups}

    return await page(call, infos, shown, wanted)


_TOPIC = Parameter("topic", SHORT_TOPIC, "Filters that match this topic only.")

ROUTES = (
    Route(
        "GET",
        "/subscriptions",
        Role.VIEWER,
        subscriptions,
        "All subscriptions, by client id and filter",
        "routing",
        query=(*PAGING, _TOPIC, Parameter("topic_filter", SHORT_TOPIC, "This filter only.")),
        answer=page_of(SUBSCRIPTION),
    ),
    Route(
        "GET",
        "/routes",
        Role.VIEWER,
        routes,
        "Distinct filters that are subscribed to",
        "routing",
        query=(*PAGING, PREFIX, _TOPIC),
        answer=page_of(ROUTE),
    ),
)
