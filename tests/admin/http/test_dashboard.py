"""The dashboard's files: all of them, nothing else, and under a strict policy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mqttd.admin
from mqttd.admin.http.dashboard import Dashboard, ToDashboard
from tests.admin.http.harness import Web

FOLDER = Path(mqttd.admin.__file__).parent / "dashboard"
FILES = sorted(
    str(path.relative_to(FOLDER))
    for path in FOLDER.rglob("*.*")
    if path.suffix in (".html", ".js", ".css", ".svg")
)
SCRIPTS = [name for name in FILES if name.endswith(".js")]


@pytest.fixture
def site(web: Web) -> Web:
    root = web.site.resource
    root.putChild(b"dashboard", Dashboard())
    root.index = ToDashboard()
    web.base = "/dashboard"
    # Nobody is asked who he is.
    web.authenticate = None  # type: ignore[assignment]
    return web


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_as_what_it_is(site: Web, name: str) -> None:
    answer = site.ask("GET", f"/{name}")
    assert answer.status == 200
    assert answer.body == (FOLDER / name).read_bytes()
    kind = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
    assert answer.headers["content-type"].startswith(kind.get(Path(name).suffix, "image/svg+xml"))
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert not any("unsafe" in each or "http" in each for each in policy)


def test_the_folder_is_its_page(site: Web) -> None:
    assert site.ask("GET", "/").body == (FOLDER / "index.html").read_bytes()
    assert site.ask("GET", "").headers["location"] == "/dashboard/"
    site.base = ""
    assert site.ask("GET", "/").headers["location"] == "/dashboard/"


@pytest.mark.parametrize(
    "path",
    [
        "/../__init__.py",
        "/..%2f__init__.py",
        "/%2e%2e/%2e%2e/settings.py",
        "/%252e%252e/settings.py",
        "/%2e%2e%2fsettings.py",
        "/pages/../../alarms.py",
        "//etc/passwd",
        "/pages",
        "/pages/",
        "/main.js/",
        "/main.js%00.html",
        "/%ff%fe",
        "/nothing.js",
    ],
)
def test_nothing_else_is(site: Web, path: str) -> None:
    assert site.ask("GET", path).status == 404


def test_a_file_that_is_known_is_not_sent_again(site: Web) -> None:
    tag = site.ask("GET", "/main.js").headers["etag"]
    again = site.ask("GET", "/main.js", headers={"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"")
    assert site.ask("HEAD", "/main.js").body == b""


def test_it_can_only_be_read(site: Web) -> None:
    answer = site.ask("POST", "/main.js", {})
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("name", FILES)
def test_a_file_asks_no_other_host(name: str) -> None:
    text = (FOLDER / name).read_text().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"""(https?:)?//[a-z0-9-]+\.[a-z]""", text)
    assert "@import" not in text


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_html_or_code_of_text(name: str) -> None:
    text = (FOLDER / name).read_text()
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "srcdoc",
    ):
        assert way not in text


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_script_imports_is_there(name: str) -> None:
    here = FOLDER / name
    for what, where in re.findall(
        r'^import (?:\* as \w+|\{([^}]*)\}) from "([^"]+)"', here.read_text(), re.M
    ):
        found = here.parent / where
        assert found.is_file()
        for each in filter(None, (part.strip() for part in what.split(","))):
            assert re.search(rf"^export .*\b{each}\b", found.read_text(), re.M), each
