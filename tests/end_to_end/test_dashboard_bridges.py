"""The page of the bridges in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from mqttd.testing import LiveBroker
from tests.end_to_end.chromium import Chromium
from tests.end_to_end.dashboard import CONFIRM, Served, go, hosts, log_in, serve
from tests.end_to_end.paho_clients import Paho

BRIDGE = """
[[bridge]]
name = "loop"
addresses = ["{url}"]
start = "manual"
[[bridge.topics]]
filter = "over/#"
remote_prefix = "far/"
"""


@frozen
class Bridged:
    served: Served
    far: LiveBroker


@pytest.fixture
def bridged(tmp_path: Path) -> Iterator[Bridged]:
    with LiveBroker() as far, serve(tmp_path, more=BRIDGE.format(url=far.url)) as served:
        yield Bridged(served.with_tokens(), far)


def test_a_bridge_is_started_and_stopped(chromium: Chromium, bridged: Bridged) -> None:
    browser, served = chromium, bridged.served
    log_in(browser, served, served.token)
    browser.errors.clear()
    browser.urls.clear()
    go(browser, "bridges")
    browser.wait("document.querySelector('main td .tag').innerText == 'stopped'")
    browser.click_on("main button", "Start")
    go(browser, "bridges/loop")
    browser.wait("document.querySelector('dl .tag.good')")
    library = Paho(5)
    library.connect(served.mqtt).publish("over/1", "x", 1)
    library.close()
    assert bridged.far.wait_for("far/over/1").payload == b"x"
    browser.click_on("main button", "Refresh")
    browser.wait("document.querySelector('dl').innerText.match(/Sent\\s+1/i)")
    assert "far/" in browser.run("document.querySelector('main table').innerText")
    browser.click_on("main button", "Stop")
    browser.click(CONFIRM)
    browser.wait("document.querySelector('dl .tag').innerText == 'stopped'")
    assert served.ask("GET", "bridges/loop")["state"] == "stopped"
    # Elsewhere while the page is about to ask again.
    go(browser, "alarms")
    browser.wait_for("Alarms")
    assert browser.errors == []
    assert hosts(browser) == {f"127.0.0.1:{served.port}"}
    log_in(browser, served, served.viewer)
    go(browser, "bridges/loop")
    browser.wait("document.querySelector('dl .tag')")
    buttons = browser.run("[...document.querySelectorAll('main button')].map(b => b.innerText)")
    assert buttons == ["Refresh"]
