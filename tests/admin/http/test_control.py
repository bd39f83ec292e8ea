"""The control socket: for its owner only, and for one daemon at a time."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import tempfile
from contextlib import closing
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs
from twisted.trial.unittest import TestCase

from mqttd.admin.http import Role
from mqttd.ctl.api import open_api
from mqttd.ctl.errors import Failed
from mqttd.service import MQTTBroker, StartError
from mqttd.settings import BrokerSettings, HTTPSettings, ListenerSettings
from tests.end_to_end.certificates import Authority
from tests.end_to_end.daemon import free_port


class OnSockets(TestCase):
    def setUp(self) -> None:
        # Short, since the path of a Unix socket must be.
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = os.path.join(self.folder, "run", "control.socket")

    def start(
        self, path: str, mqtt: str = "mqtt", http: dict[str, Any] | None = None, **more: Any
    ) -> MQTTBroker:
        listener = ListenerSettings(f"unix:{self.folder}/{mqtt}", allow_anonymous=True)
        settings = BrokerSettings(
            listeners=(listener,),
            http=HTTPSettings(socket=path, **(http or {})),
            drain_timeout=2.0,
        )
        broker = MQTTBroker(reactor, settings, **more)
        broker.privilegedStartService()
        broker.startService()
        self.addCleanup(broker.stopService)
        return broker

    def ask(self, path: str) -> Deferred[Any]:
        """What ``GET /node`` says on the socket *path*."""
        return threads.deferToThread(lambda: open_api(path).get("node"))

    async def test_a_command_is_answered(self) -> None:
        broker = self.start(self.path)
        node = await self.ask(self.path)
        assert node["node"] == broker.broker.node

    async def test_only_the_owner_may_open_it(self) -> None:
        self.start(self.path)
        assert stat.S_IMODE(os.stat(self.path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(os.path.dirname(self.path)).st_mode) == 0o700

    async def test_it_is_gone_in_the_end(self) -> None:
        broker = self.start(self.path)
        await broker.stopService()
        assert not os.path.exists(self.path)
        broker.startService()
        assert (await self.ask(self.path))["clients"] == 0

    async def test_what_a_crash_left_is_taken_away(self) -> None:
        os.mkdir(os.path.dirname(self.path))
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(self.path)
        self.start(self.path)
        assert (await self.ask(self.path))["clients"] == 0

    def refused(self, path: str, **http: Any) -> str:
        """The text of the error when *path* is named."""
        with pytest.raises(StartError) as caught:
            self.start(path, "other", http)
        # The ports that were open close in the next turn.
        self.addCleanup(deferLater, reactor, 0)
        return str(caught.value)

    def test_another_daemons_is_not(self) -> None:
        self.start(self.path)
        assert "another daemon's" in self.refused(self.path)

    def test_nor_is_a_file(self) -> None:
        path = os.path.join(self.folder, "file")
        with open(path, "w") as file:
            file.write("precious")
        assert "no socket" in self.refused(path)
        with open(path) as file:
            assert file.read() == "precious"

    def test_a_path_that_is_too_long_is_told(self) -> None:
        assert "too long" in self.refused(self.path + "x" * 100)

    async def test_by_default_a_daemon_does_without_rather_than_fail(self) -> None:
        first = self.start("", control_socket=self.path)
        self.start("", "other", control_socket=self.path)
        assert (await self.ask(self.path))["node"] == first.broker.node

    async def test_over_tcp_a_token_opens(self) -> None:
        port = free_port()
        broker = self.start("", http={"endpoint": f"tcp:{port}:interface=127.0.0.1"})
        with open(os.path.join(self.folder, "token"), "w") as file:
            file.write(broker.control.tokens.add("test", Role.VIEWER) + "\n")
        api = open_api(url=f"http://127.0.0.1:{port}", token_file=file.name)
        node = await threads.deferToThread(api.get, "node")
        assert node["node"] == broker.broker.node
        with pytest.raises(Failed, match="administrator"):
            await threads.deferToThread(api.get, "tokens")

    async def test_the_dashboard_is_there_unless_it_is_not_wanted(self) -> None:
        statuses = []
        for number, wanted in enumerate((True, False)):
            port = free_port()
            endpoint = f"tcp:{port}:interface=127.0.0.1"
            http = {"endpoint": endpoint, "dashboard": wanted}
            self.start("none", f"mqtt{number}", http)

            def status(port: int = port) -> int:
                with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
                    connection.request("GET", "/dashboard/")
                    return connection.getresponse().status

            statuses.append(await threads.deferToThread(status))
        assert statuses == [200, 404]

    async def test_https_has_a_certificate_that_can_be_renewed(self) -> None:
        port = free_port()
        folder = Path(self.folder)
        authority = Authority(folder)
        certificate, key = authority.sign("localhost", "http")
        tls = {"certificate": str(certificate), "private_key": str(key)}
        broker = self.start("", http={"endpoint": f"tcp:{port}", **tls})

        def shown() -> tuple[int, bytes]:
            context = ssl.create_default_context(cafile=str(authority.certificate))
            with closing(HTTPSConnection("localhost", port, timeout=10, context=context)) as client:
                client.request("GET", "/healthz")
                status = client.getresponse().status
                assert isinstance(client.sock, ssl.SSLSocket)
                return status, client.sock.getpeercert(binary_form=True) or b""

        status, before = await threads.deferToThread(shown)
        assert status == 200
        url = f"https://localhost:{port}"
        token = folder / "token"
        token.write_text(broker.control.tokens.add("test", Role.VIEWER))
        trusted = open_api(None, url, str(token), str(authority.certificate))
        assert "node" in await threads.deferToThread(trusted.get, "node")
        stranger = open_api(None, url, str(token))
        with pytest.raises(Failed, match="certificate"):
            await threads.deferToThread(stranger.get, "node")
        renewed, new_key = authority.sign("localhost", "renewed")
        os.replace(renewed, certificate)
        os.replace(new_key, key)
        assert broker.take_over(broker.settings).errors == ()
        assert (await threads.deferToThread(shown))[1] != before
        certificate.write_text("nonsense")
        (error,) = broker.take_over(broker.settings).errors
        assert str(certificate) in error
        assert (await threads.deferToThread(shown))[0] == 200

    def test_a_certificate_that_cannot_be_used_is_told(self) -> None:
        http = {"endpoint": "tcp:0", "certificate": "/nonexistent.pem"}
        assert "/nonexistent.pem" in self.refused(self.path, **http)

    async def test_probes_need_no_token(self) -> None:
        port = free_port()
        self.start("", http={"endpoint": f"tcp:{port}:interface=127.0.0.1"})
        for path, status in (("/readyz", 200), ("/healthz", 200), ("/metrics", 401)):
            connection = HTTPConnection("127.0.0.1", port, timeout=10)
            await threads.deferToThread(connection.request, "GET", path)
            answer = await threads.deferToThread(connection.getresponse)
            connection.close()
            assert answer.status == status, path

    def test_the_first_start_offers_a_token(self) -> None:
        with capturedLogs() as events:
            broker = self.start("", http={"endpoint": "tcp:0:interface=127.0.0.1"})
        (token,) = (event["token"] for event in events if "token" in event)
        assert broker.control.tokens.find(token, "") is not None

    def test_nothing_is_open_to_the_outside_by_oversight(self) -> None:
        assert "not TLS" in self.refused(self.path, endpoint="tcp:0")

    def test_an_endpoint_that_is_taken_is_told(self) -> None:
        port = free_port()
        endpoint = f"tcp:{port}:interface=127.0.0.1"
        self.start("", http={"endpoint": endpoint})
        assert endpoint in self.refused(self.path, endpoint=endpoint)

    def test_broken_tokens_stop_the_start(self) -> None:
        path = os.path.join(self.folder, "tokens")
        with open(path, "w") as file:
            file.write("{")
        assert path in self.refused(self.path, token_file=path)

    def test_an_embedded_broker_has_none(self) -> None:
        broker = self.start("")
        assert not [name for name in os.listdir(self.folder) if "mqtt" not in name]
        settings = evolve(broker.settings, http=HTTPSettings(socket="none"))
        assert "http" in broker.take_over(settings).restart_needed
