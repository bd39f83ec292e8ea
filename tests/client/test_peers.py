"""The client and servers that lie, refuse, fall silent or are not there."""

from __future__ import annotations

from typing import Any

import pytest

from mqttd.client import MessageExpired, Refused
from mqttd.client.incoming import BUFFER
from mqttd.testing.virtual import VirtualClock
from mqttd.wire.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
)
from tests.client.link import Peers, result


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def start(clock: VirtualClock, version: int = 5, **more: Any) -> Peers:
    peers = Peers(clock, version, **more)
    peers.client.startService()
    peers.advance()
    return peers


def test_a_server_that_is_down_for_a_day_is_asked_ever_less_often(clock: VirtualClock) -> None:
    peers = Peers(clock, retry_first=1.0, retry_last=60.0)
    peers.link.down = True
    peers.client.startService()
    sent = [result(peers.client.publish("t", b"%d" % n, 1)) for n in range(100)]
    peers.advance(86_400)
    waits = [b - a for a, b in zip(peers.link.attempts, peers.link.attempts[1:], strict=False)]
    assert 0.9 <= waits[0] <= 1.1
    assert all(53.9 <= wait <= 66.1 for wait in waits[20:])
    assert 1300 < len(waits) < 1650
    peers.link.down = False
    peers.advance(70)
    packets = peers.last.take(Publish)
    assert [p.payload for p in packets] == [b"%d" % n for n in range(100)]
    for packet in packets:
        peers.last.send(Puback(packet.packet_id))
    peers.advance()
    assert sent == [[0]] * 100


def test_a_client_that_stops_when_its_server_has_left_leaves_no_call(clock: VirtualClock) -> None:
    peers = start(clock)
    peers.link.down = True
    peers.link.cut()
    peers.advance()
    peers.client.stopService()
    peers.advance()
    assert clock.getDelayedCalls() == []


def test_a_server_that_takes_us_and_lets_us_go_is_asked_ever_less_often(
    clock: VirtualClock,
) -> None:
    peers = start(clock)
    for _ in range(1000):
        peers.advance(10)
        if peers.client.is_connected:
            peers.link.cut()
    assert len(peers.link.attempts) < 250


@pytest.mark.parametrize("version", [4, 5])
def test_a_refusal_is_told_and_tried_again(clock: VirtualClock, version: int) -> None:
    peers = Peers(clock, version)
    peers.connack = Connack(False, 0x87 if version == 5 else 5)
    errors: list[Exception] = []
    peers.client.on_disconnected.append(errors.append)
    peers.client.startService()
    peers.advance()
    assert isinstance(errors[0], Refused)
    assert errors[0].reason == peers.connack.reason
    assert "not authorized" in str(errors[0])
    peers.connack = Connack()
    peers.advance(5)
    assert peers.client.is_connected


def test_a_server_without_connack_is_given_up(clock: VirtualClock) -> None:
    peers = Peers(clock, connect_timeout=5.0)
    peers.connack = None
    peers.client.startService()
    peers.advance(5)
    assert "no CONNACK" in str(peers.client.error)
    peers.advance(3)
    assert len(peers.all) == 2


def test_a_server_that_falls_silent_is_left(clock: VirtualClock) -> None:
    peers = start(clock)
    peers.connack = Connack(properties={"server_keep_alive": 10})
    peers.client.reconnect()
    peers.advance(3)
    silent = peers.last
    peers.advance(10)
    assert len(silent.take(Pingreq)) == 1
    peers.advance(25)
    assert silent.lost
    assert len(peers.all) == 3


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\xff\xff\xff\xff\xff",
        b"\x30\x80\x80\x80\x80\x01",
        bytes.fromhex("3003000161"),
        b"\xc0\x00",
        b"\x10\x00",
        b"\x20\x03\x00\x00\x00",
        b"\x30\xff\xff\xff\x7f",
        b"\x3e\x04\x00\x01t\x00",
    ],
)
def test_bytes_that_break_the_rules_end_the_connection_and_no_more(
    clock: VirtualClock, data: bytes
) -> None:
    peers = start(clock)
    bad = peers.last
    sent = result(peers.client.publish("t", b"x", 1))
    peers.advance()
    bad.write(data)
    peers.advance(1.5)
    assert bad.lost
    assert "rules" in str(bad.take(Disconnect)) or len(peers.all) == 2
    peers.advance(2)
    (packet,) = peers.last.take(Publish)
    peers.last.send(Puback(packet.packet_id))
    peers.advance()
    assert sent == [0]


