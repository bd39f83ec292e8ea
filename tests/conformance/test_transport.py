"""Sections 4.2 of 5.0 and 7 of 3.1.1: the byte stream, and nothing besides."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.selectreactor import SelectReactor

from mqttd.broker.broker import Broker
from mqttd.net.factory import MQTTFactory
from mqttd.settings import BrokerSettings, ListenerSettings
from mqttd.testing import VirtualBroker
from mqttd.wire.packets import Connect, Publish, Subscribe, SubscriptionRequest
from mqttd.wire.parser import Parser
from mqttd.wire.serializer import serialize

from .support import all_versions, each_version


@pytest.fixture
def listening() -> Iterator[tuple[int, Callable[[Callable[[], bool]], None]]]:
    """A TCP port with a broker behind it, and a way to wait for something."""
    reactor: Any = SelectReactor()
    broker = Broker(BrokerSettings(), reactor)
    settings = ListenerSettings("tcp:0:interface=127.0.0.1", allow_anonymous=True)
    factory = MQTTFactory(broker, settings)
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    reactor.startRunning(False)

    def until(happened: Callable[[], bool]) -> None:
        deadline = reactor.seconds() + 10
        while not happened():
            assert reactor.seconds() < deadline, "nothing came of it in ten seconds"
            reactor.iterate(0.01)

    yield port.getHost().port, until
    factory.abort_all()
    until(lambda: not factory.protocols)
    port.stopListening()
    broker.stop()
    for call in reactor.getDelayedCalls():
        call.cancel()
    reactor.iterate(0)
    reactor.disconnectAll()


@pytest.mark.statement("MQTT-4.2-1", "MQTT-4.2.0-1", "MQTT311-7.1.1-1")
@each_version
def test_a_large_message_comes_back_whole_over_tcp(listening: Any, version: int) -> None:
    port, until = listening
    payload = bytes(range(256)) * 4096
    parser = Parser(10_000_000, server_side=False)
    parser.version = version
    packets: list[Any] = []
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setblocking(False)
        out = bytearray(
            serialize(Connect("c", version), version)
            + serialize(Subscribe(1, [SubscriptionRequest("t")]), version)
            + serialize(Publish("t", payload), version)
        )

        def exchange() -> bool:
            with contextlib.suppress(BlockingIOError):
                del out[: client.send(out[:5000])]
            with contextlib.suppress(BlockingIOError):
                parser.feed(client.recv(65_536))
            while (packet := parser.next_packet()) is not None:
                packets.append(packet)
            return len(packets) == 3

        until(exchange)
    assert packets[2].payload == payload


@pytest.mark.statement("MQTT-4.2-1", "MQTT311-7.1.1-1")
@all_versions
def test_packets_may_come_in_any_pieces(mqtt: VirtualBroker, version: int) -> None:
    data = (
        serialize(Connect("c", version), version)
        + serialize(Subscribe(1, [SubscriptionRequest("t", 1)]), version)
        + serialize(Publish("t", bytes(200), qos=1, packet_id=7), version)
        + serialize(Publish("t", b"last", qos=2, packet_id=8), version)
    )
    answers = set()
    for size in (1, 2, 3, 7, 50, len(data)):
        client = mqtt.open(version)
        for start in range(0, len(data), size):
            client.send_bytes(data[start : start + size])
        client.received.sort(key=lambda packet: packet.type)
        answers.add(repr(client.received))
        client.drop()
    assert len(answers) == 1


@pytest.mark.statement("MQTT311-7.0.0-2")
def test_a_client_that_knows_the_bare_standard_is_served(mqtt: VirtualBroker) -> None:
    """Every packet of 3.1.1, byte by byte, with no option that it does not have."""
    client = mqtt.open(4)
    for sent, answered in (
        ("100d 0004 4d515454 04 02 003c 0001 61", "2002 0000"),
        ("8206 0001 0001 74 02", "9003 0001 02"),
        ("3004 0001 74 78", "3004 0001 74 78"),
        ("3206 0001 74 0005 78", "3206 0001 74 0001 78 4002 0005"),
        ("4002 0001", ""),
        ("3406 0001 74 0006 79", "3406 0001 74 0002 79 5002 0006"),
        ("6202 0006", "7002 0006"),
        ("5002 0002", "6202 0002"),
        ("7002 0002", ""),
        ("a205 0002 0001 74", "b002 0002"),
        ("3004 0001 74 78", ""),
        ("c000", "d000"),
    ):
        client.send_bytes(bytes.fromhex(sent))
        assert client.transport.take().hex() == answered.replace(" ", "")
    client.send_bytes(bytes.fromhex("e000"))
    assert client.closed_reason == "closed"
