"""The disk fails: nothing is acknowledged, nothing is lost, and it goes on when mended."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher

from mqttd.interfaces import StoreError
from mqttd.store import schema, sqlite
from mqttd.store.sqlite import SQLiteStore
from mqttd.testing.store_traffic import payload_of
from tests.store.conftest import Keeper, add_row, add_session


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "RETRY_FIRST", 0.01)
    monkeypatch.setattr(sqlite, "RETRY_LAST", 0.05)


@pytest.fixture
def log() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    observer = cast(ILogObserver, events.append)
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


def problems(log: list[LogEvent]) -> list[str]:
    return [str(event["problem"]) for event in log if "problem" in event]


def limit_pages(store: SQLiteStore, more: int) -> None:
    """Let the file grow by *more* pages at most, as on a disk with so much room."""
    connection = store._opened._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + more}").fetchall()


class Witness:
    """Adds messages and notes which of them were acknowledged."""

    def __init__(self, keeper: Keeper, store: SQLiteStore) -> None:
        self.keeper, self.store = keeper, store
        self.sid = add_session(store, "a")
        self.added = 0
        self.acknowledged: list[int] = []

    def add(self, count: int, size: int = 1000) -> None:
        for _ in range(count):
            self.added += 1
            add_row(self.store, self.sid, self.added, b"%d " % self.added + bytes(size))
            self.store.committed(lambda n=self.added: self.acknowledged.append(n))  # type: ignore[misc]
            self.keeper.reactor.turn()

    def wait_for_all(self) -> None:
        self.keeper.reactor.run_until(lambda: len(self.acknowledged) == self.added)
        assert self.acknowledged == list(range(1, self.added + 1))


def queued(keeper: Keeper, store: SQLiteStore, sid: int) -> list[int]:
    found: list[int] = []
    while rows := keeper.wait(store.read(sid, found[-1] if found else 0, 1000)):
        for row in rows:
            assert payload_of(row).startswith(b"%d " % row.seq)
            found.append(row.seq)
    return found


def test_a_full_disk_delays_and_loses_nothing(keeper: Keeper, log: list[LogEvent]) -> None:
    store = keeper.open()
    told: list[str | None] = []
    store.on_problem.append(told.append)
    witness = Witness(keeper, store)
    witness.add(50)
    witness.wait_for_all()
    limit_pages(store, 20)
    witness.add(200)
    keeper.reactor.run_until(lambda: store.problem is not None)
    assert "the disk is full; make room" in (store.problem or "")
    safe = len(witness.acknowledged)
    # What is safe can be read, and is all there.
    assert set(queued(keeper, store, witness.sid)) >= set(range(1, safe + 1))
    assert len(problems(log)) == 1, "it is said once, not at each attempt"
    limit_pages(store, 100_000)
    witness.wait_for_all()
    assert store.problem is None
    assert told == [problems(log)[0], None]
    assert queued(keeper, store, witness.sid) == list(range(1, 251))


def test_what_is_taken_out_makes_room(keeper: Keeper) -> None:
    """Consumers that drain their queues mend a full disk by themselves."""
    store = keeper.open()
    witness = Witness(keeper, store)
    witness.add(500)
    witness.wait_for_all()
    limit_pages(store, 5)
    witness.add(100)
    keeper.reactor.run_until(lambda: store.problem is not None)
    store.delete_rows(witness.sid, range(1, 401))
    witness.wait_for_all()
    assert queued(keeper, store, witness.sid) == list(range(401, 601))


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_limit_of_the_file_s_size(keeper: Keeper) -> None:
    """The system refuses to write: to SQLite that is an I/O error."""
    store = keeper.open()
    witness = Witness(keeper, store)
    witness.add(20)
    witness.wait_for_all()
    with file_size_limit(1_000_000):
        witness.add(300, 10_000)
        keeper.reactor.run_until(lambda: store.problem is not None)
        assert len(witness.acknowledged) < witness.added
    witness.wait_for_all()
    assert queued(keeper, store, witness.sid) == list(range(1, 321))


def test_an_end_while_the_disk_is_full(keeper: Keeper, log: list[LogEvent]) -> None:
    store = keeper.open()
    witness = Witness(keeper, store)
    witness.add(10)
    witness.wait_for_all()
    limit_pages(store, 3)
    witness.add(100)
    keeper.reactor.run_until(lambda: store.problem is not None)
    safe = len(witness.acknowledged)
    keeper.close(store)
    assert len(witness.acknowledged) == safe
    assert any("acknowledgements" in str(event.get("log_format")) for event in log)
    store = keeper.open()
    assert set(queued(keeper, store, witness.sid)) >= set(range(1, safe + 1))


def test_a_file_that_others_keep_locked(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_TIMEOUT", 0.02)
    store = keeper.open()
    witness = Witness(keeper, store)
    witness.wait_for_all()
    keeper.settle(store)
    other = sqlite3.connect(keeper.folder / schema.DATABASE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    witness.add(5)
    keeper.reactor.run_until(lambda: store.problem is not None)
    assert "another program keeps it locked" in (store.problem or "")
    assert witness.acknowledged == []
    other.execute("ROLLBACK")
    other.close()
    witness.wait_for_all()


def test_a_page_that_cannot_be_read(keeper: Keeper) -> None:
    store = keeper.open()
    sid = add_session(store, "a")
    add_row(store, sid, 1, b"one")
    keeper.settle(store)
    store._opened.pages.close()
    failures: list[object] = []
    store.read(sid, 0, 10).addErrback(lambda failure: failures.append(failure.value))
    keeper.reactor.run_until(lambda: bool(failures))
    assert isinstance(failures[0], StoreError)


def test_an_observer_that_raises_harms_nobody(keeper: Keeper) -> None:
    store = keeper.open()
    told: list[str | None] = []

    def bad(problem: str | None) -> None:
        raise RuntimeError("an observer of the test")

    store.on_problem += [bad, told.append]
    witness = Witness(keeper, store)
    witness.wait_for_all()
    keeper.settle(store)
    limit_pages(store, 1)
    witness.add(100)
    keeper.reactor.run_until(lambda: bool(told))
    limit_pages(store, 100_000)
    witness.wait_for_all()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.getuid() or mount is None:
        pytest.skip("a file system of its own needs root and mount")
    command = [mount, "-t", "tmpfs", "-o", "size=2m,mode=700", "mqttd-test", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this system lets nobody mount: run it as root outside a container")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    keeper = Keeper(small_disk)
    store = keeper.open()
    witness = Witness(keeper, store)
    ballast = small_disk / "ballast"
    # More than is left: what waits in the log needs its room again, in the database.
    ballast.write_bytes(bytes(1_200_000))
    witness.add(300, 5000)
    keeper.reactor.run_until(lambda: store.problem is not None)
    assert "the disk is full" in (store.problem or "")
    safe = len(witness.acknowledged)
    assert safe < 300
    keeper.close(store)
    ballast.unlink()
    store = keeper.open()
    assert set(queued(keeper, store, witness.sid)) >= set(range(1, safe + 1))
    keeper.close(store)


def test_a_directory_that_may_not_be_written(small_disk: Path) -> None:
    keeper = Keeper(small_disk)
    keeper.close(keeper.open())
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match=r"cannot be used: Read-only file system; .*--data-dir"):
        keeper.open()
