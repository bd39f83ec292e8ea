"""A broker with a store whose commits are made by hand, and its life after a crash."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.task import Clock

from mqttd.broker.durability import TICK, Durability
from mqttd.broker.durable_session import DurableSession
from mqttd.settings import BrokerSettings, ListenerSettings, SessionSettings
from mqttd.testing import ManualStore
from mqttd.wire.codes import MQTT5
from tests.broker.harness import BareBroker, BareClient

#: Where the wall clock begins.
EPOCH = 1_800_000_000.0


def bounded(**fields: Any) -> BrokerSettings:
    return BrokerSettings(session=evolve(SessionSettings(), **fields))


class Kept:
    """A broker that survives: ``crash`` and go on with what was committed."""

    def __init__(
        self,
        settings: BrokerSettings | None = None,
        *,
        listener: ListenerSettings | None = None,
        automatic: bool = True,
        **fields: Any,
    ) -> None:
        self.clock = Clock()
        self.store = ManualStore(lambda: EPOCH + self.clock.seconds(), self.clock.seconds)
        self.store.automatic = automatic
        self._settings = settings
        self._listener = listener
        self._fields = fields
        self._start()

    def _start(self) -> None:
        self.bare = BareBroker(
            self._settings,
            listener=self._listener,
            store=self.store,
            clock=self.clock,
            **self._fields,
        )

    @property
    def durability(self) -> Durability:
        assert self.bare.broker.durability is not None
        return self.bare.broker.durability

    def by_hand(self) -> None:
        """From now on nothing is committed before ``commit``."""
        self.bare.advance()
        self.store.automatic = False

    def commit(self) -> None:
        self.store.commit()
        self.bare.advance()

    def tick(self) -> None:
        """What is owed for a tick or two is written."""
        self.bare.advance(3 * TICK)

    def crash(self, downtime: float = 0.0) -> None:
        """The process is killed; another starts with what was committed."""
        self.bare.broker.stop()
        automatic = self.store.automatic
        self.store = self.store.crash()
        self.store.automatic = automatic
        self.clock.calls.clear()
        self.clock.advance(downtime)
        self._start()
        self.bare.advance()

    def connect(self, client_id: str, version: int = MQTT5, **fields: Any) -> BareClient:
        """A client with a session that is kept for ever."""
        fields.setdefault("clean_start", False)
        if version >= MQTT5:
            fields.setdefault("session_expiry_interval", 0xFFFF_FFFF)
        return self.bare.connect(client_id, version, **fields)

    def session(self, client_id: str) -> DurableSession:
        session = self.bare.session(client_id)
        assert isinstance(session, DurableSession)
        return session

    def rows(self, client_id: str) -> list[Any]:
        """The committed rows of a session."""
        return list(self.store.tables.rows.get(self.session(client_id).sid, {}).values())
