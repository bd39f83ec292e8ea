"""Of the public suites: filters, subscriptions, topics that begin with "$", groups.

See the package for what is covered, and for where mqttd differs.
"""

from __future__ import annotations

from typing import Any

import pytest

from mqttd.testing import VirtualBroker
from mqttd.wire.codes import MQTT5, MQTT311, ReasonCode
from mqttd.wire.packets import (
    Publish,
)
from tests.conformance.support import Rules
from tests.interop.support import (
    all_versions,
    broker_with,
    closed_with,
    each_version,
    keep,
    payloads,
)

MATCHES = [
    ("#", "test/topic"),
    ("#", "/test/topic"),
    ("foo/#", "foo/bar/baz"),
    ("foo/+/baz", "foo/bar/baz"),
    ("foo/+/baz/#", "foo/bar/baz"),
    ("foo/+/baz/#", "foo/bar/baz/bar"),
    ("foo/foo/baz/#", "foo/foo/baz/bar"),
    ("foo/#", "foo"),
    ("foo/#", "foo/"),
    ("/#", "/foo"),
    ("test/topic/", "test/topic/"),
    ("test/topic/+", "test/topic/"),
    ("+/+/+/+/+/+/+/+/+/+/test", "one/two/three/four/five/six/seven/eight/nine/ten/test"),
    ("#", "test////a//topic"),
    ("foo/+/baz", "foo//baz"),
    ("foo/+/baz//", "foo//baz//"),
    ("foo/+/baz/#", "foo//baz"),
    ("foo//baz/#", "foo//baz/bar"),
    ("/#", "////foo///bar"),
]


@each_version
@pytest.mark.parametrize(("topic_filter", "topic"), MATCHES)
def test_filters(broker: VirtualBroker, version: int, topic_filter: str, topic: str) -> None:
    client = broker.connect("c", version)
    client.subscribe(topic_filter)
    broker.connect("w", version).publish(topic, b"message", retain=True)
    client.expect(Publish, topic=topic, retain=False)
    client.unsubscribe(topic_filter)
    client.subscribe(topic_filter)
    client.expect(Publish, topic=topic, retain=True)


@each_version
def test_unsubscribe_one_of_three(broker: VirtualBroker, version: int) -> None:
    client = broker.connect("c", version)
    topics = ["TopicA", "TopicA/B", "Topic/C"]
    client.subscribe(*topics, qos=2)
    client.unsubscribe(topics[0])
    writer = broker.connect("w", version)
    for topic in topics:
        writer.publish(topic, topic.encode(), qos=1)
    assert payloads(client) == [b"TopicA/B", b"Topic/C"]


@each_version
def test_overlapping_subscriptions_give_one_copy(broker: VirtualBroker, version: int) -> None:
    client = broker.connect("c", version)
    client.subscribe("TopicA/#", qos=2)
    client.subscribe("TopicA/+", qos=1)
    client.publish("TopicA/C", b"overlapping", qos=2)
    (message,) = client.messages()
    assert message.qos == 2


def test_overlapping_subscriptions_tell_all_their_identifiers(broker: VirtualBroker) -> None:
    client = broker.connect("c")
    client.subscribe("TopicA/+", qos=1, subscription_identifier=[2333])
    client.subscribe("#", qos=0, subscription_identifier=[7])
    broker.publish("TopicA/B", b"x", 2)
    (message,) = client.messages()
    assert message.qos == 1
    assert sorted(message.properties["subscription_identifier"]) == [7, 2333]


@each_version
def test_a_second_subscription_replaces_the_first(broker: VirtualBroker, version: int) -> None:
    client = broker.connect("c", version)
    client.subscribe("t", qos=2)
    client.subscribe("t", qos=1)
    client.publish("t", b"x", qos=2)
    (message,) = client.messages()
    assert message.qos == 1


@each_version
def test_dollar_topics_and_wildcards(version: int) -> None:
    broker = broker_with(dollar_topics=True)
    client = broker.connect("c", version)
    client.subscribe("#", "+/+", qos=2)
    client.publish("$TopicA/B", b"", qos=1)
    assert client.messages() == []


@each_version
@pytest.mark.parametrize("topic", ["$SYS/broker/missing", "$share/share/#", "$queue/t"])
def test_dollar_filters_are_granted(broker: VirtualBroker, version: int, topic: str) -> None:
    assert broker.connect("c", version).subscribe(topic).reasons == [0]


PUBLISHED = [
    ("$test/test", 0x87),
    ("$SYS/broker/uptime", 0x87),
    ("$SYS/broker/connection/me", 0x87),
    ("$SYS/broker/connection/me/state", 0x10),
    ("$SYS/broker/connection//state", 0x87),
    ("$SYS/broker/connection/a/b/state", 0x87),
    ("$share/share/03/publish/dollar/v5/topic", 0x87),
    ("$CONTROL/dynamic-security/v1", 0x87),
]


@pytest.mark.parametrize(("topic", "reason"), PUBLISHED)
def test_publishing_to_dollar_topics(broker: VirtualBroker, topic: str, reason: int) -> None:
    client = broker.connect("c")
    for qos in (1, 2):
        answer = client.publish(topic, b"message", qos=qos)
        if reason >= 0x80 or qos == 1:
            assert answer is not None
            assert answer.reason == reason
    # Below 5.0 there is no word for it.
    old = broker.connect("old", MQTT311)
    old.subscribe(topic if not topic.startswith("$share") else "03/#")
    old.publish(topic, b"message", qos=1)
    assert len(old.messages()) == (reason < 0x80)


