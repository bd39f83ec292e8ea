"""What is there after the broker was killed and started again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mqttd.broker.paging import HEAD
from mqttd.interfaces import RECEIVE, AccessRequest
from mqttd.settings import Overflow
from mqttd.wire.codes import MQTT5, MQTT311
from mqttd.wire.packets import (
    Connack,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    SubscriptionRequest,
    Will,
)
from tests.broker.kept import Kept, bounded


@pytest.fixture
def kept() -> Iterator[Kept]:
    kept = Kept()
    yield kept
    kept.bare.stop()


def numbers(messages: list[Publish]) -> list[int]:
    return [int(message.payload) for message in messages]


# --- sessions ----------------------------------------------------------------------


@pytest.mark.parametrize("version", [MQTT311, MQTT5])
def test_a_session_is_there_and_gets_messages_before_its_client_comes(
    kept: Kept, version: int
) -> None:
    client = kept.connect("a", version)
    client.subscribe("t/+", qos=1)
    client.subscribe("u", qos=2)
    kept.crash()
    source = kept.bare.connect("source")
    source.publish("t/1", b"1", 1)
    source.publish("u", b"2", 2)
    source.publish("other", b"3", 1)
    back = kept.connect("a", version)
    assert back.connack is not None
    assert back.connack.session_present
    assert [(m.payload, m.qos) for m in back.messages()] == [(b"1", 1), (b"2", 2)]


def test_options_and_identifiers_of_subscriptions_are_kept(kept: Kept) -> None:
    client = kept.connect("a")
    request = SubscriptionRequest("t", 1, no_local=True, retain_as_published=True)
    client.subscribe(request, subscription_identifier=[7])
    kept.crash()
    back = kept.connect("a")
    back.publish("t", b"own", 1)
    source = kept.bare.connect("source")
    source.send_publish("t", b"x", 1, retain=True)
    message = back.expect(Publish, payload=b"x", retain=True)
    assert message.properties["subscription_identifier"] == [7]


def test_an_ended_subscription_stays_ended(kept: Kept) -> None:
    client = kept.connect("a")
    client.subscribe("t", "u", qos=1)
    client.unsubscribe("t")
    kept.crash()
    assert list(kept.session("a").subscriptions) == ["u"]
    assert len(kept.bare.broker.router) == 1


def test_shared_subscriptions_are_kept(kept: Kept) -> None:
    for name in ("a", "b"):
        client = kept.connect(name)
        client.subscribe("$share/g/t", qos=1)
        client.drop()
    kept.crash()
    source = kept.bare.connect("source")
    for number in range(4):
        source.publish("t", b"%d" % number, 1)
    assert [kept.session(name).queued for name in ("a", "b")] == [2, 2]
    kept.crash()
    back = kept.connect("a", clean_start=True)
    back.expect_nothing()
    assert kept.session("b").queued == 4


def test_a_clean_start_forgets(kept: Kept) -> None:
    client = kept.connect("a")
    client.subscribe("t", qos=1)
    client.drop()
    kept.bare.connect("source").publish("t", b"x", 1)
    kept.crash()
    back = kept.connect("a", clean_start=True)
    assert back.connack is not None
    assert not back.connack.session_present
    kept.crash()
    assert not kept.session("a").subscriptions
    assert kept.rows("a") == []


def test_expiry_goes_on_counting_while_down(kept: Kept) -> None:
    for name, expiry in (("soon", 100), ("later", 1000), ("never", 0xFFFF_FFFF)):
        client = kept.connect(name, session_expiry_interval=expiry)
        client.disconnect()
    kept.commit()
    kept.crash(downtime=500)
    assert {session.client_id for session in kept.bare.broker.sessions} == {"later", "never"}
    kept.bare.advance(499)
    assert len(kept.bare.broker.sessions) == 2
    kept.bare.advance(2)
    assert {session.client_id for session in kept.bare.broker.sessions} == {"never"}
    assert kept.bare.broker.metrics.sessions_expired == 2


def test_a_session_belongs_to_who_made_it(kept: Kept) -> None:
    client = kept.connect("a", certificate_user="alice")
    client.drop()
    kept.crash()
    other = kept.connect("a", certificate_user="mallory")
    assert other.connack is not None
    assert other.connack.reason == 0x85
    assert kept.session("a").principal == "alice"


def test_a_session_without_expiry_is_gone(kept: Kept) -> None:
    kept.connect("a", session_expiry_interval=0)
    kept.commit()
    kept.crash()
    assert "a" not in kept.bare.broker.sessions


# --- messages ------------------------------------------------------------------------


def test_what_was_sent_and_not_acknowledged_comes_again_under_its_id(kept: Kept) -> None:
    client = kept.connect("a")
    client.subscribe("t", qos=1)
    source = kept.bare.connect("source")
    kept.by_hand()
    for number in range(4):
        source.send_publish("t", b"%d" % number, 1)
    sent = client.messages()
    client.send(Puback(sent[0].packet_id))
    kept.tick()
    kept.commit()
    kept.store.automatic = True
    kept.crash()
    back = kept.connect("a")
    again = back.messages()
    assert [(m.payload, m.packet_id, m.dup) for m in again] == [
        (m.payload, m.packet_id, True) for m in sent[1:]
    ]


def test_what_waits_follows_what_was_sent(kept: Kept) -> None:
    client = kept.connect("a", receive_maximum=2)
    client.subscribe("t", qos=1)
    source = kept.bare.connect("source")
    kept.by_hand()
    for number in range(5):
        source.send_publish("t", b"%d" % number, 1)
    kept.tick()
    kept.commit()
    kept.store.automatic = True
    assert len(source.take(Puback)) == 5
    kept.crash()
    source = kept.bare.connect("source")
    source.publish("t", b"5", 1)
    back = kept.connect("a", receive_maximum=2)
    received: list[int] = []
    while messages := back.messages():
        received += numbers(messages)
        back.acknowledge(*messages)
        kept.bare.advance(1)
    assert received == [0, 1, 2, 3, 4, 5]
    kept.commit()
    assert kept.rows("a") == []


def test_a_qos_2_message_that_was_sent_comes_again_and_is_released_once(kept: Kept) -> None:
    client = kept.connect("a")
    client.subscribe("t", qos=2)
    source = kept.connect("source")
    source.publish("t", b"x", 2)
    sent = client.expect(Publish)
    kept.crash()
    back = kept.connect("a")
    again = back.expect(Publish, packet_id=sent.packet_id, dup=True)
    back.send(Pubrec(again.packet_id))
    back.expect(Pubrel)
    kept.crash()
    last = kept.connect("a")
    last.expect(Pubrel, packet_id=sent.packet_id)
    last.send(Pubcomp(sent.packet_id))
    last.expect_nothing()
    kept.commit()
    assert kept.rows("a") == []


def test_a_qos_2_packet_id_is_remembered(kept: Kept) -> None:
    sink = kept.connect("sink")
    sink.subscribe("t", qos=2)
    sink.drop()
    source = kept.connect("source")
    source.send_publish("t", b"x", 2, packet_id=9)
    source.expect(Pubrec)
    kept.crash()
    again = kept.connect("source")
    again.send_publish("t", b"x", 2, packet_id=9, dup=True)
    again.expect(Pubrec, packet_id=9)
    again.send(Pubrel(9))
    again.expect(Pubcomp, packet_id=9)
    assert kept.session("sink").queued == 1
    kept.crash()
    last = kept.connect("source")
    last.send_publish("t", b"y", 2, packet_id=9)
    last.expect(Pubrec)
    assert kept.session("sink").queued == 2


def test_a_message_expires_while_the_broker_is_down(kept: Kept) -> None:
    client = kept.connect("a")
    client.subscribe("t", qos=1)
    client.drop()
    source = kept.bare.connect("source")
    source.publish("t", b"short", 1, message_expiry_interval=10)
    source.publish("t", b"long", 1, message_expiry_interval=1000)
    kept.crash(downtime=100)
    back = kept.connect("a")
    message = back.expect(Publish, payload=b"long")
    assert message.properties["message_expiry_interval"] == 900
    back.expect_nothing()
    assert kept.bare.broker.metrics.dropped["expired"] == 1


def test_properties_travel_on(kept: Kept) -> None:
    client = kept.connect("a")
    client.subscribe("é/☃", qos=1)
    client.drop()
    source = kept.bare.connect("source")
    source.publish("é/☃", b"\0\xff", 1, user_property=[("k", "v")], content_type="x/y")
    kept.crash()
    message = kept.connect("a").expect(Publish, topic="é/☃", payload=b"\0\xff")
    assert message.properties == {"user_property": [("k", "v")], "content_type": "x/y"}


class Rules:
    """Lets nobody receive what ``denied`` names, nor retain it."""

    def __init__(self) -> None:
        self.epoch = 0
        self.checks = frozenset({RECEIVE, "publish"})
        self.denied: set[str] = set()
        self.asked: list[AccessRequest] = []

    def authorize(self, request: AccessRequest) -> bool:
        self.asked.append(request)
        return request.topic not in self.denied


def test_the_rules_of_now_hold_for_a_message_of_before() -> None:
    rules = Rules()
    kept = Kept(authorizer=rules)
    client = kept.connect("a")
    client.subscribe("#", qos=1)
    client.drop()
    source = kept.bare.connect("source")
    for topic in ("open", "closed"):
        source.publish(topic, b"x", 1)
    kept.crash()
    rules.denied = {"closed"}
    rules.epoch += 1
    assert [m.topic for m in kept.connect("a").messages()] == ["open"]
    kept.bare.stop()


def test_a_retained_message_is_judged_by_the_rights_of_its_publisher() -> None:
    rules = Rules()
    kept = Kept(authorizer=rules)
    source = kept.bare.connect("source", certificate_user="bob")
    source.publish("t", b"x", 1, retain=True)
    kept.crash()
    client = kept.bare.connect("a")
    client.subscribe("t")
    assert client.payloads() == [b"x"]
    (asked,) = [each for each in rules.asked[1:] if each.action == "publish"]
    assert (asked.client_id, asked.avatar.principal) == ("source", "bob")
    assert asked.peer is not None
    assert asked.peer.address == "192.0.2.1"
    kept.bare.stop()


# --- retained messages and wills --------------------------------------------------------


def test_retained_messages_are_kept_and_cleared(kept: Kept) -> None:
    source = kept.bare.connect("source")
    source.publish("stays", b"1", 1, retain=True)
    source.publish("goes", b"2", 1, retain=True)
    source.publish("goes", b"", 1, retain=True)
    source.publish("expires", b"3", 1, retain=True, message_expiry_interval=10)
    kept.crash(downtime=60)
    client = kept.bare.connect("a")
    client.subscribe("#", qos=1)
    message = client.expect(Publish, topic="stays", payload=b"1", retain=True)
    assert message.qos == 1
    client.expect_nothing()
    kept.bare.advance(2)
    kept.commit()
    assert list(kept.store.tables.retained) == ["stays"]


def test_what_the_broker_says_of_itself_is_not_kept(kept: Kept) -> None:
    kept.bare.publish("$SYS/x", b"1", retain=True)
    kept.commit()
    assert kept.store.tables.retained == {}


@pytest.mark.parametrize("expiry", [0, 300])
def test_the_will_of_a_client_that_was_there_goes_out(kept: Kept, expiry: int) -> None:
    sink = kept.connect("sink")
    sink.subscribe("#", qos=1)
    sink.drop()
    will = Will("gone", b"a", 1, False, {"message_expiry_interval": 100}, b"")
    kept.connect("a", session_expiry_interval=expiry, will=will)
    kept.commit()
    kept.crash()
    message = kept.connect("sink").expect(Publish, topic="gone", payload=b"a", qos=1)
    assert message.properties["message_expiry_interval"] == 100
    kept.tick()
    kept.commit()
    kept.crash()
    assert [m.dup for m in kept.connect("sink").messages()] == [True]


def test_no_will_of_a_client_that_left_properly(kept: Kept) -> None:
    sink = kept.connect("sink")
    sink.subscribe("#", qos=1)
    for expiry in (0, 300):
        client = kept.connect("a", session_expiry_interval=expiry, will=Will("gone", b"a", 1))
        client.disconnect()
    kept.commit()
    kept.crash()
    kept.connect("sink").expect_nothing()


def test_a_will_delay_goes_on_counting(kept: Kept) -> None:
    sink = kept.connect("sink")
    sink.subscribe("#", qos=1)
    for name, delay in (("soon", 60), ("later", 200)):
        will = Will(name, b"x", 1, False, {"will_delay_interval": delay}, b"")
        kept.connect(name, session_expiry_interval=1000, will=will).drop()
    kept.commit()
    kept.crash(downtime=100)
    back = kept.connect("sink")
    assert [m.topic for m in back.messages()] == ["soon"]
    kept.bare.advance(99)
    assert back.messages() == []
    kept.bare.advance(2)
    assert [m.topic for m in back.messages()] == ["later"]


def test_a_client_back_in_time_stops_its_will(kept: Kept) -> None:
    will = Will("gone", b"x", 1, False, {"will_delay_interval": 60}, b"")
    kept.connect("a", session_expiry_interval=1000, will=will).drop()
    kept.commit()
    kept.crash(downtime=10)
    sink = kept.connect("sink")
    sink.subscribe("#", qos=1)
    kept.connect("a", session_expiry_interval=1000)
    kept.bare.advance(100)
    sink.expect_nothing()
    kept.crash()
    assert kept.session("a").will is None


# --- long queues -------------------------------------------------------------------------


def test_a_long_queue_is_mostly_on_disk_and_comes_in_order(kept: Kept) -> None:
    client = kept.connect("a")
    client.subscribe("t", qos=1)
    client.drop()
    source = kept.bare.connect("source")
    for number in range(5 * HEAD):
        source.publish("t", b"%d" % number, 1)
    session = kept.session("a")
    assert session.queued == 5 * HEAD
    assert session.queue is not None
    assert session.queue.messages - session.queue.tail == HEAD  # type: ignore[attr-defined]
    back = kept.connect("a")
    received: list[int] = []
    while messages := back.messages():
        received += numbers(messages)
        back.acknowledge(*messages)
        if len(received) == 2 * HEAD + 10:
            source.publish("t", b"%d" % (5 * HEAD), 1)
        kept.bare.advance()
    assert received == list(range(len(received)))
    assert len(received) >= 5 * HEAD
    assert (session.queued, session.queue.bytes) == (0, 0)
    kept.commit()
    assert kept.rows("a") == []


def test_a_long_queue_comes_in_order_after_a_crash(kept: Kept) -> None:
    client = kept.connect("a")
    client.subscribe("t", qos=1)
    client.drop()
    source = kept.bare.connect("source")
    for number in range(3 * HEAD):
        source.publish("t", b"%d" % number, 1)
    kept.crash()
    source = kept.bare.connect("source")
    for number in range(3 * HEAD, 3 * HEAD + 20):
        source.publish("t", b"%d" % number, 1)
    session = kept.session("a")
    assert session.queued == 3 * HEAD + 20
    received: list[int] = []
    back = kept.connect("a")
    while messages := back.messages():
        received += numbers(messages)
        back.acknowledge(*messages)
        kept.bare.advance()
    assert received == list(range(3 * HEAD + 20))
    assert session.queue is not None
    assert (session.queued, session.queue.bytes) == (0, 0)


@pytest.mark.parametrize("overflow", [Overflow.DROP_OLDEST, Overflow.DROP_NEWEST])
def test_bounds_hold_for_what_is_on_disk(overflow: Overflow) -> None:
    bound = 2 * HEAD + 50
    kept = Kept(bounded(maximum_queued_messages=bound, overflow=overflow))
    client = kept.connect("a")
    client.subscribe("t", qos=1)
    client.drop()
    source = kept.bare.connect("source")
    count = 5 * HEAD
    for number in range(count):
        source.publish("t", b"%d" % number, 1)
    kept.bare.advance()
    session = kept.session("a")
    assert session.queued == bound
    assert session.dropped == count - bound
    kept.crash()
    assert kept.session("a").queued == bound
    received: list[int] = []
    back = kept.connect("a")
    while messages := back.messages():
        received += numbers(messages)
        back.acknowledge(*messages)
        kept.bare.advance()
    kept_numbers = range(bound) if overflow is Overflow.DROP_NEWEST else range(count - bound, count)
    assert received == list(kept_numbers)
    kept.bare.stop()


def test_priorities_hold_after_a_crash() -> None:
    kept = Kept(bounded(priorities={"high": 9}))
    client = kept.connect("a")
    client.subscribe("#", qos=1)
    client.drop()
    source = kept.bare.connect("source")
    for number in range(2 * HEAD):
        source.publish("high" if number % 2 else "low", b"%d" % number, 1)
    kept.crash()
    back = kept.connect("a")
    received: list[int] = []
    while messages := back.messages():
        received += numbers(messages)
        back.acknowledge(*messages)
        kept.bare.advance()
    assert received == [*range(1, 2 * HEAD, 2), *range(0, 2 * HEAD, 2)]
    kept.bare.stop()


def test_a_session_that_ends_leaves_nothing(kept: Kept) -> None:
    client = kept.connect("a", session_expiry_interval=10)
    client.subscribe("t", qos=1)
    client.drop()
    source = kept.bare.connect("source")
    for number in range(2 * HEAD):
        source.publish("t", b"%d" % number, 1)
    kept.bare.advance(20)
    kept.commit()
    tables = kept.store.tables
    assert not tables.rows
    assert not tables.messages
    assert kept.bare.broker.metrics.dropped["session-ended"] == 2 * HEAD


@pytest.mark.parametrize("crash", [False, True])
def test_a_group_gets_what_an_ended_member_has_on_disk(kept: Kept, crash: bool) -> None:
    for name, expiry in (("a", 100), ("b", 1000)):
        client = kept.connect(name, session_expiry_interval=expiry)
        client.subscribe("$share/g/t", qos=1)
        client.subscribe("own", qos=1)
        client.disconnect()
    source = kept.bare.connect("source")
    for number in range(6 * HEAD):
        source.publish("t", b"%d" % number, 1)
    source.publish("own", b"x", 1)
    assert kept.session("a").queued == 3 * HEAD + 1
    if crash:
        kept.crash()
    kept.bare.advance(101)
    kept.commit()
    assert "a" not in kept.bare.broker.sessions
    assert kept.session("b").queued == 6 * HEAD + 1
    assert kept.bare.broker.metrics.dropped == {"session-ended": 1}
    kept.crash()
    back = kept.connect("b", session_expiry_interval=1000)
    received: list[int] = []
    while messages := back.messages():
        received += numbers([message for message in messages if message.topic == "t"])
        back.acknowledge(*messages)
        kept.bare.advance()
    assert sorted(received) == list(range(6 * HEAD))
    kept.commit()
    assert len(kept.store.tables.sessions) == 1


def test_a_crash_while_an_ended_member_is_handed_over_loses_nothing(kept: Kept) -> None:
    for name, expiry in (("a", 100), ("b", 1000)):
        client = kept.connect(name, session_expiry_interval=expiry)
        client.subscribe("$share/g/t", qos=2)
        client.disconnect()
    source = kept.bare.connect("source")
    for number in range(6 * HEAD):
        source.publish("t", b"%d" % number, 2)
    kept.by_hand()
    kept.bare.advance(101)
    kept.commit()
    kept.commit()
    kept.store.automatic = True
    kept.crash()
    kept.bare.advance()
    assert "a" not in kept.bare.broker.sessions
    assert kept.session("b").queued == 6 * HEAD


def test_a_client_that_leaves_while_its_messages_are_read(kept: Kept) -> None:
    client = kept.connect("a", receive_maximum=1)
    client.subscribe("t", qos=1)
    source = kept.bare.connect("source")
    for number in range(3):
        source.send_publish("t", b"%d" % number, 1)
    kept.tick()
    kept.crash()
    kept.by_hand()
    gone = kept.connect("a")
    kept.store.commit()
    gone.drop()
    kept.commit()
    kept.store.automatic = True
    back = kept.connect("a")
    back.take(Connack)
    assert numbers(back.messages()) == [0, 1, 2]
