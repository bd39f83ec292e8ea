"""Sessions, subscriptions, retained messages, publishing, listening, settings."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from attrs import evolve, frozen

from mqttd.admin.alarms import Severity
from mqttd.config.change import read_plugin
from mqttd.plugins import Plugins
from mqttd.service import Reloaded
from mqttd.settings import ListenerSettings, PluginSettings
from mqttd.wire.packets import Disconnect, Publish
from tests.admin.http.harness import Stream, Web

# --- sessions ---------------------------------------------------------------------


def test_sessions_are_listed_whether_their_clients_are_here_or_not(web: Web) -> None:
    web.connect("here")
    away = web.connect("away", session_expiry_interval=3600)
    away.subscribe("t", qos=1)
    away.close()
    web.virtual.publish("t", b"x", qos=1)
    sessions = {each["client_id"]: each for each in web.get("/sessions")["items"]}
    assert (sessions["here"]["online"], sessions["away"]["online"]) == (True, False)
    assert (sessions["away"]["queued"], sessions["away"]["expiry"]) == (1, 3600)
    assert [s["client_id"] for s in web.get("/sessions?online=false")["items"]] == ["away"]
    assert web.get("/sessions/away")["subscriptions"] == 1
    assert web.ask("GET", "/sessions/other").status == 404


def test_a_session_can_be_ended_with_its_client(web: Web) -> None:
    client = web.connect("a", session_expiry_interval=3600)
    assert web.ask("DELETE", "/sessions/a").status == 204
    assert client.expect(Disconnect).reason == 0x98
    assert "a" not in web.broker.sessions
    assert web.ask("DELETE", "/sessions/a").status == 404


def test_a_client_can_be_subscribed_and_unsubscribed(web: Web) -> None:
    client = web.connect("a")
    web.virtual.publish("t/old", b"old", retain=True)
    made = web.ask("POST", "/sessions/a/subscriptions", {"topic_filter": "t/#", "qos": 1})
    assert (made.status, made.json["qos"]) == (201, 1)
    assert client.expect(Publish).payload == b"old"
    web.virtual.publish("t/new", b"new")
    assert client.expect(Publish).payload == b"new"
    (shown,) = web.get("/sessions/a/subscriptions")["items"]
    assert shown["topic_filter"] == "t/#"
    path = "/sessions/a/subscriptions?topic_filter=t/%23"
    assert web.ask("DELETE", path).status == 204
    assert web.ask("DELETE", path).status == 404
    web.virtual.publish("t/new", b"new")
    client.expect_nothing()


def test_what_a_thinned_subscription_suppresses_is_shown(web: Web) -> None:
    web.connect("a").subscribe("t", user_property=[("sample", "10")])
    for _ in range(5):
        web.virtual.publish("t")
    (shown,) = web.get("/sessions/a/subscriptions")["items"]
    assert (shown["thinned"], shown["suppressed"]) == ({"sample": "10"}, 4)


@pytest.mark.parametrize(
    ("topic_filter", "status"), [("a#", 422), ("$share/g", 422), ("a/" * 150, 409), ("\0", 422)]
)
def test_a_filter_must_be_one(web: Web, topic_filter: str, status: int) -> None:
    web.connect("a")
    body = {"topic_filter": topic_filter}
    assert web.ask("POST", "/sessions/a/subscriptions", body).status == status


def test_who_is_away_cannot_be_subscribed(web: Web) -> None:
    web.connect("a", session_expiry_interval=60).close()
    answer = web.ask("POST", "/sessions/a/subscriptions", {"topic_filter": "t"})
    assert answer.status == 409


# --- routing ------------------------------------------------------------------------


@pytest.fixture
def crowd(web: Web) -> Web:
    for name, filters in {
        "a": ["x/1", "x/#"],
        "b": ["x/+", "y"],
        "c": ["$share/g/x/1"],
    }.items():
        client = web.connect(name)
        for each in filters:
            client.subscribe(each)
    return web


def test_subscriptions_come_in_pages(crowd: Web) -> None:
    def names(query: str) -> list[tuple[str, str]]:
        page = crowd.get(f"/subscriptions?{query}")
        return [(each["client_id"], each["topic_filter"]) for each in page["items"]]

    every = [("a", "x/#"), ("a", "x/1"), ("b", "x/+"), ("b", "y"), ("c", "$share/g/x/1")]
    assert names("") == every
    first = crowd.get("/subscriptions?limit=2")
    assert first["total"] == 5
    after = first["next"].replace("\0", "%00").replace("/", "%2F").replace("#", "%23")
    assert names(f"limit=10&after={after}") == every[2:]
    assert names("topic=x/1") == [every[0], every[1], every[2], every[4]]
    assert names("topic_filter=x/1") == [every[1], every[4]]


def test_routes_are_the_distinct_filters(crowd: Web) -> None:
    routes = {each["topic_filter"]: each for each in crowd.get("/routes")["items"]}
    assert list(routes) == ["x/#", "x/+", "x/1", "y"]
    assert routes["x/1"]["subscribers"] == 1
    assert routes["x/1"]["groups"] == [{"name": "g", "members": 1}]
    assert [each["topic_filter"] for each in crowd.get("/routes?topic=y")["items"]] == ["y"]
    assert crowd.get("/routes?prefix=x")["total"] == 3


def test_topics_are_a_tree(crowd: Web) -> None:
    crowd.virtual.publish("x/1/deep", b"x", retain=True)
    crowd.virtual.publish("/", b"x", retain=True)

    def levels(query: str) -> dict[str, Any]:
        return {each.pop("level"): each for each in crowd.get(f"/topics{query}")["items"]}

    first = levels("")
    assert {"", "x", "y"} <= set(first)
    assert (first["x"]["messages"], first["x"]["filters"], first["x"]["more"]) == (1, 3, True)
    assert (first["y"]["subscribed"], first["y"]["more"]) == (True, False)
    assert list(levels("?below=/")) == [""]
    below = levels("?below=x/")
    assert list(below) == ["#", "+", "1"]
    assert below["1"] == {
        "topic": "x/1",
        "retained": False,
        "subscribed": True,
        "messages": 1,
        "filters": 1,
        "more": True,
    }
    assert levels("?below=x/1/")["deep"]["retained"]
    assert levels("?below=x/%2B/") == {}
    assert crowd.get("/topics?below=x/&limit=1&after=%23")["next"] == "+"
    assert crowd.ask("GET", "/topics?below=x").status == 400


# --- retained messages ----------------------------------------------------------------


def test_retained_messages_can_be_seen_and_deleted(web: Web) -> None:
    for topic, payload in {"a/1": b"one", "a/2": b"\xff", "b": b""}.items():
        web.virtual.publish(topic, payload or b"x", retain=True)
    listed = web.get("/retained?topic_filter=a/%23")
    assert [each["topic"] for each in listed["items"]] == ["a/1", "a/2"]
    assert web.get("/retained/a%2F1")["payload"] == "one"
    other = web.get("/retained/a%2F2")
    assert (other["payload"], other["payload_base64"]) == (None, "/w==")
    assert web.ask("DELETE", "/retained/a%2F1").status == 204
    assert web.ask("DELETE", "/retained/a%2F1").status == 404
    assert web.ask("DELETE", "/retained").status == 400
    assert web.ask("DELETE", "/retained?topic_filter=a/%23").json == {"deleted": 1}
    assert web.broker.retained.get("b") is not None
    assert web.ask("GET", "/retained?topic_filter=a%23b").status == 400


# --- publishing ---------------------------------------------------------------------


def test_a_message_is_published(web: Web) -> None:
    client = web.connect("a")
    client.subscribe("t/#", qos=1)
    body = {
        "topic": "t/1",
        "payload": "grüße",
        "qos": 1,
        "properties": {"content_type": "text/plain", "user_property": [["a", "b"]]},
    }
    assert web.ask("POST", "/publish", body).json == {"matched": True}
    message = client.expect(Publish)
    assert (message.payload, message.qos) == ("grüße".encode(), 1)
    assert message.properties["content_type"] == "text/plain"
    assert message.properties["user_property"] == [("a", "b")]
    assert web.ask("POST", "/publish", {"topic": "nobody"}).json == {"matched": False}


def test_bytes_go_in_base64(web: Web) -> None:
    client = web.connect("a")
    client.subscribe("t")
    body = {"topic": "t", "payload_base64": b64encode(b"\x00\xff").decode(), "retain": True}
    assert web.ask("POST", "/publish", body).status == 200
    assert client.expect(Publish).payload == b"\x00\xff"
    assert web.broker.retained.get("t") is not None


@pytest.mark.parametrize(
    "more",
    [
        {"topic": "a/+"},
        {"topic": "a\0"},
        {"topic": "\ud800"},
        {"topic": "$SYS/x"},
        {"payload": "a", "payload_base64": "YQ=="},
        {"payload_base64": "!"},
        {"payload": "\ud800"},
        {"qos": 3},
        {"retain": 1},
        {"properties": {"response_topic": "#"}},
        {"properties": {"content_type": "\0"}},
        {"properties": {"user_property": [["a"]]}},
        {"properties": {"topic_alias": 1}},
    ],
)
def test_what_mqtt_cannot_carry_is_not_published(web: Web, more: dict[str, Any]) -> None:
    client = web.connect("a")
    client.subscribe("#")
    assert web.ask("POST", "/publish", {"topic": "t", **more}).status == 422
    client.expect_nothing()


def test_many_are_published_in_order_or_none(web: Web) -> None:
    client = web.connect("a")
    client.subscribe("t")
    messages = [{"topic": "t", "payload": str(number)} for number in range(5)]
    answer = web.ask("POST", "/publish/bulk", {"messages": messages})
    assert answer.json == {"matched": [True] * 5}
    assert [client.expect(Publish).payload for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
    wrong = web.ask("POST", "/publish/bulk", {"messages": [*messages, {"topic": "#"}]})
    assert (wrong.status, "messages[5]" in wrong.json["detail"]) == (422, True)
    client.expect_nothing()


# --- streams ----------------------------------------------------------------------------


class Listener:
    """Somebody who listens to a stream."""

    def __init__(self, web: Web, path: str) -> None:
        stream = web.open()
        assert stream is not None
        self.stream: Stream = stream
        self.seen = 0
        stream.send(f"GET /api/v1{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def events(self) -> list[tuple[str, Any]]:
        """Name and data of those that are new."""
        text = self.stream.received.decode()
        blocks = [block for block in text.split("\n\n") if "event: " in block]
        new, self.seen = blocks[self.seen :], len(blocks)
        found = []
        for block in new:
            _, _, name = block.partition("event: ")
            name, _, data = name.partition("\ndata: ")
            found.append((name, json.loads(data.split("\r\n")[0])))
        return found


def test_who_comes_and_goes_is_told(web: Web) -> None:
    listener = Listener(web, "/events")
    assert "text/event-stream" in listener.stream.received.decode()
    web.connect("a\nevent: x").close()
    (name, data), (other, more) = listener.events()
    assert (name, data["client_id"]) == ("connected", "a\nevent: x")
    assert (other, more["reason"]) == ("disconnected", "closed-by-client")
    listener.stream.close()
    web.connect("b")
    assert listener.events() == []


def test_alarms_are_told_as_they_come_and_go(web: Web) -> None:
    listener = Listener(web, "/events")
    web.admin.alarms.activate("disk", Severity.ERROR, "title", "summary")
    web.admin.alarms.clear("disk")
    (first, alarm), (second, over) = listener.events()
    assert (first, alarm["id"], alarm["cleared_at"]) == ("alarm", "disk", None)
    assert (second, over["cleared_at"] is None) == ("all-clear", False)
    listener.stream.close()
    assert web.admin.alarms.observers == []


def test_figures_come_as_often_as_wanted(web: Web) -> None:
    listener = Listener(web, "/events?stats_every=2")
    web.advance(4)
    names = [name for name, _ in listener.events()]
    assert names == ["stats"] * 3
    listener.stream.close()


def test_a_quiet_stream_is_kept_open(web: Web) -> None:
    listener = Listener(web, "/events")
    web.advance(100)
    assert listener.stream.received.count(b"still here") >= 6
    assert not listener.stream.is_closed
    listener.stream.close()


def test_messages_can_be_listened_to(web: Web) -> None:
    web.virtual.publish("t/0", b"old", retain=True)
    listener = Listener(web, "/messages?topic_filter=t/%23&qos=1")
    web.virtual.publish("t/1", "grüße".encode(), qos=1)
    web.virtual.publish("t/2", b"\xff")
    web.virtual.publish("other", b"")
    assert listener.events() == [
        ("message", {"topic": "t/0", "qos": 0, "retain": True, "payload": "old"}),
        ("message", {"topic": "t/1", "qos": 1, "retain": False, "payload": "grüße"}),
        ("message", {"topic": "t/2", "qos": 0, "retain": False, "payload_base64": "/w=="}),
    ]
    listener.stream.close()
    assert len(web.broker.sessions) == 0


def test_a_listener_who_is_slow_holds_up_nobody(web: Web) -> None:
    listener = Listener(web, "/messages?topic_filter=%23")
    producer: Any = listener.stream.transport.producer
    producer.pauseProducing()
    for number in range(3000):
        web.virtual.publish("t", str(number).encode())
    (session,) = web.broker.sessions
    assert session.queued <= 1000
    producer.resumeProducing()
    web.advance(1)
    payloads = [data["payload"] for name, data in listener.events() if name == "message"]
    assert payloads[-1] == "2999"
    assert len(payloads) < 1500
    listener.stream.close()


def test_what_is_no_filter_cannot_be_listened_to(web: Web) -> None:
    assert web.ask("GET", "/messages").status == 400
    assert web.ask("GET", "/messages?topic_filter=a%23").status == 400


# --- alarms, figures, plugins ----------------------------------------------------------


def test_alarms_and_their_history(web: Web) -> None:
    web.admin.alarms.activate("queue:a/b", Severity.ERROR, "title", "summary")
    (alarm,) = web.get("/alarms")["items"]
    assert (alarm["id"], alarm["severity"], alarm["cleared_at"]) == ("queue:a/b", "error", None)
    assert web.ask("DELETE", "/alarms/queue:a%2Fb").status == 204
    assert web.ask("DELETE", "/alarms/queue:a%2Fb").status == 404
    assert web.get("/alarms")["items"] == []
    (over,) = web.get("/alarms?history=true")["items"]
    assert over["cleared_at"] is not None


def test_figures(web: Web) -> None:
    web.connect("a")
    stats = web.get("/stats")
    assert stats["gauges"]["clients"] == {"count": 1, "maximum": 1}
    assert stats["counters"]["packets_received"]["connect"] == 1
    assert len(stats["per_minute"]["publish/sent"]) == 3
    assert sum(stats["latency"]["processing"]["counts"]) == 1
    delays = stats["latency"]["event_loop"]
    assert len(delays["counts"]) == len(delays["bounds"]) + 1
    assert web.get("/process")["memory_maximum"] > 0


def test_plugins_come_and_go(web: Web) -> None:
    web.daemon.plugins = plugins = Plugins(web.broker, (), ())
    plugins.start()
    assert web.get("/plugins")["items"] == []
    rules = {"settings": {"rules": [{"filter": "old/#", "topic": "new/$1"}]}, "use": "rewrite"}
    made = web.ask("POST", "/plugins", rules)
    assert (made.status, made.json["name"]) == (201, "rewrite")
    reader = web.connect("r")
    reader.subscribe("#")
    web.connect("c").publish("old/a", b"x")
    assert reader.expect(Publish).topic == "new/a"
    changed = {"settings": {"priority": 7, "rules": [{"filter": "old/#", "topic": "b/$1"}]}}
    assert web.ask("PUT", "/plugins/rewrite", changed).json["priority"] == 7
    assert web.ask("PUT", "/plugins/rewrite", {}).json["priority"] == 7
    web.connect("c").publish("old/a", b"x")
    assert reader.expect(Publish).topic == "b/a"
    assert web.get("/plugins/rewrite")["settings"]["rules"][0]["topic"] == "b/$1"
    assert web.ask("DELETE", "/plugins/rewrite").status == 204
    web.connect("c").publish("old/a", b"x")
    assert reader.expect(Publish).topic == "old/a"
    for method in ("GET", "DELETE"):
        assert web.ask(method, "/plugins/rewrite").status == 404
    assert web.ask("PUT", "/plugins/rewrite", {}).status == 404
    plugins.stop()


def test_the_plugins_that_can_be_loaded(web: Web) -> None:
    own = PluginSettings("tests.test_plugins:Plain")
    web.daemon.plugins = Plugins(web.broker, (own,), ())
    web.daemon.plugins.load(read_plugin({"use": "rewrite"}))
    found = {each["use"]: each for each in web.get("/available-plugins")["items"]}
    assert {"rewrite", "webhook", "delayed", "tests.test_plugins:Plain"} <= found.keys()
    assert [use for use, each in found.items() if each["running"]] == ["rewrite"]
    assert found["webhook"]["settings"]["maximum_batch"] == 100
    assert "HTTP" in found["webhook"]["description"]
    web.daemon.plugins.stop()


def test_a_plugin_that_cannot_be_loaded_says_why(web: Web) -> None:
    web.daemon.plugins = Plugins(web.broker, (PluginSettings("no_such_module:Thing"),), ())
    found = {each["use"]: each for each in web.get("/available-plugins")["items"]}
    assert "no_such_module" in found["no_such_module:Thing"]["problem"]


@frozen
class SecretiveSettings:
    token: str = ""
    words: int = 1


class Secretive:
    """Has a token."""

    Settings = SecretiveSettings

    def __init__(self, settings: SecretiveSettings) -> None:
        self.settings = settings


def test_a_secret_that_is_not_shown_is_kept_when_the_rest_is_changed(web: Web) -> None:
    use = f"{__name__}:Secretive"
    made = read_plugin({"use": use, "token": "s3cret"})
    web.daemon.plugins = plugins = Plugins(web.broker, (made,), ())
    plugins.start()
    shown = web.get(f"/plugins/{quote(use, safe='')}")["settings"]
    assert shown["token"] == "..."
    body = {"settings": {**{k: v for k, v in shown.items() if k != "use"}, "words": 2}}
    assert web.ask("PUT", f"/plugins/{quote(use, safe='')}", body).status == 200
    assert plugins.running[0].plugin.settings == SecretiveSettings("s3cret", 2)
    plugins.stop()


@pytest.mark.parametrize(
    "use",
    ["os:getcwd", "no-such-plugin", "tests.test_plugins:Plain", "mqttd.hooks.rewrite:TopicRewrite"],
)
def test_nothing_can_be_loaded_that_was_not_installed_for_it(web: Web, use: str) -> None:
    web.daemon.plugins = Plugins(web.broker, (), ())
    refused = web.ask("POST", "/plugins", {"use": use})
    assert (refused.status, "rewrite" in refused.json["detail"]) == (422, True)
    wrong = web.ask("POST", "/plugins", {"use": "rewrite", "settings": {"rulez": []}})
    assert (wrong.status, "rulez" in wrong.json["errors"][0]) == (422, True)


# --- limits and settings ------------------------------------------------------------------


def test_the_rates_of_a_client_can_be_changed(web: Web) -> None:
    client = web.connect("a")
    assert set(web.get("/clients/a/limits").values()) == {"unlimited"}
    changed = web.ask("PATCH", "/clients/a/limits", {"inbound_messages": "1/s burst 2"})
    assert changed.json["inbound_messages"] == "1/s burst 2"
    watcher = web.connect("watcher")
    watcher.subscribe("t")
    for _ in range(5):
        client.publish("t", b"")
    assert len(watcher.received) < 5
    web.advance(5)
    assert len(watcher.received) == 5
    assert web.ask("PATCH", "/clients/a/limits", {"inbound_messages": "fast"}).status == 422
    assert web.ask("PATCH", "/clients/a/limits", {}).status == 422


@pytest.fixture
def configured(web: Web) -> Web:
    listener = ListenerSettings("tcp:1883", name="outside", allow_anonymous=True)
    web.daemon.settings = evolve(web.daemon.settings, listeners=(listener,))
    return web


def test_listeners_are_shown_open_or_not(configured: Web) -> None:
    (listener,) = configured.get("/listeners")["items"]
    assert (listener["name"], listener["open"]) == ("outside", False)
    assert listener["limits"]["connect_timeout"] == "10s"
    assert configured.get("/listeners/tcp:1883")["name"] == "outside"
    assert configured.ask("GET", "/listeners/other").status == 404
    assert configured.ask("POST", "/listeners/outside/stop").status == 409
    assert configured.ask("POST", "/listeners/outside/pause").status == 409


def test_the_limits_of_a_listener_can_be_changed(configured: Web) -> None:
    body = {"maximum_connections": 5, "connection_rate": "10/s"}
    answer = configured.ask("PATCH", "/listeners/outside/limits", body)
    assert answer.json["limits"]["maximum_connections"] == 5
    (settings,) = configured.daemon.taken
    limits = settings.listeners[0].limits
    assert limits.maximum_connections == 5
    assert limits.connection_rate is not None
    for wrong in ({"maximum_connections": -1}, {"nonsense": 1}, {}):
        assert configured.ask("PATCH", "/listeners/outside/limits", wrong).status == 422
    assert len(configured.daemon.taken) == 1


def test_the_configuration_is_shown_as_its_file_would_say_it(configured: Web) -> None:
    config = configured.get("/config")
    assert config["session"]["maximum_inflight"] == 32
    assert config["listener"][0]["endpoint"] == "tcp:1883"


def test_settings_can_be_changed(configured: Web) -> None:
    configured.daemon.reloaded = Reloaded(("session",))
    body = {"session": {"maximum_inflight": 7}, "broker": {"sys_interval": "5s"}}
    answer = configured.ask("PATCH", "/config", body)
    assert answer.json == {"changed": ["session"], "restart_needed": []}
    (settings,) = configured.daemon.taken
    assert (settings.session.maximum_inflight, settings.sys_interval) == (7, 5)
    # The listener that has what holds for all follows.
    assert settings.listeners[0].session.maximum_inflight == 7


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"session": {"maximum_inflight": "x"}}, "session.maximum_inflight"),
        ({"session": {"maximum_inflite": 1}}, "did you mean"),
        ({"session": {"overflow": "drop"}}, "must be one of"),
    ],
)
def test_wrong_settings_are_told_like_those_of_a_file(
    configured: Web, body: dict[str, Any], error: str
) -> None:
    answer = configured.ask("PATCH", "/config", body)
    assert answer.status == 422
    assert error in answer.json["errors"][0]
    assert configured.daemon.taken == []


def test_only_tables_that_there_are_can_be_changed(configured: Web) -> None:
    bodies: list[Any] = [{"sesion": {}}, {"listener": {}}, {"session": 1}, {}]
    for body in bodies:
        assert configured.ask("PATCH", "/config", body).status == 422


def test_settings_that_cannot_be_taken_over_are_told(configured: Web) -> None:
    configured.daemon.reloaded = Reloaded(errors=("no",))
    answer = configured.ask("PATCH", "/config", {"log": {"level": "warn"}})
    assert (answer.status, answer.json["errors"]) == (409, ["no"])


def test_every_change_is_in_the_audit_log(make_web: Callable[..., Web]) -> None:
    from twisted.logger import capturedLogs

    web = make_web()
    with capturedLogs() as events:
        web.get("/node")
        web.ask("DELETE", "/clients/a%0d%0ab")
    lines = [event for event in events if event["log_namespace"] == "mqttd.audit"]
    (line,) = lines
    assert (line["user"], line["method"], line["status"]) == ("ann", "DELETE", 404)
    assert line["path"] == "/api/v1/clients/a%0d%0ab"
