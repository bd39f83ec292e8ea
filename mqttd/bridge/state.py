"""How a bridge fares: where it is on its way to the other side, and since when.

``Bridge`` notes here what happens to its link; ``Bridges`` makes a ``BridgeStatus`` of it
for those who look. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from attrs import frozen

from mqttd.settings_bridge import BridgeSettings


class State(Enum):
    """Where a bridge is."""

    #: It does nothing: an operator has stopped it, nobody has started it, or it is over.
    STOPPED = "stopped"
    #: A lazy one, whose messages are too few to connect for.
    IDLE = "idle"
    CONNECTING = "connecting"
    #: Until the next attempt to connect.
    WAITING = "waiting"
    CONNECTED = "connected"


@frozen
class BridgeStatus:
    """One bridge at one moment."""

    settings: BridgeSettings
    #: Client id on the other side.
    client_id: str
    state: State
    #: Unix time at which that began, seconds.
    since: float
    #: Seconds for which it has been away although it should be there; None: it is there,
    #: or need not be.
    away_for: float | None
    #: The address that it uses, or tries next.
    address: str
    #: Why it was away last; "": it never was.
    last_error: str
    #: How often it tried to connect.
    attempts: int
    #: Messages that went out, and came in.
    sent: int
    received: int
    #: Messages that did not, by reason.
    dropped: Mapping[str, int]
    #: Messages that wait to go out, those on their way included, and the bytes of those
    #: that are not.
    queued: int
    queued_bytes: int

    @property
    def name(self) -> str:
        return self.settings.name


class Progress:
    """The way of one bridge."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self.state = State.STOPPED
        #: When that began, and since when it is not where it should be.
        self.since = seconds()
        self._away_since: float | None = None
        self.last_error = ""
        self.attempts = 0

    @property
    def away_for(self) -> float | None:
        return None if self._away_since is None else self._seconds() - self._away_since

    def connecting(self) -> None:
        """An attempt begins."""
        self.attempts += 1
        self._go(State.CONNECTING)
        self._is_away()

    def connected(self) -> None:
        self._go(State.CONNECTED)
        self._away_since = None

    def failed(self, reason: object) -> None:
        """An attempt or a connection is over, and another one will come."""
        self.last_error = str(reason) or type(reason).__name__
        self._go(State.WAITING)
        self._is_away()

    def rest(self, state: State) -> None:
        """It is not to be connected: it is ``STOPPED`` or ``IDLE``."""
        self._go(state)
        self._away_since = None

    def over(self) -> None:
        """No other attempt will come, though nobody wished that it stop."""
        self._go(State.STOPPED)
        self._is_away()

    def _go(self, state: State) -> None:
        if state is not self.state:
            self.state = state
            self.since = self._seconds()

    def _is_away(self) -> None:
        if self._away_since is None:
            self._away_since = self._seconds()
