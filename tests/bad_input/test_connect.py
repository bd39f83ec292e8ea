"""Bad CONNECT packets: items 7, 20 to 23, 31 and 34 of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mqttd.interfaces import PUBLISH
from mqttd.settings import ListenerSettings
from mqttd.wire.codes import ConnectReturnCode, ReasonCode
from mqttd.wire.packets import Connack, Connect, Pingreq, Publish, Will
from mqttd.wire.serializer import serialize
from tests.bad_input.support import growth, unaffected
from tests.broker.doubles import Checker, Rules
from tests.broker.harness import BareBroker, settings_with


@pytest.mark.parametrize("version", [3, 4, 5])
def test_07_a_second_connect_ends_it_and_sends_the_will(bare: BareBroker, version: int) -> None:
    with unaffected(bare):
        watcher = bare.connect("watcher")
        watcher.subscribe("w")
        client = bare.connect("c", version, will=Will("w", b"gone"))
        client.send(Connect("c", version), Connect("d", version))
        client.expect_closed(ReasonCode.PROTOCOL_ERROR)
        assert watcher.payloads() == [b"gone"]
        assert "d" not in bare.broker.sessions


@pytest.mark.parametrize("version", [3, 4])
def test_20_empty_client_id_with_a_session_to_keep(bare: BareBroker, version: int) -> None:
    with unaffected(bare):
        client = bare.connect("", version, clean_start=False)
        assert client.connack is not None
        assert client.connack.reason == ConnectReturnCode.IDENTIFIER_REJECTED
        client.expect_closed()
        assert len(bare.broker.sessions) == 1


def test_20_empty_client_id_in_5_0_is_given_one(bare: BareBroker) -> None:
    ids = set()
    for _ in range(50):
        client = bare.connect("", clean_start=False)
        assert client.connack is not None
        ids.add(client.connack.properties["assigned_client_identifier"])
        assert not client.closed
    assert len(ids) == 50


def test_20_empty_client_ids_may_be_forbidden() -> None:
    bare = BareBroker(settings_with(protocol={"zero_length_client_id": False}))
    for version in (4, 5):
        client = bare.connect("", version)
        assert client.connack is not None
        assert client.connack.reason in (
            ConnectReturnCode.IDENTIFIER_REJECTED,
            ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
        )
        assert client.closed
    bare.stop()


@pytest.mark.parametrize("length", [1025, 65_535])
def test_21_a_client_id_over_the_limit(bare: BareBroker, length: int) -> None:
    with unaffected(bare):
        client = bare.connect("x" * length)
        assert client.connack is not None
        assert client.connack.reason == ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
        client.expect_closed()


@pytest.mark.parametrize("client_id", ["a/b", "+", "#", "$SYS/x", "%c", "%u", "a\r\nb", "\x1b[2J"])
@pytest.mark.parametrize("mount_point", ["", "m/%c/", "%c/"])
def test_21_an_odd_client_id_reaches_nothing_but_its_own(
    bare: BareBroker, client_id: str, mount_point: str
) -> None:
    with unaffected(bare):
        listener = ListenerSettings("x", allow_anonymous=True, mount_point=mount_point)
        watcher = bare.connect("watcher")
        watcher.subscribe("#", "$SYS/#")
        client = bare.connect(client_id, listener=listener)
        assert client.connack is not None
        if client.connack.reason:
            client.expect_closed()
            return
        client.subscribe("#")
        client.publish("t", b"x")
        expected = mount_point.replace("%c", client_id) + "t"
        assert [m.topic for m in watcher.messages()] == [expected]
        bare.publish("other", b"x")
        assert [m.topic for m in client.messages()] == (
            ["t", "other"] if not mount_point else ["t"]
        )
        client.disconnect()
        watcher.disconnect()


@pytest.mark.parametrize("client_id", [b"a\x00b", b"\xed\xa0\x80", b"\xff"])
def test_21_22_no_utf_8_where_it_must_be(bare: BareBroker, client_id: bytes) -> None:
    whole = serialize(Connect("ABC", 5, user_name="DEF"), 5)
    with unaffected(bare):
        for wanted in (b"ABC", b"DEF"):
            client = bare.open()
            client.send_bytes(whole.replace(wanted, client_id[:3].ljust(3, b"x")))
            client.expect(Connack, reason=ReasonCode.MALFORMED_PACKET)
            client.expect_closed()


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("topic", ["", "a/+", "#", "$SYS/x", "$CONTROL/dynamic", "$share/g/x"])
def test_23_a_will_that_no_client_may_publish(bare: BareBroker, topic: str, version: int) -> None:
    with unaffected(bare):
        watcher = bare.connect("watcher")
        watcher.subscribe("#", "$SYS/#", "$CONTROL/#")
        client = bare.open(version)
        client.send(Connect("c", version, will=Will(topic, b"x")))
        assert client.closed
        client.drop()
        assert watcher.messages() == []
        assert "c" not in bare.broker.sessions
        watcher.disconnect()


def test_23_a_will_denied_by_the_rules() -> None:
    bare = BareBroker(authorizer=Rules((PUBLISH, "secret")).only(PUBLISH))
    client = bare.connect("c", will=Will("secret", b"x"))
    assert client.connack is not None
    assert client.connack.reason == ReasonCode.NOT_AUTHORIZED
    client.expect_closed()
    bare.stop()


@pytest.mark.parametrize("keep_alive", [0, 65_535])
def test_31_keep_alive_may_be_bounded(keep_alive: int) -> None:
    bare = BareBroker(settings_with(protocol={"maximum_keep_alive": 300}))
    five = bare.connect("five", keep_alive=keep_alive)
    assert five.connack is not None
    assert five.connack.properties["server_keep_alive"] == 300
    assert five.transport.keep_alive == 450
    four = bare.connect("four", 4, keep_alive=keep_alive)
    assert four.connack is not None
    assert four.connack.reason == ConnectReturnCode.IDENTIFIER_REJECTED
    assert four.closed
    bare.stop()


def test_31_a_session_for_ever_may_be_bounded() -> None:
    bare = BareBroker(settings_with(protocol={"maximum_session_expiry": 60}))
    client = bare.connect("c", session_expiry_interval=0xFFFFFFFF)
    assert client.connack is not None
    assert client.connack.properties["session_expiry_interval"] == 60
    client.drop()
    bare.advance(62)
    assert "c" not in bare.broker.sessions
    bare.stop()


@pytest.fixture
def guarded() -> Iterator[BareBroker]:
    bare = BareBroker(checkers=[Checker()])
    yield bare
    bare.stop()


def test_33_34_a_flood_of_wrong_passwords_leaves_nothing(guarded: BareBroker) -> None:
    def flood(count: int) -> None:
        for n in range(count):
            client = guarded.connect(f"c{n}", user_name="alice", password=b"wrong")
            assert client.closed

    assert growth(lambda: flood(500)) < 200_000
    assert guarded.broker.connections == {}
    assert len(guarded.broker.sessions) == 0
    assert guarded.broker.metrics.refused["authentication"] == 1000


def test_34_connects_that_read_nothing_are_closed_after_one_answer(guarded: BareBroker) -> None:
    for n in range(100):
        client = guarded.open()
        client.stop_reading()
        client.send(Connect(f"c{n}", 5), *[Pingreq()] * 1000, Publish("t", bytes(1000)))
        assert client.closed
        assert client.transport.written < 200
