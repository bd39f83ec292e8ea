"""CONNECT byte by byte: the good, the bad and the refused.

Covers the group CONNECT of mosquitto's sequences, with NanoMQ's old accident of a
Remaining Length that ends within the packet. See ``test_sequences.py`` for where
mqttd differs.
"""

from __future__ import annotations

import pytest

from mqttd.testing import VirtualBroker
from mqttd.wire.codes import MQTT5, MQTT31, MQTT311
from mqttd.wire.packets import Connack
from tests.interop.support import (
    all_versions,
    block,
    closed_with,
    connect,
    frame,
    is_alive,
    number,
    text,
)

ERROR = 0x82


GOOD_CONNECTS = {
    "least": connect(MQTT311, 0x02, text("p")),
    "no id, clean": connect(MQTT311, 0x02, text("")),
    "will": connect(MQTT311, 0x06, text("p"), text("p"), text("p")),
    "empty user name": connect(MQTT311, 0x82, text("p"), text("")),
    "user name and password": connect(MQTT311, 0xC2, text("p"), text("p"), text("p")),
    "null in the password": connect(MQTT311, 0xC2, text("p"), text("p"), text("to\0")),
    "3.1": connect(MQTT31, 0x02, text("p")),
    "3.1, clean session 0": connect(MQTT31, 0x00, text("p")),
    # 3.1 does not say that the bit is to be looked at.
    "3.1, reserved bit": connect(MQTT31, 0x01, text("p")),
    # 3.1 does not use the flags of its fixed header.
    "3.1, header flags": connect(MQTT31, 0x02, text("p"), first=0x14),
    "5.0": connect(MQTT5, 0x02, text("p")),
    "5.0, user name": connect(MQTT5, 0x82, text("p"), text("p")),
    "5.0, password alone": connect(MQTT5, 0x42, text("p"), text("p")),
    "5.0, will": connect(MQTT5, 0x06, text("p"), block(), text("p"), text("p")),
}


@pytest.mark.parametrize("data", GOOD_CONNECTS.values(), ids=GOOD_CONNECTS)
def test_good_connects(broker: VirtualBroker, data: bytes) -> None:
    level = data[10] if b"MQIsdp" in data else data[8]
    client = broker.open(level)
    client.send_bytes(data)
    answer = client.expect(Connack, reason=0, session_present=False)
    assert is_alive(client)
    if level != MQTT5:
        assert answer.properties == {}


BAD_CONNECTS = {
    "cut before the id": connect(MQTT311, 0x02),
    "will flag 0, will QoS 1": connect(MQTT311, 0x0A, text("p")),
    "will flag 0, will retain": connect(MQTT311, 0x22, text("p")),
    "will QoS 3": connect(MQTT311, 0x1E, text("p"), text("p"), text("p")),
    "will without topic or message": connect(MQTT311, 0x06, text("p")),
    "will without message": connect(MQTT311, 0x06, text("p"), text("p")),
    "reserved bit": connect(MQTT311, 0x03, text("p")),
    "more than the id": connect(MQTT311, 0x02, text("p"), text("p")),
    "no user name": connect(MQTT311, 0x82, text("p")),
    "password without user name": connect(MQTT311, 0x42, text("p"), text("p")),
    "password that no flag tells": connect(MQTT311, 0x82, text("p"), text("p"), text("p")),
    "no password": connect(MQTT311, 0xC2, text("p"), text("p")),
    "short name": frame(0x10, text("MQT"), b"\4\2", number(10), text("p")),
    "no name": frame(0x10, text(""), b"\4\2", number(10), text("p")),
    "long name": frame(0x10, text("MQTTT"), b"\4\2", number(10), text("p")),
    "other name": frame(0x10, text("MQTU"), b"\4\2", number(10), text("p")),
    **{
        f"flags {flags}": connect(MQTT311, 2, text("p"), first=0x10 | flags)
        for flags in (1, 2, 4, 8)
    },
    **{
        f"{what} with {name}": data
        for name, bad in {
            "null": b"top\0\0",
            "U+D800": b"to\xed\xa0\x80",
            "U+DFFF": b"to\xed\xbf\xbf",
        }.items()
        for what, data in {
            "client id": connect(MQTT311, 0x02, text(bad)),
            "will topic": connect(MQTT311, 0x06, text("p"), text(bad), text("p")),
            "user name": connect(MQTT311, 0x82, text("p"), text(bad)),
        }.items()
    },
    # A length that ends within the packet: the rest is no packet either.
    "length too small": b"\x10\x07" + connect(MQTT311, 0xC2, text("id"), text("u"), text("p"))[2:],
    "5.0, more than the id": connect(MQTT5, 0x02, text("q"), text("q")),
    "5.0, no user name": connect(MQTT5, 0x82, text("p")),
    "5.0, no password": connect(MQTT5, 0xC2, text("p"), text("p")),
    "5.0, null in the client id": connect(MQTT5, 0x02, text(b"top\0\0")),
    "5.0, null in the user name": connect(MQTT5, 0x82, text("p"), text(b"top\0\0")),
}


@pytest.mark.parametrize("data", BAD_CONNECTS.values(), ids=BAD_CONNECTS)
def test_bad_connects(broker: VirtualBroker, data: bytes) -> None:
    client = broker.open(MQTT5 if b"MQTT\x05" in data else MQTT311)
    client.send_bytes(data)
    answers = client.take(Connack)
    client.expect_nothing()
    assert client.closed
    assert all(answer.reason for answer in answers)
    assert not broker.broker.sessions


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(connect(MQTT311, 0x00, text("")), 2, id="no id, clean session 0"),
        pytest.param(connect(MQTT31, 0x02, text("")), 2, id="3.1, no id"),
        *(
            pytest.param(
                frame(0x10, text(name), bytes((level, 2)), number(10), text("p")),
                1,
                id=f"{name} {level}",
            )
            for name in ("MQTT", "MQIsdp")
            for level in (2, 6)
        ),
    ],
)
def test_refused_connects(broker: VirtualBroker, data: bytes, code: int) -> None:
    client = broker.open(MQTT311)
    client.send_bytes(data)
    client.expect(Connack, reason=code)
    assert client.closed


@all_versions
def test_connect_comes_once(broker: VirtualBroker, version: int) -> None:
    client = broker.connect("c", version)
    client.send_bytes(connect(version, 0x02, text("p")))
    closed_with(client, ERROR)


def test_an_unknown_method_of_authentication(broker: VirtualBroker) -> None:
    client = broker.open()
    properties = b"\x15" + text("unsupported") + b"\x16" + text("test")
    client.send_bytes(frame(0x10, text("MQTT"), b"\5\2", number(10), block(properties), text("p")))
    client.expect(Connack, reason=0x8C)
    assert client.closed


def test_a_maximum_packet_size_too_small_for_any_answer(broker: VirtualBroker) -> None:
    client = broker.open()
    client.send_bytes(
        frame(0x10, text("MQTT"), b"\5\2", number(10), block(b"\x27" + number(2, 4)), text("p"))
    )
    client.expect_nothing()
    assert client.closed
