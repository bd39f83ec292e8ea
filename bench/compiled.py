"""Makes the compiled copy of mqttd that the benchmark runs as ``mqttd-compiled``.

``python -m bench.compiled`` copies the package to ``bench/.build/compiled`` and
compiles it there, so that the source tree itself stays pure. It needs a C compiler
and ``pip install setuptools mypy-zope``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from bench.brokers import COMPILED, ROOT

COPIED = ("mqttd", "twisted", "setup.py", "setup.cfg", "pyproject.toml", "README.rst", "LICENSE")


def main() -> int:
    """Copy and compile; the exit status of the build."""
    shutil.rmtree(COMPILED, ignore_errors=True)
    COMPILED.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            leave = shutil.ignore_patterns("__pycache__", "*.so", "dropin.cache")
            shutil.copytree(source, COMPILED / name, ignore=leave)
        else:
            shutil.copy(source, COMPILED / name)
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    return subprocess.run(
        command, cwd=COMPILED, env={**os.environ, "MQTTD_COMPILE": "1"}
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
