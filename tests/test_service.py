"""The service's life, on real sockets; the daemon's, in a process of its own."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from attrs import evolve
from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mqttd.admin.tracing import TraceError, Wanted
from mqttd.config import ConfigError, parse_settings
from mqttd.service import MQTTBroker, StartError, raise_file_limit
from mqttd.settings import (
    BrokerSettings,
    ConnectionLimits,
    ListenerSettings,
    Rate,
    RetainedSettings,
    SharedLimits,
)
from mqttd.settings_watch import FlightSettings, TraceSettings

ROOT = Path(__file__).parent.parent

CONNECT_311 = bytes.fromhex("10 0d 00 04 4d515454 04 02 003c 00 01 61")
CONNECT_5 = bytes.fromhex("10 0e 00 04 4d515454 05 02 003c 00 00 01 62")


def receive(stream: socket.socket, until: bytes | None = None) -> bytes:
    """All that comes until *until* was seen, or the end of the stream."""
    data = b""
    while until is None or until not in data:
        piece = stream.recv(4096)
        if not piece:
            break
        data += piece
    return data


def connect(path: str, packet: bytes = CONNECT_311) -> socket.socket:
    """A client on the Unix socket *path* that has its CONNACK."""
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(60)
    stream.connect(path)
    stream.sendall(packet)
    head = stream.recv(1)
    assert head == b"\x20", head
    (length,) = stream.recv(1)
    body = stream.recv(length)
    assert body[1] == 0, body
    return stream


def busy_port() -> socket.socket:
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.listen()
    return holder


class OnSockets(TestCase):
    def setUp(self) -> None:
        # Short, since the path of a Unix socket must be.
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.first, self.second = (os.path.join(folder.name, name) for name in "ab")
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)

    def settings(self, *paths: str, **more: Any) -> BrokerSettings:
        listeners = tuple(ListenerSettings(f"unix:{path}", allow_anonymous=True) for path in paths)
        return BrokerSettings(listeners=listeners, drain_timeout=2.0, **more)

    def start(self, settings: BrokerSettings, **more: Any) -> MQTTBroker:
        service = MQTTBroker(reactor, settings, **more)
        service.privilegedStartService()
        service.startService()
        self.addCleanup(service.stopService)
        return service

    async def connect(self, path: str, packet: bytes = CONNECT_311) -> socket.socket:
        stream = await threads.deferToThread(connect, path, packet)
        self.addCleanup(stream.close)
        return stream

    def refused(self, path: str) -> None:
        with closing(socket.socket(socket.AF_UNIX)) as stream:
            assert stream.connect_ex(path) != 0

    async def test_clients_connect_to_each_listener(self) -> None:
        service = self.start(self.settings(self.first, self.second))
        await self.connect(self.first)
        await self.connect(self.second, CONNECT_5)
        assert set(service.broker.connections) == {"a", "b"}

    async def test_a_runner_may_leave_out_the_privileged_start(self) -> None:
        service = MQTTBroker(reactor, self.settings(self.first))
        service.startService()
        self.addCleanup(service.stopService)
        await self.connect(self.first)

    async def test_a_port_in_use_leaves_nothing_open(self) -> None:
        with closing(busy_port()) as holder:
            endpoint = f"tcp:{holder.getsockname()[1]}:interface=127.0.0.1"
            settings = self.settings(self.first)
            busy = ListenerSettings(endpoint, allow_anonymous=True)
            settings = evolve(settings, listeners=(*settings.listeners, busy))
            service = MQTTBroker(reactor, settings)
            with pytest.raises(StartError, match="Address already in use") as refused:
                service.privilegedStartService()
        assert endpoint in str(refused.value)
        assert service.listeners == {}
        while os.path.exists(self.first):
            await deferLater(reactor, 0)

    async def test_a_listener_without_any_access_does_not_start(self) -> None:
        service = MQTTBroker(reactor, BrokerSettings(listeners=(ListenerSettings("tcp:0"),)))
        with pytest.raises(ConfigError, match="allow_anonymous = true"):
            service.startService()
        assert service.listeners == {}

    async def test_stopping_says_farewell_and_closes(self) -> None:
        service = self.start(self.settings(self.first))
        old = await self.connect(self.first)
        new = await self.connect(self.first, CONNECT_5)
        received = threads.deferToThread(receive, new)
        await service.stopService()
        # DISCONNECT with reason 0x8B.
        assert (await received)[:1] == b"\xe0"
        assert (await received)[2:3] == b"\x8b"
        assert await threads.deferToThread(receive, old) == b""
        self.refused(self.first)

    async def test_a_client_that_does_not_read_is_cut(self) -> None:
        limits = ConnectionLimits(close_timeout=60)
        settings = self.settings(self.first)
        listener = evolve(settings.listeners[0], limits=limits)
        service = self.start(evolve(settings, listeners=(listener,), drain_timeout=0.3))
        await self.connect(self.first)
        transport = service.broker.connections["a"].transport
        transport.write(b"\xd0\x00" * 4_000_000)
        began = time.monotonic()
        await service.stopService()
        # The client itself would have had a minute.
        assert time.monotonic() - began < 30

    async def test_it_starts_again_after_a_stop(self) -> None:
        service = self.start(self.settings(self.first))
        await service.stopService()
        service.startService()
        await self.connect(self.first)

    async def test_listeners_come_and_go(self) -> None:
        service = self.start(self.settings(self.first))
        staying = await self.connect(self.first)
        result = service.take_over(self.settings(self.second))
        assert result.errors == ()
        assert set(result.changed) == {
            f"listener unix:{self.first} closed",
            f"listener unix:{self.second} opened",
        }
        await self.connect(self.second, CONNECT_5)
        self.refused(self.first)
        # PINGREQ: the client of the listener that is gone is still served.
        staying.sendall(b"\xc0\x00")
        assert await threads.deferToThread(receive, staying, b"\xd0\x00") == b"\xd0\x00"
        await service.stopService()
        assert await threads.deferToThread(receive, staying) == b""

    async def test_new_limits_hold_for_new_connections(self) -> None:
        service = self.start(self.settings(self.first))
        settings = self.settings(self.first)
        protocol = evolve(settings.protocol, topic_alias_maximum=7)
        listener = evolve(settings.listeners[0], protocol=protocol)
        result = service.take_over(evolve(settings, listeners=(listener,)))
        assert result.changed == (f"listener unix:{self.first}",)
        await self.connect(self.first, CONNECT_5)
        connection = service.broker.connections["b"]
        assert connection.transport.listener.protocol.topic_alias_maximum == 7

    async def test_what_needs_a_restart_is_named_and_not_done(self) -> None:
        service = self.start(self.settings(self.first, node="old"))
        result = service.take_over(self.settings(self.first, node="new", share_sessions=True))
        assert result.restart_needed == ("node",)
        assert result.changed == ("share_sessions",)
        assert service.broker.settings.node == "old"
        assert service.broker.settings.share_sessions

    async def test_bounds_of_the_broker_change_while_it_runs(self) -> None:
        service = self.start(self.settings(self.first))
        result = service.take_over(
            self.settings(
                self.first,
                retained=RetainedSettings(maximum_payload=1),
                shared_limits=SharedLimits(address_inbound_bytes=Rate(1)),
                maximum_offline_sessions=1,
            )
        )
        assert result.restart_needed == ()
        assert len(result.changed) == 3
        broker = service.broker
        broker.publish("a", b"x", retain=True)
        broker.publish("b", b"xx", retain=True)
        assert broker.retained.get("a") is not None
        assert broker.retained.get("b") is None
        assert broker.settings.maximum_offline_sessions == 1
        assert service.network.limits.for_connection(ConnectionLimits(), "192.0.2.7")

    async def test_traces_and_the_flight_recorder_change_while_it_runs(self) -> None:
        service = self.start(self.settings(self.first, flight=FlightSettings(size=0)))
        await self.connect(self.first)
        assert service.broker.connections["a"].transport.flight() == ()
        result = service.take_over(
            self.settings(
                self.first,
                trace=TraceSettings(maximum_running=0),
                flight=FlightSettings(size=1000),
            )
        )
        assert (result.restart_needed, set(result.changed)) == ((), {"trace", "flight"})
        await self.connect(self.first, CONNECT_5)
        assert service.broker.connections["b"].transport.flight()
        with pytest.raises(TraceError, match="0 traces run"):
            service.admin.traces.live(Wanted(client_id="a"), 0, lambda record: None)
        service.take_over(self.settings(self.first, flight=FlightSettings(size=0)))
        await self.connect(self.first)
        assert service.broker.connections["a"].transport.flight() == ()
        assert service.admin.traces.live(Wanted(client_id="a"), 0, lambda record: None)

    async def test_a_listener_may_take_the_port_of_one_that_goes(self) -> None:
        def at(port: int, address: str) -> BrokerSettings:
            endpoint = f"tcp:{port}:interface={address}"
            return BrokerSettings(listeners=(ListenerSettings(endpoint, allow_anonymous=True),))

        with closing(busy_port()) as holder:
            port = holder.getsockname()[1]
        service = self.start(at(port, "127.0.0.1"))
        result = service.take_over(at(port, "0.0.0.0"))
        assert result.errors == ()
        while not any(listener.address for listener in service.listeners.values()):
            await deferLater(reactor, 0)
        assert list(service.listeners) == [f"tcp:{port}:interface=0.0.0.0"]
        stream = socket.create_connection(("127.0.0.1", port), 10)
        stream.sendall(CONNECT_311)
        self.addCleanup(stream.close)
        assert (await threads.deferToThread(stream.recv, 4))[:1] == b"\x20"

    async def test_a_listener_that_cannot_open_leaves_the_others(self) -> None:
        service = self.start(self.settings(self.first))
        with closing(busy_port()) as holder:
            endpoint = f"tcp:{holder.getsockname()[1]}:interface=127.0.0.1"
            settings = self.settings(self.first)
            busy = ListenerSettings(endpoint, allow_anonymous=True)
            result = service.take_over(evolve(settings, listeners=(*settings.listeners, busy)))
        assert len(result.errors) == 1
        assert "Address already in use" in result.errors[0]
        assert result.changed == ()
        await self.connect(self.first)

    async def test_what_was_acknowledged_is_there_after_a_restart(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        settings = self.settings(self.first, data_directory=folder.name)
        service = self.start(settings)
        kept = CONNECT_311.replace(b"\x04\x02\x00\x3c", b"\x04\x00\x00\x3c")
        stream = await self.connect(self.first, kept)
        stream.sendall(bytes.fromhex("82 06 0001 0001 74 01"))
        assert (await threads.deferToThread(receive, stream, b"\0\x01\x01")) != b""
        # Sent and not acknowledged when the broker stops.
        service.broker.publish("t", b"owed", 1, retain=True)
        await service.stopService()
        service.startService()
        session = service.broker.sessions.get("a")
        assert session is not None
        assert list(session.subscriptions) == ["t"]
        assert service.broker.retained.get("t") is not None
        stream = await self.connect(self.first, kept)
        assert b"owed" in await threads.deferToThread(receive, stream, b"owed")

    async def test_a_store_that_cannot_be_used_ends_the_start(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        file = Path(folder.name, "file")
        file.touch()
        service = MQTTBroker(reactor, self.settings(self.first, data_directory=str(file)))
        service.privilegedStartService()
        with pytest.raises(StartError, match=r"data directory .* cannot be used"):
            service.startService()
        await service.stopService()
        await deferLater(reactor, 0)
        self.refused(self.first)

    async def test_two_brokers_do_not_share_a_store(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.start(self.settings(self.first, data_directory=folder.name))
        other = MQTTBroker(reactor, self.settings(self.second, data_directory=folder.name))
        with pytest.raises(StartError, match="is in use by process"):
            other.startService()
        self.refused(self.second)
        await self.connect(self.first)

    async def test_settings_that_are_wrong_change_nothing(self) -> None:
        def wrong() -> BrokerSettings:
            return parse_settings("[protocol]\nmaximum_qos = 9", "mqttd.toml")

        service = self.start(self.settings(self.first), reload=wrong)
        before = service.settings
        result = service.reload()
        assert "mqttd.toml: protocol.maximum_qos = 9" in result.errors[0]
        assert service.settings is before
        await self.connect(self.first)

    async def test_hangup_means_reload_while_it_runs(self) -> None:
        handler = signal.getsignal(signal.SIGHUP)
        asked: Deferred[None] = Deferred()

        def settings() -> BrokerSettings:
            asked.callback(None)
            return self.settings(self.first)

        service = self.start(self.settings(self.first), reload=settings)
        os.kill(os.getpid(), signal.SIGHUP)
        await asked
        await service.stopService()
        assert signal.getsignal(signal.SIGHUP) == handler


class StuckListener:
    """A listener whose connections do not go until they are cut."""

    def __init__(self, *arguments: Any) -> None:
        self.events: list[str] = []
        self.connections = 2
        self.settings = arguments[-1]

    def start(self) -> Deferred[None]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self.events.append("stop")
        return Deferred()

    def abort(self) -> None:
        self.events.append("abort")
        self.connections = 0


class Draining(SynchronousTestCase):
    def test_a_drain_ends_at_its_deadline_whatever_clients_do(self) -> None:
        clock = Clock()
        listener = ListenerSettings("unix:/nowhere", allow_anonymous=True)
        with mock.patch("mqttd.listeners.Listener", StuckListener):
            service = MQTTBroker(clock, BrokerSettings(listeners=(listener,), drain_timeout=7.0))
            service.startService()
        stuck: Any = service.listeners["unix:/nowhere"]
        stopped = service.stopService()
        clock.pump([0.1] * 69)
        self.assertNoResult(stopped)  # type: ignore[no-untyped-call]
        assert stuck.events == ["stop"]
        clock.pump([0.1] * 3)
        assert self.successResultOf(stopped) is None
        assert stuck.events == ["stop", "abort"]
        assert clock.getDelayedCalls() == []


def test_the_limit_of_open_files_is_raised() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = before[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
        assert raise_file_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# --- the daemon ---------------------------------------------------------------------

TWISTD = "from twisted.scripts.twistd import run; run()"
TWIST = "from twisted.application.twist._twist import Twist; Twist.main()"
RUNNERS = {
    "twistd": [TWISTD, "--nodaemon", "--pidfile=", "mqttd"],
    "twist": [TWIST, "--log-format=text", "mqttd"],
}


@pytest.fixture(params=RUNNERS)
def runner(request: pytest.FixtureRequest) -> list[str]:
    return [sys.executable, "-c", *RUNNERS[request.param]]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_CONFIG_HOME": str(folder),
        "XDG_STATE_HOME": str(folder),
    }


@contextmanager
def daemon(
    command: list[str], folder: Path, *arguments: str
) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], str]]]:
    """A running daemon, and a function that waits for a text in its log."""
    process = subprocess.Popen(
        [*command, *arguments],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    log = process.stdout

    def wait_for(text: str) -> str:
        read = []
        for line in log:
            read.append(line)
            if text in line:
                return line
        raise AssertionError("".join(read))

    try:
        yield process, wait_for
    finally:
        process.kill()
        process.wait()
        log.close()


def test_the_daemon_serves_and_ends_by_its_signal(runner: list[str], folder: Path) -> None:
    path = str(folder / "socket")
    with daemon(runner, folder, "--listen", f"unix:{path}") as (process, wait_for):
        wait_for(" serves ")
        with closing(connect(path, CONNECT_5)) as client:
            process.terminate()
            assert receive(client)[:1] == b"\xe0"
        assert process.wait(60) == -signal.SIGTERM


def test_a_busy_port_ends_the_start_with_one_clear_line(runner: list[str], folder: Path) -> None:
    with closing(busy_port()) as holder:
        endpoint = f"tcp:{holder.getsockname()[1]}:interface=127.0.0.1"
        found = subprocess.run(
            [*runner, "--listen", endpoint],
            cwd=folder,
            env=environment(folder),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert found.returncode == 1
    assert f"mqttd: cannot listen on '{endpoint}': Address already in use" in found.stderr
    assert "Traceback" not in found.stdout + found.stderr


def test_a_wrong_configuration_ends_the_start(runner: list[str], folder: Path) -> None:
    (folder / "mqttd.toml").write_text("[protocol]\nmaximum_qos = 3\n")
    found = subprocess.run(
        [*runner, "--config", "mqttd.toml"],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 1
    assert found.stderr.splitlines() == [
        "mqttd.toml: protocol.maximum_qos = 3: must be a whole number from 0 to 2"
    ]


def test_hangup_reloads_the_file(runner: list[str], folder: Path) -> None:
    first, second = folder / "a", folder / "b"
    config = folder / "mqttd.toml"
    config.write_text(f"[[listener]]\nendpoint = 'unix:{first}'\n")
    with daemon(runner, folder, "--config", str(config)) as (process, wait_for):
        wait_for(" serves ")
        config.write_text(f"[[listener]]\nendpoint = 'unix:{second}'\n")
        process.send_signal(signal.SIGHUP)
        assert "opened" in wait_for("Reload: changed")
        connect(str(second)).close()
        config.write_text("[[listener]]\nendpoint = 5\n")
        process.send_signal(signal.SIGHUP)
        assert "listener[1].endpoint = 5" in wait_for("Reload: ")
        connect(str(second)).close()


def test_the_log_may_be_json(folder: Path) -> None:
    command = [sys.executable, "-c", *RUNNERS["twistd"]]
    path = f"unix:{folder / 'socket'}"
    with daemon(command, folder, "--log-format", "json", "--listen", path) as (_, wait_for):
        event = json.loads(wait_for("{version} serves"))
        assert event["log_namespace"] == "mqttd.service"
