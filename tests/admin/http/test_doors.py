"""Who comes in over TCP, and as what."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from attrs import evolve
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse

from mqttd.access import make_portal
from mqttd.admin.http import Role
from mqttd.admin.http.doors import Doorkeeper
from mqttd.interfaces import LoginUnavailable
from mqttd.settings import HTTPSettings
from tests.admin.http.harness import Answer, Web


@pytest.fixture
def door(web: Web) -> Web:
    roles = {"ann": "operator", "zoë": "viewer"}
    http = HTTPSettings(roles=roles)
    web.daemon.settings = evolve(web.daemon.settings, http=http)
    users = {"ann": b"sesame", "zoë": b"s:e", "bob": b"pw"}
    checker = InMemoryUsernamePasswordDatabaseDontUse()
    checker.users = {name.encode(): password for name, password in users.items()}
    web.broker.portal = make_portal([checker])
    web.authenticate = Doorkeeper(web.daemon, web.tokens)
    return web


def whoami(web: Web, authorization: str | None) -> Answer:
    stream = web.open()
    assert stream is not None
    header = "" if authorization is None else f"Authorization: {authorization}\r\n"
    stream.send(f"GET /api/v1/whoami HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode())
    if not stream.received:
        web.advance(1.5)
    answer = stream.answer()
    stream.close()
    return answer


def basic(text: str) -> str:
    return "Basic " + b64encode(text.encode()).decode()


def test_a_token_opens(door: Web) -> None:
    secret = door.tokens.add("grafana", Role.VIEWER)
    assert whoami(door, f"Bearer {secret}").json == {"name": "grafana", "role": "viewer"}


def test_a_password_opens_as_what_the_settings_say(door: Web) -> None:
    assert whoami(door, basic("ann:sesame")).json == {"name": "ann", "role": "operator"}
    assert whoami(door, basic("zoë:s:e")).json == {"name": "zoë", "role": "viewer"}


def test_a_user_without_a_role_is_told_so(door: Web) -> None:
    answer = whoami(door, basic("bob:pw"))
    assert answer.status == 403
    assert "roles" in answer.json["detail"]


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer mqttd_wrong",
        "Bearer " + 5000 * "x",
        "Basic",
        "Basic !!!",
        "Basic " + b64encode(b"\xff:x").decode(),
        basic("ann"),
        basic(":sesame"),
        basic("ann:wrong"),
        basic("nobody:sesame"),
        "Digest username=ann",
        "ann:sesame",
    ],
)
def test_nobody_else_comes_in(door: Web, authorization: str | None) -> None:
    answer = whoami(door, authorization)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")


def test_a_wrong_password_waits_for_its_answer(door: Web) -> None:
    stream = door.open()
    assert stream is not None
    header = f"Authorization: {basic('ann:wrong')}"
    stream.send(f"GET /api/v1/whoami HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
    assert stream.received == b""
    door.advance(1.5)
    assert stream.answer().status == 401
    stream.close()


def test_without_a_checker_there_are_no_passwords(door: Web) -> None:
    door.broker.portal = None
    assert whoami(door, basic("ann:sesame")).status == 401


def test_who_guesses_is_shut_out_of_mqtt_as_well(door: Web) -> None:
    class Admission:
        def __init__(self) -> None:
            self.failed: list[str] = []
            self.answer: str | None = None

        def refuses_login(self, client_id: str, user: str | None, address: str) -> str | None:
            return self.answer

        def login_failed(self, address: str) -> None:
            self.failed.append(address)

    admission = Admission()
    door.broker.admission = admission  # type: ignore[assignment]
    assert whoami(door, basic("ann:wrong")).status == 401
    assert len(admission.failed) == 1
    assert whoami(door, basic("ann:sesame")).status == 200
    for admission.answer, status in (("banned", 403), ("failed-logins", 429)):
        assert whoami(door, basic("ann:sesame")).status == status


def test_a_backend_that_is_away_is_no_wrong_password(door: Web) -> None:
    class Portal:
        def login(self, *arguments: Any) -> Any:
            raise LoginUnavailable("the database is away")

    door.broker.portal = Portal()  # type: ignore[assignment]
    answer = whoami(door, basic("ann:sesame"))
    assert (answer.status, b"database" in answer.body) == (503, False)


def test_a_checker_that_fails_lets_nobody_in(door: Web) -> None:
    class Portal:
        def login(self, *arguments: Any) -> Any:
            raise RuntimeError("a secret")

    door.broker.portal = Portal()  # type: ignore[assignment]
    answer = whoami(door, basic("ann:sesame"))
    assert answer.status == 503
    assert b"secret" not in answer.body