@pytest.mark.parametrize(
    "packet",
    [
        Puback(77),
        Pubrec(77),
        Pubcomp(77),
        Suback(77, [0]),
        Suback(1, [0, 1, 2]),
        Pubrel(77),
        Puback(1),
    ],
)
def test_answers_that_nobody_asked_for_change_nothing(clock: VirtualClock, packet: Packet) -> None:
    peers = start(clock)
    peers.last.send(packet)
    peers.advance()
    sent = result(peers.client.publish("t", b"x", 2))
    peers.advance()
    assert peers.client.is_connected
    assert sent == []


def test_an_acknowledgement_of_the_other_qos_is_none(clock: VirtualClock) -> None:
    peers = start(clock)
    sent = result(peers.client.publish("t", b"x", 2))
    peers.advance()
    (packet,) = peers.last.take(Publish)
    peers.last.send(Puback(packet.packet_id))
    peers.advance()
    assert sent == []


def test_more_than_receive_maximum_is_taken_and_bounded(clock: VirtualClock) -> None:
    # mosquitto does that when it resumes a session.
    peers = start(clock, receive_maximum=2)
    peers.client.subscribe("t", qos=1)
    for number in range(1, 1001):
        peers.last.send(Publish("t", b"", 1, packet_id=number))
        peers.advance()
    assert peers.client.is_connected
    assert peers.client._incoming.untaken <= BUFFER


def test_a_topic_alias_is_an_error(clock: VirtualClock) -> None:
    peers = start(clock)
    peers.last.send(Publish("t", properties={"topic_alias": 1}))
    peers.advance()
    (left,) = peers.all[0].take(Disconnect)
    assert left.reason == 0x94


def test_the_servers_receive_maximum_is_kept(clock: VirtualClock) -> None:
    peers = Peers(clock)
    peers.connack = Connack(properties={"receive_maximum": 3})
    peers.client.startService()
    for _ in range(10):
        peers.client.publish("t", b"x", 1)
    peers.advance()
    packets = peers.last.take(Publish)
    assert len(packets) == 3
    peers.link.cut()
    peers.connack = Connack(True, properties={"receive_maximum": 2})
    peers.advance(3)
    again = peers.last.take(Publish)
    assert [p.packet_id for p in again] == [p.packet_id for p in packets[:2]]
    assert all(p.dup for p in again)
    for packet in again:
        peers.last.send(Puback(packet.packet_id))
    peers.advance()
    assert len(peers.last.take(Publish)) == 2


def test_what_the_server_says_it_cannot_take_is_not_sent(clock: VirtualClock) -> None:
    peers = Peers(clock)
    limits: Any = {"maximum_qos": 1, "retain_available": 0, "maximum_packet_size": 100}
    peers.connack = Connack(properties=limits)
    peers.client.startService()
    peers.advance()
    for sent, reason in (
        (peers.client.publish("t", b"", 2), 0x9B),
        (peers.client.publish("t", b"", 0, True), 0x9A),
        (peers.client.publish("t", b"x" * 100, 1), 0x95),
    ):
        (error,) = result(sent)
        assert error.reason == reason
    peers.advance()
    assert peers.last.take(Publish) == []
    assert peers.client.unsent == 0


def test_a_message_expires_while_it_waits(clock: VirtualClock) -> None:
    peers = Peers(clock)
    peers.link.down = True
    peers.client.startService()
    gone = result(peers.client.publish("t", b"1", 1, message_expiry_interval=10))
    result(peers.client.publish("t", b"2", 1, message_expiry_interval=1000))
    peers.advance(100)
    peers.link.down = False
    peers.advance(70)
    assert isinstance(gone[0], MessageExpired)
    (packet,) = peers.last.take(Publish)
    assert packet.payload == b"2"
    assert 800 < packet.properties["message_expiry_interval"] < 900


@pytest.mark.parametrize("present", [True, False])
def test_qos_2_goes_on_where_it_was(clock: VirtualClock, present: bool) -> None:
    peers = start(clock)
    sent = result(peers.client.publish("t", b"x", 2))
    peers.advance()
    (packet,) = peers.last.take(Publish)
    peers.last.send(Pubrec(packet.packet_id))
    peers.advance()
    assert len(peers.last.take(Pubrel)) == 1
    peers.link.cut()
    peers.connack = Connack(present)
    peers.advance(3)
    assert peers.last.take(Publish) == []
    released = peers.last.take(Pubrel)
    assert [p.packet_id for p in released] == [packet.packet_id] * present
    if present:
        peers.last.send(Pubcomp(packet.packet_id))
        peers.advance()
    assert sent == [0]


