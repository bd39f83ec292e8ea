"""A daemon with rules: what an operator does to it, and what its clients notice."""

from __future__ import annotations

import json
import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mqttd.ctl.__main__ import main
from tests.end_to_end.certificates import Authority
from tests.end_to_end.clients import Library, Message, Refused, Target, unique
from tests.end_to_end.daemon import PATIENCE, Daemon, free_port

RULES = """
[[rule]]
allow = "publish"
topics = ["plant/%u/#"]
[[rule]]
name = "watchers"
allow = "subscribe"
users = ["watcher"]
topics = ["plant/#"]
"""

Libraries = Callable[[str, int], Library]
Ctl = Callable[..., tuple[int, Any]]


class Plant:
    """A daemon with two users, a file of rules and a control socket."""

    def __init__(self, folder: Path, start: Callable[..., Daemon], more: str = "") -> None:
        self.folder = folder
        self._start = start
        self.port = free_port()
        self.rules = folder / "acl.toml"
        self.rules.write_text(RULES)
        (folder / "passwords").write_text("sensor:one\nwatcher:two\n")
        self.config = folder / "mqttd.toml"
        self.config.write_text(
            f"""
            [[listener]]
            endpoint = "tcp:{self.port}:interface=127.0.0.1"
            [[authorization]]
            type = "file"
            path = "{self.rules}"
            {more}
            """
        )
        self.daemon = self.start()

    def start(self) -> Daemon:
        # Short, since the path of a Unix socket must be.
        data = self.folder / "d"
        data.mkdir(exist_ok=True)
        arguments = ("--config", str(self.config), "--data-dir", str(data))
        daemon = self._start(*arguments, "--auth", f"file:{self.folder / 'passwords'}")
        daemon.wait_for(" serves ")
        return daemon

    def target(self, user: str) -> Target:
        password = {"sensor": "one", "watcher": "two"}.get(user, "guess")
        return Target(self.port, user_name=user, password=password)

    def reload(self, text: str) -> str:
        """What the log says about a reload with these rules."""
        self.rules.write_text(text)
        before = self.daemon.log.count("Reload: changed")
        self.daemon.signal(signal.SIGHUP)
        while self.daemon.log.count("Reload: changed") == before:
            self.daemon.wait_for("Reload: changed", PATIENCE)
        return self.daemon.log


@pytest.fixture
def plant(tmp_path: Path, start: Callable[..., Daemon]) -> Plant:
    return Plant(tmp_path, start)


@pytest.fixture
def ctl(plant: Plant, capsys: pytest.CaptureFixture[str]) -> Ctl:
    """``mqttctl``: its exit code, and what its JSON says."""

    def run(*arguments: str) -> tuple[int, Any]:
        path = str(plant.folder / "d" / "control.socket")
        code = main(["--json", "--socket", path, *arguments])
        out = capsys.readouterr().out
        return code, json.loads(out) if out.strip() else None

    return run


def test_rules_hold_and_change_for_those_who_are_here(plant: Plant, libraries: Libraries) -> None:
    paho = libraries("paho", 5)
    watcher = paho.connect(plant.target("watcher"))
    watcher.subscribe("plant/#", 1)
    sensor = paho.connect(plant.target("sensor"))
    sensor.publish("plant/other/x", "denied", 1)
    sensor.publish("plant/sensor/x", "allowed", 1)
    assert watcher.next_message() == Message("plant/sensor/x", b"allowed", 1, False)

    # A file that is wrong changes nothing, and the log says what is wrong.
    log = plant.reload("[[rule]]\nallow = 'publish'\ntopics = ['a/#/b']")
    assert f"{plant.rules}: rule[1].topics = 'a/#/b'" in log
    assert f"{plant.rules}: is empty" in plant.reload("")
    sensor.publish("plant/sensor/x", "still", 1)
    assert watcher.next_message().payload == b"still"

    # A right one takes the subscription away, and gives another.
    plant.reload(RULES.replace('"plant/#"', '"plant/+/y"').replace("%u/#", "#"))
    sensor.publish("plant/sensor/y", "no subscription any more", 1)
    watcher.subscribe("plant/+/y", 1)
    sensor.publish("plant/other/y", "new", 1)
    assert watcher.next_message() == Message("plant/other/y", b"new", 1, False)


