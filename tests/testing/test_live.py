"""A real broker in a thread, for clients that block and for those with a loop."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import aiomqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mqttd.settings import BrokerSettings
from mqttd.testing import BrokerMixin, LiveBroker
from mqttd.testing.live import reactor_thread
from mqttd.wire.packets import Puback
from tests.conftest import absent


@pytest.fixture
def live() -> Iterator[LiveBroker]:
    with LiveBroker() as broker:
        yield broker


@contextmanager
def connected(port: int, client_id: str = "x", **more: Any) -> Iterator[paho.Client]:
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5)
    for name, value in more.items():
        getattr(client, name)(**value)
    here = threading.Event()
    client.on_connect = lambda *_: here.set()
    client.connect("localhost" if "tls_set_context" in more else "127.0.0.1", port)
    client.loop_start()
    try:
        assert here.wait(20)
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def test_a_client_that_blocks_is_served(live: LiveBroker) -> None:
    with connected(live.port) as client:
        client.publish("t", b"1", 2).wait_for_publish(20)
        assert live.wait_for("t").payload == b"1"
        assert live.clients() == ["x"]


def test_messages_reach_the_client(live: LiveBroker) -> None:
    got: list[bytes] = []
    came, subscribed = threading.Event(), threading.Event()

    def received(client: Any, data: Any, message: Any) -> None:
        got.append(message.payload)
        came.set()

    with connected(live.port) as client:
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = received
        client.subscribe("t", 1)
        assert subscribed.wait(20)
        assert live.subscriptions("x") == ["t"]
        live.publish("t", "hello", 1)
        assert came.wait(20)
    assert got == [b"hello"]


def test_an_asyncio_client_is_served(live: LiveBroker) -> None:
    async def talk() -> bytes:
        async with aiomqtt.Client(live.host, live.port, identifier="aio") as client:
            await client.subscribe("t")
            await client.publish("t", b"1", 1)
            async for message in client.messages:
                payload: Any = message.payload
                return bytes(payload)
        raise AssertionError

    assert asyncio.run(asyncio.wait_for(talk(), 20)) == b"1"


def test_tls_with_a_certificate_that_can_be_checked(tmp_path: Path) -> None:
    with LiveBroker(tls=True, folder=tmp_path) as live:
        context = ssl.create_default_context(cafile=live.authority)
        with connected(live.tls_port, tls_set_context={"context": context}) as client:
            client.publish("t", b"1", 1).wait_for_publish(20)
        assert live.wait_for("t").payload == b"1"
        assert live.tls_port != live.port


def test_several_brokers_share_the_thread_and_nothing_else() -> None:
    threads = threading.active_count()
    with LiveBroker() as one, LiveBroker() as two:
        assert one.port != two.port
        one.publish("t", b"1", retain=True)
        assert (one.retained("t"), two.retained("t")) == (b"1", None)
        assert threading.active_count() <= threads + 1


def test_a_port_may_be_given() -> None:
    with LiveBroker() as one:
        port = one.port
    with LiveBroker(port=port) as other:
        assert other.port == port
        other.publish("t", b"1", retain=True)


def test_it_can_be_stopped_after_its_thread() -> None:
    code = (
        "from mqttd.testing import LiveBroker, live\n"
        "broker = LiveBroker()\n"
        "live.stop_thread()\n"
        "broker.stop()\n"
    )
    # Half a minute would be the time limit of a call that nobody answers.
    assert subprocess.run([sys.executable, "-c", code], timeout=25).returncode == 0


def test_a_restart_is_on_the_same_port_and_forgets(live: LiveBroker) -> None:
    live.publish("t", b"1", retain=True)
    port = live.port
    live.restart()
    assert live.port == port
    assert live.retained("t") is None
    with connected(live.port) as client:
        client.publish("after", b"", 1).wait_for_publish(20)
    live.wait_for("after")


@pytest.mark.parametrize("how", ["kick", "drop"])
def test_connections_can_be_ended(live: LiveBroker, how: str) -> None:
    with connected(live.port) as client:
        gone = threading.Event()
        client.on_disconnect = lambda *_: gone.set()
        getattr(live, how)("x")
        assert gone.wait(20)


def test_faults_are_had_on_real_sockets(live: LiveBroker) -> None:
    with connected(live.port) as client:
        live.faults.drop(Puback)
        lost = client.publish("t", b"1", 1)
        kept = client.publish("t", b"2", 1)
        kept.wait_for_publish(20)
        assert not lost.is_published()


def test_settings_and_checkers_are_taken() -> None:
    checker = InMemoryUsernamePasswordDatabaseDontUse(alice=b"secret")
    settings = BrokerSettings(node="mine", drain_timeout=1.0)
    with LiveBroker(settings, checkers=[checker]) as live:
        assert live.call(lambda: live.broker.node) == "mine"
        who = {"username": "alice", "password": "secret"}
        with connected(live.port, username_pw_set=who) as client:
            client.publish("t", b"", 1).wait_for_publish(20)


def test_what_fails_there_is_raised_here(live: LiveBroker) -> None:
    def fail() -> None:
        raise ValueError("meant to be")

    with pytest.raises(ValueError, match="meant to be"):
        live.call(fail)
    deferred: Deferred[int] = Deferred()

    def later() -> Any:
        reactor_thread().reactor.callLater(0, deferred.callback, 7)
        return deferred

    assert live.call(later) == 7


def test_a_callback_that_would_wait_for_itself_is_told(live: LiveBroker) -> None:
    with pytest.raises(RuntimeError, match="wait for itself"):
        live.call(live.clients)


def test_the_global_reactor_stays_free() -> None:
    code = """
