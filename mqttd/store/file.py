"""The open database of a running store, and the two threads that work on it.

``sqlite`` makes one at the start, lets ``write...`` and ``give_back`` run on
``writer`` and ``pages`` on ``reader``, and closes it when both have ended. Knows
nothing of whom an answer is for.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

from attrs import frozen

from mqttd.store.batch import Batch
from mqttd.store.reading import Pages
from mqttd.store.schema import Connection, end_generation, get_meta, open_to_read
from mqttd.store.worker import Result, Worker
from mqttd.store.writing import Writer

#: Pages that are free in the file before some are given back: at least, and as a
#: share of all. And how many at a time, which takes some 20 ms.
FREE_PAGES, FREE_SHARE, PAGES_AT_ONCE = 1000, 0.1, 1000


@frozen
class Facts:
    """What a store needs to know of its past."""

    sids: list[int]
    last_mid: int
    #: The store's time and the wall clock's at the last commit; 0: there was none.
    time: float
    wall: float


class StoreFile:
    """The database, with a connection and a thread to write and another to read."""

    def __init__(
        self, connection: Connection, path: Path, call_from_thread: Callable[..., Any]
    ) -> None:
        self._connection = connection
        self._tables = Writer(connection)
        reading = open_to_read(path)
        # Opens the file now, while there may still be the right to.
        reading.execute("SELECT count(*) FROM meta").fetchone()
        self.pages = Pages(reading)
        self.has_free_pages = False
        self.facts = _look_at(connection)
        self.writer = Worker(call_from_thread, "mqttd store writer")
        self.reader = Worker(call_from_thread, "mqttd store reader")

    # --- on the writer's thread -----------------------------------------------------

    def write(self, batch: Batch, time: float, wall: float) -> None:
        """Commit *batch*, or raise."""
        self._tables.write(batch, time, wall)

    def write_again(
        self, batch: Batch, shrinking: Iterable[Batch], time: float, wall: float
    ) -> None:
        """As ``write``, after it failed; *shrinking* batches only take things out."""
        self._empty_log()
        with contextlib.suppress(sqlite3.Error):
            for each in shrinking:
                self._tables.write(each, time, wall)
        self.write(batch, time, wall)

    def write_last(self, batches: Iterable[Batch], time: float, wall: float) -> None:
        """Commit *batches* if that can be, and note that the store was closed properly."""
        try:
            for batch in batches:
                self._tables.write(batch, time, wall)
        finally:
            # Closing empties the log; without the note, it would seem to be missing.
            self._empty_log()
            end_generation(self._connection)

    def _empty_log(self) -> None:
        """That alone may make room on a full disk."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def give_back(self) -> None:
        """Return some of the free pages to the file system, if there are many."""
        if self._has_many():
            # Through execute(), SQLite would return a single page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})")
        self.has_free_pages = self._has_many()

    def _has_many(self) -> bool:
        (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        return bool(free >= FREE_PAGES and free >= pages * FREE_SHARE)

    def end(self, batches: list[Batch], clocks: tuple[float, float], result: Result) -> None:
        """Commit *batches* as the last ones, and let the threads end."""

        def reader_ended(nothing: None) -> None:
            self.writer.stop(lambda: self.write_last(batches, *clocks), result)

        self.reader.stop(self.pages.close, reader_ended)

    def close(self) -> None:
        """When the threads have ended."""
        self._connection.close()


def _look_at(connection: Connection) -> Facts:
    (last_mid,) = connection.execute("SELECT max(mid) FROM message").fetchone()
    return Facts(
        [sid for (sid,) in connection.execute("SELECT sid FROM session ORDER BY sid")],
        last_mid or 0,
        cast(float, get_meta(connection, "time", 0.0)),
        cast(float, get_meta(connection, "wall", 0.0)),
    )
