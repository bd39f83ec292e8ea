"""Listeners on real sockets: who is let in, and what happens when there is no room."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import textwrap
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.task import Clock, deferLater
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from mqttd.net.addresses import AccessRules, Networks, plain
from mqttd.net.listener import Listener, ListenError
from mqttd.settings import (
    ConnectionLimits,
    ListenerSettings,
    ProtocolSettings,
    Rate,
    SettingError,
)
from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import Connect, Pingreq, Publish, Subscribe, SubscriptionRequest
from mqttd.wire.serializer import serialize

from .sockets import CONNACK, CONNECT, LOOPBACK, OnSockets, answer, ask, open_socket


def limits(**fields: Any) -> ConnectionLimits:
    return ConnectionLimits(**fields)


class Serving(OnSockets):
    async def test_each_kind_of_endpoint(self) -> None:
        path = str(self.folder / "socket")
        for endpoint in (LOOPBACK, "tcp6:0:interface=\\:\\:1", f"unix:{path}"):
            listener = await self.listen(endpoint)
            address = path if endpoint.startswith("unix") else self.where(listener)
            assert (await self.client(ask, address))[:1] == CONNACK, endpoint

    async def test_the_peer_is_known_by_its_plain_address(self) -> None:
        listener = await self.listen("tcp6:0")
        stream = await self.client(open_socket, ("127.0.0.1", self.where(listener)[1]), CONNECT)
        with stream:
            await self.client(answer, stream)
            (protocol,) = listener.factory.protocols
            assert protocol.peer.address == "127.0.0.1"
            assert listener.factory.connections_of("127.0.0.1") == 1

    async def test_a_port_in_use_is_an_error_that_names_it(self) -> None:
        first = await self.listen()
        port = self.where(first)[1]
        with pytest.raises(ListenError, match=f"tcp:{port}:.*: Address already in use"):
            await self.listen(f"tcp:{port}:interface=127.0.0.1")

    async def test_an_endpoint_that_no_limit_can_be_put_on_is_refused(self) -> None:
        class Hidden:
            def stopListening(self) -> None:
                pass

        listener = Listener(None, self.network, ListenerSettings("memory"))
        listener._port = Hidden()
        with pytest.raises(SettingError, match="memory"):
            listener._put_gate_before()

    async def test_the_backlog_is_large(self) -> None:
        listener = await self.listen()
        assert listener._port.backlog == 4096
        other = await self.listen(LOOPBACK + ":backlog=7")
        assert other._port.backlog == 7

    async def test_buffers_and_delay_are_as_the_settings_say(self) -> None:
        listener = await self.listen(tcp_no_delay=False, receive_buffer=50_000, send_buffer=60_000)
        with await self.client(open_socket, self.where(listener)):
            await self.until(lambda: bool(listener.factory.protocols))
            (protocol,) = listener.factory.protocols
            handle = protocol.transport.getHandle()
            read = handle.getsockopt
            assert read(socket.SOL_SOCKET, socket.SO_RCVBUF) in (50_000, 100_000)
            assert read(socket.SOL_SOCKET, socket.SO_SNDBUF) in (60_000, 120_000)
            assert not protocol.transport.getTcpNoDelay()
            assert protocol.transport.getTcpKeepAlive()

    async def test_connections_after_a_reload_have_the_new_delay(self) -> None:
        async def check(inherited: bool) -> None:
            listener = await self.listen(tcp_no_delay=False)
            listener.reload(evolve(listener.settings, tcp_no_delay=True))
            if not inherited:
                # As where the socket that listens does not hand its options on.
                handle = listener._port.socket
                handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, False)
                handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, False)
                listener.factory.tells_tcp = True
            with await self.client(open_socket, self.where(listener)):
                await self.until(lambda: bool(listener.factory.protocols))
                (protocol,) = listener.factory.protocols
                assert protocol.transport.getTcpNoDelay()
                assert protocol.transport.getTcpKeepAlive()

        await check(True)
        await check(False)

    async def test_accepting_can_be_paused_and_clients_wait(self) -> None:
        listener = await self.listen()
        listener.pause()
        with await self.client(open_socket, self.where(listener), CONNECT) as stream:
            assert (await self.client(ask, self.where(await self.listen())))[:1] == CONNACK
            assert listener.connections == 0
            listener.resume()
            assert (await self.client(answer, stream))[:1] == CONNACK

    async def test_stopping_leaves_connections_and_refuses_new_ones(self) -> None:
        listener = await self.listen()
        where = self.where(listener)
        with await self.client(open_socket, where, CONNECT) as stream:
            await self.client(answer, stream)
            await listener.stop()
            await listener.stop()
            with pytest.raises(ConnectionRefusedError):
                await self.client(ask, where)
            stream.sendall(serialize(Pingreq(), 5))
            assert await self.client(answer, stream) == b"\xd0\x00"

    async def test_stopping_cuts_those_that_have_not_said_who_they_are(self) -> None:
        listener = await self.listen()
        with await self.client(open_socket, self.where(listener)) as silent:
            await self.until(lambda: listener.connections == 1)
            await listener.stop()
            assert await self.client(answer, silent) == b""

    async def test_a_client_that_goes_on_sending_still_hears_why_it_is_closed(self) -> None:
        """To close a socket before what has come was read would be a reset."""
        listener = await self.listen(protocol=ProtocolSettings(maximum_packet_size=1000))
        stream = await self.client(open_socket, self.where(listener), CONNECT)
        with stream:
            await self.client(answer, stream)
            stream.sendall(serialize(Publish("t", bytes(2_000_000)), 5))
            said = await self.client(read_all, stream, 5)
            assert (said[0], said[2]) == (0xE0, ReasonCode.PACKET_TOO_LARGE)

    async def test_a_large_message_to_a_client_that_reads_slowly(self) -> None:
        """The eager transport hands over to Twisted's when the socket is full."""
        listener = await self.listen()
        stream = await self.client(open_socket, self.where(listener), CONNECT)
        with stream:
            await self.client(answer, stream)
            stream.sendall(serialize(Subscribe(1, [SubscriptionRequest("t")]), 5))
            await self.client(answer, stream)
            payload = os.urandom(1 << 20)
            frame = serialize(Publish("t", payload), 5)
            for _ in range(8):
                self.broker.publish("t", payload)
                self.broker.publish("t", b"between")
            small = serialize(Publish("t", b"between"), 5)
            got = await self.client(read_all, stream, 1)
            assert got.startswith(frame + small)
            assert len(got) % len(frame + small) in (0, len(frame))


