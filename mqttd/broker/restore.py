"""What was in the store when the broker starts: sessions, wills, messages.

``durability`` calls it once, before any listener opens, so that every session is
there to be routed to when the first message comes. It reads each record once and
makes no object for a message that waits; it adds nothing to the store before it
has read everything. What became due while the broker was down happens then.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from attrs import define, field
from twisted.logger import Logger

from mqttd.broker.durable_session import DurableSession
from mqttd.broker.handover import hand_over
from mqttd.broker.message import NOT_CACHED
from mqttd.broker.session import Session
from mqttd.broker.subscription import Subscription
from mqttd.broker.thinning import Thinned, decode
from mqttd.interfaces import RestoredSession, StoreContents, StoredSession
from mqttd.settings import SessionSettings

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.durability import Durability

log = Logger()

#: Sessions and retained messages, together, that are worth it to be left out of
#: garbage collection.
MANY = 10_000

#: Records written in a turn, of connections that ended with the last broker.
SLICE = 500


def restore(broker: Broker, durability: Durability, contents: StoreContents) -> None:
    """Take up *contents*."""
    collecting = gc.isenabled()
    # Nothing here is garbage: looking for it takes most of the time otherwise.
    gc.disable()
    try:
        restorer = Restorer(broker, durability, contents.alive_until)
        restorer.take_sessions(contents)
        restorer.take_retained(contents)
        restorer.take_delayed(contents)
        if len(broker.sessions) + broker.retained.count > MANY:
            # Nor look at it ever again, each time that all is looked at.
            gc.freeze()
    finally:
        if collecting:
            gc.enable()
    restorer.finish()


@define
class Restorer:
    """One restoration."""

    _broker: Broker
    _durability: Durability
    #: When connections ended that nobody has seen ending.
    _alive_until: float
    #: Sessions whose time was over, and those with a will that is due.
    _lapsed: list[DurableSession] = field(factory=list)
    _wills: list[Session] = field(factory=list)
    #: Sessions whose connection ended with the last broker.
    _unsaved: list[DurableSession] = field(factory=list)
    #: Sessions that have ended, without and with messages for others.
    _sids: list[int] = field(factory=list)
    _handed_over: list[int] = field(factory=list)
    _messages: int = 0

    def take_sessions(self, contents: StoreContents) -> None:
        """Make every session, with subscriptions and deadlines."""
        broker = self._broker
        now = self._durability.store.time()
        known = {
            listener.name or listener.endpoint: listener.session
            for listener in broker.settings.listeners
        }
        for restored in contents.sessions:
            stored = restored.session
            if stored.expiry == 0:
                self._take_will(stored)
                self._take_ended(restored)
                continue
            settings = known.get(stored.listener, broker.settings.session)
            self._take_session(restored, settings, now)

    def _take_session(
        self, restored: RestoredSession, settings: SessionSettings, now: float
    ) -> None:
        broker, stored = self._broker, restored.session
        session = DurableSession(
            broker, stored.client_id, stored.principal, settings, self._durability, stored.sid
        )
        session.restore(restored)
        self._messages += restored.rows
        if session.ended_at is None:
            session.ended_at = min(self._alive_until, now)
            self._unsaved.append(session)
        broker.sessions.adopt(session)
        subscribe, held = broker.router.subscribe, session.subscriptions
        for name, options, identifier, thinning in restored.subscriptions:
            kind = self._thinned(session, name, thinning) if thinning else Subscription
            subscription = held[name] = kind(
                session, name, options & 3, bool(options & 4), bool(options & 8), identifier
            )
            subscribe(subscription)
        gone_for = now - session.ended_at
        if session.expiry is not None:
            left = session.expiry - gone_for
            if left > 0:
                broker.sessions.expire_in(session, left)
            else:
                self._lapsed.append(session)
        if stored.will is not None:
            self._take_will_of(session, stored.will, gone_for)

    def _thinned(
        self, session: DurableSession, name: str, text: str
    ) -> Callable[..., Subscription]:
        """What makes a subscription that is thinned as *text* says."""
        try:
            wants = decode(text)
        except ValueError as error:
            log.error(
                "{client_id} gets all of {name}: how that is to be thinned is damaged ({error})",
                client_id=session.client_id,
                name=name,
                error=error,
            )
            wants = None
        return Subscription if wants is None else partial(Thinned, self._broker, wants)

    def _take_will_of(self, session: DurableSession, data: bytes, gone_for: float) -> None:
        try:
            will = session.will = self._durability.envelopes.decode_will(data)
        except ValueError as error:
            _damaged(session.client_id, error)
            return
        delay = will.delay
        if session.expiry is not None:
            delay = min(delay, session.expiry)
        if delay > gone_for:
            self._broker.wills.fire_in(session, will, delay - gone_for)
        else:
            self._wills.append(session)

    def _take_will(self, stored: StoredSession) -> None:
        """A will whose session ended with its connection."""
        if stored.will is None:
            return
        session = Session(
            self._broker, stored.client_id, stored.principal, self._broker.settings.session
        )
        try:
            session.will = self._durability.envelopes.decode_will(stored.will)
        except ValueError as error:
            _damaged(stored.client_id, error)
        else:
            self._wills.append(session)

    def _take_ended(self, restored: RestoredSession) -> None:
        """What else is kept of a session that has ended goes."""
        sid = restored.session.sid
        if restored.rows:
            self._handed_over.append(sid)
        else:
            self._sids.append(sid)

    def take_retained(self, contents: StoreContents) -> None:
        """Put every retained message in its place."""
        retained, decode = self._broker.retained, self._durability.envelopes.decode
        for topic, body in contents.retained:
            try:
                message = decode(body)
            except ValueError as error:
                log.error(
                    "The retained message of {topic} is damaged, and left out: {error}",
                    topic=topic,
                    error=error,
                )
                continue
            message.frames = NOT_CACHED
            retained.restore(message)

    def take_delayed(self, contents: StoreContents) -> None:
        """Let what waits for its time wait for what is left of it."""
        now = self._durability.store.time()
        for number, due_at, body in contents.delayed:
            try:
                message = self._durability.envelopes.decode(body)
            except ValueError as error:
                log.error("A delayed message is damaged, and left out: {error}", error=error)
                continue
            self._broker.delayed.restore(number, message, due_at - now)

    def finish(self) -> None:
        """Let happen what became due meanwhile."""
        broker = self._broker
        for session in self._wills:
            broker.wills.fire(session)
        for sid in self._sids:
            self._durability.delete_session(sid)
        for sid in self._handed_over:
            hand_over(broker, self._durability, sid)
        for lapsed in self._lapsed:
            broker.metrics.sessions_expired += 1
            broker.sessions.end(lapsed)
        broker.sessions.maximum = max(broker.sessions.maximum, len(broker.sessions))
        _save_slowly(broker, iter(self._unsaved))
        log.info(
            "Restored: {sessions} sessions with {messages} messages, {retained} retained "
            "messages, {delayed} delayed messages",
            sessions=len(broker.sessions),
            messages=self._messages,
            retained=broker.retained.count,
            delayed=len(broker.delayed),
        )


def _save_slowly(broker: Broker, sessions: Iterator[DurableSession]) -> None:
    """Write down when these sessions' connections ended, while others have their turn."""
    for _ in range(SLICE):
        session = next(sessions, None)
        if session is None:
            return
        if not session.online:
            session.save()
    broker.clock.callLater(0, _save_slowly, broker, sessions)


def _damaged(client_id: str, error: ValueError) -> None:
    log.error(
        "The will kept for {client_id} is damaged, and left out: {error}",
        client_id=client_id,
        error=error,
    )
