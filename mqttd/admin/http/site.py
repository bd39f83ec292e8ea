"""The web site of the API: from a request to a ``Call``, and from an answer to bytes.

``control`` puts it behind a Unix socket or an endpoint. What is decided here is
the same for every route: size and time of a request, who asks, whether that one
may, cross-origin calls, errors, the audit log. Handlers are found in the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from mqttd.admin.http.audit import Audit
from mqttd.admin.http.call import Call, Identity, Reply, read_json
from mqttd.admin.http.problems import Problem
from mqttd.admin.http.table import Match, Role, Table

log = Logger()

#: On every answer: nothing may be kept, guessed, framed or run.
HEADERS = {
    "Server": "mqttd",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}

#: Who asks what everybody may know.
NOBODY = Identity("nobody", Role.ANYONE)

PROBLEM_TYPE = "application/problem+json"

#: Takes a request; fires with who it is from, or fails with a ``Problem``.
Authenticator = Callable[[Request], "Deferred[Identity]"]


class LimitedRequest(Request):
    """A request whose body has a bound, however it is sent."""

    channel: Any
    _received = 0

    def gotLength(self, length: int | None) -> None:
        most = self.channel.site.maximum_body
        if length is not None and length > most:
            self._refuse()
        super().gotLength(min(length or 0, most))  # type: ignore[no-untyped-call]

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self.channel.site.maximum_body:
            self._refuse()
        else:
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]

    def _refuse(self) -> None:
        """Answer before the body has come, and read no more of it."""
        channel = self.channel
        if not channel.refused:
            channel.refused = True
            channel.transport.write(
                b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
            channel.loseConnection()


class Channel(http.HTTPChannel):
    """One HTTP connection, with a deadline for each request as a whole."""

    site: Any
    #: The body of a request was too large; nothing more is read.
    refused = False

    def resetTimeout(self) -> None:
        """What arrives gives no more time: else a byte a second holds it for ever."""

    #: Bytes of a request's first line and of all of its head: a name of 4096
    #: characters, percent-encoded, fits.
    MAX_LENGTH = 65_536
    totalHeadersSize = 98_304

    def lineLengthExceeded(self, line: bytes) -> None:
        """The URL or a header is too long; say so."""
        self.refused = True
        transport: Any = self.transport
        transport.write(
            b"HTTP/1.1 400 URI Too Long\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        self.loseConnection()  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        if not self.refused:
            super().dataReceived(data)  # type: ignore[no-untyped-call]

    def timeoutConnection(self) -> None:
        """Without Twisted's line in the log: browsers leave idle connections to this."""
        if self.abortTimeout is not None:
            later: Any = self.callLater
            self._abortingCall = later(self.abortTimeout, self.forceAbortClient)
        self.loseConnection()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.site.connections.discard(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


class Refusal(Protocol):
    """One connection too many. (Under TLS a factory's None would leave it open.)"""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()


class ControlSite(Site):
    """The site of one door (a socket or an endpoint)."""

    noisy = False
    protocol = Channel  # type: ignore[assignment]
    requestFactory = LimitedRequest

    def __init__(
        self,
        resource: Resource,
        reactor: Any,
        *,
        timeout: float,
        maximum_body: int,
        maximum_connections: int,
    ) -> None:
        """Times are seconds, sizes bytes."""
        super().__init__(  # type: ignore[no-untyped-call]
            resource, timeout=timeout, reactor=reactor, parsePOSTFormSubmission=False
        )
        self.maximum_body = maximum_body
        self.maximum_connections = maximum_connections
        self.connections: set[Any] = set()

    def buildProtocol(self, addr: Any) -> Any:
        if len(self.connections) >= self.maximum_connections:
            log.warn("HTTP: too many connections, one more is refused")
            return Refusal()
        channel: Any = super().buildProtocol(addr)  # type: ignore[no-untyped-call]
        self.connections.add(channel)
        return channel

    def startFactory(self) -> None:
        """Nothing: there is no access log."""

    def log(self, request: http.Request) -> None:
        """Changes are in the audit log; the rest is noise."""

    def cut(self) -> None:
        """End every connection."""
        for channel in list(self.connections):
            channel.transport.abortConnection()


class Nothing(Resource):
    """Wherever there is nothing."""

    isLeaf = True

    def render(self, request: Request) -> Any:
        send_problem(request, Problem(404, "There is nothing at this path."))
        return NOT_DONE_YET


class Folder(Resource):
    """A resource that only leads to others."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        #: What stands at the folder itself.
        self.index: Resource | None = None

    def getChild(self, path: bytes, request: Request) -> Resource:
        if self.index is not None and path == b"":
            return self.index
        return Nothing()  # type: ignore[no-untyped-call]

    def render(self, request: Request) -> Any:
        return Nothing().render(request)  # type: ignore[no-untyped-call]


class Root(Folder):
    """The root of a site on which MQTT over WebSocket is spoken, too."""

    def __init__(self, find: Callable[[str], Resource | None]) -> None:
        """*find* gives what speaks it at a path; None where nothing does."""
        super().__init__()
        self._find = find

    def getChild(self, path: bytes, request: Request) -> Resource:
        found = self._find(request.path.decode("latin-1"))
        return super().getChild(path, request) if found is None else Handover(found)


class Handover(Resource):
    """Lets another resource take connections over, which are none of this site's then."""

    isLeaf = True

    def __init__(self, inner: Resource) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inner = inner

    def render(self, request: Request) -> Any:
        channel: Any = request.channel
        done = self._inner.render(request)
        if done is NOT_DONE_YET:
            channel.site.connections.discard(channel)
        return done


class API(Resource):
    """All routes of a table; *prefix* are the segments of their paths above it."""

    isLeaf = True

    def __init__(
        self,
        table: Table,
        daemon: Any,
        authenticate: Authenticator,
        prefix: tuple[str, ...] = (),
        audit: Audit | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._table = table
        self._prefix = prefix
        self._daemon = daemon
        self._authenticate = authenticate
        self._audit = audit or Audit()

    def render(self, request: Request) -> Any:
        answering = Deferred.fromCoroutine(self._answer(request))
        request.notifyFinish().addErrback(_gone, answering)
        answering.addErrback(_failed, request)
        return NOT_DONE_YET

    async def _answer(self, request: Request) -> None:
        identity: Identity | None = None
        match: Match | None = None
        try:
            refuse_foreign(request)
            match = self._find(request)
            # Whoever is not let in is in the log, and takes no room in that of changes.
            needs_name = bool(match.entry.route.role)
            identity = await self._authenticate(request) if needs_name else NOBODY
            call = self._call(match, identity, request)
            result = await maybeDeferred(match.entry.route.handler, call)
            status = _send(request, result, match)
        except Problem as problem:
            status = problem.status
            send_problem(request, problem)
        if match is not None and identity is not None and match.entry.route.audited:
            self._note(identity, request, status)

    def _note(self, identity: Identity, request: Request, status: int) -> None:
        method = request.method.decode("ascii", "replace")
        path = ascii(request.path.decode("ascii", "replace"))[1:-1]
        self._audit.note(identity.name, identity.address, method, path, status)

    def _find(self, request: Request) -> Match:
        method = request.method.decode("ascii", "replace")
        try:
            segments = [*self._prefix, *(part.decode() for part in request.postpath or ())]
        except UnicodeDecodeError:
            raise Problem(400, "The path is not UTF-8.") from None
        return self._table.find("GET" if method == "HEAD" else method, segments)

    def _call(self, match: Match, identity: Identity, request: Request) -> Call:
        route = match.entry.route
        if identity.role < route.role:
            raise Problem(
                403,
                f"This needs the role {route.role.name.lower()}; yours is less: "
                f"{identity.role.name.lower()}.",
            )
        query = match.entry.read_query(_query(request))
        body = None
        if route.body is not None:
            content = request.content.read() if request.content is not None else b""
            media_type = request.getHeader("content-type") or ""
            body = match.entry.check_body(read_json(content, media_type))
        return Call(self._daemon, identity, match.variables, query, body, request)


def refuse_foreign(request: Request) -> None:
    """Pages of other origins may not use a browser's right to be here.

    :raise Problem: 403.
    """
    origin = request.getHeader("origin")
    if origin is None and request.getHeader("sec-fetch-site") != "cross-site":
        return
    host = (request.getHeader("host") or "").lower()
    if origin is None or origin.lower().partition("://")[2] != host:
        raise Problem(403, "Calls from pages of another origin are refused.")


def _query(request: Request) -> dict[str, list[str]]:
    try:
        return {
            name.decode(): [value.decode() for value in values]
            for name, values in (request.args or {}).items()
        }
    except UnicodeDecodeError:
        raise Problem(400, "The query is not UTF-8.") from None


def _send(request: Request, result: Any, match: Match) -> int:
    """Send what a handler returned; what streams has sent it already."""
    if result is NOT_DONE_YET:
        return 200
    reply = result if isinstance(result, Reply) else Reply(result)
    status = reply.status or (204 if reply.body is None else match.entry.route.status)
    body: bytes | None
    if reply.body is None or isinstance(reply.body, bytes):
        body = reply.body
    else:
        body = json.dumps(reply.body).encode() + b"\n"
    send(request, status, body, match.entry.route.produces, **reply.headers)
    return status


def send_problem(request: Request, problem: Problem) -> None:
    body = json.dumps(problem.document()).encode() + b"\n"
    send(request, problem.status, body, PROBLEM_TYPE, **problem.headers)


def send(
    request: Request, status: int, body: bytes | None, media_type: str, **headers: str
) -> None:
    """Answer *request* as a whole."""
    request.setResponseCode(status)
    begin(request, "" if body is None else media_type, **headers)
    if body is not None:
        request.setHeader("Content-Length", str(len(body)))
        if request.method != b"HEAD":
            request.write(body)
    request.finish()


def begin(request: Request, media_type: str, **headers: str) -> None:
    """Set the headers that every answer has."""
    for name, value in {**HEADERS, **headers}.items():
        request.setHeader(name, value)
    if media_type:
        request.setHeader("Content-Type", media_type)
    else:
        request.responseHeaders.removeHeader("content-type")
        request.defaultContentType = None


def _gone(failure: Failure, answering: Deferred[None]) -> None:
    failure.trap(ConnectionDone, ConnectionLost, CancelledError)
    answering.cancel()


def _failed(failure: Failure, request: Request) -> None:
    if failure.check(CancelledError):
        return
    log.failure("HTTP: {path} failed", failure, path=request.path)
    if not request.startedWriting and not request._disconnected:
        send_problem(request, Problem(500, "An error of the server; its log says more."))
