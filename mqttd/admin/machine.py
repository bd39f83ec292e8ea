"""The watch over what the machine gives: file descriptors, clock, certificates.

``Admin`` starts it; ``monitor`` watches the process itself. It raises and clears
alarms, and changes nothing.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from twisted.logger import Logger

from mqttd.admin.alarms import Alarms, Severity

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.timers import Timer

log = Logger()

#: Seconds between looks at the clock and at descriptors, and at certificates.
INTERVAL, CERTIFICATE_INTERVAL = 30.0, 3600.0

#: Shares of the descriptors that may be open: alarm, and all clear.
FILES_HIGH, FILES_LOW = 0.85, 0.75

#: Seconds by which the wall clock must have jumped, and for which the alarm stays.
STEP, STEP_MEMORY = 5.0, 600.0

#: Before a certificate ends: a warning, and more than that.
SOON, VERY_SOON = timedelta(days=21), timedelta(days=3)

FILES_ALARM, CLOCK_ALARM = "file-descriptors", "clock-step"


def open_files() -> int | None:
    """File descriptors that are open; None where this system does not tell."""
    try:
        # Linux 6.2 and later count them there; else they are listed.
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
    except OSError:
        return None


def file_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def clock_offset() -> float:
    """Unix time less monotonic time: constant, unless somebody sets the clock."""
    return time.time() - time.monotonic()


class Machine:
    """Watches for one broker."""

    def __init__(
        self,
        broker: Broker,
        alarms: Alarms,
        *,
        files: Callable[[], int | None] = open_files,
        limit: Callable[[], int] = file_limit,
        offset: Callable[[], float] = clock_offset,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._broker = broker
        self._alarms = alarms
        self._files, self._limit, self._offset, self._now = files, limit, offset, now
        self._timer: Timer | None = None
        self._certificates_due = 0.0
        self._last_offset = 0.0
        self._last_step = 0.0
        #: Alarms of certificates that we have raised.
        self._raised: dict[str, Severity] = {}
        self._unreadable: set[str] = set()

    def start(self) -> None:
        self._last_offset = self._offset()
        self._certificates_due = self._broker.seconds()
        self._look()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = self._broker.seconds()
        self._timer = self._broker.wheel.call_later(INTERVAL, self._look)
        self._watch_files()
        self._watch_clock(now)
        if now >= self._certificates_due:
            self._certificates_due = now + CERTIFICATE_INTERVAL
            self._watch_certificates()

    # --- file descriptors ---------------------------------------------------------

    def _watch_files(self) -> None:
        used, limit = self._files(), self._limit()
        if used is None or limit <= 0:  # below 0: no limit
            return
        if used >= limit * FILES_HIGH:
            self._alarms.activate(
                FILES_ALARM,
                Severity.CRITICAL,
                "file descriptors get short: soon nobody can connect",
                f"{used} of {limit} are open; raise LimitNOFILE of the unit, or ulimit -n",
            )
        elif used < limit * FILES_LOW:
            self._alarms.clear(FILES_ALARM)

    # --- clock --------------------------------------------------------------------

    def _watch_clock(self, now: float) -> None:
        offset = self._offset()
        step, self._last_offset = offset - self._last_offset, offset
        if abs(step) >= STEP:
            self._last_step = now
            # Another jump takes the place of the first.
            self._alarms.clear(CLOCK_ALARM)
            self._alarms.activate(
                CLOCK_ALARM,
                Severity.WARNING,
                "the clock of the machine was set",
                f"it jumped by {step:+.1f} s; expiry of what is stored, bans and tokens go by it",
            )
        elif now - self._last_step >= STEP_MEMORY:
            self._alarms.clear(CLOCK_ALARM)

    # --- certificates -------------------------------------------------------------

    def _watch_certificates(self) -> None:
        found: dict[str, tuple[Severity, str]] = {}
        for path in set(self._paths()):
            ends = self._end_of(path)
            if ends is not None and ends - self._now() < SOON:
                found[f"certificate:{path}"] = self._judge(path, ends)
        for alarm_id in self._raised.keys() - found.keys():
            self._alarms.clear(alarm_id)
            del self._raised[alarm_id]
        for alarm_id, (severity, text) in found.items():
            if self._raised.get(alarm_id) is not severity:
                self._alarms.clear(alarm_id)
                self._raised[alarm_id] = severity
            self._alarms.activate(alarm_id, severity, "a certificate is about to expire", text)

    def _judge(self, path: str, ends: datetime) -> tuple[Severity, str]:
        left = ends - self._now()
        severity = Severity.CRITICAL if left < VERY_SOON else Severity.WARNING
        verb = "ends" if left > timedelta(0) else "has ended"
        return severity, f"{path} {verb} at {ends:%Y-%m-%d %H:%M}Z; renew it, and reload"

    def _paths(self) -> Iterator[str]:
        settings = self._broker.settings
        for listener in settings.listeners:
            if listener.tls is not None:
                yield listener.tls.certificate
                yield from listener.tls.server_names.values()
        if settings.http.certificate:
            yield settings.http.certificate

    def _end_of(self, path: str) -> datetime | None:
        """When the first certificate of a file to expire does so."""
        try:
            chain = x509.load_pem_x509_certificates(Path(path).read_bytes())
        except (OSError, ValueError) as error:
            if path not in self._unreadable:
                self._unreadable.add(path)
                log.warn(
                    "Nobody will be warned when {path} expires: {error}", path=path, error=error
                )
            return None
        self._unreadable.discard(path)
        return min(certificate.not_valid_after_utc for certificate in chain)
