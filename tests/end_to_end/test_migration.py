"""The same commands against mosquitto, and against mqttd with what was imported."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mqttd.ctl.__main__ import main
from tests.end_to_end.certificates import Authority
from tests.end_to_end.daemon import PATIENCE, free_port

Ports = dict[str, int]

CONFIG = """\
per_listener_settings true
persistence false
listener {open} 127.0.0.1
allow_anonymous true
acl_file {folder}/open.acl
listener {closed} 127.0.0.1
password_file {folder}/passwords
acl_file {folder}/closed.acl
max_qos 1
mount_point site/
include_dir {folder}/conf.d
"""

#: Read by ``include_dir``.
INCLUDED = """\
listener {tls} 127.0.0.1
certfile {folder}/server.pem
keyfile {folder}/server.key
cafile {folder}/authority.pem
require_certificate true
use_identity_as_username true
acl_file {folder}/closed.acl
"""

OPEN = "topic readwrite public/#\n"

CLOSED = "user ann\ntopic readwrite #\ntopic deny secret/#\npattern readwrite own/%u/#\n"
# Rules see the mount point, here and there.
CLOSED += "pattern readwrite site/own/%u/#\n"

ANN = ("-u", "ann", "-P", "sesame")
BOB = ("-u", "bob", "-P", "pbkdf2")

#: Listener, options of mosquitto_pub, and whether the message is taken.
CASES: list[tuple[str, tuple[str, ...], bool]] = [
    ("open", ("-t", "public/a"), True),
    ("open", ("-t", "private/a"), False),
    ("open", ("-t", "own/ann/a", *ANN), False),
    ("closed", ("-t", "a"), False),
    ("closed", ("-t", "a", *ANN), True),
    ("closed", ("-t", "a", "-u", "ann", "-P", "wrong"), False),
    ("closed", ("-t", "a", "-u", "carl", "-P", "sesame"), False),
    ("closed", ("-t", "own/bob/a", *BOB), True),
    ("closed", ("-t", "own/ann/a", *BOB), False),
    ("tls", ("-t", "own/bob/a", "--cert", "{folder}/bob.pem", "--key", "{folder}/bob.key"), True),
    ("tls", ("-t", "a", "--cert", "{folder}/bob.pem", "--key", "{folder}/bob.key"), False),
    ("tls", ("-t", "own/bob/a"), False),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]) -> Path:
    """All that the configuration names, in a folder that mosquitto may read."""
    folder = tmp_path_factory.mktemp("mosquitto")
    (folder / "conf.d").mkdir()
    (folder / "open.acl").write_text(OPEN)
    (folder / "closed.acl").write_text(CLOSED)
    authority = Authority(folder)
    authority.sign("localhost", "server")
    authority.sign("bob", "bob")
    make = [program("mosquitto_passwd"), "-b"]
    passwords = str(folder / "passwords")
    # The older form of hashes, and the one of 2.0.
    subprocess.run([*make, "-c", "-H", "sha512", passwords, "ann", "sesame"], check=True)
    subprocess.run([*make, "-H", "sha512-pbkdf2", passwords, "bob", "pbkdf2"], check=True)
    return folder


def configure(folder: Path) -> tuple[Path, Ports]:
    ports = {name: free_port() for name in ("open", "closed", "tls")}
    (folder / "conf.d" / "tls.conf").write_text(INCLUDED.format(folder=folder, **ports))
    path = folder / "mosquitto.conf"
    path.write_text("user root\n" + CONFIG.format(folder=folder, **ports))
    return path, ports


def is_open(port: int) -> bool:
    with socket.socket() as stream:
        return stream.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def mosquitto(program: Callable[[str], str]) -> Iterator[Callable[[Path, int], None]]:
    """Starts one with a configuration, and waits until a port of its is open."""
    running: list[subprocess.Popen[bytes]] = []

    def start(config: Path, port: int) -> None:
        command = [program("mosquitto"), "-c", str(config)]
        quiet = subprocess.DEVNULL
        running.append(subprocess.Popen(command, stdout=quiet, stderr=quiet))
        deadline = time.monotonic() + PATIENCE
        while not is_open(port):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    yield start
    for process in running:
        process.kill()
        process.wait(PATIENCE)


def results(program: Callable[[str], str], folder: Path, ports: Ports) -> list[bool]:
    """Whether each message of the table was taken."""
    taken = []
    for listener, options, _ in CASES:
        given = [option.format(folder=folder) for option in options]
        if listener == "tls":
            given += ["-h", "localhost", "--cafile", str(folder / "authority.pem")]
        else:
            given += ["-h", "127.0.0.1"]
        command = [program("mosquitto_pub"), "-p", str(ports[listener]), "-V", "5", "-q", "1"]
        found = subprocess.run(
            [*command, "-m", "x", *given], capture_output=True, text=True, timeout=PATIENCE
        )
        # mosquitto_pub tells of a PUBACK that says no, and ends with 0.
        taken.append(found.returncode == 0 and "Not authorized" not in found.stderr)
    return taken


def test_who_is_let_in_and_what_is_taken_stays_the_same(
    folder: Path,
    program: Callable[[str], str],
    start: Callable[..., Any],
    mosquitto: Callable[[Path, int], None],
) -> None:
    config, ports = configure(folder)
    mosquitto(config, ports["tls"])
    before = results(program, folder, ports)

    config, ports = configure(folder)
    target = folder / "mqttd.toml"
    assert main(["import", str(config), "-o", str(target)]) == 0
    start("--config", str(target)).wait_for(" serves ")
    after = results(program, folder, ports)

    expected = [taken for _, _, taken in CASES]
    assert before == expected
    assert after == expected


def test_retained_messages_move_over_a_bridge(
    tmp_path: Path,
    program: Callable[[str], str],
    start: Callable[..., Any],
    mosquitto: Callable[[Path, int], None],
) -> None:
    """As ``docs/coming-from.rst`` tells."""
    old, new = free_port(), free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"user root\nlistener {old} 127.0.0.1\nallow_anonymous true\n")
    mosquitto(config, old)
    typed = ["-V", "5", "-D", "publish", "content-type", "text/x"]
    kept = {"a/1": b"text", "a/2": bytes(range(256)), "b": b"x" * 70_000}
    for topic, payload in kept.items():
        subprocess.run(
            [program("mosquitto_pub"), "-p", str(old), "-r", "-q", "1", "-t", topic, "-s", *typed],
            input=payload,
            check=True,
        )
    page = (Path(__file__).parents[2] / "docs" / "coming-from.rst").read_text()
    block = page.partition(".. code-block:: toml\n")[2].partition("\nThe bridge")[0]
    bridge = "\n".join(line[3:] for line in block.splitlines()).replace("1884", str(old))
    target = tmp_path / "mqttd.toml"
    target.write_text(
        f'{bridge}\n[[listener]]\nendpoint = "tcp:{new}:interface=127.0.0.1"\n'
        "allow_anonymous = true\n"
    )
    start("--config", str(target)).wait_for(" serves ")

    def moved(topic: str) -> bytes:
        command = [program("mosquitto_sub"), "-p", str(new), "-q", "1", "-t", topic]
        command += ["--retained-only", "-C", "1", "-W", "1", "-V", "5", "-F", "%C %p"]
        return subprocess.run(command, capture_output=True).stdout

    deadline = time.monotonic() + PATIENCE
    while any(moved(topic) != b"text/x " + payload + b"\n" for topic, payload in kept.items()):
        assert time.monotonic() < deadline, {topic: len(moved(topic)) for topic in kept}
