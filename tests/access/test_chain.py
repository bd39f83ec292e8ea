"""The chain: who decides, who is asked, and what an error means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from attrs import evolve
from twisted.cred.checkers import (
    AllowAnonymousAccess,
    InMemoryUsernamePasswordDatabaseDontUse,
)
from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import fail, succeed
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import implementer

from mqttd.access import make_portal
from mqttd.access.chain import QUIET, Chain, CredCheckers
from mqttd.interfaces import (
    NOT_MINE,
    Avatar,
    IAuthenticator,
    IMQTTAvatar,
    LoginBusy,
    LoginUnavailable,
    Revoked,
)
from tests.access.logins import LISTENER, OPEN, login, now
from tests.broker.doubles import BrokenChecker, Checker

YES = Avatar("ann")


@implementer(IAuthenticator)
class Link:
    """Answers what it was made with."""

    def __init__(self, name: str, answer: Any) -> None:
        self.name = name
        self.answer = answer
        self.asked = 0

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def reload(self) -> Revoked:
        return Revoked()

    def authenticate(self, credentials: Any) -> Any:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    events: list[Any] = []
    globalLogPublisher.addObserver(cast(ILogObserver, events.append))
    yield events
    globalLogPublisher.removeObserver(cast(ILogObserver, events.append))


def ask(*answers: Any, listener: Any = LISTENER) -> Any:
    chain = Chain([Link(str(number), answer) for number, answer in enumerate(answers)])
    return now(chain.requestAvatarId(login("ann", b"x", listener=listener)))


def no() -> UnauthorizedLogin:
    return UnauthorizedLogin("no")


def test_the_first_yes_decides() -> None:
    assert ask(NOT_MINE, YES, no()).principal == "ann"
    assert ask(NOT_MINE, succeed(YES)).source == "1"


@pytest.mark.parametrize("refusal", [no(), LoginBusy(), fail(no())])
def test_the_first_no_decides(refusal: Any) -> None:
    with pytest.raises(UnauthorizedLogin):
        ask(NOT_MINE, refusal, YES)


@pytest.mark.parametrize(
    "wrong",
    [
        RuntimeError("hunter2"),
        KeyError("hunter2"),
        fail(RuntimeError("hunter2")),
        None,
        True,
        "ann",
        b"ann",
        (),
        {"principal": "hunter2"},
    ],
    ids=lambda wrong: type(wrong).__name__,
)
def test_an_error_and_nonsense_are_a_no(wrong: Any, logged: list[Any]) -> None:
    with pytest.raises(LoginUnavailable):
        ask(NOT_MINE, wrong, YES, listener=OPEN)
    (event,) = (each for each in logged if each.get("authenticator"))
    assert event["authenticator"] == "1"
    assert "hunter2" not in str(logged)


def test_whom_nobody_knows_is_refused_unless_the_anonymous_are_welcome() -> None:
    with pytest.raises(UnauthorizedLogin):
        ask(NOT_MINE, NOT_MINE)
    assert ask(NOT_MINE, NOT_MINE, listener=OPEN) == Avatar()
    assert ask(listener=OPEN) == Avatar()
    with pytest.raises(UnauthorizedLogin):
        ask()


def test_a_listener_chooses_whom_to_ask_and_in_which_order() -> None:
    links = [Link(name, NOT_MINE) for name in "abc"]
    chain = Chain(links, [Link("cred", YES)])
    names = {
        ("all",): ["a", "b", "c", "cred"],
        ("c", "a"): ["c", "a"],
        ("b", "all"): ["b", "a", "c", "cred"],
        (): [],
    }
    for chosen, order in names.items():
        assert [link.name for link in chain.chosen(chosen)] == order
    listener = evolve(LISTENER, authentication=("b",))
    with pytest.raises(UnauthorizedLogin):
        now(chain.requestAvatarId(login("ann", b"x", listener=listener)))
    assert [link.asked for link in links] == [0, 1, 0]


def test_answers_are_counted() -> None:
    chain = Chain([Link("a", NOT_MINE), Link("b", no())])
    for _ in range(3):
        with pytest.raises(UnauthorizedLogin):
            now(chain.requestAvatarId(login("ann")))
    assert chain.answers == {"a": {"not mine": 3}, "b": {"no": 3}}


def test_a_flood_of_errors_is_told_once_in_a_while(logged: list[Any]) -> None:
    time = [0.0]
    chain = Chain([Link("a", RuntimeError())], seconds=lambda: time[0])
    for moment in (0, 1, 2, QUIET + 1):
        time[0] = moment
        with pytest.raises(LoginUnavailable):
            now(chain.requestAvatarId(login("ann")))
    told = [each["more"] for each in logged if each.get("authenticator")]
    assert told == [0, 2]


def test_a_login_from_elsewhere_is_asked_like_others() -> None:
    portal = make_portal([Checker()])
    _, avatar, _ = now(portal.login(UsernamePassword(b"ann", b"nna"), None, IMQTTAvatar))
    assert avatar.principal == "ann"
    with pytest.raises(UnauthorizedLogin):
        now(portal.login(UsernamePassword(b"ann", b"x"), None, IMQTTAvatar))


# --- checkers of twisted.cred -----------------------------------------------------


def cred(*checkers: Any) -> Chain:
    return Chain([], [CredCheckers("cred", checkers)])


def test_one_checker_that_says_yes_is_enough() -> None:
    other = InMemoryUsernamePasswordDatabaseDontUse(bob=b"secret")
    chain = cred(Checker(), other)
    assert now(chain.requestAvatarId(login("ann", b"nna"))).principal == "ann"
    assert now(chain.requestAvatarId(login("bob", b"secret"))).principal == "bob"
    with pytest.raises(UnauthorizedLogin):
        now(chain.requestAvatarId(login("bob", b"ann")))


def test_a_checker_that_breaks_is_a_no_whatever_others_say() -> None:
    with pytest.raises(LoginUnavailable):
        now(cred(BrokenChecker(KeyError()), Checker()).requestAvatarId(login("ann", b"nna")))


@pytest.mark.parametrize("nobody", [None, b"", "", False, 0, (b"ann",)])
def test_a_checker_that_names_nobody_lets_nobody_in(nobody: Any) -> None:
    with pytest.raises(UnauthorizedLogin):
        now(cred(BrokenChecker(nobody)).requestAvatarId(login("ann", b"x")))


def test_who_has_no_name_is_none_of_a_checkers() -> None:
    checker = BrokenChecker(b"ann")
    assert now(cred(checker).requestAvatarId(login(listener=OPEN))) == Avatar()
    with pytest.raises(UnauthorizedLogin):
        now(cred(AllowAnonymousAccess()).requestAvatarId(login()))
