"""Several addresses of one broker: each attempt goes to the next one after a failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IStreamClientEndpoint)
class InTurn:
    """One of *endpoints*, as long as it answers."""

    def __init__(
        self,
        endpoints: list[Any],
        on_attempt: Callable[[], None],
        on_failure: Callable[[Failure], None],
    ) -> None:
        """
        :param on_attempt: called when an attempt begins.
        :param on_failure: called when there is no connection after it.
        """
        self._endpoints = endpoints
        self._on_attempt = on_attempt
        self._on_failure = on_failure
        #: Which of them is used, or tried next.
        self.index = 0

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        self._on_attempt()
        connecting: Deferred[Any] = self._endpoints[self.index].connect(factory)
        return connecting.addErrback(self._failed)

    def _failed(self, failure: Failure) -> Failure:
        self._on_failure(failure)
        self.index = (self.index + 1) % len(self._endpoints)
        return failure
