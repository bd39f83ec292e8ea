"""Several addresses of one broker: each attempt goes to the next one after a failure."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IStreamClientEndpoint)
class InTurn:
    """One of *endpoints*, as long as it answers."""

    def __init__(self, endpoints: list[Any]) -> None:
        self._endpoints = endpoints
        self._index = 0

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        connecting: Deferred[Any] = self._endpoints[self._index].connect(factory)
        return connecting.addErrback(self._failed)

    def _failed(self, failure: Failure) -> Failure:
        self._index = (self._index + 1) % len(self._endpoints)
        return failure
