"""Checkers, authorizers and authentication methods that do as a test says."""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from mqttd.interfaces import (
    PUBLISH,
    RECEIVE,
    SUBSCRIBE,
    Accepted,
    AccessRequest,
    Avatar,
    Challenge,
    IAuthenticationExchange,
    IAuthenticationMethod,
    IAuthorizer,
)


@implementer(ICredentialsChecker)
class Checker:
    """Knows every user whose password is the name backwards."""

    credentialInterfaces = (IUsernamePassword,)

    def requestAvatarId(self, credentials: Any) -> Any:
        name = credentials.username
        if name and credentials.checkPassword(name[::-1]):
            return succeed(name)
        raise UnauthorizedLogin("no")


@implementer(ICredentialsChecker)
class SlowChecker:
    """Answers when the test does."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, Deferred[Any]]] = []

    def requestAvatarId(self, credentials: Any) -> Any:
        answer: Deferred[Any] = Deferred()
        self.asked.append((credentials.username, answer))
        return answer


@implementer(ICredentialsChecker)
class BrokenChecker:
    """Raises, fails or answers nonsense."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, result: Any) -> None:
        self.result = result

    def requestAvatarId(self, credentials: Any) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@implementer(IAuthorizer)
class Rules:
    """Refuses what is in ``denied``: pairs of action and topic.

    With ``slow`` every question waits in ``asked`` for ``answer``.
    """

    def __init__(self, *denied: tuple[str, str], slow: bool = False) -> None:
        self.epoch = 0
        self.checks = frozenset({PUBLISH, SUBSCRIBE, RECEIVE})
        self.denied = set(denied)
        self.slow = slow
        self.requests: list[AccessRequest] = []
        self.asked: list[tuple[AccessRequest, Deferred[bool]]] = []

    def only(self, *actions: str) -> Rules:
        """Have an opinion on these actions alone."""
        self.checks = frozenset(actions)
        return self

    def authorize(self, request: AccessRequest) -> bool | Deferred[bool]:
        self.requests.append(request)
        allowed = (request.action, request.topic) not in self.denied
        if not self.slow:
            return allowed
        answer: Deferred[bool] = Deferred()
        self.asked.append((request, answer))
        return answer

    def answer(self, allowed: Any = None) -> AccessRequest:
        """Answer the oldest question: as the rules say, or *allowed*."""
        request, answer = self.asked.pop(0)
        if isinstance(allowed, Exception):
            answer.errback(allowed)
        else:
            if allowed is None:
                allowed = (request.action, request.topic) not in self.denied
            answer.callback(allowed)
        return request

    def change(self, *denied: tuple[str, str]) -> None:
        """Other rules from now on."""
        self.denied = set(denied)
        self.epoch += 1


@implementer(IAuthenticationExchange)
class ToyExchange:
    def __init__(self, method: ToyMethod) -> None:
        self.method = method

    def respond(self, data: bytes | None) -> Any:
        return self.method.respond(data)


@implementer(IAuthenticationMethod)
class ToyMethod:
    """``user:<name>`` is accepted at once; None and ``ask`` get a challenge, whose
    right answer is ``answer:<name>``; ``fail`` raises, ``wait`` waits."""

    name = "toy"

    def __init__(self) -> None:
        self.waiting: list[Deferred[Any]] = []
        self.credentials: list[Any] = []
        self.broken = False

    def start(self, credentials: Any) -> Any:
        if self.broken:
            raise RuntimeError("meant to be")
        self.credentials.append(credentials)
        return ToyExchange(self)

    def respond(self, data: bytes | None) -> Any:
        word, _, name = (data or b"ask").decode().partition(":")
        if word == "ask":
            return succeed(Challenge(b"who?"))
        if word in ("user", "answer"):
            return Accepted(Avatar(principal=name), b"welcome")
        if word == "fail":
            raise RuntimeError("meant to be")
        if word == "nonsense":
            return "nonsense"
        if word == "wait":
            waiting: Deferred[Any] = Deferred()
            self.waiting.append(waiting)
            return waiting
        raise UnauthorizedLogin("no")
