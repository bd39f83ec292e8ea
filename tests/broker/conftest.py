"""Fixtures of the broker's tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import provider

from tests.broker.harness import BareBroker


@pytest.fixture
def bare() -> Iterator[BareBroker]:
    """A broker with default settings."""
    broker = BareBroker()
    yield broker
    broker.stop()


@pytest.fixture(autouse=True)
def logged_failures() -> Iterator[list[Any]]:
    """Exceptions that the broker logged; a test that means it clears the list."""
    failures: list[Any] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            failures.append(event["log_failure"])

    globalLogPublisher.addObserver(observe)
    yield failures
    globalLogPublisher.removeObserver(observe)
    assert failures == []
