"""The store on disk: one SQLite file, written by a thread of its own.

The service makes it and gives it to the broker. Here is the reactor's half:
batches, when they are handed over, who waits for them, and what is done when
the disk fails. ``writing`` and ``reading`` do the work on the threads, ``schema``
knows the file.

One batch is with the writer at a time. What turns of the reactor add meanwhile
gathers in the next one, which goes when the writer is back: the slower the disk
and the more to write, the larger the batch. Batches change hands only between
turns, so what one turn adds is in one transaction.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mqttd.interfaces import ExpiredRow, IStore, StoreContents, StoredRow, StoreError
from mqttd.settings import Durability, StoreSettings
from mqttd.store.batch import Batch, BatchedStore, SessionIds, call_all
from mqttd.store.directory import DirectoryLock
from mqttd.store.file import StoreFile
from mqttd.store.reading import Pages, restore
from mqttd.store.schema import DATABASE, close_store, explain, open_store

log = Logger()

#: Seconds between attempts to write what could not be written: from, to.
RETRY_FIRST, RETRY_LAST = 0.2, 10.0

#: Seconds without a commit after which one is made to note the time, so that
#: after a crash it is known until when connections lasted.
HEARTBEAT = 60.0

#: Seconds that changes wait with ``durability = "memory"``, where nobody waits for them.
LAZY_INTERVAL = 0.5

#: Seconds between looks for free pages, while there is nothing to write.
TIDY_INTERVAL = 1.0

T = TypeVar("T")


@implementer(IStore)
class SQLiteStore(BatchedStore):
    """Keeps everything in one directory, which it locks."""

    def __init__(
        self,
        reactor: Any,
        directory: str | Path,
        settings: StoreSettings | None = None,
        *,
        wall_clock: Callable[[], float] = time.time,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """*reactor*: ``callLater`` and ``callFromThread`` are used."""
        super().__init__(wall_clock, seconds)
        settings = StoreSettings() if settings is None else settings
        self._reactor = reactor
        self.path = Path(directory) / DATABASE
        self._durability = settings.durability
        self._is_lazy = settings.durability is Durability.MEMORY
        self._interval = settings.commit_interval
        if self._is_lazy:
            self._interval = max(self._interval, LAZY_INTERVAL)
        self._lock = DirectoryLock(directory)
        self._file: StoreFile | None = None
        #: What the writer has, or what it could not write.
        self._written: Batch | None = None
        self._is_writing = False
        self._turn: Any = None
        self._heartbeat: Any = None
        self._retry_after = RETRY_FIRST
        #: Who waits for the end; nobody before it has begun.
        self._stopped: list[Deferred[None]] = []
        self._tidied_at = 0.0
        self._questions: set[Question[Any]] = set()
        self._handed_over_at = 0.0

    # --- start and stop -----------------------------------------------------------

    def start(self) -> StoreContents:
        self._lock.take()
        try:
            contents = self._open()
        except BaseException:
            self._close()
            raise
        self._expect_heartbeat()
        return contents

    def _open(self) -> StoreContents:
        began = self._seconds()
        connection = open_store(self.path.parent, self._durability)
        try:
            self._file = StoreFile(connection, self.path, self._reactor.callFromThread)
        except sqlite3.Error as error:
            close_store(connection)
            raise StoreError(explain(error, self.path)) from error
        facts = self._file.facts
        alive_until = self.time()
        if facts.time:
            alive_until = min(facts.time + HEARTBEAT, self._go_on_from(facts.time, facts.wall))
        self._ids = SessionIds()
        for sid in facts.sids:
            self._ids.note(sid)
        self._next_mid = facts.last_mid + 1
        log.info(
            "The store {path} is open with {sessions} sessions, after {seconds:.2f} s",
            path=str(self.path),
            sessions=len(facts.sids),
            seconds=self._seconds() - began,
        )
        return restore(connection, self.path, alive_until)

    @property
    def _is_open(self) -> bool:
        return self._file is not None and not self._stopped

    @property
    def _opened(self) -> StoreFile:
        assert self._file is not None, "the store is not open"
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.release()

    def stop(self) -> Deferred[None]:
        if self._file is None:
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        self._stopped.append(stopped)
        if len(self._stopped) == 1:
            self._cancel_calls()
            self._write_last()
        return stopped

    def _cancel_calls(self) -> None:
        for call in (self._turn, self._heartbeat):
            if call is not None and call.active():
                call.cancel()
        self._turn = self._heartbeat = None

    def _write_last(self) -> None:
        """If the writer is free, give it what is left, and let the threads end."""
        if self._is_writing:
            return  # this is called again when it is done
        self._is_writing = True
        batches = [batch for batch in (self._written, self._take_batch()) if batch is not None]
        clocks = self.time(), self._wall_clock()
        self._opened.end(batches, clocks, lambda result: self._ended(result, batches))

    def _ended(self, result: object, batches: list[Batch]) -> None:
        waiting = [callback for batch in batches for callback in batch.callbacks]
        if isinstance(result, Failure):
            log.error(
                "{problem}; what was not acknowledged yet is lost: {waiting} acknowledgements",
                problem=explain(result.value, self.path),
                waiting=len(waiting),
            )
        else:
            call_all(waiting)
        self._written, self._is_writing = None, False
        self._close()
        stopped, self._stopped = self._stopped, []
        for each in stopped:
            each.callback(None)

    def _expect_heartbeat(self) -> None:
        self._heartbeat = self._reactor.callLater(HEARTBEAT, self._beat, self.commits)

    def _beat(self, commits: int) -> None:
        if self.commits == commits:
            self._added()
        self._expect_heartbeat()

    # --- commits ------------------------------------------------------------------

    @property
    def backlog(self) -> int:
        return self._batch.size + (self._written.size if self._written is not None else 0)

    def _began(self) -> None:
        if self._written is None and self._turn is None and self._is_open:
            self._turn = self._reactor.callLater(self._interval, self._hand_over)

    def _hand_over(self) -> None:
        """Between turns: give the writer all there is, if it is free."""
        turn, self._turn = self._turn, None
        if turn is not None and turn.active():
            turn.cancel()
        if self._has_begun and self._written is None:
            self._written = self._take_batch()
            self._write()

    def _write(self, shrinking: list[Batch] | None = None) -> None:
        batch, file = self._written, self._opened
        assert batch is not None
        clocks = self.time(), self._wall_clock()
        self._is_writing = True
        self._handed_over_at = self._seconds()
        if shrinking is None:
            file.writer.submit(lambda: file.write(batch, *clocks), self._done)
        else:
            file.writer.submit(lambda: file.write_again(batch, shrinking, *clocks), self._done)

    def _done(self, result: object) -> None:
        self._is_writing = False
        if isinstance(result, Failure):
            self._failed(result)
            return
        batch, self._written = self._written, None
        assert batch is not None
        self.commits += 1
        self.commit_seconds += self._seconds() - self._handed_over_at
        self._retry_after = RETRY_FIRST
        if self.problem is not None:
            log.info("The store {path} is written again", path=str(self.path))
            self._tell_problem(None)
        self._ids.give_back(batch.ended)
        for question in self._questions:
            question.later.append(batch)
        call_all(batch.callbacks)
        if self._stopped:
            self._write_last()
        elif self._has_begun:
            self._began_again()
        else:
            self._tidy()

    def _began_again(self) -> None:
        """There is more already. Between turns, since nothing else is on the stack."""
        if self._interval:
            self._began()
        else:
            self._hand_over()

    def _tidy(self) -> None:
        """Nothing to write: give space back, which goes on while there is any."""
        now = self._seconds()
        file = self._opened
        if file.has_free_pages or now - self._tidied_at >= TIDY_INTERVAL:
            self._tidied_at = now
            file.writer.submit(file.give_back, lambda result: self._tidied())

    def _tidied(self) -> None:
        idle = self._written is None and not self._has_begun
        if self._is_open and idle and self._opened.has_free_pages:
            self._tidy()

    # --- faults -------------------------------------------------------------------

    def _failed(self, failure: Failure) -> None:
        problem = explain(failure.value, self.path)
        if problem != self.problem:
            log.error("{problem}", problem=problem)
        self._tell_problem(problem)
        if self._stopped:
            self._write_last()
            return
        delay, self._retry_after = self._retry_after, min(2 * self._retry_after, RETRY_LAST)
        self._turn = self._reactor.callLater(delay, self._try_again)

    def _try_again(self) -> None:
        self._turn = None
        assert self._written is not None
        # What takes things out may fit where more does not, and make room.
        self._write([self._written.shrinking(), self._batch.shrinking()])

    # --- questions ----------------------------------------------------------------

    def committed(self, callback: Callable[[], None]) -> None:
        if self._is_lazy:
            callback()
        elif self._has_begun:
            self._batch.callbacks.append(callback)
        elif self._written is not None:
            self._written.callbacks.append(callback)
        else:
            callback()

    def read(self, sid: int, after: int, limit: int) -> Deferred[list[StoredRow]]:
        return self._read(lambda pages: pages.read(sid, after, limit), lambda row: (sid, row.seq))

    def read_sent(self, sid: int) -> Deferred[list[StoredRow]]:
        return self._read(lambda pages: pages.read_sent(sid), lambda row: (sid, row.seq))

    def read_expired(self, limit: int) -> Deferred[list[ExpiredRow]]:
        now = self.time()
        return self._read(
            lambda pages: pages.read_expired(now, limit), lambda each: (each.sid, each.row.seq)
        )

    def _read(
        self, ask: Callable[[Pages], list[T]], place: Callable[[T], tuple[int, int]]
    ) -> Deferred[list[T]]:
        """What *ask* gives on the reader's thread; *place*: session and ``seq`` of a row."""
        if not self._is_open:
            return fail(StoreError("the store is closed"))
        question = Question(ask, place)
        batch = self._batch if self._has_begun else self._written
        if batch is None or self.problem is not None:
            self._ask(question)
        else:
            batch.callbacks.append(lambda: self._ask(question))
            if self._turn is not None:
                self._turn.reset(0)  # nobody should wait for an interval to read
        return question.answer

    def _ask(self, question: Question[Any]) -> None:
        if not self._is_open:
            question.answer.errback(StoreError("the store is closed"))
            return
        file = self._opened
        self._questions.add(question)
        file.reader.submit(
            lambda: question.ask(file.pages), lambda result: self._answered(question, result)
        )

    def _answered(self, question: Question[Any], result: Any) -> None:
        self._questions.discard(question)
        if isinstance(result, Failure):
            question.answer.errback(StoreError(explain(result.value, self.path)))
            return
        later = [*question.later, self._written, self._batch]
        question.give(result, [batch for batch in later if batch is not None])


@define(eq=False)
class Question(Generic[T]):
    """One reading of rows, on its way."""

    ask: Callable[[Pages], list[T]]
    _place: Callable[[T], tuple[int, int]]
    answer: Deferred[list[T]] = field(factory=Deferred)
    #: What was committed since it was asked.
    later: list[Batch] = field(factory=list)

    def give(self, rows: list[T], later: list[Batch]) -> None:
        """Answer with *rows*, but for those that *later* batches delete."""
        for batch in later:
            rows = [row for row in rows if not batch.hides(*self._place(row))]
        self.answer.callback(rows)
