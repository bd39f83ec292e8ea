"""A broker that misbehaves, as a client sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mqttd.testing import VirtualBroker
from mqttd.testing.faults import GARBAGE, split_frames
from mqttd.wire.codes import PacketType
from mqttd.wire.packets import (
    Connack,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
)


@pytest.fixture
def virtual() -> Iterator[VirtualBroker]:
    broker = VirtualBroker()
    _ = broker.faults
    yield broker
    broker.stop()
    assert broker.clock.getDelayedCalls() == []


def publish(client: Any, number: int, qos: int = 1) -> None:
    client.send(Publish("t", b"", qos, packet_id=number))


def test_without_faults_everything_is_as_ever(virtual: VirtualBroker) -> None:
    client = virtual.connect("x")
    client.subscribe("#", qos=2)
    for qos in (0, 1, 2):
        client.publish("t", bytes(1000), qos)
    for message in client.messages():
        client.acknowledge(message)
    assert virtual.faults.pending == 0
    sent = [seen.packet_type for seen in virtual.faults.seen if seen.sent]
    assert sent.count(PacketType.PUBLISH) == 3
    assert sent[:2] == [PacketType.CONNACK, PacketType.SUBACK]
    came = [seen.packet_type for seen in virtual.faults.seen if not seen.sent]
    assert came[:2] == [PacketType.CONNECT, PacketType.SUBSCRIBE]


def test_an_acknowledgement_is_lost(virtual: VirtualBroker) -> None:
    client = virtual.connect("x")
    virtual.faults.drop(Puback, times=2, after=1)
    for number in (1, 2, 3, 4):
        publish(client, number)
    assert [packet.packet_id for packet in client.take(Puback)] == [1, 4]
    assert virtual.faults.pending == 0


def test_an_acknowledgement_is_late(virtual: VirtualBroker) -> None:
    client = virtual.connect("x", keep_alive=0)
    virtual.faults.delay(Puback, 10)
    publish(client, 1)
    publish(client, 2)
    client.expect(Puback, packet_id=2)
    virtual.advance(9.9)
    client.expect_nothing()
    virtual.advance(0.2)
    client.expect(Puback, packet_id=1)


def test_what_is_late_dies_with_its_connection(virtual: VirtualBroker) -> None:
    client = virtual.connect("x", keep_alive=0)
    virtual.faults.delay(Puback, 10)
    publish(client, 1)
    client.drop()


@pytest.mark.parametrize("packet", [Pubrec, Pubcomp])
def test_an_acknowledgement_comes_twice(virtual: VirtualBroker, packet: Any) -> None:
    client = virtual.connect("x")
    virtual.faults.duplicate(packet)
    publish(client, 1, 2)
    client.send(Pubrel(1))
    assert len(client.take(packet)) == 2


@pytest.mark.parametrize("version", [4, 5])
def test_any_reason_code_can_be_sent(virtual: VirtualBroker, version: int) -> None:
    client = virtual.connect("x", version)
    if version == 5:
        virtual.faults.quota_exceeded(Puback)
        publish(client, 1)
        client.expect(Puback, reason=0x97)
    virtual.faults.answer(Suback, 0x80)
    client.send(Subscribe(2, [SubscriptionRequest("a"), SubscriptionRequest("b")]))
    client.expect(Suback, reasons=[0x80, 0x80])
    # The broker itself is right.
    assert len(virtual.broker.router) == 2


def test_a_packet_without_reason_code_can_not_have_one(virtual: VirtualBroker) -> None:
    client = virtual.connect("x")
    virtual.faults.answer(Pingresp, 0x80)
    client.send(Pingreq())
    assert virtual.broker.metrics.errors["connection"] == 1


@pytest.mark.parametrize("version", [4, 5])
def test_a_client_is_refused_and_the_next_is_not(virtual: VirtualBroker, version: int) -> None:
    virtual.faults.answer(Connack, 0x88 if version == 5 else 3)
    client = virtual.connect("x", version)
    assert client.connack is not None
    assert client.connack.reason
    assert client.closed
    again = virtual.connect("x", version)
    assert again.connack is not None
    assert again.connack.reason == 0


def test_a_client_is_sent_elsewhere(virtual: VirtualBroker) -> None:
    virtual.faults.redirect("other:1883")
    client = virtual.connect("x")
    assert client.connack == Connack(False, 0x9C, {"server_reference": "other:1883"})


def test_bytes_come_that_are_no_mqtt(virtual: VirtualBroker) -> None:
    client = virtual.connect("x")
    virtual.faults.send_instead(Puback)
    publish(client, 1)
    assert client.transport.take() == GARBAGE


def test_a_connection_dies_where_the_answer_is_due(virtual: VirtualBroker) -> None:
    client = virtual.connect("x")
    virtual.faults.cut(Puback)
    publish(client, 1)
    client.expect_nothing()
    assert client.closed


def test_a_packet_is_cut_short(virtual: VirtualBroker) -> None:
    client = virtual.connect("x")
    virtual.faults.cut_short(Puback, 2)
    publish(client, 1)
    assert client.transport.take() == b"\x40\x03"
    assert client.closed


def test_a_connection_dies_at_a_packet(virtual: VirtualBroker) -> None:
    virtual.faults.kill_at(3)
    client = virtual.connect("x")
    client.subscribe("t")
    publish(client, 1)
    assert client.closed
    assert virtual.broker.metrics.messages_received == [0, 0, 0]
    again = virtual.connect("x")
    again.subscribe("t")
    again.publish("t", qos=1)
    assert not again.closed


def test_the_broker_falls_silent(virtual: VirtualBroker) -> None:
    virtual.faults.fall_silent("x")
    quiet, other = virtual.connect("x"), virtual.connect("y")
    assert quiet.connack is None
    assert not quiet.closed
    assert other.connack is not None
    virtual.faults.clear()
    quiet.send(Pingreq())
    quiet.expect(Pingresp)


def test_a_fault_may_be_for_one_client(virtual: VirtualBroker) -> None:
    one, two = virtual.connect("one"), virtual.connect("two")
    virtual.faults.drop(Puback, client_id="two")
    for client in (one, two):
        publish(client, 1)
    one.expect(Puback)
    two.expect_nothing()


def test_bad_bytes_from_the_client_are_the_brokers_to_judge(virtual: VirtualBroker) -> None:
    for data in (b"\x00\x00", b"\x30\xff\xff\xff\xff\x01", b"\xf0\x00"):
        client = virtual.connect("x")
        client.send_bytes(data)
        assert client.closed


def test_pieces_are_put_together(virtual: VirtualBroker) -> None:
    client = virtual.connect("x")
    client.subscribe("t")
    from mqttd.wire.serializer import serialize

    for byte in serialize(Publish("t", bytes(300), 1, packet_id=9), 5):
        client.send_bytes(bytes((byte,)))
    assert len(client.messages()) == 1


@pytest.mark.parametrize(
    ("data", "frames", "rest", "bad"),
    [
        (b"", [], b"", False),
        (b"\x30", [], b"\x30", False),
        (b"\xc0\x00\xc0\x00", [b"\xc0\x00"] * 2, b"", False),
        (b"\xc0\x00\x30\x05ab", [b"\xc0\x00"], b"\x30\x05ab", False),
        (b"\x30\x80", [], b"\x30\x80", False),
        (b"\x30\xff\xff\xff\xff", [], b"\x30\xff\xff\xff\xff", True),
        (b"\xc0\x00\x00\x00", [b"\xc0\x00"], b"\x00\x00", True),
    ],
)
def test_frames_are_told_apart(data: bytes, frames: list[bytes], rest: bytes, bad: bool) -> None:
    assert split_frames(data) == (frames, rest, bad)
