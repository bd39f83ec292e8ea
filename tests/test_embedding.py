"""A broker inside a program: it leaves nothing, is not alone, and runs beside asyncio."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as global_reactor
from twisted.trial.unittest import TestCase

from mqttd import BrokerSettings, ListenerSettings, MQTTBroker

reactor: Any = global_reactor

ROOT = Path(__file__).parent.parent


def settings(*endpoints: str) -> BrokerSettings:
    listeners = (ListenerSettings(endpoint, allow_anonymous=True) for endpoint in endpoints)
    return BrokerSettings(listeners=tuple(listeners), sys_interval=0.0, drain_timeout=5.0)


class Embedded(TestCase):
    async def test_several_brokers_know_nothing_of_each_other(self) -> None:
        brokers = [MQTTBroker(reactor, settings("tcp:0:interface=127.0.0.1")) for _ in range(3)]
        for mqtt in brokers:
            mqtt.startService()
        clients = [await mqtt.broker.client("same") for mqtt in brokers]
        inboxes = [await client.subscribe("t") for client in clients]
        await clients[0].publish("t", b"first", retain=True)
        assert (await inboxes[0].get()).payload == b"first"
        assert [len(inbox) for inbox in inboxes] == [0, 0, 0]
        assert [mqtt.broker.retained.get("t") is None for mqtt in brokers] == [False, True, True]
        await brokers[0].stopService()
        await clients[1].publish("t", b"second")
        assert (await inboxes[1].get()).payload == b"second"
        for mqtt in brokers[1:]:
            await mqtt.stopService()

    async def test_without_listeners_there_is_the_client_in_the_process(self) -> None:
        mqtt = MQTTBroker(reactor, settings())
        mqtt.startService()
        client = await mqtt.broker.client("app")
        inbox = await client.subscribe("t")
        await client.publish("t", b"1", 2)
        assert (await inbox.get()).payload == b"1"
        await mqtt.stopService()
        assert client.ending == "shutdown"


@pytest.mark.slow
def test_starting_and_stopping_leaves_nothing() -> None:
    # .ci/run does it a thousand times.
    found = subprocess.run(
        [sys.executable, "-m", "tests.cycles", "100"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_it_runs_beside_asyncio_code() -> None:
    found = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "asyncio_app.py")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == ["21.5 degrees in the kitchen", "stopped"]