def read_all(stream: socket.socket, silence: float) -> bytes:
    """Everything, until nothing comes for *silence* seconds."""
    stream.settimeout(silence)
    data = bytearray()
    try:
        while piece := stream.recv(65_536):
            data += piece
            time.sleep(0.0005)
    except TimeoutError:
        pass
    return bytes(data)


class LettingIn(OnSockets):
    async def test_an_address_that_a_rule_denies(self) -> None:
        listener = await self.listen(access=("deny 127.0.0.0/8", "allow all"))
        assert await self.client(ask, self.where(listener)) == b""
        assert self.refused == {"access-rule": 1}
        assert listener.connections == 0

    async def test_more_connections_than_allowed(self) -> None:
        listener = await self.listen(limits=limits(maximum_connections=2))
        with ExitStack() as stack:
            streams = [
                stack.enter_context(
                    await self.client(
                        open_socket, self.where(listener), serialize(Connect(name, 5), 5)
                    )
                )
                for name in "ab"
            ]
            for stream in streams:
                assert (await self.client(answer, stream))[:1] == CONNACK
            assert await self.client(ask, self.where(listener)) == b""
            assert self.refused == {"maximum-connections": 1}
            streams[0].close()
            await self.until(lambda: listener.connections == 1)
            assert (await self.client(ask, self.where(listener)))[:1] == CONNACK

    async def test_more_connections_of_one_address_than_allowed(self) -> None:
        listener = await self.listen(limits=limits(maximum_connections_per_address=1))
        with await self.client(open_socket, self.where(listener), CONNECT) as stream:
            await self.client(answer, stream)
            assert await self.client(ask, self.where(listener)) == b""
        assert self.refused == {"maximum-connections-per-address": 1}
        await self.until(lambda: listener.connections == 0)
        assert (await self.client(ask, self.where(listener)))[:1] == CONNACK

    async def test_limits_change_while_it_runs(self) -> None:
        listener = await self.listen()
        denied = evolve(listener.settings, access=("deny all",))
        listener.reload(denied)
        assert await self.client(ask, self.where(listener)) == b""
        listener.reload(evolve(denied, access=()))
        assert (await self.client(ask, self.where(listener)))[:1] == CONNACK
        with pytest.raises(SettingError):
            listener.reload(evolve(denied, endpoint="tcp:1"))

    async def test_a_flood_of_connections_waits_in_the_kernel(self) -> None:
        rate = Rate(20, 5)
        listener = await self.listen(limits=limits(connection_rate=rate))
        started = time.monotonic()
        with ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(await self.client(open_socket, self.where(listener)))
                accepted = self.broker.metrics.connections_accepted
                assert accepted <= 5 + 1 + 20 * (time.monotonic() - started)
            await self.until(lambda: listener.connections == 40)
            # 35 after the burst, at 20 a second.
            assert time.monotonic() - started > 1.5
        assert self.refused == {}

    async def test_a_crowd_that_waits_is_not_let_in_at_once(self) -> None:
        """Twisted accepts many in a turn: no more than the rate allows may be among them."""
        listener = await self.listen(limits=limits(connection_rate=Rate(1, 5)))
        listener.pause()
        with ExitStack() as stack:
            for _ in range(60):
                stack.enter_context(await self.client(open_socket, self.where(listener)))
            listener.resume()
            started = time.monotonic()
            await self.until(lambda: listener.connections >= 5)
            for _ in range(20):
                await deferLater(reactor, 0.01)
            assert listener.connections <= 5 + 1 + (time.monotonic() - started)

    async def test_the_rate_of_connections_changes_while_they_wait(self) -> None:
        listener = await self.listen(limits=limits(connection_rate=Rate(0.001, 1)))
        with ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(await self.client(open_socket, self.where(listener)))
            await self.until(lambda: listener.connections >= 1)
            assert listener.connections < 5
            listener.reload(evolve(listener.settings, limits=limits()))
            await self.until(lambda: listener.connections == 5)

    async def test_refusals_are_told_once_a_minute(self) -> None:
        told: list[str] = []
        listener = await self.listen(access=("deny all",), name="front")
        clock = Clock()
        listener.factory.broker.seconds = clock.seconds

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            if event["log_namespace"] == "mqttd.net.gate":
                told.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        for _ in range(3):
            await self.client(ask, self.where(listener))
        clock.advance(60)
        await self.client(ask, self.where(listener))
        assert told == [
            "front refuses connections (access-rule): 1 so far",
            "front refuses connections (access-rule): 4 so far",
        ]


