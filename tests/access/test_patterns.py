from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mqttd.access.patterns import Pattern, PatternError, covers, overlaps
from mqttd.wire.topics import check_topic_filter, matches
from tests.access.support import ask
from tests.bad_input.support import instructions

#: The machine may have others to serve.
BUSY = settings(suppress_health_check=[HealthCheck.too_slow])

LEVELS = ("a", "b", "", "$s", "+", "#")
#: Every topic of up to four levels, with a level that no filter names.
TOPICS = [
    topic
    for n in (1, 2, 3, 4)
    for topic in map("/".join, product(("a", "b", "", "$s", "z"), repeat=n))
    if topic
]
FILTERS = [
    text
    for n in (1, 2, 3)
    for text in map("/".join, product(LEVELS, repeat=n))
    if text and check_topic_filter(text, 99, 99) is None
]


@BUSY
@given(st.sampled_from(FILTERS), st.sampled_from(FILTERS))
def test_a_filter_is_compared_by_the_topics_that_it_matches(one: str, other: str) -> None:
    mine, theirs = ({topic for topic in TOPICS if matches(text, topic)} for text in (one, other))
    assert overlaps(one.split("/"), other.split("/")) is (not mine.isdisjoint(theirs))
    # It may err on the side of no: "+/#" does cover "#", and is not said to.
    if covers(one.split("/"), other.split("/")):
        assert theirs <= mine


@BUSY
@given(st.sampled_from(FILTERS), st.sampled_from(TOPICS))
def test_a_topic_is_covered_when_it_matches(pattern: str, topic: str) -> None:
    assert covers(pattern.split("/"), topic.split("/")) is matches(pattern, topic)
    assert overlaps(pattern.split("/"), topic.split("/")) is matches(pattern, topic)


@pytest.mark.parametrize(
    ("pattern", "topic_filter", "covered", "overlapping"),
    [
        ("a/#", "a/#", True, True),
        ("a/#", "a", True, True),
        ("a/#", "a/+/c", True, True),
        ("a/#", "#", False, True),
        ("a/+", "a/#", False, True),
        ("a/+", "a/+", True, True),
        ("a/b", "a/+", False, True),
        ("a/+/#", "a/+", True, True),
        ("a/b/#", "a", False, False),
        ("#", "$SYS/#", False, False),
        ("+/a", "$SYS/a", False, False),
        ("$SYS/#", "#", False, False),
        ("$SYS/#", "$SYS/broker/+", True, True),
        ("#", "+/+", True, True),
        ("+/+", "#", False, True),
        ("a", "b", False, False),
        ("a/#", "b/#", False, False),
        ("/a", "/+", False, True),
    ],
)
def test_filters_against_filters(
    pattern: str, topic_filter: str, covered: bool, overlapping: bool
) -> None:
    assert covers(pattern.split("/"), topic_filter.split("/")) is covered
    assert overlaps(pattern.split("/"), topic_filter.split("/")) is overlapping


@pytest.mark.parametrize(
    ("text", "fields", "filled"),
    [
        ("a/%u/b", {}, "a/alice/b"),
        ("%c", {}, "c1"),
        ("x-%c-%u/%u", {}, "x-c1-alice/alice"),
        ("t/%{tenant}/#", {"claims": {"tenant": "acme"}}, "t/acme/#"),
        ("t/%{org.unit}", {"claims": {"org": {"unit": 7}}}, "t/7"),
        ("t/%{https://x.y/z}", {"claims": {"https://x.y/z": "v"}}, "t/v"),
        ("100%%/%u", {}, "100%/alice"),
        ("%u", {"user": "%c"}, "%c"),
        ("$x%u", {}, "$xalice"),
        ("a//b", {}, "a//b"),
    ],
)
def test_place_holders(text: str, fields: dict[str, Any], filled: str) -> None:
    assert list(Pattern(text).fill(ask("t", **fields)) or ()) == filled.split("/")


@pytest.mark.parametrize("bad", ["", "+", "#", "a/b", "/", "a+", "a#", "x\0y", None])
@pytest.mark.parametrize("text", ["%u", "home/%u/#", "sensor-%u", "%{name}/x"])
def test_a_name_never_widens_a_pattern(text: str, bad: str | None) -> None:
    request = ask("t", user=bad, claims={"name": bad})
    assert Pattern(text).fill(request) is None
    denied = Pattern(text).fill(request, deny=True)
    assert denied is not None
    assert "+" in denied
    assert len(denied) == len(text.split("/"))


@pytest.mark.parametrize("value", [True, 1.5, ["a"], {"a": 1}])
def test_only_texts_and_whole_numbers_stand_for_a_claim(value: object) -> None:
    assert Pattern("%{x}").fill(ask("t", claims={"x": value})) is None


def test_a_name_makes_no_dollar_topic() -> None:
    assert Pattern("%u/#").fill(ask("t", user="$SYS")) is None
    assert Pattern("a/%u/#").fill(ask("t", user="$SYS")) == ["a", "$SYS", "#"]
    assert Pattern("$SYS/%u").fill(ask("t", user="$x")) == ["$SYS", "$x"]


@pytest.mark.parametrize(
    "text", ["", "a/%x", "%", "a%", "%{}", "a/#/b", "a+", "$share/g/a", "$queue/a", "a\0", "%{a"]
)
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(PatternError):
        Pattern(text)


def test_no_pattern_takes_more_than_a_look_at_each_level() -> None:
    """What made a regular expression explode elsewhere is a short walk here."""
    pattern = Pattern("/".join(["+"] * 200) + "/x")
    topic = ["a"] * 200 + ["y"]
    assert pattern.levels is not None
    levels = pattern.levels

    def look() -> None:
        assert not covers(levels, topic)
        assert not overlaps(levels, topic)

    assert instructions(look) < 100 * len(topic)
