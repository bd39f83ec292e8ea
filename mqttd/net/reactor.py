"""A leaner epoll reactor: ``twistd -r mqttd``.

Twisted's own wraps each event into a log context, so that a line logged by a
protocol says which connection it came from. mqttd's lines say that themselves,
and where one client at a time has something to say, the context costs more than the
message. (Where many have, the ``hub`` makes one event of them.) This reactor leaves it
out and is Twisted's in everything else; it is optional, and mqttd never asks for it.
"""

from __future__ import annotations

import errno

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.python import log


class LeanReactor(EPollReactor):
    """``EPollReactor`` without a log context per event."""

    def doPoll(self, timeout: float | None) -> None:
        """Wait for events, at most *timeout* seconds, and handle them."""
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, len(self._selectables))
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        selectables = self._selectables
        readable = self._POLL_IN
        for fd, event in events:
            # A handler may have closed others of this batch.
            selectable = selectables.get(fd)
            if selectable is None:
                continue
            if event != readable or selectable.fileno() == -1:
                self._doReadOrWrite(selectable, fd, event)  # type: ignore[no-untyped-call]
                continue
            try:
                why = selectable.doRead()
            except BaseException as error:
                # As Twisted does: whatever was raised ends this connection only.
                why = error
                log.err()
            if why:
                self._disconnectSelectable(  # type: ignore[no-untyped-call]
                    selectable, why, True
                )

    doIteration = doPoll


def install() -> None:
    """Make this the reactor of the process."""
    installReactor(LeanReactor())  # type: ignore[no-untyped-call]
