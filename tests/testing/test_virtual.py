"""The virtual broker and its clients, as a test of somebody's own would use them."""

from __future__ import annotations

import pytest

from mqttd.settings import BrokerSettings, ListenerSettings, ProtocolSettings
from mqttd.testing import VirtualBroker
from mqttd.testing.virtual import VirtualClock
from mqttd.wire.errors import ProtocolViolation
from mqttd.wire.packets import Connack, Pingreq, Pingresp, Puback, Publish, Will


def test_the_example_of_the_documentation() -> None:
    broker = VirtualBroker()
    alice = broker.connect("alice")
    bob = broker.connect("bob", version=4)
    bob.subscribe("rooms/+", qos=1)
    alice.publish("rooms/kitchen", b"21.5", qos=1)
    message = bob.expect(Publish, topic="rooms/kitchen", payload=b"21.5")
    bob.acknowledge(message)
    broker.advance(3600)
    bob.expect_nothing()
    assert not bob.closed


def test_time_stops_at_every_delayed_call() -> None:
    clock = VirtualClock()
    seen: list[float] = []

    def tick() -> None:
        seen.append(clock.seconds())
        clock.callLater(0.1, tick)

    clock.callLater(0.1, tick)
    clock.advance_through(1000)
    assert clock.seconds() == 1000
    assert len(seen) in (9_999, 10_000)
    assert seen[99] == pytest.approx(10)


def test_a_client_says_what_it_got_instead() -> None:
    client = VirtualBroker().connect("c")
    with pytest.raises(AssertionError, match=r"expected Pingresp and received nothing$"):
        client.expect(Pingresp)
    client.send(Pingreq())
    with pytest.raises(AssertionError, match=r"expected Puback, not Pingresp\(\)"):
        client.expect(Puback)
    client.send(Publish("t", qos=1, packet_id=7))
    with pytest.raises(AssertionError, match="with packet_id 8, not 7"):
        client.expect(Puback, packet_id=8)
    client.send(Pingreq())
    with pytest.raises(AssertionError, match="expected nothing, not"):
        client.expect_nothing()
    assert client.take(Pingresp) == [Pingresp()]
    client.send_bytes(b"\xff\xff")
    client.received.clear()
    with pytest.raises(AssertionError, match="and the connection was closed"):
        client.expect(Pingresp)
    with pytest.raises(AssertionError, match="expected one Suback"):
        client.subscribe("t")


def test_a_client_notices_what_the_broker_may_not_send() -> None:
    client = VirtualBroker().connect("c")
    client.transport.write(b"\x20\x02\x00\x77")
    with pytest.raises(ProtocolViolation):
        assert client.received


def test_fields_and_properties_are_told_apart() -> None:
    broker = VirtualBroker()
    client = broker.connect(
        "c", keep_alive=30, will=Will("w", b""), session_expiry_interval=100, receive_maximum=3
    )
    assert client.connack is not None
    assert client.connack.reason == 0
    client.drop()
    assert "c" in broker.broker.sessions
    broker.advance(101)
    assert "c" not in broker.broker.sessions


def test_an_assigned_client_id_is_taken_over() -> None:
    client = VirtualBroker().connect("")
    assert client.client_id.startswith("auto-")


def test_the_listener_of_the_settings_is_used() -> None:
    listener = ListenerSettings("tcp:1883", allow_anonymous=True, mount_point="site/")
    broker = VirtualBroker(BrokerSettings(listeners=(listener,)))
    broker.connect("c").publish("t", b"x", retain=True)
    assert broker.broker.retained.get("site/t") is not None


def test_settings_of_the_broker_reach_its_listener() -> None:
    broker = VirtualBroker(BrokerSettings(protocol=ProtocolSettings(maximum_qos=0)))
    connack = broker.connect("c").connack
    assert connack is not None
    assert connack.properties["maximum_qos"] == 0


@pytest.mark.parametrize("version", [3, 4, 5])
def test_whole_exchanges(version: int) -> None:
    broker = VirtualBroker()
    client = broker.connect("c", version)
    client.subscribe("a", "b", qos=2)
    for qos in (0, 1, 2):
        client.publish("a", qos=qos)
        broker.publish("b", qos=qos)
    for message in client.messages():
        client.acknowledge(message)
    client.unsubscribe("a", "b")
    client.expect_nothing()
    client.disconnect()
    assert client.closed_reason in ("closed", "by client")


def test_a_connection_without_connect() -> None:
    broker = VirtualBroker()
    client = broker.open()
    assert client.connack is None
    broker.advance(60)
    assert client.closed
    late = broker.open(4)
    late.connect("late")
    assert late.connack == Connack(False, 0)


def test_a_client_that_does_not_read_backs_up() -> None:
    broker = VirtualBroker()
    client = broker.connect("c")
    client.subscribe("t")
    client.stop_reading()
    for _ in range(10):
        broker.publish("t", bytes(60_000))
    assert client.received == []
    assert client.transport.waiting < 600_000
    client.start_reading()
    assert len(client.messages()) == 10


def test_nothing_is_left_on_the_clock_after_stop() -> None:
    broker = VirtualBroker()
    client = broker.connect("c")
    client.disconnect()
    broker.advance(1)
    broker.stop()
    assert broker.clock.getDelayedCalls() == []
