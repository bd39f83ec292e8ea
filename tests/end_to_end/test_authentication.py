"""Every authenticator of a running daemon, asked by paho."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from attrs import evolve, frozen

from mqttd.access.passwords import make_hash
from tests.access.test_servers import QUERY
from tests.access.test_token import SECRET
from tests.access.test_web_login import Service, service
from tests.end_to_end.certificates import Authority
from tests.end_to_end.clients import Refused, Target, unique
from tests.end_to_end.daemon import Daemon, free_port, toml
from tests.end_to_end.paho_clients import Paho
from tests.servers import HASH, PASSWORD, USER, Server

TOKEN = jwt.encode({"sub": USER, "exp": 4_000_000_000}, SECRET)


def tables(*each: dict[str, Any]) -> str:
    """[[authentication]] tables."""
    lines: list[str] = []
    for table in each:
        lines.append("[[authentication]]")
        for name, value in table.items():
            text = str(value).lower() if isinstance(value, bool) else repr(value)
            lines.append(f"{name} = {text}")
    return "\n".join(lines) + "\n"


@frozen
class Asked:
    """A daemon with a listener for each authenticator."""

    daemon: Daemon
    targets: dict[str, Target]
    web: Service


@pytest.fixture(scope="module")
def asked(
    tmp_path_factory: pytest.TempPathFactory,
    postgresql: Server,
    mariadb: Server,
    redis: Server,
    directory: Server,
    authority: Authority,
) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("authentication")
    for name, text in {
        "passwords": f"{USER}:{HASH}\n",
        "plain": f"{USER}:{PASSWORD}\n",
        "secret": "db-secret",
        "key": SECRET,
    }.items():
        (folder / name).write_text(text)
    certificate, key = authority.sign("localhost", "authentication")
    tls = {
        "certificate": str(certificate),
        "private_key": str(key),
        "client_certificate": "optional",
        "client_authorities": str(authority.certificate),
    }
    with service() as web:
        secret = str(folder / "secret")
        sql = {
            "type": "sql",
            "host": "127.0.0.1",
            "user": "mqttd",
            "password_file": secret,
            "query": QUERY,
        }
        known: dict[str, dict[str, Any]] = {
            "file": {"type": "password-file", "path": str(folder / "passwords")},
            "certificate": {"type": "certificate"},
            "jwt": {"type": "jwt", "algorithms": ["HS256"], "key_file": str(folder / "key")},
            "http": {"type": "http", "url": f"http://127.0.0.1:{web.server_port}/"},
            "postgresql": {**sql, "port": postgresql.port, "database": "postgres"},
            "mariadb": {**sql, "driver": "mariadb", "port": mariadb.port, "database": "mqtt"},
            "redis": {"type": "redis", "port": redis.port, "password_file": secret},
            "ldap": {
                "type": "ldap",
                "url": f"ldap://127.0.0.1:{directory.port}",
                "user_dn": "uid=${username},ou=people,dc=example,dc=org",
            },
            "cred": {"type": "cred", "auth": [f"file:{folder / 'plain'}"]},
            "down": {"type": "redis", "port": free_port(), "timeout": 0.5},
        }
        known["redis"]["host"] = known["down"]["host"] = "127.0.0.1"
        ports = {name: free_port() for name in known}
        listeners = [
            {
                "name": name,
                "endpoint": f"tcp:{ports[name]}:interface=127.0.0.1",
                "authentication": [name],
                **({"tls": tls} if name == "certificate" else {}),
            }
            for name in known
        ]
        config = folder / "mqttd.toml"
        named = ({"name": name, **table} for name, table in known.items())
        config.write_text(toml(listeners, broker={"node": "n"}) + tables(*named))
        daemon = Daemon(folder, ["--config", str(config), "--data-dir", str(folder / "data")])
        try:
            daemon.wait_for(" serves ")
            targets = {name: Target(port) for name, port in ports.items()}
            targets["certificate"] = evolve(
                targets["certificate"], authority=str(authority.certificate)
            )
            yield Asked(daemon, targets, web)
        finally:
            daemon.stop()


@pytest.fixture(scope="module", params=[4, 5], ids=["3.1.1", "5.0"])
def paho(request: pytest.FixtureRequest) -> Iterator[Paho]:
    library = Paho(request.param)
    yield library
    library.close()


def enter(paho: Paho, target: Target, user: str | None, password: str | None) -> None:
    paho.connect(evolve(target, user_name=user, password=password)).disconnect()


@pytest.mark.parametrize("name", ["file", "postgresql", "mariadb", "redis", "ldap", "cred"])
def test_a_password_opens_and_others_do_not(asked: Asked, paho: Paho, name: str) -> None:
    target = asked.targets[name]
    enter(paho, target, USER, PASSWORD)
    for user, password in ((USER, "guess"), (USER, None), ("eve", PASSWORD), (None, None)):
        with pytest.raises(Refused, match=r"Bad user name or password"):
            enter(paho, target, user, password)


def test_a_token_opens(asked: Asked, paho: Paho) -> None:
    target = asked.targets["jwt"]
    enter(paho, target, USER, TOKEN)
    for wrong in (TOKEN[:-3] + "abc", PASSWORD, None):
        with pytest.raises(Refused):
            enter(paho, target, USER, wrong)


def test_a_certificate_opens(asked: Asked, paho: Paho, authority: Authority) -> None:
    target = asked.targets["certificate"]
    certificate, key = authority.sign(USER, unique("certificate"))
    enter(paho, evolve(target, certificate=str(certificate), key=str(key)), None, None)
    with pytest.raises(Refused):
        enter(paho, target, USER, PASSWORD)


def test_a_web_service_is_asked(asked: Asked, paho: Paho) -> None:
    target = asked.targets["http"]
    asked.web.answer = (200, b"", {})
    enter(paho, target, USER, PASSWORD)
    answers: list[tuple[tuple[int, bytes, dict[str, str]], str]] = [
        ((200, b"deny", {}), "Bad user name or password"),
        ((500, b"", {}), "Server unavailable"),
        ((200, b"<html>", {}), "Server unavailable"),
    ]
    for answer, told in answers:
        asked.web.answer = answer
        with pytest.raises(Refused, match=told):
            enter(paho, target, USER, PASSWORD)


def test_a_server_that_is_down_harms_nobody_else(asked: Asked, paho: Paho) -> None:
    for _ in range(3):
        with pytest.raises(Refused, match="Server unavailable"):
            enter(paho, asked.targets["down"], USER, PASSWORD)
        enter(paho, asked.targets["file"], USER, PASSWORD)
    asked.daemon.wait_for("Authentication by down failed")


def test_the_log_has_no_secret(asked: Asked) -> None:
    for secret in (PASSWORD, "guess", "db-secret", SECRET, TOKEN, TOKEN.split(".")[2], HASH):
        assert secret not in asked.daemon.log


# --- change without a restart ---------------------------------------------------------


@pytest.fixture
def reloadable(tmp_path: Path, start: Callable[..., Daemon]) -> tuple[Daemon, Target, Path, Path]:
    passwords = tmp_path / "passwords"
    bob = make_hash(b"bob", "pbkdf2")
    passwords.write_text(f"{USER}:{HASH}\nbob:{bob}\n")
    port = free_port()
    config = tmp_path / "mqttd.toml"
    config.write_text(
        toml([{"endpoint": f"tcp:{port}:interface=127.0.0.1"}])
        + tables({"type": "password-file", "path": str(passwords)})
    )
    daemon = start("--config", str(config), "--data-dir", str(tmp_path / "data"))
    daemon.wait_for(" serves ")
    return daemon, Target(port), passwords, config


def test_who_is_taken_out_of_the_file_is_out(
    reloadable: tuple[Daemon, Target, Path, Path],
) -> None:
    daemon, target, passwords, _ = reloadable
    library = Paho(5)
    ann = library.connect(evolve(target, user_name=USER, password=PASSWORD))
    name = unique("bob")
    bob = library.connect(evolve(target, user_name="bob", password="bob"), name, keep=True)
    bob.subscribe("t", 1)
    passwords.write_text(f"{USER}:{HASH}\n")
    daemon.signal(signal.SIGHUP)
    daemon.wait_for("1 connections by password-file were revoked")
    assert "Not authorized" in str(bob.disconnected.get(timeout=20))  # type: ignore[attr-defined]
    with pytest.raises(Refused):
        enter(library, target, "bob", "bob")
    ann.publish("t", "still here", 1)
    # His session is gone as well, so that nothing waits for him when he is back.
    passwords.write_text(f"{USER}:{HASH}\nbob:{make_hash(b'bob', 'pbkdf2')}\n")
    daemon.signal(signal.SIGHUP)
    daemon.wait_for("Reload: changed authentication password-file", 20)
    again = library.connect(evolve(target, user_name="bob", password="bob"), name, keep=True)
    assert not again.session_present  # type: ignore[attr-defined]
    library.close()


@pytest.mark.parametrize("text", ["", f"ann:{HASH}", "ann:secret\n"])
def test_a_broken_file_changes_nothing_and_is_told(
    reloadable: tuple[Daemon, Target, Path, Path], text: str
) -> None:
    daemon, target, passwords, _ = reloadable
    passwords.write_text(text)
    daemon.signal(signal.SIGHUP)
    line = daemon.wait_for("what was read before stays in force")
    assert str(passwords) in line
    library = Paho(5)
    enter(library, target, USER, PASSWORD)
    enter(library, target, "bob", "bob")
    library.close()


def test_settings_that_are_wrong_change_nothing(
    reloadable: tuple[Daemon, Target, Path, Path],
) -> None:
    daemon, target, _, config = reloadable
    right = config.read_text()
    config.write_text(right + tables({"type": "scram", "path": "/nonexistent"}))
    daemon.signal(signal.SIGHUP)
    daemon.wait_for("authentication 'scram': /nonexistent")
    library = Paho(5)
    enter(library, target, USER, PASSWORD)
    config.write_text(right.replace("type = ", "name = 'users'\ntype = "))
    daemon.signal(signal.SIGHUP)
    daemon.wait_for("Reload: changed authentication")
    enter(library, target, USER, PASSWORD)
    library.close()


def test_an_empty_file_is_no_beginning(tmp_path: Path) -> None:
    from tests.end_to_end.daemon import run_to_end

    passwords = tmp_path / "passwords"
    passwords.write_text("")
    config = tmp_path / "mqttd.toml"
    config.write_text(tables({"type": "password-file", "path": str(passwords)}))
    ended = run_to_end(tmp_path, "--config", str(config), "--listen", "tcp:0")
    assert ended.returncode == 1
    assert f"{passwords}: no user in it" in ended.stderr
