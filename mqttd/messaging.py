"""What every client of ours has: its errors, and the subscriptions that take messages.

The client inside the process (``broker.inprocess``) and the one on the network
(``mqttd.client``) both put what they receive into an ``Inbox``, which hands it to its
callback, or to whoever asks by ``get`` or iterates. A message is acknowledged when
every subscription that it came by is done with it, so a slow receiver holds up whoever
sends. Nothing here knows where messages come from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from inspect import iscoroutine
from typing import Any, Generic, Protocol, TypeVar, cast

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqttd.wire.packets import Properties, Publish
from mqttd.wire.properties import passthrough_of
from mqttd.wire.topics import check_topic_name

log = Logger()


class ClientClosed(Exception):
    """The client is closed; the text says why."""


class Refused(Exception):
    """The broker has refused what the client asked; *reason* is the reason code."""

    def __init__(self, reason: int, text: str) -> None:
        super().__init__(f"{text} (0x{reason:02X})")
        self.reason = reason
        self.text = text


class OutgoingFull(Exception):
    """Too much waits to be sent: whoever publishes has to wait for answers."""


def make_publish(
    topic: str, payload: bytes, qos: int, retain: bool, properties: dict[str, Any]
) -> Publish:
    """A PUBLISH of what a program has given.

    :raise ValueError, TypeError: no broker could take such a message.
    """
    if check_topic_name(topic, 65_536, 65_535) is not None:
        raise ValueError(f"{topic[:80]!r} is not a Topic Name")
    if not isinstance(payload, bytes):
        raise TypeError(f"the payload must be bytes, not {type(payload).__name__}")
    if qos not in (0, 1, 2):
        raise ValueError(f"QoS {qos!r}: 0, 1 or 2")
    known = cast(Properties, properties)
    passthrough = passthrough_of(known) if known else b""
    return Publish(topic, payload, qos, retain, properties=known, passthrough=passthrough)


class Receivable(Protocol):
    """A message as a client hands it over."""

    def done(self) -> None:
        """One of its subscriptions is done with it."""


def response_to(
    message: object, request: Properties, properties: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Topic and properties of the answer to *message*, whose properties are *request*.

    :raise ValueError: the message names no response topic.
    """
    topic = request.get("response_topic")
    if topic is None:
        raise ValueError(f"{message!r} names no response topic")
    correlation = request.get("correlation_data")
    if correlation is not None:
        properties["correlation_data"] = correlation
    return topic, properties


class Receiver(Protocol):
    """The client behind an inbox."""

    @property
    def client_id(self) -> str: ...

    def wake(self, inbox: Any) -> None:
        """Call ``inbox.run`` in a turn of its own."""

    def unsubscribe(self, inbox: Any) -> Deferred[int]:
        """End the subscription."""

    def callback_failed(self) -> None:
        """A callback has failed: count it."""


M = TypeVar("M", bound=Receivable)


class Inbox(Generic[M]):
    """A subscription of a client."""

    def __init__(
        self,
        client: Receiver,
        topic_filter: str,
        identifier: int,
        callback: Callable[[M], Any] | None,
        at_once: int = 1,
    ) -> None:
        """*at_once*: messages that the callback may be busy with."""
        self.topic_filter = topic_filter
        self.identifier = identifier
        #: The QoS that was granted.
        self.qos = 0
        self._client = client
        self._callback = callback
        self._waiting: deque[M] = deque()
        self._askers: deque[Deferred[M]] = deque()
        self._at_once = at_once
        self._busy = 0
        self._ending = ""

    def __repr__(self) -> str:
        return f"<Inbox {self.topic_filter!r} of {self._client.client_id!r}>"

    def __len__(self) -> int:
        """Messages that wait to be taken."""
        return len(self._waiting)

    def get(self) -> Deferred[M]:
        """The next message; fails with ``ClientClosed`` when none can come any more."""
        if self._callback is not None:
            raise TypeError(f"{self!r} gives its messages to a callback")
        if self._waiting:
            asker: Deferred[M] = Deferred()
            self._hand_over(asker, self._waiting.popleft())
            return asker
        if self._ending:
            return fail(ClientClosed(self._ending))
        # One that is cancelled may still stand in the row; it is passed over then.
        asker = Deferred()
        self._askers.append(asker)
        return asker

    def __aiter__(self) -> Inbox[M]:
        return self

    async def __anext__(self) -> M:
        try:
            return await self.get()
        except ClientClosed:
            raise StopAsyncIteration from None

    def unsubscribe(self) -> Deferred[int]:
        """End the subscription; what waits in it may still be taken."""
        return self._client.unsubscribe(self)

    # --- for the client -------------------------------------------------------------

    def put(self, incoming: M) -> None:
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

    def _hand_over(self, asker: Deferred[M], incoming: M) -> None:
        incoming.done()
        asker.callback(incoming)

    def _call_back(self, callback: Callable[[M], Any]) -> None:
        """One after the other, *at_once* at a time where the callback returns Deferreds."""
        while self._waiting and self._busy < self._at_once:
            incoming = self._waiting.popleft()
            try:
                answer = callback(incoming)
                if iscoroutine(answer):
                    answer = Deferred.fromCoroutine(answer)
            except Exception:
                self._failed(Failure(), incoming)
                continue
            if isinstance(answer, Deferred):
                self._busy += 1
                answer.addErrback(self._failed_later, incoming)
                answer.addCallback(self._called_back, incoming)
            else:
                incoming.done()

    def _called_back(self, result: object, incoming: M) -> None:
        self._busy -= 1
        if result is not self:
            incoming.done()
        self._client.wake(self)

    def _failed_later(self, failure: Failure, incoming: M) -> Inbox[M]:
        self._failed(failure, incoming)
        return self

    def _failed(self, failure: Failure, incoming: M) -> None:
        # It counts as taken: to send it again would fail again.
        log.failure("The callback of {inbox} failed", failure, inbox=self)
        self._client.callback_failed()
        incoming.done()
