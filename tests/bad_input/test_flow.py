"""Bad flow of messages: items 51, 53 to 62."""

from __future__ import annotations

from typing import Any

import pytest

from mqttd.settings import Overflow, RetainedSettings
from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import Puback, Pubcomp, Publish, Pubrec, Pubrel
from mqttd.wire.serializer import serialize
from tests.bad_input.support import calls, growth, unaffected
from tests.broker.harness import BareBroker, settings_with


@pytest.mark.parametrize("alias", [65, 65_535])
def test_51_an_alias_over_the_maximum(bare: BareBroker, alias: int) -> None:
    with unaffected(bare):
        client = bare.connect("c")
        client.publish("t", b"x", topic_alias=alias)
        client.expect_closed(ReasonCode.TOPIC_ALIAS_INVALID)


def test_51_alias_0(bare: BareBroker) -> None:
    client = bare.connect("c")
    client.publish("t", b"x", topic_alias=0)
    client.expect_closed(ReasonCode.TOPIC_ALIAS_INVALID)


def test_51_an_alias_that_was_never_set(bare: BareBroker) -> None:
    client = bare.connect("c", session_expiry_interval=10)
    client.publish("t", b"x", topic_alias=1)
    client.drop()
    # Aliases do not outlive the connection.
    client = bare.connect("c", clean_start=False, session_expiry_interval=10)
    client.publish("", b"x", topic_alias=1)
    assert client.closed
    reason = client.received[-1].reason  # type: ignore[union-attr]
    assert reason in (ReasonCode.TOPIC_ALIAS_INVALID, ReasonCode.PROTOCOL_ERROR)


def test_51_aliases_bound_anew_for_ever(bare: BareBroker) -> None:
    client = bare.connect("c")

    def rebind(count: int) -> None:
        for n in range(count):
            client.publish(f"topic/number/{n}", b"", topic_alias=n % 64 + 1)

    assert growth(lambda: rebind(2_000)) < 100_000
    aliases = client.transport.connection.aliases
    assert aliases is not None
    assert len(aliases) == 64


def test_53_the_same_packet_identifier_for_ever(bare: BareBroker) -> None:
    with unaffected(bare):
        watcher = bare.connect("watcher")
        watcher.subscribe("t", qos=0)
        client = bare.connect("c")
        frame = serialize(Publish("t", b"x", 2, packet_id=7), 5) * 100

        def flood(count: int) -> None:
            for _ in range(count):
                client.transport.feed(frame)
                assert len(client.take(Pubrec, packet_id=7, reason=0)) == 100

        assert growth(lambda: flood(50)) < 50_000
        assert len(watcher.messages()) == 1
        assert bare.session("c").awaiting_release == {7}
        watcher.disconnect()


@pytest.mark.parametrize("version", [4, 5])
def test_54_acknowledgements_of_nothing_raise_no_quota(bare: BareBroker, version: int) -> None:
    fields: dict[str, Any] = {"receive_maximum": 2} if version == 5 else {}
    with unaffected(bare):
        client = bare.connect("c", version, **fields)
        client.subscribe("t", qos=2)
        window = client.transport.connection.window
        for packet_id in range(100, 200):
            client.send(Puback(packet_id), Pubcomp(packet_id), Pubrel(packet_id))
            client.send(Pubrec(packet_id, 0x80 if version == 5 else 0))
        client.received.clear()
        for n in range(window + 10):
            bare.publish("t", b"%d" % n, 2)
        assert len(client.messages()) == window
        assert len(bare.session("c").inflight) == window


@pytest.mark.statement("MQTT-3.3.4-7")
def test_55_more_than_the_receive_maximum(bare: BareBroker) -> None:
    with unaffected(bare):
        client = bare.connect("c")
        client.send(*(Publish("t", b"x", 2, packet_id=n) for n in range(1, 1025)))
        assert not client.closed
        client.send(Publish("t", b"x", 2, packet_id=2000))
        client.received[:-1] = []
        client.expect_closed(ReasonCode.RECEIVE_MAXIMUM_EXCEEDED)


@pytest.mark.parametrize("overflow", list(Overflow))
@pytest.mark.parametrize("reads", [True, False])
def test_56_a_subscriber_that_acknowledges_or_reads_nothing(
    overflow: Overflow, reads: bool
) -> None:
    bare = BareBroker(
        settings_with(
            session={
                "overflow": overflow,
                "maximum_queued_bytes": 100_000,
                "maximum_publisher_pause": 0.5,
            }
        )
    )
    stuck = bare.connect("stuck", session_expiry_interval=100)
    stuck.subscribe("t", qos=1)
    if not reads:
        stuck.stop_reading()
    good = bare.connect("good")
    good.subscribe("t", qos=0)
    publisher = bare.connect("p")

    def publish(count: int) -> None:
        for _ in range(count):
            publisher.send_publish("t", bytes(1000), 1)
            bare.advance(0.01)
            assert len(good.messages()) <= count
            publisher.take(Puback)

    assert growth(lambda: publish(300)) < 100_000
    queue = bare.session("stuck").queue
    assert queue is not None
    assert queue.bytes <= 200_000
    bare.advance(2)
    publisher.send_publish("t", b"last", 0)
    assert good.payloads()[-1] == b"last"
    bare.stop()


def test_57_an_offline_session_is_bounded_in_bytes() -> None:
    bare = BareBroker(settings_with(session={"maximum_queued_bytes": 1_000_000}))
    client = bare.connect("c", session_expiry_interval=0xFFFFFFFF)
    client.subscribe("t", qos=1)
    client.drop()

    def publish(count: int) -> None:
        for _ in range(count):
            bare.broker.publish("t", bytes(50_000), 1)

    assert growth(lambda: publish(100)) < 100_000
    queue = bare.session("c").queue
    assert queue is not None
    assert queue.bytes <= 1_000_000
    assert bare.broker.metrics.dropped["queue-full"] == 200 - len(queue)
    bare.stop()


