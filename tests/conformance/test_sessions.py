"""Session state: clean start, expiry, what is kept (sections 3.1.2.4, 3.1.2.11.2, 4.1, 4.5)."""

from __future__ import annotations

from typing import Any

import pytest

from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.packets import Pubcomp, Publish, Pubrec, Pubrel, Will

from .support import FOR_EVER, all_versions, each_version, keep


def away_with(mqtt: VirtualBroker, version: int, qos: int = 2) -> VirtualClient:
    """A client with a kept session and a subscription to "t", gone by now."""
    client = mqtt.connect("c", version, **keep(version))
    client.subscribe("t", qos=qos)
    client.drop()
    return client


@pytest.mark.statement("MQTT-3.1.2-4", "MQTT-3.1.4-4", "MQTT311-3.1.2-6", "MQTT311-3.1.4-3")
@each_version
def test_a_clean_start_discards_all_state(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version, **keep(version))
    client.subscribe("t", qos=2)
    mqtt.publish("t", b"unacknowledged", qos=1)
    client.send(Publish("u", b"begun", qos=2, packet_id=7))
    client.drop()
    mqtt.publish("t", b"queued", qos=1)
    client = mqtt.connect("c", version, clean_start=True)
    assert client.connack is not None
    assert not client.connack.session_present
    mqtt.publish("t", b"not subscribed any more", qos=1)
    client.expect_nothing()
    # The identifier 7 means a new message.
    reader = mqtt.connect("reader")
    reader.subscribe("u")
    client.send(Publish("u", b"new", qos=2, packet_id=7))
    client.expect(Pubrec, packet_id=7)
    reader.expect(Publish, payload=b"new")


@pytest.mark.statement("MQTT311-3.1.2-6")
@pytest.mark.parametrize("version", [3, 4])
def test_a_clean_session_leaves_nothing(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version, clean_start=True)
    client.subscribe("t", qos=1)
    client.drop()
    mqtt.publish("t", b"for nobody", qos=1)
    client = mqtt.connect("c", version, clean_start=False)
    assert client.connack is not None
    assert not client.connack.session_present
    mqtt.publish("t", b"for nobody", qos=1)
    client.expect_nothing()


@pytest.mark.statement(
    "MQTT-3.1.2-5", "MQTT-3.1.4-4", "MQTT311-3.1.2-4", "MQTT311-3.1.4-3", "MQTT311-3.1.2-5"
)
@all_versions
def test_a_session_is_resumed_with_what_waited(mqtt: VirtualBroker, version: int) -> None:
    away_with(mqtt, version)
    mqtt.publish("t", b"1", qos=1)
    mqtt.publish("t", b"2", qos=2)
    client = mqtt.connect("c", version, **keep(version))
    first, second = client.messages()
    assert (first.payload, first.qos) == (b"1", 1)
    assert (second.payload, second.qos) == (b"2", 2)
    mqtt.publish("t", b"the subscription is still there")
    client.expect(Publish, payload=b"the subscription is still there")


