"""The router against the plain definition: a list of filters and ``matches``."""

from __future__ import annotations

import gc
import math
import time
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mqttd.broker.message import Message
from mqttd.broker.router import Plan, Router
from mqttd.broker.subscription import Subscription, Target
from mqttd.settings import SharedStrategy
from mqttd.wire.topics import matches, split_shared
from tests.conftest import examples

LEVELS = st.sampled_from(["a", "b", "", "$s"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
PLAIN_FILTERS = st.builds(
    lambda levels, tail: "/".join(levels + tail),
    st.lists(st.one_of(LEVELS, st.just("+")), max_size=3),
    st.sampled_from([[], ["#"]]),
).filter(bool)
FILTERS = st.one_of(
    PLAIN_FILTERS,
    st.builds(
        lambda prefix, inner: prefix + inner,
        st.sampled_from(["$share/g/", "$share/h/", "$queue/", "$share/$queue/"]),
        PLAIN_FILTERS,
    ),
)
CLIENTS = st.integers(0, 3)


class Session:
    def __init__(self, client_id: str, online: bool = True) -> None:
        self.client_id = client_id
        self.online = online
        self.inflight: list[int] = []

    def deliver(self, message: Message, target: Target, /) -> None:
        raise AssertionError("routing delivers nothing")


def inner(subscription: Subscription) -> str:
    return split_shared(subscription.topic_filter)[1]


def is_shared(subscription: Subscription) -> bool:
    return split_shared(subscription.topic_filter)[0] is not None


Options = tuple[int, bool, tuple[int, ...]]


def options(target: Target) -> Options:
    return target.qos, target.retain_as_published, tuple(sorted(target.identifiers))


def merged(subscriptions: list[Subscription]) -> Options | None:
    """What one client gets of *subscriptions*, by the words of the specification."""
    if not subscriptions:
        return None
    return (
        max(s.qos for s in subscriptions),
        any(s.retain_as_published for s in subscriptions),
        tuple(sorted(s.identifier for s in subscriptions if s.identifier)),
    )


class RouterMachine(RuleBasedStateMachine):
    """Any sequence of changes: a valid plan always says what the list says."""

    def __init__(self) -> None:
        super().__init__()
        self.router = Router(cache_size=6, source=Random(1))
        self.sessions = [Session(f"c{number}") for number in range(4)]
        self.model: dict[tuple[Session, str], Subscription] = {}
        self.plans: list[Plan] = []

    @rule(
        client=CLIENTS,
        topic_filter=FILTERS,
        qos=st.integers(0, 2),
        no_local=st.booleans(),
        retain_as_published=st.booleans(),
        identifier=st.integers(0, 3),
    )
    def subscribe(
        self,
        client: int,
        topic_filter: str,
        qos: int,
        no_local: bool,
        retain_as_published: bool,
        identifier: int,
    ) -> None:
        session = self.sessions[client]
        shared = split_shared(topic_filter)[0] is not None
        subscription = Subscription(
            session, topic_filter, qos, no_local and not shared, retain_as_published, identifier
        )
        replaced = self.router.subscribe(subscription)
        assert replaced is self.model.get((session, topic_filter))
        self.model[session, topic_filter] = subscription

    @rule(client=CLIENTS, topic_filter=FILTERS)
    def unsubscribe(self, client: int, topic_filter: str) -> None:
        session = self.sessions[client]
        gone = self.router.unsubscribe(session, topic_filter)
        assert gone is self.model.pop((session, topic_filter), None)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def unsubscribe_known(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.model) - 1))
        session, topic_filter = list(self.model)[index]
        assert self.router.unsubscribe(session, topic_filter) is self.model.pop(
            (session, topic_filter)
        )

    @rule(client=CLIENTS)
    def remove(self, client: int) -> None:
        session = self.sessions[client]
        self.router.remove_session(session)
        for key in [key for key in self.model if key[0] is session]:
            del self.model[key]

    @rule(topic=TOPICS)
    def plan(self, topic: str) -> None:
        plan = self.router.plan(topic)
        assert plan.valid
        assert plan.topic == topic
        self.plans.append(plan)

    @rule(client=CLIENTS, online=st.booleans())
    def session_online(self, client: int, online: bool) -> None:
        self.sessions[client].online = online
        self.router.session_online(self.sessions[client], online)

    @invariant()
    def valid_plans_are_right(self) -> None:
        self.plans = [plan for plan in self.plans if plan.valid]
        for plan in self.plans:
            self.check(plan)
        assert self.router.plan_count <= 6

    def check(self, plan: Plan) -> None:
        found = [s for s in self.model.values() if matches(inner(s), plan.topic)]
        plain: dict[str, list[Subscription]] = {}
        for subscription in found:
            if not is_shared(subscription):
                plain.setdefault(subscription.session.client_id, []).append(subscription)
        assert len(plan.targets) == len(plain)
        for target in plan.targets:
            subscriptions = plain[target.session.client_id]
            assert target.group is None
            own = target.own
            local = merged([s for s in subscriptions if not s.no_local])
            assert (None if own is None else options(own)) == local
            if not target.no_local:
                assert own is target
            assert options(target) == merged(subscriptions)
        members = {s for group in plan.groups for s in group.members}
        assert members == {s for s in found if is_shared(s)}
        assert len(plan.groups) == len({split_shared(s.topic_filter) for s in members})
        for group in plan.groups:
            online = sum(s.session.online for s in group.members)
            assert group.online_count == online
            assert all(s.group is group for s in group.members)

    @invariant()
    def counts_are_right(self) -> None:
        router = self.router
        assert len(router) == router.subscription_count == len(self.model)
        assert router.shared_count == sum(map(is_shared, self.model.values()))
        assert router.route_count == len({inner(s) for s in self.model.values()})
        assert sorted(router.topics()) == sorted({inner(s) for s in self.model.values()})
        assert set(router.subscriptions()) == set(self.model.values())
        total = sum(route.subscribers + sum(map(len, route.groups)) for route in router.routes())
        assert total == len(self.model)


