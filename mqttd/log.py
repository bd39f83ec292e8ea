"""What the daemon's log shows, and in which form.

``tap.py`` uses it for ``[log]`` and ``--log-*``; ``twistd --logger=mqttd.log.json``
uses ``json``. Modules log through ``twisted.logger`` and do not know this one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogBeginner,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsJSON,
    jsonFileLogObserver,
)


def json() -> ILogObserver:
    """An observer that writes JSON, one event a line, to standard output."""
    return jsonFileLogObserver(sys.stdout, "")


class LogControl:
    """Which events are written; may be changed while the daemon runs."""

    def __init__(self) -> None:
        self._predicate = LogLevelFilterPredicate()
        self._as_json = False

    def apply(self, level: str, levels: Mapping[str, str], log_format: str = "text") -> None:
        """Write what is at least *level*; in a module of *levels*, at least that."""
        self._predicate.clearLogLevels()
        self._predicate.setLogLevelForNamespace("", LogLevel.levelWithName(level))
        for module, own in levels.items():
            self._predicate.setLogLevelForNamespace(module, LogLevel.levelWithName(own))
        self._as_json = log_format == "json"

    def attach(self, beginner: LogBeginner) -> None:
        """Filter what *beginner*, once the runner starts it, hands to observers.

        twistd and twist choose the observer and its file by their own options
        and start it after the service is made, so there is no later moment at
        which a service could still put itself before it.
        """
        begin = beginner.beginLoggingTo

        def begin_filtered(observers: Iterable[ILogObserver], *args: Any, **named: Any) -> None:
            begin([self._controlled(observer) for observer in observers], *args, **named)

        beginner.beginLoggingTo = begin_filtered  # type: ignore[method-assign]

    def _controlled(self, observer: ILogObserver) -> ILogObserver:
        if self._as_json and isinstance(observer, FileLogObserver):
            observer.formatEvent = _json_line
        return FilteringLogObserver(observer, [self._predicate])


def _json_line(event: LogEvent) -> str:
    return eventAsJSON(event) + "\n"
