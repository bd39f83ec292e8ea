"""The store on disk: one owner, space given back, one transaction for a turn."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from mqttd.interfaces import StoredRow, StoreError
from mqttd.settings import Durability, StoreSettings
from mqttd.store import schema
from mqttd.store.directory import LOCK
from mqttd.store.records import row_state, seq_of
from mqttd.store.sqlite import HEARTBEAT, SQLiteStore
from mqttd.testing.store_suite import StoreReactor
from mqttd.testing.store_traffic import body_of
from tests.store.conftest import Keeper, add_row, add_session


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


# --- the directory ----------------------------------------------------------------


def test_the_directory_and_its_files_are_the_owners_alone(keeper: Keeper) -> None:
    store = keeper.open()
    add_session(store, "a")
    keeper.settle(store)
    modes = {path.name: path.stat().st_mode & 0o777 for path in keeper.folder.iterdir()}
    assert keeper.folder.stat().st_mode & 0o777 == 0o700
    assert {name: mode & 0o077 for name, mode in modes.items()} == dict.fromkeys(modes, 0)


def test_a_second_process_is_refused_by_name(keeper: Keeper) -> None:
    keeper.open()
    program = (
        "import sys; from mqttd.store.sqlite import SQLiteStore\n"
        "from mqttd.testing.store_suite import StoreReactor\n"
        "SQLiteStore(StoreReactor(), sys.argv[1]).start()"
    )
    second = subprocess.run(
        [sys.executable, "-c", program, str(keeper.folder)], capture_output=True, text=True
    )
    assert second.returncode
    assert f"{str(keeper.folder)!r} is in use by process {os.getpid()}" in second.stderr


def test_a_crash_leaves_no_lock(keeper: Keeper) -> None:
    program = (
        "import os, sys; from mqttd.store.sqlite import SQLiteStore\n"
        "from mqttd.testing.store_suite import StoreReactor\n"
        "SQLiteStore(StoreReactor(), sys.argv[1]).start(); os.abort()"
    )
    subprocess.run([sys.executable, "-c", program, str(keeper.folder)], capture_output=True)
    keeper.open()


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be used: .*--data-dir"):
        SQLiteStore(StoreReactor(), tmp_path / "file" / "data").start()


@pytest.mark.parametrize("name", [LOCK, schema.DATABASE])
def test_no_link_leads_elsewhere(keeper: Keeper, tmp_path: Path, name: str) -> None:
    target = tmp_path / "precious"
    keeper.folder.mkdir()
    (keeper.folder / name).symlink_to(target)
    with pytest.raises(StoreError):
        keeper.open()
    assert not target.exists()


# --- what is on disk --------------------------------------------------------------


def copy_of(keeper: Keeper, tmp_path: Path) -> Keeper:
    """What a process that is killed now would leave behind."""
    other = Keeper(tmp_path / "copy")
    shutil.copytree(keeper.folder, other.folder)
    return other


def test_what_is_committed_survives_a_kill(keeper: Keeper, tmp_path: Path) -> None:
    store = keeper.open()
    sid = add_session(store, "a")
    add_row(store, sid, 1, b"one")
    keeper.settle(store)
    add_session(store, "not committed")
    other = copy_of(keeper, tmp_path)
    found = SQLiteStore(other.reactor, other.folder)
    contents = found.start()
    other.opened.append(found)
    (session,) = contents.sessions
    assert (session.session.client_id, session.rows) == ("a", 1)
    list(contents.retained)
    (row,) = other.wait(found.read(sid, 0, 10))
    assert row.body == body_of(b"one")
    other.close(found)


def test_a_turn_is_one_transaction(keeper: Keeper) -> None:
    """Whatever comes between turns, a turn is never parted."""
    store = keeper.open()
    sid = add_session(store, "a")
    keeper.settle(store)
    reading = sqlite3.connect(keeper.folder / schema.DATABASE)
    for packet_id in range(1, 60):
        store.put_incoming(sid, packet_id)
        add_row(store, sid, packet_id, b"x" * 10)
        for _ in range(packet_id % 4):
            keeper.reactor.turn(0.0005)
        counts = reading.execute(
            "SELECT (SELECT count(*) FROM incoming), (SELECT count(*) FROM queue), "
            "(SELECT count(*) FROM message)"
        ).fetchone()
        assert len(set(counts)) == 1
    reading.close()


def test_an_acknowledgement_is_never_early(keeper: Keeper) -> None:
    """Whatever is added when, also from within callbacks: what is told is there."""
    store = keeper.open()
    sid = add_session(store, "a")
    keeper.settle(store)
    others = sqlite3.connect(keeper.folder / schema.DATABASE)
    told: list[int] = []
    source = random.Random(1)
    added = 0

    def add(count: int) -> None:
        nonlocal added
        for _ in range(count):
            added += 1
            add_row(store, sid, added, b"x")
            store.committed(partial(safe, added))

    def safe(seq: int) -> None:
        (last,) = others.execute("SELECT max(k) FROM queue").fetchone()
        told.append(seq if last is not None and seq_of(last) >= seq else -seq)
        if len(told) % 3 == 0:
            add(2)

    while added < 300:
        add(source.randrange(3))
        before = len(told)
        # Sometimes the writer has had nothing to do when a callback adds, and
        # sometimes more comes before the next turn.
        for _ in range(source.choice([1, 5, 1000])):
            keeper.reactor.turn(0.0005)
            if len(told) > before:
                break
    keeper.reactor.run_until(lambda: len(told) == added)
    assert told == list(range(1, added + 1))
    others.close()


def test_a_body_is_written_once(keeper: Keeper) -> None:
    store = keeper.open()
    sids = [add_session(store, f"c{n}") for n in range(500)]
    keeper.settle(store)
    before = size_of(keeper.folder)
    mid = store.put_message(body_of(bytes(100_000)))
    for sid in sids:
        store.put_row(sid, StoredRow(1, mid, 100_000, row_state(1)))
    keeper.settle(store)
    assert size_of(keeper.folder) - before < 1_000_000


def test_space_is_given_back(keeper: Keeper) -> None:
    store = keeper.open()
    sid = add_session(store, "a")
    for seq in range(1, 3001):
        add_row(store, sid, seq, b"x" * 10_000)
        if not seq % 500:
            keeper.settle(store)
    keeper.close(store)
    full = size_of(keeper.folder)
    assert full > 30_000_000
    store = keeper.open()
    store.delete_rows(sid, range(1, 3001))
    keeper.settle(store)
    file = keeper.folder / schema.DATABASE
    # In the file itself, once the log is copied into it; the log is bounded.
    for number in range(100):
        store.put_retained("t", b"%d" % number)
        keeper.settle(store)
    keeper.close(store)
    assert file.stat().st_size < full / 5


def test_the_log_is_bounded(keeper: Keeper) -> None:
    store = keeper.open(StoreSettings(durability=Durability.NORMAL))
    log = schema.log_of(keeper.folder / schema.DATABASE)
    largest = 0
    for number in range(60):
        store.put_retained(f"t/{number % 3}", bytes(1_000_000))
        keeper.settle(store)
        largest = max(largest, log.stat().st_size)
    assert largest < 4 * schema.CHECKPOINT_PAGES * 4096


def test_a_million_places_in_the_queue_are_no_more_than_numbers(keeper: Keeper) -> None:
    """The keys of far sessions and far places do not meet."""
    store = keeper.open()
    first, second = add_session(store, "a"), add_session(store, "b")
    last = 2**39 - 1
    add_row(store, first, last, b"end of a")
    add_row(store, second, 1, b"start of b")
    keeper.settle(store)
    assert [row.seq for row in keeper.wait(store.read(first, 0, 10))] == [last]
    assert [row.seq for row in keeper.wait(store.read(second, 0, 10))] == [1]
    store.delete_session(first)
    keeper.settle(store)
    assert [row.seq for row in keeper.wait(store.read(second, 0, 10))] == [1]


# --- the end ----------------------------------------------------------------------


def test_whoever_ends_it_and_whenever(keeper: Keeper) -> None:
    """From a callback, twice, while it writes and while it reads."""
    store = keeper.open()
    sid = add_session(store, "a")
    ends: list[str] = []
    rows: list[object] = []

    def end() -> None:
        store.stop().addCallback(lambda none: ends.append("first"))
        store.stop().addCallback(lambda none: ends.append("second"))

    for seq in range(1, 100):
        add_row(store, sid, seq, b"x")
    store.committed(end)
    store.read(sid, 0, 1000).addBoth(rows.append)
    add_session(store, "b")
    keeper.reactor.run_until(lambda: len(ends) == 2)
    assert ends == ["first", "second"]
    assert len(rows) == 1
    # The same object may begin again.
    sessions = [each.session.client_id for each in store.start().sessions]
    assert sessions == ["a", "b"]
    assert store.new_session_id() == 3
    assert len(keeper.wait(store.read(sid, 0, 1000))) == 99


# --- durability -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("durability", "synchronous"),
    [(Durability.FULL, 2), (Durability.NORMAL, 1), (Durability.MEMORY, 0)],
)
def test_durability_is_what_sqlite_is_told(
    keeper: Keeper, durability: Durability, synchronous: int
) -> None:
    keeper.folder.mkdir()
    connection = schema.open_store(keeper.folder, durability)
    assert connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    connection.close()


def test_in_memory_nobody_waits_and_all_is_written_soon(keeper: Keeper) -> None:
    store = keeper.open(StoreSettings(durability=Durability.MEMORY))
    heard: list[int] = []
    sid = add_session(store, "a")
    store.committed(lambda: heard.append(1))
    assert heard == [1]
    add_row(store, sid, 1, b"one")
    assert len(keeper.wait(store.read(sid, 0, 10))) == 1
    keeper.reactor.run_until(lambda: store.commits >= 1)
    assert keeper.names(store) == ["a"]


def test_an_interval_gathers(keeper: Keeper) -> None:
    store = keeper.open(StoreSettings(commit_interval=0.05))
    heard: list[int] = []
    for number in range(20):
        add_session(store, f"c{number}")
        store.committed(lambda: heard.append(1))
        keeper.reactor.turn()
    keeper.reactor.run_until(lambda: len(heard) == 20)
    # The machine may be busy, but not so that each takes an interval.
    assert store.commits < 10


def test_an_idle_store_notes_the_time(keeper: Keeper) -> None:
    """After a crash it is known, to a minute, until when connections lasted."""
    wall, monotonic = [1_800_000_000.0], [0.0]

    def make(folder: Path) -> SQLiteStore:
        return SQLiteStore(
            keeper.reactor, folder, wall_clock=lambda: wall[0], seconds=lambda: monotonic[0]
        )

    store = make(keeper.folder)
    assert store.start().alive_until == wall[0]
    keeper.opened.append(store)
    keeper.settle(store)
    monotonic[0] += 10 * HEARTBEAT
    wall[0] += 10 * HEARTBEAT
    store._beat(store.commits)
    keeper.reactor.run_until(lambda: store.commits == 1)
    copied = shutil.copytree(keeper.folder, keeper.folder.with_name("copy"))
    wall[0] += 86_400
    late = make(copied)
    alive_until = late.start().alive_until
    keeper.opened.append(late)
    assert alive_until == 1_800_000_000.0 + 11 * HEARTBEAT
    assert late.time() == wall[0]