RouterMachine.TestCase.settings = settings(max_examples=examples(0.6), stateful_step_count=40)
TestRouter = RouterMachine.TestCase


# --- statements ----------------------------------------------------------------


def receivers(router: Router, topic: str) -> list[str]:
    return sorted(target.session.client_id for target in router.plan(topic).targets)


def router_with(*filters: str) -> Router:
    """One client per filter, whose client id is the filter."""
    router = Router()
    for topic_filter in filters:
        router.subscribe(Subscription(Session(topic_filter), topic_filter))
    return router


def test_multi_level_wildcard_matches_the_parent_and_all_below() -> None:
    """[MQTT-4.7.1-1] [MQTT311-4.7.1-2]"""
    router = router_with("sport/tennis/player1/#")
    for topic in (
        "sport/tennis/player1",
        "sport/tennis/player1/ranking",
        "sport/tennis/player1/score/wimbledon",
    ):
        assert len(router.plan(topic).targets) == 1
    for topic in ("sport/tennis", "sport/tennis/player11", "sport/tennis/player2"):
        assert router.plan(topic).targets == ()


def test_single_level_wildcard_stands_for_one_level() -> None:
    """[MQTT-4.7.1-2] [MQTT311-4.7.1-3]"""
    router = router_with("sport/+", "+", "/+", "+/+", "+/tennis/#")
    assert receivers(router, "sport") == ["+"]
    assert receivers(router, "sport/") == ["+/+", "sport/+"]
    assert receivers(router, "/finance") == ["+/+", "/+"]
    assert receivers(router, "sport/tennis/x") == ["+/tennis/#"]


def test_leading_wildcards_do_not_match_dollar_topics() -> None:
    """[MQTT-4.7.2-1] [MQTT311-4.7.2-1]"""
    router = router_with("#", "+/monitor/Clients", "$SYS/#", "$SYS/monitor/+", "+")
    assert receivers(router, "$SYS/monitor/Clients") == ["$SYS/#", "$SYS/monitor/+"]
    assert receivers(router, "$SYS") == ["$SYS/#"]
    assert receivers(router, "a/$SYS") == ["#"]


