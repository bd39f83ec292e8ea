"""``mqttctl import``: what the connections of a mosquitto.conf become."""

from __future__ import annotations

import json
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mqttd.config import parse_settings
from mqttd.ctl.__main__ import main
from mqttd.ctl.mosquitto_conf import convert
from mqttd.settings_bridge import BridgeSettings, BridgeTopic, Direction, Queue, StartType
from tests.end_to_end.clients import Target
from tests.end_to_end.daemon import PATIENCE, free_port
from tests.end_to_end.paho_clients import Paho

SECRET = "correct horse battery"

START = "connection up\naddress a.example\n"


def bridge(text: str) -> BridgeSettings:
    (found,) = parse_settings(convert(text.splitlines()).toml(), "mqttd.toml").bridges
    return found


def remarks(text: str) -> dict[str, str]:
    return {each.option: each.text for each in convert(text.splitlines()).report}


def test_what_is_not_said_is_as_in_mosquitto() -> None:
    assert bridge(START + "topic a/#\n") == BridgeSettings(
        "up", ("mqtt://a.example:1883",), version="3.1.1", topics=(BridgeTopic("a/#", qos=0),)
    )
    assert remarks(START) == {}


def test_every_option_with_a_counterpart() -> None:
    found = bridge(
        "connection up\naddresses a.example:1 b.example ::1:1884\nround_robin true\n"
        "remote_username ann\nremote_clientid c\nlocal_username here\ncleansession true\n"
        "local_cleansession false\nkeepalive_interval 30\nstart_type once\n"
        "restart_timeout 10 30\ntry_private false\nnotifications_local_only true\n"
        "notification_topic state\nbridge_cafile ca.pem\nbridge_certfile own.pem\n"
        "bridge_keyfile key.pem\nbridge_alpn mqtt\nbridge_tls_version tlsv1.2\n"
        "bridge_protocol_version mqttv50\nbridge_bind_address 127.0.0.1\nidle_timeout 5\n"
        "threshold 70\nbridge_receive_maximum 60\nbridge_session_expiry_interval 9\n"
        "topic a/# both 2 here/ there/\n"
        'topic "" in 1 one two\n'
        "queue_qos0_messages true\n"
    )
    assert found == BridgeSettings(
        "up",
        ("mqtts://a.example:1", "mqtts://b.example:1883", "mqtts://[::1]:1884"),
        version="5.0",
        client_id="c",
        user_name="ann",
        ca_file="ca.pem",
        certificate="own.pem",
        private_key="key.pem",
        alpn=("mqtt",),
        bind_address="127.0.0.1",
        start=StartType.ONCE,
        threshold=70,
        maximum_inflight=70,
        idle_timeout=5,
        clean_start=True,
        session_expiry=9,
        keep_alive=30,
        retry_first=10,
        retry_last=30,
        queue=Queue.DISK,
        queue_qos0=True,
        principal="here",
        bridge_bit=False,
        notifications="local",
        state_topic="state",
        topics=(
            BridgeTopic("a/#", Direction.BOTH, 2, "here/", "there/"),
            BridgeTopic("", Direction.IN, 1, "one", "two"),
        ),
    )


@pytest.mark.parametrize(
    ("lines", "key", "value"),
    [
        ("cleansession true", "queue", Queue.MEMORY),
        ("notifications false", "notifications", "none"),
        ("restart_timeout 20", "retry_last", 20.0),
        ("bridge_tls_use_os_certs true", "addresses", ("mqtts://a.example:1883",)),
        ("bridge_protocol_version mqttv31", "version", "3.1"),
        ("clientid old", "client_id", "old"),
        ("start_type lazy\ntopic a out", "start", StartType.LAZY),
    ],
)
def test_one_option(lines: str, key: str, value: object) -> None:
    assert getattr(bridge(START + lines + "\n"), key) == value


def test_retain_is_taken_from_what_goes_out_only() -> None:
    lines = "bridge_outgoing_retain false\ntopic a both\ntopic b out\ntopic c in\n"
    assert [(t.filter, t.direction.value, t.retain) for t in bridge(START + lines).topics] == [
        ("a", "out", False),
        ("a", "in", True),
        ("b", "out", False),
        ("c", "in", True),
    ]


