"""Topic names and filters: validity, shared subscriptions, matching."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttd.wire.codes import ReasonCode
from mqttd.wire.errors import ProtocolViolation
from mqttd.wire.topics import check_topic_filter, check_topic_name, matches, split_shared

INVALID_FILTER = ReasonCode.TOPIC_FILTER_INVALID
INVALID_NAME = ReasonCode.TOPIC_NAME_INVALID


@pytest.mark.statement("MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT311-4.7.1-2", "MQTT311-4.7.1-3")
@pytest.mark.parametrize(
    "topic_filter",
    [
        *("a", "/", "//", "a/", "/a", "#", "+", "+/+", "/+", "+/#", "a/#", "a/+/b", "+/a/#", " "),
        *("$SYS/#", "$SYS/+", "$share", "$queue", "$shared/x", "ä/+", "\ufeffa"),
        *("$share/g/a", "$share/g/#", "$share/g/+/a", "$share/g//", "$share/g/$SYS/#"),
        *("$queue/a", "$queue/#"),
    ],
)
def test_valid_filters(topic_filter: str) -> None:
    assert check_topic_filter(topic_filter, 10, 100) is None


@pytest.mark.statement("MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT311-4.7.1-2", "MQTT311-4.7.1-3")
@pytest.mark.parametrize(
    "topic_filter",
    ["a/#/b", "#/a", "a#", "#a", "##", "+a", "a+", "++", "a/b+", "a/+b/c", "a/#/", "/#/#", "+#"],
)
def test_item38_misplaced_wildcards(topic_filter: str) -> None:
    assert check_topic_filter(topic_filter, 10, 100) == INVALID_FILTER
    assert check_topic_filter(f"$share/g/{topic_filter}", 10, 100) == INVALID_FILTER
    assert check_topic_filter(f"$queue/{topic_filter}", 10, 100) == INVALID_FILTER


@pytest.mark.statement("MQTT-4.8.2-1", "MQTT-4.8.2-2")
@pytest.mark.parametrize(
    "topic_filter",
    [
        *("$share/", "$share/ab", "$share//x", "$share/+/x", "$share/#/x", "$share/g+/x"),
        *("$share/g#/x", "$share/g/", "$share/#", "$share/g/$share/h/x", "$share/g/$queue/x"),
        *("$queue/", "$queue/$queue/x", "$queue/$share/g/x"),
    ],
)
def test_item38_bad_shared_subscriptions(topic_filter: str) -> None:
    assert check_topic_filter(topic_filter, 10, 100) == INVALID_FILTER
    with pytest.raises(ProtocolViolation) as caught:
        split_shared(topic_filter)
    assert caught.value.reason == INVALID_FILTER


@pytest.mark.parametrize(
    ("topic_filter", "parts"),
    [
        ("a/b", (None, "a/b")),
        ("$share", (None, "$share")),
        ("$shared/g/x", (None, "$shared/g/x")),
        ("$share/g/a/#", ("g", "a/#")),
        ("$share/g//", ("g", "/")),
        ("$share/g/$SYS/#", ("g", "$SYS/#")),
        ("$share/$queue/a", ("$queue", "a")),
        ("$queue", (None, "$queue")),
        ("$queue/a/+", ("$queue", "a/+")),
    ],
)
def test_shared_subscriptions_are_taken_apart(
    topic_filter: str, parts: tuple[str | None, str]
) -> None:
    assert split_shared(topic_filter) == parts


@pytest.mark.statement(
    "MQTT-4.7.3-1", "MQTT-4.7.3-2", "MQTT-4.7.3-3",
    "MQTT311-4.7.3-1", "MQTT311-4.7.3-2", "MQTT311-4.7.3-3",
)  # fmt: skip
@pytest.mark.parametrize("topic", ["", "a\0b", "\0", "x" * 65_536, "ä" * 32_768])
def test_neither_names_nor_filters(topic: str) -> None:
    assert check_topic_name(topic, 1 << 20, 1 << 20) == INVALID_NAME
    assert check_topic_filter(topic, 1 << 20, 1 << 20) == INVALID_FILTER


@pytest.mark.statement("MQTT-4.7.0-1", "MQTT-3.3.2-2", "MQTT311-4.7.1-1", "MQTT311-3.3.2-2")
@pytest.mark.parametrize("topic", ["+", "#", "a/+", "a/#", "a+b", "a#"])
def test_wildcards_in_names(topic: str) -> None:
    assert check_topic_name(topic, 10, 100) == INVALID_NAME


@pytest.mark.parametrize("topic", ["a", "/", "a//b", "$SYS/x", "ä", "\ufeff", "x" * 100])
def test_valid_names(topic: str) -> None:
    assert check_topic_name(topic, 10, 100) is None


def test_item37_levels_and_bytes_are_capped() -> None:
    assert check_topic_name("a/b/c", 3, 100) is None
    assert check_topic_name("a/b/c/d", 3, 100) == INVALID_NAME
    assert check_topic_name("/" * 65_535, 128, 65_535) == INVALID_NAME
    assert check_topic_filter("+/+/#", 3, 100) is None
    assert check_topic_filter("+/+/+/#", 3, 100) == INVALID_FILTER
    assert check_topic_filter("$share/g/+/+/#", 3, 100) is None
    assert check_topic_filter("$share/g/+/+/+/#", 3, 100) == INVALID_FILTER
    assert check_topic_name("ä" * 50, 3, 100) is None
    assert check_topic_name("ä" * 51, 3, 100) == INVALID_NAME
    assert check_topic_filter("$share/g/aaa", 3, 11) == INVALID_FILTER


@pytest.mark.statement("MQTT-4.7.3-4", "MQTT311-4.7.3-4")
@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        *(("a", "a"), ("a/b", "a/b"), ("/", "/"), ("a/", "a/"), ("+", "a"), ("+", "")),
        *(("+/+", "/a"), ("/+", "/a"), ("a/+/c", "a/b/c"), ("a/+", "a/"), ("#", "a"), ("#", "/")),
        *(("#", "a/b/c"), ("a/#", "a"), ("a/#", "a/b"), ("a/#", "a/b/c"), ("a/#", "a/")),
        *(
            ("+/#", "a"),
            ("+/#", "a/b"),
            ("$SYS/#", "$SYS"),
            ("$SYS/#", "$SYS/a"),
            ("$SYS/+", "$SYS/a"),
        ),
        *(("a/$b", "a/$b"), ("a/+", "a/$b"), ("a/#", "a/$b"), ("+/$b", "a/$b")),
    ],
)
def test_matches(topic_filter: str, topic: str) -> None:
    assert matches(topic_filter, topic)


@pytest.mark.statement("MQTT-4.7.3-4", "MQTT311-4.7.3-4")
@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        *(("a", "A"), ("a", "a/"), ("a/", "a"), ("a", "/a"), ("a", "b"), ("+", "/a"), ("+", "a/b")),
        *(
            ("a/+", "a"),
            ("a/+", "a/b/c"),
            ("+/b", "a/c"),
            ("a/b/#", "a"),
            ("a/#", "ab"),
            ("a/#", "b/a"),
        ),
        *(("ä", "a\u0308"), ("\ufeffa", "a"), ("a ", "a")),
    ],
)
def test_does_not_match(topic_filter: str, topic: str) -> None:
    assert not matches(topic_filter, topic)


@pytest.mark.statement("MQTT-4.7.2-1", "MQTT311-4.7.2-1")
@pytest.mark.parametrize("topic_filter", ["#", "+", "+/#", "+/a", "+/+"])
@pytest.mark.parametrize("topic", ["$SYS", "$SYS/a", "$x/a", "$/a", "$"])
def test_item44_a_leading_wildcard_never_matches_a_dollar_topic(
    topic_filter: str, topic: str
) -> None:
    assert not matches(topic_filter, topic)


LEVELS = st.lists(st.sampled_from(["", "a", "b", "$a", "+", "#"]), min_size=1, max_size=5)


@given(
    topic_filter=LEVELS.map("/".join),
    topic=st.lists(st.sampled_from(["", "a", "b", "$a"]), min_size=1, max_size=5).map("/".join),
)
def test_matching_agrees_with_a_regular_expression(topic_filter: str, topic: str) -> None:
    if not topic or check_topic_filter(topic_filter, 10, 100) is not None:
        return
    pattern = "/".join(
        "[^/]*" if level == "+" else re.escape(level) for level in topic_filter.split("/")
    )
    if topic_filter == "#":
        pattern = ".*"
    elif topic_filter.endswith("/#"):
        pattern = pattern.removesuffix(re.escape("/#").replace("/", "/")) + "(/.*)?"
    expected = re.fullmatch(pattern, topic) is not None
    if topic.startswith("$") and topic_filter[:1] in "+#":
        expected = False
    assert matches(topic_filter, topic) == expected
