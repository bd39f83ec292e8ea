"""Rules that are looked up: a real web service, a real database."""

from __future__ import annotations

import json
import socket
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface.verify import verifyObject

from mqttd.access import looked_up
from mqttd.access.authorizer import AccessControl
from mqttd.access.looked_up import RedisRules, SQLRules, WebRules
from mqttd.interfaces import PUBLISH, RECEIVE, SUBSCRIBE, AccessRequest, IRuleSource
from mqttd.settings_access import RedisRulesSettings, SQLRulesSettings, WebRulesSettings
from tests.access.support import ask
from tests.servers import USER, Server


async def decided(source: Any, request: AccessRequest) -> tuple[bool, str] | None:
    """By a chain of this source alone; None: it had no opinion."""
    clock = Clock()
    decision = await ensure(AccessControl(clock, clock.seconds, [source]).decide(request))
    return None if decision.by == "no rule allows it" else (decision.allowed, decision.by)


def ensure(answer: Any) -> Deferred[Any]:
    if isinstance(answer, Deferred):
        return answer
    made: Deferred[Any] = Deferred()
    made.callback(answer)
    return made


class Service(Resource):
    """Answers as a test says, and remembers the questions."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.asked: list[Any] = []
        self.status = 200
        self.body: bytes | None = b'{"result": "allow"}'
        self.form = False

    def render_POST(self, request: Any) -> Any:
        content = request.content.read()
        self.asked.append(dict(request.args) if self.form else json.loads(content))
        if self.body is None:
            return NOT_DONE_YET
        request.setResponseCode(self.status)
        return self.body


class WebTests(TestCase):
    def setUp(self) -> None:
        self.service = Service()
        site = Site(self.service)
        listening: Any = reactor
        port = listening.listenTCP(0, site, interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{port.getHost().port}/acl"
        self.addCleanup(port.stopListening)
        self.addCleanup(site.stopFactory)

    def make(self, **more: Any) -> WebRules:
        source = WebRules(WebRulesSettings(url=self.url, **more), reactor)
        source.start()
        # stop() does the same and does not wait.
        self.addCleanup(source._service.client.close)
        return source

    async def test_it_is_asked_who_does_what(self) -> None:
        source = self.make()
        verifyObject(IRuleSource, source)
        request = ask("a/b", SUBSCRIBE, qos=1, address="192.0.2.7")
        assert await decided(source, request) == (True, self.url)
        assert self.service.asked == [
            {
                "username": "alice",
                "client_id": "c1",
                "address": "192.0.2.7",
                "listener": "tcp",
                "action": "subscribe",
                "topic": "a/b",
                "qos": 1,
                "retain": False,
            }
        ]

    async def test_a_form_is_sent_where_that_is_wanted(self) -> None:
        self.service.form = True
        assert await decided(self.make(body="form"), ask("a", user=None)) == (True, self.url)
        assert self.service.asked[0][b"topic"] == [b"a"]
        assert self.service.asked[0].get(b"username", [b""]) == [b""]
        assert self.service.asked[0][b"retain"] == [b"false"]

    async def test_what_it_may_answer(self) -> None:
        source = self.make()
        for status, body, allowed in (
            (204, b"", True),
            (200, b"allow", True),
            (200, b' {"result": "deny"} ', False),
            (200, b"deny", False),
            (403, b"whatever", False),
            (404, b'{"result": "allow"}', False),
        ):
            self.service.status, self.service.body = status, body
            answer = await decided(source, ask("t"))
            assert answer is not None
            assert answer[0] is allowed
        self.service.status, self.service.body = 200, b"ignore"
        assert await decided(source, ask("t")) is None

    async def test_nonsense_refuses_and_is_told_once(self) -> None:
        source = self.make(maximum_answer=100)
        clock = Clock()
        control = AccessControl(clock, clock.seconds, [source])
        with capturedLogs() as events:
            for status, body in (
                (200, b"allow" + b" " * 200),
                (500, b"allow"),
                (429, b"allow"),
                (302, b"allow"),
                (200, b""),
                (200, b"yes"),
                (200, b"{}"),
                (200, b'{"result": true}'),
                (200, b'{"result": "allow"'),
                (200, b"[1]"),
            ):
                self.service.status, self.service.body = status, body
                decision = await ensure(control.decide(ask("t")))
                assert not decision.allowed, body
                assert decision.by == f"{self.url} failed"
        lines = [formatEvent(event) for event in events if "failed" in str(event)]
        assert len(lines) == 1

    async def test_a_service_that_is_slow_or_gone_refuses(self) -> None:
        self.service.body = None
        answer = await decided(self.make(timeout=0.2), ask("t"))
        assert answer == (False, f"{self.url} failed")
        gone = WebRules(WebRulesSettings(url="http://127.0.0.1:1/"), reactor)
        assert await decided(gone, ask("t")) == (False, "http://127.0.0.1:1/ failed")

    async def test_more_than_may_wait_are_refused_at_once(self) -> None:
        self.service.body = None
        source = self.make(timeout=0.5, connections=1, maximum_waiting=1)
        answers = [ensure(decided_of(source, ask(str(n)))) for n in range(10)]
        busy = [answer for answer in answers if answer.called]
        assert len(busy) == 8
        for answer in answers:
            assert not (await answer).allowed


def decided_of(source: Any, request: AccessRequest) -> Any:
    clock = Clock()
    return AccessControl(clock, clock.seconds, [source]).decide(request)


ROWS = (
    ("alice", "deny", "all", "a/secret", None, None),
    ("alice", "allow", "publish", "a/%c/#", None, 0),
    ("alice", "allow", "subscribe", "a/#", 1, None),
    ("bob", "allow", "everything", "#", None, None),
    ("o'brien; --", "allow", "all", "x", None, None),
)
QUERY = (
    "SELECT permission, action, topic, qos, retain FROM acl WHERE username = ${username} "
    "ORDER BY id"
)


class SQLTests(TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name, "acl.db")
        database = sqlite3.connect(self.path)
        database.execute(
            "CREATE TABLE acl (id INTEGER PRIMARY KEY, username, permission, action, topic, "
            "qos, retain)"
        )
        database.executemany(
            "INSERT INTO acl (username, permission, action, topic, qos, retain) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            ROWS,
        )
        database.commit()
        self.database = database
        self.addCleanup(database.close)

    def make(self, query: str = QUERY, lifetime: float = 0.0, **more: Any) -> SQLRules:
        settings = SQLRulesSettings(
            name="db", driver="sqlite", database=str(self.path), query=query, **more
        )
        self.clock = Clock()
        source = SQLRules(settings, reactor, lifetime, self.clock.seconds)
        source.start()
        self.addCleanup(source.stop)
        return source

    async def test_the_rows_are_rules_in_order(self) -> None:
        source = self.make()
        verifyObject(IRuleSource, source)
        for topic, action, more, allowed in (
            ("a/secret", RECEIVE, {}, False),
            ("a/c1/x", PUBLISH, {}, True),
            ("a/c2/x", PUBLISH, {}, None),
            ("a/c1/x", PUBLISH, {"retain": True}, None),
            ("a/x", RECEIVE, {"qos": 1}, True),
            ("a/x", RECEIVE, {"qos": 0}, None),
            ("a/c1/x", PUBLISH, {"user": "nobody"}, None),
            ("a/c1/x", PUBLISH, {"user": None}, None),
            ("x", PUBLISH, {"user": "o'brien; --"}, True),
            ("a/c1/x", PUBLISH, {"user": "x' OR '1' = '1"}, None),
        ):
            answer = await decided(source, ask(topic, action, **more))
            assert (answer and answer[0]) is allowed, topic

    async def test_a_row_that_is_no_rule_refuses(self) -> None:
        assert await decided(self.make(), ask("t", user="bob")) == (False, "db failed")

    async def test_what_is_wrong_with_a_query_or_a_database_refuses(self) -> None:
        for query in ("SELECT nonsense", "SELECT 1 AS topic", "DELETE FROM acl"):
            assert await decided(self.make(query), ask("t")) == (False, "db failed")
        assert self.database.execute("SELECT count(*) FROM acl").fetchone() == (len(ROWS),)
        source = self.make()
        self.path.write_bytes(b"garbage" * 1000)
        assert await decided(source, ask("t")) == (False, "db failed")

    async def test_more_rules_than_may_be_refuse(self) -> None:
        query = (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000) "
            "SELECT 'allow' AS permission, 'all' AS action, '#' AS topic FROM n"
        )
        assert await decided(self.make(query), ask("t")) == (False, "db failed")

    async def test_the_rules_of_a_client_are_kept_for_a_while(self) -> None:
        source = self.make(lifetime=10.0)
        request = ask("a/c1/x")
        assert await decided(source, request)
        self.database.execute("DELETE FROM acl")
        self.database.commit()
        self.clock.advance(9.9)
        assert await decided(source, request)
        self.clock.advance(0.2)
        assert await decided(source, request) is None

    async def test_what_is_kept_is_bounded(self) -> None:
        self.patch(looked_up, "MOST_CLIENTS", 5)  # type: ignore[no-untyped-call]
        source = self.make(lifetime=10.0)
        for number in range(20):
            await decided(source, ask("t", client_id=str(number)))
        assert len(source._kept) == 5


class Hashes:
    """Redis, as far as it is asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def hgetall(self, key: str) -> Deferred[Any]:
        self.asked.append(key)
        if isinstance(self.answer, Exception):
            failed: Deferred[Any] = Deferred()
            failed.errback(self.answer)
            return failed
        return ensure(self.answer)


