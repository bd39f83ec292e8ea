"""A daemon with bridges to a mosquitto, and its operator."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from mqttd.ctl.__main__ import main
from tests.end_to_end.clients import Target
from tests.end_to_end.daemon import PATIENCE, Daemon, free_port, toml
from tests.end_to_end.paho_clients import Paho


@frozen
class Bridged:
    daemon: Daemon
    near: Target
    far: Target
    config: Path
    run: Callable[..., tuple[int, str, str]]

    def write(self, *bridges: str) -> None:
        """The configuration with these bridges, each its name and more lines."""
        listener = {
            "endpoint": f"tcp:{self.near.port}:interface=127.0.0.1",
            "allow_anonymous": True,
        }
        text = toml([listener], http={"socket": f"{self.config.parent}/control"})
        for name, _, more in (each.partition("\n") for each in bridges):
            text += (
                f'[[bridge]]\nname = "{name}"\naddresses = ["mqtt://127.0.0.1:{self.far.port}"]\n'
            )
            text += f'client_id = "{name}"\nretry_first = 0.1\n{more}\n'
        self.config.write_text(text)

    def show(self, name: str) -> Any:
        code, out, error = self.run("--json", "bridges", "show", name)
        assert code == 0, error
        return json.loads(out)

    def wait_for(self, name: str, state: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.show(name)["state"] != state:
            assert time.monotonic() < deadline, self.show(name)
            time.sleep(0.05)

    def reload(self) -> Any:
        code, out, error = self.run("--json", "reload")
        assert code == 0, error
        return json.loads(out)


def topic(filter: str, **more: str) -> str:
    lines = [f'{key} = "{value}"' for key, value in more.items()]
    return "\n".join(["[[bridge.topics]]", f'filter = "{filter}"', *lines])


OUT = "up\n" + topic("out/#", remote_prefix="far/")


@pytest.fixture
def bridged(
    program: Callable[[str], str],
    start: Callable[..., Daemon],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Bridged]:
    near, far = free_port(), free_port()
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(f"listener {far} 127.0.0.1\nallow_anonymous true\n")
    mosquitto = subprocess.Popen(
        [program("mosquitto"), "-c", str(conf)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        return code, *capsys.readouterr()

    monkeypatch.setenv("MQTTD_SOCKET", str(tmp_path / "control"))
    config = tmp_path / "mqttd.toml"
    bridged = Bridged(None, Target(near), Target(far), config, run)  # type: ignore[arg-type]
    bridged.write(OUT)
    try:
        daemon = start("--config", str(config))
        daemon.wait_for(" serves ")
        yield Bridged(daemon, bridged.near, bridged.far, config, run)
    finally:
        mosquitto.kill()
        mosquitto.wait(PATIENCE)


@pytest.fixture
def paho() -> Iterator[Paho]:
    library = Paho(5)
    yield library
    library.close()


def test_a_reload_changes_what_goes_over(bridged: Bridged, paho: Paho) -> None:
    near, far = paho.connect(bridged.near), paho.connect(bridged.far)
    far.subscribe("#", 1)
    near.subscribe("in/#", 1)
    bridged.wait_for("up", "connected")
    near.publish("out/1", "one", 1)
    assert far.next_message().topic == "far/out/1"
    # Another prefix, and a second bridge, for what comes.
    more = "down\n" + topic("in/#", direction="in")
    bridged.write(OUT.replace("far/", "other/"), more)
    assert bridged.reload() == {
        "changed": ["bridge up", "bridge down added"],
        "restart_needed": [],
    }
    bridged.wait_for("up", "connected")
    bridged.wait_for("down", "connected")
    near.publish("out/2", "two", 1)
    assert far.next_message().topic == "other/out/2"
    far.publish("in/3", "three", 1)
    assert near.next_message().payload == b"three"
    assert far.next_message().topic == "in/3"
    # One that is wrong stays as it was.
    bridged.write(OUT + "\n" + topic("a/#/b"), more)
    code, _, error = bridged.run("reload")
    assert (code, "the bridge 'up': 'a/#/b' is not a Topic Filter" in error) == (1, True)
    near.publish("out/4", "four", 1)
    assert far.next_message().topic == "other/out/4"
    bridged.write(more)
    assert bridged.reload()["changed"] == ["bridge up removed"]
    code, _, error = bridged.run("bridges", "show", "up")
    assert (code, "There is no bridge 'up'" in error) == (1, True)
    assert "bridge:up is not in the configuration any more" in bridged.daemon.log


def test_a_bridge_is_stopped_and_started(bridged: Bridged, paho: Paho) -> None:
    near, far = paho.connect(bridged.near), paho.connect(bridged.far)
    far.subscribe("far/#", 1)
    bridged.wait_for("up", "connected")
    assert bridged.run("bridges", "stop", "up")[:2] == (0, "up is stopped\n")
    near.publish("out/1", "one", 1)
    assert bridged.show("up")["queued"] == 1
    assert "NAME" in bridged.run("bridges", "list")[1]
    assert bridged.run("bridges", "stop", "up")[0] == 1
    # A reload does not start what an operator has stopped.
    assert bridged.reload()["changed"] == []
    assert bridged.show("up")["state"] == "stopped"
    assert bridged.run("bridges", "start", "up")[0] == 0
    assert far.next_message().payload == b"one"
    assert "POST /api/v1/bridges/up/stop: 204" in bridged.daemon.log
