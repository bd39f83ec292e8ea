"""Section 3.2: CONNACK, and what the server offers in it."""

from __future__ import annotations

from typing import Any

import pytest

from mqttd.testing import VirtualBroker
from mqttd.wire.codes import MQTT5, MQTT311, ReasonCode
from mqttd.wire.packets import (
    Connack,
    Connect,
    Pingreq,
    Pingresp,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Will,
)
from mqttd.wire.serializer import serialize

from .support import (
    broker_with,
    connect_frame,
    each_version,
    expect_closed,
    expect_refused,
    frame,
    keep,
    text,
)


@pytest.mark.statement("MQTT-3.2.0-1", "MQTT311-3.2.0-1")
@each_version
def test_connack_comes_first(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version, **keep(version))
    client.subscribe("t", qos=1)
    client.drop()
    mqtt.publish("t", b"waited", qos=1)
    client = mqtt.open(version)
    # All in one piece, with a message waiting: the order of the answers holds.
    fields = keep(version)
    expiry = fields.pop("session_expiry_interval", None)
    block = {"session_expiry_interval": expiry} if expiry is not None else {}
    client.send(
        Connect("c", version, properties=block, **fields),  # type: ignore[arg-type]
        Subscribe(1, [SubscriptionRequest("u")]),
        Pingreq(),
    )
    client.expect(Connack, reason=0, session_present=True)
    client.expect(Publish, payload=b"waited")
    client.expect(Suback)
    client.expect(Pingresp)


@pytest.mark.statement("MQTT-3.2.0-1")
@pytest.mark.parametrize("size", [1, 2, 5, 10])
def test_nothing_is_sent_where_connack_does_not_fit(mqtt: VirtualBroker, size: int) -> None:
    client = mqtt.connect("c", maximum_packet_size=size)
    client.send(Pingreq())
    client.expect_nothing()
    assert client.connack is None
    assert client.closed


@pytest.mark.statement("MQTT-3.2.2-1")
@each_version
def test_reserved_connack_flags_are_zero(mqtt: VirtualBroker, version: int) -> None:
    for present in (0, 1):
        client = mqtt.open(version)
        fields = keep(version)
        expiry = fields.pop("session_expiry_interval", 0)
        block = b"\x11" + expiry.to_bytes(4, "big") if version == MQTT5 else b""
        client.send_bytes(connect_frame(version, 0, text("c"), block=block))
        data = client.transport.take()
        assert data[0] == 0x20
        assert data[2] == present


# --- session present ---


@pytest.mark.statement("MQTT-3.2.2-2", "MQTT311-3.2.2-1", "MQTT-3.1.2-4", "MQTT311-3.1.2-6")
@each_version
def test_a_clean_start_has_no_session_present(mqtt: VirtualBroker, version: int) -> None:
    mqtt.connect("c", version, **keep(version)).disconnect()
    client = mqtt.connect("c", version, clean_start=True)
    assert client.connack is not None
    assert client.connack.session_present is False


@pytest.mark.statement("MQTT-3.2.2-3", "MQTT311-3.2.2-2", "MQTT311-3.2.2-3")
@each_version
def test_session_present_says_whether_there_was_one(mqtt: VirtualBroker, version: int) -> None:
    for expected in (False, True, True):
        client = mqtt.connect("c", version, **keep(version))
        assert client.connack is not None
        assert client.connack.reason == 0
        assert client.connack.session_present is expected
        client.drop()


# --- refusals ---


