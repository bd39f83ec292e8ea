"""Delayed publish: a message to ``$delayed/<seconds>/<topic>`` goes to *topic* later.

The message is checked at once, as one to *topic*. What waits is bounded in messages,
bytes and time; ``mqttd.broker.delayed`` keeps it, in the store where that is durable,
and publishes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from mqttd.broker.delayed import OVERHEAD
from mqttd.fields import checked, count, size, whole_seconds
from mqttd.hooks.rewrite import is_filter
from mqttd.interfaces import Divert, Refuse
from mqttd.wire.codes import ReasonCode

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.message import Message


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
    """Publishes what comes on $delayed/<seconds>/<topic> later."""

    Settings = DelayedSettings

    def __init__(self, settings: DelayedSettings) -> None:
        self._settings = settings
        self.topics = (f"{settings.prefix}/#",)
        self._broker: Broker

    def start(self, broker: Broker) -> None:
        self._broker = broker

    def message_publish(self, message: Message, client: object) -> Divert | Refuse:
        _, _, rest = message.topic.partition("/")
        number, _, topic = rest.partition("/")
        if not (number.isascii() and number.isdigit() and len(number) < 10) or not topic:
            return Refuse(ReasonCode.TOPIC_NAME_INVALID, "not <prefix>/<seconds>/<topic>")
        delay = int(number)
        if delay > self._settings.maximum_delay:
            return Refuse(ReasonCode.QUOTA_EXCEEDED, "the delay is too long")
        inner = message.changed(topic=topic)
        return Divert(inner, lambda checked: self._take(checked, delay), keeps=True)

    def _take(self, message: Message, delay: int) -> int:
        delayed, settings = self._broker.delayed, self._settings
        if (
            len(delayed) >= settings.maximum_messages
            or delayed.bytes + message.size + OVERHEAD > settings.maximum_bytes
        ):
            return ReasonCode.QUOTA_EXCEEDED
        delayed.add(message, delay)
        return ReasonCode.SUCCESS
