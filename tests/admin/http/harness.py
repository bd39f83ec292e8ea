"""The API in memory: a broker on virtual time, and requests as bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from attrs import define, field
from twisted.internet.defer import succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from mqttd.admin import Admin
from mqttd.admin.http import Identity, Role, Route
from mqttd.admin.http.audit import Audit
from mqttd.admin.http.routes import all_routes, root_routes
from mqttd.admin.http.site import API, ControlSite, Folder
from mqttd.admin.http.table import Table
from mqttd.admin.http.tokens import Tokens
from mqttd.bridge import Bridge, Bridges
from mqttd.service import Reloaded
from mqttd.settings import BrokerSettings
from mqttd.testing import VirtualBroker
from tests.client.link import Link


@define
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@define
class FakeDaemon:
    """An ``IDaemon`` without sockets."""

    broker: Any
    admin: Any
    settings: BrokerSettings
    clock: Any
    control: Any
    listeners: dict[str, Any] = field(factory=dict)
    plugins: Any = None
    bridges: Any = None
    #: Settings that were taken over.
    taken: list[BrokerSettings] = field(factory=list)
    #: What the next reload does.
    reloaded: Reloaded = field(factory=Reloaded)

    def reload(self) -> Reloaded:
        return self.reloaded

    def take_over(self, settings: BrokerSettings) -> Reloaded:
        self.taken.append(settings)
        return self.reloaded


class Web:
    """A ``VirtualBroker`` with its API."""

    def __init__(self, routes: list[Route] | None = None, **settings: Any) -> None:
        self.virtual = VirtualBroker(BrokerSettings(node="node-1", **settings))
        self.connect, self.advance = self.virtual.connect, self.virtual.advance
        self.broker, self.clock = self.virtual.broker, self.virtual.clock
        self.far = VirtualBroker(clock=self.clock)
        self.link = Link(self.clock, self.far.factory.buildProtocol)
        self.bridges = Bridges(
            self.clock,
            self.broker,
            self.broker.settings.bridges,
            lambda: 1_767_323_045.0,
            partial(Bridge, where=self.link),
        )
        self.admin = Admin(
            self.broker,
            bridges=self.bridges,
            wall_clock=lambda: 1_767_323_045.0,
            limit=1 << 30,
        )
        self.admin.start()
        self.bridges.start()
        self.daemon = FakeDaemon(
            self.broker,
            self.admin,
            self.broker.settings,
            self.clock,
            self,
            bridges=self.bridges,
        )
        self.tokens = Tokens("", lambda: 1_767_323_045.0)
        self.audit = Audit(wall_clock=lambda: 1_767_323_045.0)
        #: What stands before the path of each request.
        self.base = "/api/v1"
        #: Who a request is from; a test may put a real door here.
        self.authenticate: Callable[[Any], Any] = self._known
        self.role = Role.ADMINISTRATOR
        root, version = Folder(), Folder()
        root.putChild(b"api", version)
        table = Table.of(all_routes() if routes is None else routes)
        version.putChild(b"v1", API(table, self.daemon, self._authenticate, (), self.audit))
        for route in root_routes():
            name = route.segments[0]
            page = API(Table.of([route]), self.daemon, self._authenticate, (name,))
            root.putChild(name.encode(), page)
        self.site = ControlSite(
            root, self.clock, timeout=30.0, maximum_body=1000, maximum_connections=3
        )

    def _authenticate(self, request: Any) -> Any:
        return self.authenticate(request)

    def _known(self, request: Any) -> Any:
        return succeed(Identity("ann", self.role, "192.0.2.9"))

    def open(self) -> Stream | None:
        """A connection; None when it is refused."""
        stream = Stream(self.site.buildProtocol(None), self.advance)
        return None if stream.transport.disconnected else stream

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """Ask for *path* (below ``base``) on a connection of its own."""
        given = {"Host": "localhost", "Connection": "close"}
        if body is not None:
            content = json.dumps(body).encode()
            given["Content-Type"] = "application/json"
        if content is not None:
            given["Content-Length"] = str(len(content))
        lines = [f"{method} {self.base}{path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in {**given, **(headers or {})}.items()]
        stream = self.open()
        assert stream is not None
        stream.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (content or b""))
        answer = stream.answer()
        stream.close()
        return answer

    def get(self, path: str) -> Any:
        """What GET says, which must be good."""
        answer = self.ask("GET", path)
        assert answer.status == 200, answer
        return answer.json

    def stop(self) -> None:
        self.bridges.stop()
        self.advance(1)
        self.admin.stop()
        self.virtual.stop()
        self.far.stop()


class Stream:
    """One HTTP connection."""

    def __init__(self, channel: Any, advance: Callable[..., None]) -> None:
        self.channel = channel
        self.transport = StringTransport()
        self._advance = advance
        channel.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.channel.dataReceived(data)
        self._advance()

    @property
    def received(self) -> bytes:
        data: bytes = self.transport.value()
        return data

    @property
    def is_closed(self) -> bool:
        return bool(self.transport.disconnecting or self.transport.disconnected)

    def answer(self) -> Answer:
        head, _, body = self.received.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return Answer(int(first.split()[1]), {k.lower(): v for k, v in headers.items()}, body)

    def close(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))
        self._advance()
