"""Scenarios of the public suites, packet by packet, on virtual time.

Covers, by suite:

- Eclipse Paho's ``interoperability/client_test.py`` and ``client_test5.py``: all
  cases. Where they allow for more than one behaviour, the one of mqttd is named.
- mosquitto's ``test/broker``: 01 (identifiers, take-over, keep alive), 02 and 03
  (subscriptions, flows, limits, aliases), 04 (retained), 05 (sessions), 07
  (wills), 10 (mount point), 11 (expiry, identifiers), 12 (properties). In other
  places of these tests: 01 (users, maximum connections, Unix sockets), 08 (TLS)
  and 21 (PROXY) in ``tests/end_to_end`` and ``tests/net``; 06 in
  ``tests/end_to_end/test_bridge.py``; 09 (authentication) in ``tests/conformance``;
  16 (configuration) in ``tests/test_config.py``. Not applicable: what is
  mosquitto's own (plugins, its ACL and dynamic-security files, control topics,
  Sparkplug, HTTP), persistence on disk, WebSocket.
- EMQX's ``emqx_mqtt_protocol_v5_SUITE``, VerneMQ's ``vmq_mqtt5_SUITE``, FlashMQ's
  will and shared-subscription tests, BifroMQ's ``LWTTest``, aedes' ``connect``.
  Not applicable: QUIC, changes of settings by their own interfaces.

Where mqttd answers otherwise, on purpose:

- mosquitto takes a PUBLISH to ``$anything``; mqttd refuses (0x87 in 5.0) unless
  ``dollar_topics`` is set. $SYS is closed with both, but for a bridge's state.
- mosquitto tells a publisher whose payload is too large 0x95 in PUBACK, which is
  no code of PUBACK; mqttd says 0x97.
- mosquitto publishes no will when a persistent session is taken over; section
  3.1.4 of 5.0 says that it is published where it has no delay, and so FlashMQ and
  mqttd do.
- A filter or topic with too many levels is refused by its reason code (0x80, 0x8F,
  0x90) where mosquitto closes.
- EMQX lets a client without a session expiry resume a session that has just been
  taken over; in mqttd it ends with its connection.
- aedes refuses client ids of more than 23 characters in 3.1; mqttd takes them, as
  clients of 3.1 send them.
- EMQX grants QoS 2 to subscribers where maximum QoS is lower, as the
  specification allows; mqttd grants what it will deliver.
"""

from __future__ import annotations

from typing import Any

import pytest

from mqttd.settings import BrokerSettings, ListenerSettings, SessionSettings
from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.codes import MQTT5, MQTT31, MQTT311, ReasonCode
from mqttd.wire.packets import (
    Connack,
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    SubscriptionRequest,
    Will,
)
from tests.interop.support import all_versions, broker_with, closed_with, each_version, keep

NEVER_CLEAN = {"session_expiry_interval": 0xFFFF_FFFF}


@pytest.fixture
def broker() -> VirtualBroker:
    return VirtualBroker()


def payloads(client: VirtualClient) -> list[bytes]:
    return [message.payload for message in client.messages()]


# --- connections and sessions -----------------------------------------------------------


@all_versions
def test_basic(broker: VirtualBroker, version: int) -> None:
    client = broker.connect("c", version)
    client.disconnect()
    client = broker.connect("c", version)
    client.subscribe("TopicA", qos=2)
    for qos in (0, 1, 2):
        client.publish("TopicA", b"%d" % qos, qos=qos)
    found = client.messages()
    assert [(message.qos, message.payload) for message in found] == [
        (0, b"0"),
        (1, b"1"),
        (2, b"2"),
    ]


@each_version
def test_the_newer_connection_takes_the_session_over(broker: VirtualBroker, version: int) -> None:
    first = broker.connect("c", version)
    second = broker.connect("c", version)
    closed_with(first, ReasonCode.SESSION_TAKEN_OVER)
    second.send(Pingreq())
    second.expect(Pingresp)


