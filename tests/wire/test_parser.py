"""The parser as a stream: chunks, bounds, cost, and what hostile peers send."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttd.wire.codes import ReasonCode
from mqttd.wire.errors import ProtocolViolation
from mqttd.wire.packets import Connect, Packet, Pingreq, Publish, Pubrel, Will
from mqttd.wire.parser import Parser
from mqttd.wire.properties import passthrough_of
from mqttd.wire.serializer import serialize
from tests.conftest import interpreted
from tests.vectors import compile_wire
from tests.wire.strategies import connects, from_client, from_server

CONNECT_311 = compile_wire('10 <"MQTT" 04 02 003C "abc">')
CONNECT_5 = compile_wire('10 <"MQTT" 05 02 003C {} "abc">')
VERSIONS = st.sampled_from([3, 4, 5])


def drain(parser: Parser) -> list[Packet]:
    packets = []
    while (packet := parser.next_packet()) is not None:
        packets.append(packet)
    return packets


def connected(version: int = 5, maximum_packet_size: int = 1 << 20, **limits: Any) -> Parser:
    parser = Parser(maximum_packet_size, **limits)
    parser.version = version
    return parser


def violation(parser: Parser, data: bytes) -> ProtocolViolation:
    parser.feed(data)
    with pytest.raises(ProtocolViolation) as caught:
        drain(parser)
    return caught.value


def chop(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


# --- round trips and chunking ----------------------------------------------


@given(data=st.data(), version=VERSIONS, cuts=st.lists(st.integers(0, 1 << 20), max_size=30))
def test_client_packets_survive_the_wire_in_any_chunks(
    data: st.DataObject, version: int, cuts: list[int]
) -> None:
    packets: list[Packet] = [data.draw(connects(version))]
    packets += data.draw(st.lists(from_client(version), max_size=8))
    wire = b"".join(serialize(packet, version) for packet in packets)
    for packet in packets:
        message = packet.will if isinstance(packet, Connect) else packet
        if isinstance(message, Will | Publish):
            message.passthrough = passthrough_of(message.properties)
    parser = Parser(1 << 20)
    received = []
    for chunk in chop(wire, cuts):
        parser.feed(chunk)
        received += drain(parser)
    assert received == packets
    assert parser.pending == 0
    assert parser.version == version


@given(data=st.data(), version=VERSIONS, cuts=st.lists(st.integers(0, 1 << 20), max_size=30))
def test_server_packets_survive_the_wire_in_any_chunks(
    data: st.DataObject, version: int, cuts: list[int]
) -> None:
    packets = data.draw(st.lists(from_server(version), max_size=8))
    wire = b"".join(serialize(packet, version) for packet in packets)
    for packet in packets:
        if isinstance(packet, Publish):
            packet.passthrough = passthrough_of(packet.properties)
    parser = Parser(1 << 20, server_side=False)
    parser.version = version
    for chunk in chop(wire, cuts):
        parser.feed(chunk)
    assert drain(parser) == packets


@given(data=st.binary(max_size=200), version=VERSIONS, server_side=st.booleans())
def test_garbage_raises_nothing_but_violations(
    data: bytes, version: int, server_side: bool
) -> None:
    outcomes = []
    for chunks in ([data], [data[i : i + 1] for i in range(len(data))]):
        parser = Parser(1000, server_side=server_side)
        parser.version = version
        packets = []
        reason = None
        try:
            for chunk in chunks:
                parser.feed(chunk)
                packets += drain(parser)
        except ProtocolViolation as caught:
            reason = caught.reason
        outcomes.append((packets, reason))
    assert outcomes[0] == outcomes[1]


def test_feeding_does_not_parse_and_parsing_needs_no_feeding() -> None:
    parser = Parser(1000)
    parser.feed(CONNECT_311)
    parser.feed(b"\xc0\x00\xc0")
    parser.feed(b"\x00")
    assert parser.version == 0
    assert parser.pending == len(CONNECT_311) + 4
    assert [packet.type.name for packet in drain(parser)] == ["CONNECT", "PINGREQ", "PINGREQ"]
    assert parser.version == 4
    assert parser.pending == 0


def test_empty_chunks_change_nothing() -> None:
    parser = Parser(1000)
    for byte in CONNECT_311:
        parser.feed(b"")
        assert parser.next_packet() is None
        parser.feed(bytes((byte,)))
    assert parser.next_packet() is not None


def test_packets_are_taken_one_by_one_while_more_is_fed() -> None:
    """A paused connection: one packet at a time, the rest kept."""
    parser = connected(4)
    frame = serialize(Publish("t", b"x" * 100), 4)
    for _ in range(50):
        parser.feed(frame * 2)
        assert parser.next_packet() is not None
    assert len(drain(parser)) == 50
    assert parser.pending == 0


# --- cost ------------------------------------------------------------------


def calls_of(parser: Parser, chunks: list[bytes]) -> int:
    """Python function calls that it takes to parse *chunks*."""
    calls = 0

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(profile)
    try:
        for chunk in chunks:
            parser.feed(chunk)
            parser.next_packet()
    finally:
        sys.setprofile(None)
    return calls


class CountingParser(Parser):
    """Adds up the bytes that are copied when chunks are joined."""

    __slots__ = ("copied",)

    def __init__(self) -> None:
        super().__init__(1 << 24)
        self.version = 5
        self.copied = 0

    def _gather(self, held: int) -> bool:
        joined = super()._gather(held)
        if joined:
            self.copied += len(self._buffer)
        return joined

    def _note_small(self) -> None:
        before = len(self._chunks)
        super()._note_small()
        if len(self._chunks) < before:
            self.copied += len(self._chunks[-1])


@interpreted
@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_a_large_packet_in_small_chunks_is_copied_twice_at_most(chunk_size: int) -> None:
    size = 200_000
    frame = serialize(Publish("t", bytes(size)), 5)
    parser = CountingParser()
    packet = None
    for start in range(0, len(frame), chunk_size):
        parser.feed(frame[start : start + chunk_size])
        packet = parser.next_packet()
    assert isinstance(packet, Publish)
    assert len(packet.payload) == size
    assert parser.copied < 2.1 * size


@pytest.mark.parametrize("chunk_size", [1, 2, 50])
def test_half_a_packet_in_small_chunks_takes_little_more_than_its_bytes(chunk_size: int) -> None:
    size = 200_000
    frame = serialize(Publish("t", bytes(size)), 5)
    parser = connected()
    tracemalloc.start()
    try:
        for start in range(0, size, chunk_size):
            parser.feed(frame[start : start + chunk_size])
            assert parser.next_packet() is None
        assert tracemalloc.get_traced_memory()[0] < 2 * size
    finally:
        tracemalloc.stop()


@interpreted
def test_dribbled_packets_cost_the_same_however_many() -> None:
    frame = serialize(Publish("t", bytes(200)), 5)

    def work(count: int) -> int:
        stream = frame * count
        return calls_of(connected(), [stream[i : i + 1] for i in range(len(stream))])

    assert work(40) < 11 * work(4)


@interpreted
def test_many_packets_in_one_chunk_copy_nothing() -> None:
    parser = CountingParser()
    parser.feed(serialize(Publish("t", bytes(200)), 5) * 2000)
    assert len(drain(parser)) == 2000
    assert parser.copied == 0


@interpreted
def test_a_backlog_is_copied_once_however_slowly_it_is_taken() -> None:
    parser = CountingParser()
    frame = serialize(Publish("t", bytes(200)), 5)
    stream = frame * 1000
    for start in range(0, len(stream), 999):
        parser.feed(stream[start : start + 999])
    assert len(drain(parser)) == 1000
    assert parser.copied < 2 * len(stream)


@interpreted
@pytest.mark.parametrize("count", [10_000])
def test_item25_user_properties_cost_linear_work_and_have_a_cap(count: int) -> None:
    def connect(pairs: int) -> bytes:
        packet = Connect(client_id="a", version=5)
        packet.properties["user_property"] = [("k", "v")] * pairs
        return serialize(packet, 5)

    def work(pairs: int) -> int:
        return calls_of(Parser(1 << 20, maximum_user_properties=1 << 20), [connect(pairs)])

    assert work(count) < 11 * work(count // 10)
    refused = violation(Parser(1 << 20), connect(count))
    assert refused.reason == ReasonCode.QUOTA_EXCEEDED


def test_item25_the_cap_stops_the_work() -> None:
    packet = Connect(client_id="a", version=5)
    packet.properties["user_property"] = [("k", "v")] * 100_000
    wire = serialize(packet, 5)
    parser = Parser(1 << 20)
    tracemalloc.start()
    try:
        assert violation(parser, wire).reason == ReasonCode.QUOTA_EXCEEDED
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("allowed", [0, 1, 3])
def test_user_properties_up_to_the_cap_are_taken(allowed: int) -> None:
    def publish(pairs: int) -> bytes:
        return compile_wire('30 <"t" {' + '26 "k" "v"' * pairs + "}>")

    parser = connected(maximum_user_properties=allowed)
    parser.feed(publish(allowed))
    assert parser.next_packet() is not None
    assert violation(parser, publish(allowed + 1)).reason == ReasonCode.QUOTA_EXCEEDED


@pytest.mark.parametrize("version", [4, 5])
def test_item40_filters_up_to_the_cap_are_taken(version: int) -> None:
    empty = "{}" if version == 5 else ""
    for first, entry in (("82", '"a" 00'), ("A2", '"a"')):
        parser = connected(version, maximum_filters=3)
        parser.feed(compile_wire(f"{first} <0001 {empty} {entry * 3}>"))
        assert parser.next_packet() is not None
        refused = violation(parser, compile_wire(f"{first} <0001 {empty} {entry * 4}>"))
        assert refused.reason == ReasonCode.QUOTA_EXCEEDED


# --- bounds ----------------------------------------------------------------


@pytest.mark.statement("MQTT-3.1.0-1", "MQTT311-3.1.0-1")
@pytest.mark.parametrize("first", [byte for byte in range(256) if byte >> 4 != 1])
def test_item6_a_first_byte_other_than_connect_is_refused_at_once(first: int) -> None:
    parser = Parser(1 << 20)
    assert violation(parser, bytes((first,))).reason == ReasonCode.PROTOCOL_ERROR
    assert parser.version == 0
    assert parser.pending == 0


@pytest.mark.parametrize(
    "opening",
    [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes.fromhex("1603010200010001fc0303"), b"\r\n"],
    ids=["http", "tls-client-hello", "newline"],
)
def test_item12_other_protocols_are_refused_and_nothing_is_kept(opening: bytes) -> None:
    parser = Parser(1 << 20)
    violation(parser, opening)
    parser.feed(b"x" * 100_000)
    assert parser.pending == 0
    assert parser.version == 0


@pytest.mark.parametrize("version", [3, 4, 5])
def test_item3_a_packet_over_the_limit_is_refused_on_its_header(version: int) -> None:
    parser = connected(version, maximum_packet_size=100)
    parser.feed(compile_wire("30 62 0001"))
    assert parser.next_packet() is None  # 100 bytes in all: taken
    parser = connected(version, maximum_packet_size=100)
    assert violation(parser, b"\x30\x63").reason == ReasonCode.PACKET_TOO_LARGE
    assert parser.pending == 0


@pytest.mark.parametrize("behind", ["", "00", "96", "9696"])
def test_item3_the_length_is_judged_whatever_comes_behind_it(behind: str) -> None:
    parser = connected(maximum_packet_size=100)
    refused = violation(parser, bytes.fromhex("30 E0 21" + behind))
    assert refused.reason == ReasonCode.PACKET_TOO_LARGE


def test_item3_an_oversized_connect_is_refused_before_its_body() -> None:
    parser = Parser(1000)
    assert violation(parser, b"\x10\xff\xff\xff\x7f").reason == ReasonCode.PACKET_TOO_LARGE
    assert parser.version == 0
    parser.feed(b"x" * 100_000)
    assert parser.pending == 0


@pytest.mark.parametrize(
    ("opening", "version"),
    [
        ("10 FF7F 0004 'MQTT' 05", 5),
        ("10 FF7F 0004 'MQTT' 04", 4),
        ("10 FF7F 0004 'MQTT' 84", 4),
        ("10 FF7F 0006 'MQIsdp' 03", 3),
        ("10 FF7F 0004 'MQTT'", 0),
        ("10 FF7F 0004 'HTTP' 05", 0),
    ],
)
def test_an_oversized_connect_tells_its_version_when_it_is_there(
    opening: str, version: int
) -> None:
    parser = Parser(1000)
    assert violation(parser, compile_wire(opening)).reason == ReasonCode.PACKET_TOO_LARGE
    assert parser.version == version


@pytest.mark.parametrize(
    ("wire", "version"),
    [
        ('10 <"MQTT" 04 03 0000 "a">', 4),
        ('10 <"MQTT" 05 03 0000 {} "a">', 5),
        ('10 <"MQIsdp" 03 1E 0000 "a">', 3),
        ('10 <"MQTT" 06 02 0000 "a">', 4),
        ('10 <"MQIsdp" 04 02 0000 "a">', 3),
        ('10 <"HTTP" 04 02 0000 "a">', 0),
    ],
)
def test_a_bad_connect_tells_the_version_to_answer_in(wire: str, version: int) -> None:
    parser = Parser(1000)
    violation(parser, compile_wire(wire))
    assert parser.version == version


@pytest.mark.statement("MQTT-3.1.0-2", "MQTT311-3.1.0-2")
@pytest.mark.parametrize("first", [CONNECT_311, CONNECT_5])
def test_a_second_connect_is_a_protocol_error(first: bytes) -> None:
    parser = Parser(1000)
    parser.feed(first)
    assert parser.next_packet() is not None
    version = parser.version
    assert violation(parser, CONNECT_5).reason == ReasonCode.PROTOCOL_ERROR
    assert parser.version == version


def test_after_a_violation_everything_is_refused_and_dropped() -> None:
    parser = connected()
    first = violation(parser, b"\x00\x00")
    again = violation(parser, b"\xc0\x00")
    assert (again.reason, again.text) == (first.reason, first.text)
    assert parser.pending == 0


def test_a_violation_keeps_no_input_alive() -> None:
    parser = connected()
    chunk = bytes(1000)
    references = sys.getrefcount(chunk)
    violation(parser, chunk)
    gc.collect()
    assert sys.getrefcount(chunk) == references


def test_half_a_packet_does_not_pin_the_chunk_it_came_in() -> None:
    parser = connected()
    chunk = b"".join([b"\xc0\x00" * 30_000, b"\x30\x05"])
    references = sys.getrefcount(chunk)
    parser.feed(chunk)
    drain(parser)
    assert sys.getrefcount(chunk) == references
    assert parser.pending == 2


def test_packets_before_a_bad_one_come_out_first() -> None:
    parser = Parser(1000)
    parser.feed(CONNECT_311 + b"\xc0\x00\x00")
    assert parser.next_packet() is not None
    assert parser.next_packet() is not None
    with pytest.raises(ProtocolViolation):
        parser.next_packet()


def test_item15_connect_with_an_acknowledgement_and_a_broken_disconnect_behind_it() -> None:
    parser = Parser(1000)
    parser.feed(bytes.fromhex("101000044d5154540502003c0321001400006202d301e0020020"))
    assert parser.next_packet() == Connect(
        version=5, keep_alive=60, properties={"receive_maximum": 20}
    )
    assert parser.next_packet() == Pubrel(0xD301)
    with pytest.raises(ProtocolViolation) as caught:
        parser.next_packet()
    assert caught.value.reason == ReasonCode.MALFORMED_PACKET


def test_item21_a_client_id_of_65535_bytes_is_taken() -> None:
    parser = Parser(1 << 20)
    parser.feed(serialize(Connect(client_id="i" * 65_535), 4))
    packet = parser.next_packet()
    assert isinstance(packet, Connect)
    assert len(packet.client_id) == 65_535


def test_item52_every_packet_id_but_0_is_taken() -> None:
    parser = connected(4)
    for packet_id in (1, 255, 256, 65_535):
        parser.feed(b"\x32\x05\x00\x01t" + packet_id.to_bytes(2, "big"))
        packet = parser.next_packet()
        assert isinstance(packet, Publish)
        assert packet.packet_id == packet_id


def test_topics_that_come_again_are_still_told_apart() -> None:
    parser = connected(4)
    topics = [f"t/{number % 100}" for number in range(1000)]
    for topic in topics:
        parser.feed(serialize(Publish(topic), 4))
    assert [getattr(packet, "topic", "") for packet in drain(parser)] == topics


def test_a_bad_topic_is_refused_each_time() -> None:
    for _ in range(2):
        parser = connected(4)
        parser.feed(serialize(Publish("good"), 4))
        drain(parser)
        refused = violation(parser, serialize(Publish("bad/#"), 4))
        assert refused.reason == ReasonCode.TOPIC_NAME_INVALID


# --- what travels on -------------------------------------------------------


@pytest.mark.statement(
    "MQTT-3.3.2-4",
    "MQTT-3.3.2-15",
    "MQTT-3.3.2-16",
    "MQTT-3.3.2-17",
    "MQTT-3.3.2-18",
    "MQTT-3.3.2-20",
)
@pytest.mark.parametrize(
    ("properties", "passthrough"),
    [
        ("", ""),
        ('26 "a" "1" 01 01 26 "a" "2"', '26 "a" "1" 01 01 26 "a" "2"'),
        ('02 0000000A 03 "c"', '03 "c"'),
        ('03 "c" 23 0001', '03 "c"'),
        ('08 "r" 02 0000000A 09 0001 FF 23 0001 26 "k" "v"', '08 "r" 09 0001 FF 26 "k" "v"'),
        ("23 0001 02 00000000", ""),
    ],
)
def test_passthrough_is_what_came_without_the_hop_own_properties(
    properties: str, passthrough: str
) -> None:
    parser = connected()
    parser.feed(compile_wire(f"30 <\"t\" {{{properties}}} 'x'>"))
    packet = parser.next_packet()
    assert isinstance(packet, Publish)
    assert packet.passthrough == compile_wire(passthrough)
    assert packet.payload == b"x"


@pytest.mark.statement("MQTT-3.1.3-10")
def test_passthrough_of_a_will_leaves_out_its_delay() -> None:
    parser = Parser(1000)
    parser.feed(
        compile_wire(
            '10 <"MQTT" 05 06 0000 {} "c"'
            ' {26 "b" "1" 18 00000005 26 "a" "2" 02 00000001 01 01} "w" "">'
        )
    )
    packet = parser.next_packet()
    assert isinstance(packet, Connect)
    assert packet.will is not None
    assert packet.will.passthrough == compile_wire('26 "b" "1" 26 "a" "2" 01 01')
    assert packet.will.properties["will_delay_interval"] == 5


def test_the_window_shows_a_packet_that_came_in_pieces_once_it_is_whole() -> None:
    parser = connected()
    frame = serialize(Publish("t", b"x" * 500), parser.version)
    parser.feed(frame + frame[:100])
    assert isinstance(parser.next_packet(), Publish)
    assert parser.next_packet() is None
    parser.feed(frame[100:200])
    assert parser.window() == (b"", 0)
    parser.feed(frame[200:] + b"\xc0")
    data, start = parser.window()
    assert data[start:] == frame + b"\xc0"
    parser.skip_to(start + len(frame))
    parser.feed(b"\0")
    assert parser.next_packet() == Pingreq()
    assert parser.pending == 0
