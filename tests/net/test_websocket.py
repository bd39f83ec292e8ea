"""MQTT over WebSocket, frame by frame; section 6 of both specifications."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from twisted.internet.address import IPv4Address
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate

from mqttd.net.gate import Gate
from mqttd.net.websocket import WebSocketFactory
from mqttd.settings import ConnectionLimits, WebSocketSettings
from mqttd.testing import MemoryTransport, VirtualBroker
from mqttd.wire.packets import Publish

pytestmark = pytest.mark.statement(
    "MQTT-6.0.0-1",
    "MQTT-6.0.0-2",
    "MQTT-6.0.0-4",
    "MQTT311-6.0.0-1",
    "MQTT311-6.0.0-2",
    "MQTT311-6.0.0-4",
)

CONNECT = bytes.fromhex("10 0d 00 04 4d515454 04 02 003c 00 01 61")
CONNACK = bytes.fromhex("20 02 00 00")
PINGREQ, PINGRESP = b"\xc0\x00", b"\xd0\x00"

ACCEPTED = [AcceptConnection]


class Door:
    """A listener for WebSocket, without its socket."""

    def __init__(self, limits: dict[str, Any] | None = None, **settings: Any) -> None:
        self.virtual = VirtualBroker()
        self.settings = evolve(
            self.virtual.listener,
            websocket=WebSocketSettings(**settings),
            limits=ConnectionLimits(**(limits or {})),
        )
        factory = self.virtual.factory
        factory.settings = self.settings
        self.gate = Gate(factory, factory, self.settings)
        assert self.settings.websocket is not None
        self.gate.inner = WebSocketFactory(factory, self.gate, self.settings.websocket)

    def open(self, host: str = "192.0.2.1") -> Client | None:
        peer = IPv4Address("TCP", host, 50_000)
        protocol: Any = self.gate.buildProtocol(peer)
        if protocol is None:
            return None
        transport = MemoryTransport(self.virtual.clock, peer, IPv4Address("TCP", "0.0.0.0", 80))
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return Client(self, transport)

    def ask(self, host: str = "192.0.2.1", **request: Any) -> Client:
        """A client that has sent its request."""
        client = self.open(host)
        assert client is not None
        client.request(**request)
        return client

    def connect(self, host: str = "192.0.2.1", **request: Any) -> Client:
        """A client that is connected by MQTT."""
        client = self.ask(host, **request)
        client.frame(CONNECT)
        assert client.data() == CONNACK
        return client


class Client:
    """A WebSocket client in memory."""

    def __init__(self, door: Door, transport: MemoryTransport) -> None:
        self.door = door
        self.transport = transport
        self.frames = WSConnection(ConnectionType.CLIENT)
        self.events: list[Event] = []

    def send(self, data: bytes) -> None:
        self.transport.send(data)
        self.receive()

    def receive(self) -> None:
        self.door.virtual.advance()
        data = self.transport.take()
        if data:
            self.frames.receive_data(data)
        self.events += self.frames.events()

    def request(
        self,
        path: str = "/mqtt",
        subprotocols: tuple[str, ...] = ("mqtt",),
        headers: tuple[tuple[bytes, bytes], ...] = (),
        extensions: tuple[Any, ...] = (),
    ) -> None:
        self.send(
            self.frames.send(
                Request(
                    "broker.example",
                    path,
                    subprotocols=list(subprotocols),
                    extra_headers=list(headers),
                    extensions=list(extensions),
                )
            )
        )

    def frame(self, data: bytes, **more: Any) -> None:
        self.send(self.frames.send(BytesMessage(data, **more)))

    def data(self) -> bytes:
        """The payloads that came, which all were binary."""
        data = b"".join(e.data for e in self.events if isinstance(e, BytesMessage))
        assert not any(isinstance(event, TextMessage) for event in self.events)
        self.events = [e for e in self.events if not isinstance(e, BytesMessage)]
        return bytes(data)

    @property
    def kinds(self) -> list[type[Event]]:
        return [type(event) for event in self.events]

    @property
    def status(self) -> int:
        """Of the answer that refused the request."""
        (answer,) = (e for e in self.events if isinstance(e, RejectConnection))
        return answer.status_code

    @property
    def close_code(self) -> int:
        (answer,) = (e for e in self.events if isinstance(e, CloseConnection))
        return answer.code


# --- the request ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (("mqtt",), "mqtt"),
        (("mqttv3.1",), "mqttv3.1"),
        (("chat", "mqtt"), "mqtt"),
        (("mqttv3.1", "mqtt"), "mqttv3.1"),
    ],
)
def test_the_subprotocol_is_answered(offered: tuple[str, ...], chosen: str) -> None:
    (accepted,) = Door().ask(subprotocols=offered).events
    assert isinstance(accepted, AcceptConnection)
    assert accepted.subprotocol == chosen


@pytest.mark.parametrize("offered", [(), ("chat",), ("MQTT",), ("mqtt5",)])
def test_without_the_subprotocol_there_is_no_connection(offered: tuple[str, ...]) -> None:
    client = Door().ask(subprotocols=offered)
    assert client.status == 400
    assert client.transport.ending == "closed"


def test_another_path_is_not_found() -> None:
    assert Door().ask(path="/").status == 404
    assert Door().ask(path="/mqtt/../mqtt").status == 404
    assert Door().ask(path="/mqtt?token=1").kinds == ACCEPTED
    assert Door(path="/").ask(path="/").kinds == ACCEPTED


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 101),
        ("https://broker.example", 101),
        ("https://app.example", 101),
        ("HTTPS://App.Example", 101),
        ("http://app.example", 403),
        ("https://app.example.evil.example", 403),
        ("https://app.example:8443", 403),
        ("https://broker.example.evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_pages_of_other_origins_stay_outside(origin: str | None, status: int) -> None:
    headers = () if origin is None else ((b"Origin", origin.encode()),)
    client = Door(origins=("https://app.example",)).ask(headers=headers)
    assert client.kinds == ACCEPTED if status == 101 else client.status == status


def test_any_origin_may_be_let_in() -> None:
    headers = ((b"Origin", b"https://evil.example"),)
    assert Door(origins=("*",)).ask(headers=headers).kinds == ACCEPTED


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /mqtt HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"GET /mqtt HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 7\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        CONNECT + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + 200_000 * b"a",
        b"GET /mqtt HTTP/1.1\r\nHost: \xff.\xfe\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    ],
)
def test_what_is_no_request_ends_at_once(data: bytes) -> None:
    door = Door()
    client = door.open()
    assert client is not None
    client.transport.send(data)
    door.virtual.advance()
    assert client.transport.ending in ("closed", "aborted")
    assert door.gate.connections == 0
    assert door.virtual.broker.metrics.refused["websocket-request"] == 1


def test_a_request_must_come_in_time() -> None:
    door = Door()
    client = door.open()
    assert client is not None
    for byte in b"GET /mqtt HTTP/1.1":
        client.transport.send(bytes([byte]))
        door.virtual.advance(1)
    assert client.transport.ending == "aborted"
    assert door.gate.connections == 0


def test_the_time_of_the_request_is_part_of_the_deadline() -> None:
    door = Door({"connect_timeout": 10.0})
    client = door.open()
    assert client is not None
    door.virtual.advance(8)
    client.request()
    assert client.kinds == ACCEPTED
    door.virtual.advance(2.5)
    assert client.transport.ending == "aborted"


def test_connections_that_wait_count() -> None:
    door = Door({"maximum_connections": 2})
    door.open()
    door.ask()
    assert door.open() is None


def test_connections_of_an_address_that_wait_count() -> None:
    door = Door({"maximum_connections_per_address": 2})
    waiting = door.open()
    door.connect()
    assert door.open() is None
    assert door.open("192.0.2.2") is not None
    assert waiting is not None
    waiting.transport.close()
    door.virtual.advance()
    assert door.open() is not None


# --- who it is ------------------------------------------------------------------------


def peer(door: Door) -> Any:
    (connection,) = door.virtual.broker.connections.values()
    return connection.transport.peer


def forwarded(text: str) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"X-Forwarded-For", text.encode()),)


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8::9", "2001:db8::9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        # What a client makes up stands before what the proxy adds.
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.3,10.0.0.2", "10.0.0.3"),
    ],
)
def test_a_trusted_proxy_names_the_client(said: str, address: str) -> None:
    door = Door(trusted_proxies=("10.0.0.0/8",))
    door.connect("10.0.0.1", headers=forwarded(said))
    assert peer(door).address == address


def test_from_anyone_else_it_is_not_believed() -> None:
    door = Door(trusted_proxies=("10.0.0.0/8",))
    door.connect("192.0.2.1", headers=forwarded("203.0.113.9"))
    assert peer(door).address == "192.0.2.1"


@pytest.mark.parametrize("said", ["", "unknown", "203.0.113.9:80", "203.0.113.9,", "a\tb"])
def test_a_proxy_that_says_nonsense_is_refused(said: str) -> None:
    door = Door(trusted_proxies=("10.0.0.0/8",))
    assert door.ask("10.0.0.1", headers=forwarded(said)).status == 400


def test_limits_are_about_the_true_client() -> None:
    door = Door({"maximum_connections_per_address": 1}, trusted_proxies=("10.0.0.0/8",))
    door.connect("10.0.0.1", headers=forwarded("203.0.113.9"))
    assert door.ask("10.0.0.1", headers=forwarded("203.0.113.9")).status == 403
    assert door.ask("10.0.0.1", headers=forwarded("203.0.113.8")).kinds == ACCEPTED


def test_authentication_sees_the_headers() -> None:
    door = Door()
    door.connect(headers=((b"Cookie", b"a=1"), (b"X-Token", b"x"), (b"X-Token", b"y")))
    headers = peer(door).headers
    assert headers["host"] == "broker.example"
    assert (headers["cookie"], headers["x-token"]) == ("a=1", "x, y")


# --- frames -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_packet_may_span_frames(size: int) -> None:
    client = Door().ask()
    for start in range(0, len(CONNECT), size):
        client.frame(CONNECT[start : start + size])
    assert client.data() == CONNACK


@pytest.mark.parametrize("size", [1, 5])
def test_a_message_may_come_in_fragments(size: int) -> None:
    client = Door().ask()
    for start in range(0, len(CONNECT), size):
        last = start + size >= len(CONNECT)
        client.frame(CONNECT[start : start + size], message_finished=last)
    assert client.data() == CONNACK


def test_packets_may_share_a_frame() -> None:
    client = Door().ask()
    client.frame(CONNECT + PINGREQ + PINGREQ[:1])
    client.frame(PINGREQ[1:])
    assert client.data() == CONNACK + PINGRESP + PINGRESP


def test_a_frame_may_come_in_pieces() -> None:
    client = Door().ask()
    for byte in client.frames.send(BytesMessage(CONNECT)):
        client.send(bytes([byte]))
    assert client.data() == CONNACK


def test_a_client_may_be_too_quick() -> None:
    client = Door().open()
    assert client is not None
    request = client.frames.send(Request("broker.example", "/mqtt", subprotocols=["mqtt"]))
    # MQTT that comes with the request is no better and no worse than later.
    masked = b"\x82" + bytes([0x80 | len(CONNECT)]) + bytes(4) + CONNECT
    client.send(request + masked)
    assert client.kinds[0] is AcceptConnection
    assert client.data() in (b"", CONNACK)


def test_a_length_beyond_the_frame_waits_for_more() -> None:
    client = Door().connect()
    client.frame(bytes.fromhex("30 ff ff 03") + 10 * b"x")
    assert client.transport.ending == ""


def test_text_closes() -> None:
    client = Door().connect()
    client.send(client.frames.send(TextMessage("text")))
    assert client.close_code == 1003
    assert client.transport.ending == "closed"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x82\x02" + PINGREQ, 1002),  # not masked
        (b"\xc2\x82" + bytes(4) + PINGREQ, 1002),  # compressed
        (b"\x83\x82" + bytes(4) + PINGREQ, 1002),  # a kind of frame that is reserved
        (b"\x09\x80" + bytes(4), 1002),  # half a ping
        (b"\x89\xfe\x00\x7e" + bytes(130), 1002),  # a ping of 126 bytes
        (b"\x80\x80" + bytes(4), 1002),  # the rest of nothing
        (b"\x82\xff\xff" + bytes(7), 1002),  # 2**63 bytes
    ],
)
def test_a_broken_frame_closes_and_says_why(data: bytes, code: int) -> None:
    client = Door().connect()
    client.send(data)
    assert client.close_code == code
    assert client.transport.ending == "closed"


def test_nothing_is_ever_inflated() -> None:
    client = Door().ask(extensions=(PerMessageDeflate(),))
    (accepted,) = client.events
    assert isinstance(accepted, AcceptConnection)
    assert accepted.extensions == []


def test_an_error_in_mqtt_is_told_before_the_end() -> None:
    client = Door().connect()
    client.frame(b"\x00\x00")
    assert client.close_code == 1000
    assert client.transport.ending == ""
    closing = next(e for e in client.events if isinstance(e, CloseConnection))
    client.send(client.frames.send(closing.response()))
    assert client.transport.ending == "closed"


def test_who_does_not_answer_the_goodbye_is_cut() -> None:
    door = Door({"close_timeout": 5.0})
    client = door.connect()
    client.frame(b"\x00\x00")
    door.virtual.advance(6)
    assert client.transport.ending == "aborted"
    assert door.gate.connections == 0


def test_a_close_without_disconnect_publishes_the_will() -> None:
    door = Door()
    watcher = door.virtual.connect("watcher")
    watcher.subscribe("will")
    client = door.ask()
    will = bytes.fromhex("10 18 00 04 4d515454 04 06 003c 0001 61 0004 77696c6c 0003 627965")
    client.frame(will[:1] + bytes([len(will) - 2]) + will[2:])
    client.send(client.frames.send(CloseConnection(1001)))
    assert client.transport.ending == "closed"
    assert watcher.expect(Publish).payload == b"bye"


# --- back-pressure ------------------------------------------------------------------------


def test_a_ping_is_answered_by_the_same_bytes() -> None:
    client = Door().connect()
    client.send(client.frames.send(Ping(b"abc")))
    (pong,) = (e for e in client.events if isinstance(e, Pong))
    assert bytes(pong.payload) == b"abc"


def test_pings_of_a_client_that_does_not_read_cost_no_memory() -> None:
    client = Door().connect()
    client.transport.stop_reading()
    for _ in range(10_000):
        client.transport.send(b"\x89\xfd" + bytes(4) + 125 * b"x")
    assert client.transport.waiting < 200_000


def test_a_slow_client_pauses_its_session_and_not_the_broker() -> None:
    door = Door()
    client = door.connect()
    client.frame(bytes.fromhex("82 06 0001 0001 61 00"))
    client.transport.stop_reading()
    for _ in range(100):
        door.virtual.publish("a", bytes(10_000))
    assert client.transport.waiting < 200_000
    (session,) = door.virtual.broker.sessions
    assert session.queued > 50
    client.transport.start_reading()
    client.receive()
    assert client.data().count(b"\x30\x93\x4e\x00\x01a") == 100


def test_a_paused_client_is_not_read() -> None:
    door = Door({"inbound_messages": None})
    client = door.connect()
    (connection,) = door.virtual.broker.connections.values()
    connection.hold()
    client.frame(PINGREQ)
    assert client.transport.is_paused
    assert client.data() == b""
    connection.unhold()
    client.receive()
    assert client.data() == PINGRESP
