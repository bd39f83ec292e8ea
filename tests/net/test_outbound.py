"""Output: gathered, held back while the network is slow, and bounded."""

from __future__ import annotations

from typing import Any

import pytest

from mqttd.settings import BrokerSettings, ConnectionLimits, Rate, SessionSettings
from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.packets import Pingreq, Pingresp, Publish
from mqttd.wire.serializer import serialize


def count_writes(client: VirtualClient) -> list[bytes]:
    """What the broker gives the network for *client* from now on, piece by piece."""
    transport: Any = client.transport
    pieces: list[bytes] = []
    write = transport.write

    def counted(data: bytes) -> None:
        pieces.append(data)
        write(data)

    transport.write = counted
    return pieces


def broker_with(**limits: Any) -> VirtualBroker:
    return VirtualBroker(BrokerSettings(limits=ConnectionLimits(**limits)))


@pytest.mark.parametrize("fast_lane", [True, False])
def test_what_one_read_causes_leaves_in_one_write_for_each_client(fast_lane: bool) -> None:
    broker = broker_with()
    broker.broker.use_fast_lane = fast_lane
    receivers = [broker.connect(name) for name in "abc"]
    for client in receivers:
        client.subscribe("t", qos=1)
    sender = broker.connect("sender")
    counted = [count_writes(client) for client in (*receivers, sender)]
    sender.send(*(Publish("t", b"x", 1, packet_id=number) for number in range(1, 21)))
    assert [len(pieces) for pieces in counted] == [1, 1, 1, 1]
    for client in receivers:
        assert len(client.messages()) == 20


def alone(**limits: Any) -> tuple[VirtualBroker, VirtualClient, VirtualClient]:
    """A receiver of topic t, and a sender whose next message takes the shortest way."""
    broker = broker_with(**limits)
    receiver, sender = broker.connect("r"), broker.connect("s")
    receiver.subscribe("t", qos=1)
    for client in (receiver, sender):
        client.publish("t", b"learned", qos=1)
    for message in receiver.messages():
        receiver.acknowledge(message)
    return broker, receiver, sender


def test_a_message_alone_and_its_answer_leave_at_once() -> None:
    _, receiver, sender = alone()
    pieces = [count_writes(client) for client in (receiver, sender)]
    sender.send(Publish("t", b"x", 1, packet_id=7))
    assert [len(each) for each in pieces] == [1, 1]
    pieces = [count_writes(receiver)]
    receiver.send(Publish("t", b"to himself", 1, packet_id=7))
    assert [len(each) for each in pieces] == [1]
    assert [message.payload for message in receiver.messages()] == [b"x", b"to himself"]


def test_a_message_alone_goes_behind_what_waits() -> None:
    broker, receiver, sender = alone()
    broker.broker.publish("t", b"earlier", 1)
    assert receiver.messages() == []
    sender.send(Publish("t", b"x", 1, packet_id=7))
    assert [message.payload for message in receiver.messages()] == [b"earlier", b"x"]


def test_a_message_alone_is_paced_as_others_are() -> None:
    broker, receiver, sender = alone(outbound_bytes=Rate(100, 100))
    broker.advance(10)
    for number in range(5):
        sender.send(Publish("t", bytes(50) + bytes([number]), 1, packet_id=7 + number))
    seen = len(receiver.messages())
    assert 0 < seen < 5
    broker.advance(10)
    assert len(receiver.messages()) == 5 - seen


def test_a_network_that_breaks_under_a_message_alone_breaks_nothing_else() -> None:
    broker, receiver, sender = alone()

    def broken(data: bytes) -> None:
        raise RuntimeError("a test")

    transport: Any = receiver.transport
    transport.write = broken
    assert sender.publish("t", b"x", qos=1) is not None
    assert broker.broker.metrics.errors == {}


def test_what_the_broker_itself_publishes_leaves_in_one_write() -> None:
    broker = broker_with()
    client = broker.connect("a")
    client.subscribe("t")
    pieces = count_writes(client)
    for number in range(10):
        broker.broker.publish("t", b"%d" % number)
    assert pieces == []
    broker.advance()
    assert len(pieces) == 1
    assert [message.payload for message in client.messages()] == [b"%d" % n for n in range(10)]


def test_sent_bytes_are_counted() -> None:
    broker = broker_with()
    client = broker.connect("a")
    before = broker.broker.metrics.bytes_sent
    client.send(Pingreq(), Pingreq())
    assert broker.broker.metrics.bytes_sent - before == 2 * len(serialize(Pingresp(), 5))


