"""What is acknowledged when: nothing before it is safe, everything after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest

from mqttd.broker import durability
from mqttd.settings import ListenerSettings, ProtocolSettings
from mqttd.wire.codes import MQTT5, MQTT311, ReasonCode
from mqttd.wire.packets import (
    Connack,
    Disconnect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
    Will,
)
from tests.broker.harness import BareClient
from tests.broker.kept import Kept, bounded

BOTH = pytest.mark.parametrize("version", [MQTT311, MQTT5])


@pytest.fixture
def kept() -> Iterator[Kept]:
    kept = Kept()
    yield kept
    kept.bare.stop()


def away(kept: Kept, client_id: str = "away", qos: int = 1, **fields: Any) -> None:
    """A durable session whose client is away, subscribed to all."""
    client = kept.connect(client_id, **fields)
    client.subscribe("#", qos=qos)
    client.drop()


def here(kept: Kept, client_id: str = "here", qos: int = 1, version: int = MQTT5) -> BareClient:
    """One whose client is there."""
    client = kept.connect(client_id, version)
    client.subscribe("#", qos=qos)
    return client


# --- the session -----------------------------------------------------------------


@BOTH
def test_connack_waits_for_the_record_of_a_session_that_is_kept(kept: Kept, version: int) -> None:
    kept.by_hand()
    client = kept.connect("a", version)
    client.expect_nothing()
    kept.commit()
    client.expect(Connack, reason=0)


def test_a_session_that_is_not_kept_waits_for_nothing(kept: Kept) -> None:
    kept.by_hand()
    client = kept.bare.connect("a")
    assert client.connack is not None
    client.subscribe("#", qos=1)
    client.publish("t", b"x", 1)
    client.unsubscribe("#")
    assert kept.store.waiting == 0


@BOTH
def test_suback_and_unsuback_wait(kept: Kept, version: int) -> None:
    client = kept.connect("a", version)
    kept.by_hand()
    client.send(Subscribe(1, [SubscriptionRequest("t", 1)]))
    client.expect_nothing()
    kept.commit()
    client.expect(Suback, packet_id=1)
    client.send(Unsubscribe(2, ["t"]))
    client.expect_nothing()
    kept.commit()
    client.expect(Unsuback, packet_id=2)


def test_a_client_that_is_taken_over_before_connack_is_refused(kept: Kept) -> None:
    kept.by_hand()
    first = kept.connect("a")
    second = kept.connect("a")
    first.expect(Connack, reason=ReasonCode.SERVER_UNAVAILABLE)
    assert first.closed
    kept.commit()
    second.expect(Connack, reason=0)


def test_a_client_that_leaves_before_connack_has_no_will(kept: Kept) -> None:
    watcher = kept.bare.connect("watcher")
    watcher.subscribe("#", qos=1)
    kept.by_hand()
    client = kept.connect("a", will=Will("gone", b"x", 1))
    client.drop()
    other = kept.connect("b", will=Will("gone", b"y", 1))
    kept.connect("b")
    kept.commit()
    assert other.closed
    watcher.expect_nothing()


# --- QoS 1 -------------------------------------------------------------------------


@BOTH
def test_puback_waits_for_the_queue_of_a_client_that_is_away(kept: Kept, version: int) -> None:
    away(kept)
    source = kept.bare.connect("source", version)
    kept.by_hand()
    source.send_publish("t", b"x", 1)
    kept.tick()
    source.expect_nothing()
    kept.commit()
    source.expect(Puback, packet_id=1)


@BOTH
def test_puback_waits_for_a_client_that_is_here_and_nothing_is_written(
    kept: Kept, version: int
) -> None:
    sink = here(kept, version=version)
    source = kept.bare.connect("source", version)
    kept.by_hand()
    source.send_publish("t", b"x", 1)
    source.expect_nothing()
    sink.acknowledge(sink.expect(Publish, payload=b"x"))
    source.expect(Puback, packet_id=1)
    kept.tick()
    kept.commit()
    assert kept.rows("here") == []


def test_what_a_client_does_not_acknowledge_soon_is_written(kept: Kept) -> None:
    sink = here(kept)
    source = kept.bare.connect("source")
    kept.by_hand()
    source.send_publish("t", b"x", 1)
    message = sink.expect(Publish)
    kept.tick()
    source.expect_nothing()
    kept.commit()
    source.expect(Puback)
    assert len(kept.rows("here")) == 1
    sink.acknowledge(message)
    kept.commit()
    assert kept.rows("here") == []


def test_puback_waits_for_every_session(kept: Kept) -> None:
    away(kept)
    sink = here(kept)
    source = kept.bare.connect("source")
    kept.by_hand()
    source.send_publish("t", b"x", 1)
    sink.acknowledge(sink.expect(Publish))
    source.expect_nothing()
    kept.commit()
    source.expect(Puback)


def test_pubacks_keep_their_order(kept: Kept) -> None:
    client = kept.connect("away")
    client.subscribe("kept", qos=1)
    client.drop()
    source = kept.bare.connect("source")
    kept.by_hand()
    source.send_publish("kept", b"1", 1)
    source.send_publish("else", b"2", 1)
    source.expect_nothing()
    kept.commit()
    assert [packet.packet_id for packet in source.take(Puback)] == [1, 2]
    source.send_publish("else", b"3", 1)
    source.expect(Puback, packet_id=3)


def test_a_message_for_nobody_who_is_kept_costs_the_store_nothing(kept: Kept) -> None:
    sink = kept.bare.connect("sink")
    sink.subscribe("#", qos=2)
    source = kept.bare.connect("source")
    kept.by_hand()
    source.publish("t", b"x", 1)
    source.publish("t", b"x", 2)
    assert kept.store.waiting == 0


def test_a_client_with_too_much_unanswered_is_read_no_further() -> None:
    protocol = ProtocolSettings(receive_maximum=3)
    kept = Kept(listener=ListenerSettings("memory", allow_anonymous=True, protocol=protocol))
    away(kept)
    source = kept.bare.connect("source", MQTT311)
    kept.by_hand()
    for number in range(8):
        source.send_publish("t", b"%d" % number, 1)
    assert source.transport.paused
    assert kept.session("away").queued == 4
    kept.commit()
    kept.commit()
    assert [packet.packet_id for packet in source.take(Puback)] == list(range(1, 9))
    assert not source.transport.paused
    kept.bare.stop()


def test_a_retained_message_is_acknowledged_when_it_is_safe(kept: Kept) -> None:
    source = kept.bare.connect("source")
    kept.by_hand()
    source.send_publish("t", b"x", 1, retain=True)
    source.expect_nothing()
    kept.commit()
    source.expect(Puback)
    source.send_publish("t", b"", 1, retain=True)
    source.expect_nothing()
    kept.commit()
    source.expect(Puback)


def test_a_dropped_delivery_keeps_nobody_waiting() -> None:
    kept = Kept(bounded(maximum_queued_messages=1))
    away(kept)
    source = kept.bare.connect("source")
    for number in range(4):
        source.publish("t", b"%d" % number, 1)
    assert kept.session("away").queued == 1
    kept.crash()
    client = kept.connect("away")
    assert client.payloads() == [b"3"]
    kept.bare.stop()


def test_a_publisher_that_leaves_harms_nobody(kept: Kept) -> None:
    away(kept)
    source = kept.bare.connect("source")
    kept.by_hand()
    source.send_publish("t", b"x", 1)
    source.drop()
    kept.commit()
    assert len(kept.rows("away")) == 1


# --- QoS 2 -------------------------------------------------------------------------


@BOTH
def test_pubrec_waits_for_packet_id_and_message(kept: Kept, version: int) -> None:
    away(kept, qos=2)
    source = kept.connect("source", version)
    kept.by_hand()
    source.send_publish("t", b"x", 2)
    source.expect_nothing()
    kept.commit()
    source.expect(Pubrec, packet_id=1)
    source.send(Pubrel(1))
    source.expect_nothing()
    kept.commit()
    source.expect(Pubcomp, packet_id=1)


def test_a_qos_2_message_goes_out_when_it_is_safe(kept: Kept) -> None:
    sink = here(kept, qos=2)
    source = kept.connect("source")
    kept.by_hand()
    source.send_publish("t", b"x", 2)
    sink.expect_nothing()
    kept.commit()
    message = sink.expect(Publish, dup=False)
    sink.send(Pubrec(message.packet_id))
    sink.expect_nothing()
    kept.commit()
    sink.expect(Pubrel, packet_id=message.packet_id)
    sink.send(Pubcomp(message.packet_id))
    kept.commit()
    assert kept.rows("here") == []


def test_a_repeated_publish_is_answered_when_the_first_is_safe(kept: Kept) -> None:
    source = kept.connect("source")
    kept.by_hand()
    source.send_publish("t", b"x", 2, packet_id=7)
    source.drop()
    again = kept.connect("source")
    kept.commit()
    again.expect(Connack, session_present=True)
    again.send_publish("t", b"x", 2, packet_id=7, dup=True)
    again.expect_nothing()
    kept.commit()
    again.expect(Pubrec, packet_id=7)


def test_a_client_that_comes_back_before_the_commit_gets_its_message_once(kept: Kept) -> None:
    sink = here(kept, qos=2)
    source = kept.connect("source")
    kept.by_hand()
    source.send_publish("t", b"x", 2)
    sink.drop()
    again = kept.connect("here")
    kept.commit()
    kept.commit()
    assert again.take(Connack) != []
    assert again.payloads() == [b"x"]


# --- a store in trouble -------------------------------------------------------------


def test_a_5_0_publisher_hears_that_nothing_is_kept(kept: Kept) -> None:
    away(kept)
    source = kept.bare.connect("source")
    kept.store.fail()
    assert source.publish("t", b"x", 1).reason == ReasonCode.QUOTA_EXCEEDED  # type: ignore[union-attr]
    assert source.publish("t", b"x", 2).reason == ReasonCode.QUOTA_EXCEEDED  # type: ignore[union-attr]
    assert source.publish("t", b"x", 1, retain=True).reason == ReasonCode.QUOTA_EXCEEDED  # type: ignore[union-attr]
    kept.store.recover()
    assert source.publish("t", b"y", 1).reason == 0  # type: ignore[union-attr]
    assert kept.session("away").queued == 1


def test_a_3_1_1_publisher_waits_until_the_store_is_well(kept: Kept) -> None:
    away(kept)
    source = kept.bare.connect("source", MQTT311)
    kept.store.fail()
    source.send_publish("t", b"1", 1)
    source.send_publish("t", b"2", 1)
    source.expect_nothing()
    kept.store.recover()
    kept.bare.advance()
    assert [packet.packet_id for packet in source.take(Puback)] == [1, 2]
    assert kept.session("away").queued == 2
    assert kept.bare.broker.metrics.messages_received[1] == 2


def test_what_was_added_before_the_trouble_is_acknowledged_after_it(kept: Kept) -> None:
    away(kept)
    source = kept.bare.connect("source")
    kept.by_hand()
    source.send_publish("t", b"x", 1)
    kept.store.fail()
    kept.commit()
    source.expect_nothing()
    kept.store.recover()
    source.expect(Puback)


def test_no_session_is_promised_that_can_not_be_kept(kept: Kept) -> None:
    client = kept.connect("a")
    kept.store.fail()
    old = kept.connect("b", MQTT311)
    assert old.connack is not None
    assert old.connack.reason == 3
    new = kept.connect("c")
    assert new.connack is not None
    assert new.connack.reason == ReasonCode.QUOTA_EXCEEDED
    passing = kept.bare.connect("d")
    assert passing.connack is not None
    assert passing.connack.reason == 0
    assert client.subscribe("t", qos=1).reasons == [ReasonCode.QUOTA_EXCEEDED]


def test_other_messages_flow_while_the_store_is_in_trouble(kept: Kept) -> None:
    sink = kept.bare.connect("sink")
    sink.subscribe("live", qos=1)
    kept.store.fail()
    source = kept.bare.connect("source")
    assert source.publish("live", b"x", 1).reason == 0  # type: ignore[union-attr]
    assert sink.payloads() == [b"x"]


def test_what_waits_for_a_store_in_trouble_is_bounded(kept: Kept) -> None:
    away(kept)
    kept.store.fail()
    with patch.object(durability, "MAXIMUM_BACKLOG", 10_000):
        for _ in range(200):
            kept.bare.publish("t", b"x" * 1000, 1)
            kept.bare.connect("passing", will=Will("gone", b"x" * 1000, 1)).drop()
    assert kept.store.backlog < 20_000
    session = kept.session("away")
    assert session.queued + kept.bare.broker.metrics.dropped["store"] == 400
    kept.store.recover()
    kept.crash()
    assert kept.session("away").queued == session.queued


def test_a_session_that_its_client_ends_is_not_there_after_a_crash(kept: Kept) -> None:
    client = kept.connect("a")
    client.subscribe("#", qos=1)
    client.send(Disconnect(0, {"session_expiry_interval": 0}))
    assert client.closed
    kept.commit()
    kept.crash()
    assert "a" not in kept.bare.broker.sessions
