"""The SQLite file: its tables, its versions, and how it is opened and judged.

``sqlite`` opens the store with it, ``operations`` looks at files with it. What
the tables hold is written by ``writing`` and read by ``reading``.

Every start gives the store a new generation and puts it into the main file, and
every commit touches the same page. So a write-ahead log that belongs to another
file, or to this one at another time, shows by its generation: SQLite itself
would mix the two.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from attrs import evolve, field, frozen

from mqttd.interfaces import StoreError
from mqttd.settings import Durability
from mqttd.store.directory import create_file

Connection = sqlite3.Connection

#: The file in the data directory.
DATABASE = "mqttd.sqlite"

#: "mqtd", in the header of the file: what it is a store of.
APPLICATION_ID = 0x6D717464

#: UPDATE FROM came with this version.
OLDEST_SQLITE = (3, 33, 0)

#: Seconds to wait for another program's lock before it counts as a fault.
BUSY_TIMEOUT = 5.0

_FIRST = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE session (
    sid INTEGER PRIMARY KEY,
    client_id TEXT NOT NULL,
    principal TEXT,
    mount_point TEXT NOT NULL,
    listener TEXT NOT NULL,
    expiry INTEGER,               -- seconds; NULL: for ever
    created_at REAL NOT NULL,     -- this and all times: the store's, in seconds
    ended_at REAL,                -- NULL: connected
    will BLOB
);
CREATE TABLE subscription (
    sid INTEGER NOT NULL,
    filter TEXT NOT NULL,
    options INTEGER NOT NULL,     -- as in SUBSCRIBE
    identifier INTEGER NOT NULL,  -- 0: none
    PRIMARY KEY (sid, filter)
) WITHOUT ROWID;
-- QoS 2 packet ids from clients: k = sid << 16 | packet id.
CREATE TABLE incoming (k INTEGER PRIMARY KEY);
CREATE TABLE message (mid INTEGER PRIMARY KEY, body BLOB NOT NULL);
-- Rows of a message in queue beyond the first; most have none.
CREATE TABLE extra (mid INTEGER PRIMARY KEY, rows INTEGER NOT NULL);
-- k = sid << 39 | place in the queue.
CREATE TABLE queue (
    k INTEGER PRIMARY KEY,
    mid INTEGER NOT NULL,
    size INTEGER NOT NULL,
    state INTEGER NOT NULL,       -- order << 20 | packet id << 4 | released, retain, QoS
    identifiers TEXT,             -- subscription identifiers, blanks between
    share TEXT,                   -- filter of the shared subscription
    expires_at REAL               -- NULL: never
);
-- What can expire: it has a deadline, and it was not sent.
CREATE INDEX queue_expiry ON queue (expires_at) WHERE expires_at IS NOT NULL AND state < 16;
CREATE TABLE retained (topic TEXT PRIMARY KEY, body BLOB NOT NULL);
"""

_THINNING = """
-- The user properties of a thinned subscription, in JSON.
ALTER TABLE subscription ADD COLUMN thinning TEXT NOT NULL DEFAULT '';
"""

_DELAYED = """
-- Messages that wait for their time.
CREATE TABLE delayed (number INTEGER PRIMARY KEY, due_at REAL NOT NULL, body BLOB NOT NULL);
"""

#: What leads from each version to the next; a new file goes through all of them.
MIGRATIONS: list[str] = [_FIRST, _THINNING, _DELAYED]

_SYNCHRONOUS = {Durability.FULL: "FULL", Durability.NORMAL: "NORMAL", Durability.MEMORY: "OFF"}

#: Pages of write-ahead log after which it is copied into the file.
CHECKPOINT_PAGES = 4000


def open_store(directory: str | Path, durability: Durability = Durability.FULL) -> Connection:
    """The database in *directory*, made or brought to the present version.

    Whoever calls holds the directory's lock. Raises ``StoreError``.
    """
    path = Path(directory) / DATABASE
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old; {needed} is needed")
    try:
        _judge_files(path)
        if not path.exists():
            # SQLite gives the files beside it the same mode.
            create_file(path)
            sync(path.parent)
        connection = _connect(path)
        try:
            _prepare(connection, path, durability)
        except BaseException:
            connection.close()
            raise
    except (sqlite3.Error, OSError) as error:
        raise StoreError(explain(error, path)) from error
    return connection


def _connect(path: Path, parameters: str = "") -> Connection:
    return sqlite3.connect(
        f"file:{quote(str(path))}{parameters}",
        timeout=BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
        uri=True,
    )


def open_to_read(path: Path) -> Connection:
    """A second connection to a store that is open already, or to a copy of one."""
    return _connect(path, "?mode=ro")


def _prepare(connection: Connection, path: Path, durability: Durability) -> None:
    if _is_empty(connection):
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    else:
        check_identity(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {4 * CHECKPOINT_PAGES * 4096}")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cache_size = -16384")
    migrate(connection)
    _begin_generation(connection)


