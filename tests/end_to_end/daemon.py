"""A daemon in a process of its own, for the tests that look at it from outside.

``Daemon`` starts ``twistd mqttd`` (or ``twist mqttd``) with the interpreter that
runs the tests, collects its log and ends it by its own handle. It knows no MQTT.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from secrets import randbelow
from typing import Any

ROOT = Path(__file__).parents[2]

#: What stands before the options of mqttd. The console scripts may be missing
#: where the package is not installed, so the functions behind them are called.
RUNNERS: dict[str, tuple[str, ...]] = {
    "twistd": (
        "-c",
        "from twisted.scripts.twistd import run; run()",
        "--nodaemon",
        "--pidfile=",
        "mqttd",
    ),
    "twist": (
        "-c",
        "from twisted.application.twist._twist import Twist; Twist.main()",
        "--log-format=text",
        "mqttd",
    ),
}

#: Seconds to wait for what should come at once, on a busy machine.
PATIENCE = 60.0


def free_port() -> int:
    """A port of the loopback interface on which nothing listens.

    It is none of those that the kernel gives to whoever asks for any, a client
    too: between now and the start of a daemon another test may ask.
    """
    while True:
        port = 10_000 + randbelow(22_000)
        with suppress(OSError), socket.socket() as holder:
            holder.bind(("127.0.0.1", port))
            return port


def command(runner: str, *arguments: str) -> list[str]:
    return [sys.executable, *RUNNERS[runner], *arguments]


def environment(folder: Path) -> dict[str, str]:
    """One in which no configuration but ours is found."""
    inherited = {name: text for name, text in os.environ.items() if name != "MQTTD_CONFIG"}
    inherited.pop("STATE_DIRECTORY", None)
    return {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "XDG_CONFIG_HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
    }


def run_to_end(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A daemon that is expected to end by itself."""
    return subprocess.run(
        command("twistd", *arguments),
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


class Daemon:
    """A running daemon; ``stop`` must be called in the end."""

    def __init__(
        self,
        folder: Path,
        arguments: Iterable[str] = (),
        *,
        runner: str = "twistd",
        preexec: Any = None,
    ) -> None:
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            command(runner, *arguments),
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=preexec,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def log(self) -> str:
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, text: str, timeout: float = PATIENCE) -> str:
        """The first line of the log with *text* in it."""
        seen = 0
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for line in self._lines[seen:]:
                    if text in line:
                        return line
                seen = len(self._lines)
                if self._ended or not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"no {text!r} in the log:\n{''.join(self._lines)}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit status."""
        return self.process.wait(timeout)

    def stop(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(PATIENCE)
        if self.process.stdout is not None:
            self.process.stdout.close()


def toml(listeners: Iterable[Mapping[str, Any]], **tables: Mapping[str, Any]) -> str:
    """A configuration file; a mapping within a listener is a table of it."""
    lines: list[str] = []
    for name, table in tables.items():
        lines += [f"[{name}]", *_pairs(table)]
    for listener in listeners:
        lines += ["[[listener]]", *_pairs(listener)]
        for name, part in listener.items():
            if isinstance(part, Mapping):
                lines += [f"[listener.{name}]", *_pairs(part)]
    return "\n".join(lines) + "\n"


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} = {_value(value)}" for name, value in table.items() if not isinstance(value, dict)
    ]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_value(each) for each in value)}]"
    return str(value) if isinstance(value, (int, float)) else f"'{value}'"
