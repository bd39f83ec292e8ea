"""The doors of the API: a Unix socket for this machine's operator.

The service makes one ``HTTPControl``. Whoever may open the socket, which only
its owner may, is an administrator: that right is the file system's to give.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred, succeed
from twisted.logger import Logger

from mqttd.admin.http.call import Identity
from mqttd.admin.http.routes import all_routes
from mqttd.admin.http.site import API, ControlSite, Folder
from mqttd.admin.http.table import Role, Table

if TYPE_CHECKING:
    from mqttd.settings import HTTPSettings

log = Logger()

#: Bytes of a path that a Unix socket can be bound to on every system.
LONGEST_PATH = 103


#: Whoever could open the socket.
OPERATOR = Identity("operator", Role.ADMINISTRATOR)


class ControlError(Exception):
    """A door that cannot be opened; says which and why."""


class HTTPControl:
    """The API of one daemon."""

    def __init__(
        self, reactor: Any, daemon: Any, settings: HTTPSettings, default_socket: str = ""
    ) -> None:
        """
        :param daemon: an ``IDaemon``.
        :param default_socket: the path where the settings name none; "" for none.
        """
        self._reactor = reactor
        self._settings = settings
        self._default_socket = default_socket
        self._table = Table.of(all_routes())
        self._daemon = daemon
        self._ports: list[Any] = []
        self._sites: list[ControlSite] = []

    def start(self) -> None:
        """Open the socket.

        :raise ControlError: when the settings name one that cannot be opened.
        """
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
        site = self._site(lambda request: succeed(OPERATOR))
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

    def _site(self, authenticate: Any) -> ControlSite:
        settings = self._settings
        root = Folder()
        version = Folder()
        root.putChild(b"api", version)
        version.putChild(b"v1", API(self._table, self._daemon, authenticate))
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
