"""Whatever stands where rules should be is refused in words, and by no crash."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mqttd.access.bans import BanList
from mqttd.access.build import ClaimsSource
from mqttd.access.listed import listed_rules
from mqttd.access.mosquitto_acl import parse_mosquitto
from mqttd.access.rule_file import _Reader, parse_rules
from mqttd.access.rules import RuleSet
from mqttd.config import ConfigError
from mqttd.interfaces import PUBLISH, RECEIVE, SUBSCRIBE
from tests.access.support import ask

#: The machine may have others to serve.
BUSY = settings(suppress_health_check=[HealthCheck.too_slow])

WORDS = st.sampled_from(
    [
        *("rule", "allow", "deny", "topics", "users", "clients", "groups", "claims", "addresses"),
        *("qos", "retain", "name", "superusers", "certificates", "listeners", "authenticated"),
        *("publish", "subscribe", "all", "permission", "action", "topic", "pub", "sub", "kind"),
        *("value", "until", "user", "alice", "a/#", "%u", "%{x}", "10.0.0.0/8", "cn:x", ""),
    ]
)
LEAVES = st.one_of(
    WORDS, st.text(max_size=5), st.integers(-1, 3), st.booleans(), st.none(), st.floats()
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(WORDS, inner, max_size=5)),
    max_leaves=20,
)
QUESTIONS = [
    ask(topic, action) for topic in ("a", "a/#") for action in (PUBLISH, SUBSCRIBE, RECEIVE)
]


def try_out(rules: Any) -> None:
    for question in QUESTIONS:
        rules.decide(question)


@BUSY
@given(st.dictionaries(WORDS, ANYTHING, max_size=4))
def test_a_document(document: dict[str, Any]) -> None:
    reader = _Reader("acl.toml")
    rules = reader.read(document)
    assert reader.problems or rules.rules
    if not reader.problems:
        try_out(rules)


@BUSY
@given(st.text())
def test_a_file(text: str) -> None:
    for parse in (parse_rules, parse_mosquitto):
        with suppress(ConfigError):
            try_out(parse(text))


@BUSY
@given(st.lists(st.builds(" ".join, st.lists(WORDS, max_size=4)), max_size=4).map("\n".join))
def test_a_file_of_words(text: str) -> None:
    with suppress(ConfigError):
        try_out(parse_mosquitto(text))


@BUSY
@given(ANYTHING)
def test_a_list(said: Any) -> None:
    with suppress(ValueError):
        try_out(listed_rules(said, "list"))
    # In a claim it is a no, or no opinion: never a yes that it does not say.
    decision = ClaimsSource("claim", "acl").decide(ask("t", claims={"acl": said}))
    assert decision is None or decision.by


@BUSY
@given(ANYTHING)
def test_a_file_of_bans(said: Any) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "bans.json")
        path.write_text(json.dumps(said))
        with suppress(ConfigError):
            for ban in BanList(lambda: 0.0, path):
                assert ban.value


# --- and the index is no more than a shorter way ------------------------------------------

USERS = st.sampled_from(["alice", "bob", None])
RULES = st.builds(
    lambda allow, users, clients, topic: {
        "allow" if allow else "deny": "publish",
        "topics": [topic],
        **({"users": users} if users else {}),
        **({"clients": clients} if clients else {}),
    },
    st.booleans(),
    st.lists(st.sampled_from(["alice", "bob"]), max_size=2),
    st.lists(st.sampled_from(["c1", "c2"]), max_size=2),
    st.sampled_from(["#", "a", "a/+", "%u/#", "%c"]),
)


@BUSY
@given(
    st.lists(RULES, min_size=1, max_size=6),
    USERS,
    st.sampled_from(["c1", "c2"]),
    st.sampled_from(["a", "a/b", "alice/x", "c1"]),
)
def test_the_index_of_rules_finds_what_a_walk_finds(
    rules: list[dict[str, Any]], user: str | None, client_id: str, topic: str
) -> None:
    found = _Reader("acl.toml").read({"rule": rules})
    assert isinstance(found, RuleSet)
    request = ask(topic, user=user, client_id=client_id)
    walked = next(
        (
            (rule.allow, rule.title)
            for rule in found.rules
            if rule.fits(request, topic.split("/")) and rule.who.includes(request, {})
        ),
        None,
    )
    decision = found.decide(request)
    assert (None if decision is None else (decision.allowed, decision.by)) == walked