def _is_empty(connection: Connection) -> bool:
    (count,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return not count


def check_identity(connection: Connection, path: Path) -> int:
    """The version of the store in the file; ``StoreError`` if it is none of ours."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise StoreError(
            f"{str(path)!r} is a database, but not a store of mqttd; move it away or name "
            "another data directory"
        )
    if version > len(MIGRATIONS):
        raise StoreError(
            f"the store {str(path)!r} has version {version}, written by a newer mqttd; this one "
            f"knows versions up to {len(MIGRATIONS)}: use the newer one, or restore a backup"
        )
    return int(version)


def migrate(connection: Connection) -> None:
    """Bring the tables to the present version, one step after the other."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        # The header is part of the transaction.
        connection.executescript(
            f"BEGIN IMMEDIATE; {script} PRAGMA application_id = {APPLICATION_ID}; "
            f"PRAGMA user_version = {number}; COMMIT;"
        )


# --- generations ------------------------------------------------------------------


def get_meta(connection: Connection, name: str, default: object = None) -> object:
    found = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return default if found is None else found[0]


def put_meta(connection: Connection, **values: object) -> None:
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())


def _generation(connection: Connection) -> tuple[str, int]:
    return str(get_meta(connection, "store", "")), int(str(get_meta(connection, "generation", 0)))


def new_store_id() -> str:
    """What tells one store from another."""
    return uuid.uuid4().hex


def _begin_generation(connection: Connection) -> None:
    store, generation = _generation(connection)
    connection.execute("BEGIN IMMEDIATE")
    put_meta(connection, store=store or new_store_id(), generation=generation + 1, closed=0)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def end_generation(connection: Connection) -> None:
    """Note that the store was closed properly."""
    put_meta(connection, closed=1)


def close_store(connection: Connection) -> None:
    """Close properly what ``open_store`` opened; what is not committed is undone."""
    try:
        if connection.in_transaction:
            connection.rollback()
        end_generation(connection)
    except sqlite3.Error:
        pass  # damaged: whoever opens it next is told
    finally:
        connection.close()


@contextmanager
def opened_store(directory: str | Path) -> Iterator[Connection]:
    """``open_store`` and ``close_store``, for work outside the broker."""
    connection = open_store(directory)
    try:
        yield connection
    finally:
        close_store(connection)


def _judge_files(path: Path) -> None:
    """Whether the database and its write-ahead log are fit to be opened together.

    Before anything may write: whoever opens a database and closes it again copies
    the log into it, whatever log that is.
    """
    if not path.exists() or not path.stat().st_size:
        return
    alone = _look(path, "?mode=ro&immutable=1")
    if alone is None:
        return  # damaged, or left by a first start that was cut short
    has_log = log_of(path).exists()
    if not has_log and not alone.closed:
        raise StoreError(
            f"{str(log_of(path))!r} is missing, and the store was not closed properly: what was "
            "acknowledged last is in that file; bring it back, or restore a backup, or accept "
            "the loss with: mqttctl store check --repair"
        )
    if not has_log or not log_of(path).stat().st_size:
        return
    # One generation more: the last start was cut short before it was in the file.
    both = _look(path, "?mode=ro")
    if both not in (alone, evolve(alone, generation=alone.generation + 1)):
        raise StoreError(
            f"{str(log_of(path))!r} does not belong to {path.name!r}, or is damaged: one of them "
            "was copied from elsewhere or from another time; move the log away and accept the "
            "loss of what is in it, or restore a backup"
        )


@frozen
class _Look:
    """What a file says of itself."""

    store: str
    generation: int
    closed: bool = field(eq=False)


def _look(path: Path, parameters: str) -> _Look | None:
    try:
        connection = _connect(path, parameters)
        try:
            check_identity(connection, path)
            closed = bool(get_meta(connection, "closed", 1))
            return _Look(*_generation(connection), closed)
        finally:
            connection.close()
    except sqlite3.Error:
        return None


def sync(path: Path) -> None:
    """Let the disk have *path*, a file or a directory with its entries."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def log_of(path: Path) -> Path:
    """The write-ahead log of a database."""
    return path.with_name(path.name + "-wal")


# --- errors -----------------------------------------------------------------------

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_TEXTS = {
    sqlite3.SQLITE_FULL: "the disk is full; make room",
    sqlite3.SQLITE_IOERR: "reading or writing failed; look at the disk and at its limits",
    sqlite3.SQLITE_READONLY: "it may not be written; see to its owner and mode",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; see to the directory's owner and mode",
    sqlite3.SQLITE_PERM: "access is denied; see to its owner and mode",
    sqlite3.SQLITE_BUSY: "another program keeps it locked",
}


def explain(error: BaseException | None, path: Path) -> str:
    """What is wrong with the store at *path*, and what to do."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in _DAMAGED:
        return (
            f"the store {str(path)!r} is damaged ({error}): mqttctl store check tells what is, "
            "mqttctl store restore brings a backup back"
        )
    text = _TEXTS.get(code & 0xFF) if code is not None else None
    if text is None:
        return f"the store {str(path)!r}: {error}"
    return f"the store {str(path)!r}: {text} ({error})"
