"""The client libraries behind one face, so that a scenario is written once.

Each ``Library`` makes ``Client`` objects whose methods block: ``subscribe``
returns when the broker has answered, ``publish`` when all acknowledgements are
there. What libraries do differently (threads, asyncio, processes) ends here.
"""

from __future__ import annotations

import itertools
import queue
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from attrs import define, field, frozen

from tests.end_to_end.daemon import PATIENCE

#: Protocol level -> how a person writes it.
VERSIONS = {3: "3.1", 4: "3.1.1", 5: "5.0"}

#: For ever, as a Session Expiry Interval.
FOR_EVER = 0xFFFF_FFFF

_names = itertools.count()


def unique(prefix: str) -> str:
    """A client id, or a first topic level, that no other test has."""
    return f"{prefix}{next(_names)}"


@frozen
class Target:
    """Where the broker is, and how to get in."""

    port: int = 0
    #: Unix socket, in place of the port.
    path: str = ""
    #: PEM file of the authority to trust; with it TLS is spoken.
    authority: str = ""
    #: PEM files of the client's own certificate.
    certificate: str = ""
    key: str = ""
    #: Path of MQTT over WebSocket, where that is spoken.
    websocket: str = ""
    user_name: str | None = None
    password: str | None = None


@frozen
class Message:
    topic: str
    payload: bytes
    qos: int
    retain: bool
    #: By the names of ``mqttd.wire.packets.Properties``.
    properties: dict[str, Any] = field(factory=dict, eq=False)


class Refused(Exception):
    """The broker has refused the connection."""


@define
class Will:
    topic: str
    payload: str
    qos: int = 0
    retain: bool = False


class Client(ABC):
    """One client; connected when it has been made."""

    def __init__(self) -> None:
        self.messages: queue.Queue[Message] = queue.Queue()

    def next_message(self, timeout: float = PATIENCE) -> Message:
        try:
            return self.messages.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no message came within {timeout} s") from None

    def publish_many(self, topic: str, payloads: Iterable[str], qos: int) -> None:
        """One after the other; returns when all are acknowledged."""
        for payload in payloads:
            self.publish(topic, payload, qos)

    @abstractmethod
    def subscribe(self, topic_filter: str, qos: int = 0) -> None: ...

    @abstractmethod
    def publish(
        self, topic: str, payload: str, qos: int = 0, retain: bool = False, **properties: Any
    ) -> None: ...

    @abstractmethod
    def disconnect(self) -> None:
        """Say good-bye, and go."""

    @abstractmethod
    def drop(self) -> None:
        """Lose the network connection."""


class Library(ABC):
    """One client library, speaking one version of the protocol."""

    #: ``disconnect`` asks for the will all the same (reason code 0x04).
    leaves_with_will = False

    def __init__(self, version: int) -> None:
        self.version = version
        self._made: list[Client] = []

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()}-{VERSIONS[self.version]}"

    def connect(
        self,
        target: Target,
        client_id: str = "",
        *,
        keep: bool = False,
        will: Will | None = None,
    ) -> Client:
        """*keep*: the session stays when the client goes, and is resumed when it comes.

        Raises ``Refused``.
        """
        client = self.make(target, client_id or unique("client"), keep, will)
        self._made.append(client)
        return client

    @abstractmethod
    def make(self, target: Target, client_id: str, keep: bool, will: Will | None) -> Client: ...

    def close(self) -> None:
        """Cut every client that is left."""
        while self._made:
            self._made.pop().drop()


def tls_context(target: Target) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=target.authority)
    if target.certificate:
        context.load_cert_chain(target.certificate, target.key)
    return context


def hang_up(stream: Any) -> None:
    """End a socket as a network failure does: without a word of MQTT."""
    if stream is not None:
        # It may be closed already.
        with suppress(OSError):
            # paho keeps its WebSocket's socket to itself.
            getattr(stream, "_socket", stream).shutdown(socket.SHUT_RDWR)


def fields_of(will: Will) -> dict[str, Any]:
    return {
        "topic": will.topic,
        "payload": will.payload,
        "qos": will.qos,
        "retain": will.retain,
    }
