"""schemathesis reads the OpenAPI document and tries everything against a daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mqttd.ctl.api import open_api
from tests.end_to_end.daemon import Daemon, free_port, toml

pytest.importorskip("schemathesis", reason="needs schemathesis: pip install '.[dev]'")

#: What is left out: no schema can say what a topic or a setting may be; and that a
#: wrong password gets nowhere is tested elsewhere, for here it waits a second each time.
WITHOUT = "positive_data_acceptance,ignored_auth"

#: Every border of every parameter takes its time: that is for CI.
PHASES = "coverage,fuzzing" if os.environ.get("CI") else "fuzzing"


def test_the_api_keeps_what_its_document_promises(
    start: Callable[..., Daemon], tmp_path: Path
) -> None:
    http, mqtt = free_port(), free_port()
    config = tmp_path / "mqttd.toml"
    config.write_text(
        toml(
            [{"endpoint": f"tcp:{mqtt}:interface=127.0.0.1", "allow_anonymous": True}],
            http={"endpoint": f"tcp:{http}:interface=127.0.0.1", "socket": "none"},
            store={"backend": "memory"},
        )
    )
    daemon = start("--config", str(config))
    offered = daemon.wait_for("Nobody may use the HTTP API yet")
    token = tmp_path / "token"
    token.write_text(offered.split()[-1])
    url = f"http://127.0.0.1:{http}"
    api = open_api(url=url, token_file=str(token))
    made = api.post("tokens", body={"name": "schemathesis", "role": "administrator"})
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "from schemathesis.cli import schemathesis; schemathesis()",
            "run",
            f"{url}/api/v1/openapi.json",
            f"--header=Authorization: Bearer {made['token']}",
            # These go on for as long as somebody listens.
            "--exclude-path-regex=^/(events|messages)$",
            f"--phases={PHASES}",
            "--max-examples=5",
            "--generation-deterministic",
            f"--exclude-checks={WITHOUT}",
            "--no-color",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert found.returncode == 0, found.stdout[:5000]
    assert "Traceback" not in daemon.log
    assert json.dumps(made["token"]) not in daemon.log
