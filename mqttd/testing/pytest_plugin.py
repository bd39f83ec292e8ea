"""Fixtures for pytest, found by its entry point ``pytest11``.

=====================  ====================================================
``mqttd_broker``       a broker on a free port, with a recorder and faults
``mqttd_tls_broker``   one with a TLS port too
``mqttd_make_broker``  makes brokers with settings, checkers, plugins
``mqttd_virtual``      a broker on a virtual clock, without sockets
=====================  ====================================================

Every test run in an environment with mqttd imports this module, so it imports nothing
until a fixture is asked for. Each worker of pytest-xdist is a process with brokers of its
own, and each broker has the port that the system gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mqttd.testing import LiveBroker, VirtualBroker


@pytest.fixture
def mqttd_make_broker(tmp_path: Any) -> Iterator[Callable[..., LiveBroker]]:
    """``mqttd_make_broker(settings=None, *, tls=False, checkers=(), ...)``: a
    ``mqttd.testing.LiveBroker`` that is stopped when the test is over."""
    from mqttd.testing import LiveBroker

    made: list[LiveBroker] = []

    def make(*arguments: Any, **more: Any) -> LiveBroker:
        folder = tmp_path / f"mqttd-{len(made)}"
        folder.mkdir()
        made.append(LiveBroker(*arguments, folder=folder, **more))
        return made[-1]

    yield make
    for broker in made:
        broker.stop()


@pytest.fixture
def mqttd_broker(mqttd_make_broker: Callable[..., LiveBroker]) -> LiveBroker:
    """A broker on ``mqttd_broker.host`` and ``.port``, which lets anyone in."""
    return mqttd_make_broker()


@pytest.fixture
def mqttd_tls_broker(mqttd_make_broker: Callable[..., LiveBroker]) -> LiveBroker:
    """One that speaks TLS on ``.tls_port``, with a certificate for localhost that
    ``.authority`` (a PEM file) has signed."""
    return mqttd_make_broker(tls=True)


@pytest.fixture
def mqttd_virtual() -> Iterator[VirtualBroker]:
    """A broker on a virtual clock: ``mqttd_virtual.advance(3600)`` is an hour."""
    from mqttd.testing import VirtualBroker

    virtual = VirtualBroker()
    yield virtual
    virtual.stop()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End the thread that brokers have run in, after all others have stopped theirs."""
    import sys

    live = sys.modules.get("mqttd.testing.live")
    if live is not None:
        live.stop_thread()
