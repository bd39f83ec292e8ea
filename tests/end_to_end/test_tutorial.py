"""The tutorial, done as it stands: its files written, its commands typed.

Lines of a console block that begin with ``$`` are commands; each line below one is text
that the command says. Only the ports and the places of programs are others here.
"""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import find_program
from tests.end_to_end.daemon import PATIENCE, ROOT, environment, free_port

TUTORIAL = ROOT / "docs" / "tutorial.rst"

PASSWORDS = {"ann": "correct horse", "sensor-1": "battery staple"}

PROGRAMS = {
    "twistd": "from twisted.scripts.twistd import run; run()",
    "mqttctl": "import sys; from mqttd.ctl.__main__ import main; sys.exit(main())",
}

#: What is said by commands whose exit code then is not 0.
REFUSALS = (
    "Connection error: Connection Refused: bad user name or password.",
    "denied",
    "no rule allows it",
)

#: What a person leaves running in a terminal.
LASTING = ("twistd -n", "mosquitto_sub")


def blocks() -> list[tuple[str, str, str]]:
    """Language, caption and text of each block that is for doing."""
    found = re.findall(
        r"^\.\. code-block:: (console|toml)\n(?:   :caption: (.*)\n)?\n((?:   .*\n|\n)+)",
        TUTORIAL.read_text(),
        flags=re.M,
    )
    return [(kind, caption, textwrap.dedent(text)) for kind, caption, text in found]


def commands(text: str) -> list[tuple[str, list[str]]]:
    """The commands of a console block, each with what it shall say."""
    found: list[tuple[str, list[str]]] = []
    for line in text.strip().splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        else:
            found[-1][1].append(line)
    return found


class Reader:
    """Who does what the tutorial says, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plain, self.tls = free_port(), free_port()
        self.running: list[tuple[subprocess.Popen[bytes], Path]] = []
        programs = folder / "bin"
        programs.mkdir()
        for name, code in PROGRAMS.items():
            script = programs / name
            script.write_text(f'#!/bin/sh\nexec {sys.executable} -P -c "{code}" "$@"\n')
            script.chmod(0o755)
        self.environment = environment(folder)
        self.environment["XDG_STATE_HOME"] = str(folder / "state")
        self.environment["PATH"] = f"{programs}:{self.environment['PATH']}"
        self.environment["PYTHONPATH"] = str(ROOT)

    def write(self, caption: str, text: str) -> None:
        name, _, more = caption.partition(",")
        with (self.folder / name).open("a" if more else "w") as file:
            file.write("\n" + self._here(text))

    def do(self, command: str, expected: list[str]) -> None:
        command, expected = self._here(command), [self._here(text) for text in expected]
        if command.startswith(LASTING):
            self._start(command, expected)
            return
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            input=PASSWORDS.get(command.split()[-1], "") + "\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        for text in expected:
            assert text in done.stdout, f"{command}\n{done.stdout}"
        refused = any(text in REFUSALS for text in expected)
        assert refused == (done.returncode != 0), f"{command}\n{done.stdout}"

    def _start(self, command: str, expected: list[str]) -> None:
        if command.startswith("twistd"):
            self.stop()
            if "--config" not in command:
                command += f" --listen tcp:{self.plain}:interface=127.0.0.1"
        said = self.folder / f"said-{len(list(self.folder.glob('said-*')))}"
        with said.open("wb") as output:
            process = subprocess.Popen(
                shlex.split(command),
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.running.append((process, said))
        if command.startswith("twistd"):
            self.wait_for(said, expected)
        else:
            self.heard = (said, expected)
            self._wait_until_subscribed(shlex.split(command)[-1])

    def _wait_until_subscribed(self, topic_filter: str) -> None:
        listed = ["mqttctl", "subscriptions", "list"]
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            text = subprocess.run(
                ["bash", "-c", shlex.join(listed)], env=self.environment, capture_output=True
            ).stdout.decode()
            if topic_filter in text:
                return
        raise AssertionError(f"nobody subscribes to {topic_filter}")

    def wait_for(self, said: Path, expected: list[str]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not all(text in said.read_text() for text in expected):
            assert time.monotonic() < deadline, f"not {expected}, but\n{said.read_text()}"
            time.sleep(0.05)

    def stop(self) -> None:
        for process, _ in reversed(self.running):
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
        self.running.clear()

    def _here(self, text: str) -> str:
        text = re.sub(r"^mosquitto_(?!.*-p )(\w+)", rf"mosquitto_\1 -p {self.plain}", text)
        text = text.replace("tcp:1883:", f"tcp:{self.plain}:").replace("-p 8883", f"-p {self.tls}")
        return text.replace('"tcp:8883"', f'"tcp:{self.tls}:interface=127.0.0.1"')


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    reader.stop()


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(reader: Reader) -> None:
    find_program("mosquitto_sub")
    for kind, caption, text in blocks():
        if kind == "toml":
            reader.write(caption, text)
            continue
        for command, expected in commands(text):
            reader.do(command, expected)
            if command.startswith("mosquitto_pub") and hasattr(reader, "heard"):
                reader.wait_for(*reader.heard)
