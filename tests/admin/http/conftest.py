"""A broker with its API."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.admin.http.harness import Web


@pytest.fixture
def make_web() -> Iterator[Callable[..., Web]]:
    """Makes one; keywords are those of ``BrokerSettings``, and ``routes``."""
    made: list[Web] = []

    def make(**settings: object) -> Web:
        made.append(Web(**settings))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for web in made:
        web.stop()
        assert web.clock.getDelayedCalls() == []


@pytest.fixture
def web(make_web: Callable[..., Web]) -> Web:
    return make_web()
