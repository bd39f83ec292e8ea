from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mqttd.access.authorizer import MOST_PATIENCE, AccessControl
from mqttd.access.build import ClaimsSource, Surroundings, change, make_sources
from mqttd.access.reports import MOST_REPORTS
from mqttd.config import ConfigError
from mqttd.interfaces import (
    PUBLISH,
    RECEIVE,
    SUBSCRIBE,
    Decision,
    IAuthorizer,
    IRuleSource,
)
from mqttd.service import MQTTBroker
from mqttd.settings import AccessSettings, BrokerSettings
from mqttd.settings_access import ClaimsSettings, MosquittoFileSettings, RuleFileSettings
from tests.access.support import ask


@implementer(IRuleSource)
class Source:
    """Answers what it is told to; an exception is raised."""

    def __init__(self, answer: Any, name: str = "source", checks: frozenset[str] | None = None):
        self.answer = answer
        self.name = name
        self.checks = checks if checks is not None else frozenset({PUBLISH, SUBSCRIBE, RECEIVE})
        self.asked = 0
        self.running = False

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def decide(self, request: Any) -> Any:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


YES, NO = Decision(True, "yes"), Decision(False, "no")


def control(*sources: Any, shadow: tuple[Any, ...] = ()) -> AccessControl:
    clock = Clock()
    return AccessControl(clock, clock.seconds, sources, shadow)


def result(answer: Any) -> Any:
    return answer.result if isinstance(answer, Deferred) else answer


@pytest.mark.parametrize(
    ("answers", "allowed", "by"),
    [
        ((YES,), True, "yes"),
        ((NO, YES), False, "no"),
        ((None, YES), True, "yes"),
        ((None, None), False, "no rule allows it"),
        ((), True, "no rules are in force"),
        ((ValueError("x"), YES), False, "source failed"),
        (("yes", YES), False, "source gave no decision"),
        ((Decision("yes", "x"), YES), False, "source gave no decision"),  # type: ignore[arg-type]
    ],
)
@pytest.mark.parametrize("later", [False, True])
def test_the_first_opinion_decides_and_whatever_fails_refuses(
    answers: tuple[Any, ...], allowed: bool, by: str, later: bool
) -> None:
    waiting: list[tuple[Deferred[Any], Any]] = []
    sources = []
    for answer in answers:
        if later:
            deferred: Deferred[Any] = Deferred()
            waiting.append((deferred, answer))
            answer = deferred
        sources.append(Source(answer))
    rules = control(*sources)
    verifyObject(IAuthorizer, rules)
    decided = rules.decide(ask("t"))
    for deferred, answer in waiting:
        (deferred.errback if isinstance(answer, Exception) else deferred.callback)(answer)
    decision = result(decided)
    assert (decision.allowed, decision.by) == (allowed, by)


def test_a_source_that_never_answers_has_refused() -> None:
    clock = Clock()
    rules = AccessControl(clock, clock.seconds, [Source(Deferred()), Source(YES)])
    decided = rules.authorize(ask("t"))
    clock.advance(MOST_PATIENCE)
    assert result(decided) is False


def test_only_those_who_have_an_opinion_on_an_action_are_asked() -> None:
    one, other = Source(NO, checks=frozenset({PUBLISH})), Source(YES, checks=frozenset({RECEIVE}))
    rules = control(one, other)
    assert rules.checks == {PUBLISH, RECEIVE}
    assert rules.authorize(ask("t", RECEIVE)) is True
    assert (one.asked, other.asked) == (0, 1)


def test_other_sources_void_what_was_decided_and_old_ones_are_closed() -> None:
    old, new = Source(YES), Source(NO)
    rules = control(old)
    rules.start()
    assert old.running
    epoch = rules.epoch
    rules.replace([new])
    assert rules.epoch > epoch
    assert (old.running, new.running) == (False, True)
    rules.stop()
    assert not new.running


# --- in shadow -------------------------------------------------------------------------


