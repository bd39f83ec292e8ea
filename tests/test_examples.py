"""Every example runs, and does what it says."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO, Any
from urllib.request import urlopen

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from mqttd.config import load_settings
from mqttd.testing import VirtualBroker
from mqttd.testing.live import LiveBroker
from tests.conftest import absent
from tests.end_to_end.daemon import Daemon, free_port

EXAMPLES = Path(__file__).parent.parent / "examples"

#: Seconds; the machine may be busy.
PATIENCE = 60


class Program:
    """A running example, and the lines that it prints."""

    def __init__(self, *command: str, **environment: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=EXAMPLES,
            env={**os.environ, **{name: str(value) for name, value in environment.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put(line.strip())

    def wait_for(self, text: str) -> str:
        """The next line with *text* in it."""
        seen = []
        try:
            while True:
                seen.append(self._lines.get(timeout=PATIENCE))
                if text in seen[-1]:
                    return seen[-1]
        except queue.Empty:
            raise AssertionError("\n".join([f"no line with {text!r}, but:", *seen])) from None

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(*command: str, **environment: Any) -> Program:
        started.append(Program(*command, **environment))
        return started[-1]

    yield start
    for program in started:
        program.stop()


def run(name: str) -> list[str]:
    """What an example prints that ends by itself."""
    found = subprocess.run(
        [sys.executable, name], cwd=EXAMPLES, capture_output=True, text=True, timeout=PATIENCE
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()


def connect(port: int, path: str = "") -> paho.Client:
    """A client that is connected, over WebSocket if there is a *path*."""
    client = paho.Client(CallbackAPIVersion.VERSION2, transport="websockets" if path else "tcp")
    if path:
        client.ws_set_options(path)
    here = threading.Event()
    client.on_connect = lambda *_: here.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert here.wait(PATIENCE)
    return client


def listen(client: paho.Client, *topics: str) -> tuple[paho.Client, queue.Queue[Any]]:
    """*client*, and what comes to it: topic and payload."""
    got: queue.Queue[Any] = queue.Queue()
    client.on_message = lambda c, u, message: got.put((message.topic, message.payload))
    client.subscribe([(topic, 1) for topic in topics])
    return client, got


def first_message(client: paho.Client, topic: str) -> bytes:
    _, got = listen(client, topic)
    return bytes(got.get(timeout=PATIENCE)[1])


def test_every_example_is_named_here_and_there() -> None:
    listed = (EXAMPLES / "README.rst").read_text()
    here = Path(__file__).read_text()
    for path in EXAMPLES.iterdir():
        if path.name in ("README.rst", "__pycache__"):
            continue
        name = path.name + ("/" if path.is_dir() else "")
        assert f"``{name}``" in listed
        assert path.name in here or path.name == "asyncio_app.py"  # in test_embedding


def test_embed(start: Callable[..., Program]) -> None:
    port = free_port()
    twistd = "from twisted.scripts.twistd import run; run()"
    program = start("-c", twistd, "-n", "--pidfile=", "-y", "embed.py", MQTT_PORT=port)
    program.wait_for(" serves ")
    client = connect(port)
    assert int(first_message(client, "app/ticks")) >= 1
    client.disconnect()
    client.loop_stop()


def test_sensor_hub(start: Callable[..., Program]) -> None:
    port = free_port()
    program = start("sensor_hub.py", MQTT_PORT=port)
    for _ in range(PATIENCE * 10):
        try:
            client = connect(port)
            break
        except ConnectionRefusedError:
            threading.Event().wait(0.1)
    client.publish("sensors/hall/temperature", "21.5", 1).wait_for_publish(PATIENCE)
    program.wait_for("hall temperature 21.5")
    client.disconnect()
    client.loop_stop()


def test_requests() -> None:
    assert run("requests.py") == [
        "1 + 2 + 39 = 42",
        "error: no response on 'jobs/never' within 0.1 s",
    ]


def test_client(mqttd_broker: LiveBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PORT", str(mqttd_broker.port))
    assert run("client.py") == ["greeting/world hello"]


def test_bridge(program: Callable[[str], str], tmp_path: Path) -> None:
    ours, theirs = free_port(), free_port()
    text = (EXAMPLES / "bridge.toml").read_text()
    config = tmp_path / "bridge.toml"
    config.write_text(text.replace("tcp:1883", f"tcp:{ours}").replace(":1884", f":{theirs}"))
    mosquitto = subprocess.Popen(
        [program("mosquitto"), "-p", str(theirs)], stderr=subprocess.DEVNULL
    )
    daemon = Daemon(tmp_path, ["--config", str(config)])
    try:
        daemon.wait_for(" serves ")
        here, said = listen(connect(ours), "$SYS/broker/connection/+/state", "commands/#")
        while said.get(timeout=PATIENCE)[1] != b"1":
            pass  # not connected yet
        there, heard = listen(connect(theirs), "house/7/sensors/#")
        here.publish("sensors/hall", "21.5", 1)
        assert heard.get(timeout=PATIENCE) == ("house/7/sensors/hall", b"21.5")
        there.publish("house/7/commands/door", "open", 1)
        assert said.get(timeout=PATIENCE) == ("commands/door", b"open")
        for client in (here, there):
            client.disconnect()
            client.loop_stop()
    finally:
        daemon.stop()
        mosquitto.kill()
        mosquitto.wait(PATIENCE)


def test_web_site(start: Callable[..., Program]) -> None:
    mqtt, http = free_port(), free_port()
    program = start("web_site.py", MQTT_PORT=mqtt, HTTP_PORT=http)
    program.wait_for("serving")
    with urlopen(f"http://127.0.0.1:{http}/", timeout=PATIENCE) as page:
        assert b"/mqtt" in page.read()
    thing, browser = connect(mqtt), connect(http, "/mqtt")
    thing.publish("greeting", "hello", 1, retain=True).wait_for_publish(PATIENCE)
    assert first_message(browser, "greeting") == b"hello"
    for client in (thing, browser):
        client.disconnect()
        client.loop_stop()


def test_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES / "plugin"))
    settings = load_settings(EXAMPLES / "plugin" / "mqttd.toml")
    assert settings.plugins[0].settings.messages == 3
    virtual = VirtualBroker(settings)
    for name, reasons in {"x": [0x10] * 3 + [0x97] * 2, "admin": [0x10] * 5}.items():
        client = virtual.connect(name, keep_alive=0)
        answers = [client.publish("t", qos=1) for _ in reasons]
        assert [answer.reason for answer in answers if answer] == reasons
    virtual.advance(3601)
    answer = virtual.connect("x").publish("t", qos=1)
    assert answer is not None
    assert answer.reason == 0x10
    virtual.stop()


@pytest.mark.slow
def test_tests() -> None:
    if not any(point.name == "mqttd" for point in entry_points(group="pytest11")):
        absent("the entry point of the pytest plugin", "pip install -e '.[test]'")
    # -P, since requests.py there is no library, as a plugin of pytest's may think.
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    found = subprocess.run(
        [*command, "-c", os.devnull, "tests"],
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
    )
    assert found.returncode == 0, found.stdout
    assert "10 passed" in found.stdout