@pytest.mark.parametrize("qos", [0, 1])
def test_58_many_retained_messages_to_a_slow_client(bare: BareBroker, qos: int) -> None:
    count = 20_000
    for n in range(count):
        bare.broker.publish(f"r/{n % 100}/{n}", b"%d" % n, 1, retain=True)
    with unaffected(bare):
        client = bare.connect("c")
        client.stop_reading()
        client.subscribe("#", qos=qos)
        assert client.transport.written < 1000
        assert bare.session("c").queued == 0
        got = 0
        for _ in range(count):
            client.transport.writable = True
            client.transport.connection.resume_delivery()
            client.transport.writable = False
            messages = client.messages()
            got += len(messages)
            client.acknowledge(*messages)
            if got == count:
                break
        assert got == count
        client.disconnect()


def test_58_one_client_after_another_asks_for_all_and_leaves(bare: BareBroker) -> None:
    for n in range(2_000):
        bare.broker.publish(f"r/{n}", b"x", 1, retain=True)

    def ask(count: int) -> None:
        for _ in range(count):
            client = bare.connect("c")
            client.stop_reading()
            client.subscribe("#", "+/#", "r/+", qos=1)
            client.drop()

    assert growth(lambda: ask(50)) < 20_000


def test_59_retained_messages_with_expiry_that_nobody_reads(bare: BareBroker) -> None:
    def store(count: int) -> None:
        for n in range(count):
            bare.broker.publish(
                f"r/{n}", bytes(100), 0, retain=True, properties={"message_expiry_interval": 5}
            )
        bare.advance(10)

    assert growth(lambda: store(1000)) < 50_000
    assert bare.broker.retained.count == 0
    assert bare.broker.retained.bytes == 0


def test_59_an_empty_payload_clears(bare: BareBroker) -> None:
    client = bare.connect("c")
    client.publish("t", b"x", 1, retain=True)
    client.publish("t", b"", 1, retain=True)
    assert bare.broker.retained.count == 0
    client.subscribe("t")
    client.expect_nothing()


def test_59_retained_messages_are_bounded() -> None:
    bare = BareBroker(settings_with(retained=RetainedSettings(maximum_messages=10)))
    client = bare.connect("c")
    for n in range(100):
        client.publish(f"r/{n}", b"x", 1, retain=True)
    assert bare.broker.retained.count == 10
    assert bare.broker.metrics.dropped == {"retained-count": 90}
    bare.stop()


@pytest.mark.parametrize("payload", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_60_a_payload_that_is_not_the_text_it_says(
    bare: BareBroker, payload: bytes, qos: int
) -> None:
    with unaffected(bare):
        watcher = bare.connect("watcher")
        watcher.subscribe("t")
        client = bare.connect("c")
        client.send_publish("t", payload, qos, payload_format_indicator=1)
        if qos:
            kind = Puback if qos == 1 else Pubrec
            client.expect(kind, reason=ReasonCode.PAYLOAD_FORMAT_INVALID)
        else:
            client.expect_closed(ReasonCode.PAYLOAD_FORMAT_INVALID)
        assert watcher.messages() == []
        watcher.disconnect()


def test_61_expiry_0(bare: BareBroker) -> None:
    here = bare.connect("here")
    here.subscribe("t", qos=1)
    away = bare.connect("away", session_expiry_interval=10)
    away.subscribe("t", qos=1)
    away.drop()
    bare.connect("p").publish("t", b"x", 1, message_expiry_interval=0, retain=True)
    (message,) = here.messages()
    assert message.properties["message_expiry_interval"] == 0
    bare.advance(1)
    away = bare.connect("away", clean_start=False)
    away.expect_nothing()
    away.subscribe("t")
    away.expect_nothing()


def test_61_the_wall_clock_moves_nothing(bare: BareBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    client = bare.connect("c", session_expiry_interval=100)
    client.subscribe("t", qos=1)
    client.drop()
    bare.publish("t", b"x", 1, message_expiry_interval=50)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    bare.advance(10)
    again = bare.connect("c", clean_start=False)
    (message,) = again.messages()
    assert message.properties["message_expiry_interval"] == 40


def test_62_all_packet_identifiers_in_use() -> None:
    bare = BareBroker(
        settings_with(session={"maximum_inflight": 65_535, "maximum_queued_messages": 100_000})
    )
    client = bare.connect("c")
    client.subscribe("t", qos=1)
    for _ in range(65_535 + 50):
        bare.broker.publish("t", b"", 1)
    ids = {message.packet_id for message in client.messages()}
    assert len(ids) == 65_535
    assert bare.session("c").queued == 50
    client.send(*(Puback(n) for n in range(1, 31)))
    assert {message.packet_id for message in client.messages()} == set(range(1, 31))
    bare.stop()


def test_62_a_queue_of_any_length_costs_the_same_per_message(bare: BareBroker) -> None:
    def queued(count: int) -> int:
        client = bare.connect("c", session_expiry_interval=10)
        client.subscribe("t", qos=1)
        client.drop()
        for _ in range(count):
            bare.broker.publish("t", b"x", 1)

        def drain() -> None:
            again = bare.connect("c", clean_start=False)
            while messages := again.messages():
                again.transport.feed(b"".join(serialize(Puback(m.packet_id), 5) for m in messages))
            again.disconnect()

        return calls(drain)

    assert queued(4000) < 6 * queued(1000)
