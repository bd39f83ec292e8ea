"""Of the public suites: connections, sessions, and what does not fit elsewhere.

See the package for what is covered, and for where mqttd differs.
"""

from __future__ import annotations

import pytest

from mqttd.settings import BrokerSettings, ListenerSettings
from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.codes import MQTT5, MQTT31, MQTT311, ReasonCode
from mqttd.wire.packets import (
    Connack,
    Disconnect,
    Pingreq,
    Pingresp,
    Publish,
    Suback,
    Will,
)
from tests.interop.support import (
    all_versions,
    broker_with,
    closed_with,
    each_version,
    keep,
    payloads,
)

# --- connections and sessions -----------------------------------------------------------


@all_versions
def test_basic(broker: VirtualBroker, version: int) -> None:
    client = broker.connect("c", version)
    client.disconnect()
    client = broker.connect("c", version)
    client.subscribe("TopicA", qos=2)
    for qos in (0, 1, 2):
        client.publish("TopicA", b"%d" % qos, qos=qos)
    found = client.messages()
    assert [(message.qos, message.payload) for message in found] == [
        (0, b"0"),
        (1, b"1"),
        (2, b"2"),
    ]


@each_version
def test_the_newer_connection_takes_the_session_over(broker: VirtualBroker, version: int) -> None:
    first = broker.connect("c", version)
    second = broker.connect("c", version)
    closed_with(first, ReasonCode.SESSION_TAKEN_OVER)
    second.send(Pingreq())
    second.expect(Pingresp)


def test_no_client_id(broker: VirtualBroker) -> None:
    for clean in (True, False):
        client = broker.connect("", MQTT5, clean)
        assert client.connack is not None
        assert client.connack.reason == 0
        assert client.connack.properties["assigned_client_identifier"].startswith("auto-")
    client = broker.connect("", MQTT311, clean_start=False)
    assert client.connack == Connack(False, 2)
    strict = broker_with(zero_length_client_id=False)
    assert strict.connect("", MQTT311).connack == Connack(False, 2)
    refused = strict.connect("", MQTT5).connack
    assert refused is not None
    assert refused.reason == ReasonCode.CLIENT_IDENTIFIER_NOT_VALID


def test_a_client_id_over_the_limit() -> None:
    broker = broker_with(maximum_client_id_length=23)
    refused = broker.connect("this client id is longer than that").connack
    assert refused is not None
    assert refused.reason == ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
    assert broker.connect("this client id is longer", MQTT31).connack == Connack(False, 2)


@pytest.mark.parametrize("version", [MQTT31, MQTT311])
def test_a_keep_alive_over_the_maximum_is_refused_below_5(version: int) -> None:
    broker = broker_with(maximum_keep_alive=100)
    assert broker.connect("c", version, keep_alive=101).connack == Connack(False, 2)
    assert broker.connect("c", version, keep_alive=100).connack == Connack(False, 0)


@pytest.mark.parametrize("asked", [0, 61, 65_535])
def test_a_keep_alive_over_the_maximum_is_replaced_in_5(asked: int) -> None:
    client = broker_with(maximum_keep_alive=60).connect("c", keep_alive=asked)
    assert client.connack is not None
    assert client.connack.properties["server_keep_alive"] == 60
    client.broker.advance(89)
    assert not client.closed
    client.broker.advance(2)
    closed_with(client, ReasonCode.KEEP_ALIVE_TIMEOUT)


@all_versions
def test_keep_alive(broker: VirtualBroker, version: int) -> None:
    watcher = broker.connect("watcher", version)
    watcher.subscribe("/TopicA", qos=2)
    client = broker.connect("c", version, keep_alive=5, will=Will("/TopicA", b"expiry"))
    broker.advance(7.4)
    assert not client.closed
    broker.advance(0.6)
    closed_with(client, ReasonCode.KEEP_ALIVE_TIMEOUT)
    assert payloads(watcher) == [b"expiry"]


