from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred

from mqttd.access.authorizer import AccessControl
from mqttd.access.bans import Ban
from mqttd.access.build import FileSource
from mqttd.access.explain import Explanation, Question, QuestionError, explain
from mqttd.access.rule_file import parse_rules
from mqttd.testing import VirtualBroker
from mqttd.testing.virtual import VirtualClock
from tests.access.test_admission import guarded
from tests.broker.doubles import Checker, Rules

RULES = """
superusers = ["root"]
[[rule]]
name = "secret"
deny = "receive"
topics = ["t/secret"]
[[rule]]
name = "own"
allow = "publish"
topics = ["t/%u"]
[[rule]]
name = "read"
allow = "subscribe"
topics = ["t/#"]
users = ["alice", "bob"]
"""


def ruled(rules: str = RULES, shadow: str = "") -> VirtualBroker:
    clock = VirtualClock()
    sources = [FileSource("acl.toml", parse_rules(rules, "acl.toml"))]
    shadows = [FileSource("new", parse_rules(shadow, "new.toml"))] if shadow else []
    control = AccessControl(clock, clock.seconds, sources, shadows)
    return VirtualBroker(authorizer=control, checkers=[Checker()], clock=clock)


def why(virtual: VirtualBroker, action: str, topic: str, **fields: Any) -> Explanation:
    answers: list[Explanation] = []
    asked = Deferred.fromCoroutine(explain(virtual.broker, Question(action, topic, **fields)))
    asked.addCallback(answers.append)
    virtual.advance()
    (answer,) = answers
    return answer


def connect(virtual: VirtualBroker, name: str, user: str = "", **more: Any) -> Any:
    user = user or name
    return virtual.connect(name, user_name=user, password=user[::-1].encode(), **more)


def test_the_rule_that_decides_is_named() -> None:
    virtual = ruled()
    connect(virtual, "c1", "alice")
    answer = why(virtual, "publish", "t/alice", client_id="c1")
    assert (answer.allowed, answer.by, answer.user, answer.state) == (
        True,
        "rule 2 'own' of acl.toml",
        "alice",
        "connected",
    )
    assert not why(virtual, "publish", "t/bob", client_id="c1").allowed
    assert why(virtual, "publish", "t/bob", client_id="c1").by == "no rule allows it"
    assert why(virtual, "subscribe", "$share/g/t/+", client_id="c1").by.startswith("rule 3")
    assert not why(virtual, "subscribe", "#", client_id="c1").allowed


def test_a_client_that_is_not_known_is_who_the_question_says() -> None:
    virtual = ruled()
    connect(virtual, "c1", "alice")
    for client_id in ("", "c1", "other"):
        answer = why(virtual, "publish", "t/bob", client_id=client_id, user="bob")
        assert (answer.allowed, answer.user, answer.state) == (True, "bob", "unknown")
    assert not why(virtual, "publish", "t/bob").allowed
    assert why(virtual, "publish", "anything", user="root").by == "superusers of acl.toml"


def test_a_publication_tells_what_becomes_of_it_for_each_receiver() -> None:
    virtual = ruled()
    for name in ("alice", "bob"):
        connect(virtual, name, session_expiry_interval=100).subscribe("t/#", qos=1)
    away = connect(virtual, "away", "bob", session_expiry_interval=100)
    away.subscribe("t/+", qos=1)
    away.drop()
    shared = connect(virtual, "shared", "alice")
    shared.subscribe("$share/g/t/#")
    answer = why(virtual, "publish", "t/alice", user="alice", qos=1)
    assert answer.total_receivers == 4
    assert {(r.client_id, r.group, r.qos, r.outcome) for r in answer.receivers} == {
        ("alice", None, 1, "sent"),
        ("bob", None, 1, "sent"),
        ("away", None, 1, "queued"),
        ("shared", "g", 0, "sent"),
    }
    assert {r.by for r in answer.receivers if r.client_id == "bob"} == {"rule 3 'read' of acl.toml"}
    qos0 = why(virtual, "publish", "t/alice", user="alice")
    assert {r.client_id: r.outcome for r in qos0.receivers}["away"] == "dropped"
    secret = why(virtual, "publish", "t/secret", user="root", qos=1)
    assert {r.outcome for r in secret.receivers} == {"denied"}
    assert {r.by for r in secret.receivers} == {"rule 1 'secret' of acl.toml"}
    assert why(virtual, "publish", "nobody/listens", user="root").total_receivers == 0


