"""Bridges by the API: what is shown of them, start and stop, figures and the alarm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mqttd.admin.http import Role
from mqttd.settings_bridge import BridgeSettings, BridgeTopic, Direction
from tests.admin.http.harness import Web

SECRET = "correct-horse-battery"

TOPICS = (
    BridgeTopic("out/#", Direction.OUT, remote_prefix="far/"),
    BridgeTopic("in/#", Direction.IN, 2),
)


@pytest.fixture
def bridged(make_web: Callable[..., Web], tmp_path: Path) -> Web:
    password = tmp_path / "password"
    password.write_text(SECRET + "\n")
    settings = BridgeSettings(
        "up",
        ("mqtt://user.example:1",),
        client_id="up",
        user_name="ann",
        password_file=str(password),
        topics=TOPICS,
        retry_first=1.0,
        alarm_after=60.0,
    )
    web = make_web(bridges=(settings,))
    web.advance(1)
    return web


def test_a_bridge_is_shown(bridged: Web) -> None:
    bridged.broker.publish("out/a", b"x", 1)
    bridged.advance(1)
    (shown,) = bridged.get("/bridges")["items"]
    assert shown == bridged.get("/bridges/up")
    assert (shown["state"], shown["sent"], shown["queued"]) == ("connected", 1, 0)
    assert (shown["address"], shown["client_id"]) == ("mqtt://user.example:1", "up")
    assert (shown["away_for"], shown["last_error"]) == (None, "")
    first, second = shown["topics"]
    assert (first["filter"], first["remote_prefix"], first["qos"]) == ("out/#", "far/", 1)
    assert (second["direction"], second["qos"]) == ("in", 2)


def test_nothing_shows_its_password(bridged: Web) -> None:
    for path in ("/bridges", "/bridges/up", "/config", "/bridges/other"):
        assert SECRET not in bridged.ask("GET", path).body.decode()
    bridged.link.down = True
    bridged.link.cut()
    bridged.advance(200)
    assert SECRET not in bridged.ask("GET", "/bridges").body.decode()
    assert SECRET not in json.dumps(bridged.get("/alarms"))


def test_it_is_stopped_and_started(bridged: Web) -> None:
    assert bridged.ask("POST", "/bridges/up/start").status == 409
    assert bridged.ask("POST", "/bridges/up/stop").status == 204
    again = bridged.ask("POST", "/bridges/up/stop")
    assert (again.status, again.json["detail"]) == (409, "up is stopped.")
    assert bridged.get("/bridges/up")["state"] == "stopped"
    bridged.advance(1)
    assert "up" not in bridged.far.broker.connections
    assert bridged.ask("POST", "/bridges/up/start").status == 204
    bridged.advance(1)
    assert bridged.get("/bridges/up")["state"] == "connected"
    shown = bridged.get("/audit")["items"]
    assert {(each["path"], each["status"]) for each in shown} >= {
        ("/api/v1/bridges/up/stop", 204),
        ("/api/v1/bridges/up/start", 409),
    }


def test_one_that_cannot_start_says_why(bridged: Web, tmp_path: Path) -> None:
    bridged.ask("POST", "/bridges/up/stop")
    bridged.advance(1)
    (tmp_path / "password").unlink()
    answer = bridged.ask("POST", "/bridges/up/start")
    assert answer.status == 409
    assert "password" in answer.json["detail"]
    assert bridged.get("/bridges/up")["state"] == "stopped"


@pytest.mark.parametrize("name", ["other", "UP", "up%00", "%F0%9F%8C%89", "a%2Fb", ".."])
def test_one_that_is_not_there(bridged: Web, name: str) -> None:
    for method, path in (("GET", ""), ("POST", "/stop"), ("POST", "/start")):
        answer = bridged.ask(method, f"/bridges/{name}{path}")
        assert answer.status == 404
        assert "user.example" not in answer.body.decode()
    assert bridged.get("/bridges/up")["state"] == "connected"


def test_who_only_looks_may_not_stop_it(bridged: Web) -> None:
    bridged.role = Role.VIEWER
    assert bridged.get("/bridges/up")["name"] == "up"
    assert bridged.ask("POST", "/bridges/up/stop").status == 403
    assert bridged.get("/bridges/up")["state"] == "connected"


def alarms(web: Web) -> list[tuple[str, str]]:
    return [(each["id"], each["summary"]) for each in web.get("/alarms")["items"]]


def test_an_alarm_says_that_it_is_away_and_is_over_when_it_is_back(bridged: Web) -> None:
    bridged.link.down = True
    bridged.link.cut()
    bridged.advance(50)
    assert alarms(bridged) == []
    bridged.advance(20)
    ((name, summary),) = alarms(bridged)
    assert name == "bridge:up"
    assert "'up' has no connection to mqtt://user.example:1" in summary
    assert "refused" in summary
    bridged.link.down = False
    bridged.advance(70)
    assert alarms(bridged) == []


@pytest.mark.parametrize("how", ["stopped", "removed"])
def test_nobody_misses_one_that_shall_not_be_there(bridged: Web, how: str) -> None:
    bridged.link.down = True
    bridged.link.cut()
    bridged.advance(80)
    assert len(alarms(bridged)) == 1
    if how == "stopped":
        bridged.bridges.stop_one("up")
    else:
        bridged.bridges.change(())
    bridged.advance(10)
    assert alarms(bridged) == []


def metrics(web: Web) -> dict[str, str]:
    web.base = ""
    text = web.ask("GET", "/metrics").body.decode()
    web.base = "/api/v1"
    lines = (line.rpartition(" ") for line in text.splitlines())
    return {name: value for name, _, value in lines if name.startswith("mqttd_bridge")}


def test_its_figures_are_for_prometheus(bridged: Web) -> None:
    bridged.broker.publish("out/a", b"x", 1)
    bridged.far.broker.publish("in/a", b"x", 1)
    bridged.advance(1)
    assert metrics(bridged) == {
        'mqttd_bridge_connected{bridge="up"}': "1.0",
        'mqttd_bridge_connection_attempts_total{bridge="up"}': "1.0",
        'mqttd_bridge_messages_sent_total{bridge="up"}': "1.0",
        'mqttd_bridge_messages_received_total{bridge="up"}': "1.0",
        'mqttd_bridge_queued_messages{bridge="up"}': "0.0",
        'mqttd_bridge_queued_bytes{bridge="up"}': "0.0",
    }
    bridged.link.down = True
    bridged.link.cut()
    bridged.advance()
    bridged.broker.publish("out/a", b"x", 0)
    bridged.broker.publish("out/a", b"x", 1)
    bridged.advance(1)
    now = metrics(bridged)
    assert now['mqttd_bridge_connected{bridge="up"}'] == "0.0"
    assert now['mqttd_bridge_queued_messages{bridge="up"}'] == "1.0"


def test_without_bridges_nothing_is_said_of_them(web: Web) -> None:
    assert web.get("/bridges") == {"items": []}
    assert metrics(web) == {}


def test_its_figures_are_on_sys(bridged: Web) -> None:
    def said(name: str) -> Any:
        message = bridged.broker.retained.get(f"$SYS/brokers/node-1/bridges/up/{name}")
        return None if message is None else message.payload

    bridged.broker.publish("out/a", b"x", 1)
    bridged.advance(1)
    bridged.admin.sys_topics.publish()
    assert [said("state"), said("messages/sent"), said("messages/queued")] == [
        b"connected",
        b"1",
        b"0",
    ]
    state = bridged.broker.retained.get("$SYS/broker/connection/up/state")
    assert state is not None
    assert state.payload == b"1"
    # One that was taken out leaves nothing there that is not true any more.
    bridged.bridges.change(())
    bridged.advance(1)
    bridged.admin.sys_topics.publish()
    assert said("state") is None
