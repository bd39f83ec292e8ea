"""The control API as a client sees it: over the Unix socket, or over HTTPS.

Commands call ``get``, ``post`` and the like and get what the JSON says; an answer
that is an error becomes a ``Failed``. Knows no command.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from mqttd.ctl.errors import Failed
from mqttd.paths import find_control_socket

#: Seconds to wait for an answer.
TIMEOUT = 30.0

#: Seconds that a stream may be silent.
QUIET = 60.0

#: Bytes of one event: a payload of 256 MB in base64.
MAXIMUM_LINE = 400_000_000

#: Names the control socket, where the option does not.
SOCKET_VARIABLE = "MQTTD_SOCKET"
#: The token for --url, where no file is named.
TOKEN_VARIABLE = "MQTTD_TOKEN"

#: Items in one page of a list.
PAGE = 1000


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class API:
    """The API of one daemon."""

    def __init__(self, where: str, connection: http.client.HTTPConnection, token: str = "") -> None:
        #: What errors call the daemon.
        self.where = where
        self._connection = connection
        self._token = token

    def get(self, *path: str, **query: Any) -> Any:
        """GET the path with these segments (unquoted); None in *query* is left out."""
        return self.call("GET", path, query=query)

    def post(self, *path: str, body: Any = None) -> Any:
        return self.call("POST", path, body=body)

    def put(self, *path: str, body: Any = None) -> Any:
        return self.call("PUT", path, body=body)

    def patch(self, *path: str, body: Any = None) -> Any:
        return self.call("PATCH", path, body=body)

    def delete(self, *path: str, **query: Any) -> Any:
        return self.call("DELETE", path, query=query)

    def items(self, *path: str, most: int | None = None, **query: Any) -> Iterator[Any]:
        """The items of a list, page by page, *most* of them."""
        after = None
        left = most
        while True:
            limit = PAGE if left is None else min(PAGE, left)
            page = self.get(*path, limit=limit, after=after, **query)
            yield from page["items"]
            after = page["next"]
            if left is not None:
                left -= len(page["items"])
            if after is None or left == 0:
                return

    def call(self, method: str, path: tuple[str, ...], query: Any = None, body: Any = None) -> Any:
        """What the answer's JSON says; None where it has no body.

        :raise Failed: with the reason that the daemon gave.
        """
        response = self.open(method, path, query, body)
        try:
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        return json.loads(content) if content else None

    def open(
        self, method: str, path: tuple[str, ...], query: Any = None, body: Any = None
    ) -> http.client.HTTPResponse:
        """A good answer, whose body is still to be read."""
        target = "/api/v1/" + "/".join(quote(part, safe="") for part in path)
        given = {name: _text(value) for name, value in (query or {}).items() if value is not None}
        if given:
            target += "?" + urlencode(given)
        headers = {"Accept": "application/json, text/event-stream"}
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            self._connection.request(method, target, content, headers)
            response = self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        if response.status >= 400:
            raise Failed(_explained(response))
        return response

    def events(self, *path: str, **query: Any) -> Iterator[tuple[str, Any]]:
        """The events of a stream (Server-Sent Events), name and data, until it ends."""
        response = self.open("GET", path, query)
        # A stream may be quiet for long; its server says now and then that it lives.
        if self._connection.sock is not None:
            self._connection.sock.settimeout(QUIET)
        name = "message"
        try:
            while line := response.readline(MAXIMUM_LINE):
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield name, json.loads(value)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        finally:
            # Nothing else can be asked while a stream is open.
            self._connection.close()

    def _unreachable(self, error: Exception) -> Failed:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, PermissionError):
            remedy = "only the user that mqttd runs as, and root, may use it"
        elif isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
            remedy = "is mqttd running? --socket names another control socket, --url a remote one"
        else:
            remedy = "the daemon's log may say more"
        return Failed(f"cannot talk to mqttd at {self.where}: {reason} ({remedy})")


def open_api(
    path: str | None = None,
    url: str | None = None,
    token_file: str | None = None,
    ca_file: str | None = None,
    timeout: float = TIMEOUT,
) -> API:
    """The API at *url*, or at the Unix socket *path*, or where a daemon has it.

    :raise Failed: when the address or the token cannot be used.
    """
    if url:
        return _over_network(url, _token(token_file), ca_file, timeout)
    path = path or os.environ.get(SOCKET_VARIABLE) or str(find_control_socket())
    return API(path, UnixConnection(path, timeout))


def _over_network(url: str, token: str, ca_file: str | None, timeout: float) -> API:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = urlsplit("")
    if not host or parts.scheme not in ("http", "https"):
        raise Failed(f"--url {url}: not a URL such as https://broker.example:8443")
    if parts.scheme == "https":
        context = _trust(ca_file)
        secure = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
        return API(url, secure, token)
    if parts.scheme == "http" and token and host not in ("localhost", "127.0.0.1", "::1"):
        raise Failed(f"--url {url}: a token goes over https only, or to this machine")
    return API(url, http.client.HTTPConnection(host, port, timeout=timeout), token)


def _trust(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        # ssl.SSLError, for what is no PEM, is one, too.
        raise Failed(f"--ca-file {ca_file}: {error.strerror or error}") from None


def _token(file: str | None) -> str:
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "")
    try:
        return Path(file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a token"
        raise Failed(f"--token-file {file}: {reason}") from None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _explained(response: http.client.HTTPResponse) -> str:
    try:
        problem = json.loads(response.read())
        text = problem.get("detail") or problem["title"]
        return "\n".join([text, *problem.get("errors", ())])
    except (ValueError, KeyError, AttributeError, OSError, http.client.HTTPException):
        return f"the daemon answers {response.status} {response.reason}"
