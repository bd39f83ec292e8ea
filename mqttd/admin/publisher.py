"""The broker's own voice: everything it publishes on ``$SYS`` goes out here.

The other parts of ``admin`` publish by it. It makes topic levels of names that
are not made for it, remembers what it left retained, and keeps its own traffic
apart in ``Metrics.system_*``. What is said, and when, it does not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker

#: Bytes in UTF-8 (MQTT 5.0 section 1.5.4).
LONGEST_TOPIC = 65_535

_ESCAPES = str.maketrans({"%": "%25", "/": "%2F", "+": "%2B", "#": "%23", "\0": "%00"})


def level_of(name: str) -> str:
    """*name* as one topic level, no two names alike.

    The characters that mean something in topics and filters are written as in
    a URL, and so is the percent sign.
    """
    return name.translate(_ESCAPES)


class SystemPublisher:
    """Publishes on ``$SYS``, outside of what counts as application traffic."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        #: Where this node's own topics are.
        self.prefix = f"$SYS/brokers/{level_of(broker.node)}/"
        #: Topic -> bytes of what we have there in the retained store.
        self._retained: dict[str, int] = {}
        self._retained_bytes = 0

    @property
    def retained_count(self) -> int:
        """Retained messages that are ours."""
        return len(self._retained)

    @property
    def retained_bytes(self) -> int:
        """Their bytes."""
        return self._retained_bytes

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> bool:
        """Publish with QoS 0; False if *topic* is too long to be one."""
        broker, metrics = self._broker, self._broker.metrics
        if len(topic.encode()) > LONGEST_TOPIC:
            metrics.dropped["system-topic"] += 1
            metrics.system_dropped["system-topic"] += 1
            return False
        # Nothing else happens during the call: what the counters gain is ours.
        unrouted, dropped = metrics.messages_unrouted, dict(metrics.dropped)
        broker.publish(topic, payload, 0, retain)
        metrics.system_unrouted += metrics.messages_unrouted - unrouted
        if metrics.dropped != dropped:
            for reason, count in metrics.dropped.items():
                metrics.system_dropped[reason] += count - dropped.get(reason, 0)
        if retain:
            self._note(topic)
        return True

    def forget(self, topic: str) -> None:
        """Take our retained message of *topic* away, without a message to anyone."""
        if topic in self._retained:
            self._broker.retained.delete(topic)
            self._note(topic)

    def forget_all(self) -> None:
        """Leave nothing retained: nobody keeps it true any more."""
        for topic in list(self._retained):
            self.forget(topic)

    def _note(self, topic: str) -> None:
        # An empty one has taken away what was there.
        kept = self._broker.retained.get(topic)
        self._retained_bytes -= self._retained.pop(topic, 0)
        if kept is not None:
            self._retained[topic] = kept.size
            self._retained_bytes += kept.size
