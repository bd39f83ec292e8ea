"""The authorizer of a configured broker: sources of rules, asked in turn.

The broker's guards ask it; ``access.build`` makes it from settings. The first source
with an opinion decides. Without one the answer is no, and so it is when a source
fails, answers nonsense or takes too long.

Beside the sources in force there may be some in shadow: what they would deny is
counted and logged, and happens all the same, so that rules can be tried out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mqttd.access.reports import Complaints, Reports
from mqttd.interfaces import (
    AccessRequest,
    Decision,
    IAuthorizer,
    IRuleSource,
    LoginRefused,
)

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

log = Logger()

#: Seconds that a source may take, whatever it says itself.
MOST_PATIENCE = 60.0

NOBODY = Decision(False, "no rule allows it")
EVERYBODY = Decision(True, "no rules are in force")


@implementer(IAuthorizer)
class AccessControl:
    """Rules that can be replaced while the broker runs."""

    def __init__(
        self,
        clock: IReactorTime,
        seconds: Callable[[], float],
        sources: Iterable[IRuleSource] = (),
        shadow: Iterable[IRuleSource] = (),
        *,
        time_to_live: float = 60.0,
        cache_size: int = 256,
    ) -> None:
        """
        :param clock: where delayed calls are put.
        :param seconds: monotonic time.
        :param sources: those in force; without any, everything is allowed.
        :param shadow: those whose denials are only reported.
        :param time_to_live: seconds that a guard keeps what was looked up.
        :param cache_size: answers that each guard keeps.
        """
        self.clock = clock
        self.seconds = seconds
        self.time_to_live = time_to_live
        self.cache_size = cache_size
        self.epoch = 0
        self.sources: Sequence[IRuleSource] = ()
        self.shadow: Sequence[IRuleSource] = ()
        self.checks: frozenset[str] = frozenset()
        #: What the shadow would have denied: by client, action and topic.
        self.reports = Reports(seconds)
        self._complaints = Complaints(seconds)
        self._running = False
        self.replace(sources, shadow)

    # --- life -----------------------------------------------------------------------

    def start(self) -> None:
        self._running = True
        for source in (*self.sources, *self.shadow):
            source.start()
        self._tell()

    def stop(self) -> None:
        self._running = False
        for source in (*self.sources, *self.shadow):
            source.stop()

    def replace(self, sources: Iterable[IRuleSource], shadow: Iterable[IRuleSource] = ()) -> None:
        """Take these from now on. The broker is to be told: ``rules_changed``."""
        old = (*self.sources, *self.shadow)
        self.sources, self.shadow = tuple(sources), tuple(shadow)
        new = (*self.sources, *self.shadow)
        if self._running:
            for source in new:
                source.start()
            for source in old:
                source.stop()
        self.checks = frozenset[str]().union(*(source.checks for source in new))
        self.epoch += 1
        if self._running:
            self._tell()

    def _tell(self) -> None:
        """Who may do what should not be a guess."""
        if self.sources or self.shadow:
            log.info(
                "Access rules: {sources}; in shadow: {shadow}",
                sources=", ".join(source.name for source in self.sources) or "none, all is allowed",
                shadow=", ".join(source.name for source in self.shadow) or "none",
            )

    # --- questions --------------------------------------------------------------------

    def authorize(self, request: AccessRequest) -> bool | Deferred[bool]:
        """Whether the sources in force allow *request*."""
        decision = self.decide(request)
        if self.shadow:
            self._compare(request)
        if isinstance(decision, Deferred):
            return decision.addCallback(_is_allowed)
        return decision.allowed

    def decide(self, request: AccessRequest) -> Decision | Deferred[Decision]:
        """The same with its reason; nothing is counted."""
        if not self.sources:
            return EVERYBODY
        return self._ask(self.sources, request)

    def decide_in_shadow(self, request: AccessRequest) -> Decision | Deferred[Decision] | None:
        """What the shadow would decide; None without one."""
        return self._ask(self.shadow, request) if self.shadow else None

    def _compare(self, request: AccessRequest) -> None:
        decision = self._ask(self.shadow, request)
        if isinstance(decision, Deferred):
            decision.addCallback(self._report, request)
        else:
            self._report(decision, request)

    def _report(self, decision: Decision, request: AccessRequest) -> None:
        if not decision.allowed:
            self.reports.would_deny(request, decision)

    def _ask(
        self, sources: Sequence[IRuleSource], request: AccessRequest
    ) -> Decision | Deferred[Decision]:
        """The first opinion of *sources*; with it the last word."""
        for index, source in enumerate(sources):
            if request.action not in source.checks:
                continue
            try:
                answer = source.decide(request)
            except Exception:
                return self._failed(Failure(), source)
            if isinstance(answer, Deferred):
                answer.addTimeout(MOST_PATIENCE, self.clock)
                answer.addErrback(self._failed, source)
                rest = sources[index + 1 :]
                return answer.addCallback(self._looked_up, source, rest, request)
            if answer is not None:
                return self._checked(answer, source)
        return NOBODY

    def _failed(self, failure: Failure, source: IRuleSource) -> Decision:
        unsaid = self._complaints.due(source.name)
        if unsaid is not None:
            text = "{source} failed, so the answer is no; {unsaid} more since the last such line"
            if failure.check(LoginRefused):
                # It says what is wrong in a text that holds no secret.
                text += ": {reason}"
                log.error(text, source=source.name, unsaid=unsaid, reason=str(failure.value))
            else:
                log.failure(text, failure, source=source.name, unsaid=unsaid)
        return Decision(False, f"{source.name} failed")

    def _looked_up(
        self, answer: Any, source: IRuleSource, rest: Sequence[IRuleSource], request: AccessRequest
    ) -> Any:
        return self._ask(rest, request) if answer is None else self._checked(answer, source)

    def _checked(self, answer: Any, source: IRuleSource) -> Decision:
        if isinstance(answer, Decision) and isinstance(answer.allowed, bool):
            return answer
        if self._complaints.due(source.name) is not None:
            log.error("{source} gave no decision, so the answer is no", source=source.name)
        return Decision(False, f"{source.name} gave no decision")


def _is_allowed(decision: Decision) -> bool:
    return decision.allowed
