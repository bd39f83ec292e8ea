"""The protocol machine: what is legal when, and how it ends."""

from __future__ import annotations

import pytest
from attrs import evolve

from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import (
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    Publish,
    Subscribe,
    SubscriptionRequest,
)
from tests.broker.harness import BareBroker


@pytest.mark.statement("MQTT-3.12.4-1", "MQTT311-3.12.4-1")
@pytest.mark.parametrize("version", [3, 4, 5])
def test_ping(bare: BareBroker, version: int) -> None:
    client = bare.connect("c", version)
    client.send(Pingreq(), Pingreq())
    client.expect(Pingresp)
    client.expect(Pingresp)


@pytest.mark.statement("MQTT-3.1.0-2", "MQTT311-3.1.0-2")
@pytest.mark.parametrize("version", [3, 4, 5])
def test_a_second_connect(bare: BareBroker, version: int) -> None:
    client = bare.connect("c", version)
    client.send(Connect("c", version))
    client.expect_closed(ReasonCode.PROTOCOL_ERROR)


def test_nothing_is_handled_after_disconnect(bare: BareBroker) -> None:
    watcher = bare.connect("w")
    watcher.subscribe("t")
    client = bare.connect("c")
    client.send(Disconnect(), Publish("t", b"late"))
    client.expect_closed()
    assert watcher.messages() == []


@pytest.mark.statement("MQTT-3.1.4-6")
def test_nothing_is_handled_after_a_refusal(bare: BareBroker) -> None:
    watcher = bare.connect("w")
    watcher.subscribe("t")
    client = bare.open(4)
    client.send(Connect("", 4, clean_start=False), Publish("t", b"x"))
    client.expect(Connack, reason=2)
    client.expect_closed()
    assert watcher.messages() == []


@pytest.mark.statement("MQTT-3.1.4-5")
def test_a_client_need_not_wait_for_connack(bare: BareBroker) -> None:
    client = bare.open()
    client.send(
        Connect("c", 5),
        Subscribe(1, [SubscriptionRequest("t")]),
        Publish("t", b"x"),
        Pingreq(),
    )
    kinds = [packet.type.name for packet in client.received]
    assert kinds == ["CONNACK", "SUBACK", "PUBLISH", "PINGRESP"]


@pytest.mark.statement("MQTT-3.1.2-22", "MQTT311-3.1.2-24")
@pytest.mark.parametrize("version", [3, 4, 5])
def test_keep_alive(bare: BareBroker, version: int) -> None:
    client = bare.connect("c", version, keep_alive=10)
    assert client.transport.keep_alive == 15
    client.transport.connection.keep_alive_expired()
    client.expect_closed(ReasonCode.KEEP_ALIVE_TIMEOUT)
    assert bare.broker.metrics.closed == {"keep-alive": 1}


def test_an_answer_that_is_too_large_is_shortened(bare: BareBroker) -> None:
    # [MQTT-3.14.2-3]
    reasons = []
    for size in (1000, 20):
        client = bare.connect("c", maximum_packet_size=size)
        client.send(Connect("c", 5))
        reasons.append(client.expect(Disconnect, reason=ReasonCode.PROTOCOL_ERROR).properties)
        assert client.closed
    assert "reason_string" in reasons[0]
    assert reasons[1] == {}


def test_drain_says_goodbye_to_all_and_takes_nobody(bare: BareBroker) -> None:
    clients = [bare.connect(f"c{n}", 3 + n % 3) for n in range(9)]
    bare.broker.drain()
    bare.advance()
    for client in clients:
        client.expect_closed(ReasonCode.SERVER_SHUTTING_DOWN)
    assert bare.broker.connections == {}
    late = bare.connect("late")
    assert late.connack is not None
    assert late.connack.reason == ReasonCode.SERVER_UNAVAILABLE
    assert late.closed


def test_ending_twice_counts_once(bare: BareBroker) -> None:
    seen: list[str] = []
    bare.broker.hooks.add("disconnected", lambda connection, label: seen.append(label))
    client = bare.connect("c")
    client.disconnect()
    client.transport.connection.connection_lost("again")
    assert seen == ["disconnect"]
    assert bare.broker.metrics.closed == {"disconnect": 1}


def test_what_comes_before_connack_is_told_apart(bare: BareBroker) -> None:
    silent = bare.open()
    bare.advance(11)
    assert silent.transport.ending == "aborted"
    assert bare.broker.metrics.refused == {"connect-timeout": 1}


def test_redirection(bare: BareBroker) -> None:
    protocol = evolve(bare.listener.protocol, server_reference="other:1883")
    for moved in (False, True):
        listener = evolve(bare.listener, protocol=evolve(protocol, server_moved=moved))
        client = bare.connect("c", listener=listener)
        assert client.connack is not None
        assert client.connack.reason == 0x9C + moved
        assert client.connack.properties["server_reference"] == "other:1883"
        assert client.closed
