"""A store whose commits are made by hand, to see what waits for them.

Tests and embedders give a ``ManualStore`` to a broker: nothing is committed
before ``commit``, ``crash`` gives what a restarted broker would find, and
``fail`` makes the disk full.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from mqttd.interfaces import ExpiredRow, IStore, StoredRow
from mqttd.store.memory import MemoryStore, Tables

T = TypeVar("T")


@implementer(IStore)
class ManualStore(MemoryStore):
    """Commits when told; ``tables`` is what is safe."""

    durable = True

    def __init__(
        self,
        wall_clock: Callable[[], float] = lambda: 1_800_000_000.0,
        seconds: Callable[[], float] = lambda: 0.0,
        tables: Tables | None = None,
    ) -> None:
        super().__init__(wall_clock, seconds, tables)
        #: Commit within the call that adds or asks, until it is False.
        self.automatic = False
        self._reads: list[tuple[Deferred[Any], Callable[[], list[Any]]]] = []

    @property
    def waiting(self) -> int:
        """Callbacks that wait for a commit."""
        return len(self._batch.callbacks)

    def commit(self) -> None:
        """Commit all that was added, and tell those who wait; nothing while it fails."""
        if self.problem is not None:
            return
        reads, self._reads = self._reads, []
        self._commit()
        for waiting, rows in reads:
            waiting.callback(rows())

    def fail(self, problem: str = "the disk is full") -> None:
        """Let commits fail from now on."""
        self._tell_problem(problem)

    def recover(self) -> None:
        """Commit again, first what was added meanwhile."""
        self._tell_problem(None)
        self.commit()

    def crash(self) -> ManualStore:
        """A store of what is committed, for the broker that comes after."""
        return ManualStore(self._wall_clock, self._seconds, deepcopy(self.tables))

    def stop(self) -> Deferred[None]:
        self.commit()
        return succeed(None)

    def committed(self, callback: Callable[[], None]) -> None:
        if not self._has_begun and self.problem is None:
            callback()
            return
        self._batch.callbacks.append(callback)
        if self.automatic:
            self.commit()

    def read(self, sid: int, after: int, limit: int) -> Deferred[list[StoredRow]]:
        return self._later(lambda: self._rows(sid, after, limit))

    def read_sent(self, sid: int) -> Deferred[list[StoredRow]]:
        return self._later(lambda: self._sent_rows(sid))

    def read_expired(self, limit: int) -> Deferred[list[ExpiredRow]]:
        return self._later(lambda: self._expired_rows(limit))

    def _later(self, rows: Callable[[], list[T]]) -> Deferred[list[T]]:
        if not self._has_begun:
            return succeed(rows())
        waiting: Deferred[list[T]] = Deferred()
        self._reads.append((waiting, rows))
        if self.automatic:
            self.commit()
        return waiting
