"""Frames byte by byte, and what must come back."""

from __future__ import annotations

from typing import Any

import pytest

from mqttd.settings import BrokerSettings, ProtocolSettings, SessionSettings
from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.codes import MQTT5, MQTT31, MQTT311
from mqttd.wire.packets import Disconnect, Pingreq, Pingresp
from mqttd.wire.serializer import serialize
from mqttd.wire.strings import variable_byte_integer

each_version = pytest.mark.parametrize(
    "version", [pytest.param(MQTT311, id="3.1.1"), pytest.param(MQTT5, id="5.0")]
)
all_versions = pytest.mark.parametrize(
    "version",
    [
        pytest.param(MQTT31, id="3.1"),
        pytest.param(MQTT311, id="3.1.1"),
        pytest.param(MQTT5, id="5.0"),
    ],
)

FOR_EVER = 0xFFFF_FFFF


def broker_with(session: SessionSettings | None = None, **protocol: Any) -> VirtualBroker:
    """A broker with these protocol settings."""
    settings = ProtocolSettings(**protocol)
    return VirtualBroker(BrokerSettings(protocol=settings, session=session or SessionSettings()))


def keep(version: int, expiry: int = FOR_EVER) -> dict[str, Any]:
    """Fields of a CONNECT whose session stays."""
    more = {"session_expiry_interval": expiry} if version == MQTT5 else {}
    return {"clean_start": False, **more}


def number(value: int, size: int = 2) -> bytes:
    return value.to_bytes(size, "big")


def text(value: str | bytes) -> bytes:
    """A string, or binary data, with its length before it; valid or not."""
    data = value.encode() if isinstance(value, str) else value
    return number(len(data)) + data


def frame(first: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes((first,)) + variable_byte_integer(len(body)) + body


def block(data: bytes = b"") -> bytes:
    """Properties with their length."""
    return variable_byte_integer(len(data)) + data


def sent(client: VirtualClient) -> bytes:
    """All that came since the last look, as bytes."""
    received = b"".join(serialize(packet, client.version) for packet in client.received)
    client.received.clear()
    return received


def closed_with(client: VirtualClient, *reasons: int) -> None:
    """The broker has closed; a 5.0 client was told one of *reasons*."""
    if client.version == MQTT5 and reasons:
        assert client.expect(Disconnect).reason in reasons
    client.expect_nothing()
    assert client.closed


def payloads(client: VirtualClient) -> list[bytes]:
    """Of all messages that have come."""
    return [message.payload for message in client.messages()]


def none(version: int) -> bytes:
    """No properties, where there may be some."""
    return b"\0" if version == MQTT5 else b""


def is_alive(client: VirtualClient) -> bool:
    client.send(Pingreq())
    return bool(client.take(Pingresp))


def connect(version: int, flags: int, *payload: bytes, first: int = 0x10) -> bytes:
    """A CONNECT, byte by byte."""
    name = "MQIsdp" if version == MQTT31 else "MQTT"
    return frame(first, text(name), bytes((version, flags)), number(10), none(version), *payload)
