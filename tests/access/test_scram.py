"""SCRAM-SHA-256: with a client of scramp's, and with those who only pretend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from scramp import ScramClient  # type: ignore[import-untyped]
from twisted.cred.error import UnauthorizedLogin
from zope.interface.verify import verifyObject

from mqttd.access.passwords import make_hash
from mqttd.access.scram import NAME, SCRAMMethod, SCRAMUsers
from mqttd.interfaces import (
    NOT_MINE,
    Accepted,
    Challenge,
    IAuthenticationExchange,
    IAuthenticationMethod,
    IAuthenticator,
)
from mqttd.settings_authentication import SCRAMSettings
from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import Auth, Connack
from tests.access.logins import LISTENER, login
from tests.broker.harness import BareBroker, BareClient

ENTRY = make_hash(b"secret", "scram")
OTHER = make_hash(b"secret", "pbkdf2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "passwords"
    found.write_text(f"ann:{ENTRY}\nbob:{OTHER}\n")
    return found


def users(path: Path, **more: Any) -> SCRAMUsers:
    return SCRAMUsers(SCRAMSettings(path=str(path), **more))


def exchange(method: SCRAMMethod, user: str, password: str) -> tuple[Any, Any]:
    """What a client of scramp's makes of it: the answer, and the client."""
    client = ScramClient([NAME], user, password)
    begun = method.start(login())
    challenge = begun.respond(client.get_client_first().encode())
    assert isinstance(challenge, Challenge)
    client.set_server_first(challenge.data.decode())
    return begun.respond(client.get_client_final().encode()), client


def test_they_are_what_they_should_be(path: Path) -> None:
    method = SCRAMMethod((users(path),))
    assert verifyObject(IAuthenticator, users(path))
    assert verifyObject(IAuthenticationMethod, method)
    assert verifyObject(IAuthenticationExchange, method.start(login()))


def test_client_and_server_know_each_other(path: Path) -> None:
    answer, client = exchange(SCRAMMethod((users(path, superusers=("ann",)),)), "ann", "secret")
    assert isinstance(answer, Accepted)
    assert answer.avatar.principal == "ann"
    assert answer.avatar.superuser
    assert answer.data is not None
    client.set_server_final(answer.data.decode())


@pytest.mark.parametrize(
    ("user", "password"), [("ann", "Secret"), ("eve", "secret"), ("bob", "secret")]
)
def test_others_fail_at_the_end(path: Path, user: str, password: str) -> None:
    with pytest.raises(UnauthorizedLogin):
        exchange(SCRAMMethod((users(path),)), user, password)


def test_an_unknown_user_looks_like_a_known_one(path: Path) -> None:
    method = SCRAMMethod((users(path),))

    def first(user: str) -> list[str]:
        challenge = method.start(login()).respond(f"n,,n={user},r=abc".encode())
        assert isinstance(challenge, Challenge)
        return [part for part in challenge.data.decode().split(",") if part[0] != "r"]

    assert first("eve") == first("eve")
    assert first("eve") != first("mallory")
    assert [len(part) for part in first("eve")] == [len(part) for part in first("ann")]
    assert first("eve")[1] == first("ann")[1]


@pytest.mark.parametrize(
    "message",
    [
        None,
        b"",
        b"\xff",
        b"n,,",
        b"n,,n=ann",
        b"n,,r=abc",
        b"n,,n=,r=",
        b"n,a=root,n=ann,r=abc",
        b"p=tls-unique,,n=ann,r=abc",
        b"n,,m=x,n=ann,r=abc",
        b"n,,n=a=b,r=abc",
        b"x,,n=ann,r=abc",
        b",,,,,",
        b"n,,n=ann,r=" + b"x" * 5000,
    ],
)
def test_a_beginning_that_is_none_is_refused(path: Path, message: bytes | None) -> None:
    with pytest.raises(UnauthorizedLogin):
        SCRAMMethod((users(path),)).start(login()).respond(message)


