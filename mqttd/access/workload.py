"""Work that logins wait for: so much at once, so much waiting, each in its turn.

Hashing and every backend stand behind a ``Workload``. Addresses take turns, so
that a flood from one of them delays its own logins first; whoever comes when
all places are taken is told "busy" at once. Knows nothing of what the work is.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from mqttd.interfaces import LoginBusy, LoginUnavailable

Work = Callable[[], Any]


@define(eq=False)
class _Job:
    credentials: Any
    work: Work
    answer: Deferred[Any] = field(factory=Deferred)


class Workload:
    """Runs work in turn, bounded in every direction."""

    def __init__(
        self,
        clock: IReactorTime,
        at_once: int,
        maximum_waiting: int,
        *,
        per_address: int = 0,
        timeout: float = 0.0,
        cancels: bool = True,
    ) -> None:
        """
        :param per_address: how much of what waits may be of one address; 0: all.
        :param timeout: seconds after which work has failed; 0: never.
        :param cancels: work can be stopped; otherwise its place stays taken
            until it is really done, as that of a thread must.
        """
        self._clock = clock
        self._at_once = at_once
        self._maximum_waiting = maximum_waiting
        self._per_address = per_address or maximum_waiting
        self._timeout = timeout
        self._cancels = cancels
        self.running = 0
        self.waiting = 0
        self._choosing = False
        #: Address -> its jobs; the first address is the next to have a turn.
        self._queues: OrderedDict[str, deque[_Job]] = OrderedDict()

    def run(self, credentials: Any, work: Work) -> Deferred[Any]:
        """What *work* returns, sooner or later.

        Fails with ``LoginBusy`` when there is no place to wait, and with
        ``LoginUnavailable`` when it takes too long.
        """
        job = _Job(credentials, work)
        if self.running < self._at_once:
            self._start(job)
            return job.answer
        address = credentials.peer.address
        queue = self._queues.get(address)
        taken = 0 if queue is None else len(queue)
        if self.waiting >= self._maximum_waiting or taken >= self._per_address:
            job.answer.errback(LoginBusy("too many logins wait"))
            return job.answer
        if queue is None:
            queue = self._queues[address] = deque()
        queue.append(job)
        self.waiting += 1
        return job.answer

    def _start(self, job: _Job) -> None:
        self.running += 1
        inner = maybeDeferred(job.work)
        timer = None
        if self._timeout and not inner.called:
            timer = self._clock.callLater(self._timeout, self._too_long, job, inner)
        inner.addBoth(self._done, job, timer)

    def _too_long(self, job: _Job, inner: Deferred[Any]) -> None:
        answer = job.answer
        text = f"no answer within {self._timeout:g} seconds"
        if self._cancels:
            inner.cancel()
        if not answer.called:
            answer.errback(LoginUnavailable(text))

    def _done(self, result: Any, job: _Job, timer: Any) -> None:
        self.running -= 1
        if timer is not None and timer.active():
            timer.cancel()
        if not job.answer.called:
            if isinstance(result, Failure) and result.check(CancelledError):
                result = Failure(LoginUnavailable(f"no answer within {self._timeout:g} seconds"))
            # Failure or not, what it is goes to who waits.
            job.answer.callback(result)
        self._next()

    def _next(self) -> None:
        if self._choosing:
            # Work that ended at once: the loop below is at it already.
            return
        self._choosing = True
        try:
            self._start_waiting()
        finally:
            self._choosing = False

    def _start_waiting(self) -> None:
        while self.running < self._at_once and self._queues:
            address, queue = next(iter(self._queues.items()))
            job = queue.popleft()
            self.waiting -= 1
            if queue:
                self._queues.move_to_end(address)
            else:
                del self._queues[address]
            if job.credentials.wanted():
                self._start(job)
            else:
                job.answer.errback(LoginBusy("the client has left"))
