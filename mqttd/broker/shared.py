"""Shared subscriptions: which member of a group gets a message (section 4.8.2).

The router makes a ``SharedGroup`` per share name and filter and keeps its
members; the publish service asks it to ``pick`` one for each message. The group
looks at a session's online state only when told: the session says so through
``Router.session_online``.

Members stand in two lists, online and offline, sorted by client id. So a pick
looks at no other members than it must, and where a hash decides, the same
members give the same answer in every process, in whatever order they came.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from random import Random
from zlib import crc32

from mqttd.broker.message import Message
from mqttd.broker.subscription import Subscription
from mqttd.settings import SharedStrategy

#: How many members least-inflight compares for one message.
_COMPARED = 32


def _client_id(subscription: Subscription) -> str:
    return subscription.session.client_id


class SharedGroup:
    """The subscriptions to one filter that share its messages."""

    __slots__ = (
        "_choose",
        "_offline",
        "_online",
        "cursor",
        "favourite",
        "inner_filter",
        "name",
        "source",
    )

    def __init__(
        self,
        name: str,
        inner_filter: str,
        strategy: SharedStrategy,
        source: Random,
    ) -> None:
        """*source* gives the random numbers."""
        #: The share name; "$queue" for $queue/<filter>.
        self.name = name
        self.inner_filter = inner_filter
        self.source = source
        #: Where the next round-robin begins.
        self.cursor = 0
        #: The member that sticky stays with.
        self.favourite: Subscription | None = None
        self._choose = _STRATEGIES[strategy]
        # By client id. An empty one is no list: of a million groups most have one
        # member, and each container that they need not have is 60 MB.
        self._online: list[Subscription] | tuple[()] = ()
        self._offline: list[Subscription] | tuple[()] = ()

    def __len__(self) -> int:
        return len(self._online) + len(self._offline)

    def __repr__(self) -> str:
        return f"<SharedGroup {self.name!r} {self.inner_filter!r}, {len(self)} members>"

    @property
    def members(self) -> Iterator[Subscription]:
        """All members, those who are here first."""
        return iter([*self._online, *self._offline])

    @property
    def online_count(self) -> int:
        return len(self._online)

    def add(self, subscription: Subscription) -> None:
        """Let *subscription* join."""
        if self._index(subscription, True) < 0 and self._index(subscription, False) < 0:
            self._enter(subscription, subscription.session.online)

    def remove(self, subscription: Subscription) -> None:
        """Take *subscription* out."""
        if not self._leave(subscription, True):
            self._leave(subscription, False)

    def member_online(self, subscription: Subscription, online: bool) -> None:
        """The client of this member has come, or gone."""
        if self._leave(subscription, not online):
            self._enter(subscription, online)

    def _index(self, subscription: Subscription, online: bool) -> int:
        """Where the member stands; -1: not there."""
        members = self._online if online else self._offline
        client_id = subscription.session.client_id
        index = bisect_left(members, client_id, key=_client_id)
        # Two sessions of one client id meet here while one takes over.
        while index < len(members) and members[index].session.client_id == client_id:
            if members[index] is subscription:
                return index
            index += 1
        return -1

    def _enter(self, subscription: Subscription, online: bool) -> None:
        members = self._online if online else self._offline
        index = bisect_left(members, subscription.session.client_id, key=_client_id)
        if members:
            members.insert(index, subscription)
        else:
            self._store([subscription], online)
        if online and index < self.cursor:
            self.cursor += 1

    def _leave(self, subscription: Subscription, online: bool) -> bool:
        index = self._index(subscription, online)
        if index < 0:
            return False
        members = self._online if online else self._offline
        if isinstance(members, list) and len(members) > 1:
            del members[index]
        else:
            self._store((), online)
        if online and index < self.cursor:
            self.cursor -= 1
        if self.favourite is subscription:
            self.favourite = None
        return True

    def _store(self, members: list[Subscription] | tuple[()], online: bool) -> None:
        if online:
            self._online = members
        else:
            self._offline = members

    def pick(self, message: Message) -> Subscription | None:
        """The member that gets *message*; None when there is none.

        A member that is offline is picked only when no online one is there. It is
        delivered to with the QoS that was granted to it.
        """
        for members in (self._online, self._offline):
            if members:
                return members[self._choose(self, members, message)]  # [MQTT-4.8.2-3]
        return None


_Choose = Callable[[SharedGroup, list[Subscription], Message], int]


def _round_robin(group: SharedGroup, members: list[Subscription], message: Message) -> int:
    index = group.cursor % len(members)
    group.cursor = index + 1
    return index


def _random(group: SharedGroup, members: list[Subscription], message: Message) -> int:
    return int(group.source.random() * len(members))


def _sticky(group: SharedGroup, members: list[Subscription], message: Message) -> int:
    """The same one until it leaves, or is offline while another is online."""
    favourite = group.favourite
    if favourite is not None:
        index = bisect_left(members, favourite.session.client_id, key=_client_id)
        if index < len(members) and members[index] is favourite:
            return index
    index = int(group.source.random() * len(members))
    group.favourite = members[index]
    return index


def _hash_client(group: SharedGroup, members: list[Subscription], message: Message) -> int:
    return crc32((message.publisher or "").encode()) % len(members)


def _hash_topic(group: SharedGroup, members: list[Subscription], message: Message) -> int:
    return crc32(message.topic.encode()) % len(members)


def _least_inflight(group: SharedGroup, members: list[Subscription], message: Message) -> int:
    """The fewest unacknowledged messages; in turn among equals.

    Exact among up to 32 members. Of more, 32 are compared, and the next ones
    at the next message, so that a message's cost does not grow with the group.
    """
    count = len(members)
    start = group.cursor % count
    compared = min(count, _COMPARED)
    best = start
    fewest = len(members[start].session.inflight)
    for offset in range(1, compared):
        if not fewest:
            break
        index = (start + offset) % count
        inflight = len(members[index].session.inflight)
        if inflight < fewest:
            best, fewest = index, inflight
    group.cursor = best + 1 if count <= compared or not fewest else start + compared
    return best


_STRATEGIES: dict[SharedStrategy, _Choose] = {
    SharedStrategy.ROUND_ROBIN: _round_robin,
    SharedStrategy.RANDOM: _random,
    SharedStrategy.STICKY: _sticky,
    SharedStrategy.HASH_CLIENT: _hash_client,
    SharedStrategy.HASH_TOPIC: _hash_topic,
    SharedStrategy.LEAST_INFLIGHT: _least_inflight,
}
