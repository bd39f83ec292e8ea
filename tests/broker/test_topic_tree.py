"""Trees of topics and of filters, against the plain definition of matching."""

from __future__ import annotations

import tracemalloc
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from mqttd.broker.topic_tree import FilterTree, TopicTree
from mqttd.wire.topics import matches
from tests.conftest import examples

LEVELS = st.sampled_from(["a", "b", "c", "", "$s", "$"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=5).map("/".join).filter(bool)
FILTERS = st.builds(
    lambda levels, tail: "/".join(levels + tail),
    st.lists(st.one_of(LEVELS, st.just("+")), max_size=4),
    st.sampled_from([[], ["#"]]),
).filter(bool)
CHANGES = st.lists(st.tuples(st.booleans(), TOPICS), max_size=40)


def itself(name: str) -> str:
    return name


def topics(*names: str) -> TopicTree[str]:
    tree: TopicTree[str] = TopicTree(itself)
    for name in names:
        tree.set(name)
    return tree


@given(CHANGES, st.lists(FILTERS, min_size=1, max_size=5))
def test_finds_what_a_set_of_topics_would_find(
    changes: list[tuple[bool, str]], filters: list[str]
) -> None:
    tree = topics()
    model: set[str] = set()
    for add, name in changes:
        if add:
            assert tree.set(name) == (name if name in model else None)
            model.add(name)
        else:
            assert tree.delete(name) == (name if name in model else None)
            model.discard(name)
        assert len(tree) == len(model)
        assert tree.get(name) == (name if name in model else None)
    assert sorted(tree) == sorted(model)
    for topic_filter in filters:
        found = list(tree.match(topic_filter))
        assert sorted(found) == sorted(name for name in model if matches(topic_filter, name))


@given(st.sets(TOPICS, max_size=30), FILTERS)
def test_popping_takes_out_what_matches_and_nothing_else(
    names: set[str], topic_filter: str
) -> None:
    tree = topics(*names)
    popped = tree.pop_matching(topic_filter)
    assert sorted(popped) == sorted(name for name in names if matches(topic_filter, name))
    assert sorted(tree) == sorted(names - set(popped))
    assert len(tree) == len(names) - len(popped)
    for name in names:
        tree.set(name)
        assert tree.get(name) == name


@given(st.lists(st.tuples(st.booleans(), FILTERS), max_size=40), TOPICS)
def test_filters_are_found_by_topic(changes: list[tuple[bool, str]], topic: str) -> None:
    tree: FilterTree[str] = FilterTree(itself)
    model: set[str] = set()
    for add, topic_filter in changes:
        if add:
            tree.set(topic_filter)
            model.add(topic_filter)
        else:
            tree.delete(topic_filter)
            model.discard(topic_filter)
    assert sorted(tree.matching(topic)) == sorted(f for f in model if matches(f, topic))


def test_an_empty_tree_is_empty_again_after_use() -> None:
    names = ["a", "a/b", "a/b/c/d", "a/b/x", "", "/", "/a"]
    tree = topics(*names)
    for name in names:
        tree.delete(name)
    assert len(tree) == 0
    assert list(tree) == []
    assert not tree._root.children


@settings(max_examples=examples(5))
@given(st.sets(TOPICS, max_size=20), CHANGES, FILTERS, st.integers(1, 5))
def test_a_walk_survives_changes(
    names: set[str], changes: list[tuple[bool, str]], topic_filter: str, pace: int
) -> None:
    """What stays comes once; what has gone does not come any more."""
    tree = topics(*names)
    present = set(names)
    steady = set(names)
    found: list[str] = []
    walk = tree.match(topic_filter)
    waiting = list(changes)
    while True:
        for add, name in waiting[:pace]:
            if add:
                tree.set(name)
                present.add(name)
            else:
                tree.delete(name)
                present.discard(name)
                steady.discard(name)
        del waiting[:pace]
        name_found = next(walk, None)
        if name_found is None:
            break
        assert name_found in present
        assert matches(topic_filter, name_found)
        found.append(name_found)
    for name in steady:
        if matches(topic_filter, name):
            assert found.count(name) == 1


@settings(max_examples=examples(3))
@given(
    st.sets(st.lists(st.sampled_from("ab"), min_size=1, max_size=6).map("/".join), min_size=4),
    st.randoms(use_true_random=False),
    st.sampled_from(["#", "a/#", "+/+/#", "+/b/+"]),
)
def test_a_walk_finds_nothing_that_has_gone_from_nodes_that_have_gone(
    names: set[str], random: Random, topic_filter: str
) -> None:
    tree = topics(*names)
    walk = tree.match(topic_filter)
    present = set(names)
    found: list[str] = []
    while (name_found := next(walk, None)) is not None:
        assert name_found in present
        found.append(name_found)
        for name in random.sample(sorted(present), min(len(present), 3)):
            tree.delete(name)
            present.remove(name)
    assert {name for name in present if matches(topic_filter, name)} <= set(found)
    assert len(found) == len(set(found))
    assert sorted(tree) == sorted(present)


def test_a_walk_survives_the_growth_of_a_wide_level() -> None:
    names = [f"t/{number}" for number in range(900)]
    tree = topics(*names)
    walk = tree.match("t/+")
    found = [next(walk) for _ in range(10)]
    for number in range(900, 40_000):
        tree.set(f"t/{number}")
    for name in names[:800]:
        tree.delete(name)
    found.extend(walk)
    assert len(found) == len(set(found))
    assert set(names[800:]) <= set(found)
    assert sum(1 for _ in tree.match("#")) == len(tree) == 40_000 - 800


def test_a_wide_level_is_walked_without_copying_it() -> None:
    tree = topics(*(f"t/{number}" for number in range(20_000)))
    walk = tree.match("t/#")
    first = next(walk)
    others = [f"t/{number}" for number in range(20_000) if f"t/{number}" != first]
    for name in others:
        tree.delete(name)
    assert list(walk) == []


def test_a_fruitless_search_takes_breath() -> None:
    tree = topics(*(f"{number}/a" for number in range(5000)))
    steps = list(tree.walk("+/b"))
    assert len(steps) > 10
    assert set(steps) == {None}


def test_names_of_very_many_levels() -> None:
    deep = "/".join("a" * 1 for _ in range(5000))
    tree = topics(deep, deep + "/b", deep + "/c")
    assert sorted(tree.match("#")) == [deep, deep + "/b", deep + "/c"]
    assert list(tree.match("+/" * 4999 + "+")) == [deep]
    assert tree.pop_matching(deep + "/#") == [deep, deep + "/b", deep + "/c"]
    assert not tree._root.children


def test_long_paths_in_common_cost_no_more_than_their_names() -> None:
    """Pairs of deep topics, and a topic from which others parted at each level."""
    middle = "/x" * 120
    pairs = [f"{number}{middle}/{end}" for number in range(300) for end in "ab"]
    tracemalloc.start()
    tree = topics(*pairs)
    base = "long" + middle
    tree.set(base)
    parted = [base[: 4 + 2 * depth] + "/y" for depth in range(120)]
    for name in parted:
        tree.set(name)
    assert sorted(tree.match("long/#")) == sorted([base, *parted])
    for name in parted:
        tree.delete(name)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 1000 * len(pairs)
    assert list(tree.match("long/#")) == [base]


def test_levels_are_compared_character_by_character() -> None:
    """[MQTT-4.7.3-4] [MQTT311-4.7.3-4]"""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    tree = topics(composed, decomposed, "Caf\u00e9")
    assert list(tree.match(composed)) == [composed]
    filters: FilterTree[str] = FilterTree(itself)
    filters.set(composed + "/#")
    assert filters.matching(decomposed) == []


def test_many_filters_of_wildcards_cost_no_more_than_their_nodes() -> None:
    """A storm of wildcards: every pattern of "a" and "+" over ten levels."""
    tree: FilterTree[str] = FilterTree(itself)
    for number in range(1024):
        tree.set("/".join("+" if number >> bit & 1 else "a" for bit in range(10)) + "/x")
    deep = "a/" * 10
    assert len(tree.matching(deep + "x")) == 1024
    assert tree.matching(deep + "y") == []
    for levels in range(2, 130):
        tree.set("+/" * levels + "#")
    assert len(tree.matching("b/" * 200 + "b")) == 128