@pytest.mark.parametrize(
    ("lines", "option", "said"),
    [
        ("bridge_insecure true", "bridge_insecure", "must be for the name"),
        ("bridge_psk 1234\nbridge_identity x", "bridge_psk", "use certificates"),
        ("bridge_capath /etc/ssl", "bridge_capath", "one file"),
        ("bridge_tls_version tlsv1.1", "bridge_tls_version", "1.2 is the least"),
        ("bridge_max_packet_size 9", "bridge_max_packet_size", "the other side says"),
        ("bridge_attempt_unsubscribe false", "bridge_attempt_unsubscribe", "reload"),
        ("address b.example\nround_robin false", "round_robin", "not preferred"),
        ("start_type lazy\ntopic a in", "start_type", "automatic now"),
        ("start_type never", "start_type", "must be automatic"),
        ("topic a up", "topic", "must be"),
        ('topic "" out 0 a ""', "topic", "both prefixes"),
        ("address b.example:x", "address", "whole number"),
        ("address b.example:0", "address", "host"),
        ("local_password x", "local_password", "needs none"),
        ("remote_password x", "remote_password", "no remote_username"),
        ("bridge_keyfile x", "bridge_keyfile", "no bridge_certfile"),
        ("acl_file x", "connection", "'bridge:up'"),
        ("bridge_nonsense x", "bridge_nonsense", "unknown"),
    ],
)
def test_what_has_no_counterpart_is_said_with_its_remedy(
    lines: str, option: str, said: str
) -> None:
    text = START + lines + "\n"
    assert said in remarks(text)[option]
    bridge(text)


def test_bridges_and_listeners_stay_apart() -> None:
    text = "connection a/b\naddress x\nconnection c\ntopic # both\nlistener 1\nmax_qos 1\n"
    settings = parse_settings(convert(text.splitlines()).toml(), "mqttd.toml")
    assert [each.name for each in settings.bridges] == ["a-b"]
    assert settings.listeners[0].protocol.maximum_qos == 1
    assert [(each.line, each.text) for each in convert(text.splitlines()).report] == [
        (1, "is called 'a-b' here"),
        (3, "has no address, and is left out"),
    ]
    assert "after its connection" in remarks("address x\n")["address"]


def test_the_password_goes_into_a_file_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "mosquitto.conf", tmp_path / "mqttd.toml"
    source.write_text(START + f"remote_username ann\nremote_password {SECRET}\n")
    assert main(["import", str(source)]) == 0
    said = capsys.readouterr()
    assert "name that as password_file" in said.err
    assert main(["--json", "import", str(source), "-o", str(target)]) == 0
    assert SECRET not in said.out + said.err + capsys.readouterr().out
    assert main(["import", str(source), "-o", str(target)]) == 0
    password = tmp_path / "mqttd.up.password"
    assert password.read_text() == SECRET + "\n"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    (found,) = parse_settings(target.read_text()).bridges
    assert (found.password_file, found.user_name) == (str(password), "ann")
    assert SECRET not in target.read_text() + capsys.readouterr().err
    # What is there is never written over.
    target.unlink()
    password.write_text("mine")
    assert main(["import", str(source), "-o", str(target)]) == 1
    assert (password.read_text(), target.exists()) == ("mine", False)


@pytest.fixture
def far(program: Callable[[str], str], tmp_path: Path) -> Iterator[Target]:
    """A mosquitto that asks for a password."""
    port = free_port()
    subprocess.run(
        [program("mosquitto_passwd"), "-b", "-c", str(tmp_path / "far"), "ann", SECRET],
        check=True,
        capture_output=True,
    )
    config = tmp_path / "far.conf"
    # As root it would become somebody who may not read that file.
    config.write_text(f"user root\nlistener {port} 127.0.0.1\npassword_file {tmp_path}/far\n")
    process = subprocess.Popen(
        [program("mosquitto"), "-c", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield Target(port, user_name="ann", password=SECRET)
    process.kill()
    process.wait(PATIENCE)


def test_a_bridge_of_mosquitto_works_here(
    tmp_path: Path,
    far: Target,
    start: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    port = free_port()
    source, target = tmp_path / "mosquitto.conf", tmp_path / "mqttd.toml"
    source.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\n"
        f"connection far\naddress 127.0.0.1:{far.port}\nremote_username ann\n"
        f'remote_password {SECRET}\ntopic out/# out 1 "" site/\ntopic in/# in 1 near/ far/\n'
    )
    assert main(["import", str(source), "-o", str(target)]) == 0
    with target.open("a") as file:
        file.write(f'[http]\nsocket = "{tmp_path}/control"\n')
    daemon = start("--config", str(target))
    daemon.wait_for("<Bridge 'far'> is connected")
    library = Paho(5)
    try:
        here, there = library.connect(Target(port)), library.connect(far)
        here.subscribe("near/#", 1)
        there.subscribe("site/#", 1)
        here.publish("out/a", "x", 1)
        message = there.next_message()
        assert (message.topic, message.payload) == ("site/out/a", b"x")
        monkeypatch.setenv("MQTTD_SOCKET", str(tmp_path / "control"))
        _wait_for_subscription(capsys)
        there.publish("far/in/b", "y", 1)
        assert here.next_message().topic == "near/in/b"
    finally:
        library.close()
    assert SECRET not in daemon.log


def _wait_for_subscription(capsys: pytest.CaptureFixture[str]) -> None:
    """Until the bridge is there; SUBACK has come before the first message is acknowledged."""
    deadline = time.monotonic() + PATIENCE
    capsys.readouterr()
    while True:
        assert main(["--json", "bridges", "show", "far"]) == 0
        if json.loads(capsys.readouterr().out)["sent"]:
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)
