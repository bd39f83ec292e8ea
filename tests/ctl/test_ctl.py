"""``mqttctl`` against the API of a daemon that is a few lines long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mqttd.ctl.output import clean
from mqttd.paths import control_socket, find_control_socket
from tests.ctl.conftest import Daemon

CLIENT = {"client_id": "a/b\x1b[31m", "user": None, "address": "192.0.2.1", "queued": 3}


def test_a_table_for_people(daemon: Daemon, run: Any) -> None:
    page = {"items": [CLIENT], "total": 1, "next": None}
    daemon.answers["GET", "/api/v1/clients?limit=1000&prefix=a"] = (200, page)
    code, out, _ = run("clients", "list", "--prefix", "a")
    assert code == 0
    title, row = out.splitlines()
    assert title.split()[:3] == ["CLIENT", "ID", "USER"]
    # Nothing that a client calls itself reaches the terminal as a command.
    assert row.startswith(r"a/b\x1b[31m")
    assert "\x1b" not in out


@pytest.mark.parametrize(
    "arguments", [("--json", "clients", "list"), ("clients", "list", "--json")]
)
def test_json_for_scripts(daemon: Daemon, run: Any, arguments: tuple[str, ...]) -> None:
    page = {"items": [CLIENT], "total": 1, "next": None}
    daemon.answers["GET", "/api/v1/clients?limit=1000"] = (200, page)
    code, out, _ = run(*arguments)
    assert (code, json.loads(out)) == (0, [CLIENT])


def test_all_pages_are_read(daemon: Daemon, run: Any) -> None:
    first = {"items": [{"client_id": "a"}], "total": 2, "next": "a"}
    last = {"items": [{"client_id": "b"}], "total": 2, "next": None}
    daemon.answers["GET", "/api/v1/clients?limit=1000"] = (200, first)
    daemon.answers["GET", "/api/v1/clients?limit=1000&after=a"] = (200, last)
    _, out, _ = run("clients", "list", "--json")
    assert [client["client_id"] for client in json.loads(out)] == ["a", "b"]


def test_names_are_quoted_on_their_way(daemon: Daemon, run: Any) -> None:
    daemon.answers["DELETE", "/api/v1/clients/a%2Fb%20c%3F"] = (204, None)
    code, out, _ = run("clients", "kick", "a/b c?")
    assert (code, out) == (0, "a/b c? was disconnected\n")


def test_a_refusal_says_what_the_daemon_said(daemon: Daemon, run: Any) -> None:
    problem = {"title": "Conflict", "detail": "The settings stay.", "errors": ["a: bad"]}
    daemon.answers["POST", "/api/v1/reload"] = (409, problem)
    assert run("reload") == (1, "", "mqttctl: The settings stay.\na: bad\n")


def test_no_daemon_is_told_with_the_remedy(run: Any) -> None:
    code, _, error = run("--socket", "/nonexistent/socket", "status")
    assert code == 1
    assert "/nonexistent/socket" in error
    assert "is mqttd running?" in error


@pytest.mark.parametrize(
    "arguments", [(), ("nonsense",), ("clients",), ("clients", "show"), ("status", "--wrong")]
)
def test_what_is_not_understood_is_2(run: Any, arguments: tuple[str, ...]) -> None:
    assert run(*arguments)[0] == 2


def test_the_url_must_be_one(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not a URL" in run("--url", "broker:8080", "status")[2]
    assert "not a URL" in run("--url", "https://[", "status")[2]
    monkeypatch.setenv("MQTTD_TOKEN", "secret")
    assert "https only" in run("--url", "http://broker.example", "status")[2]


def test_a_token_file_must_be_readable(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "token"
    code, _, error = run("--url", "https://b", "--token-file", str(file), "status")
    assert (code, str(file) in error) == (1, True)


def test_an_authority_must_be_one(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    assert str(file) in run("--url", "https://b", "--ca-file", str(file), "status")[2]
    file.write_text("nonsense")
    assert str(file) in run("--url", "https://b", "--ca-file", str(file), "status")[2]


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_the_commands(run: Any, shell: str) -> None:
    code, out, _ = run("completion", shell)
    assert code == 0
    assert "clients" in out


def test_the_version_is_shown(run: Any) -> None:
    assert run("--version")[1].startswith("mqttctl ")


def test_control_characters_are_shown() -> None:
    assert clean("a\r\nb\x1b[2J\u202ec é") == r"a\r\nb\x1b[2J\u202ec é"


def test_the_socket_is_where_the_service_manager_says(tmp_path: Path) -> None:
    environment = {"RUNTIME_DIRECTORY": f"{tmp_path}:/run/x"}
    assert control_socket("/data", environment) == tmp_path / "control.socket"
    assert find_control_socket(environment) == tmp_path / "control.socket"
    assert control_socket("/data", {}) == Path("/data/control.socket")


def test_a_socket_that_may_not_be_seen_is_still_the_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the person is told who may use it."""

    def exists(path: Path) -> bool:
        if path.parts[:2] == ("/", "run"):
            raise PermissionError
        return False

    monkeypatch.setattr(Path, "exists", exists)
    assert find_control_socket({"HOME": "/home/x"}) == Path("/run/mqttd/control.socket")
