"""How long sessions live, and who owns them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mqttd.settings import ListenerSettings
from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import Disconnect, Properties, Puback, Pubrec
from tests.broker.harness import BareBroker, settings_with

Make = Callable[..., BareBroker]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[BareBroker] = []

    def make_one(**settings: Any) -> BareBroker:
        made.append(BareBroker(settings_with(**settings)))
        return made[-1]

    yield make_one
    for bare in made:
        bare.stop()


@pytest.mark.statement("MQTT-3.1.2-23", "MQTT-4.1.0-2")
def test_a_session_lives_as_long_as_asked(bare: BareBroker) -> None:
    bare.connect("c", session_expiry_interval=10).drop()
    bare.advance(9)
    assert "c" in bare.broker.sessions
    bare.advance(2)
    assert "c" not in bare.broker.sessions
    assert bare.broker.sessions.offline == 0


def test_a_session_that_was_resumed_is_not_ended_by_the_old_deadline(bare: BareBroker) -> None:
    bare.connect("c", session_expiry_interval=10).drop()
    bare.advance(5)
    client = bare.connect("c", clean_start=False, session_expiry_interval=10)
    bare.advance(100)
    assert not client.closed
    client.drop()
    bare.advance(9)
    assert "c" in bare.broker.sessions
    bare.advance(2)
    assert "c" not in bare.broker.sessions


def test_a_session_for_ever(bare: BareBroker) -> None:
    bare.connect("c", session_expiry_interval=0xFFFFFFFF).drop()
    bare.connect("d", 4, clean_start=False).drop()
    bare.advance(10_000)
    assert {"c", "d"} <= {session.client_id for session in bare.broker.sessions}


def test_without_expiry_the_session_ends_with_its_connection(bare: BareBroker) -> None:
    client = bare.connect("c")
    client.subscribe("a", "b/#", "$share/g/c")
    client.drop()
    assert "c" not in bare.broker.sessions
    assert len(bare.broker.router) == 0
    assert bare.broker.sessions.offline == 0


@pytest.mark.parametrize(("asked", "lives"), [(0, 0), (50, 50)])
def test_disconnect_changes_the_expiry(bare: BareBroker, asked: int, lives: int) -> None:
    client = bare.connect("c", session_expiry_interval=10)
    client.send(Disconnect(0, Properties(session_expiry_interval=asked)))
    bare.advance(max(0, lives - 1))
    assert ("c" in bare.broker.sessions) is bool(lives)
    bare.advance(3)
    assert "c" not in bare.broker.sessions


def test_a_session_of_nothing_can_not_be_prolonged(bare: BareBroker) -> None:
    client = bare.connect("c")
    client.send(Disconnect(0, Properties(session_expiry_interval=10)))
    client.expect_closed(ReasonCode.PROTOCOL_ERROR)
    assert "c" not in bare.broker.sessions


@pytest.mark.statement("MQTT-3.1.4-3", "MQTT311-3.1.4-2")
@pytest.mark.parametrize("version", [3, 4, 5])
@pytest.mark.parametrize("taker", [3, 4, 5])
def test_a_client_id_has_one_connection(bare: BareBroker, version: int, taker: int) -> None:
    one = bare.connect("c", version)
    two = bare.connect("c", taker)
    one.expect_closed(ReasonCode.SESSION_TAKEN_OVER)
    assert not two.closed
    one.drop()
    assert bare.broker.connections["c"] is two.transport.connection


@pytest.mark.statement("MQTT-3.1.2-4", "MQTT-3.1.2-5", "MQTT-3.2.2-2", "MQTT-3.2.2-3")
def test_session_present_tells_the_truth(bare: BareBroker) -> None:
    def present(clean_start: bool, **fields: Any) -> bool:
        connack = bare.connect("c", clean_start=clean_start, **fields).connack
        assert connack is not None
        return connack.session_present

    assert present(False, session_expiry_interval=10) is False
    assert present(False, session_expiry_interval=10) is True
    assert present(True, session_expiry_interval=10) is False
    assert present(False, session_expiry_interval=0) is True
    assert present(False) is False


@pytest.mark.parametrize("versions", [(4, 5), (5, 4), (3, 5), (5, 3)])
def test_a_session_may_be_resumed_in_another_version(
    bare: BareBroker, versions: tuple[int, int]
) -> None:
    fields: list[dict[str, Any]] = [
        {"session_expiry_interval": 100} if version == 5 else {} for version in versions
    ]
    one = bare.connect("c", versions[0], clean_start=False, **fields[0])
    one.subscribe("t", qos=2)
    bare.publish("t", b"1", 1, content_type="text")
    bare.publish("t", b"2", 2)
    ids = [m.packet_id for m in one.messages()]
    one.drop()
    bare.publish("t", b"3", 1)
    two = bare.connect("c", versions[1], clean_start=False, **fields[1])
    messages = two.messages()
    assert [m.payload for m in messages] == [b"1", b"2", b"3"]
    assert [m.packet_id for m in messages[:2]] == ids
    two.send(Puback(ids[0]), Pubrec(ids[1]))


def test_the_number_of_sessions_without_connection_is_bounded(make: Make) -> None:
    bare = make(maximum_offline_sessions=5)
    clients = [bare.connect(f"c{n}", session_expiry_interval=100) for n in range(8)]
    for client in clients:
        client.drop()
    assert bare.broker.sessions.offline == 5
    late = bare.connect("late", session_expiry_interval=100)
    assert late.connack is not None
    assert late.connack.reason == ReasonCode.QUOTA_EXCEEDED
    guest = bare.connect("guest")
    assert guest.connack is not None
    assert guest.connack.reason == 0
    back = bare.connect("c0", clean_start=False, session_expiry_interval=100)
    assert back.connack is not None
    assert back.connack.session_present


def test_counts_add_up_through_everything(bare: BareBroker) -> None:
    for n in range(50):
        client = bare.connect(
            f"c{n % 7}", clean_start=n % 3 == 0, session_expiry_interval=n % 4 * 10
        )
        if n % 2:
            client.drop()
        if n % 5 == 0:
            bare.advance(7)
    registry = bare.broker.sessions
    offline = sum(not session.online for session in registry)
    assert registry.offline == offline
    assert len(registry) == offline + len(bare.broker.connections)
    assert registry.maximum == 7


# --- shared subscriptions when members leave -----------------------------------------------


@pytest.mark.statement("MQTT-4.8.2-5")
def test_what_an_ended_member_had_goes_to_another(bare: BareBroker) -> None:
    one = bare.connect("one", receive_maximum=2)
    one.subscribe("$share/g/t", qos=1)
    for n in range(5):
        bare.publish("t", b"%d" % n, 1)
    assert one.payloads() == [b"0", b"1"]
    two = bare.connect("two")
    two.subscribe("$share/g/t", qos=1)
    one.drop()
    assert sorted(two.payloads()) == [b"0", b"1", b"2", b"3", b"4"]
    assert bare.broker.metrics.dropped == {}


@pytest.mark.statement("MQTT-4.8.2-5")
def test_qos_2_that_was_sent_is_not_given_to_another(bare: BareBroker) -> None:
    one = bare.connect("one", receive_maximum=1)
    one.subscribe("$share/g/t", qos=2)
    bare.publish("t", b"sent", 2)
    bare.publish("t", b"waiting", 2)
    two = bare.connect("two")
    two.subscribe("$share/g/t", qos=2)
    one.drop()
    assert two.payloads() == [b"waiting"]
    assert bare.broker.metrics.dropped == {"session-ended": 1}


def test_the_last_member_takes_its_messages_along_and_they_are_counted(bare: BareBroker) -> None:
    one = bare.connect("one", receive_maximum=1)
    one.subscribe("$share/g/t", qos=1)
    for _ in range(4):
        bare.publish("t", b"x", 1)
    one.drop()
    assert bare.broker.metrics.dropped == {"session-ended": 4}


def test_a_member_that_keeps_its_session_keeps_its_messages(bare: BareBroker) -> None:
    one = bare.connect("one", session_expiry_interval=10)
    one.subscribe("$share/g/t", qos=1)
    two = bare.connect("two")
    two.subscribe("$share/g/t", qos=1)
    for n in range(4):
        bare.publish("t", b"%d" % n, 1)
    mine = one.payloads()
    one.drop()
    assert len(two.payloads()) == 2
    bare.publish("t", b"later", 1)
    assert two.payloads() == [b"later"]
    bare.advance(12)
    assert two.payloads() == mine


def test_another_mount_point_is_another_client(bare: BareBroker) -> None:
    """Its topics must not show, nor be ended, under a mount point of somebody else."""
    ours = ListenerSettings("memory", allow_anonymous=True, mount_point="a/")
    theirs = ListenerSettings("memory", allow_anonymous=True, mount_point="b/")
    first = bare.connect("c", listener=ours, session_expiry_interval=99)
    first.subscribe("#")
    first.drop()
    second = bare.connect("c", listener=theirs)
    assert second.connack is not None
    assert second.connack.reason == ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
    back = bare.connect("c", listener=ours, clean_start=False)
    assert back.connack is not None
    assert back.connack.session_present
