"""Of the public suites: acknowledgements, limits, aliases, retained, expiry.

See the package for what is covered, and for where mqttd differs.
"""

from __future__ import annotations

from typing import Any

import pytest

from mqttd.settings import SessionSettings
from mqttd.testing import VirtualBroker
from mqttd.wire.codes import MQTT5, MQTT311, ReasonCode
from mqttd.wire.packets import (
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    SubscriptionRequest,
    Will,
)
from tests.interop.support import broker_with, closed_with, each_version, keep, payloads

# --- flows ------------------------------------------------------------------------------


@each_version
def test_qos_1_is_repeated_after_a_reconnection(broker: VirtualBroker, version: int) -> None:
    client = broker.connect("c", version, **keep(version))
    client.subscribe("t", qos=1)
    broker.publish("t", b"x", 1)
    message = client.expect(Publish, dup=False)
    client.drop()
    again = broker.connect("c", version, **keep(version))
    again.expect(Publish, dup=True, packet_id=message.packet_id, payload=b"x")
    again.send(Puback(message.packet_id))
    again.drop()
    broker.connect("c", version, **keep(version)).expect_nothing()


@each_version
def test_qos_2_goes_on_where_it_was(broker: VirtualBroker, version: int) -> None:
    client = broker.connect("c", version, **keep(version))
    client.subscribe("t", qos=2)
    broker.publish("t", b"x", 2)
    packet_id = client.expect(Publish, dup=False).packet_id
    client.drop()
    client = broker.connect("c", version, **keep(version))
    client.expect(Publish, dup=True, packet_id=packet_id)
    client.send(Pubrec(packet_id))
    client.expect(Pubrel, packet_id=packet_id)
    client.drop()
    client = broker.connect("c", version, **keep(version))
    client.expect(Pubrel, packet_id=packet_id)
    client.send(Pubcomp(packet_id))
    client.drop()
    broker.connect("c", version, **keep(version)).expect_nothing()


@each_version
def test_qos_2_from_a_client_goes_on_where_it_was(broker: VirtualBroker, version: int) -> None:
    reader = broker.connect("r", version)
    reader.subscribe("t", qos=0)
    client = broker.connect("c", version, **keep(version))
    message = Publish("t", b"x", 2, packet_id=1)
    client.send(message)
    client.expect(Pubrec, packet_id=1)
    for _ in range(2):
        client.drop()
        client = broker.connect("c", version, **keep(version))
        client.send(Publish("t", b"x", 2, dup=True, packet_id=1))
        client.expect(Pubrec, packet_id=1)
        client.send(Pubrel(1))
        client.expect(Pubcomp, packet_id=1)
        client.send(message)
        client.expect(Pubrec, packet_id=1)
    assert payloads(reader) == [b"x"] * 3


def test_a_message_refused_by_pubrec_is_done(broker: VirtualBroker) -> None:
    client = broker.connect("c")
    client.subscribe("qos2/+", qos=2)
    for topic in ("qos2/rejected", "qos2/accepted"):
        broker.publish(topic, b"", 2)
    rejected, accepted = client.messages()
    client.send(Pubrec(rejected.packet_id, 0x80), Pubrec(accepted.packet_id))
    client.expect(Pubrel, packet_id=accepted.packet_id)
    client.expect_nothing()
    assert list(broker.broker.sessions.get("c").inflight) == [  # type: ignore[union-attr]
        accepted.packet_id
    ]


@pytest.mark.parametrize("maximum", [1, 2])
def test_receive_maximum_of_the_client(broker: VirtualBroker, maximum: int) -> None:
    client = broker.connect("c", receive_maximum=maximum)
    client.subscribe("t", qos=2)
    for number in range(4):
        broker.publish("t", b"%d" % number, 2)
    waiting = client.messages()
    assert len(waiting) == maximum
    client.send(Pubrec(waiting[0].packet_id))
    client.expect(Pubrel)
    # It is PUBCOMP that makes room.
    client.expect_nothing()
    client.send(Pubcomp(waiting[0].packet_id))
    client.expect(Publish, payload=b"%d" % maximum)
    client.expect_nothing()


