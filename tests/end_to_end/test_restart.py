"""A restart that nobody notices but by a reconnection: systemd holds the socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from tests.end_to_end.daemon import PATIENCE, command, environment

CONNECT = bytes.fromhex("10 0c 00 04 4d515454 04 02 003c 00 00")

#: See ``test_endpoints``.
AS_SYSTEMD = 'export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=mqtt; exec "$@"'


class Unit:
    """What systemd does for a service with a socket unit and Type=notify."""

    def __init__(self, folder: Path, listening: socket.socket) -> None:
        self.folder = folder
        self.listening = listening
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(folder / "n"))
        self.manager.settimeout(PATIENCE)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Done when it says that it is ready."""
        arguments = ("--listen", "systemd:domain=INET:name=mqtt", "--allow-anonymous")
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", AS_SYSTEMD, "sh", *command("twistd", *arguments)],
            cwd=self.folder,
            env={**environment(self.folder), "NOTIFY_SOCKET": str(self.folder / "n")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: os.dup2(self.listening.fileno(), 3),
            pass_fds=(3,),
        )
        while not self.manager.recv(4096).startswith(b"READY=1"):
            pass

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(PATIENCE)
            self.process = None


def wait_for_more(outcomes: list[str], served: int = 20) -> None:
    """Until so many more were served."""
    goal = outcomes.count("served") + served
    deadline = time.monotonic() + PATIENCE
    while outcomes.count("served") < goal:
        assert time.monotonic() < deadline, outcomes[-20:]
        time.sleep(0.01)


def test_a_restart_refuses_nobody(tmp_path: Path) -> None:
    outcomes: list[str] = []
    ending = threading.Event()

    def come_and_go(port: int) -> None:
        while not ending.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), PATIENCE) as stream:
                    stream.sendall(CONNECT)
                    answer = stream.recv(4)
                    outcomes.append("served" if answer[:1] == b"\x20" else "dropped")
            except ConnectionRefusedError:
                outcomes.append("refused")
            except ConnectionResetError:
                outcomes.append("dropped")
            time.sleep(0.005)

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1000)
        unit = Unit(tmp_path, listening)
        unit.start()
        clients = [
            threading.Thread(target=come_and_go, args=(listening.getsockname()[1],))
            for _ in range(3)
        ]
        for client in clients:
            client.start()
        try:
            for _ in range(2):
                wait_for_more(outcomes)
                unit.stop()
                unit.start()
            wait_for_more(outcomes)
        finally:
            ending.set()
            for client in clients:
                client.join(PATIENCE)
            unit.stop()
            unit.manager.close()
    assert "refused" not in outcomes
    # Those whose connection was open, or just accepted, when it stopped: of three
    # clients one connection each, twice.
    assert outcomes.count("dropped") <= 6, outcomes
