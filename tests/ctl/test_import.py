"""``mqttctl import``: what a mosquitto.conf becomes, and what is said of the rest."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mqttd.config import parse_settings
from mqttd.ctl import mosquitto_bridge, mosquitto_conf
from mqttd.ctl.__main__ import main
from mqttd.ctl.importing import check
from mqttd.ctl.mosquitto_conf import convert
from mqttd.settings import (
    BrokerSettings,
    ClientCertificate,
    Identity,
    ListenerSettings,
    StoreBackend,
)
from tests.end_to_end.daemon import free_port

DOCS = Path(__file__).parents[2] / "docs"


def settings(text: str) -> BrokerSettings:
    return parse_settings(convert(text.splitlines()).toml(), "mqttd.toml")


def listener(text: str) -> ListenerSettings:
    (found,) = settings(text).listeners
    return found


def remarks(text: str) -> dict[str, str]:
    return {each.option: each.text for each in convert(text.splitlines()).report}


def test_an_empty_file_serves_this_machine_like_mosquitto() -> None:
    found = listener("# nothing\n\n")
    assert (found.endpoint, found.allow_anonymous) == ("tcp:1883:interface=127.0.0.1", True)


@pytest.mark.parametrize(
    ("line", "endpoint"),
    [
        ("listener 1884", "tcp6:1884"),
        ("listener 1884 127.0.0.1", "tcp:1884:interface=127.0.0.1"),
        ("listener 1884 ::1", r"tcp6:1884:interface=\:\:1"),
        ("listener 0 /run/m.sock", "unix:/run/m.sock"),
        ("listener 1884\nsocket_domain ipv4", "tcp:1884"),
        ("port 1885", "tcp6:1885"),
        ("port 1885\nbind_address 127.0.0.1", "tcp:1885:interface=127.0.0.1"),
    ],
)
def test_listeners_become_endpoints(line: str, endpoint: str) -> None:
    found = listener(line)
    # A listener that is named lets nobody in without a name, unless that is said.
    assert (found.endpoint, found.allow_anonymous) == (endpoint, False)


def test_what_stands_after_a_listener_is_its_own() -> None:
    first, second = settings(
        "listener 1\nmax_connections 5\nmax_qos 1\nmount_point a/\nlistener 2\nmax_connections -1\n"
    ).listeners
    assert (first.limits.maximum_connections, first.protocol.maximum_qos) == (5, 1)
    assert (second.limits.maximum_connections, second.protocol.maximum_qos) == (0, 2)
    assert (first.mount_point, second.mount_point) == ("a/", "")


def test_limits_hold_for_all() -> None:
    found = settings(
        "max_inflight_messages 0\nmax_queued_messages 500\nmax_queued_bytes 0\n"
        "queue_qos0_messages true\nmessage_size_limit 1000\nmax_packet_size 0\n"
        "max_keepalive 600\npersistent_client_expiration 2w\nretain_available false\n"
        "sys_interval 5\nauto_id_prefix x-\nallow_zero_length_clientid false\n"
        "upgrade_outgoing_qos true\ncheck_retain_source false\npersistence true\nlog_type debug\n"
        "listener 1883\n"
    )
    assert found.session.maximum_inflight == 65_535
    assert (found.session.maximum_queued_messages, found.session.queue_qos0) == (500, True)
    assert (found.protocol.maximum_payload_size, found.protocol.maximum_keep_alive) == (1000, 600)
    assert found.protocol.persistent_session_expiry == 14 * 86_400
    assert (found.protocol.retain_available, found.retained.check_source) == (False, False)
    assert (found.sys_interval, found.log_level) == (5, "debug")
    assert found.store.backend is StoreBackend.SQLITE
    assert found.listeners[0].session == found.session


def test_tls_asks_for_certificates_only_where_mosquitto_does() -> None:
    text = "listener 8883\ncertfile c.pem\nkeyfile k.pem\ncafile a.pem\ntls_version tlsv1.3\n"
    tls = listener(text).tls
    assert tls is not None
    assert (tls.certificate, tls.private_key, tls.minimum_version) == ("c.pem", "k.pem", "1.3")
    assert tls.client_certificate is ClientCertificate.NONE
    tls = listener(text + "require_certificate true\nuse_identity_as_username true\n").tls
    assert tls is not None
    assert (tls.client_certificate, tls.identity) == (
        ClientCertificate.REQUIRED,
        Identity.COMMON_NAME,
    )
    assert tls.client_authorities == "a.pem"


def test_websockets_need_a_look_at_the_path() -> None:
    text = "listener 9001\nprotocol websockets\n"
    found = listener(text)
    assert found.websocket is not None
    assert found.websocket.origins == ("*",)
    assert "/mqtt" in remarks(text)["protocol"]


def test_passwords_of_listeners_stay_apart() -> None:
    first, second = settings(
        "per_listener_settings true\nlistener 1\npassword_file a\nlistener 2\npassword_file b\n"
    ).listeners
    assert first.authentication != second.authentication


def test_the_rest_is_reported_with_its_line() -> None:
    report = convert(
        ["psk_file x", "# ok", "nonsense 1", "plugin_opt_x 1", "max_qos many", "listener 1883"]
    ).report
    assert [(each.line, each.option) for each in report[:4]] == [
        (1, "psk_file"),
        (3, "nonsense"),
        (4, "plugin_opt_x"),
        (5, "max_qos"),
    ]


OF_A_BRIDGE = {
    *mosquitto_bridge.OPTIONS,
    *mosquitto_bridge.WITHOUT,
    *mosquitto_bridge.SPECIAL,
}

OPTIONS = sorted(
    {
        *mosquitto_conf.EVERYWHERE,
        *mosquitto_conf.OF_SECURITY,
        *mosquitto_conf.OF_A_LISTENER,
        *mosquitto_conf.WITHOUT,
        *mosquitto_conf.SPECIAL,
        *OF_A_BRIDGE,
    }
)


@example([("password_file", "\x7f")])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(OPTIONS) | st.text(max_size=10),
            st.sampled_from(["true", "false", "0", "1", "-1", "1883", "tlsv1.2", "websockets"])
            | st.text(max_size=10),
        ),
        max_size=12,
    )
)
def test_any_file_becomes_one_that_can_be_read_or_says_what_is_wrong(
    lines: list[tuple[str, str]],
) -> None:
    converted = convert(f"{option} {value}" for option, value in lines)
    for problem in check(converted.toml(), converted):
        assert "is not TOML" not in problem


def test_the_page_about_it_has_every_option() -> None:
    page = (DOCS / "coming-from.rst").read_text()
    named = {
        option
        for option in OPTIONS
        if option not in OF_A_BRIDGE
        and not re.search(rf"``[^`]*\b{re.escape(option.rstrip('*'))}[^`]*``", page)
    }
    assert named == set()


def test_the_command_writes_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "mosquitto.conf", tmp_path / "mqttd.toml"
    source.write_text("listener 1883\nallow_anonymous true\npsk_file x\n")
    assert main(["import", str(source), "-o", str(target)]) == 0
    assert "psk_file" in capsys.readouterr().err
    assert parse_settings(target.read_text()).listeners[0].allow_anonymous
    assert main(["import", str(source), "-o", str(target)]) == 1
    assert "there already" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "absent")]) == 1
    capsys.readouterr()
    assert main(["--json", "import", str(source)]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []


def test_a_listener_that_anyone_could_use_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "mosquitto.conf"
    source.write_text("listener 1883\n")
    assert main(["import", str(source)]) == 0
    assert "nothing says who may connect" in capsys.readouterr().err


def test_what_worked_with_mosquitto_works_here(
    tmp_path: Path, program: Callable[[str], str], start: Callable[..., Any]
) -> None:
    port = free_port()
    (tmp_path / "acl").write_text("user ann\ntopic readwrite ok/#\n")
    subprocess.run(
        [program("mosquitto_passwd"), "-b", "-c", str(tmp_path / "passwd"), "ann", "sesame"],
        check=True,
        capture_output=True,
    )
    source, target = tmp_path / "mosquitto.conf", tmp_path / "mqttd.toml"
    source.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous false\npersistence false\n"
        f"password_file {tmp_path}/passwd\nacl_file {tmp_path}/acl\n"
    )
    assert main(["import", str(source), "-o", str(target)]) == 0
    start("--config", str(target)).wait_for(" serves ")

    def publish(topic: str, password: str) -> int:
        login = ["-p", str(port), "-u", "ann", "-P", password]
        message = ["-V", "5", "-q", "1", "-t", topic, "-m", "x"]
        command = [program("mosquitto_pub"), *login, *message]
        return subprocess.run(command, capture_output=True, timeout=30).returncode

    assert publish("ok/1", "sesame") == 0
    assert publish("ok/1", "wrong") != 0
