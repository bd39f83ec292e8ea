"""The router: which subscriptions get a message on this topic.

Sessions subscribe and unsubscribe here; the publish service asks for the
``Plan`` of a topic. Filters without wildcards are looked up in a dict, the
others stand in a tree of levels (``topic_tree``). Filters are valid when they
get here. Who may subscribe, and how a message is delivered, is known elsewhere.

Plans are cached, least recently used go first. A plan that is not ``valid`` any
more (a subscription that matters to it changed, or it left the cache) is
replaced by asking again; one that is valid may be used without asking.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain
from operator import attrgetter
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from mqttd.broker.shared import SharedGroup
from mqttd.broker.subscription import Subscription, Target, merge
from mqttd.broker.topic_tree import FilterTree, TopicTree
from mqttd.settings import SharedStrategy
from mqttd.wire.topics import split_shared

if TYPE_CHECKING:
    from mqttd.broker.roles import Subscriber

__all__ = ["Plan", "RouteInfo", "Router", "SharedGroup", "Subscription", "Target"]


class Plan:
    """Where messages on one topic go."""

    __slots__ = ("groups", "judged", "targets", "topic", "valid", "weight")

    def __init__(
        self,
        topic: str,
        targets: tuple[Target, ...],
        groups: tuple[SharedGroup, ...],
        weight: int,
    ) -> None:
        self.topic = topic
        #: One per session, in no order that means anything.
        self.targets = targets
        #: Each picks one member of its own.
        self.groups = groups
        #: False: ask the router again.
        self.valid = True
        #: References that this plan holds alone.
        self.weight = weight
        #: For the fast lane: QoS -> epoch of the rules, and targets by those rules.
        self.judged: dict[int, tuple[int, tuple[Target, ...]]] | None = None


class RouteInfo(NamedTuple):
    """One filter that somebody subscribes to, for administration."""

    #: Without $share/<group>/.
    topic_filter: str
    #: Sessions that subscribe to it for themselves.
    subscribers: int
    groups: tuple[SharedGroup, ...]


class _Subscribers:
    """All subscriptions to one filter, when they are more than a single plain one."""

    __slots__ = ("_targets", "groups", "members", "topic_filter")

    def __init__(self, topic_filter: str) -> None:
        self.topic_filter = topic_filter
        #: None is cheaper than an empty dict where all members are in groups.
        self.members: dict[Subscriber, Subscription] | None = None
        #: By share name.
        self.groups: dict[str, SharedGroup] = {}
        self._targets: tuple[Subscription, ...] | None = None

    @property
    def targets(self) -> tuple[Subscription, ...]:
        """The members; one tuple serves all plans that need no other."""
        if self._targets is None:
            self._targets = tuple((self.members or {}).values())
        return self._targets

    def add(self, subscription: Subscription) -> None:
        if self.members is None:
            self.members = {}
        self.members[subscription.session] = subscription
        self._targets = None

    def remove(self, session: Subscriber) -> None:
        if self.members is not None:
            self.members.pop(session, None)
        self._targets = None


_Route = Subscription | _Subscribers
_Held = Subscription | dict[str, Subscription]


class Router:
    """Subscriptions by filter and by session."""

    def __init__(
        self,
        strategy: SharedStrategy = SharedStrategy.ROUND_ROBIN,
        source: Random | None = None,
        cache_size: int = 32_768,
        cache_weight: int = 2_000_000,
    ) -> None:
        """The strategy of shared subscriptions, with its random numbers.

        At most *cache_size* plans are cached (at least one); together they
        hold at most *cache_weight* references of their own, 8 to 16 bytes each.
        """
        self._strategy = strategy
        self._source = source or Random()
        self._exact: dict[str, _Route] = {}
        self._wildcard: FilterTree[_Route] = FilterTree(attrgetter("topic_filter"))
        self._sessions: dict[Subscriber, _Held] = {}
        self._subscription_count = 0
        self._shared_count = 0
        self._cache_size = max(1, cache_size)
        self._cache_weight = cache_weight
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._weight = 0
        #: The cached plans again, to find those that a wildcard filter concerns.
        self._cached: TopicTree[Plan] = TopicTree(attrgetter("topic"))

    # --- counts and views -------------------------------------------------------

    def __len__(self) -> int:
        """All subscriptions, shared ones included."""
        return self._subscription_count

    @property
    def subscription_count(self) -> int:
        """All subscriptions, shared ones included."""
        return self._subscription_count

    @property
    def shared_count(self) -> int:
        """Subscriptions that are members of a group."""
        return self._shared_count

    @property
    def route_count(self) -> int:
        """Distinct filters, without $share/<group>/."""
        return len(self._exact) + len(self._wildcard)

    @property
    def plan_count(self) -> int:
        """Plans in the cache."""
        return len(self._plans)

    def subscriptions(self) -> Iterator[Subscription]:
        """Every subscription there was when asked, session by session."""
        # Not a generator expression: compiled, that would be a list.
        return chain.from_iterable(map(self.subscriptions_of, list(self._sessions)))

    def subscriptions_of(self, session: Subscriber) -> list[Subscription]:
        """The subscriptions of *session*."""
        held = self._sessions.get(session)
        if held is None:
            return []
        return [held] if isinstance(held, Subscription) else list(held.values())

    def routes(self) -> Iterator[RouteInfo]:
        """Every filter that somebody subscribes to; changes meanwhile may show."""
        for route in list(self._exact.values()):
            yield _info(route)
        for route in self._wildcard:
            yield _info(route)

    def topics(self) -> Iterator[str]:
        """The distinct filters, without $share/<group>/."""
        return map(attrgetter("topic_filter"), self.routes())

    def find(self, session: Subscriber, topic_filter: str) -> Subscription | None:
        """The session's subscription to this very filter."""
        held = self._sessions.get(session)
        if isinstance(held, Subscription):
            return held if held.topic_filter == topic_filter else None
        return None if held is None else held.get(topic_filter)

    # --- changes ------------------------------------------------------------------

    def subscribe(self, subscription: Subscription) -> Subscription | None:
        """Enter *subscription*; returns the one that it replaces.

        That is the one of the same session on the same filter, as sent.
        """
        # [MQTT-3.8.4-3] [MQTT311-3.8.4-3]
        replaced = self._hold(subscription)
        if replaced is not None and replaced.selective:
            replaced.ended()
        name, inner = split_shared(subscription.topic_filter)
        if name is None:
            self._enter(subscription)
            self._invalidate(inner)
        else:
            self._join(subscription, name, inner, replaced)
            self._shared_count += replaced is None
        self._subscription_count += replaced is None
        return replaced

    def unsubscribe(self, session: Subscriber, topic_filter: str) -> Subscription | None:
        """Take out the session's subscription to *topic_filter*; returns it.

        Filters are compared character by character.
        """
        # [MQTT-3.10.4-1] [MQTT311-3.10.4-1]
        held = self._sessions.get(session)
        if isinstance(held, Subscription):
            if held.topic_filter != topic_filter:
                return None
            del self._sessions[session]
            self._leave(held)
            return held
        subscription = None if held is None else held.pop(topic_filter, None)
        if subscription is not None:
            if not held:
                del self._sessions[session]
            self._leave(subscription)
        return subscription

    def remove_session(self, session: Subscriber) -> None:
        """Take out all subscriptions of *session*."""
        held = self._sessions.pop(session, None)
        if isinstance(held, Subscription):
            self._leave(held)
        elif held is not None:
            for subscription in held.values():
                self._leave(subscription)

    def refresh(self, session: Subscriber) -> None:
        """Have every plan that names *session* made anew: its client is another one,
        or has other rights."""
        for subscription in self.subscriptions_of(session):
            group = subscription.group
            self._invalidate(subscription.topic_filter if group is None else group.inner_filter)

    def group(self, topic_filter: str) -> SharedGroup | None:
        """The group of a shared subscription to *topic_filter*, $share/ and all."""
        name, inner = split_shared(topic_filter)
        route = self._route(inner)
        if name is None or not isinstance(route, _Subscribers):
            return None
        return route.groups.get(name)

    def session_online(self, session: Subscriber, online: bool) -> None:
        """The client of *session* has come or gone.

        To be called at each change; a session that subscribes has its state
        read from ``session.online``.
        """
        if not self._shared_count:
            return
        held = self._sessions.get(session)
        if held is None:
            return
        for subscription in (held,) if isinstance(held, Subscription) else held.values():
            if subscription.group is not None:
                subscription.group.member_online(subscription, online)

    def _hold(self, subscription: Subscription) -> Subscription | None:
        session = subscription.session
        held = self._sessions.get(session)
        if held is None:
            self._sessions[session] = subscription
            return None
        if isinstance(held, Subscription):
            if held.topic_filter == subscription.topic_filter:
                self._sessions[session] = subscription
                return held
            self._sessions[session] = {
                held.topic_filter: held,
                subscription.topic_filter: subscription,
            }
            return None
        replaced = held.get(subscription.topic_filter)
        held[subscription.topic_filter] = subscription
        return replaced

    def _enter(self, subscription: Subscription) -> None:
        inner = subscription.topic_filter
        route = self._route(inner)
        if isinstance(route, _Subscribers):
            route.add(subscription)
        elif route is None or route.session is subscription.session:
            self._put(subscription)
        else:
            self._widen(route).add(subscription)

    def _join(
        self, subscription: Subscription, name: str, inner: str, replaced: Subscription | None
    ) -> None:
        route = self._route(inner)
        if not isinstance(route, _Subscribers):
            if route is None:
                route = _Subscribers(inner)
                self._put(route)
            else:
                route = self._widen(route)
        group = route.groups.get(name)
        if group is None:
            group = SharedGroup(name, inner, self._strategy, self._source)
            route.groups[name] = group
            self._invalidate(inner)
        subscription.group = group
        group.add(subscription)
        if replaced is not None:
            group.remove(replaced)

    def _leave(self, subscription: Subscription) -> None:
        self._subscription_count -= 1
        if subscription.selective:
            subscription.ended()
        session, group = subscription.session, subscription.group
        inner = subscription.topic_filter if group is None else group.inner_filter
        route = self._route(inner)
        if not isinstance(route, _Subscribers):
            self._remove(inner)
        elif group is None:
            route.remove(session)
        else:
            self._shared_count -= 1
            group.remove(subscription)
            if len(group):
                return
            del route.groups[group.name]
        if isinstance(route, _Subscribers) and not route.groups and len(route.members or ()) < 2:
            if route.members:
                self._put(*route.members.values())
            else:
                self._remove(inner)
        self._invalidate(inner)

    def _route(self, inner: str) -> _Route | None:
        return self._wildcard.get(inner) if _is_wildcard(inner) else self._exact.get(inner)

    def _put(self, route: _Route) -> None:
        inner = route.topic_filter
        if _is_wildcard(inner):
            self._wildcard.set(route)
        else:
            # The key of an entry stays when its value is replaced: pop, so that
            # the filter of a subscription that has gone is not kept as well.
            self._exact.pop(inner, None)
            self._exact[inner] = route

    def _remove(self, inner: str) -> None:
        if _is_wildcard(inner):
            self._wildcard.delete(inner)
        else:
            del self._exact[inner]

    def _widen(self, single: Subscription) -> _Subscribers:
        route = _Subscribers(single.topic_filter)
        route.add(single)
        self._put(route)
        return route

    # --- plans ----------------------------------------------------------------------

    def may_lead(self, topic: str) -> bool:
        """False when surely nobody subscribes to *topic*, which begins with ``$``.

        For topics that are used once: it costs less than a plan, and caches none.
        """
        # [MQTT-4.7.2-1] no filter with a wildcard in front
        return topic in self._exact or self._wildcard.has_first(topic.partition("/")[0])

    def plan(self, topic: str) -> Plan:
        """Where a message on *topic* goes."""
        plan = self._plans.get(topic)
        if plan is not None:
            self._plans.move_to_end(topic)
            return plan
        plan = self._make_plan(topic)
        self._remember(plan)
        return plan

    def _make_plan(self, topic: str) -> Plan:
        routes = self._wildcard.matching(topic)
        exact = self._exact.get(topic)
        if exact is not None:
            routes.append(exact)
        if len(routes) == 1 and isinstance(routes[0], Subscription):
            return Plan(topic, (routes[0],), (), 2)
        groups: list[SharedGroup] = []
        parts: list[tuple[Subscription, ...]] = []
        for route in routes:
            if isinstance(route, Subscription):
                parts.append((route,))
            else:
                groups.extend(route.groups.values())
                if route.members:
                    parts.append(route.targets)
        if len(parts) < 2:
            targets: tuple[Target, ...] = parts[0] if parts else ()
            return Plan(topic, targets, tuple(groups), 1 + len(groups))
        targets, weight = _merged(parts)
        return Plan(topic, targets, tuple(groups), weight + 1 + len(groups))

    def _remember(self, plan: Plan) -> None:
        self._plans[plan.topic] = plan
        self._cached.set(plan)
        self._weight += plan.weight
        while len(self._plans) > self._cache_size or (
            self._weight > self._cache_weight and len(self._plans) > 1
        ):
            topic, oldest = self._plans.popitem(last=False)
            self._cached.delete(topic)
            self._weight -= oldest.weight
            # Nobody would hear of changes to it any more.
            oldest.valid = False

    def _invalidate(self, inner: str) -> None:
        """A subscription to *inner* changed: forget the plans that it matters to."""
        if not self._plans:
            return
        if not _is_wildcard(inner):
            plan = self._plans.pop(inner, None)
            if plan is not None:
                self._cached.delete(inner)
                self._weight -= plan.weight
                plan.valid = False
        elif inner == "#":
            for plan in self._plans.values():
                plan.valid = False
            self._plans.clear()
            self._cached.clear()
            self._weight = 0
        else:
            for plan in self._cached.pop_matching(inner):
                del self._plans[plan.topic]
                self._weight -= plan.weight
                plan.valid = False


def _is_wildcard(inner: str) -> bool:
    return "+" in inner or "#" in inner


def _info(route: _Route) -> RouteInfo:
    if isinstance(route, Subscription):
        return RouteInfo(route.topic_filter, 1, ())
    return RouteInfo(route.topic_filter, len(route.members or ()), tuple(route.groups.values()))


def _merged(parts: list[tuple[Subscription, ...]]) -> tuple[tuple[Target, ...], int]:
    """One target per session, with the weight of all.

    A client gets one copy of a message, however many of its subscriptions
    match (section 3.3.4 of 5.0, 3.3.5 of 3.1.1).
    """
    found: dict[Subscriber, Subscription | list[Subscription]] = {}
    for part in parts:
        for subscription in part:
            other = found.setdefault(subscription.session, subscription)
            if isinstance(other, list):
                other.append(subscription)
            elif other is not subscription:
                found[subscription.session] = [other, subscription]
    targets: list[Target] = []
    weight = len(found)
    for held in found.values():
        if isinstance(held, list):
            targets.append(merge(held))
            weight += 16 + len(held)
        else:
            targets.append(held)
    return tuple(targets), weight
