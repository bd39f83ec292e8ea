"""What every test may use: the markers, the profiles of hypothesis, and programs from outside.

A test that needs a foreign client or broker asks for it by
``program("mosquitto_pub")``. Without it the test is skipped and says how to get
it; under CI (the variable ``CI`` is set) the same absence is a failure.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

import mqttd

if TYPE_CHECKING:
    from tests.servers import Server

#: Program -> how a person gets it.
PROGRAMS = {
    "mosquitto": "apt-get install mosquitto",
    "mosquitto_passwd": "apt-get install mosquitto",
    "mosquitto_pub": "apt-get install mosquitto-clients",
    "mosquitto_sub": "apt-get install mosquitto-clients",
    "node": "apt-get install nodejs",
    "npm": "apt-get install npm",
    "chromium": "apt-get install chromium",
    "systemd-analyze": "apt-get install systemd",
    "initdb": "apt-get install postgresql",
    "mariadb-install-db": "apt-get install mariadb-server",
    "mariadbd": "apt-get install mariadb-server",
    "redis-server": "apt-get install redis-server",
    "slapd": "apt-get install slapd",
    "slapadd": "apt-get install slapd",
}

#: Where MQTT.js is looked for, besides node_modules in the checkout.
NODE_MODULES = "MQTTD_NODE_MODULES"


# Hundreds of processes are started, and each would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# pytest asks for Twisted's around each test, and the answer takes longer than many a test.
importlib.metadata.version = cache(importlib.metadata.version)

# .ci/run asks for --hypothesis-profile=thorough.
settings.register_profile("everyday", max_examples=20, deadline=None)
settings.register_profile("thorough", max_examples=100, deadline=None)
settings.load_profile("everyday")


def examples(share: float) -> int:
    """So many times the examples of the profile in force: for ``max_examples``."""
    return int(share * settings().max_examples)


def seeds(number: int) -> list[pytest.ParameterSet]:
    """Seeds of random histories, for ``parametrize``: two of three are slow."""
    return [
        pytest.param(seed, marks=() if seed < number // 3 else pytest.mark.slow)
        for seed in range(number)
    ]


def pytest_configure(config: pytest.Config) -> None:
    for marker in (
        "statement(*labels): the normative statements of the specifications that a test shows",
        "slow: builds packages, tries many random histories and so on; only with -m slow",
    ):
        config.addinivalue_line("markers", marker)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``-n``: the tests of a file share their servers, and so stay together."""
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    return LoadFileScheduling(config, log)


def absent(what: str, remedy: str) -> None:
    """End the test for want of *what*: a skip for people, a failure for CI."""
    message = f"needs {what}: {remedy}"
    if os.environ.get("CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def find_program(name: str) -> str:
    """The path of the program *name*, or no test."""
    # Debian keeps daemons where an ordinary user's PATH does not look.
    path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"
    found = shutil.which(name, path=path)
    if found is None:
        absent(name, PROGRAMS.get(name, f"install {name}"))
    assert found is not None
    return found


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """``program(name)`` is the path of an external program."""
    return find_program


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The folder in which npm installed ``mqtt``; set NODE_PATH to it."""
    here = Path(__file__).parent.parent / "node_modules"
    folder = Path(os.environ.get(NODE_MODULES, here))
    if not (folder / "mqtt").is_dir():
        absent("MQTT.js", f"npm install --no-save mqtt (or set {NODE_MODULES})")
    return folder


# Servers that several tests share; see ``tests.servers``. Imported late, as they
# need libraries that most tests do not.


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    from tests import servers

    with servers.postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    from tests import servers

    with servers.mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[Server]:
    from tests import servers

    with servers.redis() as server:
        yield server


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    from tests import servers
    from tests.end_to_end.certificates import Authority

    authority = Authority(tmp_path_factory.mktemp("directory"))
    with servers.directory(authority.sign("localhost", "slapd"), authority.certificate) as server:
        server.authority = str(authority.certificate)
        yield server


#: For tests that count calls of Python code, or put their own class in its way.
interpreted = pytest.mark.skipif(
    mqttd.__compiled__, reason="looks into Python code, and this build of mqttd is compiled"
)
