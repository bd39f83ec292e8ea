"""The daemon's own life: its start, its signals, its end, what it says."""

from __future__ import annotations

import json
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import Connack, Connect, Disconnect, Packet, Publish, Subscribe
from mqttd.wire.packets import SubscriptionRequest as Request
from mqttd.wire.parser import Parser
from mqttd.wire.serializer import serialize
from tests.end_to_end.certificates import Authority
from tests.end_to_end.clients import Library, Target, Will, tls_context, unique
from tests.end_to_end.conftest import Served
from tests.end_to_end.daemon import PATIENCE, Daemon, free_port, run_to_end, toml

Start = Callable[..., Daemon]
Libraries = Callable[[str, int], Library]


class Wire:
    """A socket that speaks MQTT and does nothing of its own accord."""

    def __init__(
        self, port: int, version: int = 5, *, receive_buffer: int = 0, **fields: Any
    ) -> None:
        self.version = version
        self.stream = socket.socket()
        self.stream.settimeout(PATIENCE)
        if receive_buffer:
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.stream.connect(("127.0.0.1", port))
        self._parser = Parser(1 << 28, server_side=False)
        self._parser.version = version
        self.send(Connect(fields.pop("client_id", unique("wire")), version, **fields))
        self.connack = self.receive()
        if not isinstance(self.connack, Connack):
            self.stream.close()
            raise ConnectionError(f"no CONNACK but {self.connack}")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *details: object) -> None:
        self.stream.close()

    def send(self, *packets: Packet) -> None:
        self.stream.sendall(b"".join(serialize(packet, self.version) for packet in packets))

    def receive(self) -> Packet | None:
        """The next packet; None at the end of the stream."""
        while (packet := self._parser.next_packet()) is None:
            data = self.stream.recv(65_536)
            if not data:
                return None
            self._parser.feed(data)
        return packet


def listening(port: int) -> str:
    return f"tcp:{port}:interface=127.0.0.1"


