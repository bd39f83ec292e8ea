"""The recorder: what it has, how it waits, and how its failures read."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from mqttd.broker.message import Message
from mqttd.testing import Recorder, VirtualBroker, recorder
from mqttd.wire.packets import Will


@pytest.fixture
def virtual() -> Iterator[VirtualBroker]:
    broker = VirtualBroker()
    yield broker
    broker.stop()


def test_it_has_what_clients_wills_and_the_broker_publish(virtual: VirtualBroker) -> None:
    recorder = virtual.record()
    client = virtual.connect("x", will=Will("will", b"w"))
    for qos in (0, 1, 2):
        client.publish(f"t/{qos}", b"%d" % qos, qos, content_type="text")
    client.publish("t/0", b"again")
    virtual.publish("broker", b"b", retain=True)
    virtual.broker.publish("$SYS/x", b"")
    client.drop()
    assert [(m.topic, m.payload, m.qos, m.client_id) for m in recorder.messages] == [
        ("t/0", b"0", 0, "x"),
        ("t/1", b"1", 1, "x"),
        ("t/2", b"2", 2, "x"),
        ("t/0", b"again", 0, "x"),
        ("broker", b"b", 0, None),
        ("will", b"w", 0, "x"),
    ]
    assert [m.payload for m in recorder.select("t/+", qos=1)] == [b"1"]
    assert len(recorder.select(content_type="text")) == 3
    assert len(recorder.select("#", b"b", retain=True)) == 1


def test_refused_messages_were_not_published(virtual: VirtualBroker) -> None:
    recorder = virtual.record()
    virtual.connect("x").publish("$SYS/no", qos=1)
    assert recorder.messages == []
    recorder.expect_none()


def test_waiting_moves_the_virtual_clock(virtual: VirtualBroker) -> None:
    recorder = virtual.record()
    virtual.connect("x", keep_alive=10, will=Will("gone", b""))
    found = recorder.wait_for("gone", timeout=60)
    assert found.client_id == "x"
    assert 15 <= virtual.clock.seconds() <= 17


def test_each_message_is_returned_once(virtual: VirtualBroker) -> None:
    recorder = virtual.record()
    for number in range(3):
        virtual.publish("t", b"%d" % number)
    assert recorder.wait_for("t").payload == b"0"
    assert recorder.wait_for("t", where=lambda m: m.payload > b"1").payload == b"2"
    assert recorder.wait_for("t").payload == b"1"
    recorder.expect_none("t")
    recorder.clear()
    assert recorder.messages == []


def test_a_failure_says_what_was_there(virtual: VirtualBroker) -> None:
    recorder = virtual.record()
    with pytest.raises(AssertionError, match="nothing was published at all"):
        recorder.wait_for("a", timeout=1)
    client = virtual.connect("thermostat")
    client.publish("rooms/kitchen", b"20", 1, retain=True)
    client.publish("rooms/hall", bytes(100))
    recorder.wait_for("rooms/hall")

    def is_warm(message: object) -> bool:
        return False

    with pytest.raises(AssertionError) as caught:
        recorder.wait_for("rooms/+", b"21", timeout=1, qos=1, where=is_warm)
    assert str(caught.value).splitlines() == [
        "no message on 'rooms/+' with payload b'21' with qos 1 for which is_warm is true came; "
        "published were:",
        "  1. rooms/kitchen  QoS 1, retained  b'20'  by 'thermostat'",
        f"  2. rooms/hall  QoS 0  {bytes(60)!r}...  by 'thermostat'  (returned before)",
    ]
    with pytest.raises(AssertionError, match="1 messages on 'rooms/kitchen' came, the first is"):
        recorder.expect_none("rooms/kitchen")


def test_a_long_list_is_cut(virtual: VirtualBroker) -> None:
    recorder = virtual.record()
    for number in range(100):
        virtual.publish(f"t/{number}")
    with pytest.raises(AssertionError) as caught:
        recorder.wait_for("other", timeout=0)
    assert "  ... 80 more" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 22


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MAXIMUM_RECORDED", 10)
    kept = Recorder()
    for number in range(100):
        kept.note(Message(f"t/{number}"))
    assert len(kept.messages) <= 10
    assert kept.messages[-1].topic == "t/99"


def test_a_thread_is_woken_by_the_message() -> None:
    recorder = Recorder()
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(recorder.wait_for("t", timeout=30).topic))
    thread.start()
    recorder.note(Message("other"))
    recorder.note(Message("t"))
    thread.join(30)
    assert found == ["t"]
