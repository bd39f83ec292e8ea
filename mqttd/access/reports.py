"""What rules in shadow would have denied: counted, and told now and then.

The authorizer reports here. A client that asks for the same thing again is
counted once while its answer is kept, so a count is one of decisions and not of
messages. Memory and log are bounded whatever clients do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import inf

from twisted.logger import Logger

from mqttd.interfaces import AccessRequest, Decision

log = Logger()

#: Seconds between two lines in the log.
REPORT_INTERVAL = 10.0
#: Different denials remembered.
MOST_REPORTS = 1000


class Complaints:
    """Which line the log may have now: each kind once in a while."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        #: Kind -> when its last line was, and how often it was due since.
        self._said: dict[str, tuple[float, int]] = {}

    def due(self, kind: str) -> int | None:
        """How many were left out before this one; None to leave this one out too.

        There are as many kinds as the caller has names for, so few.
        """
        now = self._seconds()
        said_at, left_out = self._said.get(kind, (-inf, 0))
        if now - said_at < REPORT_INTERVAL:
            self._said[kind] = (said_at, left_out + 1)
            return None
        self._said[kind] = (now, 0)
        return left_out


Report = tuple[str, str | None, str, str, str]


class Reports:
    """The denials of a shadow."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        #: All of them.
        self.total = 0
        #: Client id, user, action, topic, rule -> how often; the first ones.
        self.counts: Counter[Report] = Counter()
        self._complaints = Complaints(seconds)

    def would_deny(self, request: AccessRequest, decision: Decision) -> None:
        """Note that *decision* would have refused *request*."""
        self.total += 1
        report = (
            request.client_id,
            request.avatar.principal,
            request.action,
            request.topic,
            decision.by,
        )
        if report in self.counts or len(self.counts) < MOST_REPORTS:
            self.counts[report] += 1
        untold = self._complaints.due("shadow")
        if untold is None:
            return
        log.warn(
            "Shadow rules would deny {client_id!r} (user {user!r}) to {action} {topic!r}: {by}; "
            "{untold} more since the last such line",
            client_id=request.client_id,
            user=request.avatar.principal,
            action=request.action,
            topic=request.topic,
            by=decision.by,
            untold=untold,
        )
