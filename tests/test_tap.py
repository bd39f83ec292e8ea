"""The command line of ``twistd mqttd``."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.python.usage import UsageError

import mqttd
from mqttd.config import parse_settings
from mqttd.tap import Options

CONFIG = """
[protocol]
maximum_qos = 1
[[listener]]
name = "own"
endpoint = "unix:/run/mqttd-test"
"""


@pytest.fixture(autouse=True)
def no_configuration_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MQTTD_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "mqttd.toml"
    path.write_text(CONFIG)
    return str(path)


def parsed(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(list(arguments))  # type: ignore[no-untyped-call]
    return options


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        parsed(*arguments)
    assert ended.value.code == 1
    return capsys.readouterr().err


def test_the_configuration_is_read(config: str) -> None:
    (listener,) = parsed("-c", config).settings.listeners
    assert (listener.name, listener.protocol.maximum_qos) == ("own", 1)


def test_the_environment_names_the_configuration(
    config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTTD_CONFIG", config)
    assert parsed().settings.protocol.maximum_qos == 1


def test_the_data_directory(config: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command line says it, or the file, or systemd, or it is the user's own."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert parsed().settings.data_directory == str(tmp_path / "mqttd")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/mqttd:/var/lib/other")
    assert parsed().settings.data_directory == "/var/lib/mqttd"
    with open(config, "a") as file:
        file.write('[broker]\ndata_directory = "/srv/mqtt"\n')
    assert parsed("-c", config).settings.data_directory == "/srv/mqtt"
    options = parsed("-c", config, "--data-dir", "here")
    assert options.settings.data_directory == str(Path.cwd() / "here")


def test_listen_may_be_repeated_and_joins_the_file(config: str) -> None:
    local = "tcp:1885:interface=127.0.0.1"
    settings = parsed("-c", config, "--listen", local, "--listen", "unix:/b").settings
    endpoints = [listener.endpoint for listener in settings.listeners]
    assert endpoints == ["unix:/run/mqttd-test", local, "unix:/b"]
    assert settings.listeners[1].protocol.maximum_qos == 1


def test_the_outside_needs_permission(capsys: pytest.CaptureFixture[str]) -> None:
    text = refused(capsys, "--listen", "tcp:1883")
    assert "'tcp:1883'" in text
    assert "--allow-anonymous" in text
    (listener,) = parsed("--listen", "tcp:1883", "--allow-anonymous").settings.listeners
    assert listener.allow_anonymous


def test_a_checker_is_permission(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("ann:secret\n")
    options = parsed("--listen", "tcp:1883", "--auth", f"file:{passwords}")
    assert not options.settings.listeners[0].allow_anonymous
    assert len(options.checkers) == 1


def test_an_authenticator_is_permission(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("ann:secret\n")
    path = tmp_path / "mqttd.toml"
    path.write_text(f"[[authentication]]\ntype = 'cred'\nauth = ['file:{passwords}']\n")
    options = parsed("-c", str(path), "--listen", "tcp:1883", "--auth", "memory:bob:secret")
    assert not options.settings.listeners[0].allow_anonymous
    assert len(options.checkers) == 1


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("type = 'cred'\nauth = ['nosuch:secret']", "'cred': auth = 'nosuch:...'"),
        ("type = 'password-file'\npath = '/nonexistent'", "'password-file': /nonexistent: cannot"),
        (
            "type = 'sql'\nname = 'users'\ndriver = 'sqlite'\ndatabase = '/x'\nquery = 'q'",
            "'users'",
        ),
    ],
)
def test_an_authenticator_that_cannot_be_made_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str, told: str
) -> None:
    path = tmp_path / "mqttd.toml"
    path.write_text(f"[[authentication]]\n{table}\n")
    text = refused(capsys, "-c", str(path))
    assert f"authentication {told}" in text
    assert "secret" not in text


def test_errors_come_one_a_line_and_without_the_help_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mqttd.toml"
    path.write_text("[protocol]\nmaximum_qos = 3\nreceive_maximum = 0\n")
    lines = refused(capsys, "-c", str(path)).splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{path}: protocol.") for line in lines)


def test_a_bad_endpoint_is_told_before_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    text = refused(capsys, "--allow-anonymous", "--listen", "tpc:1883")
    assert "bad endpoint 'tpc:1883'" in text


def test_a_socket_that_systemd_did_not_give_is_told_unless_it_is_only_checked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ("--allow-anonymous", "--listen", "systemd:domain=INET6:name=mqtt")
    assert "systemctl start mqttd.socket" in refused(capsys, *arguments)
    with pytest.raises(SystemExit) as ended:
        parsed(*arguments, "--check-config")
    assert ended.value.code == 0


def test_mqtt_on_the_http_endpoint_needs_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mqttd.toml"
    text = """
        [[listener]]
        endpoint = "site:http"
        allow_anonymous = true
        websocket = {}
        """
    path.write_text(text)
    assert "if [http] has an endpoint" in refused(capsys, "-c", str(path))
    path.write_text(text.replace("site:http", "site:other"))
    assert "site:http is there" in refused(capsys, "-c", str(path))


def test_check_config_prints_what_is_in_force(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed("-c", config, "--log-level", "warn", "--check-config")
    assert ended.value.code == 0
    shown = parse_settings(capsys.readouterr().out)
    assert (shown.protocol.maximum_qos, shown.log_level) == (1, "warn")
    assert shown.listeners[0].allow_anonymous


def test_check_config_looks_into_certificates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mqttd.toml"
    text = "[[listener]]\nendpoint = 'unix:/a'\n[listener.tls]\ncertificate = '/nonexistent.pem'"
    path.write_text(text)
    text = refused(capsys, "-c", str(path), "--check-config")
    assert text.startswith("mqttd: listener[1].tls: ")
    assert "/nonexistent.pem" in text


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parsed("--version")
    assert ended.value.code == 0
    how = "compiled" if mqttd.__compiled__ else "pure Python"
    assert capsys.readouterr().out.startswith(f"mqttd {mqttd.__version__} ({how}, Twisted ")


@pytest.mark.parametrize("arguments", [("--log-level", "loud"), ("--log-format", "xml")])
def test_a_wrong_word_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="one of"):
        parsed(*arguments)


def test_the_log_options_override_the_file(config: str) -> None:
    settings = parsed("-c", config, "--log-level", "debug", "--log-format", "json").settings
    assert (settings.log_level, settings.log_format) == ("debug", "json")
