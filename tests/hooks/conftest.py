"""Fixtures of the tests of plugins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mqttd.plugins import Plugins
from mqttd.testing import VirtualBroker

Use = Callable[..., VirtualBroker]


@pytest.fixture
def use() -> Iterator[Use]:
    """``use(plugin, ..., **more)`` is a virtual broker with these plugins."""
    made: list[tuple[VirtualBroker, Plugins]] = []

    def use(*plugins: object, **more: Any) -> VirtualBroker:
        virtual = VirtualBroker(**more)
        running = Plugins(virtual.broker, (), plugins)
        running.start()
        made.append((virtual, running))
        return virtual

    yield use
    for virtual, running in made:
        virtual.broker.drain()
        virtual.advance()
        stopped = running.stop()
        virtual.advance(10)
        assert stopped.called
        virtual.stop()
        assert virtual.clock.getDelayedCalls() == []
