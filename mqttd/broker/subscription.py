"""Subscriptions, and what a plan delivers to.

The session makes a ``Subscription`` per Topic Filter and hands it to the
router. A plan's targets are these same objects; only where several
subscriptions of one session match a topic does the router make a ``Merged``
one. Nothing here knows how matching works or how a message is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mqttd.broker.message import Message
    from mqttd.broker.roles import Subscriber
    from mqttd.broker.shared import SharedGroup


class Target:
    """How a message is delivered to one session.

    ``selective`` is the one thing to test on the way: when it is true, ``select`` says
    by which target a message is delivered, if at all.
    """

    __slots__ = ("group", "identifiers", "qos", "retain_as_published", "selective", "session")

    #: See ``thinning``.
    is_thinned = False

    session: Subscriber
    #: Maximum QoS granted.
    qos: int
    #: Not every message goes to the session by this very target.
    selective: bool
    retain_as_published: bool
    #: Subscription identifiers, one per subscription that has one.
    identifiers: tuple[int, ...]
    #: The shared subscription this is a member of.
    group: SharedGroup | None

    @property
    def no_local(self) -> bool:
        """At least one subscription behind this target has No Local."""
        return self.selective

    @property
    def own(self) -> Target | None:
        """The target for what the session's own client has published."""
        return None if self.no_local else self  # [MQTT-3.8.3-3]

    def select(self, message: Message) -> Target | None:
        """The target by which the session gets *message*; None: it does not."""
        return self.own if self.session.client_id == message.publisher else self


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
        self.selective = no_local
        self.retain_as_published = retain_as_published
        self.identifiers = (identifier,) if identifier else ()
        #: Set by the router.
        self.group = None

    def ended(self) -> None:
        """It is not in the router any more; for those that are selective."""

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
        self.selective = any(subscription.no_local for subscription in subscriptions)
        self._own: Target | None = None
        if self.selective:
            local = [s for s in subscriptions if not s.no_local]  # [MQTT-3.8.3-3]
            self._own = merge(local) if local else None

    @property
    def own(self) -> Target | None:
        return self._own if self.selective else self


class Unsure(Target):
    """Stands in a route for a target whose messages are to be judged one by one.

    By its QoS it never takes the lane; the plain way gets what it stands for.
    """

    __slots__ = ("original",)

    def __init__(self, original: Target) -> None:
        self.original = original
        self.session = original.session
        self.qos = -1
        self.selective = False
        self.identifiers = ()


def merge(subscriptions: Sequence[Subscription]) -> Target:
    """The one target of all *subscriptions*, which belong to one session.

    One that is thinned adds nothing to one that is not; among several, the first
    decides.
    """
    full = [subscription for subscription in subscriptions if not subscription.is_thinned]
    if len(full) < len(subscriptions):
        return merge(full) if full else subscriptions[0]
    return subscriptions[0] if len(subscriptions) == 1 else Merged(subscriptions)
