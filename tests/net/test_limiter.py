"""Rates: what a client may send and is sent over time, as it would measure it."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from mqttd.net.limiter import SharedBuckets, TokenBucket
from mqttd.settings import BrokerSettings, ConnectionLimits, Rate, SharedLimits
from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.packets import Pingreq, Pingresp, Publish
from mqttd.wire.serializer import serialize
from tests.conftest import examples

MINUTE = 60.0


def limited(shared: SharedLimits | None = None, **limits: Any) -> VirtualBroker:
    return VirtualBroker(
        BrokerSettings(limits=ConnectionLimits(**limits), shared_limits=shared or SharedLimits())
    )


def frame(size: int, topic: str = "t") -> bytes:
    """A PUBLISH of *size* bytes."""
    data = b""
    for payload in range(max(0, size - 10), size):
        data = serialize(Publish(topic, bytes(payload)), 4)
        if len(data) == size:
            break
    assert len(data) == size
    return data


def flood(client: VirtualClient, data: bytes, chunk: int) -> None:
    """Send *data* in pieces of *chunk* bytes, as fast as the broker takes them."""
    for start in range(0, len(data), chunk):
        client.transport.send(data[start : start + chunk])


@pytest.mark.parametrize("fast_lane", [True, False])
@pytest.mark.parametrize("chunk", [97, 1460, 16_384, 65_536])
def test_a_client_is_held_to_its_bytes_per_second(chunk: int, fast_lane: bool) -> None:
    rate, burst = 20_000, 30_000
    broker = limited(inbound_bytes=Rate(rate, burst))
    broker.broker.use_fast_lane = fast_lane
    client = broker.connect("a", 4, keep_alive=10)
    before = broker.broker.metrics.bytes_received
    flood(client, frame(200) * 8000, chunk)
    broker.advance(MINUTE)
    received = broker.broker.metrics.bytes_received - before
    # Of a large chunk only the part that is paid for counts.
    assert received - burst == pytest.approx(rate * MINUTE, rel=0.02, abs=chunk)
    assert not client.closed, "keep alive cut a client that was waiting for us"


@pytest.mark.parametrize("chunk", [1, 7, 500, 65_536])
def test_a_client_is_held_to_its_messages_per_second(chunk: int) -> None:
    broker = limited(inbound_messages=Rate(50, 100))
    client = broker.connect("a", 4)
    flood(client, frame(20) * 4000, chunk)
    broker.advance(MINUTE)
    handled = broker.broker.metrics.messages_received[0]
    assert handled - 100 == pytest.approx(50 * MINUTE, rel=0.02)


def test_the_stricter_of_bytes_and_messages_decides() -> None:
    broker = limited(inbound_messages=Rate(10), inbound_bytes=Rate(100_000))
    client = broker.connect("a", 4)
    flood(client, frame(100) * 2000, 1000)
    broker.advance(MINUTE)
    assert broker.broker.metrics.messages_received[0] == pytest.approx(10 * MINUTE, rel=0.03)


@settings(max_examples=examples(0.5))
@given(
    chunks=st.lists(st.integers(1, 5000), min_size=1, max_size=50),
    rate=st.integers(100, 100_000),
    burst=st.integers(1, 100_000),
)
def test_a_bucket_never_gives_more_than_its_rate(chunks: list[int], rate: int, burst: int) -> None:
    clock = Clock()
    bucket = TokenBucket(Rate(rate, burst), clock.seconds)
    # From a hundredth of a second's worth to fifty seconds'.
    chunks = [max(1, part * rate // 100) for part in chunks]
    total = 0
    while clock.seconds() < MINUTE:
        for chunk in chunks:
            total += chunk
            clock.advance(bucket.take(chunk))
    assert total - burst == pytest.approx(rate * clock.seconds(), rel=0.02, abs=max(chunks))


def test_a_bucket_saves_up_to_its_burst_and_no_more() -> None:
    clock = Clock()
    bucket = TokenBucket(Rate(10, 50), clock.seconds)
    assert bucket.take(50) == 0
    clock.advance(1000)
    assert bucket.take(50) == 0
    assert bucket.take(5) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("shared", "fields"),
    [
        (SharedLimits(address_inbound_bytes=Rate(10_000)), {"address": "192.0.2.7"}),
        (SharedLimits(user_inbound_bytes=Rate(10_000)), {}),
    ],
    ids=["address", "user"],
)
def test_connections_of_one_address_or_user_share_their_rate(
    shared: SharedLimits, fields: dict[str, Any]
) -> None:
    broker = limited(shared)
    clients = [broker.connect(name, 4, **fields) for name in "abc"]
    for client in clients:
        protocol: Any = client.transport.protocol
        if not fields:
            # Nobody has a name here: what CONNECT would have told.
            protocol.accepted(4, 0, 0, "alice")
        flood(client, frame(200) * 2000, 2000)
    before = broker.broker.metrics.bytes_received
    broker.advance(MINUTE)
    received = broker.broker.metrics.bytes_received - before
    assert received == pytest.approx(10_000 * MINUTE, rel=0.05)


def test_another_address_has_a_rate_of_its_own() -> None:
    broker = limited(SharedLimits(address_inbound_bytes=Rate(1000)))
    greedy = broker.connect("a", 4, address="192.0.2.7")
    flood(greedy, frame(200) * 100, 2000)
    modest = broker.connect("b", 4, address="192.0.2.8")
    modest.send(Pingreq())
    modest.expect(Pingresp)
    greedy.send(Pingreq())
    greedy.expect_nothing()


def test_names_that_rest_are_forgotten() -> None:
    clock = Clock()
    buckets = SharedBuckets(Rate(10), None, clock.seconds)
    owing = buckets.of("owing")[0]
    assert owing is not None
    owing.take(1_000_000)
    for number in range(3 * SharedBuckets.ROOM):
        buckets.of(str(number))
    assert len(buckets) <= SharedBuckets.ROOM
    assert buckets.of("owing")[0] is owing


def test_a_name_that_rested_while_connected_still_has_one_rate() -> None:
    rate, burst = 1000, 1000
    broker = limited(SharedLimits(user_inbound_bytes=Rate(rate, burst)))
    limits = broker.factory.limits
    first = limits.join_user(None, "name")
    assert first is not None
    broker.advance(MINUTE)
    for number in range(2 * SharedBuckets.ROOM):
        limits.join_user(None, str(number))
    second = limits.join_user(None, "name")
    assert second is not None
    assert first.take_bytes(burst) == 0.0
    assert second.take_bytes(rate) == pytest.approx(1.0)


def test_shared_rates_change_while_connections_have_them() -> None:
    broker = limited(SharedLimits(address_inbound_bytes=Rate(1000)))
    clients = [broker.connect(name, 4, address="192.0.2.7") for name in "ab"]
    limits = broker.factory.limits
    limits.change(SharedLimits(address_inbound_bytes=Rate(10_000)))
    clients.append(broker.connect("c", 4, address="192.0.2.7"))
    for client in clients:
        flood(client, frame(200) * 4000, 2000)
    before = broker.broker.metrics.bytes_received
    broker.advance(MINUTE)
    received = broker.broker.metrics.bytes_received - before
    assert received == pytest.approx(10_000 * MINUTE, rel=0.05)


def test_a_shared_rate_may_come_and_go() -> None:
    broker = limited()
    limits = broker.factory.limits
    limits.change(SharedLimits(address_inbound_bytes=Rate(1000)))
    first = limits.for_connection(ConnectionLimits(), "192.0.2.7")
    assert first is not None
    limits.change(SharedLimits())
    assert limits.for_connection(ConnectionLimits(), "192.0.2.7") is None
    limits.change(SharedLimits(address_inbound_bytes=Rate(10)))
    second = limits.for_connection(ConnectionLimits(), "192.0.2.7")
    assert second is not None
    assert first.bytes == second.bytes


def test_a_rate_can_be_read_and_changed_while_the_client_waits() -> None:
    broker = limited(inbound_bytes=Rate(10, 1000))
    client = broker.connect("a", 4)
    protocol: Any = client.transport.protocol
    assert protocol.inbound_rates == (Rate(10, 1000), None)
    flood(client, frame(200) * 1000, 20_000)
    assert client.transport.is_paused
    protocol.change_inbound_rates(Rate(10_000, 10_000), None)
    assert protocol.inbound_rates == (Rate(10_000, 10_000), None)
    broker.advance(10)
    received = broker.broker.metrics.bytes_received
    assert 80_000 < received < 140_000
    protocol.change_inbound_rates(None, None)
    broker.advance(0)
    assert broker.broker.metrics.bytes_received > 200_000
    assert protocol.inbound_rates == (None, None)


def test_a_message_rate_can_be_set_on_a_connection_that_had_none() -> None:
    broker = limited()
    client = broker.connect("a", 4)
    client.send_bytes(frame(50) * 10)
    protocol: Any = client.transport.protocol
    protocol.change_inbound_rates(None, Rate(5, 5))
    flood(client, frame(50) * 1000, 500)
    broker.advance(MINUTE)
    assert broker.broker.metrics.messages_received[0] - 15 == pytest.approx(5 * MINUTE, rel=0.02)


def receiver(broker: VirtualBroker) -> VirtualClient:
    client = broker.connect("receiver", 4)
    client.subscribe("t")
    return client


@pytest.mark.parametrize("size", [50, 5000])
def test_a_client_is_sent_its_bytes_per_second(size: int) -> None:
    broker = limited(outbound_bytes=Rate(5000, 5000))
    client = receiver(broker)
    start = broker.broker.metrics.bytes_sent
    sender = evolve_rates(broker.connect("sender", 4))
    for _ in range(100):
        flood(sender, frame(size) * (10_000 // size), 65_536)
        broker.advance(0.6)
    sent = broker.broker.metrics.bytes_sent - start
    assert sent - 5000 == pytest.approx(5000 * MINUTE, rel=0.02, abs=size)
    assert client.messages()


def evolve_rates(client: VirtualClient) -> VirtualClient:
    """*client* without the limits of the listener."""
    protocol: Any = client.transport.protocol
    protocol.change_outbound_rates(None, None)
    return client


def test_a_client_is_sent_its_messages_per_second_and_answers_at_once() -> None:
    broker = limited(outbound_messages=Rate(10, 10))
    client = receiver(broker)
    client.send(Pingreq())
    client.expect(Pingresp)
    sender = evolve_rates(broker.connect("sender", 4))
    for _ in range(120):
        flood(sender, frame(40) * 10, 65_536)
        broker.advance(0.5)
    assert len(client.messages()) - 10 == pytest.approx(10 * MINUTE, rel=0.02)


def test_the_outbound_rate_can_be_read_and_changed() -> None:
    broker = limited(outbound_messages=Rate(0.01, 1))
    client = receiver(broker)
    broker.publish("t", b"1")
    broker.publish("t", b"2")
    client.messages()
    protocol: Any = client.transport.protocol
    assert protocol.outbound_rates == (None, Rate(0.01, 1))
    client.send(Pingreq())
    client.expect_nothing()
    protocol.change_outbound_rates(None, Rate(1000))
    broker.advance(1)
    client.expect(Pingresp)
    assert protocol.outbound_rates == (None, Rate(1000, 1000))


def test_nothing_is_left_on_the_clock_of_a_client_that_left_while_it_waited() -> None:
    broker = limited(inbound_bytes=Rate(1, 100), outbound_bytes=Rate(1, 100))
    client = broker.connect("a", 4)
    client.subscribe("t")
    flood(client, frame(200) * 100, 2000)
    client.close()
    broker.stop()
    assert broker.clock.getDelayedCalls() == []


def test_settings_can_be_evolved_for_later_connections() -> None:
    broker = limited()
    first = broker.connect("a", 4)
    limits = evolve(broker.listener.limits, inbound_bytes=Rate(7))
    broker.factory.settings = evolve(broker.listener, limits=limits)
    second = broker.connect("b", 4)
    rates: list[Any] = [
        client.transport.protocol.inbound_rates  # type: ignore[union-attr]
        for client in (first, second)
    ]
    assert rates == [(None, None), (Rate(7, 7), None)]
