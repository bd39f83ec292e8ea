"""The tree of topics, level by level: filters that are subscribed to, and retained messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from attrs import asdict, define
from twisted.internet.task import deferLater

from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import SLICE, page, page_of
from mqttd.admin.http.table import PAGING, Parameter, Role, Route

LEVEL = {
    "type": "object",
    "required": ["level", "topic"],
    "properties": {
        "level": {"type": "string", "description": "The level by itself."},
        "topic": {"type": "string", "description": "With the levels above."},
        "retained": {"type": "boolean", "description": "A message is retained here."},
        "subscribed": {"type": "boolean", "description": "Somebody subscribes to just this."},
        "messages": {"type": "integer", "description": "Retained ones, here and below."},
        "filters": {"type": "integer", "description": "Subscribed to, here and below."},
        "more": {"type": "boolean", "description": "There is something below."},
    },
}


BELOW = Parameter(
    "below",
    {"type": "string", "maxLength": 4096, "pattern": "/$"},
    "The levels above, with a slash at the end; without it the first level comes.",
)


@define
class _Level:
    """What ``LEVEL`` describes."""

    level: str
    topic: str
    retained: bool = False
    subscribed: bool = False
    messages: int = 0
    filters: int = 0
    more: bool = False


async def show(call: Call) -> dict[str, Any]:
    above = call.query["below"] or ""
    broker = call.daemon.broker
    levels: dict[str, _Level] = {}
    filters = [info.topic_filter for info in broker.router.routes()]
    async for level, is_end in _below(call, filters, above, levels):
        level.filters += 1
        level.subscribed |= is_end
    retained = [
        message.topic for each in _filters(above) for message in broker.retained.match(each)
    ]
    async for level, is_end in _below(call, retained, above, levels):
        level.messages += 1
        level.retained |= is_end
    return await page(call, levels, lambda name: asdict(levels[name]))


def _filters(above: str) -> tuple[str, ...]:
    """What matches the topics that begin with *above*."""
    if not above:
        return ("#", "$SYS/#")
    # Below a wildcard there are filters, and no topics.
    return () if "+" in above or "#" in above else (f"{above}#",)


async def _below(
    call: Call, topics: list[str], above: str, levels: dict[str, _Level]
) -> AsyncIterator[tuple[_Level, bool]]:
    """The level of each of *topics* that stands below *above*, and whether it ends there."""
    for number, topic in enumerate(topics):
        if number % SLICE == SLICE - 1:
            await deferLater(call.daemon.clock, 0)
        if topic.startswith(above):
            name, slash, _ = topic[len(above) :].partition("/")
            level = levels.setdefault(name, _Level(name, above + name))
            level.more |= bool(slash)
            yield level, not slash


ROUTES = (
    Route(
        "GET",
        "/topics",
        Role.VIEWER,
        show,
        "The levels of topics and filters below one",
        "routing",
        query=(*PAGING, BELOW),
        example={"below": "plant/"},
        answer=page_of(LEVEL),
    ),
)
