"""A day at the dashboard: all its pages, by mouse and by keyboard, among 10,000 sessions."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from mqttd.interfaces import StoredSession, StoredSubscription
from mqttd.settings import Durability
from mqttd.store.batch import Batch
from mqttd.store.schema import close_store, open_store
from mqttd.store.writing import Writer
from tests.end_to_end.chromium import Chromium
from tests.end_to_end.clients import Client, Refused
from tests.end_to_end.daemon import PATIENCE
from tests.end_to_end.dashboard import CONFIRM, Served, go, hosts, log_in, serve

SESSIONS = 10_000

#: Bytes that one answer may have, whatever there is in the broker.
LARGEST = 64 * 1024

RULES = """
[[rule]]
name = "all but secrets"
allow = "all"
topics = ["plant/#", "sensors/#"]
"""

READABLE = (Path(__file__).parent / "readable.js").read_text()

#: Roles of things that are done something with.
CONTROLS = {
    *("button", "link", "textbox", "searchbox", "combobox", "checkbox", "spinbutton"),
    "DisclosureTriangle",
}

#: Whether where the keys go can be seen.
SEEN = """(() => {
  const style = getComputedStyle(document.activeElement);
  return document.activeElement.matches(":focus-visible") && style.outlineStyle == "solid"
    && parseFloat(style.outlineWidth) >= 2;
})()"""


@frozen
class Town:
    """A broker with much in it."""

    served: Served
    rules: Path


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    rules = folder / "acl.toml"
    rules.write_text(RULES)
    settle(folder / "state" / "mqttd")
    more = f'[[authorization]]\ntype = "file"\npath = "{rules}"\n'
    with serve(folder, {"backend": "sqlite", "durability": "memory"}, more) as served:
        yield Town(served, rules)


@pytest.fixture(scope="module")
def served(town: Town, chromium: Chromium) -> Served:
    """With a token that was made by the one of the start, in the browser."""
    log_in(chromium, town.served, town.served.token)
    go(chromium, "tokens")
    chromium.type("input[name=name]", "ann")
    chromium.choose("select[name=role]", "administrator")
    chromium.click("main button.primary")
    chromium.wait("document.querySelector('header bdi').innerText == 'ann'")
    chromium.wait_for("It is shown this once:")
    return evolve(town.served, token=chromium.run("document.querySelector('pre').innerText"))


@pytest.fixture
def browser(chromium: Chromium, served: Served) -> Iterator[Chromium]:
    """Nothing goes wrong in its pages, and they ask nobody else."""
    yield chromium
    # Before somebody says who he is, he is nobody.
    assert [each for each in chromium.errors if "401" not in each or "whoami" not in each] == []
    assert hosts(chromium) == {f"127.0.0.1:{served.port}"}
    assert chromium.largest < LARGEST


def settle(folder: Path) -> None:
    """Put sessions into a store, each with a subscription."""
    folder.mkdir(parents=True)
    batch = Batch()
    for sid in range(1, SESSIONS + 1):
        name = f"sensor-{sid:05}"
        batch.sessions[sid] = StoredSession(sid, name, listener="lan", ended_at=0.0)
        filter = f"sensors/{name}/set"
        batch.subscriptions[sid, filter] = StoredSubscription(filter, 1)
    connection = open_store(folder, Durability.MEMORY)
    Writer(connection).write(batch, 0.0, 0.0)
    close_store(connection)


def pages(browser: Chromium) -> list[str]:
    found: list[str] = browser.run(
        "[...document.querySelectorAll('nav a')].map((each) => each.dataset.page)"
    )
    return found


def test_a_day_of_an_operator(
    browser: Chromium, served: Served, town: Town, connect: Callable[[str], Client]
) -> None:
    # A client is found, looked into as it speaks, and kicked.
    pump = connect("pump-7")
    go(browser, "clients")
    browser.type("input[name=prefix]", "pump")
    browser.click_on("tbody a", "pump-7")
    browser.click("#packets button.primary")
    browser.wait("document.querySelector('#packets .tag').innerText == 'live'")
    pump.publish("plant/pump", "on", 1)
    browser.wait_for("PUBACK")
    browser.click_on("main button", "Kick")
    browser.click(CONFIRM)
    browser.wait_for("No client fits.")
    # It is banned, somebody wonders why it does not come, and it is let in again.
    go(browser, "access")
    browser.type("#bans input[name=value]", "pump-7")
    browser.press("Enter", 13, "\r")
    browser.click(CONFIRM)
    browser.wait("document.querySelector('#bans tbody button')")
    with pytest.raises(Refused):
        connect("pump-7")
    browser.type("#why input[name=client_id]", "pump-7")
    browser.type("#why input[name=topic]", "plant/pump")
    browser.click("#why button")
    browser.wait_for("not let in: banned")
    browser.click("#bans tbody button")
    browser.click(CONFIRM)
    browser.wait_for("Nobody is banned.")
    connect("pump-7")
    # A message by hand, and what it leaves behind.
    go(browser, "messages")
    browser.type("#listen input", "plant/#")
    browser.press("Enter", 13, "\r")
    browser.wait("document.querySelector('#listen h2 .tag').innerText == 'live'")
    browser.type("#publish input[name=topic]", "plant/by-hand")
    browser.type("#publish textarea", "hello")
    browser.click("#publish input[name=retain]")
    browser.click("#publish button.primary")
    browser.wait("document.querySelector('.messages')?.innerText.includes('hello')")
    go(browser, "retained")
    browser.click_on("tbody a", "plant/by-hand")
    browser.click("main button.danger")
    browser.click(CONFIRM)
    browser.wait_for("No retained message fits.")
    # A listener closes, opens, and gets another limit until the file is read again.
    go(browser, "listeners/lan")
    browser.click_on("main button", "Close")
    browser.click(CONFIRM)
    browser.wait_for("closed")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.mqtt.port), PATIENCE)
    browser.click_on("main button", "Open")
    browser.wait("document.querySelector('dl .tag.good')")
    browser.type("input[name=maximum_connections]", "500")
    browser.press("Enter", 13, "\r")
    browser.wait_for("They hold until the next reload.")
    assert served.ask("GET", "listeners/lan")["limits"]["maximum_connections"] == 500
    # The configuration is read again, with one rule more.
    town.rules.write_text(RULES + '[[rule]]\nname = "new"\nallow = "all"\ntopics = ["new/#"]\n')
    go(browser, "config")
    browser.click_on("main button", "Reload the file")
    browser.click(CONFIRM)
    browser.wait_for("Changed:")
    assert served.ask("GET", "listeners/lan")["limits"]["maximum_connections"] == 0
    go(browser, "access")
    browser.wait("document.querySelector('#rules')?.innerText.includes(\"'new'\")")
    assert "line 6" in browser.run("document.querySelector('#rules').innerText")
    # All of which was written down.
    go(browser, "audit")
    browser.wait_for("/api/v1/reload")
    done = browser.run("document.querySelector('main table').innerText")
    for each in ("clients/pump-7", "bans/client_id/pump-7", "publish", "listeners/lan/stop"):
        assert f"/api/v1/{each}" in done


def test_ten_thousand_are_looked_through_page_by_page(browser: Chromium, served: Served) -> None:
    before = served.ask("GET", "process")["processor_seconds"]
    go(browser, "sessions")
    browser.wait_for("1 to 50 of 10,000")
    browser.click_on("main button", "Next")
    browser.wait_for("51 to 100 of 10,000")
    browser.type("input[name=prefix]", "sensor-0999")
    browser.wait_for("1 to 10 of 10")
    go(browser, "subscriptions")
    browser.wait(
        "[...document.querySelectorAll('.pager')].every((each) => each.innerText.includes('10,00'))"
    )
    browser.type("input[name=text]", "sensors/sensor-04321/set")
    browser.wait("document.querySelectorAll('tbody tr').length == 2")
    go(browser, "topics")
    browser.click_on("summary", "sensors")
    browser.wait_for("9,900 more")
    # A dozen looks at them all.
    assert served.ask("GET", "process")["processor_seconds"] - before < 3.0


def test_the_main_tasks_by_keyboard_alone(
    browser: Chromium, served: Served, connect: Callable[[str], Client]
) -> None:
    client = connect("by-keyboard")
    browser.run("sessionStorage.clear()")
    browser.open("about:blank")
    browser.open(served.url)
    browser.wait("document.activeElement.name == 'token'")
    browser.call("Input.insertText", text=served.token)
    browser.press("Enter", 13, "\r")
    browser.wait("document.querySelector('nav a')")
    press_tab_until(browser, "To the content")
    browser.press("Enter", 13, "\r")
    browser.wait("document.activeElement.id == 'main'")
    assert browser.run("location.hash") == ""
    press_tab_until(browser, "Clients", back=True)
    browser.press("Enter", 13, "\r")
    browser.wait("document.querySelector('input[name=prefix]')")
    browser.press("/", 191, "/")
    browser.call("Input.insertText", text="by-key")
    browser.wait("document.querySelectorAll('tbody tr').length == 1")
    press_tab_until(browser, "by-keyboard")
    browser.press("Enter", 13, "\r")
    browser.wait_for("Keep alive")
    press_tab_until(browser, "Kick")
    browser.press("Enter", 13, "\r")
    browser.wait("document.querySelector('dialog[open]').contains(document.activeElement)")
    press_tab_until(browser, "Kick")
    browser.press("Enter", 13, "\r")
    browser.wait_for("No client fits.")
    assert client.disconnected.get(timeout=PATIENCE) is not None  # type: ignore[attr-defined]


def press_tab_until(browser: Chromium, text: str, back: bool = False) -> None:
    """Go to the control that says *text*; on the way, the focus can always be seen."""
    for _ in range(60):
        browser.press("Tab", 9, modifiers=8 if back else 0)
        if not browser.run("document.activeElement == document.body"):
            assert browser.run(SEEN), browser.run("document.activeElement.outerHTML")
        if browser.run("document.activeElement.innerText ?? ''").strip() == text:
            return
    raise AssertionError(f"no way to {text!r}")


def test_every_page_can_be_read_and_named(
    browser: Chromium, served: Served, connect: Callable[[str], Client]
) -> None:
    client = connect("read-me")
    client.subscribe("plant/#")
    client.publish("plant/kept", "x", 1, retain=True)
    served.ask("POST", "bans", {"kind": "user", "value": "mallory"})
    log_in(browser, served, served.token)
    more = ("clients/read-me", "sessions/read-me", "retained/plant%2Fkept", "listeners/lan")
    wrong = {}
    for page in (*pages(browser), *more, "users/alice"):
        go(browser, page)
        first = json.dumps(page.split("/")[0])
        browser.wait(
            f"document.querySelector('nav a[aria-current]')?.dataset.page == {first}"
            " && document.querySelector('main h1') && !document.querySelector('[aria-busy]')"
        )
        found = [] if not browser.run("document.querySelector('main .bad')") else ["an error"]
        for theme, width in (("light", 1280), ("dark", 420)):
            browser.run(f"document.documentElement.dataset.theme = '{theme}'")
            browser.resize(width, 900)
            found += [f"{theme}: {each}" for each in browser.run(READABLE)]
        found += nameless(browser)
        if found:
            wrong[page] = found
    browser.resize(1400, 900)
    served.ask("DELETE", "bans/user/mallory")
    assert wrong == {}


def nameless(browser: Chromium) -> list[str]:
    """Controls for which a screen reader has no word."""
    nodes: list[Any] = browser.call("Accessibility.getFullAXTree")["nodes"]
    return [
        f"a {node['role']['value']} without a name"
        for node in nodes
        if not node["ignored"]
        and node["role"]["value"] in CONTROLS
        and not node.get("name", {}).get("value", "").strip()
    ]
