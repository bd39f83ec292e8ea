"""Messages that wait for their time survive the broker, once each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mqttd.hooks.delayed import DelayedPublish, DelayedSettings
from mqttd.interfaces import PUBLISH
from mqttd.wire.codes import MQTT5, MQTT311
from mqttd.wire.packets import Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.broker.doubles import Rules
from tests.broker.harness import BareClient
from tests.broker.kept import Kept


class Delaying(Kept):
    """A broker that survives, with the plugin."""

    has_plugin = True

    def _start(self) -> None:
        super()._start()
        if self.has_plugin:
            plugin = DelayedPublish(DelayedSettings(maximum_messages=3))
            plugin.start(self.bare.broker)
            self.bare.broker.hooks.add_plugin(plugin)

    @property
    def waiting(self) -> int:
        return len(self.bare.broker.delayed)

    def subscriber(self, topic_filter: str = "t") -> BareClient:
        client = self.connect("subscriber")
        client.subscribe(topic_filter, qos=2)
        return client


@pytest.fixture
def kept() -> Iterator[Delaying]:
    kept = Delaying()
    yield kept
    kept.bare.stop()


def payloads(client: BareClient) -> list[bytes]:
    return [message.payload for message in client.messages()]


@pytest.mark.parametrize("version", [MQTT311, MQTT5])
def test_it_is_acknowledged_when_it_is_safe(kept: Delaying, version: int) -> None:
    client = kept.bare.connect("x", version)
    kept.by_hand()
    client.send(Publish("$delayed/9/t", b"1", 1, packet_id=1))
    client.send(Publish("$delayed/9/t", b"2", 2, packet_id=2))
    client.expect_nothing()
    kept.commit()
    client.expect(Puback)
    client.expect(Pubrec)
    client.send(Pubrel(2))
    client.expect(Pubcomp)
    assert len(kept.store.tables.delayed) == 2


def test_time_goes_on_while_the_broker_is_down(kept: Delaying) -> None:
    kept.subscriber().disconnect()
    client = kept.bare.connect("x")
    client.publish("$delayed/100/t", b"late", 1)
    client.publish("$delayed/60/t", b"early", 0, message_expiry_interval=90)
    client.publish("$delayed/60/t", b"expired", 1, message_expiry_interval=50)
    kept.crash(downtime=55)
    assert kept.waiting == 3
    back = kept.subscriber()
    kept.bare.advance(6)
    (early,) = back.messages()
    assert (early.payload, early.properties["message_expiry_interval"]) == (b"early", 30)
    assert kept.bare.broker.metrics.dropped["expired"] == 1
    kept.bare.advance(38)
    assert payloads(back) == []
    kept.bare.advance(3)
    assert payloads(back) == [b"late"]
    assert (kept.waiting, kept.bare.broker.delayed.bytes) == (0, 0)
    kept.commit()
    assert kept.store.tables.delayed == {}


def test_what_became_due_meanwhile_comes_at_the_start_in_order(kept: Delaying) -> None:
    kept.subscriber().disconnect()
    client = kept.bare.connect("x")
    client.publish("$delayed/20/t", b"2", 2, retain=True)
    client.publish("$delayed/10/t", b"1", 1)
    kept.crash(downtime=3600)
    kept.bare.advance(1)
    assert payloads(kept.connect("subscriber")) == [b"1", b"2"]
    assert kept.bare.broker.retained.get("t") is not None


def test_it_is_published_once(kept: Delaying) -> None:
    kept.subscriber().disconnect()
    kept.bare.connect("x").publish("$delayed/5/t", b"1", 1)
    kept.by_hand()
    kept.bare.advance(6)
    # What the turn of the publication has added is there as a whole, or not at all.
    assert (len(kept.store.tables.delayed), len(kept.rows("subscriber"))) == (1, 0)
    kept.crash()
    assert kept.waiting == 0
    kept.commit()
    assert (len(kept.store.tables.delayed), len(kept.rows("subscriber"))) == (0, 1)
    kept.store.automatic = True
    kept.crash()
    assert payloads(kept.connect("subscriber")) == [b"1"]


def test_it_is_published_without_the_plugin_too(kept: Delaying) -> None:
    kept.subscriber().disconnect()
    kept.bare.connect("x").publish("$delayed/5/t", b"1", 1)
    kept.has_plugin = False
    kept.crash(downtime=10)
    kept.bare.advance(1)
    assert payloads(kept.connect("subscriber")) == [b"1"]


def test_what_is_restored_counts_for_the_bounds(kept: Delaying) -> None:
    client = kept.bare.connect("x")
    for _ in range(3):
        client.publish("$delayed/60/t", b"1", 1)
    size = kept.bare.broker.delayed.bytes
    kept.crash()
    assert kept.bare.broker.delayed.bytes == size
    answer = kept.bare.connect("x").publish("$delayed/60/t", b"1", 1)
    assert answer is not None
    assert answer.reason == 0x97
    # Numbers go on behind those that are taken.
    kept.bare.advance(61)
    kept.bare.connect("y").publish("$delayed/60/t", b"1", 1)
    assert len(kept.store.tables.delayed) == 1


@pytest.mark.parametrize("slow", [False, True])
def test_access_is_judged_when_it_is_published(slow: bool) -> None:
    rules = Rules().only(PUBLISH)
    kept = Delaying(authorizer=rules)
    kept.subscriber("#").disconnect()
    client = kept.bare.connect("x")
    client.publish("$delayed/5/open", b"1", 1)
    client.publish("$delayed/5/shut", b"2", 1)
    rules.change((PUBLISH, "shut"))
    kept.crash()
    rules.slow = slow
    rules.epoch += 1
    kept.bare.advance(6)
    if slow:
        # Not decided: it is there still, and again after another crash.
        assert len(kept.store.tables.delayed) == 2
        rules.asked.clear()
        kept.crash()
        kept.bare.advance(1)
        rules.answer()
        rules.answer()
    assert payloads(kept.connect("subscriber")) == [b"1"]
    assert kept.bare.broker.metrics.dropped["not-authorized"] == 1
    assert kept.store.tables.delayed == {}
    kept.bare.stop()


def test_nothing_is_taken_that_can_not_be_kept(kept: Delaying) -> None:
    new, old = kept.bare.connect("new"), kept.bare.connect("old", MQTT311)
    kept.store.fail()
    answer = new.publish("$delayed/5/t", b"1", 1)
    assert answer is not None
    assert answer.reason == 0x97
    # [MQTT311-3.3.5-2] has no way to say no: it waits.
    old.send(Publish("$delayed/5/t", b"1", 1, packet_id=1))
    old.expect_nothing()
    assert kept.waiting == 0
    kept.store.recover()
    kept.bare.advance()
    old.expect(Puback)
    assert len(kept.store.tables.delayed) == 1


def test_a_damaged_one_is_left_out(kept: Delaying) -> None:
    kept.subscriber().disconnect()
    kept.bare.connect("x").publish("$delayed/5/t", b"1", 1)
    kept.store.put_delayed(7, 0.0, b"\0")
    kept.commit()
    kept.crash()
    assert kept.waiting == 1
    kept.bare.advance(6)
    assert payloads(kept.connect("subscriber")) == [b"1"]


def test_a_stop_loses_nothing_that_is_kept(kept: Delaying) -> None:
    kept.bare.connect("x").publish("$delayed/5/t", b"1", 1)
    broker = kept.bare.broker
    kept.crash()
    assert broker.metrics.dropped["delayed-lost"] == 0
    assert kept.waiting == 1
