"""A web service that is asked: a real server, good, bad, slow and closed."""

from __future__ import annotations

import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from twisted.cred.error import UnauthorizedLogin
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from mqttd.access.token import TokenLogin
from mqttd.access.web_login import WebLogin
from mqttd.interfaces import NOT_MINE, LoginBusy, LoginUnavailable
from mqttd.settings_authentication import JWTSettings, WebLoginSettings
from tests.access.logins import login
from tests.access.test_token import RSA, jwks
from tests.access.test_token import token as make_token
from tests.certificates import Authority, dns
from tests.end_to_end.daemon import free_port


class Service(ThreadingHTTPServer):
    """Says what a test wants said."""

    daemon_threads = True
    #: Status, body, and headers besides.
    answer: tuple[int, bytes, dict[str, str]] = (200, b"", {})
    #: Requests: headers and body.
    asked: list[tuple[Any, bytes]]
    #: Set to let slow answers go.
    go: threading.Event
    #: Close each connection after its answer, without having said so.
    rude = False


class Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.headers, body))
        self.server.go.wait(10)
        status, answer, headers = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)
        self.close_connection = self.server.rude

    do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def service(context: ssl.SSLContext | None = None) -> Iterator[Service]:
    server = Service(("127.0.0.1", 0), Handler)
    server.asked, server.go = [], threading.Event()
    server.go.set()
    server.handle_error = lambda *arguments: None  # type: ignore[method-assign]
    if context is not None:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.go.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


class WithService(TestCase):
    timeout = 60

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def serve(self, context: ssl.SSLContext | None = None) -> Service:
        running = service(context)
        self.addCleanup(running.__exit__, None, None, None)
        return running.__enter__()

    def make(self, port: int, scheme: str = "http", host: str = "127.0.0.1", **more: Any) -> Any:
        settings = WebLoginSettings(url=f"{scheme}://{host}:{port}/login?a=1", **more)
        login = WebLogin(settings, reactor, reactor.seconds)
        self.addCleanup(deferLater, reactor, 0.02, lambda: None)
        self.addCleanup(lambda: login._service.client.close())
        return login

    def ask(self, service: Any, user: str | None = "ann", password: Any = b"s") -> Deferred[Any]:
        return ensureDeferred(service.authenticate(login(user, password)))

    async def unavailable(self, service: Any, text: str = "") -> None:
        error = await self.assertFailure(self.ask(service), LoginUnavailable)
        assert text in str(error), error


class Answers(WithService):
    async def test_what_a_client_says_is_passed_on_and_nothing_is_made_up(self) -> None:
        server = self.serve()
        secret = self.folder / "token"
        secret.write_text("bearer-secret\n")
        asker = self.make(server.server_port, token_file=str(secret))
        assert (await self.ask(asker, "änn", b"p&=%")).principal == "änn"
        headers, body = server.asked.pop()
        assert headers["Authorization"] == "Bearer bearer-secret"
        assert json.loads(body) == {
            "username": "änn",
            "password": "p&=%",
            "client_id": "c",
            "address": "192.0.2.1",
            "listener": "plain",
            "certificate_common_name": None,
        }
        await self.assertFailure(self.ask(asker, None, None), UnauthorizedLogin)
        assert json.loads(server.asked.pop()[1])["username"] is None
        await self.assertFailure(self.ask(asker, "ann", b"\xff"), UnauthorizedLogin)
        assert server.asked == []
        secret.write_text("new")
        asker.reload()
        await self.ask(asker)
        assert server.asked.pop()[0]["Authorization"] == "Bearer new"

    async def test_a_form(self) -> None:
        server = self.serve()
        asker = self.make(server.server_port, body="form")
        await self.ask(asker, "ann&username=admin", b"p&=%")
        form = parse_qs(server.asked[0][1].decode())
        assert (form["username"], form["password"]) == (["ann&username=admin"], ["p&=%"])

    async def test_yes_and_what_comes_with_it(self) -> None:
        server = self.serve()
        asker = self.make(server.server_port)
        for status, body in ((200, b""), (204, b""), (200, b"allow\n"), (200, b"{}")):
            server.answer = (status, body, {})
            assert (await self.ask(asker)).principal == "ann", body
        full = {
            "result": "allow",
            "username": "Ann",
            "superuser": True,
            "groups": ["a"],
            "claims": {"site": 5},
            "expires_in": 60,
        }
        server.answer = (200, json.dumps(full).encode(), {})
        before = reactor.seconds()
        avatar = await self.ask(asker)
        assert (avatar.principal, avatar.superuser, avatar.source) == ("Ann", True, "http")
        assert avatar.claims == {"site": 5, "groups": ["a"]}
        assert 60 <= avatar.expires_at - before < 120

    async def test_no_and_not_mine(self) -> None:
        server = self.serve()
        asker = self.make(server.server_port)
        for status, body in ((401, b""), (403, b"x"), (404, b""), (200, b"deny")):
            server.answer = (status, body, {})
            await self.assertFailure(self.ask(asker), UnauthorizedLogin)
        for body in (b"ignore", b'{"result": "ignore"}'):
            server.answer = (200, body, {})
            assert await self.ask(asker) is NOT_MINE

    async def test_anything_else_is_an_error(self) -> None:
        server = self.serve()
        asker = self.make(server.server_port, maximum_answer=1000)
        here = {"Location": "/elsewhere"}
        for answer in (
            (200, b"<html>welcome</html>", {}),
            (200, b"[]", {}),
            (200, b"true", {}),
            (200, b"\xff", {}),
            (200, b'{"result": "yes"}', {}),
            (200, b'{"result": null}', {}),
            (200, b'{"superuser": 1}', {}),
            (200, b'{"groups": "admin"}', {}),
            (200, b'{"username": 5}', {}),
            (200, b'{"expires_in": -1}', {}),
            (200, b'{"expires_in": 1e999}', {}),
            (200, b"x" * 2000, {}),
            (201, b"", {}),
            (301, b"", here),
            (302, b"", here),
            (307, b"", here),
            (429, b"", {}),
            (500, b"", {}),
            (503, b"", {}),
        ):
            server.answer = answer
            await self.unavailable(asker)
        assert len(server.asked) == 19


