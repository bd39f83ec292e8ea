"""``python -m tests.systemd``: the units of ``etc`` under a real systemd.

They are installed as ``docs/deployment.rst`` says, in a machine made of namespaces, where
systemd is the first process. It takes about two minutes, and is skipped with the reason
where no such machine can be made.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    cases = Path(__file__).with_name("cases.py")
    sys.exit(pytest.main(["-rs", "-p", "no:cacheprovider", "-v", str(cases), *sys.argv[1:]]))