@pytest.mark.statement("MQTT-3.1.2-6", "MQTT311-3.1.2-4")
@all_versions
def test_without_a_session_one_is_made(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("new", version, **keep(version))
    assert client.connack is not None
    assert client.connack.reason == 0
    assert not client.connack.session_present
    client.subscribe("t", qos=1)
    client.drop()
    client = mqtt.connect("new", version, **keep(version))
    mqtt.publish("t", b"resumed")
    client.expect(Publish, payload=b"resumed")


@pytest.mark.statement("MQTT-3.1.2-23", "MQTT-4.1.0-2")
@pytest.mark.parametrize(
    ("expiry", "away", "present"),
    [
        (0, 0, False),
        (60, 59, True),
        (60, 61, False),
        (FOR_EVER - 1, 10_000, True),
        (FOR_EVER, 10_000, True),
    ],
)
def test_a_session_lasts_as_long_as_its_expiry(
    mqtt: VirtualBroker, expiry: int, away: float, present: bool
) -> None:
    client = mqtt.connect("c", clean_start=False, session_expiry_interval=expiry)
    client.subscribe("t", qos=1)
    client.drop()
    mqtt.publish("t", b"kept", qos=1)
    mqtt.advance(away)
    client = mqtt.connect("c", clean_start=False)
    assert client.connack is not None
    assert client.connack.session_present is present
    assert [message.payload for message in client.messages()] == [b"kept"] * present


@pytest.mark.statement("MQTT-4.1.0-2")
def test_an_expired_session_frees_its_memory(mqtt: VirtualBroker) -> None:
    client = mqtt.connect("c", clean_start=False, session_expiry_interval=60)
    client.subscribe("t", qos=1)
    client.drop()
    mqtt.advance(61)
    assert len(mqtt.broker.sessions) == 0
    assert len(mqtt.broker.router) == 0


@pytest.mark.statement("MQTT-3.1.2-23")
def test_disconnect_may_change_the_expiry(mqtt: VirtualBroker) -> None:
    mqtt.connect("c", session_expiry_interval=10).disconnect(session_expiry_interval=1000)
    mqtt.advance(900)
    client = mqtt.connect("c", clean_start=False, session_expiry_interval=1000)
    assert client.connack is not None
    assert client.connack.session_present
    client.disconnect(session_expiry_interval=0)
    client = mqtt.connect("c", clean_start=False)
    assert client.connack is not None
    assert not client.connack.session_present


@pytest.mark.statement("MQTT311-3.1.2-4", "MQTT311-4.1.0-1")
@pytest.mark.parametrize("version", [3, 4])
def test_a_session_without_clean_session_is_stored(mqtt: VirtualBroker, version: int) -> None:
    away_with(mqtt, version)
    mqtt.advance(100_000)
    mqtt.publish("t", b"kept", qos=1)
    mqtt.connect("c", version, clean_start=False).expect(Publish, payload=b"kept")


@pytest.mark.statement("MQTT-4.1.0-1", "MQTT311-4.1.0-1", "MQTT311-4.1.0-2")
@each_version
def test_a_session_lasts_while_the_connection_is_open(mqtt: VirtualBroker, version: int) -> None:
    fields: dict[str, Any] = {"session_expiry_interval": 5} if version == 5 else {}
    client = mqtt.connect("c", version, **fields)
    client.subscribe("t", qos=1)
    mqtt.publish("t", b"unacknowledged", qos=1)
    mqtt.advance(10_000)
    assert not client.closed
    client.acknowledge(client.expect(Publish))
    mqtt.publish("t", b"still subscribed", qos=1)
    client.expect(Publish, payload=b"still subscribed")


@pytest.mark.statement("MQTT-4.5.0-1", "MQTT311-4.5.0-1")
@each_version
def test_a_message_goes_to_every_matching_subscriber(mqtt: VirtualBroker, version: int) -> None:
    away_with(mqtt, version, qos=1)
    here = mqtt.connect("here", version)
    here.subscribe("#", qos=1)
    elsewhere = mqtt.connect("elsewhere", version)
    elsewhere.subscribe("u", qos=1)
    mqtt.connect("writer", version).publish("t", b"news", qos=1)
    here.expect(Publish, payload=b"news")
    elsewhere.expect_nothing()
    mqtt.connect("c", version, **keep(version)).expect(Publish, payload=b"news")


@pytest.mark.statement("MQTT311-3.1.2-7")
@each_version
def test_retained_messages_outlive_the_session(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version, will=Will("will", b"w", retain=True))
    client.publish("t", b"kept", qos=1, retain=True)
    client.drop()
    assert len(mqtt.broker.sessions) == 0
    mqtt.connect("c", version).disconnect()
    reader = mqtt.connect("reader", version)
    reader.subscribe("#")
    assert {message.payload for message in reader.messages()} == {b"kept", b"w"}


@pytest.mark.statement("MQTT-3.1.3-2", "MQTT311-3.1.3-2", "MQTT-4.4.0-1", "MQTT311-4.4.0-1")
@pytest.mark.parametrize(("before", "after"), [(5, 4), (4, 5), (5, 3), (3, 5), (3, 4)])
def test_a_session_may_be_resumed_in_another_version(
    mqtt: VirtualBroker, before: int, after: int
) -> None:
    client = mqtt.connect("c", before, **keep(before))
    client.subscribe("t", qos=2)
    writer = mqtt.connect("writer", before)
    for number in range(4):
        writer.publish("t", str(number).encode(), qos=1 + number % 2)
    released = client.messages()[1].packet_id
    client.send(Pubrec(released))
    client.drop()
    writer.publish("t", b"queued", qos=1)
    client = mqtt.connect("c", after, **keep(after))
    assert [packet.packet_id for packet in client.take(Pubrel)] == [released]
    messages = client.messages()
    assert [message.payload for message in messages] == [b"0", b"2", b"3", b"queued"]
    for message in messages:
        client.acknowledge(message)
    client.send(Pubcomp(released))
    client.drop()
    mqtt.connect("c", before, **keep(before)).expect_nothing()
