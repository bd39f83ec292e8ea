"""The rooms of the package keep to their walls (the contracts stand in pyproject.toml)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: What a sans-I/O module may not import of Twisted: anything that moves bytes,
#: or the reactor; interfaces, deferreds and the injected clock are fine.
FORBIDDEN = re.compile(
    r"from twisted\.internet import (?!defer\b|interfaces\b|task\b)"
    r"|(?:from|import) twisted\.internet\.(?!defer\b|interfaces\b|task\b)"
    r"|(?:from|import) twisted\.(?:protocols|web|application)\b"
    r"|from twisted import|import twisted\b"
    r"|(?:from|import) (?:ssl|asyncio|select|selectors|threading|OpenSSL)\b"
    r"|(?:from|import) socket\b(?! import gethostname)"
    r"|time\.time\(|datetime\.now\("
)


@pytest.mark.parametrize("package", ["wire", "broker"])
def test_protocol_and_broker_know_no_transport_and_no_wall_clock(package: str) -> None:
    offences = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted((ROOT / "mqttd" / package).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if FORBIDDEN.search(line)
    ]
    assert offences == []


def test_the_pattern_finds_what_it_should() -> None:
    for line in (
        "from twisted.internet import reactor",
        "    from twisted.internet import reactor",
        "import twisted.internet.reactor",
        "from twisted.internet.protocol import Protocol",
        "import socket",
        "now = time.time()",
    ):
        assert FORBIDDEN.search(line), line
    for line in (
        "from twisted.internet.defer import Deferred",
        "from twisted.internet.interfaces import IReactorTime",
        "from twisted.internet import defer",
        "from socket import gethostname",
        "from twisted.logger import Logger",
    ):
        assert not FORBIDDEN.search(line), line


@pytest.mark.parametrize(
    "module",
    [
        "mqttd",
        "mqttd.wire.parser",
        "mqttd.broker.broker",
        "mqttd.settings",
        "mqttd.tap",
        "mqttd.client",
    ],
)
def test_importing_installs_no_reactor(module: str) -> None:
    code = f"import sys, {module}; sys.exit('twisted.internet.reactor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_wire_needs_no_twisted() -> None:
    code = (
        "import sys, mqttd.wire.parser, mqttd.wire.serializer, mqttd.wire.topics;"
        "sys.exit(any(name.partition('.')[0] in ('twisted', 'zope') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_import_contracts_hold() -> None:
    pytest.importorskip("importlinter", reason="needs import-linter: pip install '.[dev]'")
    found = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout
