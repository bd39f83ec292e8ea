"""Every property in every packet that a client sends: alone, twice, cut off.

Covers the groups "ALLOWED PROPERTIES" and "DISALLOWED PROPERTIES" of mosquitto's
sequences, for all packets and the will. What may stand where is the table of
section 2.2.2.2. On purpose otherwise: a property that does not belong to its
packet is malformed (0x81) by that section; mosquitto says protocol error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.packets import Connack
from tests.interop.support import block, closed_with, frame, number, text

MALFORMED = 0x81
ERROR = 0x82


class Property(NamedTuple):
    name: str
    #: A value that is good wherever the property may stand.
    value: bytes
    packets: str
    may_repeat: bool = False


ACKNOWLEDGEMENTS = "PUBACK PUBREC PUBREL PUBCOMP"
STRING = text("p")
PROPERTIES = {
    0x01: Property("Payload Format Indicator", b"\1", "PUBLISH WILL"),
    0x02: Property("Message Expiry Interval", number(9, 4), "PUBLISH WILL"),
    0x03: Property("Content Type", STRING, "PUBLISH WILL"),
    0x08: Property("Response Topic", STRING, "PUBLISH WILL"),
    0x09: Property("Correlation Data", STRING, "PUBLISH WILL"),
    0x0B: Property("Subscription Identifier", b"\1", "SUBSCRIBE"),
    0x11: Property("Session Expiry Interval", number(0, 4), "CONNECT DISCONNECT"),
    0x12: Property("Assigned Client Identifier", STRING, ""),
    0x13: Property("Server Keep Alive", number(9), ""),
    0x15: Property("Authentication Method", STRING, "CONNECT AUTH"),
    0x16: Property("Authentication Data", STRING, "CONNECT AUTH"),
    0x17: Property("Request Problem Information", b"\1", "CONNECT"),
    0x18: Property("Will Delay Interval", number(9, 4), "WILL"),
    0x19: Property("Request Response Information", b"\1", "CONNECT"),
    0x1A: Property("Response Information", STRING, ""),
    0x1C: Property("Server Reference", STRING, "DISCONNECT"),
    0x1F: Property("Reason String", STRING, f"{ACKNOWLEDGEMENTS} DISCONNECT AUTH"),
    0x21: Property("Receive Maximum", number(9), "CONNECT"),
    0x22: Property("Topic Alias Maximum", number(9), "CONNECT"),
    0x23: Property("Topic Alias", number(1), "PUBLISH"),
    0x24: Property("Maximum QoS", b"\1", ""),
    0x25: Property("Retain Available", b"\1", ""),
    0x26: Property(
        "User Property",
        STRING + STRING,
        f"CONNECT WILL PUBLISH {ACKNOWLEDGEMENTS} SUBSCRIBE UNSUBSCRIBE DISCONNECT AUTH",
        True,
    ),
    0x27: Property("Maximum Packet Size", number(1000, 4), "CONNECT"),
    0x28: Property("Wildcard Subscription Available", b"\1", ""),
    0x29: Property("Subscription Identifier Available", b"\1", ""),
    0x2A: Property("Shared Subscription Available", b"\1", ""),
}

ID = number(7)


def _connect(properties: bytes, will: bytes | None = None) -> bytes:
    flags = b"\x05\x02" if will is None else b"\x05\x06"
    rest = b"" if will is None else block(will) + text("p") + text("p")
    return frame(0x10, text("MQTT"), flags, number(10), block(properties), text("c"), rest)


#: How each packet carries properties.
PACKETS: dict[str, Callable[[bytes], bytes]] = {
    "CONNECT": _connect,
    "WILL": lambda properties: _connect(b"", properties),
    "PUBLISH": lambda properties: frame(0x32, text("t"), ID, block(properties), b"payload"),
    "PUBACK": lambda properties: frame(0x40, ID, b"\0", block(properties)),
    "PUBREC": lambda properties: frame(0x50, ID, b"\0", block(properties)),
    "PUBREL": lambda properties: frame(0x62, ID, b"\0", block(properties)),
    "PUBCOMP": lambda properties: frame(0x70, ID, b"\0", block(properties)),
    "SUBSCRIBE": lambda properties: frame(0x82, ID, block(properties), text("p"), b"\0"),
    "UNSUBSCRIBE": lambda properties: frame(0xA2, ID, block(properties), text("p")),
    "DISCONNECT": lambda properties: frame(0xE0, b"\0", block(properties)),
}

packets = pytest.mark.parametrize("packet", PACKETS)
properties = pytest.mark.parametrize(
    "identifier", PROPERTIES, ids=[each.name for each in PROPERTIES.values()]
)


def send(packet: str, data: bytes) -> VirtualClient:
    """A client that has sent *packet* with *data* as its properties."""
    broker = VirtualBroker()
    client = broker.open() if packet in ("CONNECT", "WILL") else broker.connect("c")
    client.send_bytes(PACKETS[packet](data))
    return client


def out_of_place(client: VirtualClient, packet: str, identifier: int) -> None:
    # That one belongs to PUBLISH, but not from a client (section 3.3.4).
    from_server_only = (packet, identifier) == ("PUBLISH", 0x0B)
    refused(client, packet, ERROR if from_server_only else MALFORMED)


def refused(client: VirtualClient, packet: str, *reasons: int) -> None:
    if packet in ("CONNECT", "WILL"):
        assert client.expect(Connack).reason in reasons
        client.expect_nothing()
        assert client.closed
    else:
        closed_with(client, *reasons)


def accepted(client: VirtualClient, packet: str) -> None:
    if packet == "DISCONNECT":
        client.expect_nothing()
        assert client.closed
    else:
        if packet in ("CONNECT", "WILL"):
            client.expect(Connack, reason=0)
        assert not client.closed


@packets
@properties
def test_a_property_stands_where_it_belongs(packet: str, identifier: int) -> None:
    found = PROPERTIES[identifier]
    client = send(packet, bytes((identifier,)) + found.value)
    if packet not in found.packets.split():
        out_of_place(client, packet, identifier)
    elif identifier == 0x15:
        refused(client, packet, 0x8C)  # Nobody has told the broker of this method.
    elif identifier == 0x16:
        refused(client, packet, ERROR)  # Data without a method.
    else:
        accepted(client, packet)


@packets
@properties
def test_a_property_stands_once(packet: str, identifier: int) -> None:
    found = PROPERTIES[identifier]
    client = send(packet, (bytes((identifier,)) + found.value) * 2)
    if packet not in found.packets.split():
        out_of_place(client, packet, identifier)
    elif found.may_repeat:
        accepted(client, packet)
    else:
        refused(client, packet, ERROR)


@packets
@properties
def test_a_property_is_not_cut_off(packet: str, identifier: int) -> None:
    value = PROPERTIES[identifier].value
    for length in range(len(value)):
        client = send(packet, bytes((identifier,)) + value[:length])
        refused(client, packet, MALFORMED)


UNKNOWN = [0x00, 0x04, 0x05, 0x06, 0x07, 0x0A, 0x0C, 0x0D, 0x0E, 0x0F, 0x10, 0x14, 0x1B, 0x1D]
LONG = ["8000", "8001", "ff7f", "808001", "ffff7f", "80808001", "ffffff7f", "8080808001"]


@packets
@pytest.mark.parametrize(
    "identifier", [*(f"{each:02x}" for each in (*UNKNOWN, 0x1E, 0x20, 0x2B, 0x7F)), *LONG]
)
def test_unknown_properties(packet: str, identifier: str) -> None:
    refused(send(packet, bytes.fromhex(identifier) + b"\1"), packet, MALFORMED)


@packets
@pytest.mark.parametrize("pair", [("", "p"), ("p", ""), ("", "")])
def test_user_properties_may_be_empty(packet: str, pair: tuple[str, str]) -> None:
    accepted(send(packet, b"\x26" + text(pair[0]) + text(pair[1])), packet)


@pytest.mark.parametrize(
    ("packet", "data", "reason"),
    [
        pytest.param("CONNECT", b"\x21\0\0", ERROR, id="Receive Maximum 0"),
        pytest.param("CONNECT", b"\x27\0\0\0\0", ERROR, id="Maximum Packet Size 0"),
        pytest.param("CONNECT", b"\x17\2", ERROR, id="Request Problem Information 2"),
        pytest.param("CONNECT", b"\x19\2", ERROR, id="Request Response Information 2"),
        pytest.param("PUBLISH", b"\x01\2", ERROR, id="Payload Format Indicator 2"),
        pytest.param("WILL", b"\x01\2", ERROR, id="Payload Format Indicator 2 of a will"),
        pytest.param("PUBLISH", b"\x23\0\0", 0x94, id="Topic Alias 0"),
        pytest.param("PUBLISH", b"\x23\x7f\xff", 0x94, id="Topic Alias over the maximum"),
        pytest.param("PUBLISH", b"\x08" + text("a/+"), ERROR, id="wildcard in Response Topic"),
        pytest.param("PUBLISH", b"\x08" + text("#"), ERROR, id="# as Response Topic"),
        pytest.param("WILL", b"\x08" + text("a/#"), ERROR, id="wildcard in a will's"),
        pytest.param("SUBSCRIBE", b"\x0b\0", ERROR, id="Subscription Identifier 0"),
        pytest.param("SUBSCRIBE", b"\x0b\x80\0", MALFORMED, id="overlong identifier"),
        pytest.param("SUBSCRIBE", b"\x0b\x80\x80\x80\x80\1", MALFORMED, id="five bytes"),
    ],
)
def test_bad_values(packet: str, data: bytes, reason: int) -> None:
    refused(send(packet, data), packet, reason)


@pytest.mark.parametrize("identifier", ["01", "7f", "8001", "ff7f", "808001", "ffffff7f"])
def test_good_subscription_identifiers(identifier: str) -> None:
    accepted(send("SUBSCRIBE", b"\x0b" + bytes.fromhex(identifier)), "SUBSCRIBE")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x27\xff\xff\xff\xff", id="largest Maximum Packet Size"),
        pytest.param(b"\x22\0\0", id="Topic Alias Maximum 0"),
        pytest.param(b"\x11\xff\xff\xff\xff", id="endless session"),
    ],
)
def test_good_values_of_connect(data: bytes) -> None:
    accepted(send("CONNECT", data), "CONNECT")


def test_the_length_of_the_properties_is_within_the_packet() -> None:
    for data in (b"\x32\x06\0\1t\0\7\x7f", b"\x32\x06\0\1t\0\7\x80", b"\xe0\3\0\1\0"):
        client = VirtualBroker().connect("c")
        client.send_bytes(data)
        closed_with(client, MALFORMED)
