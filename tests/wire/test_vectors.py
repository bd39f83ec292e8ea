"""The wire vectors through the codec, both ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from attrs import evolve

from mqttd.wire.errors import ProtocolViolation
from mqttd.wire.packets import Connect, Packet, Publish
from mqttd.wire.parser import Parser
from mqttd.wire.serializer import serialize
from tests.vectors import CLIENT, MALFORMED_VECTORS, VALID, Malformed, Vector


def cases(rows: Iterable[Vector] | Iterable[Malformed]) -> pytest.MarkDecorator:
    """Every row in every one of its versions."""
    return pytest.mark.parametrize(
        ("row", "version"),
        [
            pytest.param(row, version, id=f"{row.name}-v{version}")
            for row in rows
            for version in row.versions
        ],
    )


CANONICAL = [row for row in VALID if row.canonical]
OTHER_FORMS = [row for row in VALID if not row.canonical]


def parser_for(row: Vector | Malformed, version: int) -> Parser:
    """A parser that expects *row*: past CONNECT, unless the row is one."""
    parser = Parser(1 << 20, server_side=row.sender == CLIENT)
    if row.sender != CLIENT or row.wire[0] >> 4 != 1:
        parser.version = version
    return parser


def without_passthrough(packet: Packet | None) -> Packet | None:
    if isinstance(packet, Publish):
        return evolve(packet, passthrough=b"")
    if isinstance(packet, Connect) and packet.will is not None:
        return evolve(packet, will=evolve(packet.will, passthrough=b""))
    return packet


@cases(VALID)
def test_decodes(row: Vector, version: int) -> None:
    parser = parser_for(row, version)
    parser.feed(row.wire)
    assert without_passthrough(parser.next_packet()) == row.packet
    assert parser.next_packet() is None
    assert parser.pending == 0
    assert parser.version == version


@cases(VALID)
def test_decodes_byte_by_byte_and_leaves_what_follows(row: Vector, version: int) -> None:
    parser = parser_for(row, version)
    for index in range(len(row.wire)):
        assert parser.next_packet() is None
        parser.feed(row.wire[index : index + 1])
    parser.feed(b"\xe0")
    assert without_passthrough(parser.next_packet()) == row.packet
    assert parser.pending == 1


@cases(CANONICAL)
def test_encodes(row: Vector, version: int) -> None:
    assert serialize(row.packet, version).hex(" ") == row.wire.hex(" ")


@cases(OTHER_FORMS)
def test_has_another_form_that_is_not_longer(row: Vector, version: int) -> None:
    assert serialize(row.packet, version) != row.wire
    assert len(serialize(row.packet, version)) <= len(row.wire)


@cases(MALFORMED_VECTORS)
def test_is_refused(row: Malformed, version: int) -> None:
    parser = parser_for(row, version)
    parser.feed(row.wire)
    with pytest.raises(ProtocolViolation) as caught:
        parser.next_packet()
    assert caught.value.reason == row.reason
    assert caught.value.text
    assert parser.pending == 0


@cases(MALFORMED_VECTORS)
def test_is_refused_byte_by_byte(row: Malformed, version: int) -> None:
    parser = parser_for(row, version)

    def dribble() -> None:
        for index in range(len(row.wire)):
            parser.feed(row.wire[index : index + 1])
            assert parser.next_packet() is None

    with pytest.raises(ProtocolViolation) as caught:
        dribble()
    assert caught.value.reason == row.reason


@cases(CANONICAL)
def test_every_shorter_packet_is_refused_or_is_another(row: Vector, version: int) -> None:
    """A body cut anywhere never raises anything but a violation."""
    head = 2 if row.wire[1] < 0x80 else 3
    body = row.wire[head:]
    for size in range(min(len(body), 127)):
        parser = parser_for(row, version)
        parser.feed(bytes((row.wire[0], size)) + body[:size])
        try:
            assert parser.next_packet() != row.packet
        except ProtocolViolation:
            assert parser.pending == 0


def test_names_are_unique() -> None:
    counts = Counter([row.name for row in VALID] + [row.name for row in MALFORMED_VECTORS])
    assert [name for name, count in counts.items() if count > 1] == []
