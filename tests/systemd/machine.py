"""A machine that systemd runs, made of namespaces: see ``machine.sh``.

It needs root, and the right to make namespaces and control groups; ``hindrance`` says what
is missing. Nothing outside of it is changed, and no process stays when it is stopped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.end_to_end.daemon import PATIENCE, ROOT

#: Started first in a namespace: it ends with the process that started it.
UNSHARE = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--fork", "--kill-child", "--pid", "--mount", "--mount-proc"),
    *("--uts", "--ipc", "--net", "--cgroup"),
)

PYTHON = "/usr/bin/python3"

SYSTEMD = Path("/usr/lib/systemd/systemd")

NEWER = "import sys, venv, ensurepip; assert sys.version_info >= (3, 11)"


def hindrance() -> str:
    """Why no such machine can be made here; nothing if one can."""
    if os.geteuid():
        return "needs root, to make namespaces"
    if not SYSTEMD.exists():
        return "needs systemd: apt-get install systemd"
    if shutil.which("setpriv") is None:
        return "needs setpriv: apt-get install util-linux"
    if subprocess.run([PYTHON, "-c", NEWER], capture_output=True).returncode:
        return f"needs {PYTHON} from 3.11 up with venv: apt-get install python3-venv"
    if control_group() is None:
        return "needs a cgroup2 file system that can be written"
    found = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True)
    return f"no namespaces here: {found.stderr.strip()}" if found.returncode else ""


def control_group() -> Path | None:
    """Our own group in the cgroup2 hierarchy."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    own = [
        line.removeprefix("0::/")
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        if line.startswith("0::/")
    ]
    for _, place, kind, *_ in mounts:
        if kind == "cgroup2" and own and os.access(Path(place, own[0]), os.W_OK):
            return Path(place, own[0])
    return None


def fetch_wheels(folder: Path, source: Path, extras: str) -> Path:
    """What the installation of *source* with *extras* needs, as the Python of the machine
    wants it, since there is no network in there."""
    subprocess.run([PYTHON, "-m", "venv", folder / "environment"], check=True)
    wheels = folder / "wheels"
    wheels.mkdir()
    pip = folder / "environment" / "bin" / "pip"
    wanted = (f"{source}{extras}", "setuptools>=77", "wheel")
    subprocess.run([pip, "download", "--quiet", "--dest", wheels, *wanted], check=True)
    return wheels


class Machine:
    """A running one; ``stop`` must be called in the end."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        above = control_group()
        assert above is not None
        self._group = above / f"mqttd-test-{os.getpid()}"
        self._group.mkdir()
        root = folder / "root"
        root.mkdir()
        join = f'echo $$ >{self._group}/cgroup.procs; exec "$@"'
        script = [
            str(each) for each in (Path(__file__).with_name("machine.sh"), root, ROOT, wheels)
        ]
        start = ["sh", "-c", join, "sh", *UNSHARE, "sh", *script]
        self._process = subprocess.Popen(start, stdin=subprocess.DEVNULL)
        try:
            self.wait_for("systemctl is-active multi-user.target")
        except BaseException:
            self.stop()
            raise

    def _first(self) -> int | None:
        """The process that is systemd."""
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[1] == str(self._process.pid):
                return int(path.parent.name)
        return None

    def inside(self, *namespaces: str) -> list[str]:
        """What stands before a command that shall run in these *namespaces* of the machine."""
        return ["nsenter", "--target", str(self._first()), *namespaces]

    def command(self, script: str) -> list[str]:
        """What runs the shell's *script* in the machine."""
        shell = ["env", "-i", "PATH=/usr/sbin:/usr/bin", "HOME=/root", "PIP_NO_INDEX=1"]
        shell += ["PIP_FIND_LINKS=/wheels", "LANG=C.UTF-8", "sh", "-c", script]
        return [*self.inside("-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"), *shell]

    def run(self, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The shell's *script*, run by root in the machine."""
        found = subprocess.run(
            self.command(script), capture_output=True, text=True, timeout=5 * PATIENCE
        )
        assert not check or found.returncode == 0, f"{script}\n{found.stdout}\n{found.stderr}"
        return found

    def wait_for(self, script: str, timeout: float = PATIENCE) -> None:
        """Until *script* succeeds."""
        deadline = time.monotonic() + timeout
        while self._first() is None or self.run(script, check=False).returncode:
            assert self._process.poll() is None, "systemd has ended"
            assert time.monotonic() < deadline, f"never so: {script}"
            time.sleep(0.1)

    def python(self, *arguments: str | Path) -> str:
        """What our own Python prints when it runs in the network of the machine."""
        command = [*self.inside("-n"), sys.executable, *map(str, arguments)]
        found = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=5 * PATIENCE
        )
        assert found.returncode == 0, found.stderr
        return found.stdout

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        deadline = time.monotonic() + PATIENCE
        while self._group.exists() and time.monotonic() < deadline:
            try:
                for folder, _, _ in os.walk(self._group, topdown=False):
                    os.rmdir(folder)
            except OSError:
                # Its processes are still ending.
                time.sleep(0.05)
