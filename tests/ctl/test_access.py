"""``mqttctl explain``, ``acl`` and ``ban``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.ctl.conftest import Daemon

ETC = Path(__file__).parent.parent.parent / "etc"

RECEIVER = {"client_id": "r", "group": None, "qos": 1, "outcome": "denied", "by": "rule 1"}
ANSWER = {
    "allowed": True,
    "by": "rule 2 of acl.toml",
    "client_id": "c\x1b[31m",
    "user": None,
    "state": "connected",
    "topic": "m/t",
    "shadow": {"allowed": False, "by": "rule 9"},
    "receivers": [RECEIVER],
    "total_receivers": 3,
}


RULE = {
    "number": 1,
    "source": "acl.toml",
    "shadow": False,
    "title": "rule 1 of acl.toml",
    "allow": True,
    "actions": ["publish"],
    "topics": ["a/#", "b"],
    "who": {"users": ["ann", "bob"]},
    "qos": None,
    "retain": None,
    "line": 3,
}


def test_an_explanation_for_people(daemon: Daemon, run: Any) -> None:
    daemon.answers["POST", "/api/v1/explain"] = (200, ANSWER)
    code, out, _ = run("explain", "--client", "c", "publish", "t", "--qos", "1")
    assert code == 0
    assert daemon.asked[-1][2] == {
        "action": "publish",
        "topic": "t",
        "client_id": "c",
        "qos": 1,
        "retain": False,
    }
    lines = out.splitlines()
    assert lines[0] == r"c\x1b[31m (no user, connected): m/t"
    assert lines[1] == "allowed: rule 2 of acl.toml"
    assert lines[2] == "in shadow: would deny: rule 9"
    assert lines[4].split() == ["r", "-", "1", "denied", "rule", "1"]
    assert lines[5] == "and 2 more"


def test_the_rules_in_their_order(daemon: Daemon, run: Any) -> None:
    elsewhere = {**RULE, "number": 2, "allow": None, "topics": None, "who": {}, "line": None}
    page = {"items": [RULE, elsewhere], "total": 2, "next": None}
    daemon.answers["GET", "/api/v1/access/rules?limit=1000"] = (200, page)
    code, out, _ = run("acl", "list")
    assert code == 0
    _, first, second = out.splitlines()
    assert first.split()[:5] == ["1", "allow", "publish", "a/#,", "b"]
    assert "users=ann, bob" in first
    assert first.endswith("rule 1 of acl.toml, line 3")
    assert second.split()[:5] == ["2", "looked", "up", "publish", "every"]
    assert json.loads(run("--json", "acl", "list")[1]) == [RULE, elsewhere]


def test_a_no_is_an_exit_code(daemon: Daemon, run: Any) -> None:
    daemon.answers["POST", "/api/v1/explain"] = (200, {**ANSWER, "allowed": False})
    code, out, _ = run("--json", "explain", "subscribe", "#", "--user", "u")
    assert (code, json.loads(out)["allowed"]) == (1, False)
    assert daemon.asked[-1][2]["user"] == "u"


def test_a_file_of_rules_is_checked_without_a_daemon(run: Any, tmp_path: Path) -> None:
    good, bad = ETC / "acl.toml", tmp_path / "bad.toml"
    bad.write_text('[[rule]]\nallow = "read"\ntopics = ["a"]')
    assert run("acl", "check", str(good)) == (0, f"{good} can be used\n", "")
    code, _, error = run("acl", "check", str(bad))
    assert code == 1
    assert f"{bad}: rule[1].allow = 'read': must be" in error
    assert run("acl", "check", str(tmp_path / "none"))[0] == 1
    assert run("acl", "check", "--type", "mosquitto", str(good))[0] == 1


def test_a_file_of_rules_can_be_asked(run: Any, tmp_path: Path) -> None:
    good = str(ETC / "acl.toml")
    code, out, _ = run("acl", "ask", good, "publish", "devices/d/x", "--user", "d")
    assert (code, out) == (0, f"allowed: rule 1 'devices report' of {good}\n")
    assert run("acl", "ask", good, "publish", "other", "--user", "d")[:2] == (
        1,
        "denied: no rule fits\n",
    )
    code, out, _ = run("acl", "ask", good, "subscribe", "$SYS/#", "--address", "::1", "--json")
    assert (code, json.loads(out)["allowed"]) == (0, True)
    code, _, _ = run("acl", "ask", good, "subscribe", "devices/+/x", "--group", "operators")
    assert code == 0
    acl = tmp_path / "acl"
    acl.write_text("topic read a")
    assert run("acl", "ask", "--type", "mosquitto", str(acl), "receive", "a")[0] == 0


def test_the_shadow_is_shown(daemon: Daemon, run: Any) -> None:
    report = {"client_id": "c", "user": None, "action": "publish", "topic": "t", "by": "x"}
    answer = {"total": 7, "reports": [{**report, "count": 7}]}
    daemon.answers["GET", "/api/v1/access/shadow"] = (200, answer)
    code, out, _ = run("acl", "shadow")
    assert code == 0
    assert out.splitlines()[0] == "7 decisions would have been a no"


def test_bans_are_added_listed_and_removed(daemon: Daemon, run: Any) -> None:
    ban = {"kind": "client_id", "value": "c", "until": None, "reason": "", "by": "root"}
    daemon.answers["POST", "/api/v1/bans"] = (201, {**ban, "ended": 2})
    code, out, _ = run("ban", "add", "client-id", "c", "--for", "1h30m", "--reason", "spam")
    assert (code, out) == (0, "client id c is banned; 2 connections ended\n")
    assert daemon.asked[-1][2] == {
        "kind": "client_id",
        "value": "c",
        "seconds": 5400,
        "reason": "spam",
    }
    page = {"items": [ban, {**ban, "until": 1e12}], "total": 2, "next": None}
    daemon.answers["GET", "/api/v1/bans?limit=1000"] = (200, page)
    code, out, _ = run("ban", "list")
    assert code == 0
    assert out.splitlines()[1].split()[:3] == ["client_id", "c", "never"]
    daemon.answers["DELETE", "/api/v1/bans/network/10.0.0.0%2F8"] = (204, None)
    assert run("ban", "remove", "network", "10.0.0.0/8")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("ban", "add", "planet", "x"),
        ("ban", "add", "user", "u", "--for", "soon"),
        ("explain", "read", "t"),
        ("explain", "publish", "t", "--qos", "3"),
    ],
)
def test_what_is_not_understood(run: Any, arguments: tuple[str, ...]) -> None:
    assert run(*arguments)[0] == 2