class RedisTests(TestCase):
    def make(self, answer: Any) -> tuple[RedisRules, Hashes]:
        clock = Clock()
        source = RedisRules(RedisRulesSettings(name="redis"), reactor, 0.0, clock.seconds)
        hashes = Hashes(answer)
        source._redis._connection = hashes
        return source, hashes

    async def test_a_hash_is_topics_and_actions(self) -> None:
        source, hashes = self.make({"a/#": "subscribe", "b/%u": "publish", "c": "all"})
        verifyObject(IRuleSource, source)
        for topic, action, allowed in (
            ("a/#", SUBSCRIBE, True),
            ("b/alice", PUBLISH, True),
            ("b/bob", PUBLISH, None),
            ("c", RECEIVE, True),
        ):
            answer = await decided(source, ask(topic, action))
            assert (answer and answer[0]) is allowed
        assert set(hashes.asked) == {"mqtt_acl:alice"}

    async def test_a_client_without_a_name_has_no_hash(self) -> None:
        source, hashes = self.make({"#": "all"})
        assert await decided(source, ask("t", user=None)) is None
        assert hashes.asked == []

    async def test_what_is_no_hash_of_rules_refuses(self) -> None:
        answers: list[Any] = [None, [], "x", {"a": 1}, {"#": "read"}, {"a/#/b": "all"}]
        answers.append(RuntimeError("WRONGTYPE"))
        for answer in answers:
            source, _ = self.make(answer)
            assert await decided(source, ask("t")) == (False, "redis failed")