@pytest.mark.parametrize("later", [False, True])
def test_a_shadow_only_reports(later: bool) -> None:
    answer: Any = NO
    if later:
        answer = Deferred()
    rules = control(Source(YES), shadow=(Source(answer),))
    assert rules.authorize(ask("t")) is True
    if later:
        answer.callback(NO)
    assert rules.reports.total == 1
    assert rules.reports.counts == {("c1", "alice", PUBLISH, "t", "no"): 1}


def test_a_shadow_alone_leaves_everything_allowed() -> None:
    rules = control(shadow=(Source(None),))
    assert rules.authorize(ask("t")) is True
    assert rules.reports.total == 1


def test_explaining_counts_nothing() -> None:
    rules = control(Source(YES), shadow=(Source(NO),))
    assert rules.decide(ask("t")) == YES
    assert rules.decide_in_shadow(ask("t")) == NO
    assert rules.reports.total == 0


def test_reports_are_bounded_in_memory_and_in_the_log() -> None:
    rules = control(Source(YES), shadow=(Source(NO),))
    with capturedLogs() as events:
        for number in range(2 * MOST_REPORTS):
            rules.authorize(ask(f"t/{number}", client_id="evil\r\nline"))
    assert rules.reports.total == 2 * MOST_REPORTS
    assert len(rules.reports.counts) == MOST_REPORTS
    (line,) = map(formatEvent, events)
    assert "\r" not in line
    assert "\n" not in line


# --- claims ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "topic", "action", "allowed"),
    [
        ({"pub": ["a/%u"], "sub": ["b/#"]}, "a/alice", PUBLISH, True),
        ({"pub": ["a/%u"], "sub": ["b/#"]}, "b/x", RECEIVE, True),
        ({"pub": ["a/%u"], "sub": ["b/#"]}, "b/x", PUBLISH, None),
        ({"all": ["#"]}, "#", SUBSCRIBE, True),
        ([{"action": "publish", "topic": "a"}], "a", PUBLISH, True),
        (
            [
                {"permission": "deny", "action": "all", "topic": "a"},
                {"action": "all", "topic": "#"},
            ],
            "a",
            PUBLISH,
            False,
        ),
        ([{"action": "publish", "topic": "a", "qos": 1}], "a", PUBLISH, None),
        ([{"action": "publish", "topic": "a", "retain": False}], "a", PUBLISH, True),
        (None, "a", PUBLISH, None),
        ([], "a", PUBLISH, None),
    ],
)
def test_rules_in_a_claim(claim: Any, topic: str, action: str, allowed: bool | None) -> None:
    source = ClaimsSource("claim 'acl'", "acl")
    verifyObject(IRuleSource, source)
    claims = {} if claim is None else {"acl": claim}
    decision = source.decide(ask(topic, action, claims=claims))
    assert (None if decision is None else decision.allowed) is allowed


@pytest.mark.parametrize(
    "claim",
    [
        "all",
        1,
        True,
        {"pub": "a"},
        {"publish everything": ["#"]},
        {"pub": [1]},
        {"pub": ["a/#/b"]},
        ["a"],
        [{"action": "publish"}],
        [{"action": "read", "topic": "#"}],
        [{"action": ["publish"], "topic": "#"}],
        [{"permission": "yes", "action": "all", "topic": "#"}],
        [{"action": "all", "topic": "#", "qos": 3}],
        [{"action": "all", "topic": "#", "qos": True}],
        [{"action": "all", "topic": "#", "retain": 1}],
        [{"action": "all", "topic": "#", "address": "10.0.0.0/8"}],
        [{"action": "all", "topic": "a"}] * 1001,
    ],
)
def test_a_claim_that_is_no_list_of_rules_refuses(claim: Any) -> None:
    decision = ClaimsSource("claim", "acl").decide(ask("t", claims={"acl": claim}))
    assert decision is not None
    assert not decision.allowed


# --- from the settings ------------------------------------------------------------------------


RULE = '[[rule]]\nallow = "publish"\ntopics = ["{}"]\n'


