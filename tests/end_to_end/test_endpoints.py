"""Endpoints that only a whole daemon can show: an inherited socket, and ``tls:``."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.certificates import Authority, dns
from tests.end_to_end.daemon import PATIENCE, Daemon, command, environment, free_port

#: What systemd does for a service with a socket unit: the socket is file
#: descriptor 3, and the variables say so to the process that they name.
AS_SYSTEMD = 'export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=mqtt; exec "$@"'


def echo(port: int, **tls: Any) -> bytes:
    """The payload of a message that a client sends to itself."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    received: list[bytes] = []

    def subscribe(*_: Any) -> None:
        client.subscribe("echo")

    def publish(*_: Any) -> None:
        client.publish("echo", b"here")

    client.on_connect = subscribe
    client.on_subscribe = publish
    client.on_message = lambda _client, _data, message: received.append(bytes(message.payload))
    if tls:
        client.tls_set(**tls)
    client.connect("localhost", port)
    waits = 0
    while not received and waits < PATIENCE * 10:
        client.loop(0.1)
        waits += 1
    client.disconnect()
    return received[0] if received else b""


@pytest.fixture
def inherited() -> Iterator[socket.socket]:
    """A socket that listens before there is a daemon."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening


def test_a_socket_of_systemd_is_taken_over(tmp_path: Path, inherited: socket.socket) -> None:
    """It outlives the daemon, so that a restart refuses nobody."""
    daemon = command("twistd", "--listen", "systemd:domain=INET:name=mqtt", "--allow-anonymous")
    port = inherited.getsockname()[1]
    for _ in range(2):
        process = subprocess.Popen(
            ["sh", "-c", AS_SYSTEMD, "sh", *daemon],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            close_fds=False,
            preexec_fn=lambda: os.dup2(inherited.fileno(), 3),
        )
        try:
            answer = echo(port)
        finally:
            process.send_signal(signal.SIGTERM)
            log, _ = process.communicate(timeout=PATIENCE)
        assert answer == b"here", log


def test_twisteds_own_tls_endpoint(tmp_path: Path) -> None:
    authority = Authority()
    trusted = authority.write(tmp_path / "authority.pem")
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    authority.issue("localhost", dns("localhost")).write(certificates / "localhost.pem")
    port = free_port()
    endpoint = f"tls:{certificates}:port={port}:interface=127.0.0.1"
    daemon = Daemon(tmp_path, ["--listen", endpoint])
    try:
        daemon.wait_for("listens on")
        assert echo(port, ca_certs=trusted) == b"here", daemon.log
    finally:
        daemon.stop()
