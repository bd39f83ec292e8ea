"""Asks LDAP directories, by ldap3 in threads: does this password let this user bind?

What a client says is escaped, for names and filters each in its way. An empty password
is never sent: to a directory that is an anonymous bind, which succeeds.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from threading import Thread
from typing import Any

from attrs import frozen
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from mqttd.access.backends import BackendError, read_secret
from mqttd.access.backends.template import fill, needed
from mqttd.access.extras import need
from mqttd.access.workload import Workload
from mqttd.settings_authentication import LDAPSettings


@frozen
class Entry:
    """A user who could bind."""

    dn: str
    #: As the directory spells it; "" when that was not asked for.
    user: str = ""
    groups: tuple[str, ...] = ()


class Directory:
    """One directory."""

    def __init__(self, settings: LDAPSettings, reactor: Any) -> None:
        """:raise ValueError: for files that cannot be used, or a missing library."""
        self._settings = settings
        self._reactor = reactor
        self._ldap = need("ldap3", "ldap")
        self._escape_filter: Callable[[str], str] = need(
            "ldap3.utils.conv", "ldap"
        ).escape_filter_chars
        self._escape_dn: Callable[[str], str] = need("ldap3.utils.dn", "ldap").escape_rdn
        self._bind_password = ""
        self.reload()
        self._workload = Workload(
            reactor,
            settings.connections,
            settings.maximum_waiting,
            timeout=4 * settings.timeout,
            cancels=False,
        )
        self._pool: ThreadPool | None = None

    def start(self) -> None:
        """Threads are made when there is work."""
        if self._pool is None:
            self._pool = ThreadPool(0, self._settings.connections, "mqttd LDAP")
            self._pool.start()

    def stop(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            # It waits for what is under way, which is nothing for the reactor.
            Thread(target=pool.stop, name="mqttd LDAP end").start()

    def reload(self) -> None:
        """Read the password of the one who searches anew."""
        path = self._settings.bind_password_file
        self._bind_password = read_secret(path) if path else ""
        if self._settings.ca_file and not Path(self._settings.ca_file).is_file():
            raise ValueError(f"{self._settings.ca_file}: no such file")

    async def find(self, credentials: Any) -> Entry | bool | None:
        """The entry that the credentials can bind as.

        False when the password is wrong, None when there is no such user.
        :raise BackendError: when the directory does not tell.
        """
        settings = self._settings
        values = needed(settings.user_dn or settings.search_filter, credentials)
        if values is None:
            return None
        if not credentials.password:
            return False
        return await self._workload.run(  # type: ignore[no-any-return]
            credentials, lambda: self._in_thread(values, credentials.password)
        )

    def _in_thread(self, values: dict[str, str], password: bytes) -> Any:
        if self._pool is None:
            raise BackendError("closed")
        return deferToThreadPool(self._reactor, self._pool, self._guarded, values, password)

    # --- in a thread ----------------------------------------------------------

    def _guarded(self, values: dict[str, str], password: bytes) -> Entry | bool | None:
        try:
            return self._find(values, password.decode())
        except UnicodeDecodeError:
            return False
        except BackendError:
            raise
        except Exception as error:
            # Of whatever kind: ldap3 does not wrap all that can go wrong.
            raise BackendError(f"LDAP: {type(error).__name__}") from None

    def _find(self, values: dict[str, str], password: str) -> Entry | bool | None:
        settings = self._settings
        if settings.user_dn:
            return self._bind_as(fill(settings.user_dn, values, self._escape_dn), password)
        found = self._search(fill(settings.search_filter, values, self._escape_filter))
        if found is not None:
            return self._bind_as(found, password)
        # So that it takes about as long as for a user that is known.
        self._bind_as(f"cn={token_hex(8)},{settings.search_base}", password)
        return None

    def _search(self, filter_text: str) -> str | None:
        """The name of the one entry that *filter_text* finds."""
        settings = self._settings
        connection = self._connect(settings.bind_dn, self._bind_password)
        try:
            if not connection.bind():
                raise BackendError("the directory does not accept bind_dn and its password")
            connection.search(
                settings.search_base,
                filter_text,
                attributes=[],
                size_limit=2,
                time_limit=math.ceil(settings.timeout),
            )
            entries = [each for each in connection.response if each["type"] == "searchResEntry"]
            if len(entries) > 1:
                raise BackendError("search_filter finds more than one entry")
            if connection.result["result"] not in (0, 32):  # success, noSuchObject
                raise BackendError(f"the search failed: {connection.result['description']}")
            return entries[0]["dn"] if entries else None
        finally:
            connection.unbind()

    def _bind_as(self, dn: str, password: str) -> Entry | bool:
        connection = self._connect(dn, password)
        try:
            if not connection.bind():
                if connection.result["result"] in (32, 34, 49):
                    # noSuchObject, invalidDNSyntax, invalidCredentials
                    return False
                raise BackendError(f"the bind failed: {connection.result['description']}")
            return self._read(connection, dn)
        finally:
            connection.unbind()

    def _read(self, connection: Any, dn: str) -> Entry:
        """What the settings want to know of the user who has bound."""
        user_attribute = self._settings.user_attribute
        groups_attribute = self._settings.groups_attribute
        wanted = [name for name in (user_attribute, groups_attribute) if name]
        if not wanted:
            return Entry(dn)
        connection.search(dn, "(objectClass=*)", search_scope=self._ldap.BASE, attributes=wanted)
        found = [each for each in connection.response if each["type"] == "searchResEntry"]
        attributes = found[0]["attributes"] if found else {}
        users = _values(attributes, user_attribute)
        if user_attribute and len(users) != 1:
            raise BackendError(f"a user's entry shows its user no single {user_attribute}")
        return Entry(dn, users[0] if users else "", _values(attributes, groups_attribute))

    def _connect(self, dn: str, password: str) -> Any:
        ldap, settings = self._ldap, self._settings
        seconds = math.ceil(settings.timeout)  # ldap3 takes whole ones only
        tls = ldap.Tls(
            validate=ssl.CERT_REQUIRED,
            version=ssl.PROTOCOL_TLS_CLIENT,
            ca_certs_file=settings.ca_file or None,
        )
        server = ldap.Server(settings.url, connect_timeout=seconds, get_info=ldap.NONE, tls=tls)
        connection = ldap.Connection(
            server,
            dn or None,
            password or None,
            receive_timeout=seconds,
            auto_referrals=False,
            read_only=True,
        )
        if settings.start_tls:
            connection.open()
            if not connection.start_tls():
                raise BackendError("the directory refuses StartTLS")
        return connection


def _values(attributes: Any, name: str) -> tuple[str, ...]:
    values = attributes.get(name, []) if name else []
    return tuple(map(str, values if isinstance(values, list) else [values]))
