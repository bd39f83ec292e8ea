"""Asks SQL databases, by ``twisted.enterprise.adbapi``: one row, or a few.

PostgreSQL (psycopg), MariaDB and MySQL (PyMySQL) and SQLite. What a client
says goes into a query as a parameter and in no other way. Queries run in the
threads of adbapi's pool; time limits stand in the drivers, since a thread cannot be
stopped, and around them.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from twisted.enterprise.adbapi import Connection, ConnectionPool

from mqttd.access.backends import BackendError, read_secret
from mqttd.access.backends.template import as_parameters, needed
from mqttd.access.extras import need
from mqttd.access.workload import Workload
from mqttd.settings_authentication import SQLSettings

#: Driver -> its module, the extra that has it, and how it writes parameters.
_DRIVERS = {
    "postgresql": ("psycopg", "postgresql", "pyformat"),
    "mariadb": ("pymysql", "mariadb", "pyformat"),
    "sqlite": ("sqlite3", "", "named"),
}


class _Connection(Connection):
    """Whatever fails on it, is its end."""

    def rollback(self) -> None:
        """There is nothing to undo, as we only read; but it may be out of step."""
        broken: Any = self._connection
        with suppress(Exception):
            broken.close()
        pool: Any = self._pool
        pool.connections.pop(pool.threadID(), None)


class _Pool(ConnectionPool):
    connectionFactory = _Connection

    def finalClose(self) -> None:
        """Wait for queries under way, which may take their time, but not in the reactor."""
        Thread(target=super().finalClose, name="mqttd SQL end").start()


class Database:
    """A query that is asked again and again."""

    def __init__(self, settings: SQLSettings, reactor: Any, most_rows: int = 1) -> None:
        """
        :param most_rows: more of them are an error.
        :raise ValueError: for files that cannot be used, or a missing driver.
        """
        module, extra, style = _DRIVERS[settings.driver]
        self._driver = need(module, extra)
        self._module = module
        self._settings = settings
        self._most_rows = most_rows
        self._reactor = reactor
        self._query = as_parameters(settings.query, style)
        self._workload = Workload(
            reactor,
            settings.connections,
            settings.maximum_waiting,
            # Twice, as a query may follow a new connection.
            timeout=2 * settings.timeout,
            cancels=False,
        )
        self._arguments = self._connection_arguments()
        self._pool: ConnectionPool | None = None

    def start(self) -> None:
        """Connections are made when there is something to ask."""
        if self._pool is None:
            self._pool = _Pool(  # type: ignore[no-untyped-call]
                self._module,
                cp_min=0,
                cp_max=self._settings.connections,
                cp_noisy=False,
                cp_reactor=self._reactor,
                **self._arguments,
            )

    def stop(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def reload(self) -> None:
        """Read the password anew, for connections to come."""
        arguments = self._connection_arguments()
        if arguments != self._arguments:
            self._arguments = arguments
            if self._pool is not None:
                self.stop()
                self.start()

    async def row(self, credentials: Any) -> dict[str, Any] | None:
        """The row for *credentials*, by column; None when there is none.

        :raise BackendError: when there is no answer, or more than one row.
        """
        rows = await self.rows(credentials)
        return rows[0] if rows else None

    async def rows(self, credentials: Any) -> list[dict[str, Any]]:
        """The rows for *credentials*, by column.

        :raise BackendError: when there is no answer, or there are too many.
        """
        values = needed(self._settings.query, credentials)
        if values is None or any("\0" in value for value in values.values()):
            return []
        rows: list[dict[str, Any]]
        rows = await self._workload.run(credentials, lambda: self._ask(values))
        if len(rows) > self._most_rows:
            raise BackendError(f"the query gives more than {self._most_rows} rows")
        return rows

    async def _ask(self, values: dict[str, str]) -> list[dict[str, Any]]:
        pool = self._pool
        if pool is None:
            raise BackendError("closed")
        begun = self._reactor.seconds()
        rows: list[dict[str, Any]]
        try:
            try:
                rows = await pool.runInteraction(self._read, values)
            except (self._driver.OperationalError, self._driver.InterfaceError):
                if self._reactor.seconds() - begun > self._settings.timeout / 2:
                    raise
                # The server had closed an idle connection, or was started anew.
                rows = await pool.runInteraction(self._read, values)
        except BackendError:
            raise
        except Exception as error:
            # Messages of drivers quote values; their class says what is wrong.
            raise BackendError(f"{type(error).__module__}.{type(error).__name__}") from None
        return rows

    def _read(self, cursor: Any, values: dict[str, str]) -> list[dict[str, Any]]:
        """In a thread: one row more than is right, to see that there are too many."""
        cursor.execute(self._query, values)
        names = [column[0].lower() for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchmany(self._most_rows + 1)]

    # --- connecting -----------------------------------------------------------

    def _connection_arguments(self) -> dict[str, Any]:
        settings = self._settings
        password = read_secret(settings.password_file) if settings.password_file else ""
        if settings.ca_file and not Path(settings.ca_file).is_file():
            raise ValueError(f"{settings.ca_file}: no such file")
        if settings.driver == "sqlite":
            return _sqlite(settings)
        if settings.driver == "mariadb":
            return _mariadb(settings, password)
        return _postgresql(settings, password)


def _sqlite(settings: SQLSettings) -> dict[str, Any]:
    path = Path(settings.database).absolute()
    if not path.is_file():
        # SQLite would make an empty one.
        raise ValueError(f"{path}: no such database")
    return {
        "database": f"{path.as_uri()}?mode=ro",
        "uri": True,
        "timeout": settings.timeout,
        "check_same_thread": False,
    }


def _mariadb(settings: SQLSettings, password: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "user": settings.user,
        "password": password,
        "database": settings.database,
        "connect_timeout": max(1, round(settings.timeout)),
        "read_timeout": settings.timeout,
        "write_timeout": settings.timeout,
        "charset": "utf8mb4",
        # Without it, each would see the table as it was at its first query.
        "autocommit": True,
    }
    if settings.host.startswith("/"):
        return {**arguments, "unix_socket": settings.host}
    if settings.tls:
        arguments |= {"ssl_ca": settings.ca_file, "ssl_verify_cert": True}
        arguments["ssl_verify_identity"] = True
    return {**arguments, "host": settings.host, "port": settings.port or 3306}


def _postgresql(settings: SQLSettings, password: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port or 5432,
        "dbname": settings.database,
        "user": settings.user,
        "password": password,
        "connect_timeout": max(2, round(settings.timeout)),
        "options": f"-c statement_timeout={round(settings.timeout * 1000)}",
        "autocommit": True,
        # Notices when the server vanishes without a word.
        "tcp_user_timeout": round(settings.timeout * 1000),
    }
    if settings.tls:
        return {**arguments, "sslmode": "verify-full", "sslrootcert": settings.ca_file}
    return {**arguments, "sslmode": "disable"}
