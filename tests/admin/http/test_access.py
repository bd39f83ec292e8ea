"""Explanations, shadows and bans by the API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from mqttd.access.admission import Admission
from mqttd.access.authorizer import AccessControl
from mqttd.access.bans import BanList
from mqttd.access.build import ClaimsSource, FileSource
from mqttd.access.mosquitto_acl import parse_mosquitto
from mqttd.access.rule_file import parse_rules
from mqttd.admin.http import Role
from mqttd.admin.prometheus import Prometheus
from mqttd.settings_access import AbuseSettings
from mqttd.wire.packets import Disconnect
from tests.admin.http.harness import Web

RULES = '[[rule]]\nallow = "all"\ntopics = ["a/#"]'


@pytest.fixture
def ruled(make_web: Callable[..., Web]) -> Iterator[Web]:
    web = make_web()
    broker = web.broker
    rules = FileSource("acl.toml", parse_rules(RULES, "acl.toml"))
    shadow = FileSource("new", parse_rules(RULES.replace("a/#", "b"), "new.toml"))
    broker.authorizer = AccessControl(web.clock, broker.seconds, [rules], [shadow])
    admission = Admission(AbuseSettings(), BanList(time.time), broker.seconds, time.time)
    admission.start(broker)
    yield web
    admission.stop()


def test_an_explanation(ruled: Web) -> None:
    ruled.connect("c").subscribe("a/#")
    answer = ruled.ask("POST", "/explain", {"action": "publish", "topic": "a/b"}).json
    assert (answer["allowed"], answer["by"]) == (True, "rule 1 of acl.toml")
    assert [r["client_id"] for r in answer["receivers"]] == ["c"]
    assert answer["shadow"] == {"allowed": False, "by": "no rule allows it"}
    denied = ruled.ask("POST", "/explain", {"action": "subscribe", "topic": "#"}).json
    assert not denied["allowed"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"action": "publish"},
        {"action": "read", "topic": "a"},
        {"action": "publish", "topic": "a/#"},
        {"action": "publish", "topic": "a", "qos": 3},
        {"action": "publish", "topic": "a", "password": "x"},
        [],
    ],
)
def test_a_question_that_makes_no_sense(ruled: Web, body: object) -> None:
    assert ruled.ask("POST", "/explain", body).status == 422


def test_the_rules_are_listed_in_the_order_in_which_they_are_asked(ruled: Web) -> None:
    text = """
superusers = ["root"]

[[rule]]
name = "one's own"
allow = ["publish", "subscribe"]
topics = ["devices/%u/#"]
authenticated = true
qos = [0, 1]