@pytest.mark.parametrize(
    "final",
    [
        None,
        b"",
        b"c=biws",
        b"c=biws,r=abc,p=AAAA",
        b"c=biws,r={r},p=AAAA",
        b"c=biws,r={r},p=!",
        b"c=eSws,r={r},p=" + b"A" * 43 + b"=",
        b"c=biws,r={r},p=" + b"A" * 43 + b"=",
    ],
)
def test_an_end_that_is_none_is_refused(path: Path, final: bytes | None) -> None:
    begun = SCRAMMethod((users(path),)).start(login())
    challenge = begun.respond(b"n,,n=ann,r=abc")
    assert isinstance(challenge, Challenge)
    nonce = challenge.data.split(b",")[0][2:]
    with pytest.raises(UnauthorizedLogin):
        begun.respond(None if final is None else final.replace(b"{r}", nonce))


def test_who_is_removed_in_between_stays_out(path: Path) -> None:
    known = users(path)
    client = ScramClient([NAME], "ann", "secret")
    begun = SCRAMMethod((known,)).start(login())
    challenge = begun.respond(client.get_client_first().encode())
    assert isinstance(challenge, Challenge)
    client.set_server_first(challenge.data.decode())
    path.write_text(f"eve:{ENTRY}\n")
    assert known.reload().removed == {"ann", "bob"}
    with pytest.raises(UnauthorizedLogin):
        begun.respond(client.get_client_final().encode())


def test_only_where_the_listener_has_chosen_it(path: Path) -> None:
    method = SCRAMMethod((users(path, name="here"),))
    assert method.start(login(listener=evolve(LISTENER, authentication=("here",))))
    with pytest.raises(UnauthorizedLogin):
        method.start(login(listener=evolve(LISTENER, authentication=("there",))))


def test_a_password_in_connect_is_for_others(path: Path) -> None:
    assert users(path).authenticate(login("ann", b"secret")) is NOT_MINE


# --- through the handshake ----------------------------------------------------------


@pytest.fixture
def connect(path: Path) -> Iterator[Callable[..., tuple[BareClient, Any]]]:
    bare = BareBroker(methods=[SCRAMMethod((users(path),))])

    def connect(user: str, password: str) -> tuple[BareClient, Any]:
        client = ScramClient([NAME], user, password)
        begun = bare.connect(
            "c",
            authentication_method=NAME,
            authentication_data=client.get_client_first().encode(),
        )
        challenge = begun.expect(Auth, reason=ReasonCode.CONTINUE_AUTHENTICATION)
        client.set_server_first(challenge.properties["authentication_data"].decode())
        final = client.get_client_final().encode()
        begun.authenticate(ReasonCode.CONTINUE_AUTHENTICATION, final, NAME)
        return begun, client

    yield connect
    bare.stop()


def again(begun: BareClient, user: str, password: str) -> None:
    client = ScramClient([NAME], user, password)
    first = client.get_client_first().encode()
    begun.authenticate(ReasonCode.REAUTHENTICATE, first, NAME)
    challenge = begun.expect(Auth, reason=ReasonCode.CONTINUE_AUTHENTICATION)
    client.set_server_first(challenge.properties["authentication_data"].decode())
    begun.authenticate(ReasonCode.CONTINUE_AUTHENTICATION, client.get_client_final().encode(), NAME)


def test_a_client_connects_and_authenticates_again(connect: Any) -> None:
    begun, client = connect("ann", "secret")
    connack = begun.expect(Connack, reason=0)
    client.set_server_final(connack.properties["authentication_data"].decode())
    assert begun.transport.user == "ann"
    again(begun, "ann", "secret")
    begun.expect(Auth, reason=ReasonCode.SUCCESS)
    assert not begun.closed


def test_a_wrong_password_is_refused(connect: Any) -> None:
    begun, _ = connect("ann", "guess")
    begun.expect(Connack, reason=ReasonCode.NOT_AUTHORIZED)
    assert begun.closed


@pytest.mark.parametrize(("user", "password"), [("ann", "guess"), ("eve", "secret")])
def test_authenticating_again_as_another_ends_the_connection(
    connect: Any, user: str, password: str
) -> None:
    begun, _ = connect("ann", "secret")
    begun.expect(Connack, reason=0)
    again(begun, user, password)
    begun.expect_closed(ReasonCode.NOT_AUTHORIZED)
