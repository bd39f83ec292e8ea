"""Settings of the protocol that change what a client sees, each away from its default."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from mqttd.interfaces import PUBLISH
from mqttd.settings import BrokerSettings, ProtocolSettings, RetainedSettings
from mqttd.testing import VirtualBroker
from mqttd.wire.codes import ConnectReturnCode, ReasonCode
from mqttd.wire.packets import Disconnect, Publish, Suback, Subscribe, SubscriptionRequest
from tests.broker.doubles import Rules
from tests.broker.harness import BareBroker, settings_with


def broker_with(**protocol: Any) -> BareBroker:
    return BareBroker(settings_with(protocol=protocol))


@pytest.mark.parametrize(("allowed", "expected"), [(0, [None, None]), (1, [1, None])])
def test_aliases_to_clients_are_as_many_as_allowed(
    allowed: int, expected: list[int | None]
) -> None:
    bare = broker_with(outbound_topic_alias_maximum=allowed)
    client = bare.connect("c", topic_alias_maximum=10)
    client.subscribe("#")
    for topic in ("a", "b"):
        bare.publish(topic, b"x")
    assert [m.properties.get("topic_alias") for m in client.messages()] == expected
    bare.stop()


@pytest.mark.parametrize("check", [True, False])
def test_the_source_of_a_retained_message_is_asked_about_again(check: bool) -> None:
    rules = Rules().only(PUBLISH)
    settings = evolve(BrokerSettings(), retained=RetainedSettings(check_source=check))
    bare = BareBroker(settings, authorizer=rules)
    bare.connect("p").publish("t", b"kept", retain=True)
    rules.change((PUBLISH, "t"))
    client = bare.connect("c")
    client.subscribe("t")
    assert client.payloads() == ([] if check else [b"kept"])
    bare.stop()


@pytest.mark.parametrize(("expiry", "left"), [(None, True), (60, False), (3600, True)])
def test_sessions_of_3_1_1_end_after_their_expiry(expiry: int | None, left: bool) -> None:
    bare = broker_with(persistent_session_expiry=expiry)
    bare.connect("c", 4, clean_start=False).drop()
    bare.advance(100)
    assert ("c" in bare.broker.sessions) is left
    bare.stop()


def test_assigned_client_ids_begin_as_told() -> None:
    bare = broker_with(assigned_client_id_prefix="site-")
    assert bare.connect("").client_id.startswith("site-")
    bare.stop()


def test_user_names_may_be_the_client_ids() -> None:
    bare = broker_with(user_name_as_client_id=True)
    bare.connect("whatever", user_name="alice")
    bare.connect("", 4, user_name="bob")
    unnamed = bare.connect("", user_name="carol")
    assert unnamed.connack is not None
    assert unnamed.connack.properties["assigned_client_identifier"] == "carol"
    bare.connect("x", user_name="other", certificate_user="dora")
    assert set(bare.broker.connections) == {"alice", "bob", "carol", "dora"}
    bare.stop()


@pytest.mark.parametrize("version", [3, 4, 5])
def test_without_a_user_name_nobody_chooses_the_client_id_then(version: int) -> None:
    bare = broker_with(user_name_as_client_id=True)
    alice = bare.connect("alice", user_name="alice")
    thief = bare.connect("alice", version)
    thief.expect_closed()
    assert thief.connack is not None
    assert thief.connack.reason in (
        ReasonCode.NOT_AUTHORIZED,
        ConnectReturnCode.NOT_AUTHORIZED,
    )
    assert not alice.closed
    bare.stop()


@pytest.mark.parametrize("given", [True, False])
def test_reasons_are_given_or_not(given: bool) -> None:
    bare = broker_with(reason_strings=given, maximum_client_id_length=23)
    refused = bare.connect("x" * 24)
    assert refused.connack is not None
    assert ("reason_string" in refused.connack.properties) is given
    client = bare.connect("c")
    client.send(Publish("", b""))
    ended = client.expect(Disconnect, reason=ReasonCode.PROTOCOL_ERROR)
    assert ("reason_string" in ended.properties) is given
    bare.stop()


@pytest.mark.parametrize(("factor", "after"), [(1.0, 10), (2.5, 25)])
def test_silence_is_borne_for_a_multiple_of_the_keep_alive(factor: float, after: int) -> None:
    broker = VirtualBroker(BrokerSettings(protocol=ProtocolSettings(keep_alive_factor=factor)))
    client = broker.connect("c", keep_alive=10)
    broker.advance(after - 1)
    assert not client.closed
    broker.advance(2)
    assert client.closed
    broker.stop()


@pytest.mark.parametrize("check", [True, False])
def test_payloads_that_should_be_text_are_looked_at_or_not(check: bool) -> None:
    bare = broker_with(check_payload_format=check)
    watcher = bare.connect("w")
    watcher.subscribe("t")
    client = bare.connect("c")
    client.send(Publish("t", b"\xff", properties={"payload_format_indicator": 1}))
    assert client.closed is check
    assert watcher.payloads() == ([] if check else [b"\xff"])
    bare.stop()


def test_filters_in_one_packet_are_bounded() -> None:
    broker = VirtualBroker(BrokerSettings(protocol=ProtocolSettings(maximum_filters_per_packet=2)))
    client = broker.connect("c")
    requests = [SubscriptionRequest(name) for name in ("a", "b", "c")]
    client.send(Subscribe(1, requests[:2]))
    client.expect(Suback)
    client.send(Subscribe(2, requests))
    client.expect(Disconnect, reason=ReasonCode.QUOTA_EXCEEDED)
    broker.stop()