class ServerTests(TestCase):
    """The same from the servers that people have."""

    timeout = 60

    @pytest.fixture(autouse=True)
    def _servers(self, postgresql: Server, mariadb: Server, redis: Server) -> None:
        self.postgresql, self.mariadb, self.redis = postgresql, mariadb, redis

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.secret = str(Path(folder.name, "secret"))
        Path(self.secret).write_text("db-secret")

    async def check(self, source: Any) -> None:
        source.start()
        self.addCleanup(source.stop)
        for topic, user, allowed in (
            ("a/ann", USER, True),
            ("a/bob", USER, None),
            ("a/ann", "bob", None),
            ("a/ann", "' OR '1'='1", None),
        ):
            answer = await decided(source, ask(topic, user=user))
            assert (answer and answer[0]) is allowed, (topic, user, answer)

    async def test_sql(self) -> None:
        for driver, server, database in (
            ("postgresql", self.postgresql, "postgres"),
            ("mariadb", self.mariadb, "mqtt"),
        ):
            settings = SQLRulesSettings(
                driver=driver,
                host="127.0.0.1",
                port=server.port,
                database=database,
                user="mqttd",
                password_file=self.secret,
                query="SELECT 'allow' AS permission, 'publish' AS action, 0 AS qos, 0 AS retain, "
                "concat('a/', name) AS topic FROM users WHERE name = ${username}",
            )
            await self.check(SQLRules(settings, reactor, 0.0, Clock().seconds))

    async def test_redis(self) -> None:
        with socket.create_connection(("127.0.0.1", self.redis.port), 5) as stream:
            stream.sendall(b"AUTH db-secret\r\nHSET mqtt_acl:ann a/%u publish\r\nQUIT\r\n")
            while stream.recv(4096):
                pass
        settings = RedisRulesSettings(
            host="127.0.0.1", port=self.redis.port, password_file=self.secret
        )
        await self.check(RedisRules(settings, reactor, 0.0, Clock().seconds))
