"""What systemd wants to hear of a service (sd_notify): ready, reloading, stopping, alive.

``tap.py`` gives a ``Supervisor`` to the service of the daemon. Without systemd, that is
without ``$NOTIFY_SOCKET``, it says nothing. The protocol is one datagram of text to a
Unix socket, so that no library is needed.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from twisted.logger import Logger

log = Logger()


class Supervisor:
    """Who started the process and watches it."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._address = environment.get("NOTIFY_SOCKET", "")
        #: Seconds between signs of life; 0: none are wanted.
        self.interval = self._interval(environment)

    def _interval(self, environment: Mapping[str, str]) -> float:
        limit = environment.get("WATCHDOG_USEC", "")
        pid = environment.get("WATCHDOG_PID", str(os.getpid()))
        if not self._address or not limit.isdecimal() or pid != str(os.getpid()):
            return 0.0
        # Twice within the limit, as sd_watchdog_enabled(3) advises.
        return int(limit) / 2_000_000

    def ready(self, status: str) -> None:
        """The service serves; *status* is for people."""
        self._say("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is being read again; ``ready`` follows."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """No client is let in any more."""
        self._say("STOPPING=1", "STATUS=taking leave of the clients")

    def alive(self) -> None:
        """The event loop turns."""
        self._say("WATCHDOG=1")

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        # "@" stands for the abstract namespace.
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)
                out.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.warn("systemd cannot be told {what}: {error}", what=lines[0], error=error)
