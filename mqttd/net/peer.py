"""Who is at the other end of a Twisted transport, and whether he still is."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.interfaces import IAddress

from mqttd.interfaces import Peer
from mqttd.net.addresses import plain

# States of Linux's tcp_info in which the peer has closed (net/tcp_states.h).
_CLOSED_STATES = frozenset((7, 8, 9))
_TCP_INFO = getattr(socket, "TCP_INFO", None)


def peer_of(address: IAddress | None) -> Peer:
    """The peer at *address*."""
    host = getattr(address, "host", None)
    if host is None:
        return Peer("unix")
    return Peer(plain(host), getattr(address, "port", 0))


def peer_is_gone(transport: Any) -> bool:
    """Whether the peer has closed a connection that is not being read.

    A paused socket is not watched, so nobody is told of a FIN or RST; its state
    in the kernel shows it, even with unread data before it. False where the
    kernel does not tell (TCP keepalive is on for that case).
    """
    while hasattr(transport, "wrappedProtocol"):
        transport = transport.transport
    handle = getattr(transport, "getHandle", lambda: None)()
    if _TCP_INFO is None or not isinstance(handle, socket.socket):
        return False
    try:
        state = handle.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 1)
    except OSError:
        return False
    return state[0] in _CLOSED_STATES
