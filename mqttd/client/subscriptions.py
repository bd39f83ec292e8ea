"""What a client subscribes to: asked for on every connection that needs it.

``Client`` adds and ends subscriptions, says when a connection opens, and passes on
SUBACK and UNSUBACK. Each subscription goes in a SUBSCRIBE of its own, since in 5.0 it
has a Subscription Identifier of its own; by that, or else by its filter, messages
find their inboxes.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from attrs import define
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from mqttd.client.protocol import ClientProtocol
from mqttd.client.received import Received
from mqttd.messaging import ClientClosed, Inbox, Refused
from mqttd.wire.codes import MQTT5
from mqttd.wire.packets import (
    Connack,
    Properties,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from mqttd.wire.topics import matches, split_shared

log = Logger()


@define(eq=False)
class Subscription:
    """One subscription, as we want it."""

    inbox: Inbox[Received]
    request: SubscriptionRequest
    properties: Properties
    #: The filter that topics match.
    plain: str
    #: Who waits for the first SUBACK.
    answer: Deferred[Inbox[Received]] | None
    granted: bool = False


class Subscriptions:
    """All of one client."""

    def __init__(self, version: int) -> None:
        self._version = version
        #: Gives out packet ids; messages take theirs from there, too.
        self.next_packet_id: Callable[[], int]
        self._by_filter: dict[str, Subscription] = {}
        self._by_identifier: dict[int, Subscription] = {}
        self._identifiers = count(1)
        #: Filters to be ended -> who waits for it.
        self._ending: dict[str, Deferred[int]] = {}
        #: Packet id -> what the answer is for.
        self.asked: dict[int, Subscription | str] = {}
        self._protocol: ClientProtocol | None = None
        self._has_identifiers = False

    def __len__(self) -> int:
        return len(self._by_filter)

    # --- for the client ------------------------------------------------------------------

    def next_identifier(self) -> int:
        return next(self._identifiers)

    def add(
        self, inbox: Inbox[Received], request: SubscriptionRequest, properties: Properties
    ) -> Deferred[Inbox[Received]]:
        """Subscribe; one on the same filter is replaced."""
        _, plain = split_shared(request.topic_filter)
        answer: Deferred[Inbox[Received]] = Deferred()
        subscription = Subscription(inbox, request, properties, plain, answer)
        before = self._by_filter.get(request.topic_filter)
        if before is not None:
            self._forget(before, "replaced by another subscription")
        self._by_filter[request.topic_filter] = subscription
        self._by_identifier[inbox.identifier] = subscription
        self._ask(subscription)
        return answer

    def end(self, inbox: Inbox[Received]) -> Deferred[int]:
        """Unsubscribe; fires when the server knows, which may be by the next connection."""
        subscription = self._by_identifier.get(inbox.identifier)
        if subscription is None:
            return succeed(0x11)
        self._forget(subscription, "unsubscribed")
        answer = self._ending[inbox.topic_filter] = Deferred()
        self._ask_end(inbox.topic_filter)
        return answer

    def find(self, packet: Publish) -> list[Inbox[Received]]:
        """The inboxes that a message is for."""
        topic = packet.topic
        found = []
        for identifier in packet.properties.get("subscription_identifier", ()):
            subscription = self._by_identifier.get(identifier)
            # One of a run of before may have been another's.
            if subscription is not None and matches(subscription.plain, topic):
                found.append(subscription.inbox)
        if found:
            return found
        return [each.inbox for each in self._by_filter.values() if matches(each.plain, topic)]

    # --- connections ---------------------------------------------------------------------

    def open(self, protocol: ClientProtocol, connack: Connack) -> None:
        self._protocol = protocol
        available = connack.properties.get("subscription_identifier_available", 1)
        self._has_identifiers = self._version == MQTT5 and bool(available)
        if not connack.session_present:
            for topic_filter in list(self._ending):
                self._ending.pop(topic_filter).callback(0)
        for subscription in list(self._by_filter.values()):
            if not connack.session_present or not subscription.granted:
                self._ask(subscription)
        for topic_filter in list(self._ending):
            self._ask_end(topic_filter)

    def lost(self) -> None:
        self._protocol = None
        self.asked.clear()

    def close(self, error: ClientClosed) -> None:
        self.lost()
        for subscription in list(self._by_filter.values()):
            self._forget(subscription, str(error))
        ending, self._ending = self._ending, {}
        for answer in ending.values():
            answer.errback(error)

    def _ask(self, subscription: Subscription) -> None:
        if self._protocol is None:
            return
        properties: Properties = {}
        if self._version == MQTT5:
            properties = subscription.properties.copy()
            if self._has_identifiers:
                properties["subscription_identifier"] = [subscription.inbox.identifier]
        packet_id = self.next_packet_id()
        self.asked[packet_id] = subscription
        self._protocol.send(Subscribe(packet_id, [subscription.request], properties))

    def _ask_end(self, topic_filter: str) -> None:
        if self._protocol is not None:
            packet_id = self.next_packet_id()
            self.asked[packet_id] = topic_filter
            self._protocol.send(Unsubscribe(packet_id, [topic_filter]))

    # --- answers --------------------------------------------------------------------------

    def suback(self, packet: Suback) -> None:
        subscription = self.asked.pop(packet.packet_id, None)
        if not isinstance(subscription, Subscription):
            return
        inbox, answer = subscription.inbox, subscription.answer
        if self._by_identifier.get(inbox.identifier) is not subscription:
            return  # replaced or ended meanwhile
        reason = packet.reasons[0] if packet.reasons else 0x80
        subscription.answer = None
        if reason < 0x80:
            inbox.qos = reason
            subscription.granted = True
            if answer is not None:
                answer.callback(inbox)
            return
        text = packet.properties.get("reason_string", f"no subscription to {inbox.topic_filter!r}")
        self._forget(subscription, text)
        if answer is not None:
            answer.errback(Refused(reason, text))
        else:
            log.warn(
                "The server does not renew the subscription to {topic_filter} (0x{reason:02X})",
                topic_filter=inbox.topic_filter,
                reason=reason,
            )

    def unsuback(self, packet: Unsuback) -> None:
        topic_filter = self.asked.pop(packet.packet_id, None)
        if isinstance(topic_filter, str) and topic_filter in self._ending:
            answer = self._ending.pop(topic_filter)
            answer.callback(packet.reasons[0] if packet.reasons else 0)

    def _forget(self, subscription: Subscription, reason: str) -> None:
        inbox = subscription.inbox
        self._by_identifier.pop(inbox.identifier, None)
        if self._by_filter.get(inbox.topic_filter) is subscription:
            del self._by_filter[inbox.topic_filter]
        inbox.end(reason)
        if subscription.answer is not None:
            answer, subscription.answer = subscription.answer, None
            answer.errback(ClientClosed(reason))