class PeersThatAreStuck(OnSockets):
    async def test_a_client_that_reads_nothing_is_cut_when_it_should_close(self) -> None:
        listener = await self.listen(limits=limits(close_timeout=0.5), send_buffer=10_000)
        stream = await self.client(open_socket, self.where(listener), CONNECT)
        with stream:
            await self.client(answer, stream)
            stream.sendall(serialize(Subscribe(1, [SubscriptionRequest("t")]), 5))
            await self.client(answer, stream)
            for _ in range(100):
                self.broker.publish("t", bytes(100_000))
            await self.until(lambda: not next(iter(listener.factory.protocols)).writable)
            self.broker.drain()
            await self.until(lambda: listener.connections == 0, 5)

    async def test_a_client_that_takes_nothing_is_cut_after_the_send_timeout(self) -> None:
        listener = await self.listen(limits=limits(send_timeout=0.6), send_buffer=10_000)
        stream = await self.client(open_socket, self.where(listener), CONNECT)
        with stream:
            await self.client(answer, stream)
            stream.sendall(serialize(Subscribe(1, [SubscriptionRequest("t")]), 5))
            await self.client(answer, stream)
            for _ in range(100):
                self.broker.publish("t", bytes(100_000))
            await self.until(lambda: listener.connections == 0, 5)
        assert self.broker.metrics.closed["send-timeout"] == 1

    async def test_a_client_that_leaves_while_it_is_paused(self) -> None:
        """Nobody watches a paused socket: keep alive must ask it."""
        for reset in (False, True):
            listener = await self.listen(limits=limits(inbound_bytes=Rate(1, 100)))
            connect = serialize(Connect("p", 5, keep_alive=1), 5)
            stream = await self.client(open_socket, self.where(listener), connect)
            await self.client(answer, stream)
            stream.sendall(serialize(Publish("t", bytes(5000)), 5))
            (protocol,) = listener.factory.protocols
            await self.until(lambda: not protocol._reading)  # noqa: B023
            if reset:
                linger = struct.pack("ii", 1, 0)
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            stream.close()
            await self.until(lambda: listener.connections == 0)  # noqa: B023

    async def test_a_client_that_is_paused_and_there_stays(self) -> None:
        listener = await self.listen(limits=limits(inbound_bytes=Rate(1, 100)))
        connect = serialize(Connect("p", 5, keep_alive=1), 5)
        with await self.client(open_socket, self.where(listener), connect) as stream:
            await self.client(answer, stream)
            stream.sendall(serialize(Publish("t", bytes(5000)), 5))
            await self.client(time.sleep, 2.5)
            assert listener.connections == 1


