"""A SQLite store in a folder of its own, and a reactor that runs while one waits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from twisted.internet.defer import Deferred

from mqttd.interfaces import StoredRow, StoredSession
from mqttd.settings import StoreSettings
from mqttd.store.records import row_state
from mqttd.store.sqlite import SQLiteStore
from mqttd.testing.store_suite import StoreReactor
from mqttd.testing.store_traffic import body_of

T = TypeVar("T")


class Keeper:
    """Opens stores in one folder, and waits for them."""

    def __init__(self, folder: Path) -> None:
        self.reactor = StoreReactor()
        self.folder = folder
        self.opened: list[SQLiteStore] = []

    def open(self, settings: StoreSettings | None = None) -> SQLiteStore:
        """A started store, all of it read."""
        store = SQLiteStore(self.reactor, self.folder, settings)
        contents = store.start()
        # Before it is read: it must be closed even if that fails.
        self.opened.append(store)
        list(contents.sessions), list(contents.retained)
        return store

    def names(self, store: SQLiteStore) -> list[str]:
        """The client ids that a new store in the folder finds."""
        self.close(store)
        store = SQLiteStore(self.reactor, self.folder)
        self.opened.append(store)
        contents = store.start()
        return [each.session.client_id for each in contents.sessions]

    def close(self, store: SQLiteStore) -> None:
        self.opened.remove(store)
        self.wait(store.stop())

    def wait(self, deferred: Deferred[T]) -> T:
        results: list[T] = []
        failures: list[object] = []
        deferred.addCallbacks(results.append, failures.append)
        self.reactor.run_until(lambda: bool(results or failures))
        assert not failures, failures
        return results[0]

    def settle(self, store: SQLiteStore) -> None:
        done: list[bool] = []
        store.committed(lambda: done.append(True))
        self.reactor.run_until(lambda: bool(done))


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    keeper = Keeper(tmp_path / "data")
    yield keeper
    for store in list(keeper.opened):
        keeper.close(store)


def add_session(store: SQLiteStore, client_id: str) -> int:
    sid = store.new_session_id()
    store.put_session(StoredSession(sid, client_id))
    return sid


def add_row(store: SQLiteStore, sid: int, seq: int, payload: bytes) -> None:
    mid = store.put_message(body_of(payload))
    store.put_row(sid, StoredRow(seq, mid, len(payload), row_state(1)))
