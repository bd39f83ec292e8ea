"""Requests of an in-process client that await their responses (section 4.10).

One subscription takes the responses of all requests; correlation data, which
nobody can guess, says which is whose.
"""

from __future__ import annotations

from secrets import token_bytes, token_hex
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from mqttd.broker.inbox import Inbox, Incoming
from mqttd.wire.codes import ReasonCode

if TYPE_CHECKING:
    from mqttd.broker.inprocess import InProcessClient

#: Requests of one client that may wait for a response.
MAXIMUM_PENDING = 10_000


class Requests:
    """The open requests of one client."""

    def __init__(self, client: InProcessClient) -> None:
        self._client = client
        self._pending: dict[bytes, tuple[Deferred[Incoming], IDelayedCall]] = {}
        self._topic = f"response/{token_hex(8)}"
        self._ready: Deferred[Inbox] | None = None
        self._is_ready = False

    def __len__(self) -> int:
        return len(self._pending)

    def request(
        self, topic: str, payload: bytes, timeout: float, qos: int, properties: dict[str, Any]
    ) -> Deferred[Incoming]:
        """See ``InProcessClient.request``."""
        if len(self._pending) >= MAXIMUM_PENDING:
            raise RuntimeError(f"{len(self._pending)} requests wait for responses already")
        correlation = token_bytes(16)
        response: Deferred[Incoming] = Deferred(lambda _: self._cancelled(correlation))
        late = self._client.broker.clock.callLater(timeout, self._late, correlation, topic, timeout)
        self._pending[correlation] = response, late
        properties = {
            **properties,
            "response_topic": self._topic,
            "correlation_data": correlation,
        }
        sent = self._prepared().addCallback(
            lambda _: self._client.publish(topic, payload, qos, **properties)
        )
        sent.addCallback(self._sent, correlation, topic)
        sent.addErrback(self._failed, correlation)
        return response

    def _prepared(self) -> Deferred[Any]:
        """Fires when the subscription for responses stands."""
        waiting: Deferred[Any] = Deferred()
        if self._ready is None:
            self._ready = self._client.subscribe(self._topic, self._arrived, qos=1)
        self._ready.addBoth(self._pass_on, waiting)
        return waiting

    @staticmethod
    def _pass_on(result: Any, waiting: Deferred[Any]) -> Any:
        waiting.callback(result)
        return None if isinstance(result, Failure) else result

    def _sent(self, reason: int, correlation: bytes, topic: str) -> None:
        if reason == ReasonCode.NO_MATCHING_SUBSCRIBERS:
            from mqttd.broker.inprocess import Refused

            raise Refused(reason, f"nobody takes requests on {topic!r}")

    def _arrived(self, incoming: Incoming) -> None:
        found = self._drop(incoming.properties.get("correlation_data", b""))
        if found is not None:
            found.callback(incoming)

    def _late(self, correlation: bytes, topic: str, timeout: float) -> None:
        found = self._drop(correlation)
        if found is not None:
            found.errback(TimeoutError(f"no response on {topic!r} within {timeout:g} s"))

    def _failed(self, failure: Any, correlation: bytes) -> None:
        found = self._drop(correlation)
        if found is not None:
            found.errback(failure)

    def _drop(self, correlation: bytes) -> Deferred[Incoming] | None:
        found = self._pending.pop(correlation, None)
        if found is None:
            return None
        response, late = found
        if late.active():
            late.cancel()
        return response

    def _cancelled(self, correlation: bytes) -> None:
        self._drop(correlation)

    def end(self, error: Exception) -> None:
        """No response comes any more."""
        for correlation in list(self._pending):
            found = self._drop(correlation)
            if found is not None and not found.called:
                found.errback(error)
