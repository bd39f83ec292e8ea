"""A daemon with a dashboard, and how a test gets into it and about in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from mqttd.access.passwords import DEFAULT_SCHEME, make_hash
from tests.end_to_end.chromium import Chromium
from tests.end_to_end.clients import Target
from tests.end_to_end.daemon import Daemon, free_port, toml

#: The button that says yes to a question.
CONFIRM = "dialog[open] button.danger"


@frozen
class Served:
    port: int
    mqtt: Target
    #: The token of an administrator: the one of the start, unless others are made.
    token: str
    #: The token of a viewer.
    viewer: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The API, as the dashboard's rival in telling the truth."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        connection.request(method, f"/api/v1/{path}", json.dumps(body) if body else None, headers)
        answer = connection.getresponse().read()
        connection.close()
        return json.loads(answer) if answer else None

    def with_tokens(self) -> Served:
        """The same with tokens that last."""
        made = self.ask("POST", "tokens", {"name": "root", "role": "administrator"})["token"]
        served = evolve(self, token=made)
        seen = served.ask("POST", "tokens", {"name": "guest", "role": "viewer"})["token"]
        return evolve(served, viewer=seen)


@contextmanager
def serve(folder: Path, store: Mapping[str, Any] | None = None, more: str = "") -> Iterator[Served]:
    """A daemon with one listener and one user; *more*: what else its configuration says."""
    http, mqtt = free_port(), free_port()
    config = folder / "mqttd.toml"
    endpoint = f"tcp:{mqtt}:interface=127.0.0.1"
    config.write_text(
        toml(
            [{"name": "lan", "endpoint": endpoint, "allow_anonymous": True}],
            http={"endpoint": f"tcp:{http}:interface=127.0.0.1", "socket": "none"},
            store=store or {"backend": "memory"},
        )
        + f'[[authentication]]\ntype = "password-file"\npath = "{folder}/passwords"\n'
        + f'groups_file = "{folder}/groups"\n'
        + more
    )
    (folder / "groups").write_text("")
    (folder / "passwords").write_text(f"alice:{make_hash(b'correct horse', DEFAULT_SCHEME)}\n")
    daemon = Daemon(folder, ["--config", str(config)])
    try:
        first = daemon.wait_for("Nobody may use the HTTP API yet").split()[-1]
        daemon.wait_for(" serves ")
        yield Served(http, Target(mqtt), first)
    finally:
        daemon.stop()


def log_in(browser: Chromium, served: Served, token: str) -> None:
    browser.open(served.url)
    browser.wait("document.querySelector('input[name=token], nav a')")
    browser.run("sessionStorage.clear(); localStorage.clear()")
    browser.open("about:blank")
    browser.open(served.url)
    browser.type("input[name=token]", token)
    browser.press("Enter", 13, "\r")
    browser.wait("document.querySelector('nav a')")


def go(browser: Chromium, page: str) -> None:
    browser.run(f"location.hash = {json.dumps('#/' + page)}")


def hosts(browser: Chromium) -> set[str]:
    """Whom the pages have asked for anything."""
    return {url.split("/")[2] for url in browser.urls if url.startswith("http")}