@pytest.mark.parametrize("buffer", [1000, 65_536, 300_000])
def test_a_slow_reader_gets_everything_in_order(buffer: int) -> None:
    broker = VirtualBroker(
        BrokerSettings(
            limits=ConnectionLimits(output_buffer=buffer), session=SessionSettings(queue_qos0=True)
        )
    )
    slow = broker.connect("slow")
    slow.subscribe("t", qos=1)
    sender = broker.connect("sender")
    slow.stop_reading()
    for number in range(500):
        sender.publish("t", number.to_bytes(4, "big") + bytes(2000), qos=1)
    # Twisted's own buffer comes on top, and one frame over each.
    assert slow.transport.waiting <= 65_536 + buffer + 5000
    got: list[int] = []
    while len(got) < 500:
        slow.start_reading()
        messages = slow.messages()
        assert messages, f"only {len(got)} came"
        got += [int.from_bytes(message.payload[:4], "big") for message in messages]
        slow.stop_reading()
        for message in messages:
            slow.acknowledge(message)
    assert got == list(range(500))


def test_a_reader_that_is_stuck_costs_the_others_nothing() -> None:
    """Catalogue 56: it reads nothing while publishers run; its bytes are bounded."""
    broker = VirtualBroker(
        BrokerSettings(session=SessionSettings(maximum_queued_bytes=100_000, queue_qos0=True))
    )
    stuck, well = broker.connect("stuck"), broker.connect("well")
    for client in (stuck, well):
        client.subscribe("t")
    stuck.stop_reading()
    sender = broker.connect("sender")
    for _ in range(1000):
        sender.send(*(Publish("t", bytes(1000)) for _ in range(5)))
        assert len(well.messages()) == 5
    protocol: Any = stuck.transport.protocol
    held = stuck.transport.waiting + sum(map(len, protocol._frames))
    assert held < 250_000
    assert broker.broker.metrics.dropped.total() > 4000
    stuck.start_reading()
    assert 0 < len(stuck.messages()) < 400
    well.send(Pingreq())
    well.expect(Pingresp)


def test_a_client_that_does_not_take_its_answers_is_read_no_further() -> None:
    """Catalogue 34, after CONNECT: questions without end, and no answer read."""
    broker = broker_with(output_buffer=10_000)
    client = broker.connect("a")
    client.stop_reading()
    for _ in range(20):
        client.transport.send(serialize(Pingreq(), 5) * 10_000)
    broker.advance()
    assert client.transport.is_paused
    protocol: Any = client.transport.protocol
    # Two bytes in, two bytes out: no more than was read at once.
    held = client.transport.waiting + sum(map(len, protocol._frames))
    assert held < 65_536 + 3 * 65_536
    client.start_reading()
    broker.advance(1)
    assert client.transport.take() == serialize(Pingresp(), 5) * 200_000
    assert not client.closed


def test_a_client_that_takes_nothing_is_cut_after_the_send_timeout() -> None:
    broker = broker_with(send_timeout=30.0)
    stuck, idle = broker.connect("stuck"), broker.connect("idle")
    stuck.subscribe("t")
    stuck.stop_reading()
    for _ in range(200):
        broker.publish("t", bytes(1000))
    broker.advance(29)
    assert not stuck.closed
    broker.advance(35)
    assert stuck.closed_reason == "aborted"
    assert broker.broker.metrics.closed["send-timeout"] == 1
    assert not idle.closed


def test_without_a_send_timeout_its_queue_waits() -> None:
    broker = broker_with()
    stuck = broker.connect("stuck", keep_alive=0)
    stuck.subscribe("t")
    stuck.stop_reading()
    for _ in range(200):
        broker.publish("t", bytes(1000))
    broker.advance(100_000)
    assert not stuck.closed


def test_a_client_that_takes_something_now_and_then_is_not_cut() -> None:
    broker = broker_with(send_timeout=30.0)
    slow = broker.connect("slow", keep_alive=0)
    slow.subscribe("t")
    for _ in range(20):
        slow.stop_reading()
        for _ in range(200):
            broker.publish("t", bytes(1000))
        broker.advance(20)
        slow.start_reading()
        slow.messages()
    assert not slow.closed


class Examined(bytes):
    """A frame that counts how often its length is asked."""

    asked = 0

    def __len__(self) -> int:
        Examined.asked += 1
        return super().__len__()


@pytest.mark.parametrize("waiting", [100, 1000])
def test_a_paced_frame_costs_the_same_however_many_wait(waiting: int) -> None:
    broker = broker_with(outbound_bytes=Rate(100, 1))
    client = broker.connect("a", 4)
    protocol: Any = client.transport.protocol
    for _ in range(waiting):
        protocol.write(Examined(b"\xd0\x00"))
    Examined.asked = 0
    broker.advance(1.0)
    assert Examined.asked <= 2 * 50
