"""The dashboard in a real browser, as an operator goes through it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.end_to_end.chromium import Chromium
from tests.end_to_end.clients import Client
from tests.end_to_end.daemon import PATIENCE
from tests.end_to_end.dashboard import CONFIRM, Served, go, hosts, log_in, serve

#: What somebody might call himself who wants to be more than text.
HOSTILE = '<img src=x onerror="document.title=1">'
UNSEEN = "a/b %41 \u202egnp"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("dashboard")) as served:
        yield served.with_tokens()


@pytest.fixture
def browser(chromium: Chromium, served: Served) -> Iterator[Chromium]:
    """Logged in as an administrator; nothing may go wrong in its pages."""
    known = None
    if chromium.run("location.protocol") == "http:":
        known = chromium.run("sessionStorage.getItem('mqttd.authorization')")
    if known != f"Bearer {served.token}":
        log_in(chromium, served, served.token)
    # Each begins elsewhere, so that the page it goes to is a new one.
    go(chromium, "nowhere")
    chromium.errors.clear()
    yield chromium
    assert chromium.errors == []
    assert hosts(chromium) == {f"127.0.0.1:{served.port}"}


def test_a_wrong_token_is_told_so(chromium: Chromium, served: Served) -> None:
    chromium.open(served.url)
    chromium.type("input[name=token]", "mqttd_wrong")
    chromium.press("Enter", 13, "\r")
    chromium.wait_for("Token or password is not right.")
    assert chromium.run("sessionStorage.length") == 0


def test_the_overview_is_live(browser: Chromium, connect: Callable[[str], Client]) -> None:
    go(browser, "overview")
    browser.wait("document.querySelector('h1 .tag').innerText == 'live'")
    client = connect("overview-1")
    browser.wait_for("overview-1")
    browser.wait("document.querySelector('.chart path').getAttribute('d').includes('L')")
    client.disconnect()
    browser.wait_for("went")


def test_a_client_is_found_and_kicked(
    browser: Chromium, served: Served, connect: Callable[[str], Client]
) -> None:
    for number in range(3):
        connect(f"kick-{number}")
    go(browser, "clients")
    browser.wait_for("kick-2")
    browser.press("/", 191, "/")
    browser.call("Input.insertText", text="kick-1")
    browser.wait("document.querySelectorAll('tbody tr').length == 1")
    browser.click("tbody button")
    browser.wait_for("End the connection of kick-1?")
    browser.press("Escape", 27)
    browser.wait("!document.querySelector('dialog')")
    assert served.ask("GET", "clients/kick-1")["client_id"] == "kick-1"
    browser.click("tbody button")
    browser.click(CONFIRM)
    browser.wait_for("No client fits.")
    assert served.ask("GET", "clients/kick-1")["status"] == 404


def test_limits_of_a_client_are_set(
    browser: Chromium, served: Served, connect: Callable[[str], Client]
) -> None:
    connect("limited")
    go(browser, "clients/limited")
    browser.type("input[name=inbound_messages]", "10/s burst 20")
    browser.press("Enter", 13, "\r")
    browser.wait_for("The limits hold")
    assert served.ask("GET", "clients/limited/limits")["inbound_messages"] == "10/s burst 20"
    browser.type("input[name=inbound_messages]", "many")
    browser.press("Enter", 13, "\r")
    browser.wait_for("The limits stay as they were.")
    assert served.ask("GET", "clients/limited/limits")["inbound_messages"] == "10/s burst 20"
    # Chromium notes every answer that is an error.
    assert ["422" in error for error in browser.errors] == [True]
    browser.errors.clear()


@pytest.mark.parametrize("name", [HOSTILE, UNSEEN])
def test_names_are_text_and_nothing_else(
    browser: Chromium, served: Served, connect: Callable[[str], Client], name: str
) -> None:
    client = connect(name)
    client.subscribe(f"{name}/#", 1)
    client.publish(f"{name}/x", name, 1, retain=True)
    shown = name.replace("\u202e", "\\u202e")
    for page in ("clients", "sessions", "subscriptions", "retained"):
        go(browser, page)
        browser.wait_for(shown)
    # One's own page is found by a link, whatever the name is made of.
    go(browser, "clients")
    browser.wait_for(shown)
    browser.click_on("tbody a", shown)
    browser.wait("document.querySelector('dl.facts')")
    browser.wait_for(f"{shown}/#")
    go(browser, "messages")
    browser.type("#listen input", f"{name}/#")
    browser.click("#listen button")
    browser.wait("document.querySelector('.messages pre')")
    assert browser.run("document.querySelector('.messages pre').innerText") == name
    assert browser.run("document.images.length") == 0
    assert browser.run("document.title") != "1"
    served.ask("DELETE", "retained?topic_filter=%23")


def test_the_policy_lets_no_text_become_html(browser: Chromium) -> None:
    said = browser.run(
        "(() => { try { document.body.innerHTML = '<b>x</b>'; return 'done' }"
        " catch (error) { return error.name } })()"
    )
    assert said == "TypeError"
    browser.errors.clear()


def test_a_message_goes_out_and_comes_in(browser: Chromium, served: Served) -> None:
    go(browser, "messages")
    browser.type("#listen input", "hand/#")
    browser.press("Enter", 13, "\r")
    browser.wait("document.querySelector('#listen h2 .tag').innerText == 'live'")
    browser.type("#publish input[name=topic]", "hand/1")
    browser.type("#publish textarea", '{"on": true}')
    browser.click("#publish input[name=retain]")
    browser.click("#publish button.primary")
    browser.wait_for('"on": true\n}')
    go(browser, "retained/hand%2F1")
    browser.wait_for('"on": true')
    browser.click("main button.danger")
    browser.click(CONFIRM)
    browser.wait_for("No retained message fits.")
    assert served.ask("GET", "retained")["total"] == 0


def test_a_browser_that_leaves_ends_its_stream(browser: Chromium, served: Served) -> None:
    before = served.ask("GET", "subscriptions")["total"]
    go(browser, "messages")
    browser.type("#listen input", "leaving/#")
    browser.press("Enter", 13, "\r")
    browser.wait("document.querySelector('#listen h2 .tag').innerText == 'live'")
    assert served.ask("GET", "subscriptions")["total"] == before + 1
    go(browser, "plugins")
    deadline = time.monotonic() + PATIENCE
    while served.ask("GET", "subscriptions")["total"] != before:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_listener_is_closed_and_opened(browser: Chromium, served: Served) -> None:
    go(browser, "listeners/lan")
    browser.wait_for("Maximum connections")
    browser.click_on("main button", "Close")
    browser.click(CONFIRM)
    browser.wait_for("closed")
    assert not served.ask("GET", "listeners/lan")["open"]
    browser.click_on("main button", "Open")
    browser.wait("document.querySelector('dl .tag.good')")
    assert served.ask("GET", "listeners/lan")["open"]


def test_why_and_bans(browser: Chromium, served: Served) -> None:
    go(browser, "access")
    browser.type("#why input[name=client_id]", "somebody")
    browser.type("#why input[name=topic]", "$SYS/x")
    browser.press("Enter", 13, "\r")
    browser.wait_for("denied")
    browser.type("#bans input[name=value]", "mallory")
    browser.type("#bans input[name=reason]", "<b>rude</b>")
    browser.press("Enter", 13, "\r")
    browser.click(CONFIRM)
    browser.wait_for("<b>rude</b>")
    assert [ban["value"] for ban in served.ask("GET", "bans")["items"]] == ["mallory"]
    browser.click("#bans tbody button")
    browser.click(CONFIRM)
    browser.wait_for("Nobody is banned.")


def test_users_are_made_and_deleted(browser: Chromium, served: Served) -> None:
    go(browser, "users")
    browser.wait_for("alice")
    browser.type("input[name=user]", "bob")
    browser.type("input[name=password]", "battery staple")
    browser.press("Enter", 13, "\r")
    browser.wait("document.querySelectorAll('tbody tr').length == 2")
    assert [user["user"] for user in served.ask("GET", "users")["items"]] == ["alice", "bob"]
    browser.click_on("tbody a", "bob")
    browser.type("#groups textarea", "night\nday shift")
    browser.click("#groups button")
    browser.wait_for("must log in again")
    assert served.ask("GET", "users/bob")["groups"] == ["night", "day shift"]
    browser.click("main button.danger")
    browser.click(CONFIRM)
    browser.wait("document.querySelectorAll('tbody tr').length == 1")


def test_a_plugin_is_loaded_changed_and_unloaded(browser: Chromium, served: Served) -> None:
    go(browser, "plugins")
    browser.wait("document.querySelector('#load select')")
    browser.choose("#load select", "rewrite")
    browser.wait_for("by rules")
    rules = [{"filter": "old/#", "topic": "new/$1"}]
    browser.type("#load textarea", json.dumps({"rules": rules}))
    browser.click("#load button.primary")
    browser.click_on("tbody a", "rewrite")
    browser.wait("document.querySelector('main textarea')")
    shown = json.loads(browser.run("document.querySelector('main textarea').value"))
    assert [(rule["filter"], rule["topic"]) for rule in shown["rules"]] == [("old/#", "new/$1")]
    browser.type("main textarea", "{")
    browser.click("main button.primary")
    browser.wait_for("The settings are not JSON")
    browser.type("main textarea", json.dumps({"priority": 7, "rules": rules}))
    browser.click("main button.primary")
    browser.wait_for("It runs with these settings.")
    assert served.ask("GET", "plugins/rewrite")["priority"] == 7
    browser.click("main button.danger")
    browser.click(CONFIRM)
    browser.wait_for("None runs.")
    assert served.ask("GET", "plugins")["items"] == []


def test_the_tree_of_topics_opens(
    browser: Chromium, served: Served, connect: Callable[[str], Client]
) -> None:
    connect("tree").subscribe("plant/+/state")
    served.ask("POST", "publish", {"topic": "plant/1/state", "payload": "x", "retain": True})
    go(browser, "topics")
    browser.click_on("summary", "plant")
    browser.click_on("ul ul summary", "1")
    browser.click(".tree .leaf a")
    browser.wait_for("Payload")
    served.ask("DELETE", "retained/plant%2F1%2Fstate")


def test_packets_are_seen_as_they_come(
    browser: Chromium, served: Served, connect: Callable[[str], Client]
) -> None:
    client = connect("traced")
    go(browser, "clients/traced")
    browser.click("#packets button.primary")
    browser.wait("document.querySelector('#packets .tag').innerText == 'live'")
    client.publish("<i>traced</i>", "x", 1)
    browser.wait_for("PUBACK")
    browser.click("#flight button")
    browser.wait("document.querySelector('#flight').innerText.includes('CONNACK')")
    assert "<i>traced</i>" in browser.run("document.querySelector('.packets').innerText")


def test_a_trace_goes_to_a_file(
    browser: Chromium, served: Served, connect: Callable[[str], Client]
) -> None:
    go(browser, "traces")
    browser.type("input[name=trace-name]", "night")
    browser.type("input[name=trace-client]", "sleeper")
    browser.press("Enter", 13, "\r")
    browser.wait_for("runs")
    connect("sleeper").publish("a/b", "x", 1)
    browser.click_on("tbody a", "night")
    browser.wait_for("CONNECT")
    go(browser, "traces")
    browser.click_on("tbody button", "Delete")
    browser.click(CONFIRM)
    browser.wait_for("There is none.")
    assert served.ask("GET", "traces")["items"] == []


def test_what_a_client_did_before_it_failed(browser: Chromium, served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.mqtt.port), timeout=PATIENCE) as peer:
        # CONNECT, and when that is answered PUBLISH with an alias that stands for nothing.
        peer.sendall(b"\x10\x12\0\4MQTT\5\2\0\0\0\0\5wrong")
        peer.recv(100)
        peer.sendall(b"\x30\6\0\0\3\x23\0\x09")
        while peer.recv(100):
            pass
    go(browser, "traces")
    browser.click_on("tbody a", "wrong")
    browser.wait_for("Its last packets")
    lists = browser.run("[...document.querySelectorAll('.packets')].map((each) => each.innerText)")
    assert ["PUBLISH" in lists[0], "CONNACK" in lists[1]] == [True, True]


def test_a_setting_is_changed(browser: Chromium, served: Served) -> None:
    go(browser, "config")
    browser.wait("document.querySelector('select[name=key]')")
    browser.choose("select[name=table]", "session")
    browser.choose("select[name=key]", "maximum_inflight")
    browser.type("input[name=value]", "77")
    browser.press("Enter", 13, "\r")
    browser.wait_for("Changed:")
    assert served.ask("GET", "config")["session"]["maximum_inflight"] == 77


def test_a_viewer_only_looks(
    browser: Chromium, served: Served, connect: Callable[[str], Client]
) -> None:
    connect("looked-at")
    log_in(browser, served, served.viewer)
    browser.errors.clear()
    pages = browser.run("[...document.querySelectorAll('nav a')].map((a) => a.dataset.page)")
    assert not {"messages", "config", "tokens"} & set(pages)
    go(browser, "clients/looked-at")
    browser.wait_for("Keep alive")
    assert not browser.run(
        "[...document.querySelectorAll('main button')].some((b) => b.innerText != 'Refresh')"
    )
    go(browser, "config")
    browser.wait_for("This page needs the role administrator.")


def test_light_and_dark(browser: Chromium) -> None:
    go(browser, "overview")
    browser.wait("document.querySelector('dl.figures')")
    ground = "getComputedStyle(document.body).backgroundColor"
    colours = []
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.call("Emulation.setEmulatedMedia", features=features)
        colours.append(browser.run(ground))
    assert colours[0] != colours[1]
    browser.run("document.documentElement.dataset.theme = 'light'")
    assert browser.run(ground) == colours[0]
    browser.call("Emulation.setEmulatedMedia", features=[])
