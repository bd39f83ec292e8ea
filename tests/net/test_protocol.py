"""One connection's network side on virtual time: order, pauses, deadlines, ends."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mqttd.broker.connection import Connection
from mqttd.broker.pause import DOWNSTREAM, OUTPUT, PENDING, RATE
from mqttd.interfaces import PUBLISH, AccessRequest, IAuthorizer, ITransport
from mqttd.settings import BrokerSettings, ConnectionLimits, Rate
from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
)
from mqttd.wire.serializer import serialize
from tests.conftest import examples, interpreted


def broker_with(**limits: Any) -> VirtualBroker:
    return VirtualBroker(BrokerSettings(limits=ConnectionLimits(**limits)))


@implementer(IAuthorizer)
class SlowAuthorizer:
    """Answers about PUBLISH when it is told to."""

    epoch = 0
    checks = frozenset({PUBLISH})

    def __init__(self) -> None:
        self.asked: list[tuple[str, Deferred[bool]]] = []

    def authorize(self, request: AccessRequest) -> Deferred[bool]:
        answer: Deferred[bool] = Deferred()
        self.asked.append((request.topic, answer))
        return answer


def test_it_is_what_the_protocol_machine_expects() -> None:
    broker = broker_with()
    verifyObject(ITransport, broker.open().transport.protocol)


@pytest.mark.parametrize("chunk", [1, 2, 3, 1000])
def test_packets_may_come_in_pieces_of_any_size(chunk: int) -> None:
    broker = broker_with()
    listening = broker.connect("listening")
    listening.subscribe("t")
    client = broker.open()
    packets: list[Packet] = [
        Connect("a", 5),
        *(Publish("t", bytes([n]) * n) for n in range(1, 40)),
        Pingreq(),
    ]
    data = b"".join(serialize(packet, 5) for packet in packets)
    for start in range(0, len(data), chunk):
        client.transport.send(data[start : start + chunk])
    broker.advance()
    client.expect(Connack)
    client.expect(Pingresp)
    assert [m.payload for m in listening.messages()] == [bytes([n]) * n for n in range(1, 40)]


# --- a handler that waits -----------------------------------------------------------


def test_packets_behind_a_handler_that_waits_are_handled_in_order() -> None:
    authorizer = SlowAuthorizer()
    broker = VirtualBroker(authorizer=authorizer)
    listening = broker.connect("listening")
    listening.subscribe("#")
    client = broker.connect("a")
    client.send(*(Publish(f"t/{n}", b"") for n in range(5)), Pingreq())
    client.send(Pingreq())
    for n in range(5):
        assert [topic for topic, _ in authorizer.asked] == [f"t/{m}" for m in range(n + 1)]
        client.expect_nothing()
        assert client.transport.is_paused
        authorizer.asked[-1][1].callback(True)
        broker.advance()
    assert [message.topic for message in listening.messages()] == [f"t/{n}" for n in range(5)]
    assert len(client.take(Pingresp)) == 2
    assert not client.transport.is_paused


def test_a_client_may_leave_while_its_handler_waits() -> None:
    authorizer = SlowAuthorizer()
    broker = VirtualBroker(authorizer=authorizer)
    client, other = broker.connect("a"), broker.connect("b")
    client.send(Publish("t", b""), Pingreq())
    client.close()
    authorizer.asked[0][1].callback(True)
    broker.advance()
    other.send(Pingreq())
    other.expect(Pingresp)


@interpreted
def test_an_error_of_ours_ends_only_the_connection_that_met_it() -> None:
    broker = broker_with()
    client, other = broker.connect("a"), broker.connect("b")
    unlucky = client.transport.protocol.connection  # type: ignore[union-attr]
    received = Connection.packet_received

    def broken(self: Connection, packet: Any) -> Any:
        if self is unlucky:
            raise RuntimeError("a bug")
        return received(self, packet)

    with mock.patch.object(Connection, "packet_received", broken):
        client.send(Pingreq())
        other.send(Pingreq())
    assert client.expect(Disconnect).reason == ReasonCode.UNSPECIFIED_ERROR
    assert client.closed
    other.expect(Pingresp)
    assert broker.broker.metrics.errors["connection"] == 1


@interpreted
def test_an_error_while_closing_for_an_error_still_closes() -> None:
    broker = broker_with()
    client = broker.connect("a")
    with (
        mock.patch.object(Connection, "packet_received", side_effect=RuntimeError),
        mock.patch.object(Connection, "failed", side_effect=RuntimeError),
    ):
        client.send(Pingreq())
    assert client.closed_reason == "aborted"


# --- pauses -------------------------------------------------------------------------


@settings(max_examples=examples(0.6), suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from((RATE, PENDING, DOWNSTREAM, OUTPUT)),
            st.booleans(),
            st.integers(0, 6),
        ),
        max_size=30,
    )
)
def test_pauses_lose_nothing_and_keep_the_order(steps: list[tuple[int, bool, int]]) -> None:
    broker = VirtualBroker()
    listening = broker.connect("listening")
    listening.subscribe("t")
    client = broker.connect("a")
    protocol: Any = client.transport.protocol
    sent = 0
    mask = 0
    for reason, begin, count in steps:
        if begin:
            protocol.pause(reason)
            mask |= reason
        else:
            protocol.resume(reason)
            mask &= ~reason
        for _ in range(count):
            client.transport.send(serialize(Publish("t", b"%d" % sent), 5))
            sent += 1
        broker.advance(0)
        assert client.transport.is_paused is bool(mask)
    for reason in (RATE, PENDING, DOWNSTREAM, OUTPUT):
        protocol.resume(reason)
    broker.advance(0)
    assert [m.payload for m in listening.messages()] == [b"%d" % n for n in range(sent)]


def test_what_was_read_before_a_pause_waits_with_it() -> None:
    broker = broker_with(inbound_messages=Rate(1, 1))
    listening = broker.connect("listening")
    listening.subscribe("t")
    client = broker.connect("a")
    client.send(*(Publish("t", b"%d" % n) for n in range(4)))
    counts = []
    for _ in range(4):
        counts.append(len(listening.messages()))
        broker.advance(1)
    assert counts == [2, 1, 1, 0]


# --- deadlines ----------------------------------------------------------------------


def test_a_client_that_sends_no_connect_is_cut() -> None:
    broker = broker_with(connect_timeout=10)
    client = broker.open()
    broker.advance(9.9)
    assert not client.closed
    broker.advance(1)
    assert client.closed
    assert broker.broker.metrics.refused["connect-timeout"] == 1


def test_item5_one_byte_per_second_does_not_stretch_the_deadline() -> None:
    """Catalogue 5: slowloris before CONNECT."""
    broker = broker_with(connect_timeout=10)
    client = broker.open()
    data = serialize(Connect("a" * 100, 5), 5)
    for byte in data[:12]:
        client.transport.send(bytes([byte]))
        broker.advance(1)
    assert client.closed
    assert not client.received


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n",
        bytes.fromhex("16030100f8010000f40303") + bytes(200),
    ],
    ids=["HTTP", "TLS"],
)
def test_another_protocol_is_closed_without_an_answer(data: bytes) -> None:
    """Catalogue 12, on a plain port."""
    broker = broker_with()
    client = broker.open()
    client.send_bytes(data)
    assert client.closed
    assert client.transport.take() == b""


def test_a_silent_client_is_cut_after_its_keep_alive() -> None:
    broker = broker_with()
    client = broker.connect("a", keep_alive=100)
    for _ in range(5):
        broker.advance(100)
        client.send(Pingreq())
    broker.advance(149)
    assert not client.closed
    broker.advance(2)
    assert client.take(Disconnect)[0].reason == ReasonCode.KEEP_ALIVE_TIMEOUT
    assert client.closed


def test_the_time_that_we_do_not_read_is_not_held_against_the_client() -> None:
    broker = broker_with(inbound_bytes=Rate(10, 100))
    client = broker.connect("a", keep_alive=10)
    client.send(Publish("t", bytes(5000)))
    broker.advance(400)
    assert client.transport.is_paused
    assert not client.closed
    # Its PINGREQ waited in the kernel.
    client.send(Pingreq())
    broker.advance(130)
    client.expect(Pingresp)
    broker.advance(16)
    assert client.closed


def test_a_client_that_leaves_while_it_is_paused_is_noticed() -> None:
    broker = broker_with(inbound_bytes=Rate(1, 10))
    client = broker.connect("a", keep_alive=100)
    client.send(Publish("t", bytes(5000)))
    with mock.patch("mqttd.net.protocol.unread_after_end", return_value=0):
        broker.advance(61)
    assert client.closed_reason == "aborted"


def test_what_it_sent_before_it_left_is_still_handled() -> None:
    broker = broker_with(inbound_messages=Rate(1, 1))
    listening = broker.connect("listening", keep_alive=0)
    listening.subscribe("t")
    client = broker.connect("a", keep_alive=1)
    client.send(*(Publish("t", b"%d" % n) for n in range(200)))
    with mock.patch("mqttd.net.protocol.unread_after_end", return_value=0):
        broker.advance(199)
    assert len(listening.messages()) == 200


def test_nobody_waits_for_ever_for_what_a_client_sent_before_it_left() -> None:
    authorizer = SlowAuthorizer()
    broker = VirtualBroker(authorizer=authorizer)
    client = broker.connect("a", keep_alive=10)
    client.send(Publish("t", b""), Pingreq())
    with mock.patch("mqttd.net.protocol.unread_after_end", return_value=1000):
        broker.advance(290)
        assert not client.closed
        broker.advance(30)
    assert client.closed_reason == "aborted"


def test_a_client_that_takes_no_answer_at_all_is_cut_after_its_keep_alive() -> None:
    broker = broker_with(output_buffer=1000)
    client = broker.connect("a", keep_alive=10)
    client.stop_reading()
    for _ in range(20):
        client.transport.send(serialize(Pingreq(), 5) * 30_000)
    assert client.transport.is_paused
    broker.advance(60)
    assert client.closed


# --- ends ---------------------------------------------------------------------------


def test_a_close_waits_for_output_but_not_for_ever() -> None:
    broker = broker_with(close_timeout=5)
    stuck = broker.connect("stuck")
    stuck.subscribe("t")
    stuck.stop_reading()
    for _ in range(100):
        broker.publish("t", bytes(1000))
    broker.broker.drain()
    broker.advance(4.9)
    assert not stuck.closed
    broker.advance(1)
    assert stuck.closed_reason == "aborted"
    assert broker.factory.protocols == set()


def test_a_close_sends_all_that_was_said_before_it() -> None:
    broker = broker_with()
    client = broker.connect("a")
    client.subscribe("t")
    client.stop_reading()
    for _ in range(100):
        broker.publish("t", bytes(1000))
    broker.broker.drain()
    broker.advance(1)
    client.start_reading()
    # What the network had not been given yet stayed in the queue and went with it.
    assert len(client.messages()) > 60
    assert client.expect(Disconnect).reason == ReasonCode.SERVER_SHUTTING_DOWN
    assert client.closed_reason == "closed"


def test_a_refused_flood_that_reads_no_answer_leaves_nothing() -> None:
    """Catalogue 34: CONNACK after CONNACK that nobody reads."""
    broker = broker_with(close_timeout=5)
    clients: list[VirtualClient] = []
    for _ in range(200):
        client = broker.open()
        client.stop_reading()
        client.send_bytes(serialize(Connect("", 4, clean_start=False), 4))
        clients.append(client)
    assert len(broker.factory.protocols) == 200
    broker.advance(6)
    assert all(client.closed for client in clients)
    assert broker.factory.protocols == set()


def test_nothing_that_comes_after_the_end_is_looked_at() -> None:
    broker = broker_with()
    listening = broker.connect("listening")
    listening.subscribe("t")
    client = broker.connect("a")
    client.send(Disconnect(0), Publish("t", b"late"))
    protocol: Any = client.transport.protocol
    protocol.dataReceived(serialize(Publish("t", b"later"), 5))
    listening.expect_nothing()
    assert protocol.parser.pending < 20


def test_connections_of_an_address_are_known() -> None:
    broker = broker_with()
    first = broker.connect("a", address="192.0.2.7")
    broker.connect("b", address="::ffff:192.0.2.7")
    broker.connect("c", address="192.0.2.8")
    assert broker.factory.connections_of("192.0.2.7") == 2
    first.close()
    assert broker.factory.connections_of("192.0.2.7") == 1
    assert broker.factory.connections_of("192.0.2.9") == 0


def test_acknowledgements_come_after_a_pause_between_them() -> None:
    broker = broker_with(inbound_messages=Rate(1, 1))
    client = broker.connect("a")
    client.send(*(Publish("t", b"", 1, packet_id=n) for n in range(1, 6)))
    broker.advance(10)
    assert [answer.packet_id for answer in client.take(Puback)] == [1, 2, 3, 4, 5]
