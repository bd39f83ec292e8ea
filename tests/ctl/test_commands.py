"""Every command against a real broker on a real control socket."""

from __future__ import annotations

import io
import json
import os
import socket
import tempfile
from typing import Any

import pytest
from attrs import evolve
from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from mqttd.admin.alarms import Severity
from mqttd.ctl.__main__ import build_parser
from mqttd.ctl.context import Context
from mqttd.ctl.errors import Failed
from mqttd.service import MQTTBroker
from mqttd.settings import BrokerSettings, HTTPSettings, ListenerSettings
from mqttd.settings_bridge import BridgeSettings, StartType
from mqttd.settings_watch import TraceSettings
from mqttd.wire.packets import Connect, Publish
from mqttd.wire.serializer import serialize

PARSER = build_parser()


class Commands(TestCase):
    timeout = 30

    def setUp(self) -> None:
        # Short, since the path of a Unix socket must be.
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = os.path.join(folder.name, "control")
        listener = ListenerSettings(f"unix:{folder.name}/mqtt", "main", allow_anonymous=True)
        settings = BrokerSettings(
            listeners=(listener,),
            http=HTTPSettings(socket=self.path),
            trace=TraceSettings(directory=folder.name),
            # Nobody listens there.
            bridges=(BridgeSettings("up", ("mqtt://127.0.0.1:1",), start=StartType.MANUAL),),
            drain_timeout=2.0,
        )
        self.service = MQTTBroker(
            reactor, settings, reload=lambda: evolve(self.service.settings, log_level="warn")
        )
        self.service.privilegedStartService()
        self.service.startService()
        self.addCleanup(self.service.stopService)
        self.broker = self.service.broker

    def run_command(self, *arguments: str) -> Deferred[str]:
        """What the command writes."""
        parsed = PARSER.parse_args(["--socket", self.path, *arguments])
        out = io.StringIO()

        def run() -> str:
            parsed.run(Context(parsed, out))
            return out.getvalue()

        return threads.deferToThread(run)

    async def table(self, *arguments: str) -> Any:
        return json.loads(await self.run_command("--json", *arguments))

    async def fails(self, *arguments: str) -> str:
        with pytest.raises(Failed) as caught:
            await self.run_command(*arguments)
        return str(caught.value)

    async def test_the_daemon(self) -> None:
        assert "version" in await self.run_command("status")
        assert "changed" in await self.run_command("reload")
        assert "[gauges]" in await self.run_command("stats")
        assert (await self.table("process"))["pid"] == os.getpid()
        assert "KIND" in await self.run_command("plugins", "list")

    async def test_clients_and_sessions(self) -> None:
        await self.broker.client("a", session_expiry=60)
        assert [each["client_id"] for each in await self.table("clients", "list")] == ["a"]
        assert "in-process" in await self.run_command("clients", "show", "a")
        assert "inside the process" in await self.fails(
            "clients", "limit", "a", "inbound_messages=1/s"
        )
        assert "KEY=VALUE" in await self.fails("clients", "limit", "a", "nonsense")
        assert "unlimited" in await self.run_command("clients", "limit", "a")
        assert "disconnected" in await self.run_command("clients", "kick", "a")
        assert [s["client_id"] for s in await self.table("sessions", "list", "--offline")] == ["a"]
        assert await self.table("sessions", "list", "--online") == []
        assert "online" in await self.run_command("sessions", "show", "a")
        assert "gone" in await self.run_command("sessions", "end", "a")
        assert "There is no session 'a'" in await self.fails("sessions", "show", "a")

    async def test_subscriptions_and_routes(self) -> None:
        client = await self.broker.client("a")
        await self.run_command("subscriptions", "add", "a", "x/#", "--qos", "1")
        for more in ((), ("--client", "a"), ("--topic", "x/1"), ("--filter", "x/#")):
            (found,) = await self.table("subscriptions", "list", *more)
            assert (found["topic_filter"], found["qos"]) == ("x/#", 1)
        assert (await self.table("routes"))[0]["topic_filter"] == "x/#"
        await self.run_command("subscriptions", "remove", "a", "x/#")
        assert await self.table("subscriptions", "list") == []
        await client.close()

    async def test_publishing_and_retained_messages(self) -> None:
        assert "nobody" in await self.run_command("pub", "t/1", "grüße", "--retain")
        (found,) = await self.table("retained", "list", "t/#")
        assert (found["topic"], found["size"]) == ("t/1", 7)
        assert "grüße" in await self.run_command("retained", "show", "t/1")
        assert await self.run_command("retained", "show", "t/1", "--raw") == "grüße"
        assert "--all" in await self.fails("retained", "delete", "t/#")
        assert "1 deleted" in await self.run_command("retained", "delete", "--all", "t/#")
        await self.run_command("pub", "t/1", "x", "--retain", "--json")
        assert "gone" in await self.run_command("retained", "delete", "t/1")

    async def test_listening(self) -> None:
        listening = self.run_command("sub", "t/#", "--count", "2")
        while not self.broker.router.subscription_count:
            await deferLater(reactor, 0.01)
        self.broker.publish("t/1", b"\x1b[31mred")
        self.broker.publish("t/2", b"\xff\x00")
        assert await listening == "t/1  \\x1b[31mred\nt/2  (2 bytes) ff 00\n"

    async def test_watching(self) -> None:
        hooks = self.broker.hooks
        before = len(hooks.connected or ())
        watching = self.run_command("events", "--count", "2", "--json")
        while len(hooks.connected or ()) == before:
            await deferLater(reactor, 0.01)
        client = await self.broker.client("a")
        await client.close()
        first, second = map(json.loads, (await watching).splitlines())
        assert (first["event"], second["event"]) == ("connected", "disconnected")

    async def test_a_live_look(self) -> None:
        top = await self.run_command("top", "--every", "1", "--count", "1")
        assert "messages in" in top

    async def test_bridges(self) -> None:
        (found,) = await self.table("bridges", "list")
        assert (found["name"], found["address"]) == ("up", "mqtt://127.0.0.1:1")
        assert "last_error" in await self.run_command("bridges", "show", "up")
        assert "is stopped" in await self.fails("bridges", "stop", "up")
        assert "up is started" in await self.run_command("bridges", "start", "up")
        assert (await self.table("bridges", "list"))[0]["state"] != "stopped"
        assert "is started" in await self.fails("bridges", "start", "up")
        assert "up is stopped" in await self.run_command("bridges", "stop", "up")
        assert (await self.table("bridges", "show", "up"))["state"] == "stopped"
        assert "There is no bridge 'down'" in await self.fails("bridges", "show", "down")

    async def test_listeners(self) -> None:
        assert "main" in await self.run_command("listeners", "list")
        await self.run_command("listeners", "limit", "main", "maximum_connections=5")
        (endpoint,) = self.service.listeners
        assert self.service.listeners[endpoint].settings.limits.maximum_connections == 5
        assert "maximum_connections" in await self.run_command("listeners", "show", "main")
        for action in ("pause", "resume", "stop"):
            await self.run_command("listeners", action, "main")
        assert self.service.listeners == {}
        # What an operator closed, no change of settings opens again.
        await self.run_command("config", "set", "log.level=warn")
        assert self.service.listeners == {}
        assert "is not open" in await self.fails("listeners", "stop", "main")
        await self.run_command("listeners", "start", "main")
        assert list(self.service.listeners) == [endpoint]
        assert "is open" in await self.fails("listeners", "start", "main")

    async def test_the_configuration(self) -> None:
        assert "[session]" in await self.run_command("config", "show")
        assert "maximum_inflight" in await self.run_command("config", "show", "session")
        assert "there is no table" in await self.fails("config", "show", "nonsense")
        done = await self.run_command(
            "config", "set", "session.maximum_inflight=7", "protocol.allow_mqtt31=false"
        )
        assert "session" in done
        assert self.broker.settings.session.maximum_inflight == 7
        assert self.service.settings.listeners[0].session.maximum_inflight == 7
        assert "maximum_inflight" in await self.fails("config", "set", "session.maximum_inflight=x")
        assert "TABLE.KEY" in await self.fails("config", "set", "nonsense")

    async def test_traces(self) -> None:
        await self.run_command("trace", "start", "one", "--client", "device-*", "--for", "60")
        watching = self.run_command("trace", "live", "--topic", "a", "--count", "1")
        following = self.run_command("trace", "follow", "one", "--count", "2")
        traces = self.service.admin.traces
        while len(traces.running) < 2 or not traces.running["one"].sinks:
            await deferLater(reactor, 0.01)
        client = socket.socket(socket.AF_UNIX)
        client.connect(os.path.join(self.folder, "mqtt"))
        client.sendall(serialize(Connect("device-1"), 4) + serialize(Publish("a", b"x"), 4))
        assert "-> device-1  PUBLISH  topic=a, payload_size=1" in await watching
        assert "<- device-1  CONNACK" in await following
        assert "PUBLISH" in await self.run_command("trace", "show", "one")
        assert [each["name"] for each in await self.table("trace", "list")] == ["one"]
        await self.run_command("trace", "stop", "one", "--delete")
        assert "is no trace that runs" in await self.fails("trace", "stop", "one")
        client.close()

    async def test_slow_clients(self) -> None:
        assert "UNACKNOWLEDGED FOR" in await self.run_command("slow")

    async def test_the_flight_recorder(self) -> None:
        client = socket.socket(socket.AF_UNIX)
        client.connect(os.path.join(self.folder, "mqtt"))
        client.sendall(serialize(Connect("a"), 4) + serialize(Publish("t", b"x"), 4))
        while "a" not in self.broker.connections:
            await deferLater(reactor, 0.01)
        assert "-> PUBLISH  topic=t, payload_size=1" in await self.run_command("flight", "now", "a")
        client.sendall(b"\0\0")
        while "a" in self.broker.connections:
            await deferLater(reactor, 0.01)
        assert "packet type 0" in await self.run_command("flight", "list")
        assert (await self.table("flight", "show", "a"))["client_id"] == "a"
        client.close()

    async def test_alarms(self) -> None:
        self.service.admin.alarms.activate("disk", Severity.ERROR, "title", "summary")
        assert "disk" in await self.run_command("alarms", "list")
        assert "cleared" in await self.run_command("alarms", "clear", "disk")
        assert (await self.table("alarms", "list", "--history"))[0]["id"] == "disk"

    async def test_tokens(self) -> None:
        secret = await self.run_command("tokens", "create", "ci", "--role", "operator")
        assert self.service.control.tokens.find(secret.strip(), "") is not None
        assert (await self.table("tokens", "list"))[0]["role"] == "operator"
        assert "gone" in await self.run_command("tokens", "remove", "ci")
