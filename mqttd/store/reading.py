"""What the tables hold, as records: all of it at the start, and pages of queues.

``restore`` runs on the reactor thread before anything else does; ``Pages`` runs
on the reader's thread, over a connection of its own. A page is one value made
by SQLite: to fetch its rows one by one would mean to wait for the interpreter's
lock at each of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

from mqttd.interfaces import (
    ExpiredRow,
    RestoredSession,
    StoreContents,
    StoredRow,
    StoredSession,
    StoredSubscription,
    StoreError,
)
from mqttd.store.records import SENT, SEQ_BITS, order_of, seq_of, sid_of
from mqttd.store.schema import Connection, explain

T = TypeVar("T")

#: Bytes of messages after which a page ends.
PAGE_BYTES = 1024 * 1024

# Of the queue: rows, bytes, rows that were sent, last place. A GROUP BY over the
# whole would sort it first.
_SESSIONS = f"""
SELECT *, (
    SELECT count(*) || ' ' || sum(size) || ' ' || sum(state >> 4 & 65535 != 0) || ' ' || max(k)
    FROM queue WHERE k >= sid << {SEQ_BITS} AND k < (sid + 1) << {SEQ_BITS}
) FROM session ORDER BY sid
"""

# Fields that are text or bytes go as hexadecimal digits: no separator is in them.
_ROW = """
    k || ',' || q.mid || ',' || q.size || ',' || q.state || ','
    || coalesce(q.identifiers, '') || ',' || hex(coalesce(q.share, '')) || ',' || hex(body)
"""
_PAGE = f"""
SELECT group_concat({_ROW}, ';')
FROM (
    SELECT *, sum(size) OVER (ORDER BY k) AS total
    FROM (SELECT * FROM queue WHERE k > ? AND k < ? {{}} ORDER BY k LIMIT ?)
) AS q JOIN message USING (mid) WHERE total - size < ?
"""
_QUEUED = _PAGE.format("")
_SENT = _PAGE.format("AND state >> 4 & 65535 != 0")

_EXPIRED = f"""
SELECT group_concat(hex(client_id) || ':' || {_ROW}, ';')
FROM (
    SELECT *, sum(size) OVER (ORDER BY expires_at, k) AS total
    FROM (
        SELECT * FROM queue WHERE expires_at <= ? AND state < {SENT}
        ORDER BY expires_at, k LIMIT ?
    )
) AS q JOIN message USING (mid) JOIN session ON sid = k >> {SEQ_BITS} WHERE total - size < ?
"""


def restore(connection: Connection, path: Path, alive_until: float) -> StoreContents:
    """What is kept; ``StoreError`` comes out of the iterators if it cannot be read."""
    return StoreContents(
        alive_until,
        _guarded(_sessions(connection), path),
        _guarded(connection.execute("SELECT topic, body FROM retained"), path),
        _guarded(connection.execute("SELECT * FROM delayed ORDER BY due_at, number"), path),
    )


def _guarded(items: Iterable[T], path: Path) -> Iterator[T]:
    try:
        yield from items
    except sqlite3.Error as error:
        raise StoreError(explain(error, path)) from error


def _sessions(connection: Connection) -> Iterator[RestoredSession]:
    """Each session, with what other tables in the same order say of it."""
    subscriptions = _Follower(
        connection.execute(
            "SELECT sid, filter, options, identifier, thinning FROM subscription "
            "ORDER BY sid, filter"
        )
    )
    incoming = _Follower(
        connection.execute("SELECT k >> 16, k & 65535 FROM incoming ORDER BY incoming.k")
    )
    for *columns, queue in connection.execute(_SESSIONS):
        session = StoredSession(*columns)
        own = [StoredSubscription(*row[1:]) for row in subscriptions.of(session.sid)]
        ids = [row[1] for row in incoming.of(session.sid)]
        if queue is None:
            yield RestoredSession(session, own, ids)
        else:
            rows, size, sent, last = map(int, queue.split())
            yield RestoredSession(session, own, ids, rows, size, sent, seq_of(last))


class _Follower:
    """Rows in the order of their first column, read along with rising numbers."""

    def __init__(self, rows: Iterable[tuple[Any, ...]]) -> None:
        self._groups = groupby(rows, itemgetter(0))
        self._next = next(self._groups, None)

    def of(self, sid: int) -> list[tuple[Any, ...]]:
        while self._next is not None and self._next[0] < sid:
            self._next = next(self._groups, None)
        if self._next is None or self._next[0] != sid:
            return []
        rows = list(self._next[1])
        self._next = next(self._groups, None)
        return rows


class Pages:
    """Reads the queues of sessions over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def read(self, sid: int, after: int, limit: int) -> list[StoredRow]:
        """At most *limit* rows after the place *after*; fewer if they are large."""
        first = sid << SEQ_BITS | after
        return self._rows(_QUEUED, first, (sid + 1) << SEQ_BITS, limit, PAGE_BYTES)

    def read_sent(self, sid: int) -> list[StoredRow]:
        """The rows that were sent, in that order; the window of the client bounds them."""
        first, last = sid << SEQ_BITS, (sid + 1) << SEQ_BITS
        rows = self._rows(_SENT, first, last, 65_535, 1 << 62)
        return sorted(rows, key=lambda row: order_of(row.state))

    def read_expired(self, now: float, limit: int) -> list[ExpiredRow]:
        """Rows whose time is over at *now*, fewer than *limit* if they are large."""
        values = (now, limit, PAGE_BYTES)
        (text,) = self._connection.execute(_EXPIRED, values).fetchone()
        return [_expired(part) for part in text.split(";")] if text else []

    def _rows(self, query: str, *values: int) -> list[StoredRow]:
        (text,) = self._connection.execute(query, values).fetchone()
        return sorted(map(_row, text.split(";"))) if text else []

    def close(self) -> None:
        self._connection.close()


def _expired(text: str) -> ExpiredRow:
    client_id, _, row = text.partition(":")
    sid = sid_of(int(row[: row.index(",")]))
    return ExpiredRow(bytes.fromhex(client_id).decode(), sid, _row(row))


def _row(text: str) -> StoredRow:
    key, mid, size, state, identifiers, share, body = text.split(",")
    return StoredRow(
        seq_of(int(key)),
        int(mid),
        int(size),
        int(state),
        tuple(map(int, identifiers.split())) if identifiers else (),
        bytes.fromhex(share).decode() if share else "",
        bytes.fromhex(body),
    )
