"""Rules that are looked up: in a web service, a database or Redis.

Sources for the authorizer. A web service decides about one topic at a time; a
database lists the rules of a client, which are kept for a while. What fails, is
slow or answers nonsense has refused. Nothing here holds up anything but the client
that is asked about.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mqttd.access.backends import BackendError
from mqttd.access.backends.database import Database
from mqttd.access.backends.redis import Redis
from mqttd.access.backends.template import values_of
from mqttd.access.backends.web import WebService
from mqttd.access.listed import MOST_RULES, listed_rules
from mqttd.access.rules import ACTIONS, RuleSet
from mqttd.interfaces import AccessRequest, Decision, IRuleSource, Peer
from mqttd.settings_access import RedisRulesSettings, SQLRulesSettings, WebRulesSettings

#: Clients whose rules are kept.
MOST_CLIENTS = 10_000


@frozen
class _Listener:
    name: str
    endpoint: str = ""


class Asker:
    """Who asks, as the backends want to see it: like the credentials of a login."""

    def __init__(self, request: AccessRequest) -> None:
        principal = request.avatar.principal
        self.username = (principal or "").encode()
        self.has_username = principal is not None
        self.client_id = request.client_id
        self.peer = request.peer or Peer("memory")
        self.listener = _Listener(request.listener_name)

    def wanted(self) -> bool:
        """A message waits for the answer, or a client."""
        return True


@implementer(IRuleSource)
class WebRules:
    """Asks a web service about each client and topic."""

    checks = ACTIONS

    def __init__(self, settings: WebRulesSettings, reactor: Any) -> None:
        """:raise ValueError: for files that cannot be used, or a missing library."""
        self.name = settings.name or settings.url
        self._service = WebService(settings, reactor)

    def start(self) -> None:
        """Connections are made when there is something to ask."""

    def stop(self) -> None:
        """Close idle connections."""
        self._service.client.close()

    def decide(self, request: AccessRequest) -> Deferred[Decision | None]:
        return Deferred.fromCoroutine(self._decide(request))

    async def _decide(self, request: AccessRequest) -> Decision | None:
        asker = Asker(request)
        question = {
            **values_of(asker),
            "action": request.action,
            "topic": request.topic,
            "qos": request.qos,
            "retain": request.retain,
        }
        status, body = await self._service.ask(asker, question)
        if status == 204:
            return Decision(True, self.name)
        if status == 200:
            return self._read(body)
        if 400 <= status < 500 and status not in (408, 429):
            return Decision(False, f"{self.name}: status {status}")
        raise BackendError(f"status {status}")

    def _read(self, body: bytes) -> Decision | None:
        text = body.strip()
        result: Any = text.decode("latin-1")
        if text[:1] == b"{":
            try:
                result = json.loads(text).get("result")
            except ValueError:
                result = None
        if result == "ignore":
            return None
        if result not in ("allow", "deny"):
            raise BackendError("an answer whose result is not allow, deny or ignore")
        return Decision(result == "allow", self.name)


class _Lists:
    """Sources that list the rules of a client; they are kept for a while."""

    checks = ACTIONS

    def __init__(self, name: str, lifetime: float, seconds: Callable[[], float]) -> None:
        self.name = name
        self._lifetime = lifetime
        self._seconds = seconds
        #: Client -> its rules, and until when they hold; the oldest go first.
        self._kept: OrderedDict[Any, tuple[RuleSet, float]] = OrderedDict()

    async def _list(self, asker: Asker) -> list[dict[str, Any]]:
        raise NotImplementedError

    def decide(self, request: AccessRequest) -> Deferred[Decision | None]:
        return Deferred.fromCoroutine(self._decide(request))

    async def _decide(self, request: AccessRequest) -> Decision | None:
        asker = Asker(request)
        key = tuple(values_of(asker).values())
        rules, until = self._kept.get(key, (None, 0.0))
        if rules is None or until <= self._seconds():
            try:
                rules = listed_rules(await self._list(asker), self.name)
            except ValueError as error:
                raise BackendError(f"no list of rules: {error}") from None
            self._keep(key, rules)
        return rules.decide(request)

    def _keep(self, key: Any, rules: RuleSet) -> None:
        self._kept.pop(key, None)
        if self._lifetime <= 0:
            return
        if len(self._kept) >= MOST_CLIENTS:
            self._kept.popitem(last=False)
        self._kept[key] = (rules, self._seconds() + self._lifetime)


@implementer(IRuleSource)
class SQLRules(_Lists):
    """Asks a database for the rules of a client.

    Columns: permission, action, topic, and qos and retain if there are such.
    """

    def __init__(
        self,
        settings: SQLRulesSettings,
        reactor: Any,
        lifetime: float,
        seconds: Callable[[], float],
    ) -> None:
        """:raise ValueError: for files that cannot be used, or a missing driver."""
        super().__init__(settings.title, lifetime, seconds)
        self._database = Database(settings, reactor, MOST_RULES)

    def start(self) -> None:
        self._database.start()

    def stop(self) -> None:
        self._database.stop()

    async def _list(self, asker: Asker) -> list[dict[str, Any]]:
        return [_row(row) for row in await self._database.rows(asker)]


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """A row as a rule: NULL says nothing, and SQL may have no booleans."""
    rule = {name: value for name, value in row.items() if value is not None}
    if rule.get("retain") in (0, 1):
        rule["retain"] = bool(rule["retain"])
    return rule


@implementer(IRuleSource)
class RedisRules(_Lists):
    """Asks Redis for the topics of a client."""

    def __init__(
        self,
        settings: RedisRulesSettings,
        reactor: Any,
        lifetime: float,
        seconds: Callable[[], float],
    ) -> None:
        """:raise ValueError: for files that cannot be used, or a missing library."""
        super().__init__(settings.title, lifetime, seconds)
        self._redis = Redis(settings, reactor)

    def start(self) -> None:
        self._redis.start()

    def stop(self) -> None:
        self._redis.stop()

    async def _list(self, asker: Asker) -> list[dict[str, Any]]:
        topics = await self._redis.everything(asker)
        return [{"action": action, "topic": topic} for topic, action in topics.items()]
