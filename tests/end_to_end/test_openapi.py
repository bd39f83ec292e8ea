"""schemathesis reads the OpenAPI document and tries everything against a daemon."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from attrs import frozen

from mqttd.ctl.api import API, open_api
from tests.end_to_end.clients import Target
from tests.end_to_end.daemon import Daemon, free_port, toml
from tests.end_to_end.paho_clients import Paho
from tests.servers import HASH

pytest.importorskip("schemathesis", reason="needs schemathesis: pip install '.[dev]'")

#: What is left out: no schema can say what a topic or a setting may be; and that a
#: wrong password gets nowhere is tested elsewhere, for here it waits a second each time.
WITHOUT = "positive_data_acceptance,ignored_auth"

#: These go on for as long as somebody listens.
ENDLESS = "^/(events|messages)$"

#: Every border of every parameter takes its time: that is for CI.
PHASES = "coverage,fuzzing" if os.environ.get("CI") else "fuzzing"


#: What the variables of a path are called that stands for something which is there.
SEED = """
[parameters]
"path.client_id" = "seed"
"path.topic" = "seed"
[[operations]]
include-path-regex = "^/(listeners|bridges)/"
parameters = { "path.name" = "main" }
[[operations]]
include-path-regex = "^/plugins/"
parameters = { "path.name" = "rewrite" }
"""

#: Of these there is nothing that a request alone can make, or no end.
UNSEEDED = "^/(flight|traces)/"


@frozen
class Tried:
    """A daemon with something of each kind, and how to let schemathesis at it."""

    daemon: Daemon
    mqtt: int
    api: API
    token: str
    run: Callable[..., None]


@pytest.fixture
def tried(start: Callable[..., Daemon], tmp_path: Path) -> Tried:
    http, mqtt = free_port(), free_port()
    passwords = tmp_path / "passwords"
    passwords.write_text(f"ann:{HASH}\n")
    config = tmp_path / "mqttd.toml"
    endpoint = f"tcp:{mqtt}:interface=127.0.0.1"
    config.write_text(
        toml(
            [{"name": "main", "endpoint": endpoint, "allow_anonymous": True}],
            http={"endpoint": f"tcp:{http}:interface=127.0.0.1", "socket": "none"},
            store={"backend": "memory"},
        )
        + f"[[authentication]]\ntype = 'password-file'\npath = '{passwords}'\n"
        + "[[plugin]]\nuse = 'rewrite'\n"
        # Nobody listens there.
        + "[[bridge]]\nname = 'main'\naddresses = ['mqtt://127.0.0.1:1']\n"
    )
    daemon = start("--config", str(config))
    offered = daemon.wait_for("Nobody may use the HTTP API yet")
    file = tmp_path / "token"
    file.write_text(offered.split()[-1])
    url = f"http://127.0.0.1:{http}"
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
    return Tried(daemon, mqtt, api, made["token"], run)


def test_the_api_keeps_what_its_document_promises(tried: Tried) -> None:
    tried.run(
        f"--exclude-path-regex={ENDLESS}",
        f"--phases={PHASES}",
        "--max-examples=5",
    )


def test_so_it_does_about_what_is_there(tried: Tried, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(SEED)
    har = tmp_path / "report.har"
    paho = Paho(5)
    try:
        paho.connect(Target(tried.mqtt), "seed").subscribe("seed/#", 1)
        tried.api.post("publish", body={"topic": "seed", "payload": "x", "retain": True})
        tried.run(
            "--include-path-regex=\\{",
            f"--exclude-path-regex={UNSEEDED}",
            "--exclude-method-regex=POST|PUT|PATCH|DELETE",
            "--phases=fuzzing",
            "--max-examples=3",
            f"--report-har-path={har}",
        )
    finally:
        paho.close()
    document = tried.api.get("openapi.json")
    items = {
        path
        for path, operations in document["paths"].items()
        if "{" in path and "get" in operations and not re.search(UNSEEDED, path)
    }
    found = {
        urlsplit(entry["request"]["url"]).path.removeprefix("/api/v1")
        for entry in json.loads(har.read_text())["log"]["entries"]
        if entry["response"]["status"] == 200
    }
    wanted = {
        path.replace("{client_id}", "seed")
        .replace("{topic}", "seed")
        .replace("{name}", "rewrite" if "plugins" in path else "main")
        for path in items
    }
    assert {"/clients/seed", "/sessions/seed", "/retained/seed", "/bridges/main"} <= wanted
    assert wanted - found == set()
