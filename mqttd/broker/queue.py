"""The messages that wait in one session: bounded, ordered, by priority.

Only the session uses it. The queue knows its bounds and who waits longest; what
to do about an overflow is the session's decision. Within one priority, order
is arrival; a higher priority goes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from mqttd.broker.delivery import Delivery
from mqttd.settings import SessionSettings
from mqttd.wire.topics import matches

#: What a queued message costs beside its own bytes, for the bound in bytes.
OVERHEAD = 200


class MessageQueue:
    """Deliveries in waiting; lengths in messages and in bytes."""

    __slots__ = ("_lanes", "bytes", "messages", "messages_qos0", "settings")

    def __init__(self, settings: SessionSettings) -> None:
        #: May be replaced; holds for messages to come.
        self.settings = settings
        self._lanes: dict[int, deque[Delivery]] = {}
        self.messages = 0
        self.bytes = 0
        #: How many of them have QoS 0.
        self.messages_qos0 = 0

    def __len__(self) -> int:
        return self.messages

    def __bool__(self) -> bool:
        # Compiled, what may be None or a queue would be true by being one.
        return self.messages > 0

    def __iter__(self) -> Iterator[Delivery]:
        for priority in sorted(self._lanes, reverse=True):
            yield from self._lanes[priority]

    def has_room(self, delivery: Delivery, share: float = 1.0) -> bool:
        """Whether *delivery* fits into *share* of the bounds."""
        settings = self.settings
        return (
            self.messages < settings.maximum_queued_messages * share
            and self.bytes + delivery.message.size + OVERHEAD
            <= settings.maximum_queued_bytes * share
        )

    def may_hold(self, delivery: Delivery) -> bool:
        """Whether *delivery* fits into an empty queue."""
        return delivery.message.size + OVERHEAD <= self.settings.maximum_queued_bytes

    def push(self, delivery: Delivery) -> None:
        """Put *delivery* behind those of its priority; bounds are not looked at."""
        self._lane(delivery).append(delivery)
        self._count(delivery, 1)

    def push_front(self, delivery: Delivery) -> None:
        """Put *delivery* back where ``pop`` took it from."""
        self._lane(delivery).appendleft(delivery)
        self._count(delivery, 1)

    def pop(self) -> Delivery | None:
        """Take out the next to be sent."""
        lanes = self._lanes
        if not lanes:
            return None
        priority = next(iter(lanes)) if len(lanes) == 1 else max(lanes)
        return self._take(priority)

    def drop_oldest(self, newcomer: Delivery) -> Delivery | None:
        """Take out the one that waits longest in the lowest priority.

        None when all that wait have a higher priority than *newcomer*.
        """
        lowest = min(self._lanes, default=0)
        if not self._lanes or lowest > self._priority(newcomer):
            return None
        return self._take(lowest)

    def take_qos0(self) -> list[Delivery]:
        """Take out all that have QoS 0."""
        taken: list[Delivery] = []
        for priority, lane in list(self._lanes.items()):
            found = [delivery for delivery in lane if not delivery.qos]
            if not found:
                continue
            taken += found
            left = deque([delivery for delivery in lane if delivery.qos])
            if left:
                self._lanes[priority] = left
            else:
                del self._lanes[priority]
        for delivery in taken:
            self._count(delivery, -1)
        return taken

    def _priority(self, delivery: Delivery) -> int:
        priorities = self.settings.priorities
        if not priorities:
            return 0
        topic = delivery.message.topic
        return max(
            (level for pattern, level in priorities.items() if matches(pattern, topic)),
            default=0,
        )

    def _lane(self, delivery: Delivery) -> deque[Delivery]:
        priority = self._priority(delivery)
        lane = self._lanes.get(priority)
        if lane is None:
            lane = self._lanes[priority] = deque()
        return lane

    def _take(self, priority: int) -> Delivery:
        lane = self._lanes[priority]
        delivery = lane.popleft()
        if not lane:
            del self._lanes[priority]
        self._count(delivery, -1)
        return delivery

    def _count(self, delivery: Delivery, sign: int) -> None:
        self.messages += sign
        self.bytes += sign * (delivery.message.size + OVERHEAD)
        if delivery.qos == 0:
            self.messages_qos0 += sign
