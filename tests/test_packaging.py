"""What is installed: the package, the plugin, and nothing of Twisted's."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
import venv
from pathlib import Path

import pytest

import mqttd
from tests.conftest import absent

ROOT = Path(__file__).parent.parent


def run(*command: str | Path, cwd: Path | str = "/") -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    arguments = [str(part) for part in command]
    return subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True)


def make_environment(folder: Path) -> Path:
    """A new virtual environment; returns its bin directory."""
    venv.create(folder, with_pip=True)
    return folder / "bin"


def install(binaries: Path, *what: str | Path) -> None:
    found = run(binaries / "python", "-m", "pip", "install", "--quiet", *what)
    if found.returncode and "No matching distribution" in found.stderr:
        absent("a package index", "this test installs Twisted into a new environment")
    assert found.returncode == 0, found.stderr


def lists_mqttd(binaries: Path) -> bool:
    """Whether twistd, started elsewhere than in the checkout, has the command."""
    found = run(binaries / "twistd", "--help")
    assert found.returncode == 0, found.stderr
    return any(line.split()[:1] == ["mqttd"] for line in found.stdout.splitlines())


def test_the_namespace_stays_twisteds_own() -> None:
    # With an __init__.py here our wheel would overwrite Twisted's, and our
    # removal would take Twisted's with it.
    assert not (ROOT / "twisted" / "__init__.py").exists()
    assert not (ROOT / "twisted" / "plugins" / "__init__.py").exists()
    assert [path.name for path in (ROOT / "twisted" / "plugins").glob("*.py")] == [
        "mqttd_plugin.py"
    ]


def test_the_build_needs_no_more_than_it_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["build-system"]["build-backend"] == "setuptools.build_meta"


def test_what_a_compiled_build_compiles_is_there() -> None:
    named = re.findall(r'"(mqttd/.*\.py)"', (ROOT / "setup.py").read_text())
    assert "mqttd/broker/fast_lane.py" in named
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with a copy of the checkout installed from its sdist."""
    folder = tmp_path_factory.mktemp("packaging")
    binaries = make_environment(folder / "environment")
    install(binaries, "build")
    dist = folder / "dist"
    found = run(binaries / "python", "-m", "build", "--outdir", dist, ROOT)
    assert found.returncode == 0, found.stderr
    (wheel,) = dist.glob("txmqttd-*.whl")
    install(binaries, wheel)
    return binaries


@pytest.mark.slow
def test_the_installed_package_is_whole(installed: Path) -> None:
    files = run(installed / "python", "-m", "pip", "show", "--files", "txmqttd").stdout
    assert f"Version: {mqttd.__version__}" in files
    shown = {line.strip() for line in files.splitlines()}
    assert {"mqttd/py.typed", "mqttd/tap.py", "twisted/plugins/mqttd_plugin.py"} <= shown
    here = {str(path.relative_to(ROOT)) for path in (ROOT / "mqttd").rglob("*.py")}
    dashboard = (ROOT / "mqttd/admin/dashboard").rglob("*.*")
    here |= {str(path.relative_to(ROOT)) for path in dashboard}
    assert here <= shown
    assert not {name for name in shown if name.startswith(("tests", "twisted/__init__"))}
    code = "import mqttd, mqttd.service, sys; print(mqttd.MQTTBroker, mqttd.__file__)"
    found = run(installed / "python", "-c", code)
    assert "site-packages" in found.stdout, found.stderr


@pytest.mark.slow
def test_the_sdist_carries_what_a_packager_needs(installed: Path) -> None:
    dist = installed.parent.parent / "dist"
    (sdist,) = dist.glob("txmqttd-*.tar.gz")
    names = {name.partition("/")[2] for name in run("tar", "tzf", sdist).stdout.split()}
    assert {"etc/mqttd.toml", "tests/conftest.py", "README.rst", "LICENSE", "NEWS.rst"} <= names


@pytest.mark.slow
def test_the_runners_know_the_plugin(installed: Path) -> None:
    assert lists_mqttd(installed)
    found = run(installed / "twist", "mqttd", "--version")
    assert found.stdout.startswith(f"mqttd {mqttd.__version__} "), found.stderr


@pytest.mark.slow
def test_an_editable_install_has_the_plugin_and_removal_leaves_twisted_whole(
    installed: Path,
) -> None:
    python = installed / "python"
    install(installed, "--no-deps", "--editable", ROOT)
    assert lists_mqttd(installed)
    where = run(python, "-c", "import mqttd; print(mqttd.__file__)").stdout.strip()
    assert where == str(ROOT / "mqttd" / "__init__.py")
    removed = run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "txmqttd")
    assert removed.returncode == 0
    assert not lists_mqttd(installed)
    code = "import twisted.plugins, twisted.plugins.twisted_core; print(twisted.plugins.__file__)"
    assert run(python, "-c", code).stdout.strip().endswith("__init__.py")
