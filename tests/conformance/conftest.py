"""Fixtures of the conformance tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import provider

from mqttd.testing import VirtualBroker


@pytest.fixture
def mqtt() -> Iterator[VirtualBroker]:
    """A broker with default settings."""
    broker = VirtualBroker()
    yield broker
    broker.stop()


@pytest.fixture(params=["plain way", "fast lane"])
def publish(
    request: pytest.FixtureRequest, mqtt: VirtualBroker, version: int
) -> Callable[..., None]:
    """Publishes to "t" in both ways that messages take through the broker.

    The fast lane is for what a client of the receivers' version sends to a topic
    that it has used before; acknowledgements go by it as well.
    """
    if request.param == "plain way":
        mqtt.broker.use_fast_lane = False
    client = mqtt.connect("publisher", version)
    for qos in (0, 1, 2):
        client.publish("t", b"nobody is here yet", qos=qos)

    def publish(topic: str, payload: bytes = b"", qos: int = 0, **fields: Any) -> None:
        client.publish(topic, payload, qos=qos, **fields)

    return publish


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
