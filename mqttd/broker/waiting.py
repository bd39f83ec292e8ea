"""Handlers that have begun and wait. ``Connection.run`` begins them.

This is not compiled: Twisted tells a coroutine by its type.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any

from twisted.internet.defer import Deferred


@coroutine
def rest_of(
    work: Coroutine[Deferred[Any], Any, None], awaited: Deferred[Any]
) -> Generator[Deferred[Any], Any, None]:
    """The rest of *work*, which waits for *awaited*."""
    while True:
        try:
            try:
                result = yield awaited
            except Exception as error:
                awaited = work.throw(error)
            else:
                awaited = work.send(result)
        except StopIteration:
            return
