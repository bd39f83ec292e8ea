"""A daemon and its operator: what ``mqttctl`` changes is what clients find."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from mqttd.ctl.__main__ import main
from tests.end_to_end.certificates import Authority
from tests.end_to_end.clients import Message, Refused, Target, unique
from tests.end_to_end.daemon import Daemon, free_port, toml
from tests.end_to_end.paho_clients import Paho
from tests.servers import HASH, PASSWORD, USER


@frozen
class Operated:
    """A daemon with a file of users, MQTT on its HTTP endpoint, and ``mqttctl``."""

    daemon: Daemon
    mqtt: Target
    #: MQTT at a path of the control API's HTTPS endpoint.
    site: Target
    #: MQTT over WebSocket, whose clients are known by their certificates.
    wss: Target
    passwords: Path
    audit: Path
    run: Callable[..., tuple[int, str, str]]

    def rows(self, *arguments: str) -> Any:
        code, out, error = self.run("--json", *arguments)
        assert code == 0, error
        return json.loads(out)


@pytest.fixture
def operated(
    start: Callable[..., Daemon],
    tmp_path: Path,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Operated:
    passwords = tmp_path / "passwords"
    passwords.write_text(f"# who may connect\n{USER}:{HASH}\n")
    (tmp_path / "groups").write_text("# who does what\nstaff: ann\n")
    certificate, key = authority.sign("localhost", unique("operated"))
    mqtt, web, wss = free_port(), free_port(), free_port()
    tls = {"certificate": str(certificate), "private_key": str(key)}
    socket = tmp_path / "control"
    config = tmp_path / "mqttd.toml"
    config.write_text(
        toml(
            [
                {"endpoint": f"tcp:{mqtt}:interface=127.0.0.1"},
                {"endpoint": "site:http", "websocket": {"path": "/mqtt"}},
                {
                    "endpoint": f"tcp:{wss}:interface=127.0.0.1",
                    "websocket": {"path": "/mqtt"},
                    "authentication": ["certificate"],
                    "tls": {
                        **tls,
                        "client_certificate": "optional",
                        "client_authorities": str(authority.certificate),
                    },
                },
            ],
            log={"audit_file": str(tmp_path / "audit.log")},
            store={"backend": "memory"},
            http={
                "socket": str(socket),
                "endpoint": f"tcp:{web}:interface=127.0.0.1",
                **tls,
                "maximum_connections": 3,
            },
        )
        + f"[[authentication]]\ntype = 'password-file'\npath = '{passwords}'\n"
        + f"groups_file = '{tmp_path}/groups'\n"
        + "[[authentication]]\ntype = 'certificate'\n"
    )
    daemon = start("--config", str(config))
    daemon.wait_for(" serves ")
    monkeypatch.setenv("MQTTD_SOCKET", str(socket))

    def run(*arguments: str, typed: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        code = main(arguments)
        return code, *capsys.readouterr()

    target = Target(mqtt, user_name=USER, password=PASSWORD)
    site = evolve(target, port=web, websocket="/mqtt", authority=str(authority.certificate))
    known = Target(wss, websocket="/mqtt", authority=str(authority.certificate))
    return Operated(daemon, target, site, known, passwords, tmp_path / "audit.log", run)


@pytest.fixture(params=[4, 5], ids=["3.1.1", "5.0"])
def paho(request: pytest.FixtureRequest) -> Iterator[Paho]:
    library = Paho(request.param)
    yield library
    library.close()


@pytest.fixture
def paho5() -> Iterator[Paho]:
    library = Paho(5)
    yield library
    library.close()


def test_users_come_and_go_while_clients_are_there(operated: Operated, paho5: Paho) -> None:
    assert operated.rows("users", "list") == [
        {
            "user": USER,
            "source": "password-file",
            "scheme": "pbkdf2",
            "superuser": False,
            "groups": ["staff"],
        }
    ]
    bob = evolve(operated.mqtt, user_name="bob", password="one")
    with pytest.raises(Refused):
        paho5.connect(bob)
    assert operated.run("users", "add", "bob", typed="one\n")[:2] == (0, "user bob added\n")
    client = paho5.connect(bob)
    assert "is there already" in operated.run("users", "add", "bob", typed="x\n")[2]
    # Another password ends what the old one has opened.
    assert operated.run("users", "password", "bob", typed="two\n")[0] == 0
    client.disconnected.get(timeout=20)  # type: ignore[attr-defined]
    with pytest.raises(Refused):
        paho5.connect(bob)
    client = paho5.connect(evolve(bob, password="two"))
    # So do other groups, by which rules may be.
    assert operated.run("users", "groups", "bob", "staff", "night")[0] == 0
    client.disconnected.get(timeout=20)  # type: ignore[attr-defined]
    groups = operated.passwords.with_name("groups")
    assert groups.read_text() == "# who does what\nstaff: ann bob\nnight: bob\n"
    assert operated.rows("users", "list")[1]["groups"] == ["staff", "night"]
    assert "no user 'eve'" in operated.run("users", "groups", "eve", "staff")[2]
    client = paho5.connect(evolve(bob, password="two"))
    assert operated.run("users", "delete", "bob")[0] == 0
    client.disconnected.get(timeout=20)  # type: ignore[attr-defined]
    with pytest.raises(Refused):
        paho5.connect(evolve(bob, password="two"))
    # Who takes the name after him is in no group.
    assert groups.read_text() == "# who does what\nstaff: ann\nnight:\n"
    # Comments, and whoever was not meant, are as they were.
    assert operated.passwords.read_text() == f"# who may connect\n{USER}:{HASH}\n"
    assert "operator at unix: DELETE /api/v1/users/bob: 204" in operated.daemon.log
    assert "two" not in operated.daemon.log
    last = operated.rows("audit", "--last", "2")
    assert [(each["method"], each["status"]) for each in last] == [("DELETE", 204), ("PUT", 404)]
    written = [json.loads(line) for line in operated.audit.read_text().splitlines()]
    assert written[-2:] == last[::-1]
    assert "/api/v1/users/bob" in operated.run("audit")[1]


def test_users_that_cannot_be_changed_so(operated: Operated, paho5: Paho) -> None:
    before = operated.passwords.read_text()
    for arguments, reason in (
        (("users", "password", "nobody"), "no user 'nobody'"),
        (("users", "delete", "nobody"), "no user 'nobody'"),
        (("users", "delete", USER), "nobody would be left"),
        (("users", "add", "a:b"), "can not be a user"),
        (("users", "add", "new", "--source", "other"), "source is one of password-file"),
    ):
        code, _, error = operated.run(*arguments, typed="x\n")
        assert (code, reason in error) == (1, True), error
    assert operated.passwords.read_text() == before
    paho5.connect(operated.mqtt).disconnect()


def test_mqtt_on_a_path_of_the_http_endpoint(operated: Operated, paho: Paho) -> None:
    topic = unique("site/")
    # More clients than the API takes connections: they are none of its own.
    inside = [paho.connect(operated.site) for _ in range(5)]
    outside = paho.connect(operated.mqtt)
    inside[0].subscribe(topic, 1)
    outside.publish(topic, "in", 1)
    assert inside[0].next_message() == Message(topic, b"in", 1, False)
    outside.subscribe(f"{topic}/out", 1)
    inside[4].publish(f"{topic}/out", "x" * 100_000, 1)
    assert outside.next_message().payload == b"x" * 100_000
    (listener,) = (
        each for each in operated.rows("listeners", "list") if each["endpoint"] == "site:http"
    )
    assert (listener["open"], listener["connections"]) == (True, 5)
    with pytest.raises(Refused):
        paho.connect(evolve(operated.site, password="guess"))
    with pytest.raises(Exception, match="handshake"):
        paho.connect(evolve(operated.site, websocket="/api"))


def test_a_certificate_says_who_comes_by_websocket(
    operated: Operated, paho: Paho, authority: Authority
) -> None:
    certificate, key = authority.sign("sensor-7", unique("wss"))
    shown = evolve(operated.wss, certificate=str(certificate), key=str(key))
    client = paho.connect(shown, "over-wss")
    assert operated.rows("clients", "show", "over-wss")["user"] == "sensor-7"
    client.disconnect()
    with pytest.raises(Refused):
        paho.connect(operated.wss)
    with pytest.raises(Refused):
        paho.connect(evolve(operated.wss, user_name="sensor-7", password="guess"))
