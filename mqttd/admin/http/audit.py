"""The audit log: who has changed what, and how it ended.

The site notes every change, and every attempt, here. Each is a line of the daemon's log
(``mqttd.audit``), a line of JSON in a file of its own where the settings name one, and the
last ones stay in memory for whoever asks (``routes.audit``). It knows no request.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable
from itertools import islice

from attrs import asdict, frozen
from twisted.logger import Logger

log = Logger(namespace="mqttd.audit")

#: Changes that stay in memory: about 300 bytes each, and their paths.
KEPT = 1000

#: Characters of a path that are kept: those of a topic filter may be many.
LONGEST = 1000


@frozen
class Change:
    """One change, or an attempt."""

    #: Unix time, seconds.
    time: float
    user: str
    address: str
    method: str
    #: Percent-encoded still, so no line can be forged by it.
    path: str
    status: int


class Audit:
    """The audit log of one daemon."""

    def __init__(self, path: str = "", wall_clock: Callable[[], float] = time.time) -> None:
        """:param path: of the file; "" means none."""
        self._path = path
        self._wall_clock = wall_clock
        self._last: deque[Change] = deque(maxlen=KEPT)

    def note(self, user: str, address: str, method: str, path: str, status: int) -> None:
        """Write a change down."""
        path = path if len(path) <= LONGEST else path[:LONGEST] + "..."
        change = Change(round(self._wall_clock(), 3), user, address, method, path, status)
        self._last.append(change)
        log.info(
            "{user} at {address}: {method} {path}: {status}",
            user=user,
            address=address,
            method=method,
            path=path,
            status=status,
        )
        if self._path:
            self._append(json.dumps(asdict(change)) + "\n")

    def last(self, most: int) -> list[Change]:
        """The last changes, *most* of them, the newest first."""
        return list(islice(reversed(self._last), most))

    def _append(self, line: str) -> None:
        """Opened anew for each line, so that it may be rotated away at any time."""
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with open(handle, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            log.error(
                "The audit log {path} cannot be written: {reason}; the change stands in this log",
                path=self._path,
                reason=error.strerror,
            )
