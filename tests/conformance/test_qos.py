"""The QoS protocols, delivery again, and order (sections 4.3, 4.4 and 4.6)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqttd.settings import SessionSettings
from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.codes import MQTT5, ReasonCode
from mqttd.wire.packets import Puback, Pubcomp, Publish, Pubrec, Pubrel

from .support import Rules, all_versions, broker_with, each_version, keep


@pytest.fixture
def reader(mqtt: VirtualBroker, version: int, publish: Callable[..., None]) -> VirtualClient:
    """A client with a kept session, subscribed to "t" with QoS 2."""
    client = mqtt.connect("reader", version, **keep(version))
    client.subscribe("t", qos=2)
    return client


def again(mqtt: VirtualBroker, client: VirtualClient) -> VirtualClient:
    """The same client on a new connection, its session resumed."""
    client.drop()
    client = mqtt.connect(client.client_id, client.version, **keep(client.version))
    assert client.connack is not None
    assert client.connack.session_present or client.version == 3
    return client


# --- towards the client ------------------------------------------------------------


@pytest.mark.statement("MQTT-4.3.1-1", "MQTT311-4.3.1-1")
@all_versions
def test_qos_0_is_sent_once(
    mqtt: VirtualBroker, reader: VirtualClient, publish: Callable[..., None]
) -> None:
    publish("t", b"x")
    reader.expect(Publish, qos=0, dup=False, packet_id=0)
    again(mqtt, reader).expect_nothing()


@pytest.mark.statement("MQTT-4.3.2-1", "MQTT-4.3.2-2", "MQTT311-4.3.2-1")
@pytest.mark.statement("MQTT-4.3.3-1", "MQTT-4.3.3-2", "MQTT311-4.3.3-1")
@all_versions
@pytest.mark.parametrize("qos", [1, 2])
def test_the_first_sending_has_a_new_id_and_dup_0(
    mqtt: VirtualBroker, reader: VirtualClient, publish: Callable[..., None], qos: int
) -> None:
    identifiers = set()
    for _ in range(5):
        publish("t", b"x", qos=qos)
        identifiers.add(reader.expect(Publish, qos=qos, dup=False).packet_id)
    assert len(identifiers - {0}) == 5


@pytest.mark.statement("MQTT-4.3.2-3", "MQTT311-4.3.2-1")
@all_versions
def test_qos_1_is_unacknowledged_until_puback(
    mqtt: VirtualBroker, reader: VirtualClient, publish: Callable[..., None]
) -> None:
    publish("t", b"x", qos=1)
    message = reader.expect(Publish)
    for _ in range(2):
        reader = again(mqtt, reader)
        reader.expect(Publish, packet_id=message.packet_id, dup=True, payload=b"x")
    # An acknowledgement of something else changes nothing.
    reader.send(Puback(message.packet_id + 1))
    reader = again(mqtt, reader)
    reader.expect(Publish, packet_id=message.packet_id)
    reader.send(Puback(message.packet_id))
    again(mqtt, reader).expect_nothing()


@pytest.mark.statement("MQTT-4.3.3-3", "MQTT-4.3.3-4", "MQTT-4.3.3-5", "MQTT-4.3.3-6")
@pytest.mark.statement("MQTT311-4.3.3-1")
@all_versions
def test_qos_2_goes_through_its_steps(
    mqtt: VirtualBroker, reader: VirtualClient, publish: Callable[..., None]
) -> None:
    publish("t", b"x", qos=2)
    packet_id = reader.expect(Publish).packet_id
    reader = again(mqtt, reader)
    reader.expect(Publish, packet_id=packet_id, dup=True)  # until PUBREC
    reader.send(Pubrec(packet_id))
    reader.expect(Pubrel, packet_id=packet_id)
    for _ in range(2):  # from then on PUBREL, until PUBCOMP
        reader = again(mqtt, reader)
        reader.expect(Pubrel, packet_id=packet_id)
        reader.expect_nothing()
    reader.send(Pubcomp(packet_id))
    again(mqtt, reader).expect_nothing()


@pytest.mark.statement("MQTT-4.3.3-4")
@pytest.mark.parametrize("version", [5])
def test_a_pubrec_with_an_error_gets_no_pubrel(
    mqtt: VirtualBroker, reader: VirtualClient, publish: Callable[..., None]
) -> None:
    publish("t", b"x", qos=2)
    reader.send(Pubrec(reader.expect(Publish).packet_id, ReasonCode.QUOTA_EXCEEDED))
    reader.expect_nothing()
    again(mqtt, reader).expect_nothing()


@pytest.mark.statement("MQTT-4.4.0-2")
@pytest.mark.parametrize("version", [5])
@pytest.mark.parametrize("qos", [1, 2])
def test_what_the_client_refused_is_not_sent_again(
    mqtt: VirtualBroker, reader: VirtualClient, publish: Callable[..., None], qos: int
) -> None:
    publish("t", b"unwanted", qos=qos)
    refusal = Puback if qos == 1 else Pubrec
    reader.send(refusal(reader.expect(Publish).packet_id, ReasonCode.NOT_AUTHORIZED))
    again(mqtt, reader).expect_nothing()


@pytest.mark.statement("MQTT-4.3.3-7", "MQTT-4.3.3-13")
@pytest.mark.parametrize("version", [5])
def test_a_message_once_sent_does_not_expire(mqtt: VirtualBroker, reader: VirtualClient) -> None:
    writer = mqtt.connect("writer")
    writer.publish("t", b"x", qos=2, message_expiry_interval=10)
    packet_id = reader.expect(Publish).packet_id
    mqtt.advance(60)
    reader = again(mqtt, reader)
    message = reader.expect(Publish, packet_id=packet_id, dup=True)
    assert message.properties.get("message_expiry_interval", 0) == 0
    reader.acknowledge(message)
    again(mqtt, reader).expect_nothing()


@pytest.mark.statement("MQTT-4.3.3-13")
@pytest.mark.parametrize("version", [5])
def test_expiry_between_pubrec_and_pubcomp_changes_nothing(
    mqtt: VirtualBroker, reader: VirtualClient
) -> None:
    writer = mqtt.connect("writer")
    writer.publish("t", b"x", qos=2, message_expiry_interval=10)
    packet_id = reader.expect(Publish).packet_id
    reader.send(Pubrec(packet_id))
    reader.expect(Pubrel, packet_id=packet_id)
    mqtt.advance(60)
    reader = again(mqtt, reader)
    reader.expect(Pubrel, packet_id=packet_id)
    # And the way in: PUBLISH that expires before its PUBREL comes.
    writer.send(Publish("u", qos=2, packet_id=9, properties={"message_expiry_interval": 1}))
    writer.expect(Pubrec, packet_id=9)
    mqtt.advance(60)
    writer.send(Pubrel(9))
    writer.expect(Pubcomp, packet_id=9, reason=0)


# --- from the client -------------------------------------------------------------------


@pytest.mark.statement("MQTT-4.3.2-4", "MQTT-4.3.2-5", "MQTT311-4.3.2-2")
@all_versions
def test_qos_1_received_is_acknowledged_and_new_each_time(
    mqtt: VirtualBroker, reader: VirtualClient, version: int
) -> None:
    writer = mqtt.connect("writer", version)
    for dup in (False, True, False):
        writer.send(Publish("t", b"x", qos=1, packet_id=5, dup=dup))
        writer.expect(Puback, packet_id=5)
        reader.expect(Publish, payload=b"x")


@pytest.mark.statement("MQTT-4.3.3-8", "MQTT-4.3.3-10", "MQTT-4.3.3-11", "MQTT-4.3.3-12")
@pytest.mark.statement("MQTT311-4.3.3-2")
@all_versions
def test_qos_2_received_is_delivered_once(
    mqtt: VirtualBroker, reader: VirtualClient, version: int
) -> None:
    writer = mqtt.connect("writer", version, **keep(version))
    for _ in range(2):  # the second round shows that the identifier is free again
        for dup in (False, True, False):
            writer.send(Publish("t", b"x", qos=2, packet_id=5, dup=dup))
            writer.expect(Pubrec, packet_id=5)
        writer = again(mqtt, writer)
        writer.send(Publish("t", b"x", qos=2, packet_id=5, dup=True))
        writer.expect(Pubrec, packet_id=5)
        writer.send(Pubrel(5))
        writer.expect(Pubcomp, packet_id=5)
        reader.acknowledge(reader.expect(Publish, payload=b"x"))
        reader.expect_nothing()


@pytest.mark.statement("MQTT-4.3.3-11", "MQTT311-4.3.3-2")
@all_versions
def test_pubrel_is_answered_even_if_unknown(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version)
    client.send(Pubrel(77))
    client.expect(Pubcomp, packet_id=77, reason=0x92 if version == MQTT5 else 0)


@pytest.mark.statement("MQTT-4.3.3-9")
def test_after_an_error_pubrec_the_id_means_a_new_message() -> None:
    rules = Rules(("publish", "t"))
    broker = broker_with(authorizer=rules)
    reader = broker.connect("reader")
    reader.subscribe("t")
    writer = broker.connect("writer")
    writer.send(Publish("t", b"refused", qos=2, packet_id=5))
    writer.expect(Pubrec, packet_id=5, reason=ReasonCode.NOT_AUTHORIZED)
    reader.expect_nothing()
    rules.refused.clear()
    rules.epoch += 1
    writer.send(Publish("t", b"allowed", qos=2, packet_id=5))
    writer.expect(Pubrec, packet_id=5, reason=0)
    reader.expect(Publish, payload=b"allowed")


# --- sending again, and order -------------------------------------------------------------


@pytest.mark.statement("MQTT-4.4.0-1", "MQTT311-4.4.0-1", "MQTT-4.6.0-1", "MQTT311-4.6.0-1")
@all_versions
def test_unacknowledged_packets_are_sent_again_in_order(
    mqtt: VirtualBroker, reader: VirtualClient, publish: Callable[..., None]
) -> None:
    for number in range(6):
        publish("t", str(number).encode(), qos=1 + number % 2)
    first = reader.messages()
    reader.send(Puback(first[2].packet_id))
    reader.send(Pubrec(first[3].packet_id))
    reader.expect(Pubrel)
    reader = again(mqtt, reader)
    publish("t", b"6", qos=1)
    assert [packet.packet_id for packet in reader.take(Pubrel)] == [first[3].packet_id]
    found = [(message.packet_id, message.payload) for message in reader.messages()]
    unacknowledged = [first[number] for number in (0, 1, 4, 5)]
    assert found[:-1] == [(message.packet_id, message.payload) for message in unacknowledged]
    assert found[-1][1] == b"6"


@pytest.mark.statement("MQTT-4.4.0-1")
@each_version
def test_nothing_is_sent_again_on_a_connection_that_lives(
    mqtt: VirtualBroker, reader: VirtualClient, publish: Callable[..., None]
) -> None:
    publish("t", b"1", qos=1)
    publish("t", b"2", qos=2)
    first, second = reader.messages()
    mqtt.advance(10_000)
    reader.send(Pubrec(second.packet_id))
    reader.expect(Pubrel)
    mqtt.advance(10_000)
    reader.expect_nothing()
    assert first.payload == b"1"


@pytest.mark.statement("MQTT-4.6.0-2", "MQTT311-4.6.0-2", "MQTT-4.6.0-3", "MQTT311-4.6.0-3")
@all_versions
def test_acknowledgements_follow_the_order_of_the_publishes(
    mqtt: VirtualBroker, version: int
) -> None:
    writer = mqtt.connect("writer", version)
    identifiers = [9, 3, 7, 1, 8, 2]
    packets = [
        Publish("t", qos=1 + number % 2, packet_id=packet_id)
        for number, packet_id in enumerate(identifiers)
    ]
    writer.send(*packets)
    answers = writer.take(Puback), writer.take(Pubrec)
    assert [packet.packet_id for packet in answers[0]] == identifiers[::2]
    assert [packet.packet_id for packet in answers[1]] == identifiers[1::2]


@pytest.mark.statement("MQTT-4.6.0-4", "MQTT311-4.6.0-4")
@all_versions
def test_pubrels_follow_the_order_of_the_pubrecs(
    mqtt: VirtualBroker, reader: VirtualClient, publish: Callable[..., None]
) -> None:
    for _ in range(4):
        publish("t", qos=2)
    identifiers = [message.packet_id for message in reader.messages()]
    order = [identifiers[number] for number in (2, 0, 3, 1)]
    reader.send(*(Pubrec(packet_id) for packet_id in order))
    assert [packet.packet_id for packet in reader.take(Pubrel)] == order


@pytest.mark.statement("MQTT-4.6.0-5", "MQTT-4.6.0-6", "MQTT311-4.6.0-5", "MQTT311-4.6.0-6")
@all_versions
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_keep_their_order(version: int, qos: int) -> None:
    """Live, through a full window, through the queue of one who is away, and again."""
    broker = broker_with(session=SessionSettings(maximum_inflight=5, queue_qos0=True))
    reader = broker.connect("reader", version, **keep(version))
    reader.subscribe("t", qos=qos)
    writer = broker.connect("writer", version)
    received: list[int] = []

    def read(rounds: int, acknowledge: bool = True) -> None:
        for _ in range(rounds):
            messages = reader.messages()
            received.extend(int(message.payload) for message in messages)
            for message in messages if acknowledge else ():
                reader.acknowledge(message)

    for number in range(60):
        if number == 20:
            read(1)
        if number == 30:
            read(1, acknowledge=False)
            reader.drop()
        if number == 45:
            reader = broker.connect("reader", version, **keep(version))
        writer.publish("t", str(number).encode(), qos=qos)
    read(20)
    assert [n for i, n in enumerate(received) if n not in received[:i]] == list(range(60))


@pytest.mark.statement("MQTT-4.6.0-5", "MQTT311-4.6.0-6")
@each_version
def test_order_holds_past_a_reader_that_is_slow(mqtt: VirtualBroker, version: int) -> None:
    reader = mqtt.connect("reader", version)
    reader.subscribe("t", qos=1)
    reader.stop_reading()
    writer = mqtt.connect("writer", version)
    for number in range(200):
        writer.publish("t", str(number).encode() + bytes(2000), qos=0)
    reader.start_reading()
    mqtt.advance(1)
    found = [int(message.payload.rstrip(b"\0")) for message in reader.messages()]
    assert found == sorted(found)
    assert len(found) == 200
