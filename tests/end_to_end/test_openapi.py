"""schemathesis reads the OpenAPI document and tries everything against a daemon."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import pytest
from attrs import frozen

from mqttd.ctl.api import API, open_api
from mqttd.wire.packets import Connect
from mqttd.wire.serializer import serialize
from tests.end_to_end.clients import Target
from tests.end_to_end.daemon import Daemon, free_port, toml
from tests.end_to_end.paho_clients import Paho
from tests.servers import HASH

pytest.importorskip("schemathesis", reason="needs schemathesis: pip install '.[dev]'")
pytestmark = pytest.mark.slow

#: What is left out: no schema can say what a topic or a setting may be; and that a
#: wrong password gets nowhere is tested elsewhere, for here it waits a second each time.
WITHOUT = "positive_data_acceptance,ignored_auth"

#: They have no end: a test of their own asks for them.
STREAMS = ("/events", "/messages", "/packets", "/traces/{name}/events")

#: What is not seen to work here, and why.
LEFT_OUT = {
    **{("GET", path): "has no end" for path in STREAMS},
    ("GET", "/openapi.json"): "is read before anything else, and not asked for again",
}

#: Examples as they are and in the order of the document. What answers name is not tried,
#: for it would delete the token by which it comes.
AS_WRITTEN = """
[phases.examples]
operation-ordering = "none"
extra-data-sources = { responses = false }
[phases.coverage]
extra-data-sources = { responses = false }
[phases.fuzzing]
extra-data-sources = { responses = false }
"""

ENDLESS = "^/(events|messages|packets)$|/events$"


@frozen
class Tried:
    """A daemon with something of each kind, and how to let schemathesis at it."""

    daemon: Daemon
    http: int
    mqtt: int
    api: API
    token: str
    run: Callable[..., None]


@pytest.fixture
def tried(start: Callable[..., Daemon], tmp_path: Path) -> Tried:
    web, mqtt = free_port(), free_port()
    passwords = tmp_path / "passwords"
    passwords.write_text(f"ann:{HASH}\ncarol:{HASH}\n")
    groups = tmp_path / "groups"
    groups.touch()
    config = tmp_path / "mqttd.toml"
    listeners = [
        {"name": name, "endpoint": f"tcp:{port}:interface=127.0.0.1", "allow_anonymous": True}
        for name, port in (("main", mqtt), ("old", free_port()), ("new", free_port()))
    ]
    config.write_text(
        toml(
            listeners,
            http={"endpoint": f"tcp:{web}:interface=127.0.0.1", "socket": "none"},
            store={"backend": "memory"},
            # So that there is an alarm.
            flight={"directory": str(passwords / "nowhere")},
        )
        + f"[[authentication]]\ntype = 'password-file'\npath = '{passwords}'\n"
        + f"groups_file = '{groups}'\n"
        + "[[plugin]]\nuse = 'rewrite'\n[[plugin]]\nuse = 'delayed'\n"
        # Nobody listens there.
        + "[[bridge]]\nname = 'uplink'\naddresses = ['mqtt://127.0.0.1:1']\n"
    )
    daemon = start("--config", str(config))
    offered = daemon.wait_for("Nobody may use the HTTP API yet")
    file = tmp_path / "token"
    file.write_text(offered.split()[-1])
    url = f"http://127.0.0.1:{web}"
    made = open_api(url=url, token_file=str(file)).post(
        "tokens", body={"name": "schemathesis", "role": "administrator"}
    )
    file.write_text(made["token"])

    def run(*arguments: str) -> None:
        found = subprocess.run(
            [
                sys.executable,
                "-c",
                "from schemathesis.cli import schemathesis; schemathesis()",
                "run",
                f"{url}/api/v1/openapi.json",
                f"--header=Authorization: Bearer {made['token']}",
                "--generation-deterministic",
                f"--exclude-checks={WITHOUT}",
                "--no-color",
                *arguments,
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert found.returncode == 0, found.stdout[:5000]
        assert "Traceback" not in daemon.log
        assert json.dumps(made["token"]) not in daemon.log

    api = open_api(url=url, token_file=str(file))
    return Tried(daemon, web, mqtt, api, made["token"], run)


def seed(tried: Tried, paho: Paho) -> None:
    """Make what the examples of the document name."""
    target, post = Target(tried.mqtt), tried.api.post
    for name in ("sensor-12", "sensor-13", "sensor-14"):
        paho.connect(target, name).subscribe("old/#", 1)
    with socket.create_connection(("127.0.0.1", tried.mqtt), 10) as client:
        client.sendall(serialize(Connect("pump-9"), 4) + b"\x36\x00")
        while client.recv(100):
            pass
    for topic in ("plant/1/level", "plant/1/old", "plant/2/level"):
        post("publish", body={"topic": topic, "payload": "x", "retain": True})
    for name in ("pump-6", "pump-8"):
        post("traces", body={"name": name, "client_id": name})
    post("bans", body={"kind": "client_id", "value": "sensor-67"})
    post("tokens", body={"name": "old-ci", "role": "viewer"})
    post("listeners", "new", "stop")


def test_the_api_keeps_what_its_document_promises(tried: Tried, tmp_path: Path) -> None:
    """First what the examples say, so that each operation is seen to work; then all else."""
    (tmp_path / "schemathesis.toml").write_text(AS_WRITTEN)
    har = tmp_path / "report.har"
    paths = tried.api.get("openapi.json")["paths"]
    paho = Paho(5)
    try:
        seed(tried, paho)
        tried.run(
            f"--exclude-path-regex={ENDLESS}",
            "--phases=examples,coverage,fuzzing",
            "--max-examples=5",
            f"--report-har-path={har}",
        )
    finally:
        paho.close()
    seen: dict[tuple[str, str], set[int]] = {
        (method.upper(), path): set() for path, methods in paths.items() for method in methods
    }
    for entry in json.loads(har.read_text())["log"]["entries"]:
        asked, status = entry["request"], entry["response"]["status"]
        path = urlsplit(asked["url"]).path.removeprefix("/api/v1")
        for (method, template), statuses in seen.items():
            pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
            if method == asked["method"] and re.fullmatch(pattern, path):
                statuses.add(status)
    without = {each for each, statuses in seen.items() if not {200, 201, 204} & statuses}
    assert without == set(LEFT_OUT), {each: seen[each] for each in without}


def test_streams_keep_what_their_document_promises(tried: Tried) -> None:
    paths = tried.api.get("openapi.json")["paths"]
    paho = Paho(5)
    connections: list[http.client.HTTPConnection] = []

    def ask(path: str, token: str = tried.token) -> http.client.HTTPResponse:
        connections.append(http.client.HTTPConnection("127.0.0.1", tried.http, timeout=10))
        connections[-1].request(
            "GET", f"/api/v1{path}", headers={"Authorization": f"Bearer {token}"}
        )
        return connections[-1].getresponse()

    try:
        seed(tried, paho)
        for template in STREAMS:
            operation = paths[template]["get"]
            given = {each["name"]: each for each in operation["parameters"]}
            path = template
            for name, each in given.items():
                path = path.replace(f"{{{name}}}", quote(str(each.get("example")), safe=""))
            query = urlencode(
                {
                    name: each["example"]
                    for name, each in given.items()
                    if each["in"] == "query" and "example" in each
                }
            )
            good = ask(f"{path}?{query}")
            promised = operation["responses"]["200"]["content"]
            assert good.status == 200, template
            assert good.headers["Content-Type"].partition(";")[0] in promised
            for wrong in (
                ask(f"{path}?{query}&nonsense=1"),
                ask(f"{path}?{query}", token="wrong"),
                ask(f"{path.replace('pump-8', 'nobody')}?{query}&{query}"),
            ):
                assert str(wrong.status) in operation["responses"], template
                assert wrong.headers["Content-Type"] == "application/problem+json"
                problem = json.loads(wrong.read())
                assert problem["status"] == wrong.status
    finally:
        for connection in connections:
            connection.close()
        paho.close()
