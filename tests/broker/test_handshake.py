"""CONNECT to CONNACK, and AUTH."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import fail
from twisted.python.failure import Failure

from mqttd.interfaces import PUBLISH, SUBSCRIBE, Accepted, Avatar, Challenge
from mqttd.settings import ListenerSettings
from mqttd.wire.codes import ConnectReturnCode, ReasonCode
from mqttd.wire.packets import Auth, Connack, Connect, Disconnect, Pingreq, Publish, Will
from tests.broker.doubles import BrokenChecker, Checker, Rules, SlowChecker, ToyMethod
from tests.broker.harness import BareBroker, BareClient, settings_with


@pytest.fixture
def make() -> Iterator[Callable[..., BareBroker]]:
    made: list[BareBroker] = []

    def make_one(*arguments: Any, **keywords: Any) -> BareBroker:
        made.append(BareBroker(*arguments, **keywords))
        return made[-1]

    yield make_one
    for bare in made:
        bare.stop()


Make = Callable[..., BareBroker]


def refused(client: BareClient, reason: int) -> None:
    """It got a CONNACK with *reason*, nothing else, and was closed."""
    assert client.connack is not None
    assert client.connack.reason == reason
    assert not client.connack.session_present
    client.expect_closed()


def login(bare: BareBroker, client_id: str, user: str, **fields: Any) -> BareClient:
    return bare.connect(client_id, user_name=user, password=user[::-1].encode(), **fields)


# --- who ----------------------------------------------------------------------------


@pytest.mark.parametrize("version", [3, 4, 5])
def test_a_password_decides(make: Make, version: int) -> None:
    bare = make(checkers=[Checker()])
    client = login(bare, "c", "alice", version=version)
    assert client.connack is not None
    assert client.connack.reason == 0
    assert client.transport.user == "alice"
    assert bare.session("c").principal == "alice"
    wrong = bare.connect("d", version, user_name="alice", password=b"wrong")
    refused(
        wrong,
        ReasonCode.BAD_USER_NAME_OR_PASSWORD
        if version == 5
        else ConnectReturnCode.BAD_USER_NAME_OR_PASSWORD,
    )
    assert "d" not in bare.broker.sessions


@pytest.mark.parametrize("fields", [{}, {"user_name": "alice"}, {"user_name": ""}])
def test_without_the_right_to_be_anonymous_a_name_is_needed(
    make: Make, fields: dict[str, Any]
) -> None:
    bare = make(checkers=[Checker()])
    refused(bare.connect("c", **fields), ReasonCode.BAD_USER_NAME_OR_PASSWORD)


@pytest.mark.parametrize(
    "result",
    [
        RuntimeError("meant to be"),
        fail(RuntimeError("meant to be")).addErrback(lambda f: f),
    ],
    ids=["raises", "fails"],
)
def test_a_broken_checker_refuses(make: Make, result: Any, logged_failures: list[Any]) -> None:
    bare = make(checkers=[BrokenChecker(result)])
    other = bare.connect("other", listener=evolve(bare.listener, allow_anonymous=True))
    client = login(bare, "c", "alice")
    refused(client, ReasonCode.SERVER_UNAVAILABLE)
    assert bare.broker.metrics.errors == {"authentication": 1}
    other.send(Pingreq())
    assert not other.closed
    logged_failures.clear()


def test_a_slow_checker_keeps_what_follows_waiting_and_others_not(make: Make) -> None:
    slow = SlowChecker()
    bare = make(checkers=[slow])
    open_listener = evolve(bare.listener, allow_anonymous=True)
    client = login(bare, "c", "alice")
    client.send(Publish("t", b"early"))
    watcher = bare.connect("w", listener=open_listener)
    watcher.subscribe("t")
    assert client.connack is None
    slow.asked[0][1].callback(b"alice")
    client.expect(Connack, reason=0)
    assert watcher.payloads() == [b"early"]


def test_a_checker_that_never_answers_ends_with_the_deadline(make: Make) -> None:
    slow = SlowChecker()
    bare = make(checkers=[slow])
    client = login(bare, "c", "alice")
    bare.advance(11)
    assert client.transport.ending == "aborted"
    assert bare.broker.metrics.refused == {"connect-timeout": 1}
    slow.asked[0][1].callback(b"alice")
    bare.advance(1)
    assert bare.broker.connections == {}
    assert len(bare.broker.sessions) == 0
    client.expect_nothing()


@pytest.mark.parametrize("answer", ["yes", "no", "error"])
def test_a_client_that_leaves_while_it_is_checked_leaves_nothing(
    make: Make, answer: str, logged_failures: list[Any]
) -> None:
    slow = SlowChecker()
    bare = make(checkers=[slow])
    client = login(bare, "c", "alice", will=Will("w", b"x"))
    client.drop()
    if answer == "yes":
        slow.asked[0][1].callback(b"alice")
    else:
        slow.asked[0][1].errback(RuntimeError("meant to be"))
    bare.advance(1)
    assert bare.broker.connections == {}
    assert len(bare.broker.sessions) == 0
    logged_failures.clear()


def test_of_two_that_wait_for_one_client_id_the_last_one_stays(make: Make) -> None:
    slow = SlowChecker()
    bare = make(checkers=[slow])
    one = login(bare, "c", "alice", session_expiry_interval=10)
    two = login(bare, "c", "alice", clean_start=False, session_expiry_interval=10)
    slow.asked[1][1].callback(b"alice")
    slow.asked[0][1].callback(b"alice")
    bare.advance()
    two.expect(Connack)
    two.expect_closed(ReasonCode.SESSION_TAKEN_OVER)
    one.expect(Connack, reason=0)
    assert not one.closed
    assert list(bare.broker.connections.values()) == [one.transport.connection]


def test_drain_refuses_those_whose_check_is_still_under_way(make: Make) -> None:
    slow = SlowChecker()
    bare = make(checkers=[slow])
    client = login(bare, "c", "alice")
    bare.broker.drain()
    slow.asked[0][1].callback(b"alice")
    bare.advance()
    client.expect(Connack, reason=ReasonCode.SERVER_UNAVAILABLE)
    assert bare.broker.connections == {}
    assert client.closed


def test_the_certificate_says_who(make: Make) -> None:
    bare = make(checkers=[Checker()])
    client = bare.connect("c", certificate_user="device-7")
    assert client.connack is not None
    assert client.connack.reason == 0
    assert bare.session("c").principal == "device-7"


# --- the session's owner ---------------------------------------------------------------


@pytest.mark.parametrize("clean_start", [True, False])
@pytest.mark.parametrize("online", [True, False])
def test_another_principal_neither_resumes_nor_ends_a_session(
    make: Make, clean_start: bool, online: bool
) -> None:
    bare = make(checkers=[Checker()])
    alice = login(bare, "c", "alice", session_expiry_interval=100)
    alice.subscribe("t", qos=1)
    if not online:
        alice.drop()
    mallory = login(bare, "c", "mallory", clean_start=clean_start, session_expiry_interval=100)
    refused(mallory, ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)
    assert alice.closed is not online
    assert bare.session("c").principal == "alice"
    bare.publish("t", b"private", 1)
    if online:
        assert alice.payloads() == [b"private"]
    else:
        assert bare.session("c").queued == 1


def test_share_sessions_lets_another_principal_resume(make: Make) -> None:
    bare = make(settings_with(share_sessions=True), checkers=[Checker()])
    alice = login(bare, "c", "alice", session_expiry_interval=100)
    alice.subscribe("t", qos=1)
    bob = login(bare, "c", "bob", clean_start=False, session_expiry_interval=100)
    alice.expect_closed(ReasonCode.SESSION_TAKEN_OVER)
    assert bob.connack is not None
    assert bob.connack.session_present
    assert bare.session("c").principal == "bob"


def test_inherited_subscriptions_are_checked_for_the_one_who_inherits(make: Make) -> None:
    rules = Rules().only(SUBSCRIBE)
    bare = make(settings_with(share_sessions=True), checkers=[Checker()], authorizer=rules)
    alice = login(bare, "c", "alice", session_expiry_interval=100)
    alice.subscribe("secret", "open", "$share/g/secret")
    alice.drop()
    rules.change((SUBSCRIBE, "secret"))
    login(bare, "c", "bob", clean_start=False, session_expiry_interval=100)
    assert set(bare.session("c").subscriptions) == {"open"}


@pytest.mark.parametrize("slow", [False, True])
def test_subscriptions_not_allowed_any_more_end_when_the_session_is_resumed(
    make: Make, slow: bool
) -> None:
    rules = Rules().only(SUBSCRIBE)
    bare = make(authorizer=rules)
    client = bare.connect("c", session_expiry_interval=100)
    client.subscribe("a", "b", "$share/g/c")
    client.drop()
    rules.change((SUBSCRIBE, "a"), (SUBSCRIBE, "c"))
    rules.slow = slow
    again = bare.connect("c", clean_start=False, session_expiry_interval=100)
    while rules.asked:
        assert again.connack is None
        rules.answer()
    bare.advance()
    assert set(bare.session("c").subscriptions) == {"b"}
    bare.publish("a", b"a")
    bare.publish("c", b"c")
    bare.publish("b", b"b")
    assert again.payloads() == [b"b"]


# --- mount points ------------------------------------------------------------------------


def mounted(pattern: str, **fields: Any) -> ListenerSettings:
    return ListenerSettings("mounted", allow_anonymous=True, mount_point=pattern, **fields)


def test_a_mount_point_stands_before_topics_and_is_never_seen(bare: BareBroker) -> None:
    inside = bare.connect("c", listener=mounted("site/%c/"), will=Will("gone", b"w"))
    outside = bare.connect("o")
    outside.subscribe("#")
    inside.subscribe("in/#", "$share/g/shared")
    inside.publish("in/x", b"1")
    (message,) = inside.messages()
    assert message.topic == "in/x"
    bare.publish("site/c/in/y", b"2")
    bare.publish("site/c/shared", b"3")
    bare.publish("in/y", b"not for it")
    assert [m.topic for m in inside.messages()] == ["in/y", "shared"]
    assert [m.topic for m in outside.messages()][:2] == ["site/c/in/x", "site/c/in/y"]
    inside.drop()
    assert [m.topic for m in outside.messages()] == ["site/c/gone"]


def test_unsubscribe_knows_the_mount_point(bare: BareBroker) -> None:
    inside = bare.connect("c", listener=mounted("m/"))
    inside.subscribe("t", "$share/g/t")
    assert inside.unsubscribe("t", "$share/g/t", "x").reasons == [0, 0, 0x11]
    assert len(bare.broker.router) == 0


@pytest.mark.parametrize("client_id", ["a/b", "+", "#", "a#"])
def test_a_client_id_brings_no_wildcard_into_a_mount_point(
    bare: BareBroker, client_id: str
) -> None:
    refused(
        bare.connect(client_id, listener=mounted("%c/")), ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
    )


def test_a_client_id_brings_no_place_holder_into_a_mount_point(bare: BareBroker) -> None:
    client = bare.connect("%u", listener=mounted("%c/"), user_name="#")
    assert client.connack is not None
    assert client.connack.reason == 0
    assert client.transport.connection.mount_point == "%u/"


@pytest.mark.parametrize("client_id", ["$SYS", "$share"])
def test_a_client_id_does_not_mount_itself_into_reserved_topics(
    bare: BareBroker, client_id: str
) -> None:
    refused(
        bare.connect(client_id, listener=mounted("%c/")), ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
    )


def test_a_mount_point_by_user_name_needs_one(bare: BareBroker) -> None:
    refused(bare.connect("c", listener=mounted("%u/")), ReasonCode.BAD_USER_NAME_OR_PASSWORD)
    client = bare.connect("c", listener=mounted("%u/"), user_name="bob")
    assert client.transport.connection.mount_point == "bob/"


def test_with_enhanced_authentication_the_user_name_is_the_one_that_was_proven(
    make: Make,
) -> None:
    bare = make(methods=[ToyMethod()])
    client = bare.connect(
        "c",
        listener=mounted("%u/"),
        user_name="victim",
        authentication_method="toy",
        authentication_data=b"user:mallory",
    )
    assert client.connack is not None
    assert client.transport.connection.mount_point == "mallory/"


# --- the will at CONNECT ---------------------------------------------------------------


@pytest.mark.parametrize("slow", [False, True])
def test_a_will_that_may_not_be_published_refuses_the_connection(make: Make, slow: bool) -> None:
    rules = Rules((PUBLISH, "w"), slow=slow).only(PUBLISH)
    bare = make(authorizer=rules)
    client = bare.open()
    client.send(Connect("c", 5, will=Will("w", b"x")))
    if slow:
        client.expect_nothing()
        rules.answer()
    client.expect(Connack, reason=ReasonCode.NOT_AUTHORIZED)
    client.expect_closed()
    assert "c" not in bare.broker.sessions


def test_a_refused_will_leaves_the_present_owner_alone(make: Make) -> None:
    rules = Rules((PUBLISH, "w")).only(PUBLISH)
    bare = make(authorizer=rules)
    owner = bare.connect("c")
    refused(bare.connect("c", will=Will("w", b"x")), ReasonCode.NOT_AUTHORIZED)
    assert not owner.closed


# --- enhanced authentication ------------------------------------------------------------


def toy(bare: BareBroker, data: bytes | None, client_id: str = "c", **fields: Any) -> BareClient:
    if data is not None:
        fields["authentication_data"] = data
    return bare.connect(client_id, authentication_method="toy", **fields)


@pytest.fixture
def method() -> ToyMethod:
    return ToyMethod()


@pytest.fixture
def authenticating(make: Make, method: ToyMethod) -> BareBroker:
    return make(methods=[method], checkers=[Checker()])


@pytest.mark.statement("MQTT-4.12.0-5", "MQTT-4.12.0-6")
def test_an_exchange_without_a_challenge(authenticating: BareBroker) -> None:
    client = toy(authenticating, b"user:alice")
    assert client.connack is not None
    assert client.connack.reason == 0
    assert client.connack.properties["authentication_method"] == "toy"
    assert client.connack.properties["authentication_data"] == b"welcome"
    assert authenticating.session("c").principal == "alice"


@pytest.mark.statement("MQTT-4.12.0-2", "MQTT-4.12.0-3", "MQTT-4.12.0-5")
@pytest.mark.parametrize("data", [None, b"ask"])
def test_a_challenge_and_its_answer(authenticating: BareBroker, data: bytes | None) -> None:
    client = toy(authenticating, data)
    assert client.connack is None
    challenge = client.expect(Auth, reason=ReasonCode.CONTINUE_AUTHENTICATION)
    assert challenge.properties == {
        "authentication_method": "toy",
        "authentication_data": b"who?",
    }
    assert len(authenticating.broker.sessions) == 0
    client.authenticate(0x18, b"ask")
    client.expect(Auth, reason=0x18)
    client.authenticate(0x18, b"answer:alice")
    client.expect(Connack, reason=0)
    assert authenticating.session("c").principal == "alice"


@pytest.mark.statement("MQTT-4.12.0-1")
def test_an_unknown_method(authenticating: BareBroker) -> None:
    client = authenticating.connect("c", authentication_method="other")
    refused(client, ReasonCode.BAD_AUTHENTICATION_METHOD)


@pytest.mark.statement("MQTT-4.12.0-4")
@pytest.mark.parametrize("data", [b"no", b"fail", b"nonsense"])
@pytest.mark.parametrize("challenged", [False, True])
def test_an_exchange_that_goes_wrong_refuses(
    authenticating: BareBroker, data: bytes, challenged: bool, logged_failures: list[Any]
) -> None:
    if challenged:
        client = toy(authenticating, None)
        client.expect(Auth)
        client.authenticate(0x18, data)
        client.expect(Connack, reason=ReasonCode.NOT_AUTHORIZED)
        client.expect_closed()
    else:
        refused(toy(authenticating, data), ReasonCode.NOT_AUTHORIZED)
    assert len(authenticating.broker.sessions) == 0
    logged_failures.clear()


def test_a_method_that_does_not_start_refuses(
    authenticating: BareBroker, method: ToyMethod, logged_failures: list[Any]
) -> None:
    method.broken = True
    refused(toy(authenticating, b"user:alice"), ReasonCode.NOT_AUTHORIZED)
    assert len(logged_failures) == 1
    logged_failures.clear()


def test_a_method_that_does_not_start_again_disconnects(
    authenticating: BareBroker, method: ToyMethod, logged_failures: list[Any]
) -> None:
    client = toy(authenticating, b"user:alice")
    method.broken = True
    client.authenticate(0x19, b"user:alice")
    client.expect_closed(ReasonCode.NOT_AUTHORIZED)
    logged_failures.clear()


@pytest.mark.statement("MQTT-4.12.1-1")
@pytest.mark.parametrize(("reason", "name"), [(0x18, "other"), (0x19, "toy"), (0x00, "toy")])
def test_the_wrong_auth_during_an_exchange(
    authenticating: BareBroker, reason: int, name: str
) -> None:
    client = toy(authenticating, None)
    client.expect(Auth)
    client.authenticate(reason, b"answer:alice", name)
    client.expect(Connack, reason=ReasonCode.PROTOCOL_ERROR)
    client.expect_closed()


@pytest.mark.statement("MQTT-3.1.2-30")
def test_nothing_but_auth_and_disconnect_during_an_exchange(authenticating: BareBroker) -> None:
    client = toy(authenticating, None)
    client.expect(Auth)
    client.send(Publish("t", b"x"))
    client.expect(Connack, reason=ReasonCode.PROTOCOL_ERROR)
    client.expect_closed()
    client = toy(authenticating, None)
    client.expect(Auth)
    client.send(Disconnect())
    client.expect_closed()


def test_an_exchange_that_does_not_go_on_ends_with_the_deadline(
    authenticating: BareBroker,
) -> None:
    client = toy(authenticating, None)
    client.expect(Auth)
    authenticating.advance(11)
    assert client.transport.ending == "aborted"


def test_an_answer_that_comes_late_meets_nobody(
    authenticating: BareBroker, method: ToyMethod
) -> None:
    client = toy(authenticating, b"wait")
    client.drop()
    method.waiting[0].callback(Accepted(Avatar("alice")))
    authenticating.advance(1)
    assert len(authenticating.broker.sessions) == 0


def test_re_authentication(authenticating: BareBroker, method: ToyMethod) -> None:
    client = toy(authenticating, b"user:alice", user_name="alice")
    client.authenticate(0x19)
    client.expect(Auth, reason=0x18)
    client.subscribe("t")
    authenticating.publish("t", b"meanwhile")
    assert client.payloads() == [b"meanwhile"]
    client.authenticate(0x18, b"answer:alice")
    done = client.expect(Auth, reason=0)
    assert done.properties["authentication_data"] == b"welcome"
    assert not client.closed


@pytest.mark.statement("MQTT-4.12.1-2")
@pytest.mark.parametrize("data", [b"user:bob", b"no", b"fail"])
def test_re_authentication_that_fails_ends_the_connection(
    authenticating: BareBroker, data: bytes, logged_failures: list[Any]
) -> None:
    client = toy(authenticating, b"user:alice")
    client.authenticate(0x19, data)
    client.expect_closed(ReasonCode.NOT_AUTHORIZED)
    logged_failures.clear()


@pytest.mark.parametrize(("reason", "name"), [(0x18, "toy"), (0x19, "other"), (0, "toy")])
def test_the_wrong_auth_after_connack(authenticating: BareBroker, reason: int, name: str) -> None:
    client = toy(authenticating, b"user:alice")
    client.authenticate(reason, b"user:alice", name)
    client.expect_closed(ReasonCode.PROTOCOL_ERROR)


def test_auth_without_a_method_in_connect(bare: BareBroker) -> None:
    client = bare.connect("c")
    client.authenticate(0x19, b"x")
    client.expect_closed(ReasonCode.PROTOCOL_ERROR)


def test_new_rights_hold_from_re_authentication_on(make: Make, method: ToyMethod) -> None:
    rules = Rules((PUBLISH, "t")).only(PUBLISH)
    bare = make(methods=[method], authorizer=rules)
    watcher = bare.connect("w")
    watcher.subscribe("t")
    client = toy(bare, b"wait")
    method.waiting[0].callback(Accepted(Avatar("alice", superuser=True)))
    bare.advance()
    client.expect(Connack, reason=0)
    client.publish("t", b"as superuser")
    assert watcher.payloads() == [b"as superuser"]
    client.authenticate(0x19, b"user:alice")
    client.expect(Auth, reason=0)
    client.publish("t", b"as plain user")
    assert watcher.payloads() == []


def test_the_right_to_be_connected_ends(make: Make, method: ToyMethod) -> None:
    bare = make(methods=[method])
    client = toy(bare, b"wait")
    method.waiting[0].callback(Accepted(Avatar("alice", expires_at=50.0)))
    bare.advance()
    client.expect(Connack)
    bare.advance(49)
    assert not client.closed
    client.authenticate(0x19, b"wait")
    method.waiting[1].callback(Accepted(Avatar("alice", expires_at=80.0)))
    bare.advance(10)
    client.expect(Auth, reason=0)
    assert not client.closed
    bare.advance(25)
    client.expect_closed(ReasonCode.NOT_AUTHORIZED)


def test_a_method_may_take_its_time_for_each_step(
    authenticating: BareBroker, method: ToyMethod, logged_failures: list[Any]
) -> None:
    client = toy(authenticating, b"wait")
    method.waiting[0].callback(Challenge(b"1"))
    authenticating.advance()
    client.expect(Auth, reason=0x18)
    client.authenticate(0x18, b"wait")
    method.waiting[1].errback(Failure(RuntimeError("meant to be")))
    authenticating.advance()
    client.expect(Connack, reason=ReasonCode.NOT_AUTHORIZED)
    logged_failures.clear()


# --- what CONNACK says --------------------------------------------------------------------


def test_a_client_that_can_not_take_its_connack_is_closed(bare: BareBroker) -> None:
    """It must not get packets in place of the CONNACK that it waits for."""
    bare.publish("t", b"x", retain=True)
    client = bare.connect("c", maximum_packet_size=3)
    client.expect_nothing()
    assert client.closed
    assert bare.broker.connections == {}


@pytest.mark.statement("MQTT-3.2.2-22", "MQTT-3.1.3-7", "MQTT-3.2.2-16")
def test_what_the_server_decided_is_said(make: Make) -> None:
    bare = make(
        settings_with(
            protocol={"maximum_keep_alive": 60, "maximum_session_expiry": 50, "maximum_qos": 1}
        )
    )
    client = bare.connect("", keep_alive=0, session_expiry_interval=0xFFFFFFFF)
    assert client.connack is not None
    properties = client.connack.properties
    assert properties["server_keep_alive"] == 60
    assert properties["session_expiry_interval"] == 50
    assert properties["maximum_qos"] == 1
    assert properties["assigned_client_identifier"] in bare.broker.sessions
    assert client.transport.keep_alive == 90
