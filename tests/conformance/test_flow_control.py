"""Flow control and sizes (sections 3.1.2.11.3 and .4, 3.3.4, 4.9)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqttd.testing import VirtualBroker
from mqttd.wire.codes import MQTT5, ReasonCode
from mqttd.wire.packets import (
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
from mqttd.wire.serializer import serialize

from .support import broker_with, expect_closed, keep


@pytest.mark.statement("MQTT-3.3.4-7")
def test_more_than_the_receive_maximum_disconnects() -> None:
    broker = broker_with(receive_maximum=3)
    client = broker.connect("c")
    assert client.connack is not None
    assert client.connack.properties["receive_maximum"] == 3
    for packet_id in (1, 2, 3):
        client.send(Publish("t", qos=2, packet_id=packet_id))
        client.expect(Pubrec, packet_id=packet_id, reason=ReasonCode.NO_MATCHING_SUBSCRIBERS)
    client.send(Publish("t", qos=1, packet_id=4))
    expect_closed(client, ReasonCode.RECEIVE_MAXIMUM_EXCEEDED)


@pytest.mark.statement("MQTT-3.3.4-7")
def test_what_is_complete_does_not_count_against_the_receive_maximum() -> None:
    client = broker_with(receive_maximum=2).connect("c")
    for _ in range(5):
        client.publish("t", qos=2)
        client.publish("t", qos=1)
    client.send(Publish("t", qos=2, packet_id=100))
    client.send(Publish("t", qos=2, packet_id=100, dup=True))
    client.send(Publish("t", qos=2, packet_id=101))
    client.send(Publish("t", qos=0))
    assert len(client.take(Pubrec)) == 3
    assert not client.closed


@pytest.mark.statement("MQTT-3.3.4-9", "MQTT-4.9.0-1", "MQTT-4.9.0-2")
@pytest.mark.parametrize("maximum", [1, 2, 10])
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("version", [MQTT5])
def test_no_more_than_the_clients_receive_maximum_is_under_way(
    mqtt: VirtualBroker, publish: Callable[..., None], maximum: int, qos: int
) -> None:
    reader = mqtt.connect("reader", receive_maximum=maximum)
    reader.subscribe("t", qos=qos)
    for number in range(25):
        publish("t", str(number).encode(), qos=qos)
    under_way = reader.messages()
    received = []
    assert len(under_way) == maximum
    while under_way:
        message = under_way.pop(0)
        received.append(int(message.payload))
        reader.acknowledge(message)
        under_way += reader.messages()
        assert len(under_way) <= maximum
    assert received == list(range(25))


@pytest.mark.statement("MQTT-4.9.0-1", "MQTT-3.3.4-9")
@pytest.mark.parametrize("version", [MQTT5])
def test_the_quota_begins_anew_with_each_connection(
    mqtt: VirtualBroker, publish: Callable[..., None]
) -> None:
    reader = mqtt.connect("reader", receive_maximum=2, **keep(MQTT5))
    reader.subscribe("t", qos=1)
    for _ in range(6):
        publish("t", qos=1)
    assert len(reader.messages()) == 2
    reader.drop()
    reader = mqtt.connect("reader", receive_maximum=3, **keep(MQTT5))
    assert len(reader.messages()) == 3
    # A smaller window than what is unacknowledged already: only so much again.
    reader.drop()
    reader = mqtt.connect("reader", receive_maximum=1, **keep(MQTT5))
    first = reader.messages()
    assert len(first) == 1
    reader.acknowledge(first[0])
    assert len(reader.messages()) == 1


@pytest.mark.statement("MQTT-4.9.0-2", "MQTT-3.3.4-9")
@pytest.mark.parametrize("version", [MQTT5])
def test_pubrec_does_not_free_the_quota_and_an_error_does(
    mqtt: VirtualBroker, publish: Callable[..., None]
) -> None:
    reader = mqtt.connect("reader", receive_maximum=1)
    reader.subscribe("t", qos=2)
    for number in range(3):
        publish("t", str(number).encode(), qos=2)
    first = reader.expect(Publish)
    reader.send(Pubrec(first.packet_id))
    reader.expect(Pubrel)
    reader.expect_nothing()  # PUBCOMP is still to come
    reader = mqtt.connect("refuser", receive_maximum=1)
    reader.subscribe("u", qos=2)
    for number in range(3):
        mqtt.publish("u", str(number).encode(), qos=2)
    first = reader.expect(Publish)
    reader.send(Pubrec(first.packet_id, ReasonCode.UNSPECIFIED_ERROR))
    reader.expect(Publish, payload=b"1")


@pytest.mark.statement("MQTT-3.3.4-10", "MQTT-4.9.0-3")
@pytest.mark.parametrize("version", [MQTT5])
def test_everything_else_is_served_at_quota_zero(
    mqtt: VirtualBroker, publish: Callable[..., None]
) -> None:
    client = mqtt.connect("c", receive_maximum=1)
    client.subscribe("t", qos=2)
    publish("t", b"1", qos=2)
    publish("t", b"2", qos=2)
    held = client.expect(Publish, payload=b"1")
    client.expect_nothing()
    client.send(Pingreq())
    client.expect(Pingresp)
    client.send(Subscribe(1, [SubscriptionRequest("u")]))
    client.expect(Suback, packet_id=1)
    client.send(Publish("x", qos=1, packet_id=2))
    client.expect(Puback, packet_id=2)
    client.send(Publish("x", qos=2, packet_id=3))
    client.expect(Pubrec, packet_id=3)
    client.send(Pubrec(held.packet_id))
    client.expect(Pubrel, packet_id=held.packet_id)
    mqtt.publish("u", b"QoS 0 may pass")
    client.expect(Publish, topic="u")


@pytest.mark.statement("MQTT-3.3.4-10")
@pytest.mark.parametrize("version", [MQTT5])
def test_pubrels_are_not_held_back_by_the_window(
    mqtt: VirtualBroker, publish: Callable[..., None]
) -> None:
    reader = mqtt.connect("reader", **keep(MQTT5))
    reader.subscribe("t", qos=2)
    for _ in range(3):
        publish("t", b"x", qos=2)
    last = reader.messages()[-1]
    reader.send(Pubrec(last.packet_id))
    reader.drop()
    # Two PUBLISH and a PUBREL are to be sent again, with room for one PUBLISH.
    reader = mqtt.connect("reader", receive_maximum=1, **keep(MQTT5))
    assert [packet.packet_id for packet in reader.take(Pubrel)] == [last.packet_id]
    reader.send(Pubcomp(last.packet_id))
    for _ in range(2):
        (message,) = reader.messages()
        reader.acknowledge(message)


# --- maximum packet size ---------------------------------------------------------------


@pytest.mark.statement("MQTT-3.1.2-24", "MQTT-3.1.2-25")
@pytest.mark.parametrize("version", [MQTT5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_too_large_counts_as_sent(
    mqtt: VirtualBroker, qos: int, publish: Callable[..., None]
) -> None:
    reader = mqtt.connect("reader", maximum_packet_size=50, receive_maximum=1)
    reader.subscribe("t", qos=2)
    small = 50 - len(serialize(Publish("t", b"", qos=qos, packet_id=1), MQTT5))
    publish("t", bytes(small), qos=qos)
    publish("t", bytes(small + 1), qos=qos)
    publish("t", b"after", qos=qos)
    first = reader.expect(Publish, payload=bytes(small))
    reader.acknowledge(first)
    # The large one holds nothing up: not the window, not what follows.
    reader.acknowledge(reader.expect(Publish, payload=b"after"))
    reader.expect_nothing()
    publish("t", bytes(small + 1), qos=qos)
    reader.expect_nothing()


@pytest.mark.statement("MQTT-3.1.2-24", "MQTT-3.1.2-25")
@pytest.mark.parametrize("version", [MQTT5])
def test_a_message_too_large_is_not_kept_for_another_connection(
    mqtt: VirtualBroker, publish: Callable[..., None]
) -> None:
    reader = mqtt.connect("reader", **keep(MQTT5))
    reader.subscribe("t", qos=1)
    reader.drop()
    publish("t", bytes(100), qos=1)
    publish("t", b"small", qos=1)
    reader = mqtt.connect("reader", maximum_packet_size=60, **keep(MQTT5))
    assert [message.payload for message in reader.messages()] == [b"small"]
    reader.drop()
    reader = mqtt.connect("reader", **keep(MQTT5))
    assert [message.payload for message in reader.messages()] == [b"small"]


@pytest.mark.statement("MQTT-3.1.2-24")
@pytest.mark.parametrize("version", [MQTT5])
def test_properties_count_for_the_size(mqtt: VirtualBroker, publish: Callable[..., None]) -> None:
    reader = mqtt.connect("reader", maximum_packet_size=60)
    reader.subscribe("t", subscription_identifier=[1000])
    publish("t", b"x", user_property=[("key", "v" * 60)])
    reader.expect_nothing()
    publish("t", b"x", user_property=[("key", "v")])
    reader.expect(Publish)


@pytest.mark.statement("MQTT-4.9.0-1", "MQTT-3.3.4-7")
@pytest.mark.parametrize("qos", [1, 2])
def test_what_an_earlier_connection_left_does_not_count_for_this_one(qos: int) -> None:
    broker = broker_with(receive_maximum=2)
    client = broker.connect("c", **keep(MQTT5))
    for packet_id in (1, 2):
        client.send(Publish("t", qos=2, packet_id=packet_id))
        client.expect(Pubrec)
    client.drop()
    # The quota of the client is whole again; its PUBRELs may come in its own time.
    client = broker.connect("c", **keep(MQTT5))
    client.send(Publish("t", qos=qos, packet_id=3))
    client.expect(Puback if qos == 1 else Pubrec, packet_id=3)
    for packet_id in (1, 2):
        client.send(Pubrel(packet_id))
        client.expect(Pubcomp, packet_id=packet_id, reason=0)
