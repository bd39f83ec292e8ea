"""A broker on virtual time, and links to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mqttd.client import Client, ClientSettings
from mqttd.testing import VirtualBroker
from tests.client.link import Link


class Net:
    """A broker, and clients that are linked to it."""

    def __init__(self) -> None:
        self.broker = VirtualBroker()
        self.clock = self.broker.clock
        self.links: dict[Client, Link] = {}

    def client(self, client_id: str = "c", version: int = 5, **more: Any) -> Client:
        """A client that has started."""
        options = {k: more.pop(k) for k in ("store", "on_message", "at_once") if k in more}
        link = Link(self.clock, self.broker.factory.buildProtocol)
        settings = ClientSettings(client_id, version, **more)
        client = Client(self.clock, link, settings, **options)
        self.links[client] = link
        client.startService()
        self.advance()
        return client

    def cut(self, client: Client) -> None:
        self.links[client].cut()
        self.advance()

    def advance(self, seconds: float = 0) -> None:
        self.broker.advance(seconds)


@pytest.fixture
def net() -> Iterator[Net]:
    net = Net()
    yield net
    for client in net.links:
        if client.running:
            client.stopService()
    net.advance()
    net.broker.stop()
    net.advance(60)