@pytest.mark.statement("MQTT-3.2.2-8", "MQTT-3.2.2-7", "MQTT-3.2.2-6", "MQTT-4.13.2-1")
@pytest.mark.parametrize(
    ("settings", "fields", "reason"),
    [
        ({"allow_mqtt5": False}, {}, ReasonCode.UNSUPPORTED_PROTOCOL_VERSION),
        ({"server_reference": "other:1883"}, {}, ReasonCode.USE_ANOTHER_SERVER),
        (
            {"server_reference": "other:1883", "server_moved": True},
            {},
            ReasonCode.SERVER_MOVED,
        ),
        (
            {"user_name_as_client_id": True, "maximum_client_id_length": 23},
            {"user_name": "u" * 24},
            ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
        ),
        ({"users": {}}, {"user_name": "who"}, ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        ({}, {"authentication_method": "?"}, ReasonCode.BAD_AUTHENTICATION_METHOD),
        (
            {"maximum_topic_levels": 2},
            {"will": Will("a/b/c", b"")},
            ReasonCode.TOPIC_NAME_INVALID,
        ),
    ],
)
def test_refusals_carry_a_connect_reason_code_and_close(
    settings: dict[str, Any], fields: dict[str, Any], reason: ReasonCode
) -> None:
    client = broker_with(**settings).connect("c", **fields)
    assert client.connack is not None  # and the parser takes the code for CONNACK
    assert client.connack.reason == reason
    assert not client.connack.session_present
    client.expect_nothing()
    assert client.closed


@pytest.mark.statement("MQTT311-3.2.2-6")
def test_311_closes_silently_where_no_return_code_fits(mqtt: VirtualBroker) -> None:
    # Will QoS 3 is neither a version, an id, a user nor a right.
    assert expect_refused(mqtt, MQTT311, connect_frame(MQTT311, 0x1E, text("c"))) is None


@pytest.mark.statement("MQTT-3.2.2-19", "MQTT-3.1.2-24")
def test_a_reason_string_is_left_out_where_it_does_not_fit() -> None:
    broker = broker_with(users={})
    told = broker.connect("c", user_name="who")
    assert told.connack is not None
    assert told.connack.properties["reason_string"]
    client = broker.connect("c", user_name="who", maximum_packet_size=10)
    assert client.connack == Connack(False, ReasonCode.BAD_USER_NAME_OR_PASSWORD)


@pytest.mark.statement("MQTT-3.2.2-20")
def test_connack_has_no_user_properties_that_do_not_fit(mqtt: VirtualBroker) -> None:
    client = mqtt.connect("c", maximum_packet_size=40, user_property=[("a", "b" * 60)])
    assert client.connack is not None
    assert "user_property" not in client.connack.properties
    assert len(serialize(client.connack, MQTT5)) <= 40


# --- what the server offers ---


@pytest.mark.statement("MQTT-3.2.2-9")
@pytest.mark.parametrize("maximum", [0, 1, 2])
def test_the_maximum_qos_is_announced(maximum: int) -> None:
    client = broker_with(maximum_qos=maximum).connect("c")
    assert client.connack is not None
    assert client.connack.properties.get("maximum_qos", 2) == maximum


@pytest.mark.statement("MQTT-3.2.2-10")
@pytest.mark.parametrize("maximum", [0, 1])
def test_subscriptions_may_ask_for_more_than_the_maximum_qos(maximum: int) -> None:
    client = broker_with(maximum_qos=maximum).connect("c")
    requests = [SubscriptionRequest(f"t/{qos}", qos) for qos in (0, 1, 2)]
    suback = client.subscribe(*requests)
    assert suback.reasons == [min(qos, maximum) for qos in (0, 1, 2)]


@pytest.mark.statement("MQTT-3.2.2-11")
def test_a_publish_above_the_maximum_qos_disconnects() -> None:
    client = broker_with(maximum_qos=1).connect("c")
    client.send(Publish("t", qos=2, packet_id=1))
    expect_closed(client, ReasonCode.QOS_NOT_SUPPORTED)


@pytest.mark.statement("MQTT-3.2.2-12")
@each_version
def test_a_will_above_the_maximum_qos_is_refused(version: int) -> None:
    client = broker_with(maximum_qos=1).connect("c", version, will=Will("w", b"", qos=2))
    assert client.connack is not None
    assert client.connack.reason == (ReasonCode.QOS_NOT_SUPPORTED if version == MQTT5 else 3)
    assert client.closed


@pytest.mark.statement("MQTT-3.2.2-13")
@each_version
def test_a_retained_will_is_refused_where_nothing_is_retained(version: int) -> None:
    client = broker_with(retain_available=False).connect(
        "c", version, will=Will("w", b"", retain=True)
    )
    assert client.connack is not None
    assert client.connack.reason == (ReasonCode.RETAIN_NOT_SUPPORTED if version == MQTT5 else 3)
    assert client.closed


@pytest.mark.statement("MQTT-3.2.2-14")
def test_a_retained_publish_disconnects_where_nothing_is_retained() -> None:
    client = broker_with(retain_available=False).connect("c")
    assert client.connack is not None
    assert client.connack.properties["retain_available"] == 0
    client.send(Publish("t", b"keep", retain=True))
    expect_closed(client, ReasonCode.RETAIN_NOT_SUPPORTED)


@pytest.mark.statement("MQTT-3.2.2-15")
@each_version
def test_a_packet_above_the_maximum_packet_size_disconnects(version: int) -> None:
    broker = broker_with(maximum_packet_size=100)
    client = broker.connect("c", version)
    if client.connack is not None and version == MQTT5:
        assert client.connack.properties["maximum_packet_size"] == 100
    fits = frame(0x30, text("t"), b"\x00", bytes(94))
    assert len(fits) == 100
    client.send_bytes(fits)
    assert not client.closed
    client.send_bytes(frame(0x30, text("t"), b"\x00", bytes(95)))
    expect_closed(client, ReasonCode.PACKET_TOO_LARGE)


@pytest.mark.statement("MQTT-3.2.2-17", "MQTT-3.3.2-9")
def test_an_alias_above_the_maximum_disconnects() -> None:
    client = broker_with(topic_alias_maximum=3).connect("c")
    assert client.connack is not None
    assert client.connack.properties["topic_alias_maximum"] == 3
    client.publish("t", topic_alias=3)
    assert not client.closed
    client.send(Publish("t", properties={"topic_alias": 4}))
    expect_closed(client, ReasonCode.TOPIC_ALIAS_INVALID)


@pytest.mark.statement("MQTT-3.2.2-18")
def test_any_alias_disconnects_where_there_are_none() -> None:
    client = broker_with(topic_alias_maximum=0).connect("c")
    assert client.connack is not None
    assert "topic_alias_maximum" not in client.connack.properties
    client.send(Publish("t", properties={"topic_alias": 1}))
    expect_closed(client, ReasonCode.TOPIC_ALIAS_INVALID)


@pytest.mark.statement("MQTT-3.1.2-28")
@pytest.mark.parametrize(("asked", "told"), [({}, False), (0, False), (1, True)])
def test_response_information_is_for_those_who_ask(asked: Any, told: bool) -> None:
    broker = broker_with(response_information="replies/")
    fields = {"request_response_information": asked} if asked != {} else {}
    client = broker.connect("c", **fields)
    assert client.connack is not None
    assert ("response_information" in client.connack.properties) is told
