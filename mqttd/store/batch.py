"""What was added to a store and is not committed yet.

``BatchedStore`` gathers it for every backend here: one ``Batch`` takes what the
turns of the reactor add, and what cancels out within it (a message delivered
before it was written, a session saved twice) is never written at all. When a
batch is committed, and how, is the backend's business. Reactor thread only; a
batch that was handed over is read by the writer and changed by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from twisted.logger import Logger

from mqttd.interfaces import StoredRow, StoredSession, StoredSubscription, StoreError
from mqttd.store.records import MAXIMUM_SID, row_key, sid_of

log = Logger()

#: Seconds that a restart may have taken, as the clock has it. A clock that says
#: more was set wrong, now or before, and counts for nothing.
MAXIMUM_DOWNTIME = 366 * 86_400.0


class Batch:
    """Changes by key, the last one for each; None stands for "delete"."""

    __slots__ = (
        "callbacks",
        "delayed",
        "ended",
        "incoming",
        "messages",
        "retained",
        "rows",
        "sessions",
        "size",
        "states",
        "subscriptions",
    )

    def __init__(self) -> None:
        #: Sessions that are gone, with whatever the other parts say of them.
        self.ended: set[int] = set()
        self.sessions: dict[int, StoredSession] = {}
        self.subscriptions: dict[tuple[int, str], StoredSubscription | None] = {}
        #: sid << 16 | packet id -> whether it is to be remembered.
        self.incoming: dict[int, bool] = {}
        self.messages: dict[int, bytes] = {}
        self.rows: dict[int, StoredRow | None] = {}
        #: Row -> new state, of rows that are not in ``rows``.
        self.states: dict[int, int] = {}
        self.retained: dict[str, bytes | None] = {}
        #: Number -> due time and body.
        self.delayed: dict[int, tuple[float, bytes] | None] = {}
        #: Bytes of ``messages``, ``retained`` and ``delayed``.
        self.size = 0
        self.callbacks: list[Callable[[], None]] = []

    def live_rows(self) -> Iterator[tuple[int, StoredRow]]:
        """The rows to be written."""
        ended = self.ended
        for key, row in self.rows.items():
            if row is not None and sid_of(key) not in ended:
                yield key, row

    def shrinking(self) -> Batch:
        """What takes things out, as a batch of its own."""
        part = Batch()
        part.ended = set(self.ended)
        part.subscriptions = {k: None for k, each in self.subscriptions.items() if each is None}
        part.incoming = {key: False for key, kept in self.incoming.items() if not kept}
        part.rows = {key: None for key, row in self.rows.items() if row is None}
        part.retained = {topic: None for topic, body in self.retained.items() if body is None}
        part.delayed = {number: None for number, each in self.delayed.items() if each is None}
        return part

    def hides(self, sid: int, seq: int) -> bool:
        """Whether it deletes this row."""
        return sid in self.ended or self.rows.get(row_key(sid, seq), self) is None


def call_all(callbacks: Iterable[Callable[[], None]]) -> None:
    """Tell those who waited for a commit; one that raises is logged."""
    for callback in callbacks:
        try:
            callback()
        except Exception:
            log.failure("{callback} failed after a commit", callback=callback)


class SessionIds:
    """Gives out numbers for sessions, those of sessions that are gone again."""

    def __init__(self) -> None:
        self._next = 1
        self._free: list[int] = []
        #: Runs of unused numbers below the highest one in use.
        self._gaps: list[range] = []

    def note(self, sid: int) -> None:
        """*sid* is in use; called in rising order, before any is given out."""
        if sid > self._next:
            self._gaps.append(range(self._next, sid))
        self._next = sid + 1

    def take(self) -> int:
        if self._free:
            return self._free.pop()
        if self._gaps:
            gap = self._gaps.pop()
            if len(gap) > 1:
                self._gaps.append(gap[1:])
            return gap[0]
        if self._next > MAXIMUM_SID:
            raise StoreError(f"the store holds no more than {MAXIMUM_SID} sessions")
        self._next += 1
        return self._next - 1

    def give_back(self, sids: Iterable[int]) -> None:
        self._free.extend(sids)


class BatchedStore:
    """The common half of a backend: everything of ``IStore`` that only adds.

    A backend implements ``_began``, ``committed``, ``read``, ``read_sent``,
    ``start`` and ``stop``.
    """

    durable = True

    def __init__(self, wall_clock: Callable[[], float], seconds: Callable[[], float]) -> None:
        """*wall_clock* gives Unix time, *seconds* one that never jumps."""
        self._wall_clock = wall_clock
        self._seconds = seconds
        self._time_at_start = wall_clock()
        self._started_at = seconds()
        self._batch = Batch()
        self._has_begun = False
        self._ids = SessionIds()
        self._next_mid = 1
        self.commits = 0
        self.commit_seconds = 0.0
        self.problem: str | None = None
        self.on_problem: list[Callable[[str | None], None]] = []

    @property
    def backlog(self) -> int:
        return self._batch.size

    def time(self) -> float:
        return self._time_at_start + self._seconds() - self._started_at

    def _go_on_from(self, time: float, wall: float) -> float:
        """Set the clock on: when it last was *time*, the wall clock was *wall*.

        Returns the time it has now. The wall clock is believed about how long
        the broker was down and about nothing else, so that setting it right, or
        wrong, makes no message older or younger.
        """
        now = self._wall_clock()
        downtime = now - wall
        if not 0 <= downtime <= MAXIMUM_DOWNTIME:
            log.warn(
                "The clock went from {before} to {now} (Unix time) since the store was last "
                "used: deadlines go on as if no time had passed",
                before=round(wall),
                now=round(now),
            )
            downtime = 0.0
        self._time_at_start, self._started_at = time + downtime, self._seconds()
        return self._time_at_start

    def _began(self) -> None:
        """The first thing is being added to the batch."""
        raise NotImplementedError

    def _added(self) -> Batch:
        if not self._has_begun:
            self._has_begun = True
            self._began()
        return self._batch

    def _take_batch(self) -> Batch:
        """What was added; from now on there is another batch."""
        batch, self._batch, self._has_begun = self._batch, Batch(), False
        return batch

    def _tell_problem(self, problem: str | None) -> None:
        """There is one, or none any more."""
        if problem == self.problem:
            return
        self.problem = problem
        for observer in list(self.on_problem):
            try:
                observer(problem)
            except Exception:
                log.failure("{observer} failed", observer=observer)

    # --- sessions ---------------------------------------------------------------

    def new_session_id(self) -> int:
        return self._ids.take()

    def put_session(self, session: StoredSession) -> None:
        self._added().sessions[session.sid] = session

    def delete_session(self, sid: int) -> None:
        self._added().ended.add(sid)

    def put_subscription(self, sid: int, subscription: StoredSubscription) -> None:
        self._added().subscriptions[sid, subscription.topic_filter] = subscription

    def delete_subscription(self, sid: int, topic_filter: str) -> None:
        self._added().subscriptions[sid, topic_filter] = None

    def put_incoming(self, sid: int, packet_id: int) -> None:
        self._added().incoming[sid << 16 | packet_id] = True

    def delete_incoming(self, sid: int, packet_id: int) -> None:
        self._added().incoming[sid << 16 | packet_id] = False

    # --- messages ---------------------------------------------------------------

    def put_message(self, body: bytes) -> int:
        mid = self._next_mid
        self._next_mid += 1
        batch = self._added()
        batch.messages[mid] = body
        batch.size += len(body)
        return mid

    def put_row(self, sid: int, row: StoredRow) -> None:
        self._added().rows[row_key(sid, row.seq)] = row

    def change_row(self, sid: int, seq: int, state: int) -> None:
        batch = self._added()
        key = row_key(sid, seq)
        row = batch.rows.get(key)
        if row is None:
            batch.states[key] = state
        else:
            batch.rows[key] = row._replace(state=state)

    def delete_rows(self, sid: int, seqs: Iterable[int]) -> None:
        batch = self._added()
        for seq in seqs:
            key = row_key(sid, seq)
            if batch.rows.get(key) is not None:
                del batch.rows[key]
            else:
                batch.rows[key] = None
                batch.states.pop(key, None)

    def put_retained(self, topic: str, body: bytes) -> None:
        batch = self._added()
        batch.retained[topic] = body
        batch.size += len(body)

    def delete_retained(self, topic: str) -> None:
        self._added().retained[topic] = None

    def put_delayed(self, number: int, due_at: float, body: bytes) -> None:
        batch = self._added()
        batch.delayed[number] = due_at, body
        batch.size += len(body)

    def delete_delayed(self, number: int) -> None:
        self._added().delayed[number] = None
