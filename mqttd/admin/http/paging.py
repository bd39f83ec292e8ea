"""Lists in pages: a part of many things, in a stable order, without a pause for all.

Handlers of lists call ``page``. A page begins behind a name, not at a number, so
that things that come and go between two pages shift nothing. The walk yields to
the reactor now and then; of 100,000 names a page costs about 10 ms in all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import nsmallest
from itertools import chain
from typing import Any

from twisted.internet.task import deferLater

from mqttd.admin.http.call import Call

#: Things looked at in one turn of the reactor.
SLICE = 5000


def list_of(item: Any) -> dict[str, Any]:
    """The schema of a list that is never long, of *item*, a schema."""
    return {
        "type": "object",
        "required": ["items"],
        "properties": {"items": {"type": "array", "items": item, "description": "Those found."}},
    }


def page_of(item: Any) -> dict[str, Any]:
    """The schema of a page of *item*, a schema."""
    return {
        "type": "object",
        "required": ["items", "total", "next"],
        "properties": {
            "items": {"type": "array", "items": item, "description": "Those found."},
            "total": {"type": "integer", "description": "All that fit the filters."},
            "next": {
                "type": ["string", "null"],
                "description": "The `after` of the next page; null on the last.",
            },
        },
    }


async def page(
    call: Call,
    things: Iterable[Any],
    show: Callable[[str], dict[str, Any] | None],
    wanted: Callable[[str], bool] | None = None,
    names: Callable[[Any], Iterable[str]] | None = None,
) -> dict[str, Any]:
    """The page that the query asks for, by ``table.PAGING``.

    :param things: what is walked through, and copied before; names, if *names* is
        None.
    :param show: what is said of a name; None if it is gone meanwhile.
    :param wanted: the filter of names.
    :param names: the names that one of *things* stands for.
    """
    limit, after = call.query["limit"], call.query["after"]
    first: list[str] = []
    total = 0
    every = list(things)
    for start in range(0, len(every), SLICE):
        if start:
            await deferLater(call.daemon.clock, 0)
        part: Iterable[str] = every[start : start + SLICE]
        if names is not None:
            part = chain.from_iterable(map(names, part))
        found = [name for name in part if wanted is None or wanted(name)]
        total += len(found)
        if after is not None:
            found = [name for name in found if name > after]
        first = nsmallest(limit + 1, first + found)
    items = [shown for name in first[:limit] if (shown := show(name)) is not None]
    return {
        "items": items,
        "total": total,
        "next": first[limit - 1] if len(first) > limit else None,
    }
