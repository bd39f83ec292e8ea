"""Which member of a shared subscription gets a message."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttd.broker.message import Message
from mqttd.broker.shared import SharedGroup
from mqttd.broker.subscription import Subscription, Target
from mqttd.settings import SharedStrategy

ALL = pytest.mark.parametrize("strategy", list(SharedStrategy))


class Session:
    def __init__(self, client_id: str, online: bool = True, inflight: int = 0) -> None:
        self.client_id = client_id
        self.online = online
        self.inflight = [0] * inflight

    def deliver(self, message: Message, target: Target, /) -> None:
        raise AssertionError("routing delivers nothing")


def group_of(strategy: SharedStrategy, *sessions: Session) -> SharedGroup:
    group = SharedGroup("g", "t/#", strategy, Random(7))
    for session in sessions:
        group.add(Subscription(session, "$share/g/t/#"))
    return group


def member_of(group: SharedGroup, session: Session) -> Subscription:
    (subscription,) = (member for member in group.members if member.session is session)
    return subscription


def set_online(group: SharedGroup, session: Session, online: bool) -> None:
    session.online = online
    group.member_online(member_of(group, session), online)


def picks(group: SharedGroup, *messages: Message) -> list[str]:
    chosen = [group.pick(message) for message in messages]
    return [subscription.session.client_id for subscription in chosen if subscription]


def message(topic: str = "t/x", publisher: str | None = "p") -> Message:
    return Message(topic, b"x", publisher=publisher)


def sessions(count: int) -> list[Session]:
    return [Session(f"c{number:03}") for number in range(count)]


@ALL
def test_an_empty_group_picks_nobody(strategy: SharedStrategy) -> None:
    assert group_of(strategy).pick(message()) is None


@ALL
def test_one_member_gets_each_message(strategy: SharedStrategy) -> None:
    group = group_of(strategy, *sessions(3))
    chosen = picks(group, *(message(f"t/{n}", f"p{n}") for n in range(60)))
    assert len(chosen) == 60
    assert len(set(chosen)) == (1 if strategy is SharedStrategy.STICKY else 3)


@ALL
def test_members_online_are_preferred(strategy: SharedStrategy) -> None:
    members = [Session("a", online=False), Session("b"), Session("c", online=False)]
    group = group_of(strategy, *members)
    messages = [message(f"t/{n}", f"p{n}") for n in range(20)]
    assert set(picks(group, *messages)) == {"b"}
    set_online(group, members[1], False)
    set_online(group, members[2], True)
    assert set(picks(group, *messages)) == {"c"}


@ALL
def test_a_member_offline_gets_messages_when_nobody_is_online(strategy: SharedStrategy) -> None:
    group = group_of(strategy, Session("a", online=False), Session("b", online=False))
    assert len(picks(group, *(message(f"t/{n}") for n in range(10)))) == 10


def test_round_robin_gives_each_the_same() -> None:
    group = group_of(SharedStrategy.ROUND_ROBIN, *sessions(7))
    assert set(Counter(picks(group, *[message()] * 70)).values()) == {10}


def test_round_robin_goes_on_where_it_was_when_members_come_and_go() -> None:
    members = sessions(4)
    group = group_of(SharedStrategy.ROUND_ROBIN, *members)
    assert picks(group, message(), message()) == ["c000", "c001"]
    group.remove(member_of(group, members[0]))
    assert picks(group, message()) == ["c002"]
    group.add(Subscription(members[0], "$share/g/t/#"))
    assert picks(group, message(), message()) == ["c003", "c000"]


def test_random_spreads_over_all() -> None:
    group = group_of(SharedStrategy.RANDOM, *sessions(4))
    counts = Counter(picks(group, *[message()] * 4000))
    assert all(850 < count < 1150 for count in counts.values())
    assert len(counts) == 4


def test_sticky_stays_until_its_member_is_gone() -> None:
    members = sessions(5)
    group = group_of(SharedStrategy.STICKY, *members)
    (first,) = set(picks(group, *[message()] * 20))
    favourite = next(member for member in members if member.client_id == first)
    group.add(Subscription(Session("new"), "$share/g/t/#"))
    assert picks(group, message()) == [first]
    set_online(group, favourite, False)
    (second,) = set(picks(group, *[message()] * 20))
    assert second != first
    set_online(group, favourite, True)
    assert picks(group, message()) == [second]


def test_hash_of_the_client_keeps_a_publisher_with_one_member() -> None:
    group = group_of(SharedStrategy.HASH_CLIENT, *sessions(5))
    one = picks(group, *(message(f"t/{n}", "same") for n in range(20)))
    assert len(set(one)) == 1
    many = Counter(picks(group, *(message("t/x", f"p{n}") for n in range(500))))
    assert len(many) == 5
    assert min(many.values()) > 50
    assert len(picks(group, message("t", None))) == 1


def test_hash_of_the_topic_keeps_a_topic_with_one_member() -> None:
    group = group_of(SharedStrategy.HASH_TOPIC, *sessions(5))
    one = picks(group, *(message("t/1", f"p{n}") for n in range(20)))
    assert len(set(one)) == 1
    many = Counter(picks(group, *(message(f"t/{n}") for n in range(500))))
    assert len(many) == 5


def test_hashes_do_not_depend_on_process_or_order_of_joining() -> None:
    script = (
        "import sys; from tests.broker.test_shared import *\n"
        "members = sessions(5)[::int(sys.argv[1])]\n"
        "for s in (SharedStrategy.HASH_CLIENT, SharedStrategy.HASH_TOPIC):\n"
        "    print(picks(group_of(s, *members), *(message(f't/{n}', f'p{n}') for n in range(9))))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script, order],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": order.strip("-"), "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for order in ("1", "-1")
    }
    assert len(outputs) == 1
    assert outputs.pop().count(b"c00") == 18


def test_least_inflight_picks_who_has_fewest() -> None:
    members = [Session("a", inflight=3), Session("b", inflight=1), Session("c", inflight=2)]
    group = group_of(SharedStrategy.LEAST_INFLIGHT, *members)
    assert picks(group, message(), message()) == ["b", "b"]
    members[1].inflight.extend([0] * 9)
    assert picks(group, message()) == ["c"]


def test_least_inflight_takes_equals_in_turn() -> None:
    for load in (0, 2):
        members = [Session(f"c{number}", inflight=load) for number in range(4)]
        group = group_of(SharedStrategy.LEAST_INFLIGHT, *members)
        assert set(Counter(picks(group, *[message()] * 40)).values()) == {10}


def test_least_inflight_of_a_large_group_soon_finds_the_idle_ones() -> None:
    members = [Session(f"c{number:03}", inflight=9) for number in range(200)]
    members[150].inflight.clear()
    group = group_of(SharedStrategy.LEAST_INFLIGHT, *members)
    assert "c150" in picks(group, *[message()] * 7)


def test_each_member_has_the_qos_that_it_was_granted() -> None:
    """[MQTT-4.8.2-3]"""
    group = group_of(SharedStrategy.ROUND_ROBIN)
    for qos in range(3):
        group.add(Subscription(Session(f"c{qos}"), "$share/g/t/#", qos))
    chosen = [group.pick(message()) for _ in range(3)]
    assert [subscription.qos for subscription in chosen if subscription] == [0, 1, 2]


@given(
    st.sampled_from(list(SharedStrategy)),
    st.lists(st.tuples(st.sampled_from("jloup"), st.integers(0, 5)), max_size=60),
)
def test_any_history_leaves_a_group_that_picks_rightly(
    strategy: SharedStrategy, history: list[tuple[str, int]]
) -> None:
    # Sessions 4 and 5 share a client id, as in the middle of a take-over.
    pool = [Session(f"c{min(number, 4)}") for number in range(6)]
    members = [Subscription(session, "$share/g/t/#") for session in pool]
    group = group_of(strategy)
    model: set[Session] = set()
    for action, number in history:
        session, member = pool[number], members[number]
        if action == "j":
            group.add(member)
            model.add(session)
        elif action == "l":
            group.remove(member)
            model.discard(session)
        elif action in "ou":
            session.online = action == "o"
            group.member_online(member, session.online)
        chosen = group.pick(message())
        if not model:
            assert chosen is None
        else:
            assert chosen is not None
            assert chosen.session in model
            assert chosen.session.online or not any(member.online for member in model)
        assert len(group) == len(model)
        assert group.online_count == sum(member.online for member in model)


@ALL
def test_a_message_costs_the_same_in_a_large_group(strategy: SharedStrategy) -> None:
    """Members looked at for one message do not grow with the group."""
    looked_at = 0

    class Counting(Session):
        @property
        def client_id(self) -> str:
            nonlocal looked_at
            looked_at += 1
            return self._client_id

        @client_id.setter
        def client_id(self, value: str) -> None:
            self._client_id = value

        @property
        def inflight(self) -> list[int]:
            nonlocal looked_at
            looked_at += 1
            return [0]

        @inflight.setter
        def inflight(self, value: list[int]) -> None:
            pass

    group = group_of(strategy, *(Counting(f"c{number:04}") for number in range(2000)))
    group.pick(message())
    looked_at = 0
    for _ in range(10):
        group.pick(message())
    assert looked_at <= 10 * 40