def test_an_operator_asks_why_and_bans(plant: Plant, libraries: Libraries, ctl: Ctl) -> None:
    paho = libraries("paho", 4)
    watcher = paho.connect(plant.target("watcher"), "watcher-1")
    watcher.subscribe("plant/#", 1)
    code, why = ctl("explain", "--user", "sensor", "publish", "plant/sensor/x", "--qos", "1")
    assert (code, why["by"]) == (0, f"rule 1 of {plant.rules}")
    assert [(r["client_id"], r["outcome"]) for r in why["receivers"]] == [("watcher-1", "sent")]
    code, why = ctl("explain", "--client", "watcher-1", "publish", "plant/sensor/x")
    assert (code, why["by"], why["user"]) == (1, "no rule allows it", "watcher")

    # Rules can be read again by command, which says what is wrong with them.
    plant.rules.write_text("[[rule]]")
    assert ctl("reload")[0] == 1
    plant.rules.write_text(RULES)
    assert ctl("reload")[0] == 0

    code, made = ctl("ban", "add", "user", "watcher", "--reason", "test")
    assert (code, made["ended"]) == (0, 1)
    with pytest.raises(Refused):
        paho.connect(plant.target("watcher"))
    # It outlives the daemon.
    plant.daemon.stop()
    plant.daemon = plant.start()
    with pytest.raises(Refused):
        paho.connect(plant.target("watcher"))
    assert [ban["value"] for ban in ctl("ban", "list")[1]] == ["watcher"]
    assert ctl("ban", "remove", "user", "watcher")[0] == 0
    paho.connect(plant.target("watcher"))


def test_a_file_of_bans_that_is_broken_stops_the_start(plant: Plant) -> None:
    plant.daemon.stop()
    bans = plant.folder / "d" / "bans.json"
    bans.write_text("[")
    with pytest.raises(AssertionError, match=r"bans\.json: cannot be used"):
        plant.start()


def test_mosquittos_file_works_unchanged(
    tmp_path: Path, start: Callable[..., Daemon], libraries: Libraries
) -> None:
    acl = tmp_path / "acl"
    acl.write_text(
        "# From mosquitto's own manual.\n"
        "user watcher\ntopic read plant/#\n\npattern write plant/%u/%c\n"
    )
    port = free_port()
    config = tmp_path / "mqttd.toml"
    config.write_text(
        f"[[listener]]\nendpoint = 'tcp:{port}:interface=127.0.0.1'\n"
        f"[[authorization]]\ntype = 'mosquitto'\npath = '{acl}'\n"
    )
    (tmp_path / "passwords").write_text("sensor:one\nwatcher:two\n")
    passwords = f"file:{tmp_path / 'passwords'}"
    start("--config", str(config), "--auth", passwords).wait_for(" serves ")
    paho = libraries("paho", 4)
    watcher = paho.connect(Target(port, user_name="watcher", password="two"))
    watcher.subscribe("#", 1)
    sensor = paho.connect(Target(port, user_name="sensor", password="one"), "c7")
    sensor.publish("plant/sensor/c8", "another's", 1)
    sensor.publish("other", "elsewhere", 1)
    sensor.publish("plant/sensor/c7", "its own", 1)
    assert watcher.next_message().payload == b"its own"


def test_who_fails_too_often_is_not_even_greeted(
    tmp_path: Path, start: Callable[..., Daemon], libraries: Libraries
) -> None:
    """After three bad passwords the socket is closed, and there is no TLS handshake."""
    authority = Authority(tmp_path)
    certificate, key = authority.sign("localhost", "server")
    port = free_port()
    config = tmp_path / "mqttd.toml"
    config.write_text(
        f"""
        [abuse]
        failed_logins = 3
        [[listener]]
        endpoint = "tcp:{port}:interface=127.0.0.1"
        [listener.tls]
        certificate = "{certificate}"
        private_key = "{key}"
        """
    )
    (tmp_path / "passwords").write_text("sensor:one\n")
    passwords = f"file:{tmp_path / 'passwords'}"
    daemon = start("--config", str(config), "--auth", passwords)
    daemon.wait_for(" serves ")
    target = Target(port, authority=str(authority.certificate), user_name="sensor", password="x")
    for _ in range(3):
        with pytest.raises(Refused):
            libraries("paho", 5).connect(target)
    daemon.wait_for("127.0.0.1 failed to log in 3 times")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    with (
        closing(socket.create_connection(("127.0.0.1", port), PATIENCE)) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain, server_hostname="localhost")
    assert "refuses connections (failed-logins)" in daemon.wait_for("refuses connections")


def test_a_session_belongs_to_its_user(plant: Plant, libraries: Libraries) -> None:
    paho = libraries("paho", 5)
    name = unique("session")
    watcher = paho.connect(plant.target("watcher"), name, keep=True)
    watcher.subscribe("plant/#", 1)
    with pytest.raises(Refused):
        paho.connect(plant.target("sensor"), name, keep=True)
    watcher.disconnect()
    with pytest.raises(Refused):
        paho.connect(plant.target("sensor"), name)
    back: Any = paho.connect(plant.target("watcher"), name, keep=True)
    assert back.session_present
