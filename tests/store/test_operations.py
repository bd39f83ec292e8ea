"""Backup, restore, check, dump and import, as an operator runs them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mqttd.ctl.__main__ import main
from mqttd.interfaces import StoredRow, StoredSession, StoredSubscription
from mqttd.store import schema
from mqttd.store.records import encode_message, encode_will, row_state
from mqttd.store.sqlite import SQLiteStore
from mqttd.wire.properties import passthrough_of
from tests.store.conftest import Keeper, add_row, add_session

PROPERTIES = passthrough_of(
    {
        "content_type": "text/é",
        "user_property": [("a", "1"), ("a", "2")],
        "correlation_data": b"\x00\xff",
    }
)


def ctl(*arguments: str | Path) -> int:
    return main(["store", *map(str, arguments)])


@pytest.fixture
def full(keeper: Keeper) -> Keeper:
    """A store with one of everything, closed."""
    store = keeper.open()
    will = encode_will(encode_message(b"gone", b"\xff", 1, True), 30, 60)
    sid = store.new_session_id()
    store.put_session(
        StoredSession(sid, "käthe", "alice", "site/", "tcp", 3600, store.time(), None, will)
    )
    other = add_session(store, "b")
    store.put_subscription(sid, StoredSubscription("$share/g/a/+", 0x2E, 7))
    store.put_subscription(sid, StoredSubscription("t", 1, 0, '{"max-rate": "1/s"}'))
    store.put_incoming(sid, 65_535)
    shared = store.put_message(
        encode_message(
            b"a/b", b"21.5", 2, True, PROPERTIES, store.time(), store.time() + 60, b'{"a": 1}'
        )
    )
    sent = row_state(2, True, 9, 3, True)
    store.put_row(sid, StoredRow(4, shared, 204, sent, (1, 7), "$share/g/a/+"))
    store.put_row(other, StoredRow(1, shared, 204, row_state(1)))
    binary = store.put_message(encode_message(b"a/b", b"\xff\xfe", 1, False, b"\x99bad"))
    store.put_row(other, StoredRow(2, binary, 202, row_state(1)))
    store.put_retained("r/t", encode_message(b"r/t", b"kept", 1, True))
    store.put_delayed(1, store.time() + 30, encode_message(b"d/t", b"later", 1, False))
    keeper.close(store)
    return keeper


def contents(folder: Path) -> dict[str, list[Any]]:
    """Every table that means something, as it is."""
    tables = (
        "session",
        "subscription",
        "incoming",
        "message",
        "extra",
        "queue",
        "retained",
        "delayed",
    )
    with closing(sqlite3.connect(folder / schema.DATABASE)) as connection:
        return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}


# --- backup and restore -------------------------------------------------------------


def test_a_backup_while_the_store_is_used(full: Keeper, tmp_path: Path) -> None:
    store = full.open()
    add_session(store, "later")
    full.settle(store)
    file = tmp_path / "backup.sqlite"
    done = subprocess.run(
        [sys.executable, "-m", "mqttd.ctl", "store", "backup", file, "--data-dir", full.folder],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert str(file) in done.stdout
    assert file.stat().st_mode & 0o777 == 0o600
    add_session(store, "too late")
    before = contents(full.folder)
    full.close(store)
    assert ctl("restore", file, "--data-dir", tmp_path / "new") == 0
    restored = contents(tmp_path / "new")
    assert {row[1] for row in restored["session"]} == {"käthe", "b", "later"}
    before.pop("session")
    restored.pop("session")
    assert restored == before
    # It works, and it is another store than the one that it comes from.
    new = Keeper(tmp_path / "new")
    assert new.names(new.open()) == ["käthe", "b", "later"]
    new.close(new.opened[0])


def test_a_backup_replaces_nothing(full: Keeper, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "there"
    file.write_text("precious")
    assert ctl("backup", file, "--data-dir", full.folder) == 1
    assert "is there already" in capsys.readouterr().err
    assert file.read_text() == "precious"
    assert ctl("backup", tmp_path / "no" / "folder", "--data-dir", full.folder) == 1


def test_a_restore_keeps_what_was_there(full: Keeper, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "backup"
    assert ctl("backup", file, "--data-dir", full.folder) == 0
    before = contents(full.folder)
    store = full.open()
    add_session(store, "newer")
    full.close(store)
    assert ctl("restore", file, "--data-dir", full.folder) == 0
    assert contents(full.folder) == before
    (aside,) = full.folder.glob("replaced-*.sqlite")
    assert f"what was there is in {aside}" in capsys.readouterr().out
    assert full.names(full.open()) == ["käthe", "b"]


def test_nothing_is_restored_under_a_running_broker(
    full: Keeper, tmp_path: Path, capsys: Any
) -> None:
    file = tmp_path / "backup"
    ctl("backup", file, "--data-dir", full.folder)
    full.open()
    assert ctl("restore", file, "--data-dir", full.folder) == 1
    assert f"in use by process {os.getpid()}" in capsys.readouterr().err
    assert ctl("check", "--data-dir", full.folder) == 1
    assert ctl("import", os.devnull, "--data-dir", full.folder) == 1


def test_no_damaged_backup_is_restored(full: Keeper, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "backup"
    ctl("backup", file, "--data-dir", full.folder)
    before = contents(full.folder)
    data = bytearray(file.read_bytes())
    data[8192:12288] = b"\xa5" * 4096
    for bad in (bytes(data), b"no database", b""):
        file.write_bytes(bad)
        assert ctl("restore", file, "--data-dir", full.folder) == 1
        assert capsys.readouterr().err
    assert contents(full.folder) == before
    assert not list(full.folder.glob("*.part"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can work for another user")
def test_what_root_does_is_the_daemon_s(full: Keeper, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    assert ctl("backup", file, "--data-dir", full.folder) == 0
    for folder in (full.folder, tmp_path / "empty"):
        folder.mkdir(exist_ok=True)
        for path in (folder, *folder.iterdir()):
            os.chown(path, 65534, 65534)
        assert ctl("restore", file, "--data-dir", folder) == 0
        assert ctl("check", "--data-dir", folder) == 0
        assert ctl("import", os.devnull, "--data-dir", folder) == 0
        assert {path.stat().st_uid for path in folder.iterdir()} == {65534}


# --- check --------------------------------------------------------------------------


def test_a_good_store(full: Keeper, capsys: Any) -> None:
    assert ctl("check", "--data-dir", full.folder, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    counts = {name: report[name] for name in ("sessions", "subscriptions", "queued", "retained")}
    assert counts == {"sessions": 2, "subscriptions": 2, "queued": 3, "retained": 1}
    assert report["problems"] == []


def test_what_does_not_fit_is_found_and_taken_out(full: Keeper, capsys: Any) -> None:
    with closing(sqlite3.connect(full.folder / schema.DATABASE)) as connection:
        connection.executescript(
            "INSERT INTO queue VALUES (5 << 39 | 1, 1, 5, 1, NULL, NULL, NULL);"
            "INSERT INTO queue VALUES (1 << 39 | 9, 99, 5, 1, NULL, NULL, NULL);"
            "INSERT INTO subscription VALUES (7, 'x', 0, 0, '');"
            "INSERT INTO incoming VALUES (7 << 16 | 1);"
            "INSERT INTO message VALUES (50, x'00');"
            "INSERT INTO retained VALUES ('bad', x'00');"
            "INSERT INTO delayed VALUES (9, 1.0, x'00');"
            "UPDATE extra SET rows = 7;"
            "UPDATE session SET will = x'00' WHERE client_id = 'b';"
        )
    assert ctl("check", "--data-dir", full.folder, "--json") == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert len(problems) == 10
    assert ctl("check", "--data-dir", full.folder, "--repair") == 0
    capsys.readouterr()
    assert ctl("check", "--data-dir", full.folder, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["problems"], report["queued"], report["retained"]) == ([], 3, 1)


def test_a_lost_log_is_given_up(full: Keeper, tmp_path: Path, capsys: Any) -> None:
    with closing(sqlite3.connect(full.folder / schema.DATABASE)) as connection, connection:
        schema.put_meta(connection, closed=0)
    assert ctl("check", "--data-dir", full.folder) == 1
    assert "--repair" in capsys.readouterr().err
    assert ctl("check", "--data-dir", full.folder, "--repair") == 0
    assert full.names(full.open()) == ["käthe", "b"]


def test_a_damaged_store(full: Keeper, capsys: Any) -> None:
    path = full.folder / schema.DATABASE
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 4] = b"\xa5" * 4096
    path.write_bytes(data)
    assert ctl("check", "--data-dir", full.folder) == 1


def test_there_is_no_store(tmp_path: Path, capsys: Any) -> None:
    for command in (["backup", tmp_path / "b"], ["check"], ["dump"]):
        assert ctl(*command, "--data-dir", tmp_path) == 1
        assert "there is no store at" in capsys.readouterr().err


def test_which_store(full: Keeper, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    """The configuration says, or the system; what is wrong in it is told."""
    config = tmp_path / "mqttd.toml"
    monkeypatch.setenv("MQTTD_CONFIG", str(config))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "nothing"))
    config.write_text(f"[broker]\ndata_directory = '{full.folder}'\n")
    assert ctl("check") == 0
    config.write_text("")
    monkeypatch.setenv("STATE_DIRECTORY", str(full.folder))
    assert ctl("check") == 0
    capsys.readouterr()
    config.write_text("data_directory = ''\n")
    assert ctl("check") == 1
    assert "--data-dir" in capsys.readouterr().err


# --- dump and import ------------------------------------------------------------------


def dumped(folder: Path, capsys: Any) -> list[dict[str, Any]]:
    assert ctl("dump", "--data-dir", folder) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_dump_can_be_read(full: Keeper, capsys: Any) -> None:
    store = full.open()
    lines = dumped(full.folder, capsys)
    full.close(store)
    by_type: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_type.setdefault(line["type"], []).append(line)
    session = by_type["session"][0]
    assert (session["client_id"], session["principal"]) == ("käthe", "alice")
    assert session["subscriptions"] == [
        {"filter": "$share/g/a/+", "options": 0x2E, "identifier": 7, "thinning": None},
        {"filter": "t", "options": 1, "identifier": 0, "thinning": {"max-rate": "1/s"}},
    ]
    assert session["will"]["topic"] == "gone"
    assert session["created_at"].endswith("+00:00")
    message = by_type["message"][0]
    assert (message["topic"], message["payload"]) == ("a/b", "21.5")
    assert message["properties"]["content_type"] == "text/é"
    assert by_type["message"][1]["payload_base64"] == "//4="
    queued = by_type["queued"][0]
    assert (queued["client_id"], queued["packet_id"], queued["released"]) == ("käthe", 9, True)
    assert by_type["retained"][0]["payload"] == "kept"


def test_a_dump_gives_the_same_store(full: Keeper, tmp_path: Path, capsys: Any) -> None:
    lines = dumped(full.folder, capsys)
    file = tmp_path / "dump"
    file.write_text("\n".join(map(json.dumps, lines)))
    assert ctl("import", file, "--data-dir", tmp_path / "new", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "session": 2,
        "message": 2,
        "queued": 3,
        "retained": 1,
        "delayed": 1,
    }
    again = dumped(tmp_path / "new", capsys)
    assert again == lines
    assert ctl("check", "--data-dir", tmp_path / "new") == 0


def test_an_import_joins_what_is_there(full: Keeper, tmp_path: Path, capsys: Any) -> None:
    lines = dumped(full.folder, capsys)
    new = Keeper(tmp_path / "new")
    store = new.open()
    add_row(store, add_session(store, "c"), 1, b"own")
    new.close(store)
    file = tmp_path / "dump"
    file.write_text("\n".join(map(json.dumps, lines)))
    assert ctl("import", file, "--data-dir", new.folder) == 0
    assert ctl("check", "--data-dir", new.folder) == 0
    assert new.names(new.open()) == ["c", "käthe", "b"]
    new.close(new.opened[0])
    # And once more: that would be two sessions of one client.
    capsys.readouterr()
    assert ctl("import", file, "--data-dir", new.folder) == 1
    assert "line 2: the store has a session of 'käthe' already" in capsys.readouterr().err
    assert new.names(new.open()) == ["c", "käthe", "b"]
    new.close(new.opened[0])


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ('{"type": "strange"}', "KeyError"),
        ('{"type": "store", "format": 2}', "format 2 is newer"),
        ('{"type": "session", "client_id": "x"}', "KeyError"),
        ('{"type": "retained", "topic": 5}', "nothing was imported"),
        (
            '{"type": "queued", "client_id": "b", "message": 1, "place": 1, "qos": 1, '
            '"retain": false, "packet_id": null, "sent_as": null, "released": false, '
            '"size": 1, "subscription_identifiers": [], "shared_subscription": null}',
            "KeyError",
        ),
    ],
)
def test_a_bad_dump_changes_nothing(
    full: Keeper, tmp_path: Path, capsys: Any, line: str, error: str
) -> None:
    file = tmp_path / "dump"
    good = '{"type": "store", "format": 1}\n'
    file.write_text(good + line)
    before = contents(full.folder)
    folder = tmp_path / "new" if "queued" in line else full.folder
    assert ctl("import", file, "--data-dir", folder) == 1
    text = capsys.readouterr().err
    assert "line 2: " in text
    assert error in text
    assert "nothing was imported" in text or "newer" in text
    assert contents(full.folder) == before


def test_deadlines_go_on_between_dump_and_import(
    keeper: Keeper, tmp_path: Path, capsys: Any
) -> None:
    """Times in a dump are the world's, whatever the clock of the store."""
    wall = [1_700_000_000.0]
    store = SQLiteStore(keeper.reactor, keeper.folder, wall_clock=lambda: wall[0])
    store.start()
    keeper.opened.append(store)
    wall[0] += 5_000_000  # the clock is set right; the store's own goes on
    expires = store.time() + 100
    store.put_retained("t", encode_message(b"t", b"x", 0, True, expires_at=expires))
    keeper.settle(store)
    (line,) = (each for each in dumped(keeper.folder, capsys) if each["type"] == "retained")
    moment = datetime.fromisoformat(line["expires_at"]).timestamp()
    assert moment == pytest.approx(wall[0] + 100, abs=60)
