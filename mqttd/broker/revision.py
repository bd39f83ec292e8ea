"""What becomes of subscriptions when rights have changed.

The broker begins a revision when the rules were replaced, the handshake revises
one session when it is resumed or its client has authenticated anew. Messages
need nothing of the kind: each is judged when it is sent. So nothing leaks while a
revision of many sessions is under way; it lets others have their turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mqttd.interfaces import SUBSCRIBE
from mqttd.wire.topics import split_shared

if TYPE_CHECKING:
    from mqttd.broker.access import Guard
    from mqttd.broker.broker import Broker
    from mqttd.broker.session import Session

log = Logger()

#: Subscriptions looked at before others get their turn.
BATCH = 200


async def revise(broker: Broker, session: Session, guard: Guard) -> int:
    """End the subscriptions of *session* that *guard* does not allow; how many."""
    ended = 0
    for name, subscription in list(session.subscriptions.items()):
        _, inner = split_shared(name)
        allowed = guard.allowed(SUBSCRIBE, inner, subscription.qos)
        if isinstance(allowed, Deferred):
            allowed = await allowed
        # While we waited the client may have replaced it, by one that was judged.
        if not allowed and session.subscriptions.get(name) is subscription:
            del session.subscriptions[name]
            broker.router.unsubscribe(session, name)
            session.unsubscribed(name)
            ended += 1
    return ended


class Revision:
    """Goes through all sessions, one revision at a time: the latest."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._number = 0

    def begin(self) -> Deferred[int]:
        """Look at every subscription; an earlier revision under way ends."""
        self._number += 1
        return Deferred.fromCoroutine(self._run(self._number))

    async def _run(self, number: int) -> int:
        broker = self._broker
        ended = seen = 0
        for session in list(broker.sessions):
            # A session that nobody has come back to is revised when its client does.
            if session.guard is None:
                continue
            seen += len(session.subscriptions) + 1
            ended += await revise(broker, session, session.guard)
            if not session.online:
                session.guard.forget()
            if seen >= BATCH:
                seen = 0
                await self._pause()
                if number != self._number:
                    return ended
        if ended:
            log.info("The rules have changed: {ended} subscriptions ended", ended=ended)
        return ended

    def _pause(self) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()
        self._broker.clock.callLater(0, waiting.callback, None)
        return waiting