def is_listening(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- the end ------------------------------------------------------------------------


@pytest.mark.parametrize("runner", ["twistd", "twist"])
def test_clients_are_told_of_the_end(start: Start, runner: str) -> None:
    port = free_port()
    daemon = start("--listen", listening(port), runner=runner)
    daemon.wait_for(" serves ")
    with Wire(port, 5) as new, Wire(port, 4) as old:
        daemon.signal(signal.SIGTERM)
        farewell = new.receive()
        assert isinstance(farewell, Disconnect)
        assert farewell.reason == ReasonCode.SERVER_SHUTTING_DOWN
        assert new.receive() is None
        assert old.receive() is None
    assert daemon.wait() == -signal.SIGTERM
    assert not is_listening(port)
    assert "Traceback" not in daemon.log


def test_wills_are_published_at_the_end(start: Start, libraries: Libraries) -> None:
    port = free_port()
    daemon = start("--listen", listening(port))
    daemon.wait_for(" serves ")
    for version in (4, 5):
        libraries("paho", version).connect(Target(port), will=Will("last/words", "bye", 1))
    reader = libraries("paho", 5).connect(Target(port))
    reader.subscribe("last/words", 1)
    daemon.signal(signal.SIGTERM)
    assert [reader.next_message().payload for _ in range(2)] == [b"bye", b"bye"]
    assert daemon.wait() == -signal.SIGTERM


def test_neither_a_stuck_nor_a_paused_client_delays_the_end(start: Start, tmp_path: Path) -> None:
    fast, slow = free_port(), free_port()
    config = tmp_path / "mqttd.toml"
    listeners = [
        {
            "endpoint": listening(fast),
            "allow_anonymous": True,
            "send_buffer": 65_536,
            "limits": {"close_timeout": 60},
        },
        {
            "endpoint": listening(slow),
            "allow_anonymous": True,
            "limits": {"close_timeout": 60, "inbound_messages": "1/s"},
        },
    ]
    config.write_text(toml(listeners, broker={"drain_timeout": 1}))
    daemon = start("--config", str(config))
    daemon.wait_for(" serves ")
    with (
        Wire(fast, receive_buffer=65_536) as stuck,
        Wire(slow) as paused,
        Wire(fast) as writer,
    ):
        # It reads no further than SUBACK, and more waits for it than sockets hold.
        writer.send(Publish("flood", bytes(1_000_000), 1, retain=True, packet_id=1))
        writer.receive()
        stuck.send(Subscribe(1, [Request("flood")]))
        stuck.receive()
        # All but the first of its messages wait for the bucket.
        reader = Wire(fast)
        reader.send(Subscribe(1, [Request("a")]))
        reader.receive()
        paused.send(*[Publish("a", b"%d" % number) for number in range(1000)])
        assert isinstance(reader.receive(), Publish)
        began = time.monotonic()
        daemon.signal(signal.SIGTERM)
        assert "1 connections did not close" in daemon.wait_for("did not close in time")
        assert daemon.wait() == -signal.SIGTERM
        # Each of the two would have had a minute.
        assert time.monotonic() - began < 30
        # The paused one was told all the same.
        farewell = paused.receive()
        assert isinstance(farewell, Disconnect)
        assert farewell.reason == ReasonCode.SERVER_SHUTTING_DOWN
        reader.stream.close()
    assert "Traceback" not in daemon.log


# --- the start ------------------------------------------------------------------------


def test_a_busy_port_leaves_nothing_listening(tmp_path: Path) -> None:
    free = free_port()
    with closing(socket.create_server(("127.0.0.1", 0))) as holder:
        busy = holder.getsockname()[1]
        found = run_to_end(tmp_path, "--listen", listening(free), "--listen", listening(busy))
    assert found.returncode == 1
    assert found.stderr.strip().splitlines()[-1] == (
        f"mqttd: cannot listen on '{listening(busy)}': Address already in use"
    )
    assert "Traceback" not in found.stderr + found.stdout
    assert not is_listening(free)


def test_the_settings_in_force_are_shown(tmp_path: Path) -> None:
    config = tmp_path / "mqttd.toml"
    config.write_text(toml([], protocol={"maximum_qos": 1}))
    found = run_to_end(tmp_path, "--config", str(config), "--check-config")
    assert found.returncode == 0
    assert "maximum_qos = 1" in found.stdout
    # What is shown is a configuration that means the same.
    config.write_text(found.stdout)
    again = run_to_end(tmp_path, "--config", str(config), "--check-config")
    assert (again.returncode, again.stdout) == (0, found.stdout)


def test_all_mistakes_in_the_settings_are_shown(tmp_path: Path) -> None:
    config = tmp_path / "mqttd.toml"
    config.write_text("[protocol]\nmaximum_qos = 3\nmaximum_quality = 2\n[sesion]\n")
    found = run_to_end(tmp_path, "--config", str(config), "--check-config")
    assert found.returncode == 1
    for mistake in ("maximum_qos", "maximum_quality", "sesion"):
        assert any(str(config) in line and mistake in line for line in found.stderr.splitlines())


def test_a_listener_open_to_the_world_is_refused_with_the_remedy(tmp_path: Path) -> None:
    found = run_to_end(tmp_path, "--listen", f"tcp:{free_port()}")
    assert found.returncode == 1
    assert "allow_anonymous = true" in found.stderr
    assert "Traceback" not in found.stderr


def test_few_open_files_are_survived(start: Start) -> None:
    port = free_port()

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

    daemon = start("--listen", listening(port), preexec=few)
    assert "40" in daemon.wait_for("Open files allowed")
    daemon.wait_for(" serves ")
    with ExitStack() as stack:
        # More than there are descriptors: some of them are closed at once.
        for _ in range(60):
            stream = socket.create_connection(("127.0.0.1", port), PATIENCE)
            stack.enter_context(closing(stream))
        daemon.wait_for("EMFILE")
    with connected_at_last(port) as client:
        client.send(Subscribe(1, [Request("a")]))
        assert client.receive() is not None
        client.send(Publish("a", b"alive"))
        message = client.receive()
        assert isinstance(message, Publish)
    assert daemon.process.poll() is None


def connected_at_last(port: int) -> Wire:
    """A client that tries again while the daemon still gets rid of others."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return Wire(port)
        except ConnectionError:
            if time.monotonic() > deadline:
                raise


# --- reload ---------------------------------------------------------------------------


def test_hangup_takes_new_limits_and_listeners(start: Start, tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    config = tmp_path / "mqttd.toml"

    def write(*ports: int, **protocol: Any) -> None:
        listeners = [{"endpoint": listening(port), "allow_anonymous": True} for port in ports]
        config.write_text(toml(listeners, protocol=protocol))

    write(first)
    daemon = start("--config", str(config))
    daemon.wait_for(" serves ")
    with Wire(first) as staying:
        write(first, second, maximum_qos=1)
        daemon.signal(signal.SIGHUP)
        daemon.wait_for("Reload: changed")
        for port in (first, second):
            with Wire(port) as client:
                assert isinstance(client.connack, Connack)
                assert client.connack.properties["maximum_qos"] == 1
        staying.send(Subscribe(1, [Request("a")]), Publish("a", b"still here"))
        assert staying.receive() is not None
        assert isinstance(staying.receive(), Publish)
        # A mistake changes nothing and is told.
        config.write_text("[protocol]\nmaximum_qos = 7\n")
        daemon.signal(signal.SIGHUP)
        assert "maximum_qos" in daemon.wait_for("Reload: " + str(config))
        with Wire(second):
            pass


def test_hangup_reads_certificates_again(
    start: Start, tmp_path: Path, libraries: Libraries
) -> None:
    old = Authority(tmp_path, "old")
    certificate, key = old.sign("localhost", "server")
    port = free_port()
    tls = {"certificate": str(certificate), "private_key": str(key)}
    config = tmp_path / "mqttd.toml"
    listener = {"endpoint": listening(port), "allow_anonymous": True, "tls": tls}
    config.write_text(toml([listener]))
    daemon = start("--config", str(config))
    daemon.wait_for(" serves ")
    library = libraries("paho", 5)
    staying = library.connect(Target(port, authority=str(old.certificate)))
    new = Authority(tmp_path, "new")
    new.sign("localhost", "server")
    daemon.signal(signal.SIGHUP)
    daemon.wait_for("Reload: changed")
    coming = library.connect(Target(port, authority=str(new.certificate)))
    # The connection from before has stayed.
    staying.subscribe("a", 1)
    coming.publish("a", "hello", 1)
    assert staying.next_message().payload == b"hello"


# --- what it says ------------------------------------------------------------------------


def test_the_log_may_be_json(start: Start) -> None:
    port = free_port()
    daemon = start("--log-format", "json", "--listen", listening(port))
    event = json.loads(daemon.wait_for("{version} serves"))
    assert event["log_namespace"] == "mqttd.service"
    daemon.signal(signal.SIGTERM)
    daemon.wait()
    lines = [line for line in daemon.log.splitlines() if line.strip()]
    assert all(isinstance(json.loads(line), dict) for line in lines)


@pytest.mark.parametrize(
    "topic",
    [
        "$SYS/broker/version",
        "$SYS/broker/uptime",
        "$SYS/broker/clients/connected",
        "$SYS/broker/messages/received",
        "$SYS/broker/load/messages/received/1min",
        "$SYS/brokers",
        "$SYS/brokers/node/version",
        "$SYS/brokers/node/uptime",
        "$SYS/brokers/node/stats/clients/count",
        "$SYS/brokers/node/metrics/messages/received",
    ],
)
def test_reports_are_seen_by_the_usual_tool(
    served: Served, program: Callable[[str], str], topic: str
) -> None:
    found = subprocess.run(
        [program("mosquitto_sub"), "-p", str(served.plain.port), "-t", topic, "-C", "1"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert found.returncode == 0
    assert found.stdout.strip()


def test_tls_is_refused_before_its_handshake_to_those_kept_out(
    start: Start, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.sign("localhost", "server")
    port = free_port()
    listener = {
        "endpoint": listening(port),
        "allow_anonymous": True,
        "access": ["deny 127.0.0.0/8"],
        "tls": {"certificate": str(certificate), "private_key": str(key)},
    }
    (tmp_path / "mqttd.toml").write_text(toml([listener]))
    start("--config", "mqttd.toml").wait_for(" serves ")
    target = Target(port, authority=str(authority.certificate))
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as stream,
        pytest.raises(OSError),  # noqa: PT011 - ssl's own, or a reset
    ):
        tls_context(target).wrap_socket(stream, server_hostname="localhost")