# --- no file descriptors left -------------------------------------------------------

STARVED = """
    import resource, socket, sys, time
    from twisted.internet import reactor
    from mqttd import BrokerSettings, ListenerSettings, MQTTBroker
    from mqttd import service as module

    module.raise_file_limit = lambda: 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    endpoint = "unix:" + sys.argv[1]
    listener = ListenerSettings(endpoint, allow_anonymous=True)
    service = MQTTBroker(reactor, BrokerSettings(listeners=(listener,)))
    service.startService()
    print("ready", flush=True)
    reactor.run()
"""


def test_a_broker_without_file_descriptors_left_lives_on(tmp_path: Path) -> None:
    """Catalogue 70: EMFILE on accept."""
    path = str(tmp_path / "socket")
    command = [sys.executable, "-c", textwrap.dedent(STARVED), path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            first = open_socket(path, CONNECT)
            assert answer(first)[:1] == CONNACK
            crowd = []
            for _ in range(60):
                crowd.append(open_socket(path))
            first.sendall(serialize(Pingreq(), 5))
            assert answer(first) == b"\xd0\x00"
            for stream in crowd:
                stream.close()
            deadline = time.monotonic() + 60
            while ask(path, serialize(Connect("b", 5), 5))[:1] != CONNACK:
                assert time.monotonic() < deadline
            assert process.poll() is None
        finally:
            process.kill()


# --- rules ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "host", "allowed"),
    [
        ((), "192.0.2.1", True),
        (("deny 192.0.2.0/24",), "192.0.2.1", False),
        (("deny 192.0.2.0/24",), "192.0.3.1", True),
        (("deny 192.0.2.0/24",), "::ffff:192.0.2.1", False),
        (("deny 192.0.2.0/24",), "::ffff:c000:201", False),
        (("allow 192.0.2.0/24",), "::ffff:c000:201", True),
        (("allow 192.0.2.0/24",), "192.0.3.1", False),
        (("allow 192.0.2.7/32", "deny 192.0.2.0/24", "allow all"), "192.0.2.7", True),
        (("allow 192.0.2.7/32", "deny 192.0.2.0/24", "allow all"), "192.0.2.8", False),
        (("allow 192.0.2.7/32", "deny 192.0.2.0/24", "allow all"), "198.51.100.1", True),
        (("allow 2001:db8:1::/48", "deny all"), "2001:db8:1:ffff::1", True),
        (("allow 2001:db8:1::/48", "deny all"), "2001:db8:2::1", False),
        (("deny fe80::/10",), "fe80::1%eth0", False),
        (("allow 192.0.2.0/24",), "", False),
        (("allow 192.0.2.0/24", "allow all"), "", True),
        (("deny 0.0.0.0/0",), "", True),
    ],
)
def test_the_first_rule_that_matches_decides(
    rules: tuple[str, ...], host: str, allowed: bool
) -> None:
    assert AccessRules(rules).allow(host) is allowed


def test_networks_hold_addresses_of_their_family() -> None:
    networks = Networks(("127.0.0.0/8", "::1/128"))
    assert "127.1.2.3" in networks
    assert "::1" in networks
    assert "::ffff:127.0.0.1" in networks
    assert "::2" not in networks
    assert "unix" not in networks


def test_an_address_is_shown_as_people_write_it() -> None:
    assert plain("::ffff:192.0.2.1") == "192.0.2.1"
    assert plain("::ffff:c000:201") == "192.0.2.1"
    assert plain("::ffff:1") == "::ffff:1"
    assert plain("::ffff:not an address") == "::ffff:not an address"
