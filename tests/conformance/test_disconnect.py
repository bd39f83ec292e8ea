"""Sections 3.12 to 3.14: PINGREQ, PINGRESP and DISCONNECT."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.codes import MQTT5, ReasonCode
from mqttd.wire.packets import (
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    Publish,
    Subscribe,
    SubscriptionRequest,
)

from .support import all_versions, broker_with, each_version, expect_closed, frame


@pytest.mark.statement("MQTT-3.12.4-1", "MQTT311-3.12.4-1")
@all_versions
def test_ping(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version)
    client.send(Pingreq())
    client.expect(Pingresp)
    client.send(Pingreq(), Pingreq(), Pingreq())
    assert client.take(Pingresp) == [Pingresp()] * 3


@pytest.mark.statement("MQTT-3.14.0-1")
@each_version
def test_an_error_before_connack_gets_no_disconnect(version: int) -> None:
    broker = broker_with(users={})
    for data in (b"\xc0\x00", b"\xe0\x00", b"\x10\x00", frame(0x10, b"\x00\x04MQTT\x05\x03")):
        client = broker.open(version)
        client.send_bytes(data)
        assert client.closed
        assert client.transport.take()[:1] in (b"", b"\x20")
    client = broker.connect("c", version, user_name="who")
    assert client.connack is not None
    assert client.connack.reason
    client.expect_nothing()
    assert client.closed


@pytest.mark.statement("MQTT-3.14.1-1", "MQTT311-3.14.1-1")
@each_version
@pytest.mark.parametrize("first", [0xE1, 0xE2, 0xE8, 0xEF])
def test_disconnect_with_reserved_flags_is_malformed(
    mqtt: VirtualBroker, version: int, first: int
) -> None:
    client = mqtt.connect("c", version)
    client.send_bytes(bytes((first, 0)))
    expect_closed(client, ReasonCode.MALFORMED_PACKET)


CAUSES: dict[str, tuple[Callable[[VirtualBroker, VirtualClient], None], ReasonCode]] = {
    "malformed packet": (lambda _, c: c.send_bytes(b"\xc1\x00"), ReasonCode.MALFORMED_PACKET),
    "protocol error": (lambda _, c: c.send(Connect("c", MQTT5)), ReasonCode.PROTOCOL_ERROR),
    "keep alive": (lambda b, _: b.advance(16), ReasonCode.KEEP_ALIVE_TIMEOUT),
    "taken over": (
        lambda b, _: b.connect("c").expect_nothing(),
        ReasonCode.SESSION_TAKEN_OVER,
    ),
    "too large": (
        lambda _, c: c.send(Publish("t", bytes(1000))),
        ReasonCode.PACKET_TOO_LARGE,
    ),
    "shutdown": (lambda b, _: b.broker.drain(), ReasonCode.SERVER_SHUTTING_DOWN),
    "wildcard topic": (lambda _, c: c.send(Publish("#")), ReasonCode.TOPIC_NAME_INVALID),
}


@pytest.mark.statement(
    "MQTT-3.14.2-1", "MQTT-3.14.2-2", "MQTT-3.14.4-1", "MQTT-3.14.4-2", "MQTT-4.13.2-1"
)
@pytest.mark.parametrize("cause", list(CAUSES))
def test_the_server_says_why_closes_and_says_no_more(cause: str) -> None:
    broker = broker_with(maximum_packet_size=500)
    client = broker.connect("c", keep_alive=10, session_expiry_interval=1000)
    client.subscribe("t", qos=1)
    act, reason = CAUSES[cause]
    act(broker, client)
    broker.advance(0)
    farewell = client.expect(Disconnect, reason=reason)  # the parser knows the codes
    assert "session_expiry_interval" not in farewell.properties
    assert client.closed_reason == "closed"
    broker.publish("t", b"too late", qos=1)
    client.send(Pingreq())
    broker.advance(100)
    client.expect_nothing()


@pytest.mark.statement("MQTT-3.14.4-1", "MQTT-3.14.4-2")
def test_a_reader_that_does_not_read_its_disconnect_is_cut(mqtt: VirtualBroker) -> None:
    client = mqtt.connect("c")
    client.stop_reading()
    client.send(Connect("c", MQTT5))
    mqtt.advance(60)
    assert client.closed_reason == "aborted"


@pytest.mark.statement("MQTT-3.14.4-2", "MQTT311-3.14.4-1", "MQTT311-3.14.4-2")
@all_versions
def test_after_disconnect_the_connection_closes_and_nothing_counts(
    mqtt: VirtualBroker, version: int
) -> None:
    reader = mqtt.connect("reader")
    reader.subscribe("t")
    client = mqtt.connect("c", version)
    client.send(
        Disconnect(),
        Publish("t", b"after the end"),
        Subscribe(1, [SubscriptionRequest("t")]),
        Pingreq(),
    )
    expect_closed(client)
    reader.expect_nothing()
    assert "c" not in mqtt.broker.connections


@pytest.mark.statement("MQTT-3.14.4-1")
def test_nothing_is_sent_to_a_client_that_has_said_disconnect(mqtt: VirtualBroker) -> None:
    client = mqtt.connect("c", session_expiry_interval=100)
    client.subscribe("t", qos=1)
    client.send(Disconnect())
    mqtt.publish("t", b"x", qos=1)
    expect_closed(client)


@pytest.mark.statement("MQTT-3.2.0-2")
def test_no_connack_after_the_first(mqtt: VirtualBroker) -> None:
    client = mqtt.connect("c")
    for _ in range(3):
        client.send(Connect("c", MQTT5))
    assert client.take(Connack) == []
