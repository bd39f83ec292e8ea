"""The daemon and its disk: what it says when it cannot keep, and that it keeps its word."""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mqttd.store.schema import DATABASE, log_of
from mqttd.wire.codes import MQTT5, MQTT311, ReasonCode
from mqttd.wire.packets import (
    Connack,
    Connect,
    Packet,
    Properties,
    Puback,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from mqttd.wire.parser import Parser
from mqttd.wire.serializer import serialize
from tests.end_to_end.daemon import PATIENCE, Daemon, free_port, run_to_end

P = TypeVar("P")

#: What the files of the store may grow to while the disk is "full"; bytes.
FULL = 600_000

ALERT = "$SYS/brokers/+/alarms/store/alert"


class Client:
    """A client on a blocking socket, one packet after the other."""

    def __init__(self, port: int, client_id: str, version: int = MQTT5, kept: bool = False) -> None:
        self._version = version
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._parser = Parser(1 << 24, server_side=False)
        self._parser.version = version
        self._waiting: list[Packet] = []
        self._packet_id = 0
        properties = Properties()
        if kept and version == MQTT5:
            properties["session_expiry_interval"] = 3600
        self.send(Connect(client_id, version, not kept, properties=properties))
        self.connack = self.expect(Connack)

    def send(self, packet: Packet) -> None:
        self._socket.sendall(serialize(packet, self._version))

    def receive(self, patience: float = PATIENCE) -> Packet | None:
        """The next packet; None when there is none in time."""
        self._socket.settimeout(patience)
        while not self._waiting:
            try:
                data = self._socket.recv(65_536)
            except TimeoutError:
                return None
            assert data, "the broker closed the connection"
            self._parser.feed(data)
            while (packet := self._parser.next_packet()) is not None:
                self._waiting.append(packet)
        return self._waiting.pop(0)

    def expect(self, kind: type[P]) -> P:
        packet = self.receive()
        assert isinstance(packet, kind), packet
        return packet

    def subscribe(self, topic_filter: str) -> None:
        self.send(Subscribe(1, [SubscriptionRequest(topic_filter, 1)]))
        assert self.expect(Suback).reasons == [1]

    def send_message(self, topic: str, payload: bytes) -> int:
        self._packet_id += 1
        self.send(Publish(topic, payload, 1, packet_id=self._packet_id))
        return self._packet_id

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def connect(port: int) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def connect(client_id: str, **more: Any) -> Client:
        clients.append(Client(port, client_id, **more))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


def listening(start: Callable[..., Daemon], port: int, data: Path, **more: Any) -> Daemon:
    daemon = start("--listen", f"tcp:{port}:interface=127.0.0.1", "--data-dir", str(data), **more)
    daemon.wait_for(" serves ")
    return daemon


def limit_file_size(pid: int, size: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


def test_a_full_disk(
    start: Callable[..., Daemon], connect: Callable[..., Client], port: int, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    daemon = listening(start, port, data)
    away = connect("away", kept=True)
    away.subscribe("t/#")
    away.close()
    watcher = connect("watcher")
    watcher.subscribe(ALERT)
    limit_file_size(daemon.process.pid, FULL)

    # It acknowledges what it keeps, and then it does not.
    publisher = connect("publisher")
    sent: dict[int, bytes] = {}
    acknowledged: list[bytes] = []
    for number in range(200):
        payload = b"%d " % number + bytes(10_000)
        sent[publisher.send_message("t/a", payload)] = payload
        # Near the end it stumbles, and goes on while a remnant of room is found.
        answer = publisher.receive(1.5)
        if answer is None:
            break
        assert isinstance(answer, Puback)
        acknowledged.append(sent[answer.packet_id])
    assert 10 < len(acknowledged) < 200
    daemon.wait_for("The store commits nothing")
    assert watcher.expect(Publish).topic.endswith("/alarms/store/alert")
    while watcher.receive(0.2):
        pass

    # 5.0 is told so, at once; 3.1.1 can only wait, as does what was under way.
    newcomer = connect("newcomer")
    newcomer.send_message("t/a", b"refused")
    assert newcomer.expect(Puback).reason == ReasonCode.QUOTA_EXCEEDED
    assert publisher.receive(0.3) is None
    old = connect("old", version=MQTT311)
    waiting = old.send_message("t/a", b"waiting")
    assert old.receive(0.3) is None
    # Nobody else is harmed.
    watcher.subscribe("free")
    connect("other").send(Publish("free", b"passes", 0))
    assert watcher.expect(Publish).payload == b"passes"

    # There is room again.
    limit_file_size(daemon.process.pid, resource.RLIM_INFINITY)
    daemon.wait_for("The store commits again")
    assert old.expect(Puback).packet_id == waiting
    acknowledged.append(b"waiting")
    acknowledged.append(sent[publisher.expect(Puback).packet_id])

    # And what was acknowledged is there after a crash.
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    assert "Traceback" not in daemon.log
    listening(start, port, data)
    back = connect("away", kept=True)
    assert back.connack.session_present
    missing = set(acknowledged)
    while missing:
        message = back.expect(Publish)
        missing.discard(message.payload)
        back.send(Puback(message.packet_id))


def refused(folder: Path, *arguments: str) -> str:
    """What a daemon says that does not start; it ends at once and by itself."""
    listen = f"tcp:{free_port()}:interface=127.0.0.1"
    ended = run_to_end(folder, "--listen", listen, *arguments)
    text = ended.stdout + ended.stderr
    assert ended.returncode, text
    assert "Traceback" not in text
    return text


def test_a_store_that_cannot_be_used(
    start: Callable[..., Daemon], connect: Callable[..., Client], port: int, tmp_path: Path
) -> None:
    """Each is told in one line, and nothing is served without the store."""
    data = tmp_path / "data"
    option = ("--data-dir", str(data))
    daemon = listening(start, port, data)
    assert f"is in use by process {daemon.process.pid}" in refused(tmp_path, *option)
    connect("away", kept=True).subscribe("t")
    path = data / DATABASE

    daemon.signal(signal.SIGKILL)
    daemon.wait()
    log_of(path).unlink()
    assert "-wal' is missing" in refused(tmp_path, *option)
    path.write_bytes(b"\x00 no database" * 1000)
    assert "is damaged" in refused(tmp_path, *option)


def test_a_backup_of_a_running_daemon(
    start: Callable[..., Daemon], connect: Callable[..., Client], port: int, tmp_path: Path
) -> None:
    """Restored elsewhere, the session and its messages are those of that moment."""
    daemon = listening(start, port, tmp_path / "data")
    away = connect("away", kept=True)
    away.subscribe("t")
    away.close()
    publisher = connect("publisher")

    def publish(payload: bytes) -> None:
        publisher.send_message("t", payload)
        assert publisher.expect(Puback).reason == 0

    def ctl(*arguments: str) -> None:
        command = [sys.executable, "-m", "mqttd.ctl", "store", *arguments]
        subprocess.run(command, check=True, timeout=PATIENCE)

    publish(b"before")
    file = str(tmp_path / "backup")
    ctl("backup", file, "--data-dir", str(tmp_path / "data"))
    publish(b"after")
    daemon.stop()
    ctl("restore", file, "--data-dir", str(tmp_path / "other"))
    ctl("check", "--data-dir", str(tmp_path / "other"))
    listening(start, port, tmp_path / "other")
    back = connect("away", kept=True)
    assert back.connack.session_present
    assert back.expect(Publish).payload == b"before"
    assert back.receive(0.3) is None
