"""Will Messages (sections 3.1.2.5 to 3.1.2.7 and 3.1.3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.codes import MQTT5, ReasonCode
from mqttd.wire.packets import Connect, Publish, Will

from .support import all_versions, each_version, keep


@pytest.fixture
def reader(mqtt: VirtualBroker) -> VirtualClient:
    client = mqtt.connect("reader")
    client.subscribe("will", qos=2, retain_as_published=True)
    return client


def mourned(mqtt: VirtualBroker, version: int = MQTT5, **fields: Any) -> VirtualClient:
    """A client with a will."""
    return mqtt.connect("c", version, will=Will("will", b"gone", qos=1), **fields)


ENDINGS: dict[str, Callable[[VirtualBroker, VirtualClient], None]] = {
    "network failure": lambda mqtt, client: client.drop(),
    "close without DISCONNECT": lambda mqtt, client: client.close(),
    "keep alive": lambda mqtt, client: mqtt.advance(16),
    "protocol error": lambda mqtt, client: client.send(Connect("c", client.version)),
    "malformed packet": lambda mqtt, client: client.send_bytes(b"\xc1\x00"),
    "taken over": lambda mqtt, client: mqtt.connect("c", client.version).disconnect(),
}


@pytest.mark.statement("MQTT-3.1.2-7", "MQTT-3.1.2-8", "MQTT311-3.1.2-8")
@all_versions
@pytest.mark.parametrize("ending", list(ENDINGS))
def test_a_will_is_published_however_the_connection_ends(
    mqtt: VirtualBroker, reader: VirtualClient, version: int, ending: str
) -> None:
    client = mourned(mqtt, version, keep_alive=10)
    mqtt.advance(5)
    reader.expect_nothing()
    ENDINGS[ending](mqtt, client)
    mqtt.advance(1)
    assert client.closed
    reader.expect(Publish, topic="will", payload=b"gone", qos=1)
    reader.expect_nothing()


@pytest.mark.statement(
    "MQTT-3.1.2-8",
    "MQTT-3.1.2-10",
    "MQTT-3.14.4-3",
    "MQTT311-3.1.2-8",
    "MQTT311-3.1.2-10",
    "MQTT311-3.14.4-3",
)
@all_versions
def test_disconnect_deletes_the_will(
    mqtt: VirtualBroker, reader: VirtualClient, version: int
) -> None:
    mourned(mqtt, version).disconnect()
    mqtt.advance(100)
    reader.expect_nothing()


@pytest.mark.statement("MQTT-3.1.2-8", "MQTT-3.1.2-10")
@pytest.mark.parametrize("reason", [ReasonCode.DISCONNECT_WITH_WILL, ReasonCode.UNSPECIFIED_ERROR])
def test_disconnect_with_another_reason_keeps_the_will(
    mqtt: VirtualBroker, reader: VirtualClient, reason: ReasonCode
) -> None:
    mourned(mqtt).disconnect(reason)
    reader.expect(Publish, payload=b"gone")


@pytest.mark.statement("MQTT-3.1.2-10", "MQTT311-3.1.2-10")
@each_version
def test_a_will_is_published_once(mqtt: VirtualBroker, reader: VirtualClient, version: int) -> None:
    fields = {"session_expiry_interval": 1000} if version == MQTT5 else {}
    mourned(mqtt, version, clean_start=False, **fields).drop()
    reader.acknowledge(reader.expect(Publish, payload=b"gone"))
    # The session is resumed without a will; nothing of the old one is left.
    mqtt.connect("c", version, clean_start=False, **fields).drop()
    mqtt.advance(2000)
    reader.expect_nothing()


@pytest.mark.statement("MQTT311-3.1.2-12", "MQTT-3.1.2-8")
@all_versions
def test_no_will_no_message(mqtt: VirtualBroker, version: int) -> None:
    reader = mqtt.connect("reader")
    reader.subscribe("#", qos=1)
    mqtt.connect("c", version).drop()
    mqtt.advance(100)
    reader.expect_nothing()


@pytest.mark.statement("MQTT-3.1.2-14", "MQTT-3.1.2-15", "MQTT311-3.1.2-16", "MQTT311-3.1.2-17")
@all_versions
@pytest.mark.parametrize("retain", [False, True])
def test_a_will_is_retained_as_asked(
    mqtt: VirtualBroker, reader: VirtualClient, version: int, retain: bool
) -> None:
    mqtt.connect("c", version, will=Will("will", b"gone", retain=retain)).drop()
    reader.expect(Publish, payload=b"gone", retain=retain)
    late = mqtt.connect("late")
    late.subscribe("will")
    assert [message.payload for message in late.messages()] == [b"gone"] * retain


@pytest.mark.statement("MQTT-3.1.3-9", "MQTT-3.1.2-8")
def test_a_will_waits_for_its_delay(mqtt: VirtualBroker, reader: VirtualClient) -> None:
    will = Will("will", b"gone", properties={"will_delay_interval": 30})
    mqtt.connect("c", will=will, session_expiry_interval=100).drop()
    mqtt.advance(29)
    reader.expect_nothing()
    mqtt.advance(2)
    reader.expect(Publish, payload=b"gone")
    mqtt.advance(200)
    reader.expect_nothing()


@pytest.mark.statement("MQTT-3.1.3-9", "MQTT-3.1.2-8")
def test_a_will_does_not_wait_longer_than_its_session(
    mqtt: VirtualBroker, reader: VirtualClient
) -> None:
    will = Will("will", b"gone", properties={"will_delay_interval": 1000})
    mqtt.connect("c", will=will, session_expiry_interval=10).drop()
    mqtt.advance(9)
    reader.expect_nothing()
    mqtt.advance(2)
    reader.expect(Publish, payload=b"gone")


@pytest.mark.statement("MQTT-3.1.3-9", "MQTT-3.1.2-8")
def test_a_clean_start_ends_the_session_and_so_the_delay(
    mqtt: VirtualBroker, reader: VirtualClient
) -> None:
    will = Will("will", b"gone", properties={"will_delay_interval": 50})
    mqtt.connect("c", will=will, session_expiry_interval=100).drop()
    mqtt.connect("c", clean_start=True)
    reader.expect(Publish, payload=b"gone")


@pytest.mark.statement("MQTT-3.1.3-9", "MQTT-3.1.2-8")
def test_coming_back_within_the_delay_stops_the_will(
    mqtt: VirtualBroker, reader: VirtualClient
) -> None:
    will = Will("will", b"gone", properties={"will_delay_interval": 30})
    mqtt.connect("c", will=will, session_expiry_interval=100).drop()
    mqtt.advance(29)
    client = mqtt.connect("c", clean_start=False, session_expiry_interval=100)
    mqtt.advance(100)
    reader.expect_nothing()
    client.drop()
    mqtt.advance(200)
    reader.expect_nothing()


@pytest.mark.statement("MQTT-3.1.3-10", "MQTT-3.1.2-7", "MQTT-3.1.2-9")
def test_a_will_keeps_its_properties_and_their_order(
    mqtt: VirtualBroker, reader: VirtualClient
) -> None:
    pairs = [("b", "2"), ("a", "1"), ("b", "1"), ("b", "2")]
    will = Will(
        "will",
        b"gone",
        properties={
            "user_property": pairs,
            "content_type": "text/plain",
            "response_topic": "answers",
            "correlation_data": b"\x00\x01",
            "payload_format_indicator": 1,
        },
    )
    mqtt.connect("c", will=will).drop()
    found = reader.expect(Publish).properties
    assert found == will.properties
    assert found["user_property"] == pairs


@pytest.mark.statement("MQTT-3.1.2-8", "MQTT-3.1.3-9")
@pytest.mark.parametrize(
    ("delay", "clean_start", "published"),
    [(0, False, True), (0, True, True), (10, False, False), (10, True, True)],
)
def test_a_take_over_ends_the_delay_or_stops_the_will(
    mqtt: VirtualBroker, reader: VirtualClient, delay: int, clean_start: bool, published: bool
) -> None:
    will = Will("will", b"gone", properties={"will_delay_interval": delay})
    mqtt.connect("c", will=will, session_expiry_interval=100)
    mqtt.connect("c", clean_start=clean_start, session_expiry_interval=100)
    assert [message.payload for message in reader.messages()] == [b"gone"] * published
    mqtt.advance(1000)
    reader.expect_nothing()


@pytest.mark.statement("MQTT-3.1.2-10", "MQTT-3.3.2-6")
def test_a_will_has_its_expiry_from_when_it_is_published(mqtt: VirtualBroker) -> None:
    reader = mqtt.connect("reader", **keep(MQTT5))
    reader.subscribe("will", qos=1)
    reader.drop()
    will = Will("will", b"gone", qos=1, properties={"message_expiry_interval": 100})
    client = mqtt.connect("c", will=will)
    mqtt.advance(1000)
    client.drop()
    mqtt.advance(40)
    reader = mqtt.connect("reader", **keep(MQTT5))
    assert reader.expect(Publish).properties == {"message_expiry_interval": 60}