def test_what_a_full_output_and_no_local_do() -> None:
    virtual = ruled()
    client = connect(virtual, "alice")
    client.subscribe("t/#", no_local=True)
    answer = why(virtual, "publish", "t/alice", client_id="alice")
    assert [r.outcome for r in answer.receivers] == ["dropped"]
    client.stop_reading()
    sender = connect(virtual, "bob")
    for _ in range(40):
        sender.publish("t/bob", b"x" * 10_000, 0)
    answer = why(virtual, "publish", "t/bob", user="bob")
    assert [r.outcome for r in answer.receivers] == ["queued"]


def test_a_delivery_needs_a_subscription() -> None:
    virtual = ruled()
    client = connect(virtual, "alice")
    assert "no filter" in why(virtual, "receive", "t/x", client_id="alice").by
    client.subscribe("t/#")
    assert why(virtual, "receive", "t/x", client_id="alice").allowed
    assert not why(virtual, "receive", "t/secret", client_id="alice").allowed


def test_what_stands_before_the_rules_is_told() -> None:
    virtual, admission = guarded(authenticated=True)
    admission.ban(Ban("user", "eve"))
    assert why(virtual, "publish", "a", user="eve").by == "not let in: banned"
    assert not why(virtual, "publish", "$SYS/x").allowed
    assert why(virtual, "publish", "a").by == "no rule is about publish"


def test_the_mount_point_is_told() -> None:
    virtual = ruled()
    listener = evolve(virtual.listener, mount_point="m/")
    virtual.factory.settings = listener
    connect(virtual, "c1", "alice")
    answer = why(virtual, "publish", "t/alice", client_id="c1")
    assert (answer.topic, answer.allowed) == ("m/t/alice", False)


def test_a_shadow_tells_its_own_answer() -> None:
    shadow = '[[rule]]\nname = "new"\ndeny = "publish"\ntopics = ["t/#"]'
    answer = why(ruled(shadow=shadow), "publish", "t/alice", user="alice")
    assert answer.allowed
    assert answer.shadow is not None
    assert (answer.shadow.allowed, answer.shadow.by) == (False, "rule 1 'new' of new.toml")


@pytest.mark.parametrize("slow", [False, True])
def test_any_authorizer_can_be_asked(slow: bool) -> None:
    rules = Rules(("publish", "t"), slow=slow)
    virtual = VirtualBroker(authorizer=rules)
    asked = Deferred.fromCoroutine(explain(virtual.broker, Question("publish", "t")))
    if slow:
        rules.answer()
    answer: Any = asked.result
    assert (answer.allowed, answer.by) == (False, "Rules")


@pytest.mark.parametrize(
    ("action", "topic"),
    [("publish", "a/#"), ("publish", ""), ("receive", "+"), ("subscribe", "a/#/b"), ("read", "a")],
)
def test_what_cannot_be_asked(action: str, topic: str) -> None:
    with pytest.raises(QuestionError):
        explain(ruled().broker, Question(action, topic)).send(None)


def test_explaining_changes_nothing() -> None:
    virtual = ruled()
    client = connect(virtual, "alice")
    client.subscribe("t/#")
    before = dict(vars(virtual.broker.metrics))
    why(virtual, "publish", "t/alice", client_id="alice")
    client.expect_nothing()
    assert dict(vars(virtual.broker.metrics)) == before
