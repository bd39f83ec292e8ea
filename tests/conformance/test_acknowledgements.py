"""Reason codes, reason strings and user properties of answers (3.4 to 3.7, 3.9, 3.11, 3.14)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.codes import MQTT5
from mqttd.wire.packets import (
    Connect,
    Disconnect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from mqttd.wire.serializer import serialize

from .support import Rules, broker_with

#: What a client says besides; an answer has no reason to repeat it.
TALK: Any = {"user_property": [("key", "v" * 100)]}

#: Packet -> how a client provokes one that says no.
PROVOCATIONS: dict[type[Any], Callable[[VirtualClient], None]] = {
    Puback: lambda c: c.send(Publish("secret", qos=1, packet_id=1, properties=TALK)),
    Pubrec: lambda c: c.send(Publish("secret", qos=2, packet_id=1, properties=TALK)),
    Pubrel: lambda c: c.send(Pubrec(1, properties=TALK)),
    Pubcomp: lambda c: c.send(Pubrel(1, properties=TALK)),
    Suback: lambda c: c.send(Subscribe(1, [SubscriptionRequest("secret")], TALK)),
    Unsuback: lambda c: c.send(Unsubscribe(1, ["none"], TALK)),
    Disconnect: lambda c: c.send(Connect("c", MQTT5, properties=TALK)),
}
REASONS = {
    Puback: 0x87,
    Pubrec: 0x87,
    Pubrel: 0x92,
    Pubcomp: 0x92,
    Suback: [0x87],
    Unsuback: [0x11],
    Disconnect: 0x82,
}


def strict() -> VirtualBroker:
    return broker_with(authorizer=Rules(("publish", "secret"), ("subscribe", "secret")))


def provoke(client: VirtualClient, kind: type[Any]) -> Any:
    """The refusal of that kind; the parser holds it to the codes of its packet."""
    PROVOCATIONS[kind](client)
    return client.expect(kind)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(Puback, marks=pytest.mark.statement("MQTT-3.4.2-1")),
        pytest.param(Pubrec, marks=pytest.mark.statement("MQTT-3.5.2-1")),
        pytest.param(Pubrel, marks=pytest.mark.statement("MQTT-3.6.2-1")),
        pytest.param(Pubcomp, marks=pytest.mark.statement("MQTT-3.7.2-1")),
        pytest.param(Suback, marks=pytest.mark.statement("MQTT-3.9.3-2")),
        pytest.param(Unsuback, marks=pytest.mark.statement("MQTT-3.11.3-2")),
        pytest.param(Disconnect, marks=pytest.mark.statement("MQTT-3.14.2-1")),
    ],
)
def test_an_answer_that_says_no_has_a_code_of_its_packet(kind: type[Any]) -> None:
    packet = provoke(strict().connect("c"), kind)
    found = packet.reasons if hasattr(packet, "reasons") else packet.reason
    assert found == REASONS[kind]


@pytest.mark.statement("MQTT-3.4.2-1", "MQTT-3.5.2-1")
@pytest.mark.parametrize(("qos", "kind"), [(1, Puback), (2, Pubrec)])
@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [("t", b"", 0), ("nobody", b"", 0x10), ("t", b"\xff", 0x99), ("a/b/c", b"", 0x90)],
)
def test_every_reason_to_refuse_a_message_is_one_of_its_answer(
    qos: int, kind: type[Any], topic: str, payload: bytes, reason: int
) -> None:
    broker = broker_with(maximum_topic_levels=2)
    broker.connect("reader").subscribe("t")
    client = broker.connect("c")
    properties: Any = {"payload_format_indicator": 1}
    client.send(Publish(topic, payload, qos, packet_id=1, properties=properties))
    client.expect(kind, packet_id=1, reason=reason)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(Puback, marks=pytest.mark.statement("MQTT-3.4.2-2", "MQTT-3.4.2-3")),
        pytest.param(Pubrec, marks=pytest.mark.statement("MQTT-3.5.2-2", "MQTT-3.5.2-3")),
        pytest.param(Pubrel, marks=pytest.mark.statement("MQTT-3.6.2-2", "MQTT-3.6.2-3")),
        pytest.param(Pubcomp, marks=pytest.mark.statement("MQTT-3.7.2-2", "MQTT-3.7.2-3")),
        pytest.param(Suback, marks=pytest.mark.statement("MQTT-3.9.2-1", "MQTT-3.9.2-2")),
        pytest.param(Unsuback, marks=pytest.mark.statement("MQTT-3.11.2-1", "MQTT-3.11.2-2")),
        pytest.param(Disconnect, marks=pytest.mark.statement("MQTT-3.14.2-3", "MQTT-3.14.2-4")),
    ],
)
@pytest.mark.parametrize("limit", [20, 40, 60, 100])
def test_explanations_are_sent_only_where_they_fit(kind: type[Any], limit: int) -> None:
    packet = provoke(strict().connect("c", maximum_packet_size=limit), kind)
    assert len(serialize(packet, MQTT5)) <= limit
    full = provoke(strict().connect("c"), kind)
    if len(serialize(full, MQTT5)) > limit:
        assert "reason_string" not in packet.properties
        assert "user_property" not in packet.properties
    else:
        assert packet == full


@pytest.mark.statement("MQTT-3.4.2-2", "MQTT-3.5.2-2", "MQTT-3.14.2-3")
@pytest.mark.parametrize("kind", [Puback, Pubrec, Disconnect])
def test_there_is_an_explanation_for_who_has_room(kind: type[Any]) -> None:
    assert provoke(strict().connect("c"), kind).properties["reason_string"]


@pytest.mark.statement("MQTT-3.1.2-29")
@pytest.mark.parametrize("kind", [kind for kind in PROVOCATIONS if kind is not Disconnect])
def test_without_problem_information_only_some_packets_explain(kind: type[Any]) -> None:
    client = strict().connect("c", request_problem_information=0)
    assert provoke(client, kind).properties == {}
