"""Who is at the other end of a Twisted transport, and how it fares.

What Twisted's interfaces do not tell is asked of the socket itself, and left
open (nobody is gone, nothing is known to wait) where there is no socket.
"""

from __future__ import annotations

import fcntl
import select
import sys
import termios
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure

from mqttd.interfaces import Peer
from mqttd.net.addresses import plain

#: The peer has closed its side; only Linux has it apart from a full hang-up.
_CLOSED = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


def peer_of(address: IAddress | None) -> Peer:
    """The peer at *address*."""
    host = getattr(address, "host", None)
    if host is None:
        return Peer("unix")
    return Peer(plain(host), getattr(address, "port", 0))


def innermost(transport: Any) -> Any:
    """The transport that has the socket, below TLS and the like."""
    while hasattr(transport, "wrappedProtocol"):
        transport = transport.transport
    return transport


def unread(transport: Any) -> int:
    """Bytes that have come and were not read yet, as far as the kernel tells."""
    return _ask(transport, termios.FIONREAD)


def unread_after_end(transport: Any) -> int | None:
    """Bytes that wait to be read from a peer that has closed; None while it has not.

    A paused socket is not watched, so nobody is told of a FIN or RST. The kernel
    knows; with TCP keepalive it finds out about a peer that vanished, too.
    """
    handle = _descriptor(transport)
    if handle < 0:
        return None
    watch = select.poll()
    watch.register(handle, _CLOSED)
    return unread(transport) if watch.poll(0) else None


def unsent(transport: Any) -> int:
    """Bytes that the peer has not taken yet: in Twisted's buffers and the kernel's.

    The kernel takes in large steps from us while a slow client takes small ones
    from it, so only both together tell whether anything moves.
    """
    inner = innermost(transport)
    begun = len(getattr(inner, "dataBuffer", b"")) - getattr(inner, "offset", 0)
    return begun + int(getattr(inner, "_tempDataLen", 0)) + _ask(inner, termios.TIOCOUTQ)


def _descriptor(transport: Any) -> int:
    """The file descriptor of the socket; -1 where there is none."""
    fileno = getattr(innermost(transport), "fileno", None)
    return -1 if fileno is None else fileno()


def _ask(transport: Any, request: int) -> int:
    """What the kernel says to an ioctl that counts; 0 where there is no socket."""
    handle = _descriptor(transport)
    if handle < 0:
        return 0
    try:
        answer = fcntl.ioctl(handle, request, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(answer, sys.byteorder)


def ending_of(reason: Failure) -> str:
    """How a connection ended, for the metrics."""
    # Not by ``Failure.check``, which compares names and takes ten times as long.
    error = reason.value
    if isinstance(error, ConnectionDone):
        return "closed-by-client"
    if isinstance(error, ConnectionAborted):
        return "aborted"
    return "tls-error" if isinstance(error, SSL.Error) else "connection-lost"
