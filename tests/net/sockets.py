"""Real listeners on the loopback interface, and clients that block in a thread.

A case serves with ``listen``; whatever a client does by ``self.client(...)``
runs in a thread of its own, so that the reactor goes on.
"""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from mqttd.broker.broker import Broker
from mqttd.net.factory import Network
from mqttd.net.listener import Listener
from mqttd.settings import BrokerSettings, ListenerSettings
from mqttd.wire.packets import Connect
from mqttd.wire.serializer import serialize

T = TypeVar("T")

CONNECT = serialize(Connect("a", 5), 5)
#: How a CONNACK begins, whatever it says.
CONNACK = b"\x20"
LOOPBACK = "tcp:0:interface=127.0.0.1"


def open_socket(address: Any, first: bytes = b"") -> socket.socket:
    """A connection on which *first* was sent; a path is that of a Unix socket."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    if not isinstance(address, str) and ":" in address[0]:
        family = socket.AF_INET6
    stream = socket.socket(family)
    stream.settimeout(60)
    stream.connect(address)
    if first:
        stream.sendall(first)
    return stream


def answer(stream: socket.socket) -> bytes:
    """The first bytes that come; b"" when the other side closes."""
    try:
        return stream.recv(4096)
    except ConnectionResetError:
        return b""


def ask(address: Any, data: bytes = CONNECT) -> bytes:
    """Send *data* on a new connection, and what is answered."""
    with open_socket(address, data) as stream:
        return answer(stream)


class OnSockets(TestCase):
    """Whatever is started ends with the test, sockets included."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.broker = Broker(BrokerSettings(), reactor, seconds=time.monotonic)
        self.broker.start()
        self.network = Network(self.broker)
        self.listeners: list[Listener] = []
        self.addCleanup(self.end)

    async def end_all(self) -> None:
        for listener in self.listeners:
            await listener.stop()
            listener.abort()
        await self.until(lambda: not any(each.connections for each in self.listeners))
        self.broker.stop()
        self.network.flusher.stop()

    def end(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.end_all())

    async def listen(self, endpoint: str = LOOPBACK, **fields: Any) -> Listener:
        fields.setdefault("allow_anonymous", True)
        listener = Listener(reactor, self.network, ListenerSettings(endpoint, **fields))
        self.listeners.append(listener)
        await listener.start()
        return listener

    def where(self, listener: Listener) -> Any:
        """The address to connect to."""
        address: Any = listener.address
        return (address.host, address.port)

    def client(self, work: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Run *work* in a thread."""
        return threads.deferToThread(work, *arguments)

    async def until(self, happened: Callable[[], bool], seconds: float = 60) -> None:
        """Let the reactor turn until *happened*."""
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, "it has not happened in time"
            await deferLater(reactor, 0.005)

    @property
    def refused(self) -> dict[str, int]:
        return dict(self.broker.metrics.refused)
