"""Messages that wait for their time, and then go their way.

The plugin ``delayed`` gives them here, checked and within its bounds; ``restore``
brings back what waited when the broker stopped. With a durable store each is in it
until it was published, so that one that was acknowledged is published whatever
happens, even if the plugin is not configured any more. The right to publish is
judged again then, as with wills. Knows nothing of how a client asks for a delay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mqttd.broker.message import Message
from mqttd.broker.timers import Timer
from mqttd.interfaces import PUBLISH

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker

log = Logger()

#: What a waiting message costs beside its own bytes, for the bound in bytes.
OVERHEAD = 500


@define
class Waiting:
    """One message that waits."""

    message: Message
    timer: Timer
    #: It is in the store, too.
    kept: bool


class DelayedMessages:
    """What waits in one broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._waiting: dict[int, Waiting] = {}
        self._next = 1
        #: All that wait, topics, properties and overhead included.
        self.bytes = 0

    def __len__(self) -> int:
        """Messages that wait."""
        return len(self._waiting)

    def add(self, message: Message, delay: float) -> None:
        """Publish *message* in *delay* seconds, if its publisher may do that then."""
        durability = self._broker.durability
        kept = durability is not None and durability.problem is None
        number = self._next
        self._wait(number, message, delay, kept)
        if durability is not None and kept:
            durability.put_delayed(number, message, delay)

    def restore(self, number: int, message: Message, delay: float) -> None:
        """Take up what the store has under *number*; those due first come first."""
        self._wait(number, message, max(0.0, delay), True)

    def _wait(self, number: int, message: Message, delay: float, kept: bool) -> None:
        self._next = max(self._next, number + 1)
        self.bytes += message.size + OVERHEAD
        timer = self._broker.wheel.call_later(delay, self._due, number)
        self._waiting[number] = Waiting(message, timer, kept)

    def _due(self, number: int) -> None:
        message = self._waiting[number].message
        if message.expired(self._broker.seconds()):
            self._broker.metrics.dropped["expired"] += 1
            self._forget(number)
            return
        guard = message.guard
        allowed: bool | Deferred[bool] = True
        if guard is not None:
            allowed = guard.allowed(PUBLISH, message.topic, message.qos, message.retain)
        if isinstance(allowed, Deferred):
            allowed.addBoth(self._decided, number)
        else:
            self._decided(allowed, number)

    def _decided(self, allowed: object, number: int) -> None:
        if number not in self._waiting:
            return  # the broker has stopped; what is kept is judged by the next one
        # In the turn that publishes it: after a crash it is there, or was published.
        message = self._forget(number)
        if allowed is not True:
            self._broker.metrics.dropped["not-authorized"] += 1
            return
        durability = self._broker.durability
        if durability is None:
            self._broker.publisher.publish(message)
            return
        # Nobody waits for an acknowledgement of it, or could send it again.
        durability.at_once = True
        try:
            self._broker.publisher.publish(message)
        finally:
            durability.at_once = False

    def _forget(self, number: int) -> Message:
        waiting = self._waiting.pop(number)
        self.bytes -= waiting.message.size + OVERHEAD
        if waiting.kept and self._broker.durability is not None:
            self._broker.durability.store.delete_delayed(number)
        return waiting.message

    def stop(self) -> None:
        """Nothing is published any more; what no store keeps is lost."""
        lost = sum(not waiting.kept for waiting in self._waiting.values())
        if lost:
            log.warn("{count} delayed messages are lost at the stop", count=lost)
            self._broker.metrics.dropped["delayed-lost"] += lost
        for waiting in self._waiting.values():
            waiting.timer.cancel()
        self._waiting.clear()
        self.bytes = 0
