"""What systemd hears of the service."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase

from mqttd.service import MQTTBroker
from mqttd.settings import BrokerSettings, ListenerSettings
from mqttd.systemd import Supervisor
from tests.conftest import find_program

ROOT = Path(__file__).parent.parent


class Manager:
    """The end of the socket that systemd has."""

    def __init__(self, folder: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.path = os.path.join(folder, "notify")
        self.socket.bind(self.path)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        """The first line of each message that has come."""
        lines = []
        while True:
            try:
                lines.append(self.socket.recv(4096).decode().split("\n")[0])
            except BlockingIOError:
                return lines


@pytest.fixture
def manager() -> Iterator[Manager]:
    with tempfile.TemporaryDirectory() as folder:
        manager = Manager(folder)
        yield manager
        manager.socket.close()


def test_without_systemd_nothing_is_said() -> None:
    supervisor = Supervisor({"WATCHDOG_USEC": "1000000"})
    supervisor.ready("x")
    assert supervisor.interval == 0


def test_the_watchdog_is_fed_twice_within_its_limit(manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "3000000"}
    assert Supervisor(environment).interval == 1.5
    assert Supervisor({**environment, "WATCHDOG_PID": "1"}).interval == 0
    assert Supervisor({**environment, "WATCHDOG_USEC": "x"}).interval == 0


def test_a_manager_that_is_gone_harms_nobody(tmp_path: Path) -> None:
    Supervisor({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("x")


def test_an_abstract_socket_is_reached() -> None:
    name = f"mqttd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        Supervisor({"NOTIFY_SOCKET": "@" + name}).alive()
        assert manager.recv(100) == b"WATCHDOG=1"


class Service(TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.manager = Manager(folder.name)
        self.addCleanup(self.manager.socket.close)
        self.endpoint = f"unix:{folder.name}/mqtt"

    def start(self, **settings: Any) -> MQTTBroker:
        listener = ListenerSettings(self.endpoint, allow_anonymous=True)
        environment = {"NOTIFY_SOCKET": self.manager.path, "WATCHDOG_USEC": "20000"}
        broker = MQTTBroker(
            reactor,
            BrokerSettings(listeners=(listener,), **settings),
            reload=lambda: broker.settings,
            supervisor=Supervisor(environment),
        )
        self.addCleanup(broker.stopService)
        broker.startService()
        return broker

    async def test_ready_reloading_alive_stopping(self) -> None:
        broker = self.start()
        assert self.manager.heard()[0] == "READY=1"
        broker.reload()
        said = [line for line in self.manager.heard() if line != "WATCHDOG=1"]
        assert said == ["RELOADING=1", "READY=1"]
        await deferLater(reactor, 0.1)
        assert "WATCHDOG=1" in self.manager.heard()
        await broker.stopService()
        assert [line for line in self.manager.heard() if line != "WATCHDOG=1"] == ["STOPPING=1"]


def test_farewells_can_be_spread() -> None:
    clock = Clock()
    service = MQTTBroker(clock, BrokerSettings(drain_spread=10.0, sys_interval=0))
    service.startService()
    left: list[float] = []
    for number in range(20):
        client = service.broker.client(f"client-{number}")
        clock.advance(0)
        client.addCallback(lambda made: made.when_closed())
        client.addCallback(lambda reason: left.append(clock.seconds()))
    began = clock.seconds()
    stopped = service.stopService()
    clock.pump([0.05] * 250)
    assert stopped.called
    # One every half second, and the last one at the end.
    steps = [after - before for before, after in zip([began, *left], left, strict=False)]
    assert len(left) == 20
    assert max(steps) < 0.7
    assert 9 < left[-1] - began < 10.1


def test_the_unit_is_one() -> None:
    """systemd's own check; it cannot know that the program is not installed here."""
    found = subprocess.run(
        [find_program("systemd-analyze"), "verify", "--man=no", ROOT / "etc" / "mqttd.service"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = [
        line
        for line in found.stderr.splitlines()
        if "mqttd" in line and "is not executable" not in line
    ]
    assert lines == []