class Trouble(WithService):
    async def test_down(self) -> None:
        await self.unavailable(self.make(free_port()), "no connection")

    async def test_slow(self) -> None:
        server = self.serve()
        server.go.clear()
        asker = self.make(server.server_port, timeout=0.2)
        await self.unavailable(asker, "in time")
        server.go.set()
        while True:
            # On a busy machine the right answer may take as long.
            try:
                found = await self.ask(asker)
            except LoginUnavailable:
                continue
            break
        assert found.principal == "ann"

    async def test_too_many(self) -> None:
        server = self.serve()
        server.go.clear()
        asker = self.make(server.server_port, connections=1, maximum_waiting=1)
        first, second = self.ask(asker), self.ask(asker)
        await self.assertFailure(self.ask(asker), LoginBusy)
        server.go.set()
        assert [(await each).principal for each in (first, second)] == ["ann", "ann"]

    async def test_a_connection_that_the_server_has_closed_is_made_anew(self) -> None:
        server = self.serve()
        server.rude = True
        asker = self.make(server.server_port, connections=1)
        for _ in range(5):
            assert (await self.ask(asker)).principal == "ann"

    async def test_no_web_server(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:

            def serve() -> None:
                for _ in range(2):
                    stream, _ = listening.accept()
                    stream.sendall(b"220 mail ready\r\n")
                    stream.close()

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            await self.unavailable(self.make(listening.getsockname()[1], timeout=1))

    def test_files_that_cannot_be_used_are_told_at_the_start(self) -> None:
        (self.folder / "bad").write_text("-----BEGIN CERTIFICATE-----\nx\n")
        for field in ("ca_file", "client_certificate"):
            with pytest.raises(ValueError, match="bad: "):
                self.make(1, **{field: str(self.folder / "bad")})
        with pytest.raises(ValueError, match="cannot be read"):
            self.make(1, token_file=str(self.folder / "none"))


class OverTLS(WithService):
    def context(self, authority: Authority, **more: Any) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.issue("service", **more).write(self.folder / "server"))
        return context

    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority()
        self.ca_file = self.authority.write(self.folder / "ca")

    async def test_who_is_asked_is_known(self) -> None:
        server = self.serve(self.context(self.authority))
        right = self.make(server.server_port, "https", "localhost", ca_file=self.ca_file)
        assert (await self.ask(right)).principal == "ann"
        other = Authority("other").write(self.folder / "other")
        for asker in (
            self.make(server.server_port, "https", "localhost", ca_file=other),
            self.make(server.server_port, "https", "localhost"),
        ):
            await self.unavailable(asker, "TLS failed")
        assert len(server.asked) == 1

    async def test_a_certificate_for_another_name_will_not_do(self) -> None:
        for names in ([], dns("elsewhere")):
            server = self.serve(self.context(self.authority, names=names))
            asker = self.make(server.server_port, "https", "localhost", ca_file=self.ca_file)
            await self.unavailable(asker)
            assert server.asked == []

    async def test_a_certificate_of_ours_is_shown(self) -> None:
        context = self.context(self.authority)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.ca_file)
        server = self.serve(context)
        mine = self.authority.issue("mqttd").write(self.folder / "mine")
        asker = self.make(
            server.server_port,
            "https",
            "localhost",
            ca_file=self.ca_file,
            client_certificate=mine,
        )
        assert (await self.ask(asker)).principal == "ann"
        nameless = self.make(server.server_port, "https", "localhost", ca_file=self.ca_file)
        await self.unavailable(nameless)

    async def test_keys_for_tokens(self) -> None:
        server = self.serve(self.context(self.authority))
        server.answer = (200, jwks(("1", RSA, "RS256")).encode(), {})
        settings = JWTSettings(
            algorithms=("RS256",),
            jwks_url=f"https://localhost:{server.server_port}/",
            ca_file=self.ca_file,
        )
        seconds = reactor.seconds
        tokens = TokenLogin(settings, reactor, seconds, seconds)
        self.addCleanup(deferLater, reactor, 0.02, lambda: None)
        self.addCleanup(tokens.stop)
        password = make_token(RSA, "RS256", "1", exp=seconds() + 60)
        asked = [self.ask(tokens, None, password) for _ in range(5)]
        assert [(await each).principal for each in asked] == ["ann"] * 5
        assert len(server.asked) == 1
