"""Of the public suites: wills.

See the package for what is covered, and for where mqttd differs.
"""

from __future__ import annotations

from typing import Any

import pytest

from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.codes import MQTT5, ReasonCode
from mqttd.wire.packets import (
    Publish,
    Will,
)
from tests.interop.support import broker_with, each_version, keep, payloads


@pytest.fixture
def watcher(broker: VirtualBroker) -> VirtualClient:
    client = broker.connect("watcher")
    client.subscribe("will", qos=2, retain_as_published=True)
    return client


@each_version
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("payload", [b"", b"lost"])
def test_a_will(
    broker: VirtualBroker, watcher: VirtualClient, version: int, qos: int, payload: bytes
) -> None:
    broker.connect("c", version, will=Will("will", payload, qos)).disconnect()
    assert watcher.messages() == []
    broker.connect("c", version, will=Will("will", payload, qos, retain=True)).drop()
    watcher.expect(Publish, payload=payload, qos=qos, retain=True)


def test_a_will_that_is_asked_for(broker: VirtualBroker, watcher: VirtualClient) -> None:
    client = broker.connect("c", will=Will("will", b"asked", 2))
    client.disconnect(ReasonCode.DISCONNECT_WITH_WILL)
    watcher.expect(Publish, payload=b"asked")


def test_the_properties_of_a_will(broker: VirtualBroker, watcher: VirtualClient) -> None:
    properties: dict[str, Any] = {
        "content_type": "c",
        "response_topic": "r",
        "correlation_data": b"d",
        "payload_format_indicator": 1,
        "user_property": [("k", "v"), ("k", "w")],
    }
    will = Will("will", b"text", properties={**properties, "will_delay_interval": 0})  # type: ignore[typeddict-item]
    broker.connect("c", will=will).drop()
    assert watcher.expect(Publish).properties == properties


@pytest.mark.parametrize(
    ("expiry", "delay", "after"),
    [(0, 0, 0), (0, 2, 0), (2, 0, 0), (1, 3, 1), (3, 1, 1), (4, 2, 2), (2, 120, 2)],
)
def test_the_delay_of_a_will(
    broker: VirtualBroker, watcher: VirtualClient, expiry: int, delay: int, after: int
) -> None:
    will = Will("will", b"late", 1, properties={"will_delay_interval": delay})
    broker.connect("c", will=will, session_expiry_interval=expiry).drop()
    if after:
        broker.advance(after - 0.5)
        assert watcher.messages() == []
        broker.advance(1)
    assert payloads(watcher) == [b"late"]


def test_who_comes_back_in_time_leaves_no_will(
    broker: VirtualBroker, watcher: VirtualClient
) -> None:
    will = Will("will", b"late", properties={"will_delay_interval": 3})
    broker.connect("c", will=will, session_expiry_interval=10).drop()
    broker.advance(2)
    broker.connect("c", clean_start=False, session_expiry_interval=10)
    broker.advance(20)
    assert watcher.messages() == []


def test_a_clean_start_ends_the_delay(broker: VirtualBroker, watcher: VirtualClient) -> None:
    will = Will("will", b"at once", properties={"will_delay_interval": 120})
    broker.connect("c", will=will, session_expiry_interval=300).drop()
    broker.connect("c", clean_start=True)
    assert payloads(watcher) == [b"at once"]


@each_version
@pytest.mark.parametrize("first_kept", [False, True])
@pytest.mark.parametrize("second_kept", [False, True])
def test_the_will_of_a_connection_taken_over(
    broker: VirtualBroker,
    watcher: VirtualClient,
    version: int,
    first_kept: bool,
    second_kept: bool,
) -> None:
    broker.connect(
        "c", version, will=Will("will", b"gone"), **(keep(version) if first_kept else {})
    )
    second = broker.connect("c", version, **(keep(version) if second_kept else {}))
    assert second.connack is not None
    assert second.connack.session_present == (first_kept and second_kept)
    assert payloads(watcher) == [b"gone"]


def test_a_will_expires_like_any_message(broker: VirtualBroker) -> None:
    client = broker.connect("c", session_expiry_interval=60)
    client.subscribe("will", qos=1)
    client.drop()
    for name, expiry in (("short", 1), ("long", 10)):
        will = Will("will", name.encode(), 1, properties={"message_expiry_interval": expiry})
        broker.connect("w", will=will).drop()
    broker.advance(2)
    again = broker.connect("c", clean_start=False, session_expiry_interval=60)
    assert again.expect(Publish, payload=b"long").properties["message_expiry_interval"] == 8
    again.expect_nothing()


@pytest.mark.parametrize("topic", ["$CONTROL/dynamic-security/v1", "$SYS/broker/uptime"])
@each_version
def test_wills_for_dollar_topics_are_refused(
    broker: VirtualBroker, version: int, topic: str
) -> None:
    connack = broker.connect("c", version, will=Will(topic, b"x")).connack
    assert connack is not None
    assert connack.reason == (ReasonCode.NOT_AUTHORIZED if version == MQTT5 else 5)


@each_version
def test_a_bridge_may_leave_its_state(broker: VirtualBroker, version: int) -> None:
    topic = "$SYS/broker/connection/here.there/state"
    watcher = broker.connect("watcher", version)
    watcher.subscribe(topic)
    bridge = broker.connect(
        "bridge", version, bridge=version != MQTT5, will=Will(topic, b"0", 1, True)
    )
    bridge.publish(topic, b"1", qos=1, retain=True)
    bridge.drop()
    assert payloads(watcher) == [b"1", b"0"]


@each_version
def test_a_will_over_the_limit_is_refused(version: int) -> None:
    broker = broker_with(maximum_payload_size=1)
    connack = broker.connect("c", version, will=Will("will", b"AB")).connack
    assert connack is not None
    assert connack.reason == (ReasonCode.PACKET_TOO_LARGE if version == MQTT5 else 5)
    connack = broker.connect("c", version, will=Will("will", b"A")).connack
    assert connack is not None
    assert connack.reason == 0
