"""The client in the process gets what a client on the network gets, whatever happens."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mqttd.broker.inbox import Inbox, Incoming
from mqttd.broker.inprocess import InProcessClient
from mqttd.testing import VirtualBroker, VirtualClient

TOPICS = ("a", "a/b", "a/c", "b", "b/a/c")
FILTERS = ("a", "a/#", "+/b", "#", "b/+/c")

#: What is told of a message: topic, payload, QoS, retain, user properties.
Told = tuple[str, bytes, int, bool, list[tuple[str, str]]]


class OnTheNetwork:
    """A client that acknowledges at once."""

    def __init__(self, virtual: VirtualBroker) -> None:
        self.client: VirtualClient = virtual.connect("actor", session_expiry_interval=1000)

    def subscribe(self, topic_filter: str, qos: int, options: dict[str, Any]) -> None:
        self.client.subscribe(topic_filter, qos=qos, **options)

    def unsubscribe(self, topic_filter: str) -> None:
        self.client.unsubscribe(topic_filter)

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        self.client.publish(topic, payload, qos, retain=retain)

    def take(self) -> list[Told]:
        told: list[Told] = []
        while messages := self.client.messages():
            for message in messages:
                pairs = message.properties.get("user_property", [])
                told.append((message.topic, message.payload, message.qos, message.retain, pairs))
                self.client.acknowledge(message)
        return told


class InTheProcess:
    """A client whose callbacks return at once."""

    def __init__(self, virtual: VirtualBroker) -> None:
        self._virtual = virtual
        self._told: list[Told] = []
        self._inboxes: dict[str, Inbox] = {}
        found: list[InProcessClient] = []
        virtual.broker.client("actor", session_expiry=1000).addCallback(found.append)
        virtual.advance()
        (self.client,) = found

    def subscribe(self, topic_filter: str, qos: int, options: dict[str, Any]) -> None:
        def keep(inbox: Inbox) -> None:
            self._inboxes[topic_filter] = inbox

        subscribed = self.client.subscribe(topic_filter, self._got, qos=qos, **options)
        subscribed.addCallback(keep)
        self._virtual.advance()

    def unsubscribe(self, topic_filter: str) -> None:
        inbox = self._inboxes.pop(topic_filter, None)
        if inbox is not None:
            inbox.unsubscribe()
        self._virtual.advance()

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        self.client.publish(topic, payload, qos, retain)
        self._virtual.advance()

    def _got(self, incoming: Incoming) -> None:
        message = incoming.message
        pairs = incoming.properties.get("user_property", [])
        told = (incoming.topic, message.payload, incoming.qos, incoming.retain, pairs)
        self._told.append(told)

    def take(self) -> list[Told]:
        self._virtual.advance()
        told, self._told = self._told, []
        return told


def played(kind: type[OnTheNetwork] | type[InTheProcess], seed: int) -> tuple[Any, ...]:
    """What happens to an actor of *kind* in a random traffic."""
    source = random.Random(seed)
    virtual = VirtualBroker()
    actor = kind(virtual)
    other = virtual.connect("other")
    other.subscribe("#", qos=2)
    subscribed: str | None = None
    history: list[Any] = []
    for number in range(120):
        topic, qos = source.choice(TOPICS), source.randrange(3)
        payload, retain = b"%d" % number, source.random() < 0.2
        match source.randrange(6):
            case 0:
                # One at a time, so that no two of them match the same message.
                if subscribed is not None:
                    actor.unsubscribe(subscribed)
                subscribed = source.choice(FILTERS)
                options = {
                    "no_local": source.random() < 0.5,
                    "retain_as_published": source.random() < 0.5,
                    "retain_handling": source.randrange(3),
                }
                actor.subscribe(subscribed, qos, options)
            case 1 | 2:
                actor.publish(topic, payload, qos, retain)
            case 3:
                virtual.advance(source.random() * 100)
            case _:
                other.publish(topic, payload, qos, retain=retain, user_property=[("n", "1")])
        told = actor.take()
        # Retained messages come in no order that means anything.
        history.append(sorted(told) if len(told) > 1 and told[0][3] else told)
        for message in other.messages():
            other.acknowledge(message)
            history.append(message)
    counters = virtual.broker.metrics
    history.append((counters.messages_sent, dict(counters.dropped), virtual.broker.retained.count))
    virtual.broker.drain()
    virtual.advance()
    virtual.stop()
    assert virtual.clock.getDelayedCalls() == []
    return tuple(history)


@pytest.mark.parametrize("seed", range(12))
def test_both_get_the_same(seed: int) -> None:
    inside = played(InTheProcess, seed)
    assert inside == played(OnTheNetwork, seed)
    assert sum(len(told) for told in inside if isinstance(told, list)) > 10
