"""The processes in which passwords are compared with their hashes.

One ``HashPool`` serves all authenticators of a broker. Comparing takes tens of
milliseconds of a processor by intent, so it happens beside the reactor, in few
processes that give way to it, and in turn by address. Threads would not do: one
that the system has put aside while it holds Python's lock keeps the reactor
waiting for milliseconds (p99 of an echo under a flood: 11 ms with threads, 5 ms
with nice ones).
"""

from __future__ import annotations

import os
import sys
from base64 import b64encode
from hashlib import blake2b
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList, TimeoutError, succeed
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqttd.access.passwords import decoy
from mqttd.access.workload import Workload
from mqttd.interfaces import LoginUnavailable
from mqttd.settings import PasswordHashing

log = Logger()

#: Right passwords that are remembered; about 150 bytes each.
REMEMBERED = 100_000

#: Seconds that a process has to end when it was asked to.
ENDING = 2.0


class Compares(Protocol):
    """What authenticators need of a ``HashPool``."""

    def matches(
        self, credentials: Any, encoded: str | None, substitute: str | None = None
    ) -> Deferred[bool]: ...


class HashPool:
    """Compares passwords with hashes off the reactor."""

    def __init__(self, reactor: Any, settings: PasswordHashing) -> None:
        self._reactor = reactor
        self._niceness = settings.niceness
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._open = False
        self._decoy = decoy(None)
        self._remember = settings.remember
        #: Digests of hash and right password, keyed with what only this process
        #: knows -> until when; the oldest first.
        self._right: dict[bytes, float] = {}
        self._key = os.urandom(32)
        self.workload = Workload(
            reactor,
            settings.processes or max(1, (os.cpu_count() or 1) - 1),
            settings.maximum_waiting,
            per_address=settings.maximum_waiting_per_address,
            cancels=False,
        )

    def start(self) -> None:
        """Processes are made when there is work."""
        self._open = True

    def stop(self) -> Deferred[Any]:
        """End the processes; fires when they are gone."""
        self._open = False
        self._idle.clear()
        return DeferredList([worker.end(self._reactor) for worker in list(self._workers)])

    def matches(
        self, credentials: Any, encoded: str | None, substitute: str | None = None
    ) -> Deferred[bool]:
        """Whether the password of *credentials* is that of *encoded*.

        For a user that is not known *encoded* is None: the answer is False after
        the time that a comparison with *substitute* takes.
        """
        compared = encoded or substitute or self._decoy
        password = credentials.password
        digest = self._digest(compared, password)
        if self._right.get(digest, 0.0) > self._reactor.seconds():
            return succeed(True)
        answer = self.workload.run(credentials, lambda: self._compare(compared, password))
        return answer.addCallback(self._judge, encoded is not None, digest)

    def _digest(self, encoded: str, password: bytes) -> bytes:
        return blake2b(encoded.encode() + b"\0" + password, key=self._key, digest_size=16).digest()

    def _judge(self, right: bool, known: bool, digest: bytes) -> bool:
        if right and known and self._remember:
            if len(self._right) >= REMEMBERED:
                del self._right[next(iter(self._right))]
            self._right.pop(digest, None)
            self._right[digest] = self._reactor.seconds() + self._remember
        return right and known

    def _compare(self, encoded: str, password: bytes) -> Deferred[bool]:
        if not self._open:
            raise LoginUnavailable("the processes for hashing are stopped")
        # The workload lets no more in than there may be processes.
        worker = self._idle.pop() if self._idle else self._spawn()
        return worker.compare(encoded, password).addBoth(self._done, worker)

    def _done(self, result: Any, worker: _Worker) -> Any:
        if self._open and worker.alive:
            self._idle.append(worker)
        return result

    def _spawn(self) -> _Worker:
        worker = _Worker(self._workers)
        code = "from mqttd.access.hash_worker import main; main()"
        self._reactor.spawnProcess(
            worker,
            sys.executable,
            [sys.executable, "-c", code, str(self._niceness)],
            # The same modules as here, wherever they come from.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        return worker


class _Worker(ProcessProtocol):
    """Our end of one process, which does one thing at a time."""

    def __init__(self, workers: set[_Worker]) -> None:
        self._workers = workers
        self._waiting: Deferred[bool] | None = None
        self._gone: Deferred[None] = Deferred()
        self._answer = b""
        self.alive = True
        workers.add(self)

    def compare(self, encoded: str, password: bytes) -> Deferred[bool]:
        waiting: Deferred[bool] = Deferred()
        self._waiting = waiting
        self._answer = b""
        assert self.transport is not None
        self.transport.write(b64encode(encoded.encode()) + b" " + b64encode(password) + b"\n")
        return waiting

    def outReceived(self, data: bytes) -> None:
        self._answer += data
        waiting = self._waiting
        if waiting is None or not self._answer.endswith(b"\n"):
            return
        self._waiting = None
        if self._answer in (b"1\n", b"0\n"):
            waiting.callback(self._answer == b"1\n")
        else:
            waiting.errback(LoginUnavailable("a hash could not be compared"))

    def errReceived(self, data: bytes) -> None:
        log.error("A process for hashing says: {text}", text=data.decode("utf-8", "replace")[:500])

    def outConnectionLost(self) -> None:
        """It has ended, and needs not have been asked to."""
        self.alive = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(LoginUnavailable("a process for hashing has ended"))

    def processEnded(self, reason: Failure) -> None:
        self.alive = False
        self._workers.discard(self)
        self._gone.callback(None)

    def end(self, reactor: Any) -> Deferred[None]:
        """Take its input away, which ends it."""
        assert self.transport is not None
        self.transport.loseConnection()
        self._gone.addTimeout(ENDING, reactor)
        return self._gone.addErrback(lambda failure: failure.trap(TimeoutError) and None)
