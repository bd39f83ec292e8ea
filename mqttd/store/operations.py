"""Work on a store from outside the broker: backup, restore, check.

``mqttctl store`` calls it. ``backup`` may run beside a broker; ``restore`` and
``check`` take the directory's lock. Everything raises ``StoreError``.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from attrs import define, field

from mqttd.interfaces import StoreError
from mqttd.store.directory import DirectoryLock, create_file
from mqttd.store.records import SEQ_BITS, decode_message, decode_will
from mqttd.store.schema import (
    DATABASE,
    Connection,
    check_identity,
    explain,
    get_meta,
    log_of,
    new_store_id,
    open_to_read,
    opened_store,
    put_meta,
    sync,
)

#: What may be wrong with whole tables, each with its remedy: text, count, repair.
_CHECKS = (
    (
        "{} rows of queues without their message",
        "queue WHERE mid NOT IN (SELECT mid FROM message)",
        "DELETE FROM queue WHERE mid NOT IN (SELECT mid FROM message)",
    ),
    (
        "{} rows of queues without their session",
        f"queue WHERE k >> {SEQ_BITS} NOT IN (SELECT sid FROM session)",
        f"DELETE FROM queue WHERE k >> {SEQ_BITS} NOT IN (SELECT sid FROM session)",
    ),
    (
        "{} subscriptions without their session",
        "subscription WHERE sid NOT IN (SELECT sid FROM session)",
        "DELETE FROM subscription WHERE sid NOT IN (SELECT sid FROM session)",
    ),
    (
        "{} packet ids without their session",
        "incoming WHERE k >> 16 NOT IN (SELECT sid FROM session)",
        "DELETE FROM incoming WHERE k >> 16 NOT IN (SELECT sid FROM session)",
    ),
    (
        "{} messages for nobody",
        "message WHERE mid NOT IN (SELECT mid FROM queue)",
        "DELETE FROM message WHERE mid NOT IN (SELECT mid FROM queue)",
    ),
    (
        "{} messages whose rows are counted wrongly",
        "(SELECT mid FROM (SELECT mid, count(*) - 1 AS n FROM queue GROUP BY mid) "
        "LEFT JOIN extra USING (mid) WHERE n != coalesce(rows, 0) "
        "UNION SELECT mid FROM extra WHERE mid NOT IN (SELECT mid FROM queue))",
        "DELETE FROM extra; INSERT INTO extra "
        "SELECT mid, count(*) - 1 FROM queue GROUP BY mid HAVING count(*) > 1",
    ),
)


@define
class Report:
    """What a check found."""

    problems: list[str] = field(factory=list)
    repaired: bool = False
    sessions: int = 0
    subscriptions: int = 0
    queued: int = 0
    retained: int = 0
    #: Messages that wait for their time.
    delayed: int = 0
    #: Of the file, in bytes.
    size: int = 0


def find_database(path: str | Path) -> Path:
    """The database that *path* means: itself, or the one in that directory."""
    path = Path(path)
    found = path / DATABASE if path.is_dir() else path
    if not found.is_file():
        raise StoreError(f"there is no store at {str(found)!r}")
    return found


@contextmanager
def reading(path: Path) -> Iterator[Connection]:
    """The store at *path*, to be read, as it is at one moment."""
    try:
        with closing(open_to_read(path)) as connection:
            check_identity(connection, path)
            connection.execute("BEGIN")
            yield connection
    except sqlite3.Error as error:
        raise StoreError(explain(error, path)) from error


def backup(directory: str | Path, target: str | Path) -> int:
    """Write the store in *directory* to the new file *target*; returns its bytes.

    The broker may run: it is the state of one moment, in as few pages as it takes.
    """
    source, target = find_database(directory), Path(target)
    if target.exists():
        raise StoreError(f"{str(target)!r} is there already")
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    try:
        # SQLite takes the mode from the file that it finds.
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(open_to_read(source)) as connection:
            check_identity(connection, source)
            connection.execute("VACUUM INTO ?", (str(part),))
        with closing(sqlite3.connect(part, isolation_level=None)) as copy:
            put_meta(copy, closed=1)
        sync(part)
        part.rename(target)
        sync(target.parent)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"no backup was made: {explain(error, source)}") from error
    finally:
        part.unlink(missing_ok=True)
    return target.stat().st_size


def restore(source: str | Path, directory: str | Path) -> list[Path]:
    """Put the backup *source* in place of the store in *directory*.

    Returns the files that were there: they are kept, under other names.
    """
    source = find_database(source)
    directory = Path(directory)
    lock = DirectoryLock(directory)
    lock.take()
    try:
        part = directory / (DATABASE + ".part")
        part.unlink(missing_ok=True)
        create_file(part)
        shutil.copyfile(source, part)
        with closing(sqlite3.connect(part, isolation_level=None)) as connection:
            check_identity(connection, source)
            if problems := _integrity(connection):
                raise StoreError(f"{str(source)!r} is damaged: {problems[0]}")
            # Another store from here on: no log of the old one fits it.
            put_meta(connection, store=new_store_id(), closed=1)
        sync(part)
        moved = _set_aside(directory)
        part.rename(directory / DATABASE)
        sync(directory)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"nothing was restored: {explain(error, source)}") from error
    finally:
        (directory / (DATABASE + ".part")).unlink(missing_ok=True)
        lock.release()
    return moved


def _set_aside(directory: Path) -> list[Path]:
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    moved = []
    for name in (DATABASE, DATABASE + "-wal"):
        if (directory / name).exists():
            # The suffix keeps database and log a pair.
            suffix = name.removeprefix(DATABASE)
            aside = directory / f"replaced-{now}.sqlite{suffix}"
            (directory / name).rename(aside)
            moved.append(aside)
    (directory / (DATABASE + "-shm")).unlink(missing_ok=True)
    return moved


# --- check ------------------------------------------------------------------------


def check(directory: str | Path, repair: bool = False) -> Report:
    """Look at all that is in the store; no broker may run.

    With *repair*, what does not fit the rest is taken out, and a log that is
    missing is given up. A damaged file cannot be repaired, only restored.
    """
    path = find_database(directory)
    lock = DirectoryLock(path.parent)
    lock.take()
    try:
        if repair:
            _give_up_log(path)
        with opened_store(path.parent) as connection:
            report = _check(connection, repair)
        report.size = path.stat().st_size
        return report
    except (sqlite3.Error, OSError) as error:
        raise StoreError(explain(error, path)) from error
    finally:
        lock.release()


def _give_up_log(path: Path) -> None:
    if log_of(path).exists():
        return
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        check_identity(connection, path)
        put_meta(connection, closed=1)


def _check(connection: Connection, repair: bool) -> Report:
    report = Report(_integrity(connection))
    if report.problems:
        return report
    report.problems += _unreadable(connection, repair)
    for text, source, remedy in _CHECKS:
        (count,) = connection.execute(f"SELECT count(*) FROM {source}").fetchone()
        if count:
            report.problems.append(text.format(count))
            if repair:
                connection.executescript(f"BEGIN; {remedy}; COMMIT")
    report.repaired = repair and bool(report.problems)
    for name, table in (
        ("sessions", "session"),
        ("subscriptions", "subscription"),
        ("queued", "queue"),
        ("retained", "retained"),
        ("delayed", "delayed"),
    ):
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        setattr(report, name, count)
    return report


def _integrity(connection: Connection) -> list[str]:
    rows = connection.execute("PRAGMA integrity_check(20)").fetchall()
    return [] if rows == [("ok",)] else [str(row[0]) for row in rows]


def _unreadable(connection: Connection, repair: bool) -> list[str]:
    """Bodies that are no message, and wills that are none."""
    problems = []
    for table, key, column, decode in (
        ("message", "mid", "body", decode_message),
        ("retained", "topic", "body", decode_message),
        ("delayed", "number", "body", decode_message),
        ("session", "sid", "will", decode_will),
    ):
        bad = []
        query = f"SELECT {key}, {column} FROM {table} WHERE {column} IS NOT NULL"
        for name, body in connection.execute(query):
            try:
                decode(body)
            except (ValueError, TypeError):
                bad.append((name,))
        if bad:
            problems.append(f"{len(bad)} of table {table} cannot be read")
            if repair:
                remedy = (
                    f"UPDATE {table} SET will = NULL WHERE {key} = ?"
                    if column == "will"
                    else f"DELETE FROM {table} WHERE {key} = ?"
                )
                connection.executemany(remedy, bad)
    return problems


def clocks_of(connection: Connection) -> tuple[float, float]:
    """The store's time and Unix time, at the last commit."""
    time, wall = get_meta(connection, "time", 0.0), get_meta(connection, "wall", 0.0)
    return float(str(time)), float(str(wall))