def test_a_client_that_says_nothing(broker: VirtualBroker) -> None:
    client = broker.open()
    broker.advance(11)
    client.expect_nothing()
    assert client.closed


@each_version
def test_persistent_and_clean_by_turns(broker: VirtualBroker, version: int) -> None:
    for fields in (keep(version), {}, keep(version)):
        client = broker.connect("c", version, **fields)
        assert client.connack is not None
        assert not client.connack.session_present
        client.subscribe("t", qos=1)
        if fields:
            broker.connect("p", version).publish("t", b"message", qos=1)
            assert payloads(client) == [b"message"]
        client.drop()


@each_version
def test_messages_for_those_away(broker: VirtualBroker, version: int) -> None:
    client = broker.connect("c", version, **keep(version))
    client.subscribe("+/+", qos=2)
    client.disconnect()
    writer = broker.connect("w", version)
    for qos in (0, 1, 2):
        writer.publish("TopicA/B", b"%d" % qos, qos=qos)
    again = broker.connect("c", version, **keep(version))
    assert again.connack is not None
    assert again.connack.session_present
    # The suites take both; QoS 0 waits where ``queue_qos0`` says so.
    assert payloads(again) == [b"1", b"2"]


def test_session_expiry(broker: VirtualBroker) -> None:
    def present(expiry: int, clean: bool = False) -> VirtualClient:
        return broker.connect("c", MQTT5, clean, session_expiry_interval=expiry)

    def was_present(client: VirtualClient) -> bool:
        assert client.connack is not None
        return client.connack.session_present

    present(0, clean=True).disconnect()
    client = present(5)
    assert not was_present(client)
    client.disconnect()
    broker.advance(4)
    client = present(5)
    assert was_present(client)
    client.disconnect()
    broker.advance(6)
    client = present(1)
    assert not was_present(client)
    # The last word on it is DISCONNECT's.
    client.disconnect(session_expiry_interval=5)
    broker.advance(3)
    client = present(1)
    assert was_present(client)
    client.disconnect(session_expiry_interval=0)
    assert not was_present(present(1))


def test_a_session_that_is_kicked_expires_as_it_would_have(broker: VirtualBroker) -> None:
    first = broker.connect("c", session_expiry_interval=60)
    first.subscribe("t", qos=1)
    second = broker.connect("c", clean_start=False, session_expiry_interval=0)
    assert second.connack is not None
    assert second.connack.session_present
    second.drop()
    third = broker.connect("c", clean_start=False)
    assert third.connack is not None
    assert not third.connack.session_present


# --- the rest ---------------------------------------------------------------------------


def test_mount_point() -> None:
    listener = ListenerSettings("memory", allow_anonymous=True, mount_point="mount/")
    broker = VirtualBroker(BrokerSettings(listeners=(listener,)))
    client = broker.connect("c")
    client.subscribe("t")
    broker.publish("mount/t", b"inside")
    broker.publish("t", b"outside")
    client.publish("t", b"own")
    found = [(message.topic, message.payload) for message in client.messages()]
    assert found == [("t", b"inside"), ("t", b"own")]


def test_packets_that_come_with_connect_in_one_piece(broker: VirtualBroker) -> None:
    client = broker.open(MQTT311)
    connect = bytes.fromhex("10 0d 0004 4d515454 04 02 0000 0001 63")
    subscribe = bytes.fromhex("82 06 0001 0001 74 00")
    client.send_bytes(connect + subscribe + b"\x30\x04\0\1tx" * 50)
    client.expect(Connack, reason=0)
    client.expect(Suback)
    assert payloads(client) == [b"x"] * 50


def test_server_side_farewell_names_its_reason(broker: VirtualBroker) -> None:
    client = broker.connect("c")
    client.send(Publish("a/+", b"error topic"))
    assert client.expect(Disconnect).reason == ReasonCode.TOPIC_NAME_INVALID
