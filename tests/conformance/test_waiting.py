"""The same rules while an answer from elsewhere is awaited: checkers and authorizers."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mqttd.interfaces import AccessRequest, IAuthorizer
from mqttd.testing import VirtualBroker
from mqttd.wire.codes import MQTT5, ReasonCode
from mqttd.wire.packets import (
    Connack,
    Connect,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Pubrec,
    Suback,
    Subscribe,
    SubscriptionRequest,
)

from .support import Rules, all_versions, each_version, expect_closed


@implementer(ICredentialsChecker)
class Slow:
    """Answers when it is told to."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self) -> None:
        self.asked: list[Deferred[bytes]] = []

    def requestAvatarId(self, credentials: Any) -> Any:
        self.asked.append(Deferred())
        return self.asked[-1]

    def say(self, answer: bytes | Exception) -> None:
        asked = self.asked.pop(0)
        if isinstance(answer, bytes):
            asked.callback(answer)
        else:
            asked.errback(answer)


@implementer(IAuthorizer)
class SlowRules(Rules):
    """An authorizer that answers when it is told to."""

    def __init__(self, *actions: str) -> None:
        super().__init__()
        self.checks = frozenset(actions)
        self.asked: list[tuple[str, Deferred[bool]]] = []

    def authorize(self, request: AccessRequest) -> Any:
        answer: Deferred[bool] = Deferred()
        self.asked.append((request.topic, answer))
        return answer

    def say(self, allowed: bool) -> str:
        topic, answer = self.asked.pop(0)
        answer.callback(allowed)
        return topic


@pytest.fixture
def checker() -> Slow:
    return Slow()


@pytest.fixture
def guarded(checker: Slow) -> VirtualBroker:
    return VirtualBroker(checkers=[checker])


def hello(version: int) -> Connect:
    return Connect("c", version, user_name="user", password=b"secret")


@pytest.mark.statement("MQTT-3.1.4-6", "MQTT-3.2.0-1", "MQTT311-3.1.4-5", "MQTT311-3.2.0-1")
@all_versions
def test_what_a_client_sends_at_once_waits_for_its_connack(
    guarded: VirtualBroker, checker: Slow, version: int
) -> None:
    client = guarded.open(version)
    client.send(hello(version), Subscribe(1, [SubscriptionRequest("t")]))
    client.send(Publish("t", b"x"), Pingreq())
    guarded.advance(1)
    client.expect_nothing()
    checker.say(b"user")
    guarded.advance(0)
    client.expect(Connack, reason=0)
    client.expect(Suback)
    client.expect(Publish, payload=b"x")
    client.expect(Pingresp)


@pytest.mark.statement("MQTT-3.1.4-6", "MQTT311-3.1.4-5", "MQTT-3.1.4-2")
@all_versions
def test_and_is_not_processed_when_the_answer_is_no(
    guarded: VirtualBroker, checker: Slow, version: int
) -> None:
    client = guarded.open(version)
    client.send(hello(version), Publish("t", b"smuggled", retain=True), Pingreq())
    checker.say(UnauthorizedLogin())
    guarded.advance(0)
    assert client.expect(Connack).reason != 0
    expect_closed(client)
    assert guarded.broker.retained.count == 0


@pytest.mark.statement("MQTT-3.1.4-3", "MQTT311-3.1.4-2")
@each_version
def test_one_client_id_has_one_connection_whatever_the_order_of_answers(
    guarded: VirtualBroker, checker: Slow, version: int
) -> None:
    first, second = guarded.open(version), guarded.open(version)
    first.send(hello(version))
    second.send(hello(version))
    checker.asked.reverse()
    for _ in range(2):
        checker.say(b"user")
        guarded.advance(0)
    first.expect(Connack, reason=0)
    second.expect(Connack, reason=0)
    expect_closed(second, ReasonCode.SESSION_TAKEN_OVER)
    first.send(Pingreq())
    first.expect(Pingresp)


@pytest.mark.statement("MQTT-3.1.2-23", "MQTT311-3.1.2-6")
@each_version
def test_a_client_that_left_while_it_was_checked_leaves_nothing(
    guarded: VirtualBroker, checker: Slow, version: int
) -> None:
    client = guarded.open(version)
    client.send(hello(version))
    client.drop()
    checker.say(b"user")
    guarded.advance(1)
    assert len(guarded.broker.sessions) == 0
    assert len(guarded.broker.connections) == 0


@pytest.mark.statement("MQTT-4.6.0-2", "MQTT-4.6.0-3", "MQTT311-4.6.0-2", "MQTT311-4.6.0-3")
@each_version
def test_acknowledgements_keep_their_order_while_rules_are_asked(version: int) -> None:
    rules = SlowRules("publish")
    broker = VirtualBroker(authorizer=rules)
    reader = broker.connect("reader", version)
    reader.subscribe("#")
    writer = broker.connect("writer", version)
    writer.send(
        Publish("a", b"1", qos=1, packet_id=5),
        Publish("b", b"2", qos=2, packet_id=3),
        Publish("c", b"3", qos=1, packet_id=4),
        Pingreq(),
    )
    writer.expect_nothing()
    for topic in ("a", "b", "c"):
        assert rules.say(True) == topic
        broker.advance(0)
    writer.expect(Puback, packet_id=5)
    writer.expect(Pubrec, packet_id=3)
    writer.expect(Puback, packet_id=4)
    writer.expect(Pingresp)
    assert [message.payload for message in reader.messages()] == [b"1", b"2", b"3"]


@pytest.mark.statement("MQTT-4.6.0-5", "MQTT-4.6.0-6", "MQTT311-4.6.0-5", "MQTT311-4.6.0-6")
@each_version
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_keep_their_order_while_rules_are_asked(version: int, qos: int) -> None:
    rules = SlowRules("receive")
    broker = VirtualBroker(authorizer=rules)
    reader = broker.connect("reader", version)
    reader.subscribe("#", qos=qos)
    # Kept answers are not asked again: what follows may not overtake what waits.
    for topic in ("a", "b", "a", "c", "a", "b"):
        broker.publish(topic, topic.encode(), qos=qos)
    while rules.asked:
        rules.say(True)
        broker.advance(0)
    found = [message.payload for message in reader.messages()]
    assert found == [b"a", b"b", b"a", b"c", b"a", b"b"]


@pytest.mark.statement("MQTT-3.8.4-5", "MQTT-3.9.3-1", "MQTT311-3.8.4-4", "MQTT311-3.9.3-1")
@each_version
def test_suback_waits_for_every_answer(version: int) -> None:
    rules = SlowRules("subscribe")
    broker = VirtualBroker(authorizer=rules)
    client = broker.connect("c", version)
    requests = [SubscriptionRequest(name, 1) for name in ("a", "b", "c")]
    client.send(Subscribe(9, requests), Pingreq())
    for allowed in (True, False, True):
        client.expect_nothing()
        rules.say(allowed)
        broker.advance(0)
    refused = 0x87 if version == MQTT5 else 0x80
    client.expect(Suback, packet_id=9, reasons=[1, refused, 1])
    client.expect(Pingresp)