def test_no_client_id(broker: VirtualBroker) -> None:
    for clean in (True, False):
        client = broker.connect("", MQTT5, clean)
        assert client.connack is not None
        assert client.connack.reason == 0
        assert client.connack.properties["assigned_client_identifier"].startswith("auto-")
    client = broker.connect("", MQTT311, clean_start=False)
    assert client.connack == Connack(False, 2)
    strict = broker_with(zero_length_client_id=False)
    assert strict.connect("", MQTT311).connack == Connack(False, 2)
    refused = strict.connect("", MQTT5).connack
    assert refused is not None
    assert refused.reason == ReasonCode.CLIENT_IDENTIFIER_NOT_VALID


def test_a_client_id_over_the_limit() -> None:
    broker = broker_with(maximum_client_id_length=23)
    refused = broker.connect("this client id is longer than that").connack
    assert refused is not None
    assert refused.reason == ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
    assert broker.connect("this client id is longer", MQTT31).connack == Connack(False, 2)


@pytest.mark.parametrize("version", [MQTT31, MQTT311])
def test_a_keep_alive_over_the_maximum_is_refused_below_5(version: int) -> None:
    broker = broker_with(maximum_keep_alive=100)
    assert broker.connect("c", version, keep_alive=101).connack == Connack(False, 2)
    assert broker.connect("c", version, keep_alive=100).connack == Connack(False, 0)


@pytest.mark.parametrize("asked", [0, 61, 65_535])
def test_a_keep_alive_over_the_maximum_is_replaced_in_5(asked: int) -> None:
    client = broker_with(maximum_keep_alive=60).connect("c", keep_alive=asked)
    assert client.connack is not None
    assert client.connack.properties["server_keep_alive"] == 60
    client.broker.advance(89)
    assert not client.closed
    client.broker.advance(2)
    closed_with(client, ReasonCode.KEEP_ALIVE_TIMEOUT)


@all_versions
def test_keep_alive(broker: VirtualBroker, version: int) -> None:
    watcher = broker.connect("watcher", version)
    watcher.subscribe("/TopicA", qos=2)
    client = broker.connect("c", version, keep_alive=5, will=Will("/TopicA", b"expiry"))
    broker.advance(7.4)
    assert not client.closed
    broker.advance(0.6)
    closed_with(client, ReasonCode.KEEP_ALIVE_TIMEOUT)
    assert payloads(watcher) == [b"expiry"]


def test_a_client_that_says_nothing(broker: VirtualBroker) -> None:
    client = broker.open()
    broker.advance(11)
    client.expect_nothing()
    assert client.closed


@each_version
def test_persistent_and_clean_by_turns(broker: VirtualBroker, version: int) -> None:
    for fields in (keep(version), {}, keep(version)):
        client = broker.connect("c", version, **fields)
        assert client.connack is not None
        assert not client.connack.session_present
        client.subscribe("t", qos=1)
        if fields:
            broker.connect("p", version).publish("t", b"message", qos=1)
            assert payloads(client) == [b"message"]
        client.drop()


@each_version
def test_messages_for_those_away(broker: VirtualBroker, version: int) -> None:
    client = broker.connect("c", version, **keep(version))
    client.subscribe("+/+", qos=2)
    client.disconnect()
    writer = broker.connect("w", version)
    for qos in (0, 1, 2):
        writer.publish("TopicA/B", b"%d" % qos, qos=qos)
    again = broker.connect("c", version, **keep(version))
    assert again.connack is not None
    assert again.connack.session_present
    # The suites take both; QoS 0 waits where ``queue_qos0`` says so.
    assert payloads(again) == [b"1", b"2"]


def test_session_expiry(broker: VirtualBroker) -> None:
    def present(expiry: int, clean: bool = False) -> VirtualClient:
        return broker.connect("c", MQTT5, clean, session_expiry_interval=expiry)

    def was_present(client: VirtualClient) -> bool:
        assert client.connack is not None
        return client.connack.session_present

    present(0, clean=True).disconnect()
    client = present(5)
    assert not was_present(client)
    client.disconnect()
    broker.advance(4)
    client = present(5)
    assert was_present(client)
    client.disconnect()
    broker.advance(6)
    client = present(1)
    assert not was_present(client)
    # The last word on it is DISCONNECT's.
    client.disconnect(session_expiry_interval=5)
    broker.advance(3)
    client = present(1)
    assert was_present(client)
    client.disconnect(session_expiry_interval=0)
    assert not was_present(present(1))


