"""Who comes and who goes, told on ``$SYS/brokers/<node>/clients/<id>``.

It observes the broker's connections and publishes in the next turn of the
reactor, so that neither CONNECT nor the end of a connection waits for those who
listen, and what a listener's end causes does not happen inside another's.
Nothing is kept of a client but an event that waits for its turn, and of those a
bounded number; nothing at all while nobody listens.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall

from mqttd.admin.publisher import SystemPublisher, level_of

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.connection import Connection

#: Events that may wait; more are dropped, the newest first, and counted.
MAXIMUM_WAITING = 10_000

#: Events published in one turn.
BATCH = 200


class Presence:
    """Publishes connected and disconnected events."""

    def __init__(
        self, broker: Broker, system: SystemPublisher, wall_clock: Callable[[], float]
    ) -> None:
        """*wall_clock* gives Unix time, in seconds."""
        self._broker = broker
        self._system = system
        self._wall_clock = wall_clock
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        self._broker.hooks.add("connected", self._connected)
        self._broker.hooks.add("disconnected", self._disconnected)

    def stop(self) -> None:
        """Observe no more; what waits is published now."""
        self._broker.hooks.remove("connected", self._connected)
        self._broker.hooks.remove("disconnected", self._disconnected)
        if self._call is not None:
            self._call.cancel()
            self._call = None
        while self._waiting:
            self._system.publish(*self._waiting.popleft())

    def _connected(self, connection: Connection) -> None:
        topic = self._topic(connection, "connected")
        if topic is None:
            return
        self._note(
            connection,
            topic,
            ipaddress=connection.transport.peer.address,
            # What clean session meant: the session ends with the connection.
            clean_sess=connection.session.expiry == 0,
            protocol=connection.version,
            connack=0,
        )

    def _disconnected(self, connection: Connection, reason: str) -> None:
        topic = self._topic(connection, "disconnected")
        if topic is not None:
            self._note(connection, topic, reason=reason)

    def _topic(self, connection: Connection, event: str) -> str | None:
        """The event's topic; None when nobody listens.

        To write what nobody reads took a tenth of a short connection.
        """
        if not self._broker.settings.presence:
            return None
        topic = f"{self._system.prefix}clients/{level_of(connection.client_id)}/{event}"
        return topic if self._broker.router.may_lead(topic) else None

    def _note(self, connection: Connection, topic: str, **fields: Any) -> None:
        if len(self._waiting) >= MAXIMUM_WAITING:
            metrics = self._broker.metrics
            metrics.dropped["presence"] += 1
            metrics.system_dropped["presence"] += 1
            return
        everything = {
            "clientid": connection.client_id,
            "username": connection.user_name,
            **fields,
            "ts": int(self._wall_clock()),
        }
        self._waiting.append((topic, json.dumps(everything).encode()))
        if self._call is None:
            self._call = self._broker.clock.callLater(0, self._publish)

    def _publish(self) -> None:
        self._call = None
        for _ in range(min(BATCH, len(self._waiting))):
            self._system.publish(*self._waiting.popleft())
        # Publishing may have ended a connection, and so have asked for a turn.
        if self._waiting and self._call is None:
            self._call = self._broker.clock.callLater(0, self._publish)
