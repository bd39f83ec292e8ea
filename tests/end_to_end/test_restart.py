"""A restart that nobody notices but by a reconnection: systemd holds the socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

from tests.end_to_end.callers import CALLERS, outcomes_while
from tests.end_to_end.daemon import PATIENCE, command, environment

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

    def restart(self) -> None:
        self.stop()
        self.start()


def test_a_restart_refuses_nobody(tmp_path: Path) -> None:
    """The same with systemd itself is in ``tests.systemd``."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1000)
        unit = Unit(tmp_path, listening)
        unit.start()
        try:
            outcomes = outcomes_while(listening.getsockname()[1], unit.restart, 2)
        finally:
            unit.stop()
            unit.manager.close()
    assert outcomes["refused"] == 0
    # Those whose connection was open, or just accepted, when it stopped: of each
    # caller one connection, twice.
    assert outcomes["dropped"] <= 2 * CALLERS, outcomes
