"""What a client publishes and acknowledges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mqttd.interfaces import PUBLISH
from mqttd.settings import DeniedPublish
from mqttd.wire.codes import PacketType, ReasonCode
from mqttd.wire.packets import Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.broker.doubles import Rules
from tests.broker.harness import BareBroker, BareClient, settings_with

Make = Callable[..., BareBroker]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[BareBroker] = []

    def make_one(rules: Rules | None = None, **protocol: Any) -> BareBroker:
        made.append(BareBroker(settings_with(protocol=protocol), authorizer=rules))
        return made[-1]

    yield make_one
    for bare in made:
        bare.stop()


def watcher(bare: BareBroker, topic_filter: str = "#") -> BareClient:
    client = bare.connect("watcher")
    client.subscribe(topic_filter, qos=2)
    return client


# --- QoS 2 from the client ------------------------------------------------------------


@pytest.mark.statement("MQTT-4.3.3-8", "MQTT-4.3.3-10", "MQTT-4.3.3-11", "MQTT311-4.3.3-2")
@pytest.mark.parametrize("version", [3, 4, 5])
def test_qos_2_is_routed_once_across_reconnections(bare: BareBroker, version: int) -> None:
    fields: dict[str, Any] = {"session_expiry_interval": 100} if version == 5 else {}
    seen = watcher(bare)

    def connect() -> BareClient:
        return bare.connect("c", version, clean_start=False, **fields)

    client = connect()
    client.send_publish("t", b"x", 2, packet_id=7)
    client.expect(Pubrec, packet_id=7)
    client.send_publish("t", b"x", 2, packet_id=7, dup=True)
    client.expect(Pubrec, packet_id=7, reason=0)
    client.drop()
    client = connect()
    client.send_publish("t", b"x", 2, packet_id=7, dup=True)
    client.expect(Pubrec, packet_id=7)
    client.send(Pubrel(7))
    client.expect(Pubcomp, packet_id=7, reason=0)
    assert seen.payloads() == [b"x"]
    client.send_publish("t", b"y", 2, packet_id=7)
    client.expect(Pubrec, packet_id=7)
    assert seen.payloads() == [b"y"]


def test_a_new_session_has_forgotten_packet_identifiers(bare: BareBroker) -> None:
    seen = watcher(bare)
    client = bare.connect("c", session_expiry_interval=100)
    client.send_publish("t", b"x", 2, packet_id=7)
    bare.connect("c", session_expiry_interval=100).send_publish("t", b"x", 2, packet_id=7)
    assert seen.payloads() == [b"x", b"x"]


def test_a_qos_2_message_that_was_refused_leaves_its_packet_identifier_free(make: Make) -> None:
    rules = Rules((PUBLISH, "no")).only(PUBLISH)
    bare = make(rules)
    client = bare.connect("c")
    client.send_publish("no", b"x", 2, packet_id=7)
    client.expect(Pubrec, packet_id=7, reason=ReasonCode.NOT_AUTHORIZED)
    client.send(Pubrel(7))
    client.expect(Pubcomp, reason=ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)
    seen = watcher(bare)
    client.publish("yes", b"y", 2, packet_id=7)
    assert seen.payloads() == [b"y"]


@pytest.mark.parametrize("version", [4, 5])
def test_a_qos_2_message_whose_check_outlives_the_connection_is_routed_once(
    make: Make, version: int
) -> None:
    rules = Rules(slow=True).only(PUBLISH)
    bare = make(rules)
    fields: dict[str, Any] = {"session_expiry_interval": 100} if version == 5 else {}
    seen = watcher(bare)
    client = bare.connect("c", version, clean_start=False, **fields)
    client.send_publish("t", b"x", 2, packet_id=7)
    client.expect_nothing()
    client.drop()
    client = bare.connect("c", version, clean_start=False, **fields)
    client.send_publish("t", b"x", 2, packet_id=7, dup=True)
    rules.answer()
    rules.answer()
    client.expect(Pubrec, packet_id=7)
    assert seen.payloads() == [b"x"]


def test_awaiting_is_bounded_by_the_receive_maximum(make: Make) -> None:
    bare = make(receive_maximum=10)
    seen = watcher(bare)
    client = bare.connect("c")
    for packet_id in range(1, 11):
        client.send_publish("t", b"x", 2, packet_id=packet_id)
    assert len(client.take(Pubrec)) == 10
    assert len(seen.messages()) == 10
    client.send_publish("t", b"over", 2, packet_id=11)
    client.expect_closed(ReasonCode.RECEIVE_MAXIMUM_EXCEEDED)
    assert seen.messages() == []


# --- access, with answers that take time --------------------------------------------


def test_slow_answers_keep_the_order(make: Make) -> None:
    rules = Rules(slow=True).only(PUBLISH)
    bare = make(rules)
    seen = watcher(bare)
    client = bare.connect("c")
    client.send(*(Publish(f"t/{n}", b"%d" % n, n % 3, packet_id=n) for n in range(1, 10)))
    other = bare.connect("o")
    for n in range(1, 10):
        assert len(rules.asked) == 1
        assert rules.answer().topic == f"t/{n}"
    assert seen.payloads() == [b"%d" % n for n in range(1, 10)]
    assert [p.packet_id for p in client.received] == [n for n in range(1, 10) if n % 3]  # type: ignore[union-attr]
    other.subscribe("x")


@pytest.mark.parametrize("answer", [False, RuntimeError("meant to be")], ids=["no", "fails"])
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("version", [4, 5])
def test_a_slow_no(
    make: Make, version: int, qos: int, answer: Any, logged_failures: list[Any]
) -> None:
    rules = Rules(slow=True).only(PUBLISH)
    bare = make(rules)
    seen = watcher(bare)
    client = bare.connect("c", version)
    client.send_publish("t", b"x", qos)
    rules.answer(answer)
    assert not client.closed
    if qos:
        reason = ReasonCode.NOT_AUTHORIZED if version == 5 else 0
        client.expect(Puback if qos == 1 else Pubrec, reason=reason)
    client.expect_nothing()
    assert seen.messages() == []
    assert bare.broker.metrics.dropped == {"not-authorized": 1}
    logged_failures.clear()


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_denied_publish_may_disconnect_old_clients(make: Make, qos: int, slow: bool) -> None:
    rules = Rules((PUBLISH, "t"), slow=slow).only(PUBLISH)
    bare = make(rules, denied_publish=DeniedPublish.DISCONNECT)
    client = bare.connect("c", 4)
    client.send_publish("t", b"x", qos)
    if slow:
        rules.answer()
    client.expect_closed()
    assert bare.broker.metrics.closed == {"protocol-error": 1}


def test_an_authorizer_that_raises_refuses(make: Make, logged_failures: list[Any]) -> None:
    class Broken(Rules):
        def authorize(self, request: Any) -> Any:
            raise RuntimeError("meant to be")

    bare = make(Broken().only(PUBLISH))
    client = bare.connect("c")
    answer = client.publish("t", b"x", 1)
    assert answer is not None
    assert answer.reason == ReasonCode.NOT_AUTHORIZED
    assert bare.broker.metrics.errors == {"authorizer": 1}
    logged_failures.clear()


@pytest.mark.parametrize("answer", [1, "yes", None, object()])
def test_only_true_is_yes(make: Make, answer: Any) -> None:
    class Vague(Rules):
        def authorize(self, request: Any) -> Any:
            return answer

    client = make(Vague().only(PUBLISH)).connect("c")
    found = client.publish("t", b"x", 1)
    assert found is not None
    assert found.reason == ReasonCode.NOT_AUTHORIZED


# --- what else a PUBLISH may be refused for ----------------------------------------


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("topic", ["x" * 101, "é" * 51, "a/" * 10 + "a"])
def test_a_topic_over_the_caps(make: Make, topic: str, qos: int) -> None:
    bare = make(maximum_topic_length=100, maximum_topic_levels=10)
    seen = watcher(bare)
    client = bare.connect("c")
    client.send_publish(topic, b"x", qos)
    if qos:
        client.expect(Puback, reason=ReasonCode.TOPIC_NAME_INVALID)
    else:
        client.expect_closed(ReasonCode.TOPIC_NAME_INVALID)
    assert seen.messages() == []


def test_a_topic_at_the_caps(make: Make) -> None:
    bare = make(maximum_topic_length=100, maximum_topic_levels=10)
    seen = watcher(bare)
    client = bare.connect("c")
    for topic in ("x" * 100, "é" * 50, "a/" * 9 + "a"):
        client.publish(topic, b"x", 1)
    assert len(seen.messages()) == 3


@pytest.mark.statement("MQTT-3.2.2-11", "MQTT-3.2.2-14")
def test_what_connack_ruled_out_ends_the_connection(make: Make) -> None:
    bare = make(maximum_qos=1, retain_available=False)
    one = bare.connect("one")
    one.send_publish("t", b"x", 2)
    one.expect_closed(ReasonCode.QOS_NOT_SUPPORTED)
    two = bare.connect("two")
    two.send_publish("t", b"x", 0, retain=True)
    two.expect_closed(ReasonCode.RETAIN_NOT_SUPPORTED)
    assert bare.broker.retained.count == 0


# --- topic aliases ------------------------------------------------------------------


@pytest.mark.statement("MQTT-3.3.2-7", "MQTT-3.3.2-8")
def test_topic_aliases_from_the_client(bare: BareBroker) -> None:
    seen = watcher(bare)
    client = bare.connect("c")
    client.publish("one", b"1", topic_alias=1)
    client.publish("two", b"2", topic_alias=2)
    client.publish("", b"3", topic_alias=1)
    client.publish("three", b"4", topic_alias=1)
    client.publish("", b"5", qos=1, topic_alias=1)
    client.publish("", b"6", topic_alias=2)
    assert [m.topic for m in seen.messages()] == ["one", "two", "one", "three", "three", "two"]


@pytest.mark.statement("MQTT-3.1.2-26", "MQTT-3.1.2-27", "MQTT-3.3.2-8")
def test_topic_aliases_to_the_client(bare: BareBroker) -> None:
    client = bare.connect("c", topic_alias_maximum=2, session_expiry_interval=10)
    client.subscribe("#", qos=1)
    for topic in ("a/long/one", "a/long/two", "a/long/one", "another", "a/long/two"):
        bare.publish(topic, b"x", 1)
    messages = client.messages()
    assert [(m.topic, m.properties.get("topic_alias")) for m in messages] == [
        ("a/long/one", 1),
        ("a/long/two", 2),
        ("", 1),
        ("another", None),
        ("", 2),
    ]
    client.drop()
    # Aliases end with the connection: what is resent must not rely on them.
    again = bare.connect("c", clean_start=False, session_expiry_interval=10)
    assert [m.topic for m in again.messages()] == [
        "a/long/one",
        "a/long/two",
        "a/long/one",
        "another",
        "a/long/two",
    ]


def test_an_alias_must_not_make_a_message_too_large(bare: BareBroker) -> None:
    size = 2 + 2 + len("topic") + 1 + 50
    client = bare.connect("c", topic_alias_maximum=10, maximum_packet_size=size)
    client.subscribe("topic", "t")
    bare.publish("topic", bytes(50))
    (message,) = client.messages()
    assert message.topic == "topic"
    assert "topic_alias" not in message.properties
    # One that fits announces the alias, and the next one may use it.
    bare.publish("topic", bytes(40))
    bare.publish("topic", bytes(51))
    assert [m.topic for m in client.messages()] == ["topic", ""]


def test_a_mounted_client_gets_aliases_for_the_topics_it_knows(bare: BareBroker) -> None:
    from attrs import evolve

    listener = evolve(bare.listener, mount_point="m/")
    client = bare.connect("c", topic_alias_maximum=1, listener=listener)
    client.subscribe("t")
    bare.publish("m/t", b"1")
    bare.publish("m/t", b"2")
    assert [(m.topic, m.properties["topic_alias"]) for m in client.messages()] == [
        ("t", 1),
        ("", 1),
    ]


# --- acknowledgements for what was never sent -------------------------------------------


@pytest.mark.parametrize("version", [4, 5])
def test_acknowledgements_of_unknown_packet_identifiers(bare: BareBroker, version: int) -> None:
    client = bare.connect("c", version)
    client.send(Puback(9), Pubcomp(9))
    client.expect_nothing()
    client.send(Pubrec(9))
    reason = ReasonCode.PACKET_IDENTIFIER_NOT_FOUND if version == 5 else 0
    client.expect(Pubrel, packet_id=9, reason=reason)
    client.send(Pubrel(9))
    client.expect(Pubcomp, packet_id=9, reason=reason)
    client.send(Pubrec(9, ReasonCode.UNSPECIFIED_ERROR if version == 5 else 0))
    if version == 5:
        client.expect_nothing()
    missed = bare.broker.metrics.packets_missed
    assert missed[PacketType.PUBACK] == missed[PacketType.PUBCOMP] == 1
    assert missed[PacketType.PUBREC] == 2
    assert missed[PacketType.PUBREL] == 1


@pytest.mark.statement("MQTT-3.1.2-29")
def test_no_reason_string_for_a_client_that_wants_none(make: Make) -> None:
    bare = make(Rules((PUBLISH, "no")).only(PUBLISH))
    quiet = bare.connect("q", request_problem_information=0)
    answer = quiet.publish("no", b"x", 1)
    assert answer is not None
    assert answer.properties == {}
    told = bare.connect("t").publish("no", b"x", 1)
    assert told is not None
    assert "reason_string" in told.properties


def test_a_success_code_says_whether_anyone_subscribes(bare: BareBroker) -> None:
    client = bare.connect("c")
    lonely = client.publish("t", b"x", 1)
    assert lonely is not None
    assert lonely.reason == ReasonCode.NO_MATCHING_SUBSCRIBERS
    watcher(bare)
    heard = client.publish("t", b"x", 1)
    assert heard is not None
    assert heard.reason == 0
