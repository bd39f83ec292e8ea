"""A file that is not the store it should be is refused, and the reason is told."""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from mqttd.interfaces import StoredSubscription, StoreError
from mqttd.store import schema
from mqttd.store.records import row_key
from mqttd.store.sqlite import SQLiteStore
from tests.store.conftest import Keeper, add_row, add_session


def filled(keeper: Keeper) -> Path:
    """A store with something in it, closed."""
    store = keeper.open()
    sid = add_session(store, "a")
    for seq in range(1, 300):
        add_row(store, sid, seq, b"payload" * 100)
    keeper.close(store)
    return keeper.folder / schema.DATABASE


def refused(keeper: Keeper, match: str) -> None:
    """Another start says the same: the first has changed nothing."""
    for _ in range(2):
        with pytest.raises(StoreError, match=match):
            keeper.open()
        for store in list(keeper.opened):
            keeper.close(store)


def test_a_newer_version_is_refused_and_left_alone(keeper: Keeper) -> None:
    path = filled(keeper)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    refused(keeper, r"has version 99, written by a newer mqttd; .* up to \d+: use the newer")
    assert path.read_bytes() == before


def test_an_older_version_is_brought_forward(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(keeper)
    monkeypatch.setattr(
        schema,
        "MIGRATIONS",
        [*schema.MIGRATIONS, "CREATE TABLE new (x); INSERT INTO new SELECT count(*) FROM queue;"],
    )
    store = keeper.open()
    keeper.close(store)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT x FROM new").fetchall() == [(299,)]
        assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
    connection.close()


def test_a_store_of_the_first_version_is_read_and_goes_on(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.folder.mkdir()
    connection = sqlite3.connect(keeper.folder / schema.DATABASE, isolation_level=None)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        schema.migrate(connection)
    connection.execute("INSERT INTO session VALUES (1, 'a', NULL, '', '', NULL, 1.0, 2.0, NULL)")
    connection.execute("INSERT INTO subscription VALUES (1, 't', 1, 7)")
    connection.execute("INSERT INTO message VALUES (1, x'00')")
    connection.execute(f"INSERT INTO queue VALUES ({row_key(1, 1)}, 1, 1, 1, NULL, NULL, NULL)")
    connection.close()
    store = keeper.open()
    thinned = StoredSubscription("u", 0, 0, '{"sample": "2"}')
    store.put_subscription(1, thinned)
    store.put_delayed(1, 5.0, b"body")
    keeper.close(store)
    store = SQLiteStore(keeper.reactor, keeper.folder)
    keeper.opened.append(store)
    contents = store.start()
    (restored,) = contents.sessions
    assert restored.subscriptions == [StoredSubscription("t", 1, 7), thinned]
    assert restored.rows == 1
    assert list(contents.delayed) == [(1, 5.0, b"body")]


def test_a_migration_that_fails_changes_nothing(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(keeper)
    broken = "CREATE TABLE new (x); INSERT INTO nowhere VALUES (1);"
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, broken])
        refused(keeper, "no such table: nowhere")
    assert keeper.names(keeper.open()) == ["a"]


def test_another_program_s_database_is_refused(keeper: Keeper) -> None:
    keeper.folder.mkdir()
    with sqlite3.connect(keeper.folder / schema.DATABASE) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    refused(keeper, "is a database, but not a store of mqttd")


def test_a_file_that_is_no_database_is_refused(keeper: Keeper) -> None:
    keeper.folder.mkdir()
    (keeper.folder / schema.DATABASE).write_bytes(b"not a database at all\n" * 100)
    refused(keeper, r"is damaged .*mqttctl store restore")


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6])
def test_a_damaged_file_is_refused_or_harmless(keeper: Keeper, part: float) -> None:
    """Never a crash, never silently less than there was."""
    path = filled(keeper)
    data = bytearray(path.read_bytes())
    at = max(100, int(len(data) * part) // 4096 * 4096)
    data[at : at + 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    try:
        keeper.open()
    except StoreError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert re.search("is damaged .* mqttctl store check", said)
    else:
        # The page of a body, then; the rest is there.
        assert keeper.names(keeper.opened[0]) == ["a"]


def test_a_file_cut_short_is_refused(keeper: Keeper) -> None:
    path = filled(keeper)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    refused(keeper, "is damaged")


# --- the write-ahead log ------------------------------------------------------------


def killed(keeper: Keeper, tmp_path: Path, name: str) -> Keeper:
    """A copy of the folder of a store that runs, with its log."""
    store = keeper.open()
    add_session(store, "before")
    keeper.settle(store)
    other = Keeper(tmp_path / name)
    shutil.copytree(keeper.folder, other.folder)
    keeper.close(store)
    return other


def test_a_log_cut_short_loses_only_what_was_cut(keeper: Keeper, tmp_path: Path) -> None:
    copy = killed(keeper, tmp_path, "copy")
    log = schema.log_of(copy.folder / schema.DATABASE)
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - 10)
    store = copy.open()
    assert copy.names(store) in (["before"], [])
    for store in list(copy.opened):
        copy.close(store)


def test_a_log_that_is_missing_is_noticed(keeper: Keeper, tmp_path: Path) -> None:
    copy = killed(keeper, tmp_path, "copy")
    schema.log_of(copy.folder / schema.DATABASE).unlink()
    refused(copy, r"-wal' is missing, .*mqttctl store check --repair")


def test_a_log_of_another_store_is_refused(keeper: Keeper, tmp_path: Path) -> None:
    copy = killed(keeper, tmp_path, "copy")
    other = Keeper(tmp_path / "other")
    path = filled(other)
    log = schema.log_of(copy.folder / schema.DATABASE)
    shutil.copy(log, schema.log_of(path))
    refused(other, "does not belong to 'mqttd.sqlite'")


def test_a_log_of_another_time_is_refused(keeper: Keeper, tmp_path: Path) -> None:
    copy = killed(keeper, tmp_path, "copy")
    # The store goes on elsewhere, and its file comes back without its log.
    for name in "bcd":
        store = keeper.open()
        add_session(store, name)
        keeper.close(store)
    path = copy.folder / schema.DATABASE
    shutil.copy(keeper.folder / schema.DATABASE, path)
    refused(copy, "does not belong to 'mqttd.sqlite', or is damaged: one of them was copied")


def test_a_start_that_was_cut_short_harms_nothing(keeper: Keeper, tmp_path: Path) -> None:
    """The new generation is in the log and not yet in the file."""
    path = filled(keeper)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    schema.put_meta(connection, generation=int(str(schema.get_meta(connection, "generation"))) + 1)
    schema.put_meta(connection, closed=0)
    other = Keeper(tmp_path / "copy")
    shutil.copytree(keeper.folder, other.folder)
    connection.close()
    assert other.names(other.open()) == ["a"]
    for store in list(other.opened):
        other.close(store)
