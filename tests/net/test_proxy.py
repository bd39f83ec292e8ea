"""PROXY headers: good ones give the true peer, all others close the connection."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address

from mqttd.net.gate import Gate
from mqttd.net.proxy import BadHeader, parse_header
from mqttd.settings import ConnectionLimits
from mqttd.testing import MemoryTransport, VirtualBroker

from .sockets import CONNACK, CONNECT, OnSockets, answer, ask, open_socket

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
PROXY, LOCAL = 0x21, 0x20
TCP4, TCP6, UNIX, UDP4 = 0x11, 0x21, 0x31, 0x12


def version2(
    source: str = "", port: int = 4321, command: int = PROXY, family: int = TCP4, rest: bytes = b""
) -> bytes:
    """A header of version 2; *rest* stands behind the addresses."""
    body = b""
    if source:
        address = ip_address(source).packed
        body = address + bytes(len(address)) + struct.pack("!HH", port, 1883)
    body += rest
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


#: Header -> the peer that it names; None: that of the socket.
GOOD: dict[str, tuple[bytes, tuple[str, int] | None]] = {
    "v1 IPv4": (b"PROXY TCP4 203.0.113.9 192.0.2.1 4321 1883\r\n", ("203.0.113.9", 4321)),
    "v1 IPv6": (b"PROXY TCP6 2001:db8::9 2001:db8::1 4321 1883\r\n", ("2001:db8::9", 4321)),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None),
    "v1 unknown with more": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    "v2 IPv4": (version2("203.0.113.9"), ("203.0.113.9", 4321)),
    "v2 IPv6": (version2("2001:db8::9", family=TCP6), ("2001:db8::9", 4321)),
    "v2 extensions": (
        version2("203.0.113.9", rest=b"\x02\x00\x04host" + b"\x04\x00\x00"),
        ("203.0.113.9", 4321),
    ),
    "v2 local": (version2(command=LOCAL, family=0), None),
    "v2 unspecified": (version2(family=0), None),
    "v2 unix": (version2(family=UNIX, rest=bytes(216)), None),
}

BAD: dict[str, bytes] = {
    "MQTT": CONNECT,
    "no line end": b"PROXY TCP4 " + b"1" * 200,
    "line too long": b"PROXY UNKNOWN " + b"x" * 100 + b"\r\n",
    "v1 without words": b"PROXY \r\n",
    "v1 port": b"PROXY TCP4 203.0.113.9 192.0.2.1 65536 1883\r\n",
    "v1 signed port": b"PROXY TCP4 203.0.113.9 192.0.2.1 +1 1883\r\n",
    "v1 address": b"PROXY TCP4 203.0.113.256 192.0.2.1 1 1883\r\n",
    "v1 second address": b"PROXY TCP4 203.0.113.25 host 1 1883\r\n",
    "v1 family mixed up": b"PROXY TCP4 2001:db8::9 192.0.2.1 1 1883\r\n",
    "v1 family": b"PROXY UDP4 203.0.113.9 192.0.2.1 1 1883\r\n",
    "v1 not ASCII": b"PROXY TCP4 203.0.113.\xff 192.0.2.1 1 1883\r\n",
    "v1 scope": b"PROXY TCP6 fe80::1%eth0 fe80::2 1 1883\r\n",
    "v1 spaces": b"PROXY  TCP4 203.0.113.9 192.0.2.1 1 1883\r\n",
    "v2 version": version2("203.0.113.9", command=0x11),
    "v2 command": version2("203.0.113.9", command=0x22),
    "v2 datagrams": version2("203.0.113.9", family=UDP4),
    "v2 short address": version2("203.0.113.9", family=TCP6),
    "v2 too long": SIGNATURE + struct.pack("!BBH", PROXY, TCP4, 65_535),
    "v2 overrun": version2("203.0.113.9", rest=b"\x02\x00\x09host"),
    "v2 half an extension": version2("203.0.113.9", rest=b"\x02\x00"),
}


@pytest.mark.parametrize("header", GOOD)
def test_a_header_names_the_peer(header: str) -> None:
    data, peer = GOOD[header]
    parsed = parse_header(data + b"rest")
    assert parsed is not None
    size, source = parsed
    assert size == len(data)
    found: Any = source
    assert (source and (found.host, found.port)) == peer


@pytest.mark.parametrize("header", GOOD)
def test_half_a_header_waits_for_more(header: str) -> None:
    data, _ = GOOD[header]
    for end in range(1, len(data)):
        assert parse_header(data[:end]) is None


@pytest.mark.parametrize("header", BAD)
def test_what_is_no_header_is_refused(header: str) -> None:
    with pytest.raises(BadHeader):
        parse_header(BAD[header])


@given(st.binary(min_size=1, max_size=300), st.sampled_from((b"", b"PROXY ", SIGNATURE)))
def test_any_bytes_are_a_header_or_refused_or_not_enough(data: bytes, start: bytes) -> None:
    data = start + data
    try:
        parsed = parse_header(data)
    except BadHeader:
        return
    assert parsed is None or 0 < parsed[0] <= len(data)


# --- before a broker, on virtual time -------------------------------------------------


class Door:
    """A virtual broker behind a gate that expects PROXY headers."""

    def __init__(self, **fields: Any) -> None:
        self.virtual = VirtualBroker()
        settings = evolve(self.virtual.listener, proxy_protocol=True, **fields)
        factory = self.virtual.factory
        factory.settings = settings
        self.gate = Gate(factory, factory, settings)
        self.metrics = self.virtual.broker.metrics

    def open(self, host: str = "127.0.0.1") -> MemoryTransport | None:
        peer = IPv4Address("TCP", host, 5000)
        protocol = self.gate.buildProtocol(peer)
        if protocol is None:
            return None
        transport = MemoryTransport(self.virtual.clock, peer, IPv4Address("TCP", "127.0.0.1", 1883))
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return transport

    def send(self, data: bytes) -> MemoryTransport:
        transport = self.open()
        assert transport is not None
        transport.send(data)
        self.virtual.advance()
        return transport


@pytest.mark.parametrize("header", GOOD)
def test_the_broker_sees_the_true_peer(header: str) -> None:
    """Catalogue 69, the good ones."""
    door = Door()
    data, peer = GOOD[header]
    transport = door.send(data + CONNECT)
    assert transport.take()[:1] == CONNACK
    (protocol,) = door.virtual.factory.protocols
    assert protocol.peer.address == (peer[0] if peer else "127.0.0.1")
    assert door.gate.connections == 1
    transport.close()
    door.virtual.advance()
    assert door.gate.connections == 0


@pytest.mark.parametrize("chunk", [1, 3, 20])
@pytest.mark.parametrize("header", GOOD)
def test_a_header_may_come_in_pieces(header: str, chunk: int) -> None:
    door = Door()
    transport = door.open()
    assert transport is not None
    data = GOOD[header][0] + CONNECT
    for start in range(0, len(data), chunk):
        transport.send(data[start : start + chunk])
    door.virtual.advance()
    assert transport.take()[:1] == CONNACK


@pytest.mark.parametrize("header", BAD)
def test_a_bad_header_closes(header: str) -> None:
    """Catalogue 69: missing, malformed, overrun."""
    door = Door()
    transport = door.send(BAD[header])
    assert transport.ending
    assert transport.take() == b""
    assert door.metrics.refused["proxy-header"] == 1
    assert door.gate.connections == 0


def test_a_second_header_is_no_mqtt() -> None:
    """Catalogue 69: twice."""
    door = Door()
    transport = door.send(GOOD["v2 IPv4"][0] * 2 + CONNECT)
    assert transport.ending
    assert transport.take() == b""


def test_half_a_header_is_cut_at_the_deadline_of_connect() -> None:
    """Catalogue 69: half."""
    door = Door(limits=ConnectionLimits(connect_timeout=10))
    transport = door.send(b"PROXY TCP4 203.0.113.9")
    door.virtual.advance(9)
    assert not transport.ending
    assert door.gate.connections == 1
    door.virtual.advance(2)
    assert transport.ending
    assert door.metrics.refused["connect-timeout"] == 1
    assert door.gate.connections == 0


def test_the_time_of_the_header_is_part_of_the_deadline() -> None:
    door = Door(limits=ConnectionLimits(connect_timeout=10))
    transport = door.send(b"PROXY TCP4 203.0.113.9")
    door.virtual.advance(8)
    transport.send(b" 192.0.2.1 1 2\r\n")
    door.virtual.advance(1.5)
    assert not transport.ending
    door.virtual.advance(1.5)
    assert transport.ending


def test_a_header_from_anyone_else_is_refused_before_it_is_read() -> None:
    """Catalogue 69: from an address that is not trusted."""
    door = Door(proxy_sources=("127.0.0.0/8",))
    assert door.open("203.0.113.1") is None
    assert door.metrics.refused["proxy-source"] == 1


def test_rules_and_limits_are_about_the_true_peer() -> None:
    door = Door(
        access=("deny 203.0.113.0/24",),
        limits=ConnectionLimits(maximum_connections_per_address=1),
    )
    assert door.send(GOOD["v1 IPv4"][0] + CONNECT).ending
    assert door.metrics.refused["access-rule"] == 1
    first = door.send(GOOD["v1 IPv6"][0] + CONNECT)
    assert first.take()[:1] == CONNACK
    second = door.send(GOOD["v2 IPv6"][0] + CONNECT)
    assert second.ending
    assert second.take() == b""
    assert door.metrics.refused["maximum-connections-per-address"] == 1
    other = door.send(b"PROXY TCP4 192.0.2.77 192.0.2.1 1 2\r\n" + CONNECT)
    assert other.take()[:1] == CONNACK


def test_connections_without_a_header_yet_count() -> None:
    door = Door(limits=ConnectionLimits(maximum_connections=2))
    assert door.open()
    assert door.open()
    assert door.open() is None
    assert door.metrics.refused["maximum-connections"] == 1
    door.gate.abort_waiting()
    assert door.gate.connections == 0


# --- on sockets -----------------------------------------------------------------------


class OnASocket(OnSockets):
    async def test_a_proxy_before_tcp(self) -> None:
        listener = await self.listen(proxy_protocol=True)
        header = GOOD["v1 IPv4"][0]
        stream = await self.client(open_socket, self.where(listener), header)
        with stream:
            stream.sendall(CONNECT)
            assert (await self.client(answer, stream))[:1] == CONNACK
            (protocol,) = listener.factory.protocols
            assert protocol.peer.address == "203.0.113.9"
        await self.until(lambda: listener.connections == 0)
        assert await self.client(ask, self.where(listener)) == b""

    async def test_a_proxy_on_a_unix_socket_is_trusted(self) -> None:
        path = str(self.folder / "socket")
        await self.listen(f"unix:{path}", proxy_protocol=True, proxy_sources=())
        assert (await self.client(ask, path, GOOD["v2 IPv4"][0] + CONNECT))[:1] == CONNACK

    async def test_listening_ends_for_those_without_a_header(self) -> None:
        listener = await self.listen(proxy_protocol=True)
        with await self.client(open_socket, self.where(listener)):
            await self.until(lambda: listener.connections == 1)
            listener.abort()
            await self.until(lambda: listener.connections == 0)
