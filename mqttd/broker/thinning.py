"""Subscriptions that want fewer messages than there are.

A SUBSCRIBE of MQTT 5.0 may carry user properties that hold for all of its filters::

    max-rate   "10/s", "6/m", "1/h", or a number per second
    conflate   "topic" or "all": of what exceeds max-rate, the latest message of each
               topic, or of all, waits and follows when it is due
    sample     every n-th message only, beginning with the first

``subscribing`` reads them here and makes a ``Thinned`` subscription, which the publish
service asks about each message. What is suppressed is counted, by the broker
(``Metrics.dropped["thinned"]``) and by the subscription. Retained messages that
come with a subscription are not thinned, and the QoS does not matter.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from attrs import frozen
from twisted.internet.interfaces import IDelayedCall

from mqttd.broker.subscription import Subscription, Target

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.message import Message
    from mqttd.broker.roles import Subscriber

MAX_RATE, CONFLATE, SAMPLE = "max-rate", "conflate", "sample"

#: Topics of which the latest message may wait; with more, the oldest is suppressed.
MAXIMUM_WAITING = 1000

#: The longest time between two messages that max-rate may ask for; seconds.
LONGEST_INTERVAL = 86_400.0

_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(?:/\s*([smh]))?")
_PERIODS = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


@frozen
class Thinning:
    """What a subscription asks for."""

    #: Seconds between two messages; 0: no limit.
    interval: float = 0.0
    #: "topic", "all", or "" for nothing that waits.
    conflate: str = ""
    sample: int = 1
    #: The user properties that it was read from.
    asked: tuple[tuple[str, str], ...] = ()

    def encode(self) -> str:
        """What a store keeps of it."""
        return json.dumps(dict(self.asked))


def decode(text: str) -> Thinning | None:
    """The reverse of ``Thinning.encode``; ValueError when *text* is none."""
    asked = json.loads(text)
    if not isinstance(asked, dict) or not all(isinstance(value, str) for value in asked.values()):
        raise ValueError("a stored subscription does not say how it is thinned")
    return read(list(asked.items()))


def read(user_properties: list[tuple[str, str]]) -> Thinning | None:
    """What the user properties of a SUBSCRIBE ask for; None: nothing.

    :raise ValueError: with a text that says what is wrong.
    """
    asked = tuple(pair for pair in user_properties if pair[0] in (MAX_RATE, CONFLATE, SAMPLE))
    if not asked:
        return None
    values = dict(asked)
    if len(values) < len(asked):
        raise ValueError("max-rate, conflate and sample stand once each")
    interval = _interval(values[MAX_RATE]) if MAX_RATE in values else 0.0
    conflate = values.get(CONFLATE, "")
    if conflate and (conflate not in ("topic", "all") or not interval):
        raise ValueError('conflate is "topic" or "all", and needs max-rate')
    sample = values.get(SAMPLE, "1")
    if not (sample.isascii() and sample.isdigit() and len(sample) < 8 and int(sample)):
        raise ValueError("sample is a whole number from 1")
    return Thinning(interval, conflate, int(sample), asked)


def _interval(text: str) -> float:
    found = _RATE.fullmatch(text)
    amount = float(found[1]) if found else 0.0
    if found is None or not amount or _PERIODS[found[2]] / amount > LONGEST_INTERVAL:
        raise ValueError('max-rate is a rate such as "10/s", and at least one in a day')
    return _PERIODS[found[2]] / amount


class Thinned(Subscription):
    """A subscription that lets a part of the messages through."""

    __slots__ = (
        "_broker",
        "_call",
        "_due",
        "_is_no_local",
        "_seen",
        "_waiting",
        "suppressed",
        "wants",
    )

    is_thinned = True

    def __init__(
        self,
        broker: Broker,
        wants: Thinning,
        session: Subscriber,
        topic_filter: str,
        qos: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        identifier: int = 0,
    ) -> None:
        super().__init__(session, topic_filter, qos, no_local, retain_as_published, identifier)
        self.selective = True
        self.wants = wants
        #: Messages that this subscription did not get.
        self.suppressed = 0
        self._is_no_local = no_local
        self._broker = broker
        self._seen = 0
        #: When the next message may go.
        self._due = 0.0
        #: What waits for that, by topic or under "", oldest first.
        self._waiting: dict[str, Message] = {}
        self._call: IDelayedCall | None = None

    @property
    def no_local(self) -> bool:
        return self._is_no_local

    def select(self, message: Message) -> Target | None:
        if self._is_no_local and self.session.client_id == message.publisher:
            return None
        return self if self._admits(message) else None

    def _admits(self, message: Message) -> bool:
        wants = self.wants
        self._seen += 1
        if (self._seen - 1) % wants.sample:
            self._suppress()
            return False
        if not wants.interval:
            return True
        now = self._broker.seconds()
        # The small allowance keeps a rounding error from costing a message.
        if now + 1e-6 >= self._due and not self._waiting:
            self._next(now)
            return True
        if wants.conflate:
            self._hold(message)
        else:
            self._suppress()
        return False

    def _next(self, now: float) -> None:
        """One goes now. The next is due by this one's due time, so that the rate is met,
        and not sooner for a silence before."""
        interval = self.wants.interval
        self._due = (self._due if now - self._due < interval else now) + interval

    def _suppress(self) -> None:
        self.suppressed += 1
        self._broker.metrics.dropped["thinned"] += 1

    # --- what waits -----------------------------------------------------------------

    def _hold(self, message: Message) -> None:
        waiting = self._waiting
        key = message.topic if self.wants.conflate == "topic" else ""
        if key in waiting:
            # Its place in the row is that of the one it replaces: all get their turn.
            self._suppress()
        elif len(waiting) >= MAXIMUM_WAITING:
            del waiting[next(iter(waiting))]
            self._suppress()
        waiting[key] = message
        if self._call is None:
            self._wait()

    def _wait(self) -> None:
        delay = max(0.0, self._due - self._broker.seconds())
        self._call = self._broker.clock.callLater(delay, self._send)
        self._broker.thinned.add(self)

    def _send(self) -> None:
        self._call = None
        self._broker.thinned.discard(self)
        now = self._broker.seconds()
        self._next(now)
        message = self._waiting.pop(next(iter(self._waiting)))
        if message.expired(now):
            self._suppress()
        else:
            self.session.deliver(message, self)
        self._wait_for_next()

    def _wait_for_next(self) -> None:
        if self._waiting and self._call is None:
            self._wait()

    def ended(self) -> None:
        """The subscription is gone: nothing of it may wait."""
        for _ in self._waiting:
            self._suppress()
        self._waiting.clear()
        self._broker.thinned.discard(self)
        if self._call is not None:
            self._call.cancel()
            self._call = None
