"""Builds the load generator and runs it once.

The driver calls it; it knows nothing of brokers and scenarios.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUILD = HERE / ".build"


class RunFailed(Exception):
    """The generator gave up; the text says why."""


def build() -> tuple[Path, bool]:
    """Compile what has changed; return the program and whether it speaks TLS.

    :raise RunFailed: without a C compiler, or when it refuses.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RunFailed("the load generator needs a C compiler: install gcc")
    sources = sorted(HERE.glob("load*.c"))
    digest = hashlib.sha256()
    for path in (*sources, HERE / "load.h"):
        digest.update(path.read_bytes())
    BUILD.mkdir(exist_ok=True)
    base = [compiler, "-O2", *map(str, sources), "-lm"]
    errors = ""
    for tls, extra in ((True, ["-DWITH_TLS", "-lssl", "-lcrypto"]), (False, [])):
        program = BUILD / f"load-{digest.hexdigest()[:16]}{'-tls' if tls else ''}"
        if program.exists():
            return program, tls
        done = subprocess.run([*base, *extra, "-o", str(program)], capture_output=True, text=True)
        if done.returncode == 0:
            return program, tls
        errors = done.stderr
    raise RunFailed(f"the load generator does not compile:\n{errors}")


def run(program: Path, cpu: int | None, arguments: list[str], timeout: float) -> dict[str, Any]:
    """Run the generator on *cpu* for at most *timeout* seconds.

    :raise RunFailed: when it ends with an error or not at all.
    """
    pin = [] if cpu is None else ["taskset", "-c", str(cpu)]
    command = [*pin, str(program), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise RunFailed(f"no end after {timeout:.0f} s") from None
    if done.returncode != 0:
        raise RunFailed(done.stderr.strip() or f"exit status {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result
