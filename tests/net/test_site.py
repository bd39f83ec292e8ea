"""MQTT at a resource of a web site that was there before."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from twisted.internet import reactor as global_reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, readBody
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import Site

from mqttd.service import MQTTBroker, StartError
from mqttd.settings import (
    BrokerSettings,
    ConnectionLimits,
    ListenerSettings,
    WebSocketSettings,
)

reactor: Any = global_reactor


def settings(**more: Any) -> BrokerSettings:
    listener = ListenerSettings(
        "site:mqtt", allow_anonymous=True, websocket=WebSocketSettings(), **more
    )
    return BrokerSettings(listeners=(listener,), drain_timeout=2.0, sys_interval=0.0)


def connect(port: int, path: str = "/things/mqtt") -> paho.Client:
    """A client that is connected; blocks."""
    client = paho.Client(CallbackAPIVersion.VERSION2, transport="websockets")
    client.ws_set_options(path)
    here = threading.Event()
    client.on_connect = lambda *_: here.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert here.wait(20)
    return client


class OnASite(TestCase):
    def setUp(self) -> None:
        self.mqtt = MQTTBroker(reactor, settings())
        self.serve(self.mqtt)

    def serve(self, mqtt: MQTTBroker) -> None:
        root, things = Resource(), Resource()
        root.putChild(b"things", things)
        things.putChild(b"mqtt", mqtt.resource("mqtt"))
        self.port = reactor.listenTCP(0, Site(root), interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        self.number = self.port.getHost().port

    async def get(self, path: str = "/things/mqtt", **headers: str) -> int:
        """The status of a request."""
        url = f"http://127.0.0.1:{self.number}{path}".encode()
        fields = Headers({name: [value] for name, value in headers.items()})
        response = await Agent(reactor).request(b"GET", url, fields)
        await readBody(response)
        return int(response.code)

    async def test_clients_are_served_beside_the_site(self) -> None:
        self.mqtt.startService()
        got: list[bytes] = []
        client = await self.mqtt.broker.client("app")
        await client.subscribe("t", lambda message: got.append(message.payload), qos=1)

        def talk() -> None:
            peer = connect(self.number)
            for number in range(50):
                peer.publish("t", b"%d" % number + bytes(5000), 1).wait_for_publish(20)
            peer.disconnect()
            peer.loop_stop()

        await deferToThread(talk)
        assert [payload.strip(b"\0") for payload in got] == [b"%d" % n for n in range(50)]
        assert await self.get("/elsewhere") == 404
        await self.mqtt.stopService()

    async def test_a_stop_takes_leave_of_them(self) -> None:
        self.mqtt.startService()
        peer = await deferToThread(connect, self.number)
        (listener,) = self.mqtt.listeners.values()
        assert listener.connections == 1
        await self.mqtt.stopService()
        assert listener.connections == 0
        await deferToThread(peer.disconnect)
        await deferToThread(peer.loop_stop)

    async def test_other_requests_are_told_what_this_is(self) -> None:
        assert await self.get() == 426

    async def test_while_the_broker_does_not_run_it_is_not_available(self) -> None:
        assert await self.get(upgrade="websocket") == 503

    async def test_the_gate_of_the_listener_is_there(self) -> None:
        self.mqtt = MQTTBroker(reactor, settings(access=("deny all",)))
        self.serve(self.mqtt)
        self.mqtt.startService()
        assert await self.get(upgrade="WebSocket") == 403
        await self.mqtt.stopService()

    async def test_whoever_sends_no_connect_is_cut_in_time(self) -> None:
        self.mqtt = MQTTBroker(reactor, settings(limits=ConnectionLimits(connect_timeout=0.3)))
        self.serve(self.mqtt)
        self.mqtt.startService()

        def talk() -> bytes:
            with socket.create_connection(("127.0.0.1", self.number), 20) as stream:
                stream.sendall(
                    b"GET /things/mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                    b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
                )
                data = stream.recv(4096)
                with contextlib.suppress(ConnectionResetError):
                    assert not stream.recv(4096)
                return data

        assert b"101" in await deferToThread(talk)
        await self.mqtt.stopService()


def test_a_listener_of_a_site_speaks_websocket() -> None:
    listener = ListenerSettings("site:mqtt", allow_anonymous=True)
    mqtt = MQTTBroker(reactor, BrokerSettings(listeners=(listener,)))
    with pytest.raises(StartError, match="a site: listener has websocket"):
        mqtt.startService()
