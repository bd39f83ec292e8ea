"""Sections 4.13 of 5.0 and 4.8 of 3.1.1: what errors lead to."""

from __future__ import annotations

from typing import Any

import pytest

from mqttd.testing import VirtualBroker
from mqttd.wire.codes import MQTT5
from mqttd.wire.packets import Disconnect, Pingreq, Pingresp, Publish
from mqttd.wire.serializer import serialize

from .support import all_versions, each_version, expect_closed, frame, none_for, text

ERRORS: dict[str, tuple[int, tuple[Any, ...]]] = {
    "packet type 0": (0x00, ()),
    "CONNACK from a client": (0x20, (b"\x00\x00",)),
    "SUBACK from a client": (0x90, (b"\x00\x01", none_for, b"\x00")),
    "PINGRESP from a client": (0xD0, ()),
    "PUBLISH cut off": (0x30, (b"\x00\x09t",)),
    "PUBLISH without identifier": (0x32, (text("t"),)),
    "PUBACK cut off": (0x40, (b"\x00",)),
    "SUBSCRIBE cut off": (0x82, (b"\x00\x01", none_for, b"\x00\x05t")),
    "SUBSCRIBE without QoS": (0x82, (b"\x00\x01", none_for, text("t"))),
    "UNSUBSCRIBE cut off": (0xA2, (b"\x00\x01", none_for, b"\x00\x05t")),
    "PINGREQ with a body": (0xC0, (b"\x00",)),
    "packet length of five bytes": (0xC0, ()),
}


@pytest.mark.statement("MQTT-4.13.1-1", "MQTT-4.13.2-1", "MQTT311-4.8.0-1")
@each_version
@pytest.mark.parametrize("error", list(ERRORS))
def test_an_error_closes_its_connection_and_no_other(
    mqtt: VirtualBroker, version: int, error: str
) -> None:
    other = mqtt.connect("other", version)
    client = mqtt.connect("c", version)
    first, parts = ERRORS[error]
    body = [part if isinstance(part, bytes) else part(version) for part in parts]
    data = frame(first, *body)
    if error == "packet length of five bytes":
        data = b"\xc0\x80\x80\x80\x80\x01"
    client.send_bytes(data)
    if version == MQTT5:
        assert client.expect(Disconnect).reason in (0x81, 0x82)
    expect_closed(client)
    other.send(Pingreq())
    other.expect(Pingresp)


@pytest.mark.statement("MQTT-4.13.1-1", "MQTT311-4.8.0-1")
@all_versions
def test_what_came_before_the_error_counts_and_what_follows_does_not(
    mqtt: VirtualBroker, version: int
) -> None:
    reader = mqtt.connect("reader", version)
    reader.subscribe("t")
    client = mqtt.connect("c", version)
    before, after = (serialize(Publish("t", name), version) for name in (b"before", b"after"))
    client.send_bytes(before + b"\xc0\x01\x00" + after)
    assert client.closed
    assert [message.payload for message in reader.messages()] == [b"before"]


@pytest.mark.statement("MQTT311-4.8.0-2", "MQTT-4.13.2-1")
@all_versions
def test_a_failure_of_the_broker_closes_the_connection_it_met(
    mqtt: VirtualBroker,
    version: int,
    monkeypatch: pytest.MonkeyPatch,
    logged_failures: list[Any],
) -> None:
    def fail(*arguments: Any, **fields: Any) -> Any:
        raise RuntimeError("the disk is full")

    other = mqtt.connect("other", version)
    client = mqtt.connect("c", version)
    monkeypatch.setattr(mqtt.broker.publisher, "publish", fail)
    client.send(Publish("t", b"x", qos=1, packet_id=1))
    if version == MQTT5:
        assert client.expect(Disconnect).reason >= 0x80
    expect_closed(client)  # and no PUBACK
    other.send(Pingreq())
    other.expect(Pingresp)
    assert len(logged_failures) == 1
    logged_failures.clear()
