"""What rules in shadow would have denied: counted, and told now and then.

The authorizer reports here. A client that asks for the same thing again is
counted once while its answer is kept, so a count is one of decisions and not of
messages. Memory and log are bounded whatever clients do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from twisted.logger import Logger

from mqttd.interfaces import AccessRequest, Decision

log = Logger()

#: Seconds between two lines in the log.
REPORT_INTERVAL = 10.0
#: Different denials remembered.
MOST_REPORTS = 1000

Report = tuple[str, str | None, str, str, str]


class Reports:
    """The denials of a shadow."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        #: All of them.
        self.total = 0
        #: Client id, user, action, topic, rule -> how often; the first ones.
        self.counts: Counter[Report] = Counter()
        self._told_at = -REPORT_INTERVAL
        self._untold = 0

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
        now = self._seconds()
        if now - self._told_at < REPORT_INTERVAL:
            self._untold += 1
            return
        log.warn(
            "Shadow rules would deny {client_id!r} (user {user!r}) to {action} {topic!r}: {by}; "
            "{untold} more since the last such line",
            client_id=request.client_id,
            user=request.avatar.principal,
            action=request.action,
            topic=request.topic,
            by=decision.by,
            untold=self._untold,
        )
        self._told_at, self._untold = now, 0
