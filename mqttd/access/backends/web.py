"""Asks web services, by treq: few requests at once, small answers, no detours.

Used by the ``http`` authenticator and rule source, and for JWKS. Redirects are not followed, no
proxy is used, and a certificate is checked always.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from OpenSSL.SSL import Error as SSLError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from zope.interface import implementer

from mqttd.access.backends import BackendError, read_secret
from mqttd.access.extras import need
from mqttd.access.workload import Workload
from mqttd.client_tls import ServerName, load_own, load_trust
from mqttd.settings_authentication import WebLoginSettings


class WebClient:
    """Requests to one service."""

    def __init__(
        self,
        reactor: Any,
        *,
        ca_file: str = "",
        client_certificate: str = "",
        token_file: str = "",
        connections: int = 1,
        timeout: float = 5.0,
        maximum_answer: int = 65_536,
    ) -> None:
        """
        :param timeout: seconds that an answer may take, all of it.
        :param maximum_answer: bytes.
        :raise ValueError: for files that cannot be used.
        """
        treq = need("treq", "http")
        client = need("twisted.web.client", "http")
        iweb = need("twisted.web.iweb", "http")
        self._treq = treq
        self._reactor = reactor
        self._timeout = timeout
        self._maximum_answer = maximum_answer
        self._token_file = token_file
        self._token = read_secret(token_file) if token_file else ""
        trust, own = load_trust(ca_file), load_own(client_certificate)

        @implementer(iweb.IPolicyForHTTPS)
        class Policy:
            def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
                return ServerName(hostname.decode("ascii"), trust, own)

        self._pool = client.HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = connections
        agent = client.Agent(reactor, Policy(), connectTimeout=timeout, pool=self._pool)
        self._http = treq.client.HTTPClient(agent)
        self._stale = (
            client.ResponseNeverReceived,
            need("twisted.web._newclient", "http").RequestTransmissionFailed,
        )

    def reload(self) -> None:
        """Read the token anew."""
        if self._token_file:
            self._token = read_secret(self._token_file)

    def close(self) -> Any:
        """Close idle connections."""
        return self._pool.closeCachedConnections()

    async def request(self, method: str, url: str, **content: Any) -> tuple[int, bytes]:
        """Status and body of the answer; *content* is ``json`` or ``data``.

        :raise BackendError: when there is none, or one that is too large.
        """
        work: Deferred[tuple[int, bytes]] = Deferred.fromCoroutine(
            self._twice(method, url, content)
        )
        work.addTimeout(self._timeout, self._reactor)
        try:
            return await work
        except BackendError:
            raise
        except Exception as error:
            raise BackendError(_reason(error)) from None

    async def _twice(self, method: str, url: str, content: dict[str, Any]) -> tuple[int, bytes]:
        try:
            return await self._once(method, url, content)
        except self._stale as error:
            if any(each.check(CancelledError, SSLError) for each in error.reasons):
                raise
            # The server had closed an idle connection; asking again changes nothing.
            return await self._once(method, url, content)

    async def _once(self, method: str, url: str, content: dict[str, Any]) -> tuple[int, bytes]:
        headers = {"User-Agent": "mqttd", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        response = await self._http.request(
            method, url, headers=headers, allow_redirects=False, unbuffered=True, **content
        )
        body = bytearray()

        def collect(data: bytes) -> None:
            body.extend(data)
            if len(body) > self._maximum_answer:
                raise BackendError(f"the answer is larger than {self._maximum_answer} bytes")

        await self._treq.collect(response, collect)
        return response.code, bytes(body)


class WebService:
    """One address that is asked with a document or a form, by many at once."""

    def __init__(self, settings: WebLoginSettings, reactor: Any) -> None:
        """:raise ValueError: for files that cannot be used, or a missing library."""
        self._url = settings.url
        self._as_json = settings.body == "json"
        self.client = WebClient(
            reactor,
            ca_file=settings.ca_file,
            client_certificate=settings.client_certificate,
            token_file=settings.token_file,
            connections=settings.connections,
            timeout=settings.timeout,
            maximum_answer=settings.maximum_answer,
        )
        self._workload = Workload(reactor, settings.connections, settings.maximum_waiting)

    async def ask(self, credentials: Any, question: dict[str, Any]) -> tuple[int, bytes]:
        """Status and body of the answer to *question*, which is about *credentials*.

        :raise LoginRefused: when there is none, or no place to wait for it.
        """
        if self._as_json:
            content: dict[str, Any] = {"json": question}
        else:
            content = {"data": {name: _as_text(value) for name, value in question.items()}}
        work = partial(self.client.request, "POST", self._url, **content)
        answer: tuple[int, bytes] = await self._workload.run(credentials, work)
        return answer


def _as_text(value: Any) -> str:
    """A value as a form has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _reason(error: Exception) -> str:
    """What is wrong with the service, in words that hold none of the request."""
    causes = [getattr(each, "value", each) for each in getattr(error, "reasons", ())]
    for each in (error, *causes):
        if isinstance(each, (CancelledError, TimeoutError)):
            return "no answer in time"
        if isinstance(each, SSLError):
            return "TLS failed: check the server's certificate, its name and ca_file"
        if isinstance(each, DNSLookupError):
            return "the server's name is not known"
        if isinstance(each, (ConnectError, ConnectionClosed)):
            return f"no connection: {type(each).__name__}"
    return f"a broken answer ({type(error).__name__})"
