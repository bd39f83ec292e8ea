"""The retained messages: the last one of each topic (MQTT 5.0 section 3.3.1.3).

The publish service stores, subscriptions match, a timer of the broker calls
``purge``. Access rules, sessions and durability are other parts' business.

What a message costs beside its bytes is bounded by the limit on their count.
Deadlines stand in buckets of a second, so that a message that is replaced
leaves nothing behind, and purging looks only at what is due.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from math import ceil
from operator import attrgetter
from typing import TYPE_CHECKING

from mqttd.broker.message import Message
from mqttd.broker.metrics import Metrics
from mqttd.broker.topic_tree import TopicTree
from mqttd.settings import RetainedSettings

if TYPE_CHECKING:
    from mqttd.broker.durability import Durability

#: Reasons of a refusal, as they are counted in ``Metrics.dropped``.
TOO_LARGE = "retained-payload"
TOO_MANY = "retained-count"
TOO_MUCH = "retained-bytes"


class RetainedStore:
    """Retained messages in memory."""

    def __init__(
        self, settings: RetainedSettings, seconds: Callable[[], float], metrics: Metrics
    ) -> None:
        """*seconds* is the broker's clock."""
        self._settings = settings
        self._seconds = seconds
        self._metrics = metrics
        self._tree: TopicTree[Message] = TopicTree(attrgetter("topic"))
        #: Where they survive, if anywhere.
        self.durability: Durability | None = None
        #: Bytes of topics, payloads and properties.
        self.bytes = 0
        #: What of count and bytes is the broker's own reports: no limit is for them.
        self._reports = 0
        self._report_bytes = 0
        #: Second -> messages whose deadline lies in the second before it.
        self._buckets: dict[int, set[Message]] = {}
        #: Their keys as a heap; may hold some that are empty.
        self._due: list[int] = []

    @property
    def settings(self) -> RetainedSettings:
        """May be replaced; limits then hold from the next message on, and another
        expiry at once."""
        return self._settings

    @settings.setter
    def settings(self, settings: RetainedSettings) -> None:
        changed = settings.expiry != self._settings.expiry
        self._settings = settings
        if changed:
            self._buckets.clear()
            self._due.clear()
            for message in self._tree:
                self._await(message)

    @property
    def count(self) -> int:
        """Messages stored; those expired and not yet purged included."""
        return len(self._tree)

    def store(self, message: Message) -> str | None:
        """Make *message* the retained one of its topic; None, or why it is not.

        An empty payload clears the topic. Where a limit refuses the message,
        the one that it was to replace goes all the same: an old value that
        passes for the last one is worse than none. Refusals are counted in
        ``Metrics.dropped`` under the reason returned.
        """
        # [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT311-3.3.1-10] [MQTT311-3.3.1-11]
        if not message.payload:
            self.delete(message.topic)
            return None
        reason = self._refusal(message)
        if reason is not None:
            self.delete(message.topic)
            self._metrics.dropped[reason] += 1
            return reason
        # [MQTT-3.3.1-5] [MQTT311-3.3.1-5] [MQTT311-3.3.1-7]
        self.restore(message.stored())
        if self.durability is not None:
            self.durability.put_retained(message)
        return None

    def restore(self, stored: Message) -> None:
        """Take *stored* as it is: it comes from ``Message.stored``, or from disk."""
        replaced = self._tree.set(stored)
        if replaced is not None:
            self._forget(replaced)
        self._count(stored, 1)
        self._await(stored)

    def _refusal(self, message: Message) -> str | None:
        settings = self._settings
        if _is_report(message):
            return None
        if len(message.payload) > settings.maximum_payload:
            return TOO_LARGE
        crowded = 0 < settings.maximum_messages <= self.count - self._reports
        total = self.bytes - self._report_bytes + message.size
        if not crowded and not 0 < settings.maximum_bytes < total:
            return None
        replaced = self._tree.get(message.topic)
        if crowded and replaced is None:
            return TOO_MANY
        if replaced is not None:
            total -= replaced.size
        return TOO_MUCH if 0 < settings.maximum_bytes < total else None

    def get(self, topic: str) -> Message | None:
        """The retained message of *topic*, unless it has expired."""
        message = self._tree.get(topic)
        return None if message is None or self._expired(message, self._seconds()) else message

    def delete(self, topic: str) -> Message | None:
        """Forget the retained message of *topic*; returns it."""
        message = self._tree.delete(topic)
        if message is not None:
            self._forget(message)
            if self.durability is not None:
                self.durability.delete_retained(topic)
        return message

    def match(self, topic_filter: str) -> Iterator[Message]:
        """The messages whose topics *topic_filter* matches, found as asked for.

        The store may change between steps: what was there all the time comes
        once, what is gone does not come any more.
        """
        for message in self.walk(topic_filter):
            if message is not None:
                yield message

    def walk(self, topic_filter: str) -> Iterator[Message | None]:
        """Like ``match``, with a None now and then where the search takes long.

        The caller may use it to let others have their turn.
        """
        for message in self._tree.walk(topic_filter):
            # [MQTT-3.3.2-5]
            if message is None or not self._expired(message, self._seconds()):
                yield message

    def __iter__(self) -> Iterator[Message]:
        """Every message, for copies to disk; expired ones included."""
        return iter(self._tree)

    def purge(self, now: float, limit: int = 10_000) -> int:
        """Delete what has expired at clock time *now*; returns how many.

        At most *limit* at once, so that a million messages with one deadline
        stop nobody: if that many are returned, there may be more.
        """
        purged = 0
        while self._due and self._due[0] <= now and purged < limit:
            bucket = self._buckets.get(self._due[0])
            if not bucket:
                self._buckets.pop(heappop(self._due), None)
                continue
            message = bucket.pop()
            self._tree.delete(message.topic)
            self._count(message, -1)
            if self.durability is not None:
                self.durability.delete_retained(message.topic)
            purged += 1
        return purged

    def _deadline(self, message: Message) -> float | None:
        """When *message* expires: as it says, or by the store's own expiry."""
        if message.expires_at is not None:
            return message.expires_at
        # What the broker says of itself ($SYS) stays until it is said anew.
        if not self._settings.expiry or message.topic.startswith("$SYS/"):
            return None
        return message.created_at + self._settings.expiry

    def _expired(self, message: Message, now: float) -> bool:
        deadline = self._deadline(message)
        return deadline is not None and deadline <= now

    def _await(self, message: Message) -> None:
        deadline = self._deadline(message)
        if deadline is None:
            return
        second = ceil(deadline)
        bucket = self._buckets.get(second)
        if bucket is None:
            bucket = self._buckets[second] = set()
            heappush(self._due, second)
        bucket.add(message)

    def _count(self, message: Message, sign: int) -> None:
        self.bytes += sign * message.size
        if _is_report(message):
            self._reports += sign
            self._report_bytes += sign * message.size

    def _forget(self, message: Message) -> None:
        self._count(message, -1)
        deadline = self._deadline(message)
        if deadline is None:
            return
        second = ceil(deadline)
        bucket = self._buckets.get(second)
        if bucket is None:
            return
        bucket.discard(message)
        if not bucket:
            del self._buckets[second]
            # Deadlines that come and go must not pile up in the heap.
            if len(self._due) > 2 * len(self._buckets) + 64:
                self._due = list(self._buckets)
                heapify(self._due)


def _is_report(message: Message) -> bool:
    """Whether the broker says this of itself; clients may not, bridges apart."""
    return message.publisher is None and message.topic.startswith("$SYS/")