def test_case_and_composition_of_characters_matter() -> None:
    """[MQTT-4.7.3-4] [MQTT311-4.7.3-4]"""
    router = router_with("ACCOUNTS", "Accounts", "caf\u00e9", "cafe\u0301", "/ACCOUNTS")
    for topic in ("ACCOUNTS", "Accounts", "caf\u00e9", "cafe\u0301", "/ACCOUNTS"):
        assert receivers(router, topic) == [topic]


def test_no_local_keeps_a_client_from_its_own_messages() -> None:
    """[MQTT-3.8.3-3]"""
    router = Router()
    session = Session("me")
    router.subscribe(Subscription(session, "a/b", 2, no_local=True))
    (target,) = router.plan("a/b").targets
    assert target.no_local
    assert target.own is None
    router.subscribe(Subscription(session, "a/+", 1))
    (target,) = router.plan("a/b").targets
    assert target.qos == 2
    assert target.own is not None
    assert target.own.qos == 1


def test_overlapping_subscriptions_give_one_copy_with_the_highest_qos() -> None:
    """[MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4] [MQTT311-3.3.5-1]"""
    router = Router()
    session = Session("me")
    router.subscribe(Subscription(session, "a/b", 0, identifier=3))
    router.subscribe(Subscription(session, "a/#", 2, identifier=3))
    router.subscribe(Subscription(session, "+/b", 1, identifier=4))
    router.subscribe(Subscription(session, "#", 1))
    (target,) = router.plan("a/b").targets
    assert target.qos == 2
    assert sorted(target.identifiers) == [3, 3, 4]


def test_the_same_filter_again_replaces_the_subscription() -> None:
    """[MQTT-3.8.4-3] [MQTT311-3.8.4-3]"""
    router = Router()
    session = Session("me")
    old, new = Subscription(session, "a/+", 0), Subscription(session, "a/+", 2)
    assert router.subscribe(old) is None
    plan = router.plan("a/b")
    assert router.subscribe(new) is old
    assert not plan.valid
    assert router.plan("a/b").targets == (new,)
    assert len(router) == 1


def test_unsubscribe_compares_filters_character_by_character() -> None:
    """[MQTT-3.10.4-1] [MQTT311-3.10.4-1]"""
    router = Router()
    session = Session("me")
    router.subscribe(Subscription(session, "a/+"))
    for other in ("a/#", "a/b", "A/+", "$share/g/a/+"):
        assert router.unsubscribe(session, other) is None
    assert router.unsubscribe(Session("me"), "a/+") is None
    assert len(router) == 1
    assert router.unsubscribe(session, "a/+") is not None
    assert router.plan("a/b").targets == ()


def test_shared_and_plain_subscriptions_of_one_filter_are_apart() -> None:
    router = Router(SharedStrategy.ROUND_ROBIN)
    session = Session("me")
    for topic_filter in ("$share/g/t/+", "$share/h/t/+", "$queue/t/+", "t/+"):
        router.subscribe(Subscription(session, topic_filter))
    plan = router.plan("t/x")
    assert len(plan.targets) == 1
    assert sorted(group.name for group in plan.groups) == ["$queue", "g", "h"]
    assert router.route_count == 1
    assert router.shared_count == 3


def test_a_shared_subscription_made_again_stays_one_member() -> None:
    router = Router()
    session = Session("me")
    old = Subscription(session, "$share/g/t", 0)
    new = Subscription(session, "$share/g/t", 2)
    router.subscribe(old)
    (group,) = router.plan("t").groups
    assert router.subscribe(new) is old
    assert router.plan("t").groups == (group,)
    assert list(group.members) == [new]
    assert group.pick(Message("t", b"x")) is new


# --- the cache -------------------------------------------------------------------


