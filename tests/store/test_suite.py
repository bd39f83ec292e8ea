"""Every backend does what every store must do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mqttd.interfaces import IStore
from mqttd.settings import Durability, StoreSettings
from mqttd.store.memory import MemoryStore, Tables
from mqttd.store.sqlite import SQLiteStore
from mqttd.testing import ManualStore
from mqttd.testing.store_suite import StoreReactor, StoreSuite


class TestMemory(StoreSuite):
    @pytest.fixture(autouse=True)
    def tables(self) -> None:
        self.kept = Tables()

    def make_store(
        self,
        reactor: StoreReactor,
        folder: Path,
        wall_clock: Callable[[], float],
        seconds: Callable[[], float],
    ) -> IStore:
        return MemoryStore(wall_clock, seconds, self.kept)


class TestManual(TestMemory):
    def make_store(
        self,
        reactor: StoreReactor,
        folder: Path,
        wall_clock: Callable[[], float],
        seconds: Callable[[], float],
    ) -> IStore:
        store = ManualStore(wall_clock, seconds, self.kept)
        reactor.callLater(0, self.commit, reactor, store)
        return store

    def commit(self, reactor: StoreReactor, store: ManualStore) -> None:
        store.commit()
        reactor.callLater(0.002, self.commit, reactor, store)


class TestSQLite(StoreSuite):
    settings = StoreSettings()

    def make_store(
        self,
        reactor: StoreReactor,
        folder: Path,
        wall_clock: Callable[[], float],
        seconds: Callable[[], float],
    ) -> IStore:
        return SQLiteStore(reactor, folder, self.settings, wall_clock=wall_clock, seconds=seconds)


class TestSQLiteWithAnInterval(TestSQLite):
    settings = StoreSettings(durability=Durability.NORMAL, commit_interval=0.003)
