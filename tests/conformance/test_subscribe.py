"""Sections 3.8 and 3.9: SUBSCRIBE and SUBACK."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqttd.testing import VirtualBroker
from mqttd.wire.codes import MQTT5, ReasonCode
from mqttd.wire.packets import Publish, Suback, Subscribe, SubscriptionRequest

from .support import (
    Rules,
    all_versions,
    broker_with,
    each_version,
    expect_closed,
    frame,
    keep,
    none_for,
    text,
)


@pytest.mark.statement("MQTT-3.8.3-1", "MQTT311-3.8.3-1", "MQTT311-1.5.3-1")
@each_version
@pytest.mark.parametrize("topic_filter", [b"\xff", b"a/\xc3", b"\xed\xa0\x80", b"a\0"])
def test_a_filter_that_is_not_utf8_closes(
    mqtt: VirtualBroker, version: int, topic_filter: bytes
) -> None:
    client = mqtt.connect("c", version)
    client.send_bytes(frame(0x82, b"\x00\x01", none_for(version), text(topic_filter), b"\x00"))
    expect_closed(client, ReasonCode.MALFORMED_PACKET)


@pytest.mark.statement("MQTT-3.8.3-2", "MQTT311-3.8.3-3")
@each_version
def test_a_subscribe_without_filters_closes(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version)
    client.send(Subscribe(1, []))
    expect_closed(client, ReasonCode.PROTOCOL_ERROR)


@pytest.mark.statement("MQTT311-3.8.3-2")
@each_version
@pytest.mark.parametrize("topic_filter", ["a/+", "#", "+/b"])
def test_wildcards_are_rejected_where_not_supported(version: int, topic_filter: str) -> None:
    broker = broker_with(wildcard_subscriptions=False)
    client = broker.connect("c", version)
    suback = client.subscribe("a/b", topic_filter)
    assert suback.reasons == [0, 0xA2 if version == MQTT5 else 0x80]
    broker.publish("a/b")
    assert len(client.messages()) == 1


@pytest.mark.statement("MQTT-3.8.3-5", "MQTT311-3.8.3-4")
@each_version
@pytest.mark.parametrize("options", [0x03, 0x40, 0x80, 0xC1])
def test_reserved_bits_and_qos_3_close(mqtt: VirtualBroker, version: int, options: int) -> None:
    client = mqtt.connect("c", version)
    data = b"\x00\x01" + none_for(version) + text("t") + bytes((options,))
    client.send_bytes(frame(0x82, data))
    reason = ReasonCode.PROTOCOL_ERROR if options == 3 else ReasonCode.MALFORMED_PACKET
    expect_closed(client, reason)


@pytest.mark.statement("MQTT311-3.8.3-4")
@pytest.mark.parametrize("options", [0x04, 0x08, 0x10])
def test_the_options_of_5_are_reserved_in_311(mqtt: VirtualBroker, options: int) -> None:
    client = mqtt.connect("c", 4)
    client.send_bytes(frame(0x82, b"\x00\x01", text("t"), bytes((options,))))
    expect_closed(client)


@pytest.mark.statement("MQTT-3.8.3-3")
def test_no_local_keeps_ones_own_messages_away(mqtt: VirtualBroker) -> None:
    client = mqtt.connect("c", **keep(MQTT5))
    client.subscribe("t", no_local=True)
    other = mqtt.connect("other")
    other.subscribe("t", no_local=True)
    for _ in range(3):
        client.publish("t", b"mine")
        client.expect_nothing()
        other.expect(Publish, payload=b"mine")
    other.publish("t", b"theirs")
    client.expect(Publish, payload=b"theirs")
    # Queued: published, gone, and back.
    client.subscribe("t", qos=1, no_local=True)
    client.publish("t", b"mine", qos=1)
    client.drop()
    client = mqtt.connect("c", **keep(MQTT5))
    client.expect_nothing()


@pytest.mark.statement("MQTT-3.8.3-3")
def test_no_local_is_of_one_subscription(mqtt: VirtualBroker) -> None:
    client = mqtt.connect("c")
    client.subscribe("a/+", no_local=True, qos=2)
    client.subscribe("+/b", qos=1)
    client.publish("a/b", b"x", qos=2)
    client.expect(Publish, qos=1, payload=b"x")
    client.publish("a/c", b"x")
    client.expect_nothing()


@pytest.mark.statement("MQTT-3.8.3-4")
def test_no_local_on_a_shared_subscription_is_an_error(mqtt: VirtualBroker) -> None:
    client = mqtt.connect("c")
    client.send(Subscribe(1, [SubscriptionRequest("$share/g/t", no_local=True)]))
    expect_closed(client, ReasonCode.PROTOCOL_ERROR)


@pytest.mark.statement("MQTT-3.8.4-1", "MQTT-3.8.4-2", "MQTT311-3.8.4-1", "MQTT311-3.8.4-2")
@all_versions
def test_subscribe_is_answered_with_its_identifier(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version)
    client.send(
        Subscribe(65_535, [SubscriptionRequest("a")]), Subscribe(1, [SubscriptionRequest("b")])
    )
    client.expect(Suback, packet_id=65_535)
    client.expect(Suback, packet_id=1)


@pytest.mark.statement("MQTT-3.8.4-3", "MQTT311-3.8.4-3")
@all_versions
def test_the_same_filter_replaces_the_subscription(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version)
    for qos in (2, 0, 1):
        assert client.subscribe("t/+", qos=qos).reasons == [qos]
        mqtt.publish("t/1", qos=2)
        (message,) = client.messages()
        assert message.qos == qos
    client.unsubscribe("t/+")
    mqtt.publish("t/1")
    client.expect_nothing()


@pytest.mark.statement("MQTT-3.8.4-3")
def test_the_new_subscription_has_the_new_options(mqtt: VirtualBroker) -> None:
    client = mqtt.connect("c")
    client.subscribe("t", no_local=True, retain_as_published=True, subscription_identifier=[1])
    client.subscribe("t", subscription_identifier=[2])
    client.publish("t", b"x", retain=True)
    client.expect(Publish, retain=False, properties={"subscription_identifier": [2]})


@pytest.mark.statement("MQTT-3.8.4-4", "MQTT311-3.8.4-3")
@all_versions
def test_replacing_sends_retained_messages_again_and_loses_none(
    mqtt: VirtualBroker, version: int
) -> None:
    mqtt.publish("t", b"kept", retain=True)
    client = mqtt.connect("c", version, **keep(version))
    client.subscribe("t", qos=1)
    client.acknowledge(client.expect(Publish, payload=b"kept"))
    mqtt.publish("t", b"under way", qos=1)
    client.subscribe("t", qos=1)
    mqtt.publish("t", b"after", qos=1)
    assert [m.payload for m in client.messages()] == [b"under way", b"kept", b"after"]
    # Not even what is queued under the old subscription.
    client.drop()
    mqtt.publish("t", b"queued", qos=1)
    client = mqtt.connect("c", version, **keep(version))
    client.subscribe("t", qos=0)
    assert b"queued" in [message.payload for message in client.messages()]


@pytest.mark.statement(
    "MQTT-3.8.4-5",
    "MQTT-3.8.4-6",
    "MQTT-3.8.4-7",
    "MQTT-3.9.3-1",
    "MQTT-3.9.3-2",
    "MQTT311-3.8.4-4",
    "MQTT311-3.8.4-5",
    "MQTT311-3.9.3-1",
    "MQTT311-3.9.3-2",
)
@each_version
def test_suback_answers_every_filter_in_order(version: int) -> None:
    broker = broker_with(authorizer=Rules(("subscribe", "no")), maximum_topic_levels=3)
    broker.publish("b", b"kept", retain=True)
    client = broker.connect("c", version)
    suback = client.subscribe(
        SubscriptionRequest("a", 1),
        SubscriptionRequest("no", 2),
        SubscriptionRequest("b", 0),
        SubscriptionRequest("a/b/c/d", 0),
        SubscriptionRequest("a", 2),
        SubscriptionRequest("c", 1),
    )
    if version == MQTT5:
        assert suback.reasons == [1, ReasonCode.NOT_AUTHORIZED, 0, suback.reasons[3], 2, 1]
        assert suback.reasons[3] >= 0x80
    else:
        assert suback.reasons == [1, 0x80, 0, 0x80, 2, 1]
    client.expect(Publish, payload=b"kept")
    client.expect_nothing()  # one SUBACK for all
    for topic, qos in (("a", 2), ("no", None), ("b", 0), ("a/b/c/d", None), ("c", 1)):
        broker.publish(topic, qos=2)
        assert [message.qos for message in client.messages()] == ([qos] if qos is not None else [])


@pytest.mark.statement("MQTT-3.8.4-8", "MQTT311-3.8.4-6")
@all_versions
@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_delivery_is_at_the_lower_qos(
    mqtt: VirtualBroker,
    version: int,
    published: int,
    granted: int,
    publish: Callable[..., None],
) -> None:
    mqtt.publish("t", b"kept", qos=published, retain=True)
    client = mqtt.connect("c", version)
    client.subscribe("t", qos=granted)
    client.expect(Publish, payload=b"kept", qos=min(published, granted))
    publish("t", b"live", qos=published)
    client.expect(Publish, payload=b"live", qos=min(published, granted))
