"""The client inside the process, and hooks, at a broker that survives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mqttd.broker.inbox import Incoming
from mqttd.broker.inprocess import InProcessClient
from mqttd.wire.packets import Puback, Publish
from tests.broker.harness import BareClient
from tests.broker.kept import Kept


@pytest.fixture
def kept() -> Iterator[Kept]:
    kept = Kept()
    yield kept
    kept.bare.broker.drain()
    kept.bare.advance()
    kept.bare.stop()


def make(kept: Kept, **more: Any) -> InProcessClient:
    found: list[InProcessClient] = []
    kept.bare.broker.client("app", **more).addCallback(found.append)
    kept.bare.advance()
    return found[0]


def durable(kept: Kept, topic: str = "t") -> None:
    """A session of a client that is away and wants everything on *topic*."""
    client = kept.bare.connect("away", session_expiry_interval=1000)
    client.subscribe(topic, qos=2)
    client.drop()


def back(kept: Kept) -> BareClient:
    """The client that was away, with what waited for it."""
    client = kept.bare.connect("away", clean_start=False, session_expiry_interval=1000)
    kept.commit()
    return client


@pytest.mark.parametrize("qos", [1, 2])
def test_a_publish_is_over_when_the_message_is_safe(kept: Kept, qos: int) -> None:
    durable(kept)
    client = make(kept)
    kept.by_hand()
    sent = client.publish("t", b"1", qos)
    kept.tick()
    assert not sent.called
    kept.commit()
    kept.commit()
    assert sent.called
    kept.crash()
    again = back(kept)
    kept.commit()
    (message,) = again.take(Publish)
    assert message.payload == b"1"


def test_it_is_connected_and_subscribed_when_that_is_safe(kept: Kept) -> None:
    kept.by_hand()
    found: list[Any] = []
    kept.bare.broker.client("app", session_expiry=1000, clean_start=False).addCallback(found.append)
    kept.bare.advance()
    assert found == []
    kept.commit()
    client = found[0]
    inboxes: list[Any] = []
    client.subscribe("t", qos=1).addCallback(inboxes.append)
    kept.bare.advance()
    assert inboxes == []
    kept.commit()
    assert len(inboxes) == 1


def test_its_session_survives_a_crash(kept: Kept) -> None:
    client = make(kept, session_expiry=1000)
    client.subscribe("t", qos=2)
    client.close()
    publisher = kept.bare.connect("publisher")
    for number in range(3):
        publisher.publish("t", b"%d" % number, number)
    kept.tick()
    kept.crash()
    got: list[bytes] = []

    def take(message: Incoming) -> None:
        got.append(message.payload)

    again = make(kept, session_expiry=1000, clean_start=False, on_message=take)
    kept.bare.advance(1)
    assert again.session_present
    assert got == [b"1", b"2"]
    assert not again.session.inflight


def test_what_was_taken_is_not_delivered_again(kept: Kept) -> None:
    got: list[bytes] = []

    def take(message: Incoming) -> None:
        got.append(message.payload)

    client = make(kept, session_expiry=1000)
    client.subscribe("t", take, qos=2)
    publisher = kept.bare.connect("publisher")
    for number in range(20):
        publisher.publish("t", b"%d" % number, number % 3)
        kept.bare.advance()
    kept.tick()
    assert len(got) == 20
    kept.crash()
    make(kept, session_expiry=1000, clean_start=False, on_message=take)
    kept.bare.advance(1)
    assert len(got) == 20


# --- hooks ------------------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 5])
def test_a_message_that_a_hook_has_seen_is_not_acknowledged_while_nothing_is_kept(
    kept: Kept, version: int
) -> None:
    durable(kept, "new")
    kept.bare.broker.hooks.add("message_publish", lambda m, c: m.changed(topic="new"))
    client = kept.bare.connect("x", version)
    kept.store.fail()
    client.send(Publish("t", b"1", 1, packet_id=1))
    kept.bare.advance()
    if version == 5:
        client.expect(Puback, reason=0x97)
        return
    client.expect_nothing()
    kept.store.recover()
    kept.commit()
    kept.bare.advance(1)
    client.expect(Puback, packet_id=1)
    again = kept.bare.connect("away", clean_start=False, session_expiry_interval=1000)
    assert again.expect(Publish).topic == "new"


def test_a_message_that_a_hook_has_changed_is_kept_as_changed(kept: Kept) -> None:
    durable(kept)
    kept.bare.broker.hooks.add("message_publish", lambda m, c: m.changed(payload=b"new"))
    client = kept.bare.connect("x")
    kept.by_hand()
    client.send(Publish("t", b"old", 1, packet_id=1))
    kept.tick()
    client.expect_nothing()
    kept.commit()
    client.expect(Puback, packet_id=1)
    kept.crash()
    again = back(kept)
    (message,) = again.take(Publish)
    assert message.payload == b"new"
