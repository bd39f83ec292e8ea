"""Every path of a message is checked against the rules that hold now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from mqttd.broker.access import CACHE_SIZE, Guard
from mqttd.broker.metrics import Metrics
from mqttd.interfaces import PUBLISH, RECEIVE, SUBSCRIBE, Avatar
from tests.broker.doubles import Rules
from tests.broker.harness import BareBroker


@pytest.fixture
def rules() -> Rules:
    return Rules()


@pytest.fixture
def ruled(rules: Rules) -> Iterator[BareBroker]:
    bare = BareBroker(authorizer=rules)
    yield bare
    bare.stop()


def guard_of(rules: Rules, **avatar: Any) -> Guard:
    return Guard(rules, Avatar(**avatar), "c", None, "listener", Metrics())


# --- the guard ----------------------------------------------------------------------


def test_an_answer_is_remembered_until_the_rules_change(rules: Rules) -> None:
    guard = guard_of(rules)
    assert guard.allowed(PUBLISH, "t") is True
    assert guard.allowed(PUBLISH, "t") is True
    assert len(rules.requests) == 1
    rules.change((PUBLISH, "t"))
    assert guard.allowed(PUBLISH, "t") is False
    assert guard.allowed(PUBLISH, "t") is False
    assert len(rules.requests) == 2


def test_questions_that_differ_are_asked_apart(rules: Rules) -> None:
    guard = guard_of(rules)
    for action in (PUBLISH, SUBSCRIBE, RECEIVE):
        for topic in ("a", "b"):
            for qos in (0, 1):
                for retain in (False, True):
                    guard.allowed(action, topic, qos, retain)
    assert len(rules.requests) == 24


def test_the_memory_of_answers_is_bounded(rules: Rules) -> None:
    guard = guard_of(rules)
    for n in range(3 * CACHE_SIZE):
        guard.allowed(PUBLISH, str(n))
    assert guard._answers is not None
    assert len(guard._answers) <= CACHE_SIZE


def test_a_superuser_and_an_action_without_rules_are_not_asked_about(rules: Rules) -> None:
    assert guard_of(rules, superuser=True).allowed(PUBLISH, "t") is True
    assert guard_of(rules.only(PUBLISH)).allowed(RECEIVE, "t") is True
    assert rules.requests == []


@pytest.mark.parametrize("change", ["rules", "avatar"])
def test_a_late_answer_to_an_old_question_does_not_count(rules: Rules, change: str) -> None:
    rules.slow = True
    guard = guard_of(rules)
    late: Any = guard.allowed(PUBLISH, "t")
    if change == "rules":
        rules.change((PUBLISH, "t"))
    else:
        guard.change_avatar(Avatar("less"))
        rules.denied.add((PUBLISH, "t"))
    rules.slow = False
    guard.allowed(PUBLISH, "other")
    rules.answer(True)
    assert late.result is False
    assert guard.allowed(PUBLISH, "t") is False


def test_what_was_looked_up_is_asked_again_when_its_time_is_over(rules: Rules) -> None:
    now = [0.0]
    rules.slow = True
    rules.time_to_live = 10.0  # type: ignore[attr-defined]
    guard = Guard(rules, Avatar(), "c", None, "listener", Metrics(), lambda: now[0])
    guard.allowed(PUBLISH, "t")
    rules.answer()
    assert guard.allowed(PUBLISH, "t") is True
    assert not guard.settled(PUBLISH, "t")
    now[0] = 10.0
    assert isinstance(guard.allowed(PUBLISH, "t"), Deferred)


def test_nothing_is_kept_of_answers_without_time_to_live(rules: Rules) -> None:
    rules.slow = True
    rules.time_to_live = 0.0  # type: ignore[attr-defined]
    guard = guard_of(rules)
    for _ in range(2):
        guard.allowed(PUBLISH, "t")
        rules.answer()
    assert len(rules.requests) == 2


def test_a_deferred_that_has_fired_is_an_answer_at_once(rules: Rules) -> None:
    guard = guard_of(rules)
    rules.authorize = lambda request: succeed(True)  # type: ignore[method-assign]
    assert guard.allowed(PUBLISH, "t") is True
    guard.change_avatar(Avatar())
    nonsense: Any = "yes"
    rules.authorize = lambda request: succeed(nonsense)  # type: ignore[method-assign]
    assert guard.allowed(PUBLISH, "t") is False


# --- other rules ------------------------------------------------------------------------


def test_new_rules_end_subscriptions_at_once(ruled: BareBroker, rules: Rules) -> None:
    here = ruled.connect("here")
    away = ruled.connect("away", session_expiry_interval=100)
    for client in (here, away):
        client.subscribe("a", "b", "$share/g/a")
    away.drop()
    rules.only(SUBSCRIBE).change((SUBSCRIBE, "a"))
    ended = ruled.broker.rules_changed()
    assert ended.result == 4
    assert [list(ruled.session(name).subscriptions) for name in ("here", "away")] == [["b"]] * 2
    ruled.publish("a", b"1")
    ruled.publish("b", b"2")
    assert here.payloads() == [b"2"]


def test_a_revision_of_many_sessions_lets_others_have_their_turn(
    ruled: BareBroker, rules: Rules
) -> None:
    for number in range(20):
        ruled.connect(str(number)).subscribe(*(f"{n}/x" for n in range(40)))
    rules.change(*((SUBSCRIBE, f"{n}/x") for n in range(40)))
    rules.only(SUBSCRIBE)
    ended = ruled.broker.rules_changed()
    left = len(ruled.broker.router)
    assert 0 < left < 800
    ruled.advance()
    assert ended.result == 800
    assert len(ruled.broker.router) == 0


def test_a_subscription_made_anew_while_its_right_was_asked_stays(
    ruled: BareBroker, rules: Rules
) -> None:
    client = ruled.connect("c")
    client.subscribe("a")
    rules.change()
    rules.slow = True
    ruled.broker.rules_changed()
    rules.slow = False
    client.subscribe("a", qos=1)
    rules.answer(False)
    assert list(ruled.session("c").subscriptions) == ["a"]


# --- receiving ----------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_may_not_be_received_is_not_sent(ruled: BareBroker, rules: Rules, qos: int) -> None:
    client = ruled.connect("c")
    client.subscribe("#", qos=2)
    rules.change((RECEIVE, "secret"))
    ruled.publish("secret", b"x", qos)
    ruled.publish("open", b"y", qos)
    assert client.payloads() == [b"y"]
    assert ruled.broker.metrics.dropped == {"denied": 1}
    assert len(ruled.session("c").inflight) == bool(qos)


def test_a_shared_message_goes_to_a_member_that_may_have_it(rules: Rules) -> None:
    class OfClients(Rules):
        def authorize(self, request: Any) -> Any:
            return request.client_id != "b" or request.action != RECEIVE

    bare = BareBroker(authorizer=OfClients())
    members = [bare.connect(name) for name in "abc"]
    for member in members:
        member.subscribe("$share/g/t")
    for number in range(6):
        bare.publish("t", b"%d" % number)
    received = [member.payloads() for member in members]
    assert received[1] == []
    assert sorted(received[0] + received[2]) == [b"%d" % n for n in range(6)]
    for member in (members[0], members[2]):
        member.drop()
    bare.publish("t", b"nobody may")
    members[1].expect_nothing()
    assert bare.broker.metrics.dropped == {"denied": 1}
    bare.stop()


def test_a_queued_message_is_judged_when_it_is_sent(ruled: BareBroker, rules: Rules) -> None:
    client = ruled.connect("c", session_expiry_interval=10)
    client.subscribe("#", qos=1)
    client.drop()
    ruled.publish("secret", b"x", 1)
    ruled.publish("open", b"y", 1)
    rules.change((RECEIVE, "secret"))
    again = ruled.connect("c", clean_start=False, session_expiry_interval=10)
    assert again.payloads() == [b"y"]


def test_an_unacknowledged_message_is_judged_when_it_is_sent_again(
    ruled: BareBroker, rules: Rules
) -> None:
    client = ruled.connect("c", session_expiry_interval=10)
    client.subscribe("#", qos=1)
    ruled.publish("secret", b"x", 1)
    client.drop()
    rules.change((RECEIVE, "secret"))
    again = ruled.connect("c", clean_start=False, session_expiry_interval=10)
    again.expect_nothing()
    assert ruled.session("c").inflight == {}


def test_a_retained_message_is_judged_for_its_receiver_and_its_source(
    ruled: BareBroker, rules: Rules
) -> None:
    source = ruled.connect("source")
    for topic in ("a", "b", "c"):
        source.publish(topic, topic.encode(), 1, retain=True)
    source.disconnect()
    rules.change((PUBLISH, "a"), (RECEIVE, "b"))
    client = ruled.connect("c")
    client.subscribe("#")
    assert client.payloads() == [b"c"]
    rules.change()
    client.subscribe("#")
    assert sorted(client.payloads()) == [b"a", b"b", b"c"]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_slow_answers_keep_the_order_of_what_is_received(
    ruled: BareBroker, rules: Rules, qos: int
) -> None:
    client = ruled.connect("c")
    client.subscribe("#", qos=2)
    rules.only(RECEIVE)
    rules.denied.add((RECEIVE, "3"))
    rules.slow = True
    for n in range(6):
        ruled.publish(str(n), b"%d" % n, qos)
        ruled.publish(str(n), b"again", 0)
    while rules.asked:
        assert len(rules.asked) == 1
        rules.answer()
        ruled.advance()
    expected = [p for n in range(6) if n != 3 for p in (b"%d" % n, b"again")]
    assert client.payloads() == expected


def test_a_client_that_leaves_while_a_message_is_judged_gets_it_later(
    ruled: BareBroker, rules: Rules
) -> None:
    client = ruled.connect("c", session_expiry_interval=10)
    client.subscribe("#", qos=1)
    rules.only(RECEIVE)
    rules.slow = True
    ruled.publish("t", b"1", 1)
    ruled.publish("t", b"2", 1)
    client.drop()
    rules.answer()
    ruled.advance()
    client.expect_nothing()
    rules.slow = False
    again = ruled.connect("c", clean_start=False, session_expiry_interval=10)
    assert again.payloads() == [b"1", b"2"]


def test_an_authorizer_that_fails_lets_nothing_through_and_nothing_stop(
    ruled: BareBroker, rules: Rules, logged_failures: list[Any]
) -> None:
    client = ruled.connect("c")
    client.subscribe("#", qos=1)
    rules.only(RECEIVE)
    rules.slow = True
    ruled.publish("a", b"1", 1)
    ruled.publish("b", b"2", 1)
    rules.answer(RuntimeError("meant to be"))
    ruled.advance()
    rules.answer(True)
    assert client.payloads() == [b"2"]
    logged_failures.clear()


def test_the_rules_see_the_mount_point_and_the_inner_filter(
    ruled: BareBroker, rules: Rules
) -> None:
    from attrs import evolve

    client = ruled.connect("c", listener=evolve(ruled.listener, mount_point="m/"))
    client.subscribe("$share/g/a/#", "$queue/b", "c")
    client.publish("t", b"x", 1, retain=True)
    assert [(r.action, r.topic) for r in rules.requests] == [
        (SUBSCRIBE, "m/a/#"),
        (SUBSCRIBE, "m/b"),
        (SUBSCRIBE, "m/c"),
        (PUBLISH, "m/t"),
    ]
    assert rules.requests[-1].retain
    assert rules.requests[-1].qos == 1
    assert rules.requests[-1].client_id == "c"
