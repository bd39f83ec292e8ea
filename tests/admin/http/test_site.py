"""What holds for every request, whatever it asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from mqttd.admin.http import Call, Parameter, Problem, Reply, Role, Route
from tests.admin.http.harness import Web

BODY = {
    "type": "object",
    "required": ["topic"],
    "additionalProperties": False,
    "properties": {"topic": {"type": "string", "minLength": 1}, "qos": {"enum": [0, 1, 2]}},
}


def echo(call: Call) -> Any:
    return {"path": dict(call.path), "query": dict(call.query), "body": call.body}


def crash(call: Call) -> Any:
    raise RuntimeError("a secret")


def teapot(call: Call) -> Any:
    raise Problem(418, "No coffee.", errors=["a", "b"])


def made(call: Call) -> Any:
    return Reply({"id": 7}, 201, {"Location": "/api/v1/things/7"})


waiting: list[Deferred[Any]] = []


def wait(call: Call) -> Any:
    waiting.append(Deferred())
    return waiting[-1]


async def work(call: Call) -> Any:
    return await wait(call)


ROUTES = [
    Route("GET", "/things/{thing}", Role.VIEWER, echo, "", "t", answer={}),
    Route("GET", "/things/special", Role.VIEWER, teapot, "", "t"),
    Route("POST", "/things", Role.OPERATOR, echo, "", "t", body=BODY, answer={}),
    Route("PUT", "/things", Role.OPERATOR, made, "", "t"),
    Route("DELETE", "/things", Role.OPERATOR, lambda call: None, "", "t"),
    Route(
        "GET",
        "/query",
        Role.VIEWER,
        echo,
        "",
        "t",
        query=(
            Parameter("n", {"type": "integer", "minimum": 1}, "", 5),
            Parameter("yes", {"type": "boolean"}, ""),
            Parameter("text", {"type": "string", "maxLength": 3}, ""),
        ),
        answer={},
    ),
    Route("GET", "/crash", Role.VIEWER, crash, "", "t"),
    Route("GET", "/wait", Role.VIEWER, wait, "", "t", answer={}),
    Route("GET", "/work", Role.VIEWER, work, "", "t", answer={}),
]


@pytest.fixture
def web(make_web: Callable[..., Web]) -> Web:
    waiting.clear()
    return make_web(routes=ROUTES)


@pytest.mark.parametrize(
    ("segment", "name"),
    [("plain", "plain"), ("a%2Fb%3Fc", "a/b?c"), ("%C3%A9", "é"), ("..", ".."), ("%00", "\0")],
)
def test_a_segment_of_the_path_may_be_any_text(web: Web, segment: str, name: str) -> None:
    assert web.get(f"/things/{segment}")["path"] == {"thing": name}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/things/", 404),
        ("GET", "/things/a/b", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "", 404),
        ("PATCH", "/things", 405),
        ("BREW", "/things", 405),
        ("GET", "/things/%ff", 400),
        ("GET", "/things/special", 418),
    ],
)
def test_what_is_not_there_is_told_as_a_problem(
    web: Web, method: str, path: str, status: int
) -> None:
    answer = web.ask(method, path)
    assert answer.status == answer.json["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_outside_of_the_api_there_is_nothing(web: Web) -> None:
    assert web.ask("GET", "/../v2").status == 404
    assert b"html" not in web.ask("GET", "/..").body


def test_another_method_is_answered_with_those_that_are_there(web: Web) -> None:
    assert web.ask("PATCH", "/things").headers["allow"] == "DELETE, POST, PUT"


def test_a_problem_names_all_that_is_wrong(web: Web) -> None:
    assert web.ask("GET", "/things/special").json == {
        "type": "about:blank",
        "title": "I'm a Teapot",
        "status": 418,
        "detail": "No coffee.",
        "errors": ["a", "b"],
    }


def test_nothing_may_be_kept_or_run(web: Web) -> None:
    headers = web.ask("GET", "/things/a").headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["server"] == "mqttd"


def test_head_is_get_without_the_body(web: Web) -> None:
    whole, head = web.ask("GET", "/things/a"), web.ask("HEAD", "/things/a")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]


def test_an_answer_may_have_its_own_status_and_headers(web: Web) -> None:
    answer = web.ask("PUT", "/things")
    assert (answer.status, answer.json) == (201, {"id": 7})
    assert answer.headers["location"] == "/api/v1/things/7"


def test_nothing_to_say_is_204(web: Web) -> None:
    answer = web.ask("DELETE", "/things")
    assert (answer.status, answer.body) == (204, b"")
    assert "content-type" not in answer.headers


# --- query and body ---------------------------------------------------------------


def test_the_query_is_converted_and_completed(web: Web) -> None:
    assert web.get("/query")["query"] == {"n": 5, "yes": None, "text": None}
    query = web.get("/query?n=7&yes=true&text=%C3%A9")["query"]
    assert query == {"n": 7, "yes": True, "text": "é"}


@pytest.mark.parametrize(
    "query",
    [
        "n=0",
        "n=x",
        "n=",
        "n=1.5",
        "n=1&n=2",
        "yes=1",
        "text=four",
        "other=1",
        "text=%ff",
        "n=" + 30 * "9",
    ],
)
def test_a_query_that_does_not_fit_is_refused(web: Web, query: str) -> None:
    assert web.ask("GET", f"/query?{query}").status == 400


def test_a_body_that_fits_reaches_the_handler(web: Web) -> None:
    assert web.ask("POST", "/things", {"topic": "a", "qos": 1}).json["body"]["qos"] == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b'{"topic": NaN}', 400),
        (b"[" * 900, 400),
        (b"null", 422),
        (b"[]", 422),
        (b'"topic"', 422),
        (b"{}", 422),
        (b'{"topic": 1}', 422),
        (b'{"topic": ""}', 422),
        (b'{"topic": "a", "qos": 3}', 422),
        (b'{"topic": "a", "qos": true}', 422),
        (b'{"topic": "a", "more": 1}', 422),
    ],
)
def test_a_body_that_does_not_fit_is_refused(web: Web, body: bytes, status: int) -> None:
    answer = web.ask("POST", "/things", headers={"Content-Type": "application/json"}, content=body)
    assert answer.status == status
    assert answer.json["detail"]


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_a_form_can_send_is_no_body(web: Web, media_type: str) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    assert web.ask("POST", "/things", headers=headers, content=b"{}").status == 415


# --- bounds -----------------------------------------------------------------------


def test_a_large_body_is_refused_before_it_comes(web: Web) -> None:
    stream = web.open()
    assert stream is not None
    stream.send(b"POST /api/v1/things HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n")
    assert stream.received.startswith(b"HTTP/1.1 413 ")
    assert stream.is_closed
    stream.close()


def test_a_large_body_in_chunks_is_refused(web: Web) -> None:
    stream = web.open()
    assert stream is not None
    stream.send(b"POST /api/v1/things HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(20):
        stream.send(b"64\r\n" + 100 * b"x" + b"\r\n")
    assert stream.received.count(b"413") == 1
    assert stream.is_closed
    stream.close()


def test_a_request_must_arrive_in_time_however_slowly_it_drips(web: Web) -> None:
    stream = web.open()
    assert stream is not None
    for byte in b"GET /api/v1/things/aaaaaaaaaaaaaa":
        stream.send(bytes([byte]))
        web.advance(1)
    assert stream.is_closed
    stream.close()


def test_a_url_that_is_too_long_is_told(web: Web) -> None:
    assert web.ask("GET", "/things/" + 20_000 * "a").status == 200
    stream = web.open()
    assert stream is not None
    stream.send(b"GET /api/v1/things/" + 70_000 * b"a")
    assert stream.received.startswith(b"HTTP/1.1 400 URI Too Long")
    assert stream.is_closed
    stream.close()


def test_an_idle_connection_is_closed(web: Web) -> None:
    stream = web.open()
    assert stream is not None
    stream.send(b"GET /api/v1/things/a HTTP/1.1\r\nHost: x\r\n\r\n")
    assert stream.answer().status == 200
    assert not stream.is_closed
    web.advance(31)
    assert stream.is_closed
    stream.close()


def test_more_connections_than_allowed_are_refused(web: Web) -> None:
    streams = [web.open() for _ in range(3)]
    assert web.open() is None
    for stream in streams:
        assert stream is not None
        stream.close()
    again = web.open()
    assert again is not None
    again.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Header\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + 2 * (b"A: " + 60_000 * b"a" + b"\r\n") + b"\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        bytes.fromhex("101000044d5154540502003c0321001400006202d301e0020020"),
    ],
)
def test_garbage_gets_no_more_than_a_400(web: Web, data: bytes) -> None:
    stream = web.open()
    assert stream is not None
    stream.send(data)
    assert stream.received in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n")
    stream.close()


# --- who ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "status"), [(Role.VIEWER, 403), (Role.OPERATOR, 204), (Role.ADMINISTRATOR, 204)]
)
def test_a_role_may_do_what_it_may_and_what_is_less(web: Web, role: Role, status: int) -> None:
    web.role = role
    assert web.ask("DELETE", "/things").status == status
    assert web.ask("GET", "/things/a").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_page_of_another_origin_may_do_nothing(web: Web, headers: dict[str, str]) -> None:
    assert web.ask("DELETE", "/things", headers=headers).status == 403
    assert web.ask("GET", "/things/a", headers=headers).status == 403


def test_a_page_of_our_own_may(web: Web) -> None:
    headers = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert web.ask("DELETE", "/things", headers=headers).status == 204


def test_no_header_can_be_injected(web: Web) -> None:
    answer = web.ask("GET", "/things/a%0d%0aSet-Cookie:%20x")
    assert "set-cookie" not in answer.headers


# --- handlers ------------------------------------------------------------------------


def test_a_crash_tells_the_log_and_not_the_client(web: Web) -> None:
    answer = web.ask("GET", "/crash")
    assert answer.status == 500
    assert b"secret" not in answer.body


@pytest.mark.parametrize("path", ["/wait", "/work"])
def test_a_handler_may_take_its_time(web: Web, path: str) -> None:
    stream = web.open()
    assert stream is not None
    stream.send(f"GET /api/v1{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    web.advance(1000)
    assert stream.received == b""
    waiting[0].callback({"done": True})
    assert stream.answer().json == {"done": True}
    stream.close()


@pytest.mark.parametrize("path", ["/wait", "/work"])
def test_who_leaves_ends_the_work(web: Web, path: str) -> None:
    stream = web.open()
    assert stream is not None
    stream.send(f"GET /api/v1{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    stream.close()
    assert waiting[0].called
    assert stream.received == b""