@pytest.mark.parametrize("cut", [False, True])
def test_qos_2_is_handed_over_once(clock: VirtualClock, cut: bool) -> None:
    peers = start(clock)
    got: list[bytes] = []
    peers.client.subscribe("t", lambda m: got.append(m.payload), qos=2)
    peers.last.send(Publish("t", b"x", 2, packet_id=5))
    peers.advance()
    assert len(peers.last.take(Pubrec)) == 1
    if cut:
        peers.link.cut()
        peers.connack = Connack(True)
        peers.advance(3)
    peers.last.send(Publish("t", b"x", 2, dup=True, packet_id=5))
    peers.advance()
    assert len(peers.last.take(Pubrec)) == 1
    peers.last.send(Pubrel(5))
    peers.advance()
    assert len(peers.last.take(Pubcomp)) == 1
    peers.last.send(Publish("t", b"new", 2, packet_id=5))
    peers.advance()
    assert got == [b"x", b"new"]


def test_a_flood_is_not_read(clock: VirtualClock) -> None:
    peers = start(clock)
    peers.client.subscribe("t")
    peers.advance()
    for _ in range(20):
        for _ in range(100):
            peers.last.send(Publish("t", b"x"))
        peers.advance()
    assert peers.link.near is not None
    assert peers.link.near.is_paused
    assert peers.client._incoming.untaken <= BUFFER
    peers.client.publish("t", b"", 1)
    peers.advance()
    assert not peers.link.near.is_paused
    (packet,) = peers.last.take(Publish)
    peers.last.send(Puback(packet.packet_id))
    peers.advance()
    assert peers.client.unsent == 0
    assert peers.client._incoming.untaken <= 1000


def test_subscriptions_are_renewed_where_the_session_is_gone(clock: VirtualClock) -> None:
    peers = start(clock)
    (inbox,) = [result(peers.client.subscribe("a"))]
    peers.advance()
    (asked,) = peers.last.take(Subscribe)
    peers.last.send(Suback(asked.packet_id, [0]))
    peers.advance()
    assert len(inbox) == 1
    for present in (True, False):
        peers.link.cut()
        peers.connack = Connack(present)
        peers.advance(5)
        assert len(peers.last.take(Subscribe)) == (not present)


class Method:
    """A method with a challenge, after which the server proves itself."""

    method = "TEST"

    def __init__(self, proof: bytes) -> None:
        self.proof = proof

    def start(self) -> bytes:
        return b"hello"

    def respond(self, data: bytes | None) -> bytes:
        assert data == b"who?"
        return b"me"

    def finish(self, data: bytes | None) -> None:
        if data != self.proof:
            raise ValueError("this is not the server")


@pytest.mark.parametrize("right", [True, False])
def test_enhanced_authentication(clock: VirtualClock, right: bool) -> None:
    peers = Peers(clock)
    peers.connack = None
    peers.client._authentication = Method(b"it is me" if right else b"x")  # type: ignore[assignment]
    peers.client.startService()
    peers.advance()
    (connect,) = peers.last.take(Connect)
    assert connect.properties["authentication_data"] == b"hello"
    challenge: Any = {"authentication_method": "TEST", "authentication_data": b"who?"}
    peers.last.send(Auth(0x18, challenge))
    peers.advance()
    (answer,) = peers.last.take(Auth)
    assert answer.properties["authentication_data"] == b"me"
    proof: Any = {"authentication_method": "TEST", "authentication_data": b"it is me"}
    peers.last.send(Connack(properties=proof))
    peers.advance()
    assert peers.client.is_connected == right


def test_a_message_for_nobody_is_acknowledged_and_counted(clock: VirtualClock) -> None:
    peers = start(clock)
    peers.last.send(Publish("t", b"x", 1, packet_id=9))
    peers.advance()
    assert len(peers.last.take(Puback)) == 1
    assert peers.client.unclaimed == 1


def test_it_sends_no_further_than_the_network_takes(clock: VirtualClock) -> None:
    peers = start(clock, maximum_queued=100_000)
    assert peers.link.near is not None
    peers.link.near.stop_reading()
    for _ in range(300):
        peers.client.publish("t", b"x" * 1000)
    assert peers.link.near.waiting < 100_000
    peers.link.near.start_reading()
    peers.advance(1)
    assert len(peers.last.take(Publish)) == 300
