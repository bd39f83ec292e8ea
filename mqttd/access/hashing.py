"""The threads in which passwords are compared with their hashes.

One ``HashPool`` serves all authenticators of a broker. Comparing takes tens of
milliseconds of a processor by intent, so it happens beside the reactor, in few
threads that give way to it, and in turn by address.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from mqttd.access.passwords import decoy, matches
from mqttd.access.workload import Workload
from mqttd.settings import PasswordHashing


class Compares(Protocol):
    """What authenticators need of a ``HashPool``."""

    def matches(
        self, credentials: Any, encoded: str | None, substitute: str | None = None
    ) -> Deferred[bool]: ...


class HashPool:
    """Compares passwords with hashes off the reactor."""

    def __init__(self, reactor: Any, settings: PasswordHashing) -> None:
        self._reactor = reactor
        self._threads = settings.threads or max(1, (os.cpu_count() or 1) - 1)
        self._niceness = settings.niceness
        self._pool: ThreadPool | None = None
        self._standing = threading.local()
        self._decoy = decoy(None)
        self.workload = Workload(
            reactor,
            self._threads,
            settings.maximum_waiting,
            per_address=settings.maximum_waiting_per_address,
            cancels=False,
        )

    def start(self) -> None:
        """Threads are made when there is work."""
        if self._pool is None:
            self._pool = ThreadPool(0, self._threads, "mqttd hashing")
            self._pool.start()

    def stop(self) -> None:
        """Wait for what is under way, a fraction of a second."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()

    def matches(
        self, credentials: Any, encoded: str | None, substitute: str | None = None
    ) -> Deferred[bool]:
        """Whether the password of *credentials* is that of *encoded*.

        For a user that is not known *encoded* is None: the answer is False after
        the time that a comparison with *substitute* takes.
        """
        return self.workload.run(
            credentials,
            lambda: self._in_thread(
                encoded or substitute or self._decoy, credentials.password, encoded is not None
            ),
        )

    def _in_thread(self, encoded: str, password: bytes, known: bool) -> Any:
        if self._pool is None:
            raise RuntimeError("the threads for hashing have not been started")
        return deferToThreadPool(self._reactor, self._pool, self._compare, encoded, password, known)

    def _compare(self, encoded: str, password: bytes, known: bool) -> bool:
        self._stand_back()
        return matches(encoded, password) and known

    def _stand_back(self) -> None:
        """Let the reactor's thread go first; Linux can do that by thread."""
        if getattr(self._standing, "done", False):
            return
        self._standing.done = True
        if self._niceness and sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._niceness)
