"""Credentials, and answers waited for without a reactor."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from mqttd.access.passwords import matches
from mqttd.broker.credentials import MQTTCredentials
from mqttd.interfaces import Peer
from mqttd.settings import ListenerSettings

LISTENER = ListenerSettings("tcp:1883", name="plain")
OPEN = ListenerSettings("tcp:1884", name="open", allow_anonymous=True)


def login(
    user: str | None = None,
    password: bytes | None = None,
    *,
    client_id: str = "c",
    peer: Peer | None = None,
    listener: ListenerSettings | None = LISTENER,
) -> MQTTCredentials:
    """What a CONNECT says."""
    return MQTTCredentials(
        client_id,
        (user or "").encode(),
        user is not None,
        password,
        peer or Peer("192.0.2.1"),
        listener,
    )


def now(answer: Any) -> Any:
    """What *answer*, a Deferred or coroutine, has come to; it must not wait."""
    if isinstance(answer, Coroutine):
        answer = Deferred.fromCoroutine(answer)
    if not isinstance(answer, Deferred):
        return answer
    results: list[Any] = []
    answer.addBoth(results.append)
    assert results, "it waits"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


class Threadless:
    """A ``HashPool`` that compares at once."""

    def __init__(self) -> None:
        #: The hashes that passwords were compared with.
        self.compared: list[str] = []

    def matches(
        self, credentials: Any, encoded: str | None, substitute: str | None = None
    ) -> Deferred[bool]:
        compared = encoded or substitute or ""
        self.compared.append(compared)
        return succeed(matches(compared, credentials.password) and encoded is not None)


class SlowPool:
    """A ``HashPool`` that waits for the test to answer."""

    def __init__(self) -> None:
        self.asked: list[Deferred[bool]] = []

    def matches(
        self, credentials: Any, encoded: str | None, substitute: str | None = None
    ) -> Deferred[bool]:
        self.asked.append(Deferred())
        return self.asked[-1]