[[rule]]
deny = "all"
topics = ["secret/#"]
groups = ["guests"]
addresses = ["10.0.0.0/8"]
"""
    mosquitto = "pattern read %c/in\nuser ann\ntopic write a/#\ntopic deny a/b\n"
    authorizer = ruled.broker.authorizer
    assert isinstance(authorizer, AccessControl)
    authorizer.replace(
        [
            FileSource("acl.toml", parse_rules(text, "acl.toml")),
            FileSource("old", parse_mosquitto(mosquitto, "acl_file")),
            ClaimsSource("claim 'acl'", "acl"),
        ],
        [FileSource("new", parse_rules(RULES, "new.toml"))],
    )
    first = ruled.get("/access/rules?limit=4")
    rest = ruled.get(f"/access/rules?after={first['next']}")
    rules = first["items"] + rest["items"]
    assert [rule["number"] for rule in rules] == list(range(1, 9))
    assert first["total"] == 8
    own, secret = rules[1], rules[2]
    assert (rules[0]["who"], rules[0]["topics"]) == ({"users": ["root"]}, None)
    assert (own["title"], own["line"]) == ('rule 1 "one\'s own" of acl.toml', 4)
    assert own["who"] == {"authenticated": True}
    assert own["actions"] == ["publish", "receive", "subscribe"]
    assert (own["topics"], own["qos"], own["allow"]) == (["devices/%u/#"], [0, 1], True)
    assert (secret["line"], secret["allow"]) == (11, False)
    assert secret["who"] == {"groups": ["guests"], "addresses": ["10.0.0.0/8"]}
    denial, grant, pattern = rules[3:6]
    assert (denial["line"], denial["allow"], denial["who"]) == (4, False, {"users": ["ann"]})
    assert (grant["line"], grant["actions"]) == (3, ["publish"])
    assert (pattern["topics"], pattern["who"]) == (["%c/in"], {})
    assert (rules[6]["source"], rules[6]["allow"]) == ("claim 'acl'", None)
    assert [rule["shadow"] for rule in rules] == [False] * 7 + [True]


def test_a_line_that_only_looks_like_a_rule_makes_no_wrong_numbers(ruled: Web) -> None:
    text = '[[rule]]\nname = """\n[[rule]]\n"""\nallow = "all"\ntopics = ["a"]\n'
    authorizer = ruled.broker.authorizer
    assert isinstance(authorizer, AccessControl)
    authorizer.replace([FileSource("acl.toml", parse_rules(text, "acl.toml"))])
    (rule,) = ruled.get("/access/rules")["items"]
    assert rule["line"] is None


def test_what_the_shadow_would_have_denied(ruled: Web) -> None:
    ruled.connect("c").publish("a/b", b"x", 0)
    shadow = ruled.get("/access/shadow")
    assert shadow["total"] == 1
    assert shadow["reports"][0]["topic"] == "a/b"


def test_bans_come_and_go(ruled: Web) -> None:
    client = ruled.connect("c")
    made = ruled.ask(
        "POST", "/bans", {"kind": "client_id", "value": "c", "seconds": 60, "reason": "spam"}
    )
    assert (made.status, made.json["ended"], made.json["by"]) == (201, 1, "ann")
    client.expect(Disconnect)
    (ban,) = ruled.get("/bans")["items"]
    assert (ban["value"], ban["reason"]) == ("c", "spam")
    assert ruled.ask("DELETE", "/bans/client_id/c").status == 204
    assert ruled.ask("DELETE", "/bans/client_id/c").status == 404
    assert ruled.get("/bans")["items"] == []


def test_names_in_a_path_may_hold_anything(ruled: Web) -> None:
    ruled.ask("POST", "/bans", {"kind": "network", "value": "10.0.0.0/8"})
    assert ruled.ask("DELETE", "/bans/network/10.0.0.0%2F8").status == 204


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "planet", "value": "x"},
        {"kind": "address", "value": "x"},
        {"kind": "network", "value": "0.0.0.0/0"},
        {"kind": "user", "value": ""},
        {"kind": "user", "value": "u", "seconds": 0},
        {"kind": "user", "value": "u", "seconds": "1h"},
        {"kind": "user", "value": "u", "by": "me"},
        None,
    ],
)
def test_a_ban_that_makes_no_sense(ruled: Web, body: object) -> None:
    assert ruled.ask("POST", "/bans", body).status in (400, 415, 422)
    assert ruled.get("/bans")["items"] == []


def test_who_may_look_may_not_ban(ruled: Web) -> None:
    ruled.role = Role.VIEWER
    assert ruled.ask("POST", "/bans", {"kind": "user", "value": "u"}).status == 403
    assert ruled.ask("POST", "/explain", {"action": "publish", "topic": "a"}).status == 200


def test_prometheus_counts_shadows_and_bans(ruled: Web) -> None:
    ruled.connect("c").publish("a/b", b"x", 0)
    ruled.ask("POST", "/bans", {"kind": "user", "value": "u"})
    lines = Prometheus(ruled.daemon).text().decode().splitlines()
    assert "mqttd_shadow_denials_total 1.0" in lines
    assert 'mqttd_bans{kind="user"} 1.0' in lines


def test_a_broker_without_admission_has_no_bans(web: Web) -> None:
    assert web.ask("GET", "/bans").status == 404
    assert web.ask("GET", "/access/shadow").status == 404
    assert web.ask("GET", "/access/rules").status == 404
