"""A log in a file, as ``docs/deployment.rst`` has it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.end_to_end.daemon import PATIENCE, command, environment, free_port


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_log_goes_on_in_a_new_file_on_sigusr1(tmp_path: Path) -> None:
    log, old = tmp_path / "mqttd.log", tmp_path / "mqttd.log.1"
    address = f"tcp:{free_port()}:interface=127.0.0.1"
    *start, plugin = command("twistd")
    process = subprocess.Popen(
        [*start, "-l", str(log), plugin, "--listen", address, "--allow-anonymous"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: log.exists() and " serves " in log.read_text())
        process.send_signal(signal.SIGUSR1)
        wait_until(old.exists)
        assert " serves " in old.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
    assert " serves " not in log.read_text()
    assert "Server Shut Down" in log.read_text()
