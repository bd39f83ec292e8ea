"""What an in-process client receives, and the subscriptions that take it.

``inprocess`` puts each message here; a subscription hands it to its callback, or to
whoever asks by ``get`` or iterates. A message is acknowledged when every
subscription that it came by is done with it, so a slow receiver fills the session's
window and then its queue, like a slow client on the network.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqttd.broker.message import Message

if TYPE_CHECKING:
    from mqttd.broker.inprocess import InProcessClient
    from mqttd.wire.packets import Properties

log = Logger()


class ClientClosed(Exception):
    """The client is closed; the text says why."""


class Incoming:
    """One message as it came to the client; its data is the broker's own."""

    __slots__ = ("_client", "_packet_id", "message", "open", "qos", "retain", "topic")

    def __init__(
        self, client: InProcessClient, message: Message, qos: int, retain: bool, packet_id: int
    ) -> None:
        self.message = message
        #: As the client sees it: without its mount point.
        self.topic = message.topic.removeprefix(client.mount_point)
        #: The QoS of this delivery.
        self.qos = qos
        self.retain = retain
        #: Subscriptions that are not done with it.
        self.open = 0
        self._client = client
        self._packet_id = packet_id

    def __repr__(self) -> str:
        return f"<Incoming {self.topic!r} QoS {self.qos}, {len(self.payload)} bytes>"

    @property
    def payload(self) -> bytes:
        return self.message.payload

    @property
    def properties(self) -> Properties:
        """To be read only."""
        return self.message.properties

    def respond(self, payload: bytes, qos: int | None = None, **properties: Any) -> Deferred[int]:
        """Answer a request: publish to its response topic, with its correlation data.

        :raise ValueError: the message names no response topic.
        """
        topic = self.properties.get("response_topic")
        if topic is None:
            raise ValueError(f"{self!r} names no response topic")
        correlation = self.properties.get("correlation_data")
        if correlation is not None:
            properties["correlation_data"] = correlation
        qos = self.qos if qos is None else qos
        return self._client.publish(topic, payload, qos, **properties)

    def done(self) -> None:
        """One of its subscriptions is done with it."""
        self.open -= 1
        if not self.open:
            self._client.taken(self._packet_id, self.qos)


class Inbox:
    """A subscription of an in-process client."""

    def __init__(
        self,
        client: InProcessClient,
        topic_filter: str,
        identifier: int,
        callback: Callable[[Incoming], Any] | None,
    ) -> None:
        self.topic_filter = topic_filter
        self.identifier = identifier
        #: The QoS that was granted.
        self.qos = 0
        self._client = client
        self._callback = callback
        self._waiting: deque[Incoming] = deque()
        self._askers: deque[Deferred[Incoming]] = deque()
        self._busy = False
        self._ending = ""

    def __repr__(self) -> str:
        return f"<Inbox {self.topic_filter!r} of {self._client.client_id!r}>"

    def __len__(self) -> int:
        """Messages that wait to be taken."""
        return len(self._waiting)

    def get(self) -> Deferred[Incoming]:
        """The next message; fails with ``ClientClosed`` when none can come any more."""
        if self._callback is not None:
            raise TypeError(f"{self!r} gives its messages to a callback")
        if self._waiting:
            asker: Deferred[Incoming] = Deferred()
            self._hand_over(asker, self._waiting.popleft())
            return asker
        if self._ending:
            return fail(ClientClosed(self._ending))
        # One that is cancelled may still stand in the row; it is passed over then.
        asker = Deferred()
        self._askers.append(asker)
        return asker

    def __aiter__(self) -> Inbox:
        return self

    async def __anext__(self) -> Incoming:
        try:
            return await self.get()
        except ClientClosed:
            raise StopAsyncIteration from None

    def unsubscribe(self) -> Deferred[int]:
        """End the subscription; what waits in it may still be taken."""
        return self._client.unsubscribe(self)

    # --- for the client -------------------------------------------------------------

    def put(self, incoming: Incoming) -> None:
        """A message has come by this subscription."""
        self._waiting.append(incoming)

    def run(self) -> None:
        """Hand on what waits, as far as somebody takes it."""
        if self._callback is not None:
            self._call_back(self._callback)
            return
        while self._waiting and self._askers:
            asker = self._askers.popleft()
            if not asker.called:
                self._hand_over(asker, self._waiting.popleft())

    def end(self, reason: str) -> None:
        """No message comes any more. Those that wait stay to be taken."""
        self._ending = reason
        askers, self._askers = self._askers, deque()
        for asker in askers:
            if not asker.called:
                asker.errback(ClientClosed(reason))

    # --- inside -----------------------------------------------------------------------

    def _hand_over(self, asker: Deferred[Incoming], incoming: Incoming) -> None:
        incoming.done()
        asker.callback(incoming)

    def _call_back(self, callback: Callable[[Incoming], Any]) -> None:
        """One after the other: a callback that returns a Deferred is waited for."""
        while self._waiting and not self._busy:
            incoming = self._waiting.popleft()
            try:
                answer = callback(incoming)
                if iscoroutine(answer):
                    answer = Deferred.fromCoroutine(answer)
            except Exception:
                self._failed(Failure(), incoming)
                continue
            if isinstance(answer, Deferred):
                self._busy = True
                answer.addErrback(self._failed_later, incoming)
                answer.addCallback(self._called_back, incoming)
            else:
                incoming.done()

    def _called_back(self, result: object, incoming: Incoming) -> None:
        self._busy = False
        if result is not self:
            incoming.done()
        self._client.wake(self)

    def _failed_later(self, failure: Failure, incoming: Incoming) -> Inbox:
        self._failed(failure, incoming)
        return self

    def _failed(self, failure: Failure, incoming: Incoming) -> None:
        # It counts as taken: to send it again would fail again.
        log.failure("The callback of {inbox} failed", failure, inbox=self)
        self._client.broker.metrics.errors["in-process"] += 1
        incoming.done()