def test_sources_are_made_in_order_and_shadows_apart(tmp_path: Path) -> None:
    (tmp_path / "acl.toml").write_text(RULE.format("a"))
    (tmp_path / "acl").write_text("topic b")
    sources, shadow = make_sources(
        (
            RuleFileSettings(path=str(tmp_path / "acl.toml")),
            ClaimsSettings(shadow=True),
            MosquittoFileSettings(name="m", path=str(tmp_path / "acl")),
        ),
        Surroundings(Clock(), Clock().seconds, 0.0),
    )
    assert [source.name for source in sources] == [str(tmp_path / "acl.toml"), "m"]
    assert [source.name for source in shadow] == ["claim 'acl'"]
    for source in sources:
        verifyObject(IRuleSource, source)


def test_a_file_that_went_wrong_leaves_the_old_rules(tmp_path: Path) -> None:
    path = tmp_path / "acl.toml"
    path.write_text(RULE.format("a"))
    settings = (RuleFileSettings(path=str(path)),)
    rules = control()
    assert change(rules, AccessSettings(), settings)
    for bad in ("", RULE.format("a/#/b"), "[[rule]", "rule = 3"):
        path.write_text(bad)
        with pytest.raises(ConfigError) as caught:
            change(rules, AccessSettings(decisions=7), settings)
        assert caught.value.lines()[0].startswith(f"mqttd: authorization[1]: {path}: ")
        assert rules.authorize(ask("a")) is True
        assert rules.authorize(ask("b")) is False
        assert rules.cache_size == 256
    path.write_text(RULE.format("b"))
    assert change(rules, AccessSettings(), settings)
    assert rules.authorize(ask("b")) is True
    assert rules.authorize(ask("a")) is False


@pytest.mark.parametrize("kind", [RuleFileSettings, MosquittoFileSettings])
def test_a_reload_without_a_file_descriptor_left_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    path = tmp_path / "acl"
    path.write_text(RULE.format("a") if kind is RuleFileSettings else "topic a")
    settings = (kind(path=str(path)),)
    rules = control()
    change(rules, AccessSettings(), settings)

    def no_descriptor(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Path, "read_text", no_descriptor)
    with pytest.raises(ConfigError, match="Too many open files"):
        change(rules, AccessSettings(), settings)
    assert rules.authorize(ask("a", user=None)) is True
    assert rules.authorize(ask("b", user=None)) is False


def test_nothing_changes_where_there_are_no_rules() -> None:
    rules = control()
    epoch = rules.epoch
    assert not change(rules, AccessSettings(), ())
    assert rules.epoch == epoch


# --- in the service ---------------------------------------------------------------------------


def service_of(path: Path, **more: Any) -> MQTTBroker:
    settings = BrokerSettings(authorization=(RuleFileSettings(path=str(path)),))
    return MQTTBroker(Clock(), settings, **more)


def test_the_service_puts_rules_in_force_and_changes_them(tmp_path: Path) -> None:
    path = tmp_path / "acl.toml"
    path.write_text(RULE.format("a"))
    service = service_of(path)
    authorizer = service.broker.authorizer
    assert authorizer.authorize(ask("a")) is True
    path.write_text(RULE.format("b"))
    changed = service.take_over(evolve(service.settings, access=AccessSettings(decisions=9)))
    assert "access rules" in changed.changed
    assert authorizer.authorize(ask("a")) is False
    assert authorizer.cache_size == 9  # type: ignore[attr-defined]
    path.write_text("")
    refused = service.take_over(evolve(service.settings, authorization=()))
    assert not refused.errors
    assert authorizer.checks == frozenset()


def test_a_service_with_rules_that_cannot_be_read_does_not_come_to_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"acl\.toml: cannot be read"):
        service_of(tmp_path / "acl.toml")


def test_a_program_gives_rules_or_an_authorizer_and_not_both(tmp_path: Path) -> None:
    path = tmp_path / "acl.toml"
    path.write_text(RULE.format("a"))
    with pytest.raises(ValueError, match="not both"):
        service_of(path, authorizer=control())
    service = MQTTBroker(Clock(), BrokerSettings(), authorizer=control(Source(NO)))
    changed = service.take_over(BrokerSettings(authorization=(RuleFileSettings(path=str(path)),)))
    assert changed.errors == ("authorization: the program's own authorizer decides",)
    assert service.settings.authorization == ()
    assert service.broker.authorizer.authorize(ask("a")) is False