import sys
from mqttd.testing import LiveBroker
with LiveBroker() as live:
    live.publish("t", b"1")
    assert live.wait_for("t").payload == b"1"
sys.exit("twisted.internet.reactor" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr


class OnTheReactorOfTheTest(BrokerMixin, TestCase):
    def test_a_broker_is_there_and_goes(self) -> Any:
        serving = self.start_broker(tls=True)
        assert serving.tls_port
        serving.broker.publish("t", b"1")
        assert serving.recorder.wait_for("t", timeout=0).payload == b"1"
        return serving.broker.client("app").addCallback(lambda client: client.publish("t", b"2", 1))


# --- fixtures -------------------------------------------------------------------------

PROJECT = """
import threading
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion


@pytest.mark.parametrize("number", range({count}))
def test_publish(mqttd_broker, number):
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect(mqttd_broker.host, mqttd_broker.port)
    client.loop_start()
    client.publish("t", str(number), 1).wait_for_publish(30)
    client.disconnect()
    client.loop_stop()
    assert mqttd_broker.wait_for("t").payload == b"%d" % number
    mqttd_broker.recorder.expect_none("t")


def test_tls(mqttd_tls_broker):
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.tls_set(mqttd_tls_broker.authority)
    client.connect("localhost", mqttd_tls_broker.tls_port)
    client.disconnect()


def test_settings(mqttd_make_broker):
    one, two = mqttd_make_broker(), mqttd_make_broker(tls=True)
    assert len({{one.port, two.port, two.tls_port}}) == 3


def test_virtual_time(mqttd_virtual):
    client = mqttd_virtual.connect("x", keep_alive=10)
    mqttd_virtual.advance(3600)
    assert client.closed
"""


@pytest.mark.slow
def test_the_fixtures_serve_a_project_in_parallel(tmp_path: Path) -> None:
    if not any(point.name == "mqttd" for point in entry_points(group="pytest11")):
        absent("the entry point of the pytest plugin", "pip install -e '.[test]'")
    (tmp_path / "test_project.py").write_text(PROJECT.format(count=3))
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "6 passed" in found.stdout


def test_the_plugin_costs_other_projects_nothing() -> None:
    code = "import sys, mqttd.testing.pytest_plugin; sys.exit('twisted' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
