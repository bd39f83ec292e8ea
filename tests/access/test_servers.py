"""Users in real servers: PostgreSQL, MariaDB, SQLite, Redis and OpenLDAP."""

from __future__ import annotations

import gc
import os
import socket
import sqlite3
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.cred.error import UnauthorizedLogin
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from mqttd.access.hashing import HashPool
from mqttd.access.stored_hash import DirectoryLogin, RedisLogin, SQLLogin
from mqttd.interfaces import NOT_MINE, Avatar, LoginUnavailable
from mqttd.settings import PasswordHashing
from mqttd.settings_authentication import LDAPSettings, RedisSettings, SQLSettings
from tests.access.logins import login
from tests.certificates import Authority, dns
from tests.end_to_end.daemon import free_port
from tests.servers import PASSWORD, TRICKY, USER, Server, statements

QUERY = (
    "SELECT name AS username, password, superuser, team, 'staff, night' AS groups, "
    "'100%' AS quota FROM users WHERE name = ${username}"
)
SECRET = PASSWORD.encode()

#: What people have tried on SQL, Redis and LDAP.
INJECTIONS = ("' OR '1'='1", "ann'--", "*", "a*", "ann)(uid=*", "\\", "%", "ann\0", "${username}")


class WithServer(TestCase):
    """Asks one authenticator, which ``make`` makes."""

    timeout = 60

    def setUp(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.secret = os.path.join(self.folder.name, "secret")
        Path(self.secret).write_text("db-secret\n")
        self.pool = HashPool(reactor, PasswordHashing())
        self.pool.start()
        self.addCleanup(self.pool.stop)

    def started(self, authenticator: Any) -> Any:
        authenticator.start()
        self.addCleanup(self.settle)
        self.addCleanup(authenticator.stop)
        return authenticator

    def settle(self) -> Any:
        """What was closed needs a turn or two to be gone."""
        return deferLater(reactor, 0.05, lambda: None)

    def ask(self, authenticator: Any, user: str | None, password: bytes | None) -> Deferred[Any]:
        return ensureDeferred(authenticator.authenticate(login(user, password)))

    def refused(self, authenticator: Any, user: str, password: bytes | None) -> Any:
        return self.assertFailure(self.ask(authenticator, user, password), UnauthorizedLogin)

    def unavailable(self, authenticator: Any) -> Any:
        return self.assertFailure(self.ask(authenticator, USER, SECRET), LoginUnavailable)


class Databases(WithServer):
    @pytest.fixture(autouse=True)
    def _server(self, postgresql: Server, mariadb: Server) -> None:
        self.postgresql, self.mariadb = postgresql, mariadb

    def settings(self, driver: str, **more: Any) -> SQLSettings:
        if driver == "sqlite":
            path = os.path.join(self.folder.name, "users.db")
            if not os.path.exists(path):
                connection = sqlite3.connect(path)
                connection.executescript(statements())
                connection.close()
            return SQLSettings(driver=driver, database=path, query=more.pop("query", QUERY), **more)
        server = self.postgresql if driver == "postgresql" else self.mariadb
        fields = {
            "port": server.port,
            "host": "127.0.0.1",
            "user": "mqttd",
            "database": "postgres" if driver == "postgresql" else "mqtt",
            "password_file": self.secret,
            "query": QUERY,
        }
        return SQLSettings(driver=driver, **{**fields, **more})

    def make(self, driver: str, **more: Any) -> Any:
        return self.started(SQLLogin(self.settings(driver, **more), self.pool, reactor))

    async def answers_right(self, driver: str) -> None:
        users = self.make(driver)
        avatar = await self.ask(users, USER, SECRET)
        claims = {"team": "blue", "quota": "100%", "groups": ["staff", "night"]}
        assert avatar == Avatar(USER, True, claims=claims, source="sql")
        tricky = await self.ask(users, TRICKY, SECRET)
        assert (tricky.principal, tricky.superuser) == (TRICKY, False)
        for password in (b"", b"Secret", b"db-secret", None):
            await self.refused(users, USER, password)
        await self.refused(users, "unset", SECRET)
        await self.assertFailure(self.ask(users, "clear", SECRET), LoginUnavailable)
        for user in ("eve", "", *INJECTIONS):
            assert await self.ask(users, user, SECRET) is NOT_MINE, user
        assert await self.ask(users, None, SECRET) is NOT_MINE

    async def test_postgresql(self) -> None:
        await self.answers_right("postgresql")

    async def test_mariadb(self) -> None:
        await self.answers_right("mariadb")

    async def test_sqlite(self) -> None:
        await self.answers_right("sqlite")

    async def test_a_database_that_spells_names_otherwise_says_how(self) -> None:
        users = self.make("mariadb")
        avatar = await self.ask(users, "ANN", SECRET)
        assert avatar.principal == "ann"

    async def test_many_at_once(self) -> None:
        for driver in ("postgresql", "mariadb", "sqlite"):
            users = self.make(driver, connections=3)
            asked = [self.ask(users, USER, SECRET) for _ in range(30)]
            results: Any = await DeferredList(asked)
            assert all(result.principal == USER for _, result in results)

    async def test_a_wrong_query_is_an_error(self) -> None:
        for driver in ("postgresql", "mariadb", "sqlite"):
            for query in (
                "SELECT nothing FROM users WHERE name = ${username}",
                "SELECT name FROM users WHERE name = ${username}",
                "SELECT password FROM users WHERE '' <> ${username}",
                "DELETE FROM users WHERE name = ${username} || 'x'",
            ):
                await self.unavailable(self.make(driver, query=query))

    async def test_a_wrong_password_of_ours_is_an_error_and_a_reload_takes_the_right_one(
        self,
    ) -> None:
        for driver in ("postgresql", "mariadb"):
            Path(self.secret).write_text("wrong")
            users = self.make(driver)
            await self.unavailable(users)
            Path(self.secret).write_text("")
            with pytest.raises(ValueError, match="is empty"):
                users.reload()
            Path(self.secret).write_text("db-secret")
            users.reload()
            assert (await self.ask(users, USER, SECRET)).principal == USER

    async def test_a_connection_that_the_server_has_closed_is_made_anew(self) -> None:
        users = self.make("postgresql", connections=1)
        assert (await self.ask(users, USER, SECRET)).principal == USER
        import psycopg

        where = f"host=127.0.0.1 port={self.postgresql.port} dbname=postgres"
        with psycopg.connect(f"{where} user=mqttd password=db-secret") as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        assert (await self.ask(users, USER, SECRET)).principal == USER

    async def test_the_end_does_not_wait_for_a_slow_query(self) -> None:
        query = "SELECT password, pg_sleep(1) FROM users WHERE name = ${username}"
        users = self.make("postgresql", query=query)
        asked = self.ask(users, USER, SECRET)
        await deferLater(reactor, 0.2, lambda: None)
        users.stop()
        # Somebody else waits for the query, and it is not the reactor.
        assert "mqttd SQL end" in [thread.name for thread in threading.enumerate()]
        assert (await asked).principal == USER

    async def test_a_slow_query_is_stopped(self) -> None:
        for driver, sleep in (("postgresql", "pg_sleep(30)"), ("mariadb", "sleep(30)")):
            query = f"SELECT password, {sleep} FROM users WHERE name = ${{username}}"
            await self.unavailable(self.make(driver, query=query, timeout=0.5))

    def test_what_is_missing_is_told_at_the_start(self) -> None:
        missing = os.path.join(self.folder.name, "missing")
        settings = self.settings("sqlite")
        with pytest.raises(ValueError, match="no such database"):
            SQLLogin(evolve(settings, database=missing), self.pool, reactor)
        with pytest.raises(ValueError, match="cannot be read"):
            SQLLogin(self.settings("mariadb", password_file=missing), self.pool, reactor)


class InRedis(WithServer):
    @pytest.fixture(autouse=True)
    def _server(self, redis: Server) -> None:
        self.redis = redis

    def make(self, **more: Any) -> Any:
        fields = {"host": "127.0.0.1", "port": self.redis.port, "password_file": self.secret}
        return self.started(RedisLogin(RedisSettings(**{**fields, **more}), self.pool, reactor))

    async def test_users(self) -> None:
        users = self.make()
        avatar = await self.ask(users, USER, SECRET)
        assert avatar == Avatar(USER, True, claims={"groups": ["staff", "night"]}, source="redis")
        assert (await self.ask(users, TRICKY, SECRET)).claims == {"groups": []}
        for password in (b"", b"Secret", None):
            await self.refused(users, USER, password)
        await self.refused(users, "unset", SECRET)
        for user in ("eve", "", "ANN", *INJECTIONS):
            assert await self.ask(users, user, SECRET) is NOT_MINE
        assert await self.ask(users, None, SECRET) is NOT_MINE

    async def test_what_is_no_hash_and_no_text_is_an_error(self) -> None:
        users = self.make()
        for user in ("clear", "text"):
            await self.assertFailure(self.ask(users, user, SECRET), LoginUnavailable)

    def tearDown(self) -> None:
        # txredisapi leaves the failure of a login to the garbage collector.
        gc.collect()
        self.flushLoggedErrors(ValueError)  # type: ignore[no-untyped-call]

    async def test_a_reload_takes_a_new_password(self) -> None:
        Path(self.secret).write_text("wrong")
        users = self.make(timeout=3)
        await self.unavailable(users)
        Path(self.secret).write_text("db-secret")
        users.reload()
        assert (await self.ask(users, USER, SECRET)).principal == USER


class InADirectory(WithServer):
    @pytest.fixture(autouse=True)
    def _server(self, directory: Server) -> None:
        self.directory = directory

    def make(self, **more: Any) -> Any:
        plain = f"ldap://127.0.0.1:{self.directory.port}"
        fields = {"url": plain, "groups_attribute": "ou", **more}
        return self.started(DirectoryLogin(LDAPSettings(**fields), reactor))

    def by_name(self, **more: Any) -> Any:
        return self.make(user_dn="uid=${username},ou=people,dc=example,dc=org", **more)

    def by_search(self, **more: Any) -> Any:
        Path(self.secret).write_text("admin-secret")
        return self.make(
            search_base="ou=people,dc=example,dc=org",
            bind_dn="cn=admin,dc=example,dc=org",
            bind_password_file=self.secret,
            **more,
        )

    async def test_a_search_and_a_bind(self) -> None:
        users = self.by_search(superusers=("ann",))
        avatar = await self.ask(users, "ann", SECRET)
        claims = {"groups": ["staff", "night"], "dn": "uid=ann,ou=people,dc=example,dc=org"}
        assert avatar == Avatar("ann", True, claims=claims, source="ldap")
        assert (await self.ask(users, "a+b,c(d)", SECRET)).principal == "a+b,c(d)"
        for password in (b"", b"Secret", b"\xff", None):
            await self.refused(users, "ann", password)
        for user in ("eve", "", *INJECTIONS):
            assert await self.ask(users, user, SECRET) is NOT_MINE, user

    async def test_a_bind_at_once(self) -> None:
        users = self.by_name()
        assert (await self.ask(users, "ann", SECRET)).principal == "ann"
        assert (await self.ask(users, "a+b,c(d)", SECRET)).principal == "a+b,c(d)"
        for password in (b"", b"Secret", None):
            await self.refused(users, "ann", password)
        for user in ("eve", "", "ann,ou=people", *INJECTIONS):
            await self.refused(users, user, SECRET)

    async def test_the_directory_spells_the_name(self) -> None:
        for users in (self.by_name(), self.by_search()):
            assert (await self.ask(users, "ANN", SECRET)).principal == "ann"

    async def test_tls(self) -> None:
        secure = f"ldaps://localhost:{self.directory.secure_port}"
        users = self.by_name(url=secure, ca_file=self.directory.authority)
        assert (await self.ask(users, "ann", SECRET)).principal == "ann"
        upgraded = self.by_name(
            url=f"ldap://localhost:{self.directory.port}",
            start_tls=True,
            ca_file=self.directory.authority,
        )
        assert (await self.ask(upgraded, "ann", SECRET)).principal == "ann"

    async def test_a_server_that_is_not_the_right_one_is_told_nothing(self) -> None:
        unknown = self.by_name(url=f"ldaps://localhost:{self.directory.secure_port}")
        await self.unavailable(unknown)
        upgraded = self.by_name(url=f"ldap://localhost:{self.directory.port}", start_tls=True)
        await self.unavailable(upgraded)

    async def test_a_server_of_another_name_is_told_nothing(self) -> None:
        folder = Path(self.folder.name)
        authority = Authority()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        told: list[bytes] = []
        for number, names in enumerate(([], dns("elsewhere"))):
            context.load_cert_chain(authority.issue("x", names).write(folder / f"{number}.pem"))
            with impostor(None, context, told) as port:
                users = self.by_name(
                    url=f"ldaps://localhost:{port}", ca_file=authority.write(folder / "ca.pem")
                )
                await self.unavailable(users)
        assert b"".join(told) == b""

    async def test_a_wrong_password_of_ours_is_an_error(self) -> None:
        users = self.by_search()
        Path(self.secret).write_text("wrong")
        users.reload()
        await self.unavailable(users)

    async def test_a_filter_that_finds_several_is_an_error(self) -> None:
        await self.unavailable(self.by_search(search_filter="(|(uid=${username})(uid=*))"))


# --- servers that are down, slow, or talk nonsense --------------------------------


@contextmanager
def impostor(
    answer: bytes | None,
    context: ssl.SSLContext | None = None,
    told: list[bytes] | None = None,
) -> Iterator[int]:
    """A server that says *answer* to whoever comes, or nothing; its port.

    With *context* it speaks TLS, and puts into *told* what it is told.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        streams: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    stream, _ = listening.accept()
                except OSError:
                    return
                streams.append(stream)
                if context is not None and told is not None:
                    told.append(_told_secretly(stream, context))
                if answer is not None:
                    stream.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            for stream in streams:
                stream.close()


def _told_secretly(stream: socket.socket, context: ssl.SSLContext) -> bytes:
    try:
        with context.wrap_socket(stream, server_side=True) as secure:
            return secure.recv(4096)
    except OSError:
        return b""


class Trouble(WithServer):
    def makers(self, port: int) -> list[Callable[[], Any]]:
        where: dict[str, Any] = {"port": port, "host": "127.0.0.1", "timeout": 0.5}
        database = {**where, "database": "d", "user": "u", "query": QUERY}
        url = f"ldap://127.0.0.1:{port}"
        ldap = LDAPSettings(url=url, user_dn="uid=${username},dc=x", timeout=1)
        return [
            lambda: SQLLogin(SQLSettings(driver="postgresql", **database), self.pool, reactor),
            lambda: SQLLogin(SQLSettings(driver="mariadb", **database), self.pool, reactor),
            lambda: RedisLogin(RedisSettings(**where), self.pool, reactor),
            lambda: DirectoryLogin(ldap, reactor),
        ]

    async def all_unavailable(self, *ports: int) -> None:
        waiting = [
            self.unavailable(self.started(make())) for port in ports for make in self.makers(port)
        ]
        for each in waiting:
            await each

    async def test_down(self) -> None:
        await self.all_unavailable(free_port())

    async def test_silent_or_talking_nonsense(self) -> None:
        answers = (None, b"\0" * 64, b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4, b"+OK\r\n" * 9)
        with ExitStack() as impostors:
            await self.all_unavailable(
                *(impostors.enter_context(impostor(answer)) for answer in answers)
            )
