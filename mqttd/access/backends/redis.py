"""Asks Redis, by txredisapi: fields of one hash, or all of it.

txredisapi takes Twisted's own reactor when it is imported, so it is imported
when a client is made and no sooner.
"""

from __future__ import annotations

from typing import Any

from mqttd.access.backends import BackendError, read_secret
from mqttd.access.backends.template import fill, needed
from mqttd.access.extras import need
from mqttd.access.workload import Workload
from mqttd.client_tls import ServerName, load_trust
from mqttd.settings_authentication import RedisSettings


class Redis:
    """Hashes whose key has place holders."""

    def __init__(self, settings: RedisSettings, reactor: Any) -> None:
        """:raise ValueError: for files that cannot be used, or a missing library."""
        self._settings = settings
        self._library = need("txredisapi", "redis")
        self._password = self._read_password()
        self._trust = load_trust(settings.ca_file)
        self._workload = Workload(
            reactor, settings.connections, settings.maximum_waiting, timeout=settings.timeout
        )
        self._connection: Any = None

    def _read_password(self) -> str | None:
        path = self._settings.password_file
        return read_secret(path) if path else None

    def start(self) -> None:
        """Connect, and go on trying."""
        settings = self._settings
        tls: Any = False
        if settings.tls:
            tls = ServerName(settings.host, self._trust)
        self._connection = self._library.lazyConnectionPool(
            host=settings.host,
            port=settings.port,
            dbid=settings.database or None,
            poolsize=settings.connections,
            password=self._password,
            ssl_context_factory=tls,
            connectTimeout=settings.timeout,
            replyTimeout=settings.timeout,
            convertNumbers=False,
        )

    def stop(self) -> Any:
        connection, self._connection = self._connection, None
        if connection is not None:
            # It waits for its sockets; nothing of ours depends on them.
            connection.disconnect().addErrback(lambda failure: None)

    def reload(self) -> None:
        """Read the password anew; connect again if it has changed."""
        password = self._read_password()
        if password != self._password:
            self._password = password
            if self._connection is not None:
                self.stop()
                self.start()

    async def fields(self, credentials: Any, *names: str) -> dict[str, str] | None:
        """Those of the fields *names* that are there; None when the client lacks
        something that the key is made of.

        :raise BackendError: when there is no answer.
        """
        values = needed(self._settings.key, credentials)
        if values is None:
            return None
        key = fill(self._settings.key, values)
        answer = await self._workload.run(credentials, lambda: self._ask(key, names))
        if not isinstance(answer, list) or len(answer) != len(names):
            raise BackendError("an answer that is not what HMGET gives")
        found = dict(zip(names, answer, strict=True))
        if not all(value is None or isinstance(value, str) for value in found.values()):
            raise BackendError("a field that is not UTF-8 text")
        return {name: value for name, value in found.items() if value is not None}

    async def everything(self, credentials: Any) -> dict[str, str]:
        """All fields of the hash; none when the client lacks something that the key
        is made of.

        :raise BackendError: when there is no answer.
        """
        values = needed(self._settings.key, credentials)
        if values is None:
            return {}
        key = fill(self._settings.key, values)
        answer = await self._workload.run(credentials, lambda: self._ask(key))
        if not isinstance(answer, dict) or not all(
            isinstance(part, str) for pair in answer.items() for part in pair
        ):
            raise BackendError("an answer that is not what HGETALL gives")
        return answer

    async def _ask(self, key: str, names: tuple[str, ...] = ()) -> Any:
        """Those of the fields *names*, or without any all of them."""
        if self._connection is None:
            raise BackendError("closed")
        try:
            if not names:
                return await self._connection.hgetall(key)
            return await self._connection.hmget(key, names)
        except Exception as error:
            # WRONGTYPE and the like quote no values, but their class is enough.
            raise BackendError(f"Redis: {type(error).__name__}") from None
