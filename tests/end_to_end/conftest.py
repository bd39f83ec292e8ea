"""One daemon with a listener of each kind, and the client libraries."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from tests.end_to_end.certificates import Authority
from tests.end_to_end.chromium import Chromium
from tests.end_to_end.clients import VERSIONS, Client, Library, Target
from tests.end_to_end.daemon import Daemon, free_port, toml
from tests.end_to_end.mosquitto_clients import Mosquitto
from tests.end_to_end.mqtt_js_clients import MQTTjs
from tests.end_to_end.paho_clients import Aiomqtt, Paho

USER = "alice"
PASSWORD = "correct horse"

_running: list[Daemon] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the daemons said when a test fails."""
    report = yield
    if report.failed:
        for daemon in _running:
            report.sections.append(("log of the daemon", daemon.log[-8000:]))
    return report


@frozen
class Served:
    """A running daemon, and where its listeners are."""

    daemon: Daemon
    plain: Target
    #: TLS; and TLS that asks for a client certificate.
    tls: Target
    mutual: Target
    unix: Target
    #: Wants a user name and a password.
    closed: Target
    #: Wants a PROXY header first.
    proxied: Target
    authority: Authority


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mqttd")


@pytest.fixture(scope="session")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="session")
def served(folder: Path, authority: Authority) -> Iterator[Served]:
    """The daemon that most tests share."""
    certificate, key = authority.sign("localhost", "server")
    tls = {"certificate": str(certificate), "private_key": str(key)}
    ports = {name: free_port() for name in ("plain", "tls", "mutual", "closed", "proxied")}
    path = folder / "socket"

    def listener(name: str, **more: Any) -> dict[str, Any]:
        endpoint = f"tcp:{ports[name]}:interface=127.0.0.1"
        return {"name": name, "endpoint": endpoint, "allow_anonymous": True, **more}

    listeners = [
        listener("plain"),
        listener("tls", tls=tls),
        listener(
            "mutual",
            tls={
                **tls,
                "client_certificate": "required",
                "client_authorities": str(authority.certificate),
                "identity": "cn",
            },
        ),
        listener("closed", allow_anonymous=False),
        listener("proxied", proxy_protocol=True),
        {"name": "unix", "endpoint": f"unix:{path}", "allow_anonymous": True},
    ]
    config = folder / "mqttd.toml"
    config.write_text(toml(listeners, broker={"node": "node", "sys_interval": 1}))
    passwords = folder / "passwords"
    passwords.write_text(f"{USER}:{PASSWORD}\n")
    daemon = Daemon(folder, ["--config", str(config), "--auth", f"file:{passwords}"])
    _running.append(daemon)
    try:
        daemon.wait_for(" serves ")
        trusted = Target(ports["tls"], authority=str(authority.certificate))
        yield Served(
            daemon,
            Target(ports["plain"]),
            trusted,
            evolve(trusted, port=ports["mutual"]),
            Target(path=str(path)),
            Target(ports["closed"]),
            Target(ports["proxied"]),
            authority,
        )
    finally:
        _running.remove(daemon)
        daemon.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Start a daemon of the test's own: ``start(*arguments, runner=..., preexec=...)``."""
    started: list[Daemon] = []

    def start(*arguments: str, **more: Any) -> Daemon:
        daemon = Daemon(tmp_path, arguments, **more)
        started.append(daemon)
        _running.append(daemon)
        return daemon

    yield start
    for daemon in started:
        _running.remove(daemon)
        daemon.stop()


@pytest.fixture(scope="module")
def chromium(
    program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chromium]:
    browser = Chromium(program("chromium"), tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.stop()


@pytest.fixture
def connect(served: Any) -> Iterator[Callable[[str], Client]]:
    """A client of the dashboard's daemon, by its client id."""
    library = Paho(5)
    clients: list[Client] = []

    def connect(client_id: str) -> Client:
        clients.append(library.connect(served.mqtt, client_id))
        return clients[-1]

    yield connect
    for client in clients:
        client.drop()
    library.close()


LIBRARIES = [
    pytest.param((name, version), id=f"{name}-{VERSIONS[version]}")
    for name, versions in {
        "paho": (3, 4, 5),
        "aiomqtt": (4, 5),
        "mosquitto": (3, 4, 5),
        "mqttjs": (3, 4, 5),
    }.items()
    for version in versions
]


@pytest.fixture(scope="module", params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Iterator[Library]:
    """A client library that speaks one version of the protocol."""
    found = make_library(request, *request.param)
    yield found
    found.close()


@pytest.fixture(scope="module")
def libraries(request: pytest.FixtureRequest) -> Iterator[Callable[[str, int], Library]]:
    """``libraries(name, version)`` for tests of one library, or of several."""
    made: dict[tuple[str, int], Library] = {}

    def library(name: str, version: int) -> Library:
        if (name, version) not in made:
            made[name, version] = make_library(request, name, version)
        return made[name, version]

    yield library
    for each in made.values():
        each.close()


def make_library(request: pytest.FixtureRequest, name: str, version: int) -> Library:
    program: Callable[[str], str] = request.getfixturevalue("program")
    match name:
        case "paho":
            return Paho(version)
        case "aiomqtt":
            return Aiomqtt(version)
        case "mosquitto":
            return Mosquitto(version, program("mosquitto_pub"), program("mosquitto_sub"))
        case "mqttjs":
            return MQTTjs(version, program("node"), request.getfixturevalue("node_modules"))
    raise LookupError(name)