def test_a_change_leaves_other_plans_alone() -> None:
    router = Router()
    session = Session("me")
    plans = {topic: router.plan(topic) for topic in ("a/b", "a/c", "a", "b/c", "$a/b")}
    changes = {
        "a/b": {"a/b"},
        "x": set(),
        "a/#": {"a/b", "a/c", "a"},
        "+/c": {"a/c", "b/c"},
        "#": {"a/b", "a/c", "a", "b/c"},
        "$share/g/+/b": {"a/b"},
    }
    for topic_filter, concerned in changes.items():
        for subscribes in (True, False):
            if subscribes:
                router.subscribe(Subscription(session, topic_filter))
            else:
                router.unsubscribe(session, topic_filter)
            invalid = {topic for topic, plan in plans.items() if not plan.valid}
            if topic_filter == "#":
                # Everything is dropped at once, and this with it.
                invalid.discard("$a/b")
            assert invalid == concerned
            plans = {topic: router.plan(topic) for topic in plans}


def test_members_of_a_group_come_and_go_without_new_plans() -> None:
    router = Router()
    first, second = Session("1"), Session("2")
    router.subscribe(Subscription(first, "$share/g/t"))
    plan = router.plan("t")
    router.subscribe(Subscription(second, "$share/g/t"))
    router.unsubscribe(first, "$share/g/t")
    assert plan.valid
    assert router.plan("t") is plan
    (group,) = plan.groups
    assert [member.session for member in group.members] == [second]
    router.remove_session(second)
    assert not plan.valid
    assert router.plan("t").groups == ()


def test_the_least_recently_used_plan_leaves_the_cache_and_is_void() -> None:
    router = Router(cache_size=2)
    one, two = router.plan("1"), router.plan("2")
    assert router.plan("1") is one
    three = router.plan("3")
    assert (one.valid, two.valid, three.valid) == (True, False, True)
    assert router.plan_count == 2


def test_plans_of_many_receivers_do_not_fill_the_memory() -> None:
    router = Router(cache_weight=1000)
    for number in range(100):
        session = Session(f"c{number}")
        router.subscribe(Subscription(session, "#"))
        router.subscribe(Subscription(session, "a/#"))
    for number in range(50):
        assert len(router.plan(f"a/{number}").targets) == 100
    assert router.plan_count == 1
    # Where one filter alone matches, all plans share one tuple.
    plans = [router.plan(f"b/{number}") for number in range(50)]
    assert router.plan_count > 40
    assert len({id(plan.targets) for plan in plans}) == 1


@given(st.lists(TOPICS, min_size=1, max_size=30), st.integers(1, 4))
def test_the_cache_stays_within_its_size(names: list[str], size: int) -> None:
    router = Router(cache_size=size)
    plans = [router.plan(topic) for topic in names]
    assert router.plan_count == len({plan.topic for plan in plans if plan.valid}) <= size


# --- cost ------------------------------------------------------------------------


def _seconds_to_leave(count: int) -> float:
    """Of CPU; the least of three, without what the collector takes now and then."""
    best = math.inf
    for _ in range(3):
        router = Router()
        sessions = [Session(f"c{number}") for number in range(count)]
        for session in sessions:
            router.subscribe(Subscription(session, "fan/out"))
            router.subscribe(Subscription(session, "fan/+"))
            router.subscribe(Subscription(session, "$share/g/fan/out"))
        router.plan("fan/out")
        gc.disable()
        try:
            started = time.process_time()
            for session in sessions:
                router.remove_session(session)
            best = min(best, time.process_time() - started)
        finally:
            gc.enable()
        assert len(router) == router.route_count == 0
    return best


def test_leaving_a_popular_filter_is_not_quadratic() -> None:
    small, large = _seconds_to_leave(1000), _seconds_to_leave(8000)
    # Quadratic would be 64 times as much; the margin is for a busy machine.
    assert large < max(small, 0.001) * 32


def test_a_session_of_many_filters_leaves_at_once() -> None:
    router = Router()
    session = Session("me")
    for number in range(5000):
        router.subscribe(Subscription(session, f"x/{number}"))
        router.subscribe(Subscription(session, f"x/{number}/+/y"))
    assert router.route_count == 10_000
    router.remove_session(session)
    assert len(router) == router.route_count == 0
    assert router.subscriptions_of(session) == []
