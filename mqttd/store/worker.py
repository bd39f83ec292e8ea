"""A thread that does one thing after another, and tells the reactor what came of it.

The SQLite store has two: one writes, one reads. Results wait for each other in
one list, so that the reactor is woken once for all that are ready together.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

log = Logger()

Result = Callable[[Any], None]


class Worker:
    """Runs jobs in the order of asking. ``submit`` and ``stop``: reactor thread."""

    def __init__(self, call_from_thread: Callable[..., Any], name: str) -> None:
        self._call_from_thread = call_from_thread
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Result] | None] = SimpleQueue()
        self._done: list[tuple[Result, Any]] = []
        self._lock = Lock()
        # A daemon, so that a process whose service was never stopped can end.
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], Any], result: Result) -> None:
        """Run *job*; *result* is called with what it returns, or with a ``Failure``."""
        self._jobs.put((job, result))

    def stop(self, job: Callable[[], Any], result: Result) -> None:
        """Run one last *job*, and end."""
        self.submit(job, result)
        self._jobs.put(None)

    def _run(self) -> None:
        while (work := self._jobs.get()) is not None:
            job, result = work
            try:
                value = job()
            except BaseException:
                value = Failure()
            self._report(result, value)

    def _report(self, result: Result, value: Any) -> None:
        with self._lock:
            self._done.append((result, value))
            if len(self._done) > 1:
                return  # the reactor is on its way already
        self._call_from_thread(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            done, self._done = self._done, []
        for result, value in done:
            try:
                result(value)
            except Exception:
                log.failure("What follows on a store's answer failed")