def test_a_session_that_is_kicked_expires_as_it_would_have(broker: VirtualBroker) -> None:
    first = broker.connect("c", session_expiry_interval=60)
    first.subscribe("t", qos=1)
    second = broker.connect("c", clean_start=False, session_expiry_interval=0)
    assert second.connack is not None
    assert second.connack.session_present
    second.drop()
    third = broker.connect("c", clean_start=False)
    assert third.connack is not None
    assert not third.connack.session_present


# --- subscriptions -----------------------------------------------------------------------

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


# --- flows -------------------------------------------------------------------------------


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


# --- retained ------------------------------------------------------------------------------


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


# --- wills ---------------------------------------------------------------------------------


@pytest.fixture
def watcher(broker: VirtualBroker) -> VirtualClient:
    client = broker.connect("watcher")
    client.subscribe("will", qos=2, retain_as_published=True)
    return client


@each_version
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("payload", [b"", b"lost"])
def test_a_will(
    broker: VirtualBroker, watcher: VirtualClient, version: int, qos: int, payload: bytes
) -> None:
    broker.connect("c", version, will=Will("will", payload, qos)).disconnect()
    assert watcher.messages() == []
    broker.connect("c", version, will=Will("will", payload, qos, retain=True)).drop()
    watcher.expect(Publish, payload=payload, qos=qos, retain=True)


def test_a_will_that_is_asked_for(broker: VirtualBroker, watcher: VirtualClient) -> None:
    client = broker.connect("c", will=Will("will", b"asked", 2))
    client.disconnect(ReasonCode.DISCONNECT_WITH_WILL)
    watcher.expect(Publish, payload=b"asked")


def test_the_properties_of_a_will(broker: VirtualBroker, watcher: VirtualClient) -> None:
    properties: dict[str, Any] = {
        "content_type": "c",
        "response_topic": "r",
        "correlation_data": b"d",
        "payload_format_indicator": 1,
        "user_property": [("k", "v"), ("k", "w")],
    }
    will = Will("will", b"text", properties={**properties, "will_delay_interval": 0})  # type: ignore[typeddict-item]
    broker.connect("c", will=will).drop()
    assert watcher.expect(Publish).properties == properties


@pytest.mark.parametrize(
    ("expiry", "delay", "after"),
    [(0, 0, 0), (0, 2, 0), (2, 0, 0), (1, 3, 1), (3, 1, 1), (4, 2, 2), (2, 120, 2)],
)
def test_the_delay_of_a_will(
    broker: VirtualBroker, watcher: VirtualClient, expiry: int, delay: int, after: int
) -> None:
    will = Will("will", b"late", 1, properties={"will_delay_interval": delay})
    broker.connect("c", will=will, session_expiry_interval=expiry).drop()
    if after:
        broker.advance(after - 0.5)
        assert watcher.messages() == []
        broker.advance(1)
    assert payloads(watcher) == [b"late"]


def test_who_comes_back_in_time_leaves_no_will(
    broker: VirtualBroker, watcher: VirtualClient
) -> None:
    will = Will("will", b"late", properties={"will_delay_interval": 3})
    broker.connect("c", will=will, session_expiry_interval=10).drop()
    broker.advance(2)
    broker.connect("c", clean_start=False, session_expiry_interval=10)
    broker.advance(20)
    assert watcher.messages() == []


def test_a_clean_start_ends_the_delay(broker: VirtualBroker, watcher: VirtualClient) -> None:
    will = Will("will", b"at once", properties={"will_delay_interval": 120})
    broker.connect("c", will=will, session_expiry_interval=300).drop()
    broker.connect("c", clean_start=True)
    assert payloads(watcher) == [b"at once"]


