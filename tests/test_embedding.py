"""A broker inside a program: it leaves nothing, is not alone, and runs beside asyncio."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import globalLogBeginner
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mqttd import BrokerSettings, ListenerSettings, MQTTBroker
from mqttd.hooks.rewrite import RewriteSettings, Rule, TopicRewrite

reactor: Any = global_reactor

ROOT = Path(__file__).parent.parent

CONNECT = bytes.fromhex("10 0d 00 04 4d515454 04 02 003c 00 01 61")
SUBSCRIBE = bytes.fromhex("82 06 0001 0001 74 00")

#: Cycles of start and stop, and those of them before the measurement begins;
#: .ci/run asks for more.
CYCLES = int(os.environ.get("MQTTD_CYCLES", "200"))
WARM = CYCLES // 5

#: Objects that may have been gained in between: less than two in a cycle.
TOLERATED = 2 * (CYCLES - WARM)


class Peer(Protocol):
    """A client on a socket: connected, subscribed to "t", then told to go."""

    def __init__(self) -> None:
        self.data = b""
        self.got: Deferred[bytes] = Deferred()
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(CONNECT + SUBSCRIBE)

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if b"hello" in self.data and not self.got.called:
            self.got.callback(self.data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)


def settings(*endpoints: str) -> BrokerSettings:
    listeners = (ListenerSettings(endpoint, allow_anonymous=True) for endpoint in endpoints)
    return BrokerSettings(listeners=tuple(listeners), sys_interval=0.0, drain_timeout=5.0)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Embedded(TestCase):
    async def cycle(self) -> weakref.ref[Any]:
        """Start a broker, let it do something of everything, stop it."""
        plugin = TopicRewrite(RewriteSettings((Rule("old/#", "$1"),)))
        mqtt = MQTTBroker(reactor, settings("tcp:0:interface=127.0.0.1"), plugins=[plugin])
        mqtt.startService()
        (listener,) = mqtt.listeners.values()
        address: Any = listener.address
        peer = Peer()
        await connectProtocol(HostnameEndpoint(reactor, b"127.0.0.1", address.port), peer)
        client = await mqtt.broker.client("app", session_expiry=100)
        inbox = await client.subscribe("t", qos=1, user_property=[("max-rate", "1/h")])
        while mqtt.broker.router.subscription_count < 2:
            await client.publish("tick")
            await later()
        await client.publish("old/t", b"hello", 2, retain=True)
        await peer.got
        await inbox.get()
        await mqtt.stopService()
        await peer.gone
        return weakref.ref(mqtt.broker)

    @pytest.mark.slow
    async def test_many_cycles_leave_nothing(self) -> None:
        # Until logging has begun, Twisted keeps the last 65,536 events.
        globalLogBeginner.beginLoggingTo([], redirectStandardIO=False)
        for _ in range(WARM):
            broker = await self.cycle()
        gc.collect()
        assert broker() is None
        calls, threads = len(reactor.getDelayedCalls()), threading.active_count()
        readers, files = len(reactor.getReaders()), descriptors()
        before = sys.getallocatedblocks()
        for _ in range(CYCLES - WARM):
            await self.cycle()
        gc.collect()
        assert sys.getallocatedblocks() - before < TOLERATED
        assert len(reactor.getDelayedCalls()) == calls
        assert len(reactor.getReaders()) == readers
        # Those that there are belong to the resolver of the test's own client.
        assert threading.active_count() <= max(threads, 12)
        assert descriptors() == files

    test_many_cycles_leave_nothing.timeout = 300  # type: ignore[attr-defined]

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


def later() -> Deferred[None]:
    turn: Deferred[None] = Deferred()
    reactor.callLater(0, turn.callback, None)
    return turn


def test_it_runs_beside_asyncio_code() -> None:
    found = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "asyncio_app.py")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == ["21.5 degrees in the kitchen", "stopped"]
