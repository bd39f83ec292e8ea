"""Expired messages of queues on disk: found now and then, and dropped.

A message whose client is here is seen to have expired when its turn comes. That of
one who stays away would keep its place in the bounds, and its space on disk, until
the session ends. ``durability`` starts the sweep; the store finds the messages,
and their sessions drop them as they would in their turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger
from twisted.python.failure import Failure

from mqttd.broker.paging import PagedQueue
from mqttd.interfaces import ExpiredRow

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.durability import Durability

log = Logger()

#: Seconds between sweeps, and between the parts of one that finds much.
INTERVAL, PAUSE = 30.0, 0.1

#: Messages dropped in one part.
PART = 500


class ExpirySweep:
    """Looks for what has expired, as long as the broker runs."""

    def __init__(self, broker: Broker, durability: Durability) -> None:
        self._broker = broker
        self._durability = durability

    def start(self) -> None:
        self._broker.wheel.call_later(INTERVAL, self._sweep)

    def _sweep(self) -> None:
        if self._durability.problem is not None:
            self.start()
            return
        found = self._durability.store.read_expired(PART)
        found.addCallback(self._found).addErrback(self._failed)

    def _found(self, rows: list[ExpiredRow]) -> None:
        dropped = sum(self._drop(each) for each in rows)
        # Those that stay are on their way to their clients.
        delay = PAUSE if dropped else INTERVAL
        self._broker.wheel.call_later(delay, self._sweep)

    def _drop(self, expired: ExpiredRow) -> bool:
        session = self._broker.sessions.get(expired.client_id)
        if session is None or not isinstance(session.queue, PagedQueue):
            return False
        return session.queue.sid == expired.sid and session.queue.expire(expired.row)

    def _failed(self, failure: Failure) -> None:
        log.error(
            "Expired messages cannot be looked for, and are later: {reason}",
            reason=failure.getErrorMessage(),
        )
        self.start()
