"""The store that keeps everything in memory, and nothing when the process ends.

It is what an embedded broker has by default, and the plain statement of what a
store does: ``mqttd.testing`` builds a store on it whose commits are made by
hand. ``Tables`` is what is committed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from mqttd.interfaces import (
    ExpiredRow,
    IStore,
    RestoredSession,
    StoreContents,
    StoredRow,
    StoredSession,
    StoredSubscription,
)
from mqttd.store.batch import Batch, BatchedStore, call_all
from mqttd.store.records import SENT, order_of, packet_id_of, seq_of, sid_of


@define
class Tables:
    """What a store holds."""

    sessions: dict[int, StoredSession] = field(factory=dict)
    subscriptions: dict[int, dict[str, StoredSubscription]] = field(factory=dict)
    incoming: dict[int, set[int]] = field(factory=dict)
    #: Session -> ``seq`` -> row.
    rows: dict[int, dict[int, StoredRow]] = field(factory=dict)
    messages: dict[int, bytes] = field(factory=dict)
    #: Message -> its rows.
    references: Counter[int] = field(factory=Counter)
    retained: dict[str, bytes] = field(factory=dict)
    #: Number -> due time and body.
    delayed: dict[int, tuple[float, bytes]] = field(factory=dict)
    #: The store's time and the wall clock's, when it was last changed.
    time: float = 0.0
    wall: float = 0.0

    def apply(self, batch: Batch) -> None:
        """Make the changes of *batch*."""
        self._apply_sessions(batch)
        self._apply_rows(batch)
        for topic, body in batch.retained.items():
            if body is None:
                self.retained.pop(topic, None)
            else:
                self.retained[topic] = body
        for number, delayed in batch.delayed.items():
            if delayed is None:
                self.delayed.pop(number, None)
            else:
                self.delayed[number] = delayed
        for sid in batch.ended:
            self._end(sid)

    def _apply_sessions(self, batch: Batch) -> None:
        self.sessions.update(batch.sessions)
        for (sid, topic_filter), subscription in batch.subscriptions.items():
            own = self.subscriptions.setdefault(sid, {})
            own.pop(topic_filter, None)
            if subscription is not None:
                own[topic_filter] = subscription
        for key, remembered in batch.incoming.items():
            ids = self.incoming.setdefault(key >> 16, set())
            ids.discard(key & 0xFFFF)
            if remembered:
                ids.add(key & 0xFFFF)

    def _apply_rows(self, batch: Batch) -> None:
        for key, row in batch.live_rows():
            body = batch.messages.get(row.mid)
            if body is not None:
                self.messages[row.mid] = body
            assert row.mid in self.messages, "a row of a message that is gone"
            self._forget(sid_of(key), row.seq)
            self.references[row.mid] += 1
            self.rows.setdefault(sid_of(key), {})[row.seq] = row._replace(body=b"")
        for key, state in batch.states.items():
            rows = self.rows.get(sid_of(key), {})
            if seq_of(key) in rows:
                rows[seq_of(key)] = rows[seq_of(key)]._replace(state=state)
        for key, none in batch.rows.items():
            if none is None:
                self._forget(sid_of(key), seq_of(key))

    def _forget(self, sid: int, seq: int) -> None:
        row = self.rows.get(sid, {}).pop(seq, None)
        if row is None:
            return
        self.references[row.mid] -= 1
        if not self.references[row.mid]:
            del self.references[row.mid], self.messages[row.mid]

    def _end(self, sid: int) -> None:
        for seq in list(self.rows.get(sid, ())):
            self._forget(sid, seq)
        for table in (self.sessions, self.subscriptions, self.incoming, self.rows):
            table.pop(sid, None)

    def restored(self) -> Iterator[RestoredSession]:
        for sid, session in sorted(self.sessions.items()):
            rows = self.rows.get(sid, {})
            yield RestoredSession(
                session,
                tuple(self.subscriptions.get(sid, {}).values()),
                sorted(self.incoming.get(sid, ())),
                len(rows),
                sum(row.size for row in rows.values()),
                sum(1 for row in rows.values() if packet_id_of(row.state)),
                max(rows, default=0),
            )

    def read(self, sid: int, after: int = 0, limit: int | None = None) -> list[StoredRow]:
        """The rows of a session in order, with bodies."""
        rows = self.rows.get(sid, {})
        return [
            rows[seq]._replace(body=self.messages[rows[seq].mid], expires_at=None)
            for seq in sorted(seq for seq in rows if seq > after)[:limit]
        ]


@implementer(IStore)
class MemoryStore(BatchedStore):
    """A store that commits at once, to memory."""

    durable = False

    def __init__(
        self,
        wall_clock: Callable[[], float] = time.time,
        seconds: Callable[[], float] = time.monotonic,
        tables: Tables | None = None,
    ) -> None:
        """*tables*: what it finds when it starts."""
        super().__init__(wall_clock, seconds)
        self.tables = Tables() if tables is None else tables

    def start(self) -> StoreContents:
        tables = self.tables
        alive_until = tables.time or self.time()
        if tables.time:
            self._go_on_from(tables.time, tables.wall)
        for sid in sorted(tables.sessions):
            self._ids.note(sid)
        self._next_mid = max(tables.messages, default=0) + 1
        delayed = sorted((due_at, n, body) for n, (due_at, body) in tables.delayed.items())
        return StoreContents(
            alive_until,
            tables.restored(),
            iter(list(tables.retained.items())),
            [(number, due_at, body) for due_at, number, body in delayed],
        )

    def stop(self) -> Deferred[None]:
        self._commit()
        return succeed(None)

    def _began(self) -> None:
        pass

    def _commit(self) -> None:
        batch = self._take_batch()
        self.tables.apply(batch)
        self.tables.time, self.tables.wall = self.time(), self._wall_clock()
        self.commits += 1
        self._ids.give_back(batch.ended)
        call_all(batch.callbacks)

    def committed(self, callback: Callable[[], None]) -> None:
        self._commit()
        callback()

    def read(self, sid: int, after: int, limit: int) -> Deferred[list[StoredRow]]:
        self._commit()
        return succeed(self._rows(sid, after, limit))

    def read_sent(self, sid: int) -> Deferred[list[StoredRow]]:
        self._commit()
        return succeed(self._sent_rows(sid))

    def read_expired(self, limit: int) -> Deferred[list[ExpiredRow]]:
        self._commit()
        return succeed(self._expired_rows(limit))

    def _expired_rows(self, limit: int) -> list[ExpiredRow]:
        now, tables = self.time(), self.tables
        over = [
            (row.expires_at, sid, row.seq)
            for sid, rows in tables.rows.items()
            for row in rows.values()
            if row.expires_at is not None and row.expires_at <= now and row.state < SENT
        ]
        return [
            ExpiredRow(tables.sessions[sid].client_id, sid, *tables.read(sid, seq - 1, 1))
            for _, sid, seq in sorted(over)[:limit]
        ]

    def _rows(self, sid: int, after: int, limit: int) -> list[StoredRow]:
        return self.tables.read(sid, after, limit)

    def _sent_rows(self, sid: int) -> list[StoredRow]:
        sent = (row for row in self.tables.read(sid) if packet_id_of(row.state))
        return sorted(sent, key=lambda row: order_of(row.state))