def test_receive_maximum_of_the_server() -> None:
    broker = broker_with(receive_maximum=20)
    for version in (MQTT311, MQTT5):
        client = broker.connect(f"c{version}", version)
        for number in range(1, 21):
            client.send(Publish("t", b"", 2, packet_id=number))
            client.expect(Pubrec, packet_id=number)
        client.send(Publish("t", b"", 2, packet_id=21))
        if version == MQTT5:
            closed_with(client, ReasonCode.RECEIVE_MAXIMUM_EXCEEDED)


@each_version
def test_nobody_subscribes(broker: VirtualBroker, version: int) -> None:
    client = broker.connect("c", version)
    reason = ReasonCode.NO_MATCHING_SUBSCRIBERS if version == MQTT5 else 0
    client.send(Publish("t", b"", 1, packet_id=1))
    client.expect(Puback, reason=reason)
    client.send(Publish("t", b"", 2, packet_id=2))
    client.expect(Pubrec, reason=reason)


@pytest.mark.parametrize("maximum", [0, 1])
def test_maximum_qos(maximum: int) -> None:
    broker = broker_with(maximum_qos=maximum)
    client = broker.connect("c")
    assert client.connack is not None
    assert client.connack.properties["maximum_qos"] == maximum
    granted = client.subscribe("a", qos=2).reasons + client.subscribe("a", qos=0).reasons
    assert granted == [maximum, 0]
    client.send(Publish("a", b"", maximum + 1, packet_id=1))
    closed_with(client, ReasonCode.QOS_NOT_SUPPORTED)
    refused = broker.connect("c", will=Will("t", b"", 2)).connack
    assert refused is not None
    assert refused.reason == ReasonCode.QOS_NOT_SUPPORTED


def test_retain_not_available() -> None:
    client = broker_with(retain_available=False).connect("c")
    assert client.connack is not None
    assert client.connack.properties["retain_available"] == 0
    client.send(Publish("a", b"", 1, retain=True, packet_id=1))
    closed_with(client, ReasonCode.RETAIN_NOT_SUPPORTED)


@each_version
def test_payloads_over_the_limit_reach_nobody(version: int) -> None:
    broker = broker_with(maximum_payload_size=1)
    client = broker.connect("c", version)
    client.subscribe("t", qos=1)
    client.publish("t", b"A", qos=1)
    assert payloads(client) == [b"A"]
    answer = client.publish("t", b"AB", qos=1)
    assert answer is not None
    assert answer.reason == (ReasonCode.QUOTA_EXCEEDED if version == MQTT5 else 0)
    client.publish("t", b"AB", qos=0)
    assert payloads(client) == []
    assert not client.closed


def test_packets_over_the_limit_end_the_connection() -> None:
    client = broker_with(maximum_packet_size=40).connect("c")
    assert client.connack is not None
    assert client.connack.properties["maximum_packet_size"] == 40
    client.send(Publish("t", bytes(40)))
    closed_with(client, ReasonCode.PACKET_TOO_LARGE)


@pytest.mark.parametrize("qos", [1, 2])
def test_what_is_too_large_for_a_client_is_left_out(broker: VirtualBroker, qos: int) -> None:
    client = broker.connect("c", maximum_packet_size=40)
    client.subscribe("12/max/publish/test/topic/x", qos=qos)
    for payload in (b"1234567", b"123456"):
        client.publish("12/max/publish/test/topic/x", payload, qos=qos)
    assert payloads(client) == [b"123456"]


def test_an_alias_that_was_never_set(broker: VirtualBroker) -> None:
    client = broker.connect("c")
    client.send(Publish("", b"message", properties={"topic_alias": 3}))
    closed_with(client, ReasonCode.PROTOCOL_ERROR)


def test_aliases_from_the_broker(broker: VirtualBroker) -> None:
    client = broker.connect("c", topic_alias_maximum=1)
    client.subscribe("a", "b")
    for topic in ("a", "a", "b"):
        broker.publish(topic, b"x")
    found = [(message.topic, message.properties) for message in client.messages()]
    assert found == [("a", {"topic_alias": 1}), ("", {"topic_alias": 1}), ("b", {})]


def test_aliases_for_messages_that_waited(broker: VirtualBroker) -> None:
    client = broker.connect("c", session_expiry_interval=60)
    client.subscribe("a", qos=2)
    client.drop()
    for qos in (1, 2, 1):
        broker.publish("a", b"x", qos)
    again = broker.connect("c", clean_start=False, topic_alias_maximum=5)
    found = again.messages()
    assert [message.topic for message in found] == ["a", "", ""]
    assert all(message.properties == {"topic_alias": 1} for message in found)