@pytest.mark.parametrize("topic", ["$SYS/broker/uptime", "$SYS/x", "$SYS"])
def test_no_setting_opens_the_brokers_own_topics(topic: str) -> None:
    answer = broker_with(dollar_topics=True).connect("c").publish(topic, b"x", qos=1)
    assert answer is not None
    assert answer.reason == ReasonCode.NOT_AUTHORIZED


@each_version
@pytest.mark.parametrize("topic", ["/" * 65_535, "/" * 200, "a" * 5000])
def test_very_long_topics(broker: VirtualBroker, version: int, topic: str) -> None:
    client = broker.connect("c", version)
    reason = ReasonCode.TOPIC_FILTER_INVALID if version == MQTT5 else 0x80
    assert client.subscribe(topic).reasons == [reason]
    assert not client.closed
    if version == MQTT5:
        answer = client.publish(topic, b"", qos=1)
        assert answer is not None
        assert answer.reason == ReasonCode.TOPIC_NAME_INVALID
    else:
        client.send(Publish(topic, b"", 1, packet_id=1))
        closed_with(client)


def test_no_local(broker: VirtualBroker) -> None:
    first, second = broker.connect("a"), broker.connect("b")
    for client in (first, second):
        client.subscribe("TopicA", qos=2, no_local=True)
    first.publish("TopicA", b"noLocal", qos=1)
    assert (payloads(first), payloads(second)) == ([], [b"noLocal"])
    # It is kept with the session.
    keeper = broker.connect("k", **keep(MQTT5))
    keeper.subscribe("TopicA", qos=1, no_local=True)
    keeper.drop()
    keeper = broker.connect("k", **keep(MQTT5))
    keeper.publish("TopicA", b"own", qos=1)
    assert payloads(keeper) == []


def test_reasons_of_unsubscribe(broker: VirtualBroker) -> None:
    client = broker.connect("c")
    client.subscribe("a", "b", qos=2)
    assert client.unsubscribe("a", "b", "no").reasons == [0, 0, 0x11]


def test_members_of_a_group_take_turns(broker: VirtualBroker) -> None:
    members = [broker.connect(name) for name in "abc"]
    for member in members:
        member.subscribe("$share/group/one/two/three", qos=1)
    members[1].unsubscribe("$share/group/one/two/three")
    for payload in (b"rainy day", b"sunny day"):
        broker.connect("w").publish("one/two/three", payload, qos=1)
    found = []
    for member in (members[0], members[2]):
        message = member.expect(Publish)
        member.acknowledge(message)
        found.append(message.payload)
    assert sorted(found) == [b"rainy day", b"sunny day"]
    assert payloads(members[1]) == []
    members[2].disconnect()
    broker.connect("w").publish("one/two/three", b"alone", qos=1)
    assert payloads(members[0]) == [b"alone"]


def test_a_group_gets_no_retained_messages(broker: VirtualBroker) -> None:
    broker.publish("t", b"kept", retain=True)
    client = broker.connect("c")
    client.subscribe("$share/name/t")
    assert client.messages() == []


@each_version
@pytest.mark.parametrize(("qos", "goes"), [(1, True), (2, False)])
def test_what_a_member_did_not_finish(
    broker: VirtualBroker, version: int, qos: int, goes: bool
) -> None:
    first, second = broker.connect("a", version), broker.connect("b", version)
    first.subscribe("$share/name/t", qos=qos)
    broker.publish("t", b"once", qos)
    first.expect(Publish)
    second.subscribe("$share/name/t", qos=qos)
    first.drop()
    # Of QoS 2 nobody knows whether the first one has it. [MQTT-4.8.2-5]
    assert payloads(second) == ([b"once"] if goes else [])


@each_version
def test_a_filter_that_is_not_allowed(version: int) -> None:
    rules: Any = Rules(("subscribe", "test/nosubscribe"))
    broker = VirtualBroker(authorizer=rules)
    client = broker.connect("c", version)
    refused = ReasonCode.NOT_AUTHORIZED if version == MQTT5 else 0x80
    assert client.subscribe("test/nosubscribe", "test/other", qos=2).reasons == [refused, 2]
    if version == MQTT5:
        assert client.unsubscribe("test/nosubscribe").reasons == [0x11]


def test_an_identifier_stays_with_the_session(broker: VirtualBroker) -> None:
    client = broker.connect("c", session_expiry_interval=60)
    client.subscribe("t", qos=1, subscription_identifier=[7])
    client.drop()
    client = broker.connect("c", clean_start=False, session_expiry_interval=60)
    broker.publish("t", b"x", 1)
    assert client.expect(Publish).properties == {"subscription_identifier": [7]}


@all_versions
@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("sent", [0, 1, 2])
def test_the_lower_qos_counts(
    broker: VirtualBroker, version: int, sent: int, granted: int, away: bool
) -> None:
    client = broker.connect("c", version, **keep(version))
    client.subscribe("t", qos=granted)
    if away:
        client.drop()
    broker.connect("w", version).publish("t", b"x", qos=sent)
    if away:
        client = broker.connect("c", version, **keep(version))
    qos = min(sent, granted)
    # What was not to be acknowledged does not wait.
    assert [message.qos for message in client.messages()] == ([qos] if qos or not away else [])
