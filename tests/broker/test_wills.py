"""When a will is published, and when not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mqttd.interfaces import PUBLISH
from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import Connect, Disconnect, Properties, Will
from tests.broker.doubles import Rules
from tests.broker.harness import BareBroker, BareClient, settings_with


def will(delay: int = 0, **fields: Any) -> Will:
    properties = Properties(will_delay_interval=delay) if delay else Properties()
    return Will("w", b"gone", properties=properties, **fields)


@pytest.fixture
def seen(bare: BareBroker) -> BareClient:
    client = bare.connect("watcher")
    client.subscribe("w", qos=2)
    return client


@pytest.mark.statement("MQTT-3.1.2-8", "MQTT311-3.1.2-8", "MQTT-3.14.4-3", "MQTT311-3.14.4-3")
@pytest.mark.parametrize("version", [3, 4, 5])
@pytest.mark.parametrize(
    ("how", "published"),
    [("drop", True), ("disconnect", False), ("violation", True), ("keep alive", True)],
)
def test_how_a_connection_ends_decides(
    bare: BareBroker, seen: BareClient, version: int, how: str, published: bool
) -> None:
    client = bare.connect("c", version, will=will(qos=1, retain=True))
    if how == "drop":
        client.drop()
    elif how == "disconnect":
        client.disconnect()
    elif how == "violation":
        client.send_bytes(b"\x00\x00")
    else:
        client.transport.connection.keep_alive_expired()
    messages = seen.messages()
    assert [(m.topic, m.payload, m.qos) for m in messages] == [("w", b"gone", 1)] * published
    assert bare.broker.retained.count == published
    bare.advance(100)
    assert seen.messages() == []


def test_disconnect_with_will(bare: BareBroker, seen: BareClient) -> None:
    client = bare.connect("c", will=will())
    client.send(Disconnect(ReasonCode.DISCONNECT_WITH_WILL))
    assert seen.payloads() == [b"gone"]


@pytest.mark.statement("MQTT-3.1.2-10")
def test_a_protocol_error_in_disconnect_publishes_the_will(
    bare: BareBroker, seen: BareClient
) -> None:
    client = bare.connect("c", will=will())
    client.send(Disconnect(0, Properties(session_expiry_interval=10)))
    client.expect_closed(ReasonCode.PROTOCOL_ERROR)
    assert seen.payloads() == [b"gone"]


@pytest.mark.statement("MQTT-3.1.3-9")
def test_a_delayed_will_waits(bare: BareBroker, seen: BareClient) -> None:
    client = bare.connect("c", will=will(10), session_expiry_interval=100)
    client.drop()
    bare.advance(9)
    assert seen.payloads() == []
    bare.advance(2)
    assert seen.payloads() == [b"gone"]


@pytest.mark.statement("MQTT-3.1.3-9")
def test_a_delay_ends_with_the_session(bare: BareBroker, seen: BareClient) -> None:
    client = bare.connect("c", will=will(1000), session_expiry_interval=10)
    client.drop()
    bare.advance(9)
    assert seen.payloads() == []
    bare.advance(2)
    assert seen.payloads() == [b"gone"]
    bare.advance(2000)
    assert seen.payloads() == []


def test_without_a_session_to_outlive_there_is_no_delay(bare: BareBroker, seen: BareClient) -> None:
    bare.connect("c", will=will(1000)).drop()
    assert seen.payloads() == [b"gone"]


@pytest.mark.statement("MQTT-3.1.3-9")
@pytest.mark.parametrize("online", [False, True])
def test_a_client_that_is_back_in_time_has_no_will(
    bare: BareBroker, seen: BareClient, online: bool
) -> None:
    client = bare.connect("c", will=will(10), session_expiry_interval=100)
    if not online:
        client.drop()
    again = bare.connect("c", clean_start=False, session_expiry_interval=100)
    bare.advance(50)
    assert seen.payloads() == []
    again.drop()
    bare.advance(50)
    assert seen.payloads() == []


@pytest.mark.parametrize("online", [False, True])
def test_a_clean_start_ends_the_delay(bare: BareBroker, seen: BareClient, online: bool) -> None:
    client = bare.connect("c", will=will(10), session_expiry_interval=100)
    if not online:
        client.drop()
    bare.connect("c", clean_start=True)
    assert seen.payloads() == [b"gone"]


def test_a_take_over_publishes_a_will_without_delay(bare: BareBroker, seen: BareClient) -> None:
    bare.connect("c", will=will(), session_expiry_interval=100)
    again = bare.connect("c", clean_start=False, will=will(), session_expiry_interval=100)
    assert seen.payloads() == [b"gone"]
    again.disconnect()
    assert seen.payloads() == []


def test_disconnect_may_shorten_the_session_and_with_it_the_delay(
    bare: BareBroker, seen: BareClient
) -> None:
    client = bare.connect("c", will=will(10), session_expiry_interval=100)
    client.send(Disconnect(ReasonCode.DISCONNECT_WITH_WILL, Properties(session_expiry_interval=0)))
    assert seen.payloads() == [b"gone"]


def test_the_longest_delay_is_a_setting() -> None:
    bare = BareBroker(settings_with(protocol={"maximum_will_delay": 5}))
    seen = bare.connect("watcher")
    seen.subscribe("w")
    bare.connect("c", will=will(1000), session_expiry_interval=0xFFFFFFFF).drop()
    bare.advance(6)
    assert seen.payloads() == [b"gone"]
    bare.stop()


def test_a_will_reaches_its_own_session(bare: BareBroker) -> None:
    client = bare.connect("c", will=will(qos=1), session_expiry_interval=100)
    client.subscribe("w", qos=1)
    client.drop()
    again = bare.connect("c", clean_start=False, session_expiry_interval=100)
    assert again.payloads() == [b"gone"]


def test_the_properties_of_a_will_travel(bare: BareBroker, seen: BareClient) -> None:
    properties = Properties(
        will_delay_interval=3,
        content_type="text",
        message_expiry_interval=20,
        user_property=[("a", "1"), ("a", "2")],
        correlation_data=b"\x00",
        response_topic="r",
        payload_format_indicator=1,
    )
    client = bare.connect(
        "c", will=Will("w", b"gone", 1, properties=properties), session_expiry_interval=100
    )
    client.drop()
    bare.advance(5)
    (message,) = seen.messages()
    properties.pop("will_delay_interval")
    assert message.properties == properties


@pytest.fixture
def rules() -> Rules:
    return Rules().only(PUBLISH)


@pytest.fixture
def ruled(rules: Rules) -> Iterator[BareBroker]:
    bare = BareBroker(authorizer=rules)
    yield bare
    bare.stop()


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("delay", [0, 5])
def test_a_will_is_judged_again_when_it_is_sent(
    ruled: BareBroker, rules: Rules, delay: int, slow: bool
) -> None:
    seen = ruled.connect("watcher")
    seen.subscribe("w")
    client = ruled.connect("c", will=will(delay), session_expiry_interval=100)
    rules.change((PUBLISH, "w"))
    rules.slow = slow
    client.drop()
    ruled.advance(delay + 1)
    if slow:
        rules.answer()
    assert seen.payloads() == []
    assert ruled.broker.metrics.dropped == {"will-denied": 1}


def test_a_will_whose_judgement_fails_is_not_sent(
    ruled: BareBroker, rules: Rules, logged_failures: list[Any]
) -> None:
    seen = ruled.connect("watcher")
    seen.subscribe("w")
    client = ruled.connect("c", will=will())
    rules.change()
    rules.slow = True
    client.drop()
    rules.answer(RuntimeError("meant to be"))
    assert seen.payloads() == []
    assert ruled.broker.metrics.dropped == {"will-denied": 1}
    logged_failures.clear()


def test_a_connection_lost_while_its_will_is_judged(ruled: BareBroker, rules: Rules) -> None:
    seen = ruled.connect("watcher")
    seen.subscribe("w")
    rules.slow = True
    client = ruled.open()
    client.send(Connect("c", 5, will=will()))
    client.drop()
    rules.answer()
    ruled.advance(1)
    assert seen.payloads() == []
    assert "c" not in ruled.broker.sessions


def test_drain_publishes_wills_while_others_can_hear_them(
    bare: BareBroker, seen: BareClient
) -> None:
    client = bare.connect("c", will=will())
    bare.broker.drain()
    bare.advance()
    assert seen.payloads() == [b"gone"]
    seen.expect_closed(ReasonCode.SERVER_SHUTTING_DOWN)
    client.expect_closed(ReasonCode.SERVER_SHUTTING_DOWN)
    assert bare.broker.connections == {}


def test_two_wills_that_answer_each_other_come_once(bare: BareBroker, seen: BareClient) -> None:
    one = bare.connect("one", will=will())
    bare.connect("two", will=will())
    one.drop()
    assert seen.payloads() == [b"gone"]
