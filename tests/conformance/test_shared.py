"""Section 4.8.2: shared subscriptions."""

from __future__ import annotations

import pytest

from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.codes import MQTT5, ReasonCode
from mqttd.wire.packets import Puback, Publish, Pubrec, Pubrel, Subscribe, SubscriptionRequest

from .support import all_versions, keep


def members(mqtt: VirtualBroker, *qos: int, version: int = MQTT5) -> list[VirtualClient]:
    """Clients with kept sessions that share "$share/g/t"."""
    clients = []
    for number, granted in enumerate(qos):
        client = mqtt.connect(f"member {number}", version, **keep(version))
        client.subscribe("$share/g/t", qos=granted)
        clients.append(client)
    return clients


def taker(clients: list[VirtualClient]) -> tuple[VirtualClient, VirtualClient, Publish]:
    """Who of two has got the one message, and who has not."""
    for chosen, other in (clients, clients[::-1]):
        messages = chosen.messages()
        if messages:
            assert len(messages) == 1
            other.expect_nothing()
            return chosen, other, messages[0]
    raise AssertionError("no member got the message")


@pytest.mark.statement("MQTT-4.8.2-1", "MQTT-4.8.2-2")
@pytest.mark.parametrize(
    "topic_filter",
    [
        "$share/",
        "$share//t",
        "$share/g",
        "$share/g/",
        "$share/+/t",
        "$share/#/t",
        "$share/a+b/t",
        "$share/a#/t",
        "$share/g/a#",
    ],
)
def test_what_is_no_shared_filter_is_refused(mqtt: VirtualBroker, topic_filter: str) -> None:
    client = mqtt.connect("c")
    client.send(Subscribe(1, [SubscriptionRequest(topic_filter)]))
    packet = client.received[0]
    reasons = getattr(packet, "reasons", None) or [getattr(packet, "reason", 0)]
    assert reasons[0] >= 0x80
    assert len(mqtt.broker.router) == 0


@pytest.mark.statement("MQTT-4.8.2-1", "MQTT-4.8.2-2")
@all_versions
def test_a_shared_subscription_divides_the_messages(mqtt: VirtualBroker, version: int) -> None:
    clients = members(mqtt, 1, 1, 1, version=version)
    alone = mqtt.connect("alone", version)
    alone.subscribe("$share/h/t")
    rooted = mqtt.connect("rooted", version)
    rooted.subscribe("$share/g//t")
    for number in range(30):
        mqtt.publish("t", str(number).encode(), qos=1)
    received = [message.payload for client in clients for message in client.messages()]
    assert sorted(map(int, received)) == list(range(30))
    assert len(alone.messages()) == 30
    rooted.expect_nothing()
    mqtt.publish("/t")
    rooted.expect(Publish, topic="/t")


@pytest.mark.statement("MQTT-4.8.2-3")
@pytest.mark.parametrize("published", [0, 1, 2])
def test_each_member_gets_at_most_its_granted_qos(mqtt: VirtualBroker, published: int) -> None:
    clients = members(mqtt, 0, 1, 2)
    for _ in range(30):
        mqtt.publish("t", qos=published)
        for client in clients:
            for message in client.received:
                if isinstance(message, Publish):
                    assert message.qos == min(published, clients.index(client))
            for message in client.messages():
                client.acknowledge(message)


@pytest.mark.statement("MQTT-4.8.2-4")
@pytest.mark.parametrize("released", [False, True])
def test_a_qos_2_message_begun_is_completed_with_its_member(
    mqtt: VirtualBroker, released: bool
) -> None:
    clients = members(mqtt, 2, 2)
    mqtt.publish("t", b"x", qos=2)
    chosen, other, message = taker(clients)
    if released:
        chosen.send(Pubrec(message.packet_id))
        chosen.expect(Pubrel)
    chosen.drop()
    mqtt.advance(10_000)
    other.expect_nothing()
    chosen = mqtt.connect(chosen.client_id, **keep(MQTT5))
    if released:
        chosen.expect(Pubrel, packet_id=message.packet_id)
    else:
        again = chosen.expect(Publish, packet_id=message.packet_id, payload=b"x", dup=True)
        chosen.acknowledge(again)
    other.expect_nothing()


@pytest.mark.statement("MQTT-4.8.2-5")
@pytest.mark.parametrize("ending", ["expiry", "clean start"])
def test_a_qos_2_message_begun_goes_to_no_other_member(mqtt: VirtualBroker, ending: str) -> None:
    clients = members(mqtt, 2, 2)
    mqtt.publish("t", b"x", qos=2)
    chosen, other, _ = taker(clients)
    if ending == "expiry":
        chosen.disconnect(session_expiry_interval=1)
        mqtt.advance(10)
    else:
        chosen.drop()
        chosen = mqtt.connect(chosen.client_id, clean_start=True)
        chosen.expect_nothing()
    assert len(mqtt.broker.router) == 1
    other.expect_nothing()


@pytest.mark.statement("MQTT-4.8.2-6")
@pytest.mark.parametrize("qos", [1, 2])
def test_what_a_member_refuses_goes_to_no_other(mqtt: VirtualBroker, qos: int) -> None:
    clients = members(mqtt, 2, 2)
    mqtt.publish("t", b"x", qos=qos)
    chosen, other, message = taker(clients)
    refusal = Puback if qos == 1 else Pubrec
    chosen.send(refusal(message.packet_id, ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR))
    chosen.expect_nothing()
    other.expect_nothing()
    chosen.drop()
    mqtt.connect(chosen.client_id, clean_start=True).expect_nothing()
    mqtt.advance(10)
    other.expect_nothing()
