"""How a connection ends when the client has more to say than we want to hear."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any

from twisted.internet import reactor

from mqttd.net import protocol as module
from mqttd.net.listener import Listener
from mqttd.settings import ConnectionLimits, ProtocolSettings, TLSSettings
from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import Connect, Disconnect, Pingreq
from mqttd.wire.parser import Parser
from mqttd.wire.serializer import serialize
from tests.certificates import Authority

from .sockets import CONNACK, CONNECT, OnSockets, answer, open_socket

SMALL = ProtocolSettings(maximum_packet_size=1000)
#: Begins a PUBLISH that is far larger than SMALL lets through.
HEAD = b"\x30\xff\xff\xff\x7f"


def send_all_then_read(stream: socket.socket, data: bytes) -> bytes:
    """As a client does that looks for answers only after it has sent."""
    stream.sendall(data)
    received = bytearray()
    while piece := stream.recv(4096):
        received += piece
    return bytes(received)


def send_for_ever(stream: socket.socket) -> int:
    """How much went out before the connection ended."""
    sent = 0
    with contextlib.suppress(OSError):
        while True:
            sent += stream.send(bytes(65_536))
    return sent


class MoreThanWeRead(OnSockets):
    async def connected(self, **limits: Any) -> tuple[Any, socket.socket]:
        listener = await self.listen(protocol=SMALL, limits=ConnectionLimits(**limits))
        stream = await self.client(open_socket, self.where(listener), CONNECT)
        self.addCleanup(stream.close)
        assert (await self.client(answer, stream))[:1] == CONNACK
        return listener, stream

    async def test_a_client_in_the_middle_of_a_packet_hears_why_it_is_cut(self) -> None:
        listener, stream = await self.connected()
        data = HEAD + bytes(8_000_000)
        received = await self.client(send_all_then_read, stream, data)
        parser = Parser(1000, server_side=False)
        parser.version = 5
        parser.feed(received)
        packet = parser.next_packet()
        assert isinstance(packet, Disconnect)
        assert packet.reason == ReasonCode.PACKET_TOO_LARGE
        stream.close()
        await self.until(lambda: listener.connections == 0, 2)

    async def test_a_client_that_goes_on_sending_is_cut(self) -> None:
        listener, stream = await self.connected()
        stream.sendall(HEAD)
        sent = await self.client(send_for_ever, stream)
        # What the kernels hold between the two comes on top.
        assert sent < module.MOST_DROPPED + 16_000_000
        await self.until(lambda: listener.connections == 0, 2)

    async def test_a_client_that_neither_reads_nor_closes_is_cut_at_the_deadline(self) -> None:
        listener, stream = await self.connected(close_timeout=0.5)
        stream.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            stream.send(HEAD + bytes(8_000_000))
        await self.until(lambda: listener.connections == 0, 3)

    async def test_nothing_is_done_with_what_comes_after_the_end(self) -> None:
        _, stream = await self.connected()
        stream.sendall(HEAD + bytes(1_000_000) + serialize(Pingreq(), 5) * 1000)
        received = await self.client(send_all_then_read, stream, b"")
        assert received[:1] == b"\xe0"
        assert b"\xd0" not in received

    async def test_a_close_with_nothing_unread_is_immediate(self) -> None:
        listener, stream = await self.connected(close_timeout=60)
        stream.sendall(HEAD)
        received = await self.client(send_all_then_read, stream, b"")
        assert received[:1] == b"\xe0"
        await self.until(lambda: listener.connections == 0, 1)

    async def test_over_tls(self) -> None:
        authority = Authority()
        certificate = authority.issue("localhost").write(self.folder / "server.pem")
        listener = await self.listen(protocol=SMALL, tls=TLSSettings(certificate=certificate))
        context = ssl.create_default_context(cadata=authority.pem.decode())

        def converse() -> bytes:
            with (
                socket.create_connection(self.where(listener), timeout=60) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as stream,
            ):
                stream.sendall(CONNECT)
                stream.recv(4096)
                return send_all_then_read(stream, HEAD + bytes(3_000_000))

        received = await self.client(converse)
        assert received[:3] == b"\xe0" + received[1:2] + bytes((ReasonCode.PACKET_TOO_LARGE,))
        await self.until(lambda: listener.connections == 0, 2)

    async def test_over_tls_a_client_that_has_disconnected_is_not_waited_for(self) -> None:
        authority = Authority()
        certificate = authority.issue("localhost").write(self.folder / "server.pem")
        limits = ConnectionLimits(close_timeout=60)
        listener = await self.listen(tls=TLSSettings(certificate=certificate), limits=limits)
        context = ssl.create_default_context(cadata=authority.pem.decode())

        def converse() -> ssl.SSLSocket:
            plain = socket.create_connection(self.where(listener), timeout=60)
            stream = context.wrap_socket(plain, server_hostname="localhost")
            stream.sendall(CONNECT)
            assert stream.recv(4096)[:1] == CONNACK
            stream.sendall(serialize(Disconnect(), 5))
            return stream

        def end(stream: ssl.SSLSocket) -> bytes:
            # An end without close_notify would be an error.
            with stream:
                return stream.recv(4096)

        stream = await self.client(converse)
        await self.until(lambda: listener.connections == 0, 2)
        assert await self.client(end, stream) == b""

        def leave() -> None:
            # Its close_notify comes with DISCONNECT, or right behind.
            stream = converse()
            with contextlib.suppress(OSError):
                stream.unwrap()
            stream.close()

        await self.client(leave)
        await self.until(lambda: listener.connections == 0, 2)


class Stopping(OnSockets):
    async def test_who_has_not_sent_connect_is_cut(self) -> None:
        listener = await self.listen()
        streams = []
        for first in (b"", serialize(Connect("half", 5), 5)[:5], CONNECT):
            stream = await self.client(open_socket, self.where(listener), first)
            self.addCleanup(stream.close)
            streams.append(stream)
        idle, half, client = streams
        assert (await self.client(answer, client))[:1] == CONNACK
        await self.until(lambda: listener.connections == 3)
        await listener.stop()
        assert await self.client(answer, idle) == b""
        assert await self.client(answer, half) == b""
        client.sendall(serialize(Pingreq(), 5))
        assert await self.client(answer, client) == b"\xd0\x00"

    async def test_a_listener_held_before_it_starts_accepts_nothing_until_released(self) -> None:
        listener = Listener(reactor, self.network, (await self.listen()).settings)
        self.listeners.append(listener)
        listener.pause()
        await listener.start()
        stream = await self.client(open_socket, self.where(listener), CONNECT)
        self.addCleanup(stream.close)
        # Whoever is served by another port was accepted after this one could be.
        other = await self.client(open_socket, self.where(self.listeners[0]), CONNECT)
        self.addCleanup(other.close)
        assert (await self.client(answer, other))[:1] == CONNACK
        assert listener.connections == 0
        listener.resume()
        assert (await self.client(answer, stream))[:1] == CONNACK
