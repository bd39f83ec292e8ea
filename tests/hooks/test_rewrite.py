"""Topic rewrite, as publishers and subscribers see it."""

from __future__ import annotations

from typing import Any

import pytest

from mqttd.hooks.rewrite import RewriteSettings, Rule, TopicRewrite
from mqttd.interfaces import PUBLISH, SUBSCRIBE
from mqttd.settings import SettingError
from mqttd.testing import VirtualBroker
from mqttd.wire.packets import Will
from tests.broker.doubles import Rules
from tests.hooks.conftest import Use


def rewrite(*rules: Rule) -> TopicRewrite:
    return TopicRewrite(RewriteSettings(rules))


def published(virtual: VirtualBroker, topic: str) -> list[str]:
    """Under which topics a message arrives."""
    everything = virtual.connect("everything")
    everything.subscribe("#")
    virtual.connect("publisher").publish(topic, b"1", 1)
    return [message.topic for message in everything.messages()]


@pytest.mark.parametrize(
    ("rule", "topic", "written"),
    [
        (Rule("old/#", "new/$1"), "old/a/b", "new/a/b"),
        (Rule("old/#", "new/$1"), "older/a", "older/a"),
        (Rule("+/x/+", "$2/$1"), "a/x/b", "b/a"),
        (Rule("+/x/+", "$2/$1"), "a/x/b/c", "a/x/b/c"),
        (Rule("a.b/#", "c/$1"), "a.b/d", "c/d"),
        (Rule("a.b/#", "c/$1"), "axb/d", "axb/d"),
        (Rule("y/+/z/#", "y/z/$2", r"y/(.+)/z/(.+)"), "y/a/z/b/c", "y/z/b/c"),
        (Rule("y/#", "n/$1", r"y/(\d+)"), "y/12", "n/12"),
        (Rule("y/#", "n/$1", r"y/(\d+)"), "y/12a", "y/12a"),
        (Rule("y/#", "gone", on=(SUBSCRIBE,)), "y/12", "y/12"),
    ],
)
def test_a_published_topic_is_rewritten(use: Use, rule: Rule, topic: str, written: str) -> None:
    assert published(use(rewrite(rule)), topic) == [written]


def test_the_first_rule_that_fits_decides(use: Use) -> None:
    virtual = use(rewrite(Rule("a/#", "b/$1"), Rule("a/x", "c"), Rule("b/#", "d/$1")))
    assert published(virtual, "a/x") == ["b/x"]


def test_subscriptions_follow_the_same_rules(use: Use) -> None:
    virtual = use(rewrite(Rule("old/#", "new/$1", on=(SUBSCRIBE,))))
    client = virtual.connect("x")
    client.subscribe("old/+/t", "$share/g/old/s", "other")
    session = virtual.broker.sessions.get("x")
    assert session is not None
    assert list(session.subscriptions) == ["new/+/t", "$share/g/new/s", "other"]
    assert client.unsubscribe("old/+/t", "$share/g/old/s").reasons == [0, 0]
    assert list(session.subscriptions) == ["other"]


def test_rights_are_looked_at_under_the_new_name(use: Use) -> None:
    rules = Rules((PUBLISH, "new/secret"), (SUBSCRIBE, "new/secret"), (PUBLISH, "old/open"))
    virtual = use(rewrite(Rule("old/#", "new/$1")), authorizer=rules)
    client = virtual.connect("x")
    denied = client.publish("old/secret", qos=1)
    assert denied is not None
    assert denied.reason == 0x87
    assert client.subscribe("old/secret").reasons == [0x87]
    allowed = client.publish("old/open", qos=1)
    assert allowed is not None
    assert allowed.reason < 0x80


def test_wills_are_rewritten(use: Use) -> None:
    virtual = use(rewrite(Rule("old/#", "new/$1")))
    watcher = virtual.connect("watcher")
    watcher.subscribe("#")
    virtual.connect("x", will=Will("old/will", b"1")).drop()
    assert [message.topic for message in watcher.messages()] == ["new/will"]


def test_nobody_can_write_what_he_could_not_send(use: Use) -> None:
    virtual = use(rewrite(Rule("in/#", "$1")))
    client = virtual.connect("x")
    client.subscribe("#")
    for topic in ("in/$SYS/x", "in/"):
        answer = client.publish(topic, qos=1)
        assert answer is not None
        assert answer.reason >= 0x80
    assert client.messages() == []


def test_other_topics_keep_the_fast_lane(use: Use) -> None:
    virtual = use(rewrite(Rule("old/#", "new/$1")))
    assert not virtual.broker.hooks.blocks_lane
    client = virtual.connect("x")
    client.publish("other")
    client.publish("old/x")
    routes = virtual.broker.connections["x"].routes
    assert routes is not None
    assert list(routes[0]) == [b"\0\5other"]


@pytest.mark.parametrize(
    ("wrong", "allowed"),
    [
        ({"filter": "a/#/b", "topic": "x"}, "a topic filter"),
        ({"filter": "$share/g/a", "topic": "x"}, "a topic filter"),
        ({"filter": "a/+"}, "the topic to write"),
        ({"filter": "a/+", "topic": "$2"}, r"a topic with \$1 to \$1"),
        ({"filter": "a", "topic": "$1"}, r"a topic without \$1"),
        ({"filter": "a", "topic": "b", "pattern": "("}, "a regular expression"),
        ({"filter": "a", "topic": "b", "on": ("receive",)}, '"publish" and "subscribe"'),
    ],
)
def test_a_rule_that_cannot_work_is_told(wrong: dict[str, Any], allowed: str) -> None:
    with pytest.raises(SettingError, match=allowed):
        Rule(**wrong)
