"""The doors of the API: a Unix socket for this machine's operator, and TCP.

The service makes one ``HTTPControl``. Who comes through which door as what, ``doors``
says; what can be asked is the same.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqttd.admin.http.audit import Audit
from mqttd.admin.http.dashboard import NAME, Dashboard, ToDashboard
from mqttd.admin.http.doors import Doorkeeper, by_socket
from mqttd.admin.http.routes import all_routes, root_routes
from mqttd.admin.http.site import API, ControlSite, Folder, Root
from mqttd.admin.http.table import Table
from mqttd.admin.http.tokens import TokenError, Tokens
from mqttd.config.endpoints import is_local, is_tls

if TYPE_CHECKING:
    from mqttd.settings import HTTPSettings

log = Logger()

#: Bytes of a path that a Unix socket can be bound to on every system.
LONGEST_PATH = 103


class ControlError(Exception):
    """A door that cannot be opened; says which and why."""


class HTTPControl:
    """The API of one daemon."""

    def __init__(
        self,
        reactor: Any,
        daemon: Any,
        settings: HTTPSettings,
        default_socket: str = "",
        default_tokens: str = "",
        secure: Callable[[Any], Any] = lambda site: site,
        audit_file: str = "",
    ) -> None:
        """
        :param daemon: an ``IDaemon``.
        :param default_socket: the path where the settings name none; "" for none.
        :param default_tokens: the same for the file of the tokens; "" keeps them
            in memory.
        :param secure: puts TLS around a factory, by the certificate of the settings.
        :param audit_file: where changes are written, too; "" for nowhere.
        """
        self._reactor = reactor
        self._settings = settings
        self._default_socket = default_socket
        self._secure = secure
        self._root = root_routes()
        self._daemon = daemon
        #: Who may come in over TCP, besides users with a role.
        self.tokens = Tokens(settings.token_file or default_tokens)
        #: Who has changed what.
        self.audit = Audit(audit_file)
        self._ports: list[Any] = []
        self._sites: list[ControlSite] = []

    @cached_property
    def _table(self) -> Table:
        """Made for the first door: who opens none needs no routes."""
        return Table.of(all_routes())

    def start(self) -> None:
        """Open the doors.

        :raise ControlError: when one that the settings name cannot be opened.
        """
        try:
            self.tokens.load()
        except TokenError as error:
            raise ControlError(str(error)) from error
        self._open_sockets()
        if self._settings.endpoint:
            self._open_endpoint(self._settings.endpoint)

    def _open_sockets(self) -> None:
        path = self._settings.socket
        if path and path != "none":
            self._open_socket(path)
        elif not path and self._default_socket:
            try:
                self._open_socket(self._default_socket)
            except ControlError as error:
                # The second daemon of a user, say: it works, but for mqttctl.
                log.warn("There is no control socket: {error}", error=error)

    def stop(self) -> Deferred[None]:
        """Close the doors and cut who is inside; done when nothing is open."""
        ports, self._ports = self._ports, []
        closing = gatherResults([maybeDeferred(port.stopListening) for port in ports])
        for site in self._sites:
            site.cut()
        self._sites = []
        return closing.addCallback(lambda ignored: None)

    def _open_socket(self, path: str) -> None:
        _prepare(path)
        site = self._site(by_socket, Folder())
        # Never open to others, not even between making it and setting its mode.
        before = os.umask(0o177)
        try:
            self._ports.append(self._reactor.listenUNIX(path, site, mode=0o600))
        except Exception as error:
            reason = getattr(error, "socketError", error)
            raise ControlError(f"cannot listen on the control socket {path}: {reason}") from error
        finally:
            os.umask(before)
        log.info("The control socket is {path}", path=path)

    def _open_endpoint(self, endpoint: str) -> None:
        settings = self._settings
        secure = settings.certificate or is_tls(endpoint)
        if not (settings.plain or is_local(endpoint) or secure):
            raise ControlError(
                f"endpoint {endpoint!r} of [http] can be reached from outside and is not TLS: "
                "name a certificate, or interface=127.0.0.1 with a proxy in front, or say "
                "plain = true"
            )
        factory: Any = self._site(
            Doorkeeper(self._daemon, self.tokens), Root(self._daemon.find_websocket)
        )
        if settings.certificate:
            try:
                factory = self._secure(factory)
            except ValueError as error:
                raise ControlError(f"certificate of [http]: {error}") from error
        opening = Deferred.fromCoroutine(self._listen(endpoint, factory))
        failed: list[str] = []

        def note(failure: Failure) -> None:
            reason = getattr(failure.value, "socketError", failure.value)
            failed.append(f"cannot serve HTTP on {endpoint!r}: {reason}")
            log.critical("{problem}", problem=failed[0])

        opening.addErrback(note)
        if failed:
            raise ControlError(failed[0])
        if not self.tokens and not settings.roles:
            # Not a secret that lasts: it ends with the first token that is made.
            log.warn(
                "Nobody may use the HTTP API yet. Make a token with mqttctl tokens create, or "
                "with this one, which ends then: {token}",
                token=self.tokens.offer_first(),
            )

    async def _listen(self, endpoint: str, factory: Any) -> None:
        self._ports.append(await serverFromString(self._reactor, endpoint).listen(factory))
        log.info("The HTTP API is at {endpoint}", endpoint=endpoint)

    def _site(self, authenticate: Any, root: Folder) -> ControlSite:
        settings = self._settings
        version = Folder()
        root.putChild(b"api", version)
        version.putChild(b"v1", API(self._table, self._daemon, authenticate, audit=self.audit))
        for route in self._root:
            name = route.segments[0]
            table = Table.of([route])
            page = API(table, self._daemon, authenticate, (name,), self.audit)
            root.putChild(name.encode(), page)
        if settings.dashboard:
            root.putChild(NAME, Dashboard())
            root.index = ToDashboard()
        site = ControlSite(
            root,
            self._reactor,
            timeout=settings.request_timeout,
            maximum_body=settings.maximum_body,
            maximum_connections=settings.maximum_connections,
        )
        self._sites.append(site)
        return site


def _prepare(path: str) -> None:
    """Make way for a socket at *path*: its folder, and no stale socket."""
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise ControlError(
            f"the path of the control socket is too long ({path}): name one of at most "
            f"{LONGEST_PATH} bytes with socket in [http]"
        )
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ControlError(f"{path} is there and is no socket: name another in [http]")
    except FileNotFoundError:
        return
    except OSError as error:
        raise ControlError(f"cannot use {path} for the control socket: {error.strerror}") from error
    if _is_served(path):
        raise ControlError(
            f"the control socket {path} is another daemon's: name another with socket in [http]"
        )
    os.unlink(path)


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            # Its backlog is full, or it is not ours to ask.
            return True
    return True
