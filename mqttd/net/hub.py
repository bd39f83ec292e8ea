"""The clients that have something to say, in one event of the reactor.

A reactor does much for each event that a small message does not need: it makes a log
context, asks what kind of descriptor it has, and on asyncio's a handle of a call. The
connections of a broker are watched by an ``epoll`` of their own instead, which is itself
watched by the reactor, whichever that is, and is one event for it however many have sent
something. What they cause for others is gathered meanwhile, and leaves at the end: of a
hundred that publish to one client, that client gets one piece.

The listener gives a hub to the transports of its port (``eager``). Without ``epoll`` there
is none, and the reactor watches each by itself. Output that waits for room in a socket is
the reactor's business in any case.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from mqttd.net.outbound import Flusher

if TYPE_CHECKING:
    from mqttd.net.eager import EagerServer

log = Logger()

#: Events that are handled before others than clients have their turn.
MOST = 64

_FAILURES = {id(why): Failure(why) for why in (CONNECTION_DONE, CONNECTION_LOST)}


class Hub:
    """What watches the sockets of a broker's connections; one per broker."""

    def __init__(self, reactor: Any, flusher: Flusher) -> None:
        self._reactor = reactor
        self._flusher = flusher
        self._epoll: Any = None
        self._watched: dict[int, EagerServer] = {}
        #: How many listeners may bring more.
        self._listeners = 0

    @staticmethod
    def serves(reactor: Any) -> bool:
        """Whether there can be one with *reactor*."""
        return hasattr(select, "epoll") and IReactorFDSet.providedBy(reactor)

    def open(self) -> None:
        """A listener begins."""
        self._listeners += 1
        if self._epoll is None:
            self._begin()

    def close(self) -> None:
        """A listener ends; the hub does with the last of them and of their clients."""
        self._listeners -= 1
        self._end_if_idle()

    def _begin(self) -> None:
        self._epoll = select.epoll()
        self._reactor.addReader(self)

    def _end_if_idle(self) -> None:
        if not (self._watched or self._listeners) and self._epoll is not None:
            self._reactor.removeReader(self)
            self._epoll.close()
            self._epoll = None

    def watch(self, transport: EagerServer) -> int:
        """Have *transport* read when there is something; returns its number here."""
        if self._epoll is None:
            self._begin()
        number = transport.fileno()
        self._epoll.register(number, select.EPOLLIN)
        self._watched[number] = transport
        return number

    def forget(self, number: int) -> None:
        """Watch what ``watch`` has given *number* no more."""
        del self._watched[number]
        self._epoll.unregister(number)
        if not self._watched:
            self._end_if_idle()

    def fileno(self) -> int:
        number: int = self._epoll.fileno()
        return number

    def logPrefix(self) -> str:
        return "mqttd"

    def doRead(self) -> None:
        """Let those read that can; the reactor calls it."""
        flusher, watched = self._flusher, self._watched
        events = self._epoll.poll(0, MOST)
        # A lone message is best written as it comes.
        gathered = len(events) > 1
        flusher.chunks += gathered
        for number, _ in events:
            # One that was served before may have closed it.
            transport = watched.get(number)
            if transport is None:
                continue
            try:
                why = transport.doRead()
            except BaseException as error:
                # As Twisted does: whatever was raised ends this connection only.
                log.failure("A connection failed")
                why = error
            if why is not None:
                _end(transport, why)
        flusher.chunks -= gathered
        if flusher.touched and not flusher.chunks:
            flusher.flush()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops, and ends what it watches."""
        for transport in list(self._watched.values()):
            _end(transport, CONNECTION_LOST)


def _end(transport: EagerServer, why: BaseException) -> None:
    """What a reactor does when *why* is the outcome of a read."""
    reason = _FAILURES.get(id(why)) or Failure(why)
    try:
        # That the client has closed its side only is the same to this transport.
        transport.connectionLost(reason)
    except Exception:
        # The others have nothing to do with it.
        log.failure("A connection could not be ended properly")


# Not by decorator: a decorated class is not compiled.
classImplements(Hub, IReadDescriptor)
