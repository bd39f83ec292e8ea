"""Delayed publish: a message to ``$delayed/<seconds>/<topic>`` goes to *topic* later.

The message is checked at once, as one to *topic*, and its right to be published
again when the time has come, as with wills. What waits is bounded in messages, bytes
and time, and kept in memory: it is lost when the broker stops, and counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mqttd.fields import checked, count, size, whole_seconds
from mqttd.hooks.rewrite import is_filter
from mqttd.interfaces import PUBLISH, Divert, Refuse
from mqttd.wire.codes import ReasonCode

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.message import Message
    from mqttd.broker.timers import Timer

log = Logger()

#: What a waiting message costs beside its own bytes, for the bound in bytes.
OVERHEAD = 500


def _is_prefix(value: object) -> bool:
    return is_filter(value) and not any(c in "/+#" for c in str(value))


@frozen
class DelayedSettings:
    """Bounds of what waits."""

    #: The first level of such topics.
    prefix: str = checked("$delayed", "one topic level without wildcards", _is_prefix)
    #: The longest delay; a longer one is refused. Seconds.
    maximum_delay: int = whole_seconds(86_400, 4_294_967)
    #: Messages that wait at once.
    maximum_messages: int = count(10_000, 1)
    #: All that wait, topics and properties included; bytes.
    maximum_bytes: int = size(16 * 1024 * 1024, 1)


class DelayedPublish:
    """The plugin."""

    Settings = DelayedSettings

    def __init__(self, settings: DelayedSettings) -> None:
        self._settings = settings
        self.topics = (f"{settings.prefix}/#",)
        self._broker: Broker
        #: What waits, and the bytes of it.
        self._waiting: dict[Message, Timer] = {}
        self.bytes = 0

    def __len__(self) -> int:
        """Messages that wait."""
        return len(self._waiting)

    def start(self, broker: Broker) -> None:
        self._broker = broker

    def stop(self) -> None:
        """What waits is lost."""
        if self._waiting:
            log.warn("{count} delayed messages are lost at the stop", count=len(self._waiting))
            self._broker.metrics.dropped["delayed-lost"] += len(self._waiting)
        for timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
        self.bytes = 0

    def message_publish(self, message: Message, client: object) -> Divert | Refuse:
        _, _, rest = message.topic.partition("/")
        number, _, topic = rest.partition("/")
        if not (number.isascii() and number.isdigit() and len(number) < 10) or not topic:
            return Refuse(ReasonCode.TOPIC_NAME_INVALID, "not <prefix>/<seconds>/<topic>")
        delay = int(number)
        if delay > self._settings.maximum_delay:
            return Refuse(ReasonCode.QUOTA_EXCEEDED, "the delay is too long")
        return Divert(message.changed(topic=topic), lambda checked: self._take(checked, delay))

    def _take(self, message: Message, delay: int) -> int:
        cost = message.size + OVERHEAD
        settings = self._settings
        if (
            len(self._waiting) >= settings.maximum_messages
            or self.bytes + cost > settings.maximum_bytes
        ):
            return ReasonCode.QUOTA_EXCEEDED
        self.bytes += cost
        self._waiting[message] = self._broker.wheel.call_later(delay, self._due, message)
        return ReasonCode.SUCCESS

    def _due(self, message: Message) -> None:
        del self._waiting[message]
        self.bytes -= message.size + OVERHEAD
        if message.expired(self._broker.seconds()):
            self._broker.metrics.dropped["expired"] += 1
            return
        guard = message.guard
        allowed: bool | Deferred[bool] = True
        if guard is not None:
            allowed = guard.allowed(PUBLISH, message.topic, message.qos, message.retain)
        if isinstance(allowed, Deferred):
            allowed.addCallback(self._decided, message)
        else:
            self._decided(allowed, message)

    def _decided(self, allowed: bool, message: Message) -> None:
        if allowed:
            self._broker.publisher.publish(message)
        else:
            self._broker.metrics.dropped["not-authorized"] += 1
