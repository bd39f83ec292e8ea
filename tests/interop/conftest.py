"""Fixtures of the tests after public suites."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mqttd.testing import VirtualBroker


@pytest.fixture
def broker() -> Iterator[VirtualBroker]:
    """A broker with default settings."""
    broker = VirtualBroker()
    yield broker
    broker.stop()
