"""Expired messages of those who stay away leave queue, bounds and disk."""

from __future__ import annotations

import pytest

from mqttd.broker.expiry import INTERVAL, PART
from mqttd.broker.paging import HEAD
from mqttd.wire.packets import Properties, Puback, Publish
from tests.broker.kept import Kept, bounded


def away(kept: Kept, client_id: str = "away") -> None:
    client = kept.connect(client_id)
    client.subscribe("t", qos=1)
    client.disconnect()


def publish(kept: Kept, count: int, **fields: object) -> None:
    publisher = kept.bare.connect("publisher")
    for number in range(count):
        publisher.publish("t", b"%d" % number, qos=1, **fields)
    publisher.disconnect()


@pytest.mark.parametrize("restarted", [False, True])
def test_what_expires_frees_its_place(restarted: bool) -> None:
    """In memory and in the tail on disk alike; what does not expire stays, in order."""
    kept = Kept(bounded(maximum_queued_messages=10_000))
    away(kept)
    publish(kept, HEAD + 50, message_expiry_interval=60)
    publish(kept, 30)
    publish(kept, PART + 10, message_expiry_interval=60)
    session = kept.session("away")
    assert session.queued == HEAD + PART + 90
    if restarted:
        kept.crash(downtime=10)
        session = kept.session("away")
    kept.bare.advance(61 + 2 * INTERVAL)
    assert session.queued == 30
    assert len(kept.rows("away")) == 30
    assert len(kept.store.tables.messages) == 30
    assert kept.bare.broker.metrics.dropped["expired"] == HEAD + PART + 60
    assert session.queue is not None
    assert session.queue.bytes == sum(row.size for row in kept.rows("away"))
    client = kept.connect("away")
    kept.bare.advance(1)
    assert [m.payload for m in client.take(Publish)] == [b"%d" % n for n in range(30)]


def test_what_is_under_way_stays() -> None:
    """Its packet id is taken; the client may have it already."""
    kept = Kept()
    client = kept.connect("away")
    client.subscribe("t", qos=1)
    publisher = kept.bare.connect("publisher")
    expiry = Properties(message_expiry_interval=5)
    for number in range(1, 4):
        publisher.send(Publish("t", b"x", 1, packet_id=number, properties=expiry))
    kept.tick()
    sent = client.take(Publish)
    assert len(sent) == 3
    kept.bare.advance(6 + 2 * INTERVAL)
    assert len(kept.rows("away")) == 3
    for message in sent:
        client.send(Puback(message.packet_id))
    kept.commit()
    assert kept.rows("away") == []
    assert kept.bare.broker.metrics.dropped["expired"] == 0


def test_no_sweep_while_the_store_is_in_trouble() -> None:
    kept = Kept()
    away(kept)
    publish(kept, 1, message_expiry_interval=5)
    kept.store.fail()
    kept.bare.advance(6 + 2 * INTERVAL)
    assert kept.session("away").queued == 1
    kept.store.recover()
    kept.bare.advance(INTERVAL + 1)
    assert kept.session("away").queued == 0