def test_requests_and_responses(broker: VirtualBroker) -> None:
    asking, answering = broker.connect("asking"), broker.connect("answering")
    asking.subscribe("response/topic")
    answering.subscribe("normal/topic")
    asking.publish("normal/topic", b"2", response_topic="response/topic", correlation_data=b"45vyv")
    request = answering.expect(Publish)
    answering.publish(
        request.properties["response_topic"],
        b"22",
        correlation_data=request.properties["correlation_data"],
    )
    asking.expect(Publish, payload=b"22", properties={"correlation_data": b"45vyv"})


# --- retained ---------------------------------------------------------------------------


@each_version
def test_retained_messages(broker: VirtualBroker, version: int) -> None:
    more: dict[str, Any] = {}
    if version == MQTT5:
        more = {"user_property": [("a", "2"), ("c", "3")]}
    writer = broker.connect("w", version)
    topics = ["TopicA/B", "Topic/C", "TopicA/C"]
    for qos, topic in enumerate(topics):
        writer.publish(topic, b"qos %d" % qos, qos=qos, retain=True, **more)
    client = broker.connect("c", version)
    client.subscribe("+/+", qos=2)
    found = client.messages()
    assert sorted(message.qos for message in found) == [0, 1, 2]
    assert all(message.retain and message.properties == more for message in found)
    for qos, topic in enumerate(topics):
        writer.publish(topic, b"", qos=qos, retain=True)
    late = broker.connect("late", version)
    late.subscribe("+/+", qos=2)
    assert late.messages() == []


def test_retain_as_published(broker: VirtualBroker) -> None:
    client = broker.connect("c")
    client.subscribe(
        SubscriptionRequest("t", 2, retain_as_published=True), SubscriptionRequest("u", 2)
    )
    for topic in ("t", "u"):
        for retain in (False, True):
            client.publish(topic, b"x", qos=1, retain=retain)
    assert [message.retain for message in client.messages()] == [False, True, False, False]


@pytest.mark.parametrize(("handling", "counts"), [(0, [3, 3]), (1, [3, 0]), (2, [0, 0])])
def test_retain_handling(broker: VirtualBroker, handling: int, counts: list[int]) -> None:
    for topic in ("TopicA/B", "Topic/C", "TopicA/C"):
        broker.publish(topic, b"x", 1, retain=True)
    client = broker.connect("c")
    for count in counts:
        client.subscribe("+/+", qos=2, retain_handling=handling)
        assert len(client.messages()) == count


@each_version
def test_outgoing_qos_may_be_upgraded(version: int) -> None:
    broker = broker_with(SessionSettings(upgrade_qos=True))
    broker.publish("t", b"kept", 0, retain=True)
    client = broker.connect("c", version)
    client.subscribe("t", qos=1)
    client.expect(Publish, qos=1, retain=True)


# --- expiry -----------------------------------------------------------------------------


def test_expiry_in_a_queue(broker: VirtualBroker) -> None:
    client = broker.connect("c", session_expiry_interval=60)
    client.subscribe("t", qos=2)
    client.disconnect(session_expiry_interval=60)
    writer = broker.connect("w")
    for expiry in (1, 6):
        for qos in (1, 2):
            writer.publish("t", b"%d" % expiry, qos=qos, message_expiry_interval=expiry)
    broker.advance(3)
    again = broker.connect("c", clean_start=False)
    found = again.messages()
    assert [message.payload for message in found] == [b"6", b"6"]
    assert [message.properties["message_expiry_interval"] for message in found] == [3, 3]


def test_expiry_of_retained_messages(broker: VirtualBroker) -> None:
    writer = broker.connect("w")
    writer.publish("a", b"short", retain=True, message_expiry_interval=4)
    writer.publish("b", b"long", retain=True, message_expiry_interval=10)
    broker.advance(5)
    client = broker.connect("c")
    client.subscribe("a", "b")
    message = client.expect(Publish, payload=b"long")
    assert message.properties["message_expiry_interval"] == 5
    client.expect_nothing()
