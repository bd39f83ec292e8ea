"""One batch into the tables, in as few statements as there are kinds of change.

The writer's thread calls ``write_batch``. Every call of SQLite gives the
interpreter's lock away and has to get it back from a busy reactor, which can take
a switch interval; so rows go many to a statement, nothing is fetched row by
row, and a change that most batches have not costs no statement at all. Knows
nothing of threads and callbacks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from twisted.logger import Logger

from mqttd.store.batch import Batch
from mqttd.store.records import SEQ_BITS
from mqttd.store.schema import Connection

log = Logger()

#: Rows in one statement. Statements stay prepared for each number of rows up to
#: the last one here, and for these.
ROWS = (256, 128, 64)


class Writer:
    """Writes batches over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._execute = connection.execute
        #: Whether any message may have several rows.
        self._has_extra = self._any_extra()

    def _any_extra(self) -> bool:
        return self._execute("SELECT 1 FROM extra LIMIT 1").fetchone() is not None

    def write(self, batch: Batch, time: float, wall: float) -> None:
        """Write *batch* as one transaction, or raise and change nothing."""
        self._execute("BEGIN IMMEDIATE")
        try:
            self._write(batch)
            # Its page is in every commit, and so in every log: see ``schema``.
            self._execute(
                "INSERT OR REPLACE INTO meta VALUES ('time', ?), ('wall', ?)", (time, wall)
            )
            self._execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.rollback()
            # What it says may have been rolled back.
            self._has_extra = True
            raise

    def _write(self, batch: Batch) -> None:
        if batch.sessions or batch.subscriptions or batch.incoming:
            self._write_sessions(batch)
        if batch.rows or batch.states:
            self._write_rows(batch)
        if batch.retained:
            self._write_retained(batch)
        if batch.delayed:
            self._write_delayed(batch)
        if batch.ended:
            self._end(batch.ended)

    # --- sessions ---------------------------------------------------------------

    def _write_sessions(self, batch: Batch) -> None:
        ended = batch.ended
        self._insert(
            "session",
            [
                (
                    s.sid,
                    s.client_id,
                    s.principal,
                    s.mount_point,
                    s.listener,
                    s.expiry,
                    s.created_at,
                    s.ended_at,
                    s.will,
                )
                for sid, s in batch.sessions.items()
                if sid not in ended
            ],
        )
        subscriptions = [
            (key, value) for key, value in batch.subscriptions.items() if key[0] not in ended
        ]
        self._insert("subscription", [(key[0], *value) for key, value in subscriptions if value])
        for key, value in subscriptions:
            if value is None:
                self._execute("DELETE FROM subscription WHERE sid = ? AND filter = ?", key)
        live = [(k, kept) for k, kept in batch.incoming.items() if k >> 16 not in ended]
        self._insert("incoming", [(k,) for k, kept in live if kept])
        self._delete("incoming", "k", [k for k, kept in live if not kept])

    def _end(self, sids: Iterable[int]) -> None:
        sids = list(sids)
        for part in _parts(sids):
            # Of each session the keys are a range; many ranges are one statement.
            ended = f"(VALUES {_marks(len(part), '(?)')}) AS ended"
            self._release_rows(
                f"k IN (SELECT k FROM {ended} CROSS JOIN queue WHERE "
                f"k >= column1 << {SEQ_BITS} AND k < (column1 + 1) << {SEQ_BITS})",
                part,
            )
            self._execute(
                f"DELETE FROM incoming WHERE k IN (SELECT k FROM {ended} CROSS JOIN incoming "
                "WHERE k >= column1 << 16 AND k < (column1 + 1) << 16)",
                part,
            )
        self._delete("subscription", "sid", sids)
        self._delete("session", "sid", sids)

    # --- queues -----------------------------------------------------------------

    def _write_rows(self, batch: Batch) -> None:
        rows = list(batch.live_rows())
        if rows:
            self._insert_rows(batch, rows)
        if batch.states:
            self._change_states(list(batch.states.items()))
        gone = [key for key, row in batch.rows.items() if row is None]
        for part in _parts(gone):
            self._release_rows(f"k IN ({_marks(len(part))})", part)

    def _insert_rows(self, batch: Batch, rows: list[tuple[int, Any]]) -> None:
        bodies = batch.messages
        counts = Counter(row.mid for _, row in rows)
        new = [(mid, bodies[mid]) for mid in counts if mid in bodies]
        old = [mid for mid in counts if mid not in bodies]
        if old and (missing := set(old) - self._existing(old)):
            log.critical("{count} messages were forgotten before their time", count=len(missing))
            rows = [(key, row) for key, row in rows if row.mid not in missing]
            old = [mid for mid in old if mid not in missing]
        self._insert("message", new)
        extra = [(mid, counts[mid] - 1) for mid, _ in new if counts[mid] > 1]
        extra += [(mid, counts[mid]) for mid in old]
        for mid, more in extra:
            self._has_extra = True
            self._execute(
                "INSERT INTO extra VALUES (?, ?) "
                "ON CONFLICT (mid) DO UPDATE SET rows = rows + excluded.rows",
                (mid, more),
            )
        self._insert(
            "queue",
            [
                (
                    key,
                    row.mid,
                    row.size,
                    row.state,
                    " ".join(map(str, row.identifiers)) if row.identifiers else None,
                    row.share or None,
                    row.expires_at,
                )
                for key, row in rows
            ],
        )

    def _existing(self, mids: Sequence[int]) -> set[int]:
        found: set[int] = set()
        for part in _parts(mids):
            found |= self._numbers(
                "mid", f"message WHERE mid IN ({_marks(len(part))})", part
            ).keys()
        return found

    def _change_states(self, states: list[tuple[int, int]]) -> None:
        for part in _parts(states):
            self._execute(
                "UPDATE queue SET state = new.column2 FROM "
                f"(VALUES {_marks(len(part), '(?, ?)')}) AS new WHERE queue.k = new.column1",
                list(chain.from_iterable(part)),
            )

    def _release_rows(self, where: str, values: Sequence[int]) -> None:
        """Delete rows of the queue, and the messages that have no other."""
        if self._has_extra and not self._any_extra():
            self._has_extra = False
        if self._has_extra:
            released = self._numbers("mid", f"queue WHERE {where}", values)
            self._release_messages(released)
        else:
            self._execute(
                f"DELETE FROM message WHERE mid IN (SELECT mid FROM queue WHERE {where})", values
            )
        self._execute(f"DELETE FROM queue WHERE {where}", values)

    def _release_messages(self, released: Counter[int]) -> None:
        extra: dict[int, int] = {}
        for part in _parts(list(released)):
            extra |= self._pairs("mid", "rows", f"extra WHERE mid IN ({_marks(len(part))})", part)
        self._delete("message", "mid", [m for m, n in released.items() if n > extra.get(m, 0)])
        left = {mid: rows - released[mid] for mid, rows in extra.items()}
        self._delete("extra", "mid", [mid for mid, rows in left.items() if rows <= 0])
        still = [(mid, rows) for mid, rows in left.items() if rows > 0]
        self._insert("extra", still)

    # --- retained and delayed messages --------------------------------------------

    def _write_retained(self, batch: Batch) -> None:
        kept = [(topic, body) for topic, body in batch.retained.items() if body is not None]
        self._insert("retained", kept)
        gone = [topic for topic, body in batch.retained.items() if body is None]
        self._delete("retained", "topic", gone)

    def _write_delayed(self, batch: Batch) -> None:
        delayed = batch.delayed.items()
        self._insert("delayed", [(number, *kept) for number, kept in delayed if kept])
        self._delete("delayed", "number", [number for number, kept in delayed if not kept])

    # --- statements ---------------------------------------------------------------

    def _insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        for part in _parts(rows):
            marks = _marks(len(part), f"({_marks(len(part[0]))})")
            self._execute(
                f"INSERT OR REPLACE INTO {table} VALUES {marks}", list(chain.from_iterable(part))
            )

    def _delete(self, table: str, key: str, values: Sequence[Any]) -> None:
        for part in _parts(values):
            self._execute(f"DELETE FROM {table} WHERE {key} IN ({_marks(len(part))})", part)

    def _numbers(self, column: str, source: str, values: Sequence[int]) -> Counter[int]:
        """The values of a column of integers, in one step of SQLite."""
        (text,) = self._execute(f"SELECT group_concat({column}) FROM {source}", values).fetchone()
        return Counter(map(int, text.split(","))) if text else Counter()

    def _pairs(self, key: str, value: str, source: str, values: Sequence[int]) -> dict[int, int]:
        query = f"SELECT group_concat({key} || ':' || {value}) FROM {source}"
        (text,) = self._execute(query, values).fetchone()
        pairs = (pair.split(":") for pair in text.split(",")) if text else ()
        return {int(a): int(b) for a, b in pairs}


def _marks(count: int, mark: str = "?") -> str:
    return ", ".join([mark] * count)


def _parts(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """*items*, in as few runs as there are statements for."""
    start, left = 0, len(items)
    while left:
        size = next((rows for rows in ROWS if left >= rows), left)
        yield items[start : start + size]
        start, left = start + size, left - size
