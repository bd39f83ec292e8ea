"""A broker on virtual time that is watched, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from mqttd.admin import Admin
from mqttd.admin.memory import Memory
from mqttd.settings import BrokerSettings
from mqttd.testing import VirtualBroker

#: Unix time at which every test begins: 2026-01-02 03:04:05 UTC.
BEGIN = 1_767_323_045.0

MIB = 1024 * 1024


class Watched:
    """A ``VirtualBroker`` with an ``Admin``, whose memory the test decides."""

    def __init__(self, settings: BrokerSettings) -> None:
        self.virtual = VirtualBroker(settings)
        self.broker = self.virtual.broker
        self.memory = Memory(100 * MIB, 120 * MIB)
        self.admin = Admin(
            self.broker,
            wall_clock=lambda: BEGIN + self.virtual.clock.seconds(),
            memory=lambda: self.memory,
            limit=1000 * MIB,
        )
        self.admin.start()
        self.connect, self.advance = self.virtual.connect, self.virtual.advance

    def retained(self, topic: str) -> str | None:
        """What a client that subscribes to *topic* now is sent."""
        message = self.broker.retained.get(topic)
        return None if message is None else message.payload.decode()

    def node(self, name: str) -> str | None:
        """The same, below this node's own prefix."""
        return self.retained("$SYS/brokers/node-1/" + name)

    def topics(self, under: str = "$SYS") -> set[str]:
        """Every topic on which something is retained."""
        return {message.topic for message in self.broker.retained.match(under + "/#")}

    def stall(self, seconds: float) -> None:
        """The event loop does not turn for so long."""
        self.virtual.clock.advance(seconds)

    def stop(self) -> None:
        self.admin.stop()
        self.virtual.stop()


@pytest.fixture
def watch() -> Iterator[Callable[..., Watched]]:
    """Makes a watched broker; keywords are those of ``BrokerSettings``."""
    made: list[Watched] = []

    def make(**settings: object) -> Watched:
        settings.setdefault("node", "node-1")
        made.append(Watched(BrokerSettings(**settings)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for watched in made:
        watched.stop()
        assert watched.virtual.clock.getDelayedCalls() == []
