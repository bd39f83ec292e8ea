"""Bridges: links to other brokers, by which messages go there, come here, or both.

The service makes ``Bridges`` of its settings, and operators steer them by name. A bridge is
a client of its own broker (``Broker.client``) and a client of the other one
(``mqttd.client``), and passes on what either receives; no other part of the broker knows
of it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from zope.interface import implementer

from mqttd.bridge.bridge import Bridge, BridgeError
from mqttd.bridge.state import BridgeStatus, State
from mqttd.broker.durable_session import DurableSession
from mqttd.interfaces import IBridges
from mqttd.settings_bridge import BridgeSettings, StartType

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.session import Session

__all__ = ["Bridge", "BridgeError", "BridgeStatus", "Bridges", "State"]

log = Logger()

#: Seconds that what waits for a bridge is kept when the bridge is not in the
#: configuration any more: that may be a slip.
KEPT = 86_400


@implementer(IBridges)
class Bridges:
    """The bridges of one broker.

    A bridge that is started again is made anew, so that it reads its files as they are
    then. It begins when the one before has left.
    """

    def __init__(
        self,
        reactor: Any,
        broker: Broker,
        settings: Iterable[BridgeSettings],
        wall_clock: Callable[[], float] = time.time,
        make: Callable[..., Bridge] = Bridge,
    ) -> None:
        """
        :param wall_clock: gives Unix time in seconds.
        :param make: makes one bridge, of what ``Bridge`` takes.
        """
        self._reactor = reactor
        self._broker = broker
        self._settings = tuple(settings)
        self._wall_clock = wall_clock
        self._make_bridge = make
        self._here = f"{broker.settings.node or 'mqttd'}/{token_hex(4)}"
        #: All of the configuration, by name.
        self._bridges: dict[str, Bridge] = {}
        #: Those that an operator has stopped.
        self._held: set[str] = set()
        #: How many of a name have not left yet.
        self._leaving: Counter[str] = Counter()
        #: Those that begin when the one before has left.
        self._due: set[str] = set()

    @property
    def settings(self) -> tuple[BridgeSettings, ...]:
        """What is in force."""
        return tuple(bridge.settings for bridge in self._bridges.values())

    def start(self) -> None:
        """Start all that need not wait for an operator. Raises ``BridgeError`` before any
        of them runs."""
        self._bridges = {each.name: self._make(each) for each in self._settings}
        for name, bridge in self._bridges.items():
            if bridge.settings.start is not StartType.MANUAL:
                self._begin(name)
        for session in list(self._broker.sessions):
            if self._is_left_over(session):
                self._part_with(session)

    def stop(self) -> Deferred[Any]:
        """Fires when all have taken leave; does not fail."""
        self._due.clear()
        stopping = [each.stop() for each in self._bridges.values()]
        return DeferredList(stopping, consumeErrors=True)

    def _make(self, settings: BridgeSettings, former: Bridge | None = None) -> Bridge:
        bridge = self._make_bridge(self._reactor, self._broker, settings, self._here)
        if former is not None:
            bridge.count_on(former)
        return bridge

    # --- one after the other ----------------------------------------------------------------

    def _begin(self, name: str) -> None:
        if self._leaving[name]:
            self._due.add(name)
        else:
            self._bridges[name].start()

    def _end(self, bridge: Bridge, successor: BridgeSettings | None = None) -> None:
        name = bridge.settings.name
        self._due.discard(name)
        self._leaving[name] += 1
        bridge.stop(successor).addBoth(self._left, name)

    def _left(self, result: object, name: str) -> None:
        self._leaving[name] -= 1
        if not self._leaving[name]:
            del self._leaving[name]
            if name in self._due:
                self._due.discard(name)
                self._begin(name)

    # --- for operators -------------------------------------------------------------------------

    def is_started(self, name: str) -> bool:
        """Whether the bridge *name* runs, or is about to; one that is over does not.

        Raises ``KeyError`` for one that is not in the configuration.
        """
        bridge = self._bridges[name]
        return name in self._due or (bridge.running and not bridge.is_over)

    def start_one(self, name: str) -> None:
        """Start the bridge *name*, which is not started. Raises ``BridgeError``."""
        former = self._bridges[name]
        bridge = self._make(former.settings, former)
        if former.running:
            self._end(former)
        self._held.discard(name)
        self._bridges[name] = bridge
        self._begin(name)

    def stop_one(self, name: str) -> None:
        """Stop the bridge *name*, until somebody starts it, or all; what waits stays."""
        self._held.add(name)
        self._end(self._bridges[name])

    def statuses(self) -> list[BridgeStatus]:
        """How all of them fare, in the order of the configuration."""
        return [self._status(bridge) for bridge in self._bridges.values()]

    def _status(self, bridge: Bridge) -> BridgeStatus:
        progress = bridge.progress
        session = self._broker.sessions.get(bridge.local_id)
        queue = None if session is None else session.queue
        waiting = 0 if session is None else session.queued + len(session.inflight or ())
        return BridgeStatus(
            settings=bridge.settings,
            client_id=bridge.client_id,
            state=progress.state,
            since=self._wall_clock() - (self._broker.seconds() - progress.since),
            away_for=progress.away_for,
            address=bridge.address,
            last_error=progress.last_error,
            attempts=progress.attempts,
            sent=bridge.sent,
            received=bridge.received,
            dropped=dict(bridge.dropped),
            queued=waiting,
            queued_bytes=0 if queue is None else queue.bytes,
        )

    # --- other settings --------------------------------------------------------------------------

    def change(self, settings: Iterable[BridgeSettings]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Begin, end and change bridges; what was done, and what went wrong.

        What cannot be as it should stays as it was. One that an operator has stopped
        stays so.
        """
        changed: list[str] = []
        errors: list[str] = []
        wanted = {each.name: each for each in settings}
        for name in self._bridges.keys() - wanted.keys():
            self._take_out(name)
            changed.append(f"bridge {name} removed")
        before, self._bridges = self._bridges, {}
        for name, each in wanted.items():
            former = before.get(name)
            if former is not None and former.settings == each:
                self._bridges[name] = former
                continue
            try:
                bridge = self._make(each, former)
            except BridgeError as error:
                errors.append(str(error))
                if former is not None:
                    self._bridges[name] = former
                continue
            changed.append(f"bridge {name} added" if former is None else f"bridge {name}")
            self._put(bridge, former)
        return tuple(changed), tuple(errors)

    def _put(self, bridge: Bridge, former: Bridge | None) -> None:
        """Let *bridge* come in the place of *former*, if there is one."""
        name = bridge.settings.name
        was_started = former is not None and (former.running or name in self._due)
        if former is not None and was_started:
            self._end(former, bridge.settings)
        self._bridges[name] = bridge
        if name not in self._held and (
            was_started or bridge.settings.start is not StartType.MANUAL
        ):
            self._begin(name)

    def _take_out(self, name: str) -> None:
        bridge = self._bridges.pop(name)
        self._end(bridge)
        self._held.discard(name)
        session = self._broker.sessions.get(bridge.local_id)
        if session is not None and not session.online:
            self._part_with(session)

    def _is_left_over(self, session: Session) -> bool:
        """Whether it is that of a bridge which is not in the configuration any more."""
        _, is_bridge, name = session.client_id.partition("bridge:")
        if not is_bridge or name in self._bridges or not isinstance(session, DurableSession):
            return False
        return session.expiry is None and session.listener == session.client_id

    def _part_with(self, session: Session) -> None:
        kept = KEPT if session.expiry is None else min(session.expiry, KEPT)
        log.warn(
            "{client_id} is not in the configuration any more: the {queued} messages that "
            "wait for it are kept for {seconds} s. End the session to be rid of them now.",
            client_id=session.client_id,
            queued=session.queued,
            seconds=kept,
        )
        self._broker.sessions.keep_for(session, kept)