@each_version
@pytest.mark.parametrize("first_kept", [False, True])
@pytest.mark.parametrize("second_kept", [False, True])
def test_the_will_of_a_connection_taken_over(
    broker: VirtualBroker,
    watcher: VirtualClient,
    version: int,
    first_kept: bool,
    second_kept: bool,
) -> None:
    broker.connect(
        "c", version, will=Will("will", b"gone"), **(keep(version) if first_kept else {})
    )
    second = broker.connect("c", version, **(keep(version) if second_kept else {}))
    assert second.connack is not None
    assert second.connack.session_present == (first_kept and second_kept)
    assert payloads(watcher) == [b"gone"]


def test_a_will_expires_like_any_message(broker: VirtualBroker) -> None:
    client = broker.connect("c", session_expiry_interval=60)
    client.subscribe("will", qos=1)
    client.drop()
    for name, expiry in (("short", 1), ("long", 10)):
        will = Will("will", name.encode(), 1, properties={"message_expiry_interval": expiry})
        broker.connect("w", will=will).drop()
    broker.advance(2)
    again = broker.connect("c", clean_start=False, session_expiry_interval=60)
    assert again.expect(Publish, payload=b"long").properties["message_expiry_interval"] == 8
    again.expect_nothing()


@pytest.mark.parametrize("topic", ["$CONTROL/dynamic-security/v1", "$SYS/broker/uptime"])
@each_version
def test_wills_for_dollar_topics_are_refused(
    broker: VirtualBroker, version: int, topic: str
) -> None:
    connack = broker.connect("c", version, will=Will(topic, b"x")).connack
    assert connack is not None
    assert connack.reason == (ReasonCode.NOT_AUTHORIZED if version == MQTT5 else 5)


@each_version
def test_a_bridge_may_leave_its_state(broker: VirtualBroker, version: int) -> None:
    topic = "$SYS/broker/connection/here.there/state"
    watcher = broker.connect("watcher", version)
    watcher.subscribe(topic)
    bridge = broker.connect(
        "bridge", version, bridge=version != MQTT5, will=Will(topic, b"0", 1, True)
    )
    bridge.publish(topic, b"1", qos=1, retain=True)
    bridge.drop()
    assert payloads(watcher) == [b"1", b"0"]


@each_version
def test_a_will_over_the_limit_is_refused(version: int) -> None:
    broker = broker_with(maximum_payload_size=1)
    connack = broker.connect("c", version, will=Will("will", b"AB")).connack
    assert connack is not None
    assert connack.reason == (ReasonCode.PACKET_TOO_LARGE if version == MQTT5 else 5)
    connack = broker.connect("c", version, will=Will("will", b"A")).connack
    assert connack is not None
    assert connack.reason == 0


# --- expiry --------------------------------------------------------------------------------


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


# --- the rest ------------------------------------------------------------------------------


def test_mount_point() -> None:
    listener = ListenerSettings("memory", allow_anonymous=True, mount_point="mount/")
    broker = VirtualBroker(BrokerSettings(listeners=(listener,)))
    client = broker.connect("c")
    client.subscribe("t")
    broker.publish("mount/t", b"inside")
    broker.publish("t", b"outside")
    client.publish("t", b"own")
    found = [(message.topic, message.payload) for message in client.messages()]
    assert found == [("t", b"inside"), ("t", b"own")]


def test_packets_that_come_with_connect_in_one_piece(broker: VirtualBroker) -> None:
    client = broker.open(MQTT311)
    connect = bytes.fromhex("10 0d 0004 4d515454 04 02 0000 0001 63")
    subscribe = bytes.fromhex("82 06 0001 0001 74 00")
    client.send_bytes(connect + subscribe + b"\x30\x04\0\1tx" * 50)
    client.expect(Connack, reason=0)
    client.expect(Suback)
    assert payloads(client) == [b"x"] * 50


def test_server_side_farewell_names_its_reason(broker: VirtualBroker) -> None:
    client = broker.connect("c")
    client.send(Publish("a/+", b"error topic"))
    assert client.expect(Disconnect).reason == ReasonCode.TOPIC_NAME_INVALID
