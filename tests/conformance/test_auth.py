"""Sections 3.15 and 4.12: AUTH and enhanced authentication."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.cred.error import UnauthorizedLogin

from mqttd.interfaces import Accepted, Avatar, Challenge
from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.codes import MQTT5, ReasonCode
from mqttd.wire.packets import Auth, Connack, Disconnect, Pingreq, Pingresp, Properties
from mqttd.wire.serializer import serialize

from .support import all_versions, broker_with, expect_closed, frame, properties, text


class Riddle:
    """Two questions; who answers both is the user "sphinx"."""

    name = "riddle"

    def start(self, credentials: Any) -> Any:
        return RiddleExchange()


class RiddleExchange:
    def __init__(self) -> None:
        self.expected = [b"ask", b"one", b"two"]

    def respond(self, data: bytes | None) -> Challenge | Accepted:
        if data != self.expected.pop(0):
            raise UnauthorizedLogin("wrong answer")
        if self.expected:
            return Challenge(b"question %d" % (3 - len(self.expected)))
        return Accepted(Avatar("sphinx"), b"welcome")


def auth(reason: int, data: bytes | None = None, method: str | None = "riddle") -> Auth:
    found = Properties()
    if method is not None:
        found["authentication_method"] = method
    if data is not None:
        found["authentication_data"] = data
    return Auth(reason, found)


CONTINUE, AGAIN = ReasonCode.CONTINUE_AUTHENTICATION, ReasonCode.REAUTHENTICATE


@pytest.fixture
def riddles() -> VirtualBroker:
    return broker_with(methods=[Riddle()])


@pytest.fixture
def asked(riddles: VirtualBroker) -> VirtualClient:
    """A client whose CONNECT was answered with the first question."""
    client = riddles.connect("c", authentication_method="riddle", authentication_data=b"ask")
    assert client.connack is None
    client.expect(Auth)
    return client


@pytest.fixture
def known(asked: VirtualClient) -> VirtualClient:
    """A client that has answered both."""
    asked.send(auth(CONTINUE, b"one"))
    asked.expect(Auth)
    asked.send(auth(CONTINUE, b"two"))
    asked.expect(Connack, reason=0)
    return asked


@pytest.mark.statement("MQTT-4.12.0-1")
def test_an_unknown_method_is_refused(riddles: VirtualBroker) -> None:
    client = riddles.connect("c", authentication_method="SCRAM-SHA-512")
    assert client.connack is not None
    assert client.connack.reason == ReasonCode.BAD_AUTHENTICATION_METHOD
    client.expect_nothing()
    assert client.closed


@pytest.mark.statement("MQTT-4.12.0-2", "MQTT-4.12.0-3", "MQTT-4.12.0-5", "MQTT-3.15.2-1")
def test_an_exchange_until_connack(riddles: VirtualBroker) -> None:
    client = riddles.connect("c", authentication_method="riddle", authentication_data=b"ask")
    for answer in (b"one", b"two"):
        question = client.expect(Auth, reason=CONTINUE)
        assert question.properties["authentication_method"] == "riddle"
        assert question.properties["authentication_data"].startswith(b"question")
        client.send(auth(CONTINUE, answer))
    connack = client.expect(Connack, reason=0)
    assert connack.properties["authentication_method"] == "riddle"
    assert connack.properties["authentication_data"] == b"welcome"
    client.send(Pingreq())
    client.expect(Pingresp)


@pytest.mark.statement("MQTT-4.12.0-3", "MQTT-3.14.0-1")
@pytest.mark.parametrize("reason", [0x00, 0x19])
def test_the_client_continues_with_continue(asked: VirtualClient, reason: int) -> None:
    asked.send(auth(reason, b"one"))
    assert asked.expect(Connack).reason == ReasonCode.PROTOCOL_ERROR
    expect_closed(asked)


@pytest.mark.statement("MQTT-4.12.0-5")
@pytest.mark.parametrize("method", ["other", None])
def test_every_auth_names_the_method_of_connect(asked: VirtualClient, method: str | None) -> None:
    asked.send(auth(CONTINUE, b"one", method))
    assert asked.expect(Connack).reason == ReasonCode.PROTOCOL_ERROR
    expect_closed(asked)


@pytest.mark.statement("MQTT-4.12.0-4")
def test_a_wrong_answer_closes_the_connection(riddles: VirtualBroker, asked: VirtualClient) -> None:
    asked.send(auth(CONTINUE, b"wrong"))
    assert asked.expect(Connack).reason == ReasonCode.NOT_AUTHORIZED
    expect_closed(asked)
    assert len(riddles.broker.sessions) == 0


@pytest.mark.statement("MQTT-4.12.0-4")
def test_a_client_may_give_up(riddles: VirtualBroker, asked: VirtualClient) -> None:
    asked.send(Disconnect())
    expect_closed(asked)
    assert len(riddles.broker.sessions) == 0


@pytest.mark.statement("MQTT-4.12.0-6")
@all_versions
def test_without_a_method_there_is_no_auth(riddles: VirtualBroker, version: int) -> None:
    client = riddles.connect("c", version)
    assert client.connack is not None
    assert "authentication_method" not in client.connack.properties
    assert "authentication_data" not in client.connack.properties
    riddles.advance(100)
    client.expect_nothing()


@pytest.mark.statement("MQTT-4.12.0-7", "MQTT-4.12.1-1")
@pytest.mark.parametrize("reason", [CONTINUE, AGAIN])
def test_auth_without_a_method_in_connect_is_an_error(riddles: VirtualBroker, reason: int) -> None:
    client = riddles.connect("c")
    client.send(auth(reason, b"ask"))
    expect_closed(client, ReasonCode.PROTOCOL_ERROR)


@pytest.mark.statement("MQTT-4.12.1-1", "MQTT-4.12.0-5", "MQTT-3.15.2-1")
def test_authentication_may_be_renewed(known: VirtualClient) -> None:
    known.send(auth(AGAIN, b"ask"))
    for answer in (b"one", b"two"):
        assert known.expect(Auth, reason=CONTINUE).properties["authentication_method"] == "riddle"
        known.send(Pingreq())
        known.expect(Pingresp)  # the connection goes on as it was
        known.send(auth(CONTINUE, answer))
    done = known.expect(Auth, reason=0)
    assert done.properties == {
        "authentication_method": "riddle",
        "authentication_data": b"welcome",
    }


@pytest.mark.statement("MQTT-4.12.1-1")
@pytest.mark.parametrize("method", ["other", None])
def test_renewal_with_another_method_is_an_error(known: VirtualClient, method: str | None) -> None:
    known.send(auth(AGAIN, b"ask", method))
    expect_closed(known, ReasonCode.PROTOCOL_ERROR)


@pytest.mark.statement("MQTT-4.12.1-2")
@pytest.mark.parametrize("first", [b"wrong", b"ask"])
def test_a_failed_renewal_closes_the_connection(known: VirtualClient, first: bytes) -> None:
    known.send(auth(AGAIN, first))
    if first == b"ask":
        known.expect(Auth)
        known.send(auth(CONTINUE, b"wrong"))
    expect_closed(known, ReasonCode.NOT_AUTHORIZED)


@pytest.mark.statement("MQTT-3.15.1-1", "MQTT-2.1.3-1")
@pytest.mark.parametrize("first", [0xF1, 0xF2, 0xF4, 0xF8, 0xFF])
def test_auth_with_reserved_flags_is_malformed(known: VirtualClient, first: int) -> None:
    block = b"\x15" + text("riddle")
    known.send_bytes(frame(first, b"\x19", properties(block)))
    expect_closed(known, ReasonCode.MALFORMED_PACKET)


@pytest.mark.statement("MQTT-3.15.2-1")
@pytest.mark.parametrize("reason", [0x01, 0x80, 0x87, 0xFF])
def test_auth_with_a_code_that_is_none_of_its_own_closes(known: VirtualClient, reason: int) -> None:
    block = b"\x15" + text("riddle")
    known.send_bytes(frame(0xF0, bytes((reason,)), properties(block)))
    expect_closed(known, ReasonCode.PROTOCOL_ERROR)


@pytest.mark.statement("MQTT-3.15.2-2", "MQTT-3.15.2-3", "MQTT-3.1.2-24")
def test_auth_is_no_larger_than_the_client_takes(riddles: VirtualBroker) -> None:
    client = riddles.connect(
        "c",
        authentication_method="riddle",
        authentication_data=b"ask",
        maximum_packet_size=64,
        user_property=[("key", "v" * 100)],
    )
    question = client.expect(Auth)
    assert len(serialize(question, MQTT5)) <= 64
    assert not {"reason_string", "user_property"} & set(question.properties)
