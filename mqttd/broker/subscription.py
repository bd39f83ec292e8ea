"""Subscriptions, and what a plan delivers to.

The session makes a ``Subscription`` per Topic Filter and hands it to the
router. A plan's targets are these same objects; only where several
subscriptions of one session match a topic does the router make a ``Merged``
one. Nothing here knows how matching works or how a message is sent.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mqttd.broker.message import Message
    from mqttd.broker.shared import SharedGroup


class Subscriber(Protocol):
    """What routing needs to know of a session; sessions are told apart by identity."""

    @property
    def client_id(self) -> str: ...

    @property
    def online(self) -> bool: ...

    @property
    def inflight(self) -> Sized: ...

    def deliver(self, message: Message, target: Target, /) -> None: ...


class Target:
    """How a message is delivered to one session.

    ``no_local`` is the one thing to test on the way: when it is true and the
    publisher's client id is the session's, deliver to ``own`` instead, or not
    at all when that is None.
    """

    __slots__ = ("group", "identifiers", "no_local", "qos", "retain_as_published", "session")

    session: Subscriber
    #: Maximum QoS granted.
    qos: int
    #: At least one subscription behind this target has No Local.
    no_local: bool
    retain_as_published: bool
    #: Subscription identifiers, one per subscription that has one.
    identifiers: tuple[int, ...]
    #: The shared subscription this is a member of.
    group: SharedGroup | None

    @property
    def own(self) -> Target | None:
        """The target for what the session's own client has published."""
        return None if self.no_local else self  # [MQTT-3.8.3-3]


class Subscription(Target):
    """One Topic Filter of one session with its options (MQTT 5.0 section 3.8.3.1)."""

    __slots__ = ("topic_filter",)

    def __init__(
        self,
        session: Subscriber,
        topic_filter: str,
        qos: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        identifier: int = 0,
    ) -> None:
        self.session = session
        #: As the client sent it, $share/<group>/ or $queue/ included.
        self.topic_filter = topic_filter
        self.qos = qos
        self.no_local = no_local
        self.retain_as_published = retain_as_published
        self.identifiers = (identifier,) if identifier else ()
        #: Set by the router.
        self.group = None

    @property
    def identifier(self) -> int:
        """The Subscription Identifier; 0: none."""
        return self.identifiers[0] if self.identifiers else 0

    def __repr__(self) -> str:
        return f"<Subscription {self.topic_filter!r} of {self.session.client_id!r} QoS {self.qos}>"


class Merged(Target):
    """Overlapping subscriptions of one session: one copy for all of them."""

    __slots__ = ("_own",)

    def __init__(self, subscriptions: Sequence[Subscription]) -> None:
        self.session = subscriptions[0].session
        # [MQTT-3.3.4-2] [MQTT311-3.3.5-1]
        self.qos = max(subscription.qos for subscription in subscriptions)
        self.retain_as_published = any(s.retain_as_published for s in subscriptions)
        # [MQTT-3.3.4-3] [MQTT-3.3.4-4]
        self.identifiers = tuple(i for s in subscriptions for i in s.identifiers)
        self.group = None
        self.no_local = any(subscription.no_local for subscription in subscriptions)
        self._own: Target | None = None
        if self.no_local:
            local = [s for s in subscriptions if not s.no_local]  # [MQTT-3.8.3-3]
            self._own = merge(local) if local else None

    @property
    def own(self) -> Target | None:
        return self._own if self.no_local else self


def merge(subscriptions: Sequence[Subscription]) -> Target:
    """The one target of all *subscriptions*, which belong to one session."""
    return subscriptions[0] if len(subscriptions) == 1 else Merged(subscriptions)
