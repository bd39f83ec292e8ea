"""A failure of a client, before and after the broker is killed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mqttd.ctl.__main__ import main
from mqttd.wire.packets import Connect, Publish
from mqttd.wire.parser import Parser
from mqttd.wire.serializer import serialize
from tests.end_to_end.daemon import Daemon, free_port, toml


def test_a_failure_outlives_kill_9_and_is_played_again(
    start: Callable[..., Daemon],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    port = free_port()
    data, control = tmp_path / "data", tmp_path / "control"
    config = tmp_path / "mqttd.toml"
    listener = {"endpoint": f"tcp:{port}:interface=127.0.0.1", "allow_anonymous": True}
    config.write_text(
        toml([listener], broker={"data_directory": str(data)}, http={"socket": str(control)})
    )
    monkeypatch.setenv("MQTTD_SOCKET", str(control))
    daemon = start("--config", str(config))
    daemon.wait_for(" serves ")
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(serialize(Connect("pump/7", password=b"hush", user_name="ann"), 5))
        client.sendall(serialize(Publish("levels/7", b"the payload", 1, packet_id=3), 5))
        client.sendall(serialize(Publish("", b"x", properties={"topic_alias": 77}), 5))
        answers = b""
        while piece := client.recv(4096):
            answers += piece
    daemon.signal(signal.SIGKILL)
    daemon.wait()

    daemon = start("--config", str(config))
    daemon.wait_for(" serves ")
    assert main(["flight", "list"]) == 0
    assert "pump/7" in capsys.readouterr().out
    assert main(["--json", "flight", "show", "pump/7"]) == 0
    shown = capsys.readouterr().out
    for secret in ("hush", "the payload"):
        assert secret not in shown
    (file,) = (data / "failures").iterdir()
    assert json.loads(shown) == json.loads(file.read_text())
    played = subprocess.run(
        [sys.executable, "-m", "mqttd.testing.replay", str(file)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # What the client was told then, it is told now.
    parser = Parser(1000, server_side=False)
    parser.version = 5
    parser.feed(answers)
    told = [str(parser.next_packet()) for _ in range(3)]
    assert [each.partition("(")[0] for each in told] == ["Connack", "Puback", "Disconnect"]
    assert played.splitlines()[:2] == told[1:]
    assert "the connection is closed" in played

    # Other settings by SIGHUP, and by the API.
    config.write_text(config.read_text() + "[flight]\nmaximum_failures = 0\n")
    daemon.signal(signal.SIGHUP)
    daemon.wait_for("Reload: changed flight")
    assert list((data / "failures").iterdir()) == []
    assert main(["config", "set", "trace.maximum_running=0"]) == 0
    assert main(["trace", "start", "one", "--client", "a"]) != 0
    assert "0 traces run" in capsys.readouterr().err
