"""What a session keeps, sends and drops for its client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mqttd.settings import Overflow
from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import Disconnect, Puback, Pubcomp, Publish, Pubrec, Pubrel, Will
from tests.broker.harness import BareBroker, BareClient, settings_with

Make = Callable[..., BareBroker]


@pytest.fixture
def make() -> Any:
    """Brokers with these session settings, ended with the test."""
    made: list[BareBroker] = []

    def make_one(**session: Any) -> BareBroker:
        made.append(BareBroker(settings_with(session=session)))
        return made[-1]

    yield make_one
    for bare in made:
        bare.stop()


def stuck(bare: BareBroker, *topic_filters: str, qos: int = 1, **fields: Any) -> BareClient:
    """A subscriber that has stopped reading."""
    client = bare.connect("stuck", **fields)
    client.subscribe(*(topic_filters or ("t",)), qos=qos)
    client.stop_reading()
    return client


def numbered(first: int, stop: int) -> list[bytes]:
    return [b"%d" % n for n in range(first, stop)]


def send_numbered(publisher: BareClient, first: int, stop: int, qos: int = 0) -> None:
    for payload in numbered(first, stop):
        publisher.publish("t", payload, qos)


# --- order ----------------------------------------------------------------------


@pytest.mark.statement("MQTT-4.6.0-6", "MQTT311-4.6.0-6")
@pytest.mark.parametrize("version", [3, 4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_come_in_order_through_a_full_output(make: Make, version: int, qos: int) -> None:
    bare = make(maximum_inflight=3)
    client = bare.connect("c", version)
    client.subscribe("t", qos=qos)
    publisher = bare.connect("p")
    send_numbered(publisher, 0, 5, qos)
    client.stop_reading()
    send_numbered(publisher, 5, 300, qos)
    client.start_reading()
    got: list[bytes] = []
    while messages := client.messages():
        got += [message.payload for message in messages]
        client.acknowledge(*messages)
    assert got == numbered(0, 300)


def test_a_flood_from_the_queue_gives_others_their_turn(make: Make) -> None:
    bare = make()
    client = stuck(bare, qos=0)
    send_numbered(bare.connect("p"), 0, 1000)
    client.transport.writable = True
    client.transport.connection.resume_delivery()
    assert 0 < len(client.payloads()) < 1000
    bare.advance()
    bare.advance()
    bare.advance()
    bare.advance()
    assert bare.session("stuck").queued == 0


def test_qos_0_passes_a_full_window_but_never_an_older_qos_0(make: Make) -> None:
    bare = make(maximum_inflight=1)
    client = bare.connect("c")
    client.subscribe("t", qos=1)
    publisher = bare.connect("p")
    publisher.publish("t", b"a", 1)
    publisher.publish("t", b"b", 1)
    publisher.publish("t", b"c", 0)
    assert client.payloads() == [b"a", b"c"]
    client.stop_reading()
    publisher.publish("t", b"d", 0)
    client.start_reading()
    publisher.publish("t", b"e", 0)
    client.send(Puback(1))
    assert client.payloads() == [b"b", b"d", b"e"] or bare.session("c").queued


@pytest.mark.parametrize("qos", [1, 2])
def test_bytes_on_their_way_are_bounded(make: Make, qos: int) -> None:
    bare = make(maximum_inflight=100, maximum_inflight_bytes=1000)
    client = bare.connect("c", clean_start=False, session_expiry_interval=100)
    client.subscribe("t", qos=2)
    for n in range(20):
        bare.publish("t", b"%04d" % n * 100, qos)
    # One of 401 bytes, two: the third is begun below the bound.
    first = client.messages()
    assert len(first) == 3
    for n, message in enumerate(first):
        assert message.packet_id
        if qos == 1:
            client.send(Puback(message.packet_id))
        else:
            client.send(Pubrec(message.packet_id))
            client.expect(Pubrel)
            client.send(Pubcomp(message.packet_id))
        assert len(client.messages()) == 1, n
    client.drop()
    again = bare.connect("c", clean_start=False, session_expiry_interval=100)
    assert [m.payload[:4] for m in again.messages()] == [b"0003", b"0004", b"0005"]


def test_one_message_larger_than_the_bytes_allowed_goes_alone(make: Make) -> None:
    bare = make(maximum_inflight_bytes=10)
    client = bare.connect("c")
    client.subscribe("t", qos=1)
    for n in range(3):
        bare.publish("t", b"%04d" % n * 100, 1)
    for _ in range(3):
        (message,) = client.messages()
        assert message.packet_id
        client.send(Puback(message.packet_id))


# --- overflow ---------------------------------------------------------------------


def test_drop_oldest_keeps_the_newest(make: Make) -> None:
    bare = make(maximum_queued_messages=10, overflow=Overflow.DROP_OLDEST)
    client = stuck(bare)
    send_numbered(bare.connect("p"), 0, 25)
    assert bare.broker.metrics.dropped == {"queue-full": 15}
    client.start_reading()
    assert client.payloads() == numbered(15, 25)


def test_drop_newest_keeps_the_oldest(make: Make) -> None:
    bare = make(maximum_queued_messages=10, overflow=Overflow.DROP_NEWEST)
    client = stuck(bare)
    send_numbered(bare.connect("p"), 0, 25)
    assert bare.broker.metrics.dropped == {"queue-full": 15}
    assert bare.session("stuck").dropped == 15
    client.start_reading()
    assert client.payloads() == numbered(0, 10)


def test_disconnect_ends_the_connection_that_is_too_slow(make: Make) -> None:
    bare = make(maximum_queued_messages=10, overflow=Overflow.DISCONNECT)
    client = stuck(bare, session_expiry_interval=100)
    publisher = bare.connect("p")
    send_numbered(publisher, 0, 11, 1)
    client.expect_closed(ReasonCode.QUOTA_EXCEEDED)
    assert not publisher.closed
    assert bare.session("stuck").queued == 10
    send_numbered(publisher, 11, 20, 1)
    assert bare.session("stuck").queued == 10
    again = bare.connect("stuck", clean_start=False, session_expiry_interval=100)
    assert again.payloads() == numbered(0, 10)


@pytest.mark.parametrize("overflow", list(Overflow))
def test_the_queue_is_bounded_in_bytes_under_every_policy(make: Make, overflow: Overflow) -> None:
    bare = make(maximum_queued_bytes=10_000, overflow=overflow, maximum_publisher_pause=1)
    stuck(bare, session_expiry_interval=1000)
    publisher = bare.connect("p")
    for _ in range(100):
        publisher.send_publish("t", bytes(900), 1)
    queue = bare.session("stuck").queue
    assert queue is not None
    assert queue.bytes <= 20_000
    bare.advance(60)
    assert queue.bytes <= 20_000


def test_a_message_that_can_never_fit_pushes_nothing_out(make: Make) -> None:
    bare = make(maximum_queued_bytes=5_000, overflow=Overflow.DROP_OLDEST)
    client = stuck(bare)
    publisher = bare.connect("p")
    send_numbered(publisher, 0, 5)
    publisher.publish("t", bytes(6_000))
    client.start_reading()
    assert client.payloads() == numbered(0, 5)


def test_an_offline_client_has_the_same_bound(make: Make) -> None:
    bare = make(maximum_queued_messages=10, overflow=Overflow.DROP_OLDEST)
    client = bare.connect("c", session_expiry_interval=100)
    client.subscribe("t", qos=1)
    client.drop()
    send_numbered(bare.connect("p"), 0, 25, 1)
    again = bare.connect("c", clean_start=False)
    assert again.payloads() == numbered(15, 25)


def test_qos_0_is_not_kept_for_a_client_that_is_away(make: Make) -> None:
    bare = make()
    client = bare.connect("c", session_expiry_interval=100)
    client.subscribe("t", qos=1)
    client.stop_reading()
    publisher = bare.connect("p")
    publisher.publish("t", b"queued 0", 0)
    publisher.publish("t", b"queued 1", 1)
    client.drop()
    publisher.publish("t", b"away 0", 0)
    publisher.publish("t", b"away 1", 1)
    assert bare.broker.metrics.dropped == {"offline": 2}
    again = bare.connect("c", clean_start=False)
    assert again.payloads() == [b"queued 1", b"away 1"]


def test_qos_0_is_kept_where_the_settings_say_so(make: Make) -> None:
    bare = make(queue_qos0=True)
    client = bare.connect("c", session_expiry_interval=100)
    client.subscribe("t", qos=1)
    client.stop_reading()
    publisher = bare.connect("p")
    publisher.publish("t", b"queued 0", 0)
    client.drop()
    publisher.publish("t", b"away 0", 0)
    publisher.publish("t", b"away 1", 1)
    again = bare.connect("c", clean_start=False)
    assert again.payloads() == [b"queued 0", b"away 0", b"away 1"]


def test_priorities_go_first(make: Make) -> None:
    bare = make(priorities={"alarm/#": 10}, maximum_queued_messages=4)
    client = stuck(bare, "#")
    publisher = bare.connect("p")
    for topic in ("x", "y", "alarm/1", "z", "alarm/2"):
        publisher.publish(topic, topic.encode())
    client.start_reading()
    assert client.payloads() == [b"alarm/1", b"alarm/2", b"y", b"z"]


# --- pause-publishers ------------------------------------------------------------


PAUSING = {"overflow": Overflow.PAUSE_PUBLISHERS, "maximum_queued_messages": 10}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_paused_publishers_lose_nothing(make: Make, qos: int) -> None:
    bare = make(**PAUSING)
    client = stuck(bare, qos=qos)
    publisher = bare.connect("p")
    publisher.send(*(Publish("t", b"%d" % n, qos, packet_id=n + 1) for n in range(100)))
    assert publisher.transport.paused
    assert bare.session("stuck").queued <= 20
    got: list[bytes] = []
    for _ in range(100):
        client.start_reading()
        messages = client.messages()
        got += [message.payload for message in messages]
        client.stop_reading()
        client.acknowledge(*messages)
    assert got == numbered(0, 100)
    assert not publisher.transport.paused
    assert bare.broker.metrics.dropped == {}


def test_a_publisher_is_paused_no_longer_than_the_settings_say(make: Make) -> None:
    bare = make(maximum_publisher_pause=10, **PAUSING)
    client = stuck(bare)
    publisher = bare.connect("p")
    publisher.send(*(Publish("t", b"%d" % n) for n in range(50)))
    bare.advance(9)
    assert publisher.transport.paused
    bare.advance(2)
    assert not publisher.transport.paused
    queued = bare.session("stuck").queued
    assert queued <= 20
    assert bare.broker.metrics.dropped == {"queue-full": 50 - queued}
    # It does not pause again before the queue has drained ...
    publisher.send(Publish("t", b"more"))
    assert not publisher.transport.paused
    client.start_reading()
    client.payloads()
    client.stop_reading()
    # ... and does once it has.
    publisher.send(*(Publish("t", b"%d" % n) for n in range(50)))
    assert publisher.transport.paused


def test_each_pause_has_its_full_time(make: Make) -> None:
    """An earlier pause that ended well must not cut a later one short."""
    bare = make(maximum_publisher_pause=10, **PAUSING)
    client = stuck(bare)
    publisher = bare.connect("p")
    publisher.send(*(Publish("t", b"%d" % n) for n in range(10)))
    assert publisher.transport.paused
    bare.advance(5)
    client.start_reading()
    assert not publisher.transport.paused
    client.stop_reading()
    bare.advance(3)
    publisher.send(*(Publish("t", b"%d" % n) for n in range(10, 20)))
    assert publisher.transport.paused
    bare.advance(4)
    assert publisher.transport.paused
    client.start_reading()
    assert client.payloads() == numbered(0, 20)


def test_a_client_never_waits_for_itself(make: Make) -> None:
    bare = make(maximum_inflight=1, **PAUSING)
    client = bare.connect("c")
    client.subscribe("t", qos=1)
    client.send(*(Publish("t", b"%d" % n, 1, packet_id=n + 1) for n in range(50)))
    assert not client.transport.paused
    assert len(client.take(Puback)) == 50
    assert bare.broker.metrics.dropped["queue-full"] == 50 - 1 - 10


def test_nobody_waits_for_a_client_that_is_away(make: Make) -> None:
    bare = make(**PAUSING)
    client = bare.connect("c", session_expiry_interval=100)
    client.subscribe("t", qos=1)
    client.drop()
    publisher = bare.connect("p")
    send_numbered(publisher, 0, 30, 1)
    assert not publisher.transport.paused
    assert bare.broker.metrics.dropped == {"queue-full": 20}


@pytest.mark.parametrize("leave", ["drop", "disconnect", "take over"])
def test_publishers_go_on_when_the_slow_client_leaves(make: Make, leave: str) -> None:
    bare = make(**PAUSING)
    client = stuck(bare, session_expiry_interval=100)
    publisher = bare.connect("p")
    publisher.send(*(Publish("t", b"%d" % n) for n in range(50)))
    assert publisher.transport.paused
    if leave == "drop":
        client.drop()
    elif leave == "disconnect":
        client.disconnect()
    else:
        bare.connect("stuck", clean_start=False)
    assert not publisher.transport.paused


def test_a_publisher_waits_for_every_slow_client(make: Make) -> None:
    bare = make(**PAUSING)
    one = stuck(bare)
    two = bare.connect("two")
    two.subscribe("t")
    two.stop_reading()
    publisher = bare.connect("p")
    publisher.send(*(Publish("t", b"%d" % n) for n in range(50)))
    one.start_reading()
    assert publisher.transport.paused
    two.start_reading()
    for _ in range(10):
        one.start_reading()
        two.start_reading()
    assert not publisher.transport.paused
    assert one.payloads() == two.payloads() == numbered(0, 50)


def test_publishers_go_on_when_what_waited_has_expired(make: Make) -> None:
    bare = make(maximum_publisher_pause=100, **PAUSING)
    client = stuck(bare)
    publisher = bare.connect("p")
    publisher.send(
        *(Publish("t", b"x", properties={"message_expiry_interval": 5}) for _ in range(10))
    )
    assert publisher.transport.paused
    bare.advance(6)
    client.start_reading()
    assert client.payloads() == []
    assert not publisher.transport.paused


def test_a_publisher_that_left_while_paused_is_forgotten(make: Make) -> None:
    bare = make(**PAUSING)
    client = stuck(bare)
    publisher = bare.connect("p")
    publisher.send(*(Publish("t", b"%d" % n) for n in range(50)))
    publisher.drop()
    client.start_reading()
    assert client.payloads() == numbered(0, 10)


def test_a_will_fired_while_routing_leaves_the_publisher_to_be_paused(make: Make) -> None:
    """The nested publish must not make the broker forget who is publishing."""
    bare = make(overflow=Overflow.PAUSE_PUBLISHERS, maximum_queued_messages=2)
    strict = BareBroker(
        settings_with(session={"overflow": Overflow.DISCONNECT, "maximum_queued_messages": 1})
    ).listener
    victim = bare.connect("a", will=Will("w", b"gone"), listener=strict)
    victim.subscribe("t")
    victim.stop_reading()
    slow = bare.connect("b")
    slow.subscribe("t")
    slow.stop_reading()
    publisher = bare.connect("p")
    publisher.send_publish("t", b"0")
    assert not publisher.transport.paused
    publisher.send_publish("t", b"1")
    assert victim.closed
    assert publisher.transport.paused


# --- packet identifiers and the window -------------------------------------------


@pytest.mark.statement("MQTT-3.3.4-9")
def test_no_more_is_sent_than_the_client_receives_at_a_time(bare: BareBroker) -> None:
    client = bare.connect("c", receive_maximum=3)
    client.subscribe("t", qos=2)
    publisher = bare.connect("p")
    send_numbered(publisher, 0, 10, 2)
    messages = client.messages()
    assert len(messages) == 3
    client.send(Pubrec(messages[0].packet_id))
    assert client.messages() == []
    client.send(Pubcomp(messages[0].packet_id))
    assert len(client.messages()) == 1
    client.send(Pubrec(messages[1].packet_id, ReasonCode.UNSPECIFIED_ERROR))
    assert len(client.messages()) == 1


@pytest.mark.statement("MQTT-3.3.4-9")
def test_a_smaller_window_after_a_reconnection_holds_for_what_is_resent(bare: BareBroker) -> None:
    client = bare.connect("c", session_expiry_interval=100)
    client.subscribe("t", qos=1)
    send_numbered(bare.connect("p"), 0, 8, 1)
    client.drop()
    again = bare.connect("c", clean_start=False, session_expiry_interval=100, receive_maximum=2)
    got: list[bytes] = []
    while messages := again.messages():
        assert len(messages) <= 2
        got += [message.payload for message in messages]
        again.acknowledge(*messages)
    assert got == numbered(0, 8)


@pytest.mark.statement("MQTT-4.4.0-1", "MQTT-3.3.1-1", "MQTT311-4.4.0-1", "MQTT311-3.3.1-1")
@pytest.mark.parametrize("version", [4, 5])
def test_what_was_not_acknowledged_is_resent_first_in_order_with_dup(
    bare: BareBroker, version: int
) -> None:
    fields: dict[str, Any] = {"session_expiry_interval": 100} if version == 5 else {}
    client = bare.connect("c", version, clean_start=False, **fields)
    client.subscribe("t", qos=2)
    publisher = bare.connect("p")
    send_numbered(publisher, 0, 6, 1)
    first = client.messages()
    client.send(Puback(first[1].packet_id), Puback(first[4].packet_id))
    client.drop()
    send_numbered(publisher, 6, 9, 1)
    again = bare.connect("c", version, clean_start=False, **fields)
    messages = again.messages()
    assert [m.payload for m in messages] == [b"0", b"2", b"3", b"5", b"6", b"7", b"8"]
    assert [m.dup for m in messages] == [True] * 4 + [False] * 3
    assert [m.packet_id for m in messages[:4]] == [first[n].packet_id for n in (0, 2, 3, 5)]


def test_a_live_message_waits_behind_what_is_resent_to_a_full_output(bare: BareBroker) -> None:
    client = bare.connect("c", session_expiry_interval=100)
    client.subscribe("t", qos=1)
    publisher = bare.connect("p")
    send_numbered(publisher, 0, 3, 1)
    client.drop()
    again = bare.open()
    again.transport.writable = False
    again.connect("c", clean_start=False, session_expiry_interval=100)
    publisher.publish("t", b"3", 1)
    publisher.publish("t", b"4", 0)
    assert again.payloads() == []
    again.start_reading()
    assert again.payloads() == numbered(0, 5)


def test_what_is_acknowledged_before_it_is_resent_is_not_resent(bare: BareBroker) -> None:
    client = bare.connect("c", session_expiry_interval=100)
    client.subscribe("t", qos=1)
    publisher = bare.connect("p")
    send_numbered(publisher, 0, 3, 1)
    ids = [m.packet_id for m in client.messages()]
    client.drop()
    again = bare.open()
    again.transport.writable = False
    again.connect("c", clean_start=False, session_expiry_interval=100)
    again.send(Puback(ids[1]))
    publisher.publish("t", b"3", 1)
    again.start_reading()
    assert again.payloads() == [b"0", b"2", b"3"]


@pytest.mark.statement("MQTT-2.2.1-4", "MQTT311-2.3.1-2")
def test_a_packet_identifier_in_use_is_never_taken(make: Make) -> None:
    bare = make(maximum_inflight=65_535, maximum_queued_messages=100)
    client = bare.connect("c")
    client.subscribe("t", qos=1)
    for n in range(65_540):
        bare.broker.publish("t", b"%d" % n, 1)
    messages = client.messages()
    assert len({m.packet_id for m in messages}) == len(messages) == 65_535
    assert bare.session("c").queued == 5
    client.send(Puback(777))
    (message,) = client.messages()
    assert (message.packet_id, message.payload) == (777, b"65535")
    client.send(Puback(65_535), Puback(1))
    assert {m.packet_id for m in client.messages()} == {1, 65_535}


def test_ids_go_round_past_those_in_use(bare: BareBroker) -> None:
    client = bare.connect("c")
    client.subscribe("t", qos=1)
    bare.publish("t", b"held", 1)
    (held,) = client.messages()
    seen = []
    for _ in range(65_540):
        bare.broker.publish("t", b"x", 1)
        (message,) = client.messages()
        seen.append(message.packet_id)
        client.transport.feed(b"\x40\x02" + message.packet_id.to_bytes(2, "big"))
    assert held.packet_id not in seen
    assert set(seen) == set(range(1, 65_536)) - {held.packet_id}


# --- QoS 2 to the client ----------------------------------------------------------


@pytest.mark.statement("MQTT-4.3.3-4", "MQTT-4.3.3-5", "MQTT311-4.3.3-1")
@pytest.mark.parametrize("version", [4, 5])
def test_qos_2_to_the_client_across_reconnections(bare: BareBroker, version: int) -> None:
    fields: dict[str, Any] = {"session_expiry_interval": 100} if version == 5 else {}

    def connect() -> BareClient:
        return bare.connect("c", version, clean_start=False, **fields)

    client = connect()
    client.subscribe("t", qos=2)
    bare.publish("t", b"x", 2)
    message = client.expect(Publish, qos=2, dup=False)
    client.drop()
    client = connect()
    client.expect(Publish, dup=True, packet_id=message.packet_id, payload=b"x")
    client.send(Pubrec(message.packet_id))
    client.expect(Pubrel, packet_id=message.packet_id)
    client.drop()
    client = connect()
    client.expect(Pubrel, packet_id=message.packet_id)
    client.drop()
    client = connect()
    client.expect(Pubrel, packet_id=message.packet_id)
    client.send(Pubcomp(message.packet_id))
    client.drop()
    client = connect()
    client.expect_nothing()
    assert bare.session("c").inflight == {}


def test_pubcomp_before_pubrec_does_not_end_a_message(bare: BareBroker) -> None:
    client = bare.connect("c", session_expiry_interval=10)
    client.subscribe("t", qos=2)
    bare.publish("t", b"x", 2)
    message = client.expect(Publish)
    client.send(Pubcomp(message.packet_id))
    client.expect_closed(ReasonCode.PROTOCOL_ERROR)
    assert message.packet_id in bare.session("c").inflight
    assert bare.broker.metrics.packets_missed[7] == 1


@pytest.mark.parametrize(("qos", "answer"), [(2, Puback), (1, Pubrec), (1, Pubcomp)])
def test_puback_does_not_end_qos_2_nor_pubrec_qos_1(
    bare: BareBroker, qos: int, answer: type[Puback] | type[Pubrec] | type[Pubcomp]
) -> None:
    client = bare.connect("c", session_expiry_interval=10)
    client.subscribe("t", qos=qos)
    bare.publish("t", b"x", qos)
    message = client.expect(Publish, qos=qos)
    client.send(answer(message.packet_id))
    client.expect_closed(ReasonCode.PROTOCOL_ERROR)
    assert message.packet_id in bare.session("c").inflight


# --- expiry -----------------------------------------------------------------------


@pytest.mark.statement("MQTT-3.3.2-5", "MQTT-3.3.2-6")
def test_expiry_counts_down_in_the_queue_and_then_drops(bare: BareBroker) -> None:
    client = bare.connect("c", session_expiry_interval=1000)
    client.subscribe("t", qos=1)
    client.drop()
    bare.publish("t", b"short", 1, message_expiry_interval=10)
    bare.publish("t", b"long", 1, message_expiry_interval=100)
    bare.publish("t", b"never", 1)
    bare.advance(30)
    again = bare.connect("c", clean_start=False)
    long, never = again.messages()
    assert (long.payload, long.properties["message_expiry_interval"]) == (b"long", 70)
    assert (never.payload, never.properties) == (b"never", {})
    assert bare.broker.metrics.dropped == {"expired": 1}


# --- retained messages to a slow client ---------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_retained_messages_to_a_slow_client_all_arrive(bare: BareBroker, qos: int) -> None:
    for n in range(1000):
        bare.broker.publish(f"r/{n}", b"%d" % n, 1, retain=True)
    client = bare.connect("c", receive_maximum=5)
    client.stop_reading()
    client.subscribe("r/+", qos=qos)
    got: set[bytes] = set()
    for _ in range(2000):
        client.start_reading()
        messages = client.messages()
        if not messages:
            break
        client.stop_reading()
        got.update(message.payload for message in messages)
        client.acknowledge(*messages)
    assert got == set(numbered(0, 1000))
    assert bare.broker.metrics.dropped == {}
    assert bare.session("c").queued == 0


def test_two_replays_at_a_time_come_whole(bare: BareBroker) -> None:
    for n in range(50):
        bare.broker.publish(f"a/{n}", b"a", 1, retain=True)
        bare.broker.publish(f"b/{n}", b"b", 1, retain=True)
    client = bare.connect("c", receive_maximum=2)
    client.subscribe("a/#", "b/#", qos=1)
    got: list[bytes] = []
    while messages := client.messages():
        got += [message.payload for message in messages]
        client.acknowledge(*messages)
    assert sorted(got) == [b"a"] * 50 + [b"b"] * 50


def test_live_messages_go_on_while_retained_ones_wait(bare: BareBroker) -> None:
    for n in range(50):
        bare.broker.publish(f"r/{n}", b"retained", 1, retain=True)
    client = bare.connect("c", receive_maximum=2)
    client.subscribe("r/#", "live", qos=1)
    bare.publish("live", b"live", 1)
    got: list[bytes] = []
    while messages := client.messages():
        got += [message.payload for message in messages]
        client.acknowledge(*messages)
    assert sorted(got) == [b"live"] + [b"retained"] * 50


# --- retry ------------------------------------------------------------------------


@pytest.mark.parametrize("version", [3, 4])
def test_retry_sends_again_below_5(make: Make, version: int) -> None:
    bare = make(retry_interval=5)
    client = bare.connect("c", version)
    client.subscribe("t", qos=2)
    bare.publish("t", b"one", 1)
    bare.publish("t", b"two", 2)
    one, two = client.messages()
    client.send(Pubrec(two.packet_id))
    client.expect(Pubrel)
    bare.advance(4)
    client.expect_nothing()
    bare.advance(3)
    assert len(client.take(Publish, dup=True, packet_id=one.packet_id)) == 1
    assert len(client.take(Pubrel, packet_id=two.packet_id)) == 1
    client.expect_nothing()
    client.send(Puback(one.packet_id), Pubcomp(two.packet_id))
    bare.advance(20)
    client.expect_nothing()
    client.drop()
    assert bare.broker.retrying == set()


@pytest.mark.statement("MQTT-4.4.0-1")
def test_nothing_is_sent_again_on_a_5_0_connection(make: Make) -> None:
    bare = make(retry_interval=5)
    client = bare.connect("c", 5)
    client.subscribe("t", qos=1)
    bare.publish("t", b"one", 1)
    client.expect(Publish)
    bare.advance(60)
    client.expect_nothing()


# --- what is too large --------------------------------------------------------------


@pytest.mark.statement("MQTT-3.1.2-24", "MQTT-3.1.2-25")
def test_a_message_over_the_maximum_packet_size_counts_as_sent(bare: BareBroker) -> None:
    client = bare.connect("c", maximum_packet_size=100, session_expiry_interval=10)
    client.subscribe("t", qos=2)
    for qos in (0, 1, 2):
        bare.publish("t", bytes(200), qos)
        bare.publish("t", b"fits", qos)
    assert client.payloads() == [b"fits"] * 3
    assert len(bare.session("c").inflight) == 2
    assert bare.broker.metrics.dropped == {"too-large": 3}


def test_a_resent_message_may_be_too_large_for_the_new_connection(bare: BareBroker) -> None:
    client = bare.connect("c", session_expiry_interval=10)
    client.subscribe("t", qos=1)
    bare.publish("t", bytes(200), 1)
    bare.publish("t", b"fits", 1)
    client.drop()
    again = bare.connect("c", clean_start=False, maximum_packet_size=100)
    assert again.payloads() == [b"fits"]
    assert len(bare.session("c").inflight) == 1


# --- the end ------------------------------------------------------------------------


def test_what_an_ended_session_had_is_counted(bare: BareBroker) -> None:
    client = bare.connect("c", session_expiry_interval=10, receive_maximum=1)
    client.subscribe("t", qos=1)
    for _ in range(3):
        bare.publish("t", b"x", 1)
    client.drop()
    bare.advance(12)
    assert "c" not in bare.broker.sessions
    assert bare.broker.metrics.dropped == {"session-ended": 3}


def test_a_client_gets_no_publish_after_its_disconnect(bare: BareBroker) -> None:
    """Its own will must not follow the DISCONNECT that the broker sent."""
    client = bare.connect("c", will=Will("w", b"bye", 1), session_expiry_interval=100)
    client.subscribe("w", qos=1)
    bare.connect("c", clean_start=False, session_expiry_interval=100)
    client.expect(Disconnect, reason=ReasonCode.SESSION_TAKEN_OVER)
    client.expect_nothing()
