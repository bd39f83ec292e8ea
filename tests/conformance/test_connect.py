"""Section 3.1: CONNECT."""

from __future__ import annotations

from typing import Any

import pytest

from mqttd.interfaces import Challenge
from mqttd.testing import VirtualBroker
from mqttd.wire.codes import MQTT5, MQTT31, MQTT311, ConnectReturnCode, ReasonCode
from mqttd.wire.packets import (
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    Publish,
    Subscribe,
    SubscriptionRequest,
    Will,
)

from .support import (
    Rules,
    all_versions,
    broker_with,
    connect_frame,
    each_version,
    expect_closed,
    expect_refused,
    keep,
    text,
)

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


# --- first things first ---------------------------------------------------------


@pytest.mark.statement("MQTT-3.1.0-1", "MQTT311-3.1.0-1", "MQTT-3.14.0-1")
@all_versions
@pytest.mark.parametrize("packet", [Pingreq(), Publish("t"), Subscribe(1, []), Disconnect()])
def test_what_is_not_connect_first_closes_without_an_answer(
    mqtt: VirtualBroker, version: int, packet: Any
) -> None:
    client = mqtt.open(version)
    client.send(packet)
    client.expect_nothing()
    assert client.closed


@pytest.mark.statement("MQTT-3.1.0-2", "MQTT311-3.1.0-2", "MQTT-3.2.0-2")
@all_versions
def test_a_second_connect_disconnects(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("twice", version)
    client.send(Connect("twice", version))
    expect_closed(client, ReasonCode.PROTOCOL_ERROR)  # and no second CONNACK


@pytest.mark.statement("MQTT-3.1.2-1", "MQTT311-3.1.2-1")
@each_version
@pytest.mark.parametrize("name", ["MQTX", "mqtt", "", "MQTTT", "MQIsdp"])
def test_another_protocol_name_is_not_served(mqtt: VirtualBroker, version: int, name: str) -> None:
    client = mqtt.open(version)
    client.send_bytes(connect_frame(version, 2, text("c"), name=name))
    assert client.closed
    assert not mqtt.broker.sessions
    # Whatever the client is, it gets no success; the server may be silent.
    answer = client.transport.take()
    assert answer == b"" or (answer[0] == 0x20 and answer[3] in (0x01, 0x84))


@pytest.mark.statement("MQTT-3.1.2-2", "MQTT311-3.1.2-2")
@each_version
@pytest.mark.parametrize("level", [0, 2, 6, 127])
def test_an_unknown_protocol_version_is_refused(
    mqtt: VirtualBroker, version: int, level: int
) -> None:
    # 3.1.1 demands the answer, so it comes in the language of 3.1.1.
    client = mqtt.open(MQTT311)
    client.send_bytes(connect_frame(version, 2, text("c"), level=level))
    client.expect(Connack, reason=ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION)
    expect_closed(client)


@pytest.mark.statement("MQTT-3.1.2-2", "MQTT311-3.1.2-2")
@all_versions
def test_a_version_that_is_switched_off_is_refused(version: int) -> None:
    name = {MQTT31: "allow_mqtt31", MQTT311: "allow_mqtt311", MQTT5: "allow_mqtt5"}[version]
    settings: dict[str, Any] = {name: False}
    client = broker_with(**settings).connect("c", version)
    assert client.connack is not None
    assert client.connack.reason == (0x84 if version == MQTT5 else 1)
    assert client.closed


@pytest.mark.statement("MQTT-3.1.2-3", "MQTT311-3.1.2-3", "MQTT-3.1.4-1", "MQTT311-3.1.4-1")
@each_version
def test_the_reserved_connect_flag_is_checked(mqtt: VirtualBroker, version: int) -> None:
    answer = expect_refused(mqtt, version, connect_frame(version, 3, text("c")))
    if version == MQTT5:
        assert answer is not None
        assert answer.reason == ReasonCode.MALFORMED_PACKET
    else:
        assert answer is None


# --- flags and payload -------------------------------------------------------------


def will(version: int, topic: bytes = b"will", payload: bytes = b"gone") -> bytes:
    return (b"\x00" if version == MQTT5 else b"") + text(topic) + text(payload)


@pytest.mark.statement("MQTT-3.1.4-1", "MQTT311-3.1.4-1")
@each_version
@pytest.mark.parametrize(
    ("flags", "payload"),
    [
        pytest.param(
            0x06,
            b"",
            id="will flag, no will",
            marks=pytest.mark.statement("MQTT-3.1.2-9", "MQTT311-3.1.2-9"),
        ),
        pytest.param(
            0x0A,
            b"",
            id="will QoS 1, no will flag",
            marks=pytest.mark.statement("MQTT-3.1.2-11", "MQTT311-3.1.2-11", "MQTT311-3.1.2-13"),
        ),
        pytest.param(
            0x22,
            b"",
            id="will retain, no will flag",
            marks=pytest.mark.statement("MQTT-3.1.2-13", "MQTT311-3.1.2-11", "MQTT311-3.1.2-15"),
        ),
        pytest.param(
            0x1E,
            "will",
            id="will QoS 3",
            marks=pytest.mark.statement("MQTT-3.1.2-12", "MQTT311-3.1.2-14"),
        ),
        pytest.param(
            0x02,
            "will",
            id="will, no will flag",
            marks=pytest.mark.statement("MQTT311-3.1.2-11"),
        ),
        pytest.param(
            0x02,
            text("user"),
            id="user name, no flag",
            marks=pytest.mark.statement("MQTT-3.1.2-16", "MQTT311-3.1.2-18"),
        ),
        pytest.param(
            0x82,
            b"",
            id="user name flag, no user name",
            marks=pytest.mark.statement("MQTT-3.1.2-17", "MQTT311-3.1.2-19"),
        ),
        pytest.param(
            0x82,
            text("user") + text("secret"),
            id="password, no flag",
            marks=pytest.mark.statement("MQTT-3.1.2-18", "MQTT311-3.1.2-20"),
        ),
        pytest.param(
            0xC2,
            text("user"),
            id="password flag, no password",
            marks=pytest.mark.statement("MQTT-3.1.2-19", "MQTT311-3.1.2-21"),
        ),
        pytest.param(
            0x06,
            text(b"\xff") + text("gone"),
            id="will topic not UTF-8",
            marks=pytest.mark.statement("MQTT-3.1.3-11", "MQTT311-3.1.3-10"),
        ),
        pytest.param(
            0x82,
            text(b"us\xede"),
            id="user name not UTF-8",
            marks=pytest.mark.statement("MQTT-3.1.3-12", "MQTT311-3.1.3-11"),
        ),
    ],
)
def test_flags_and_payload_must_agree(
    mqtt: VirtualBroker, version: int, flags: int, payload: bytes | str
) -> None:
    if isinstance(payload, str):
        payload = will(version)
    elif flags == 0x06 and payload and version == MQTT5:
        payload = b"\x00" + payload
    answer = expect_refused(mqtt, version, connect_frame(version, flags, text("c"), payload))
    if version == MQTT5:
        assert answer is not None
        assert answer.reason in (ReasonCode.MALFORMED_PACKET, ReasonCode.PROTOCOL_ERROR)
    else:
        assert answer is None


@pytest.mark.statement("MQTT311-3.1.2-22")
def test_a_password_needs_a_user_name_in_311(mqtt: VirtualBroker) -> None:
    data = connect_frame(MQTT311, 0x42, text("c"), text("secret"))
    assert expect_refused(mqtt, MQTT311, data) is None
    assert mqtt.connect("c", MQTT5, password=b"secret").connack == mqtt.connect("d").connack


@pytest.mark.statement("MQTT-3.1.3-1", "MQTT311-3.1.3-1", "MQTT-3.1.2-9", "MQTT311-3.1.2-9")
@each_version
def test_payload_fields_are_taken_in_their_order(version: int) -> None:
    broker = broker_with(users={"user": "secret", "reader": "secret"})
    reader = broker.connect("reader", user_name="reader", password=b"secret")
    reader.subscribe("#")
    client = broker.open(version)
    payload = text("c") + will(version) + text("user") + text("secret")
    client.send_bytes(connect_frame(version, 0xC6, payload))
    client.expect(Connack, reason=0)
    assert list(broker.broker.connections) == ["reader", "c"]
    client.drop()
    reader.expect(Publish, topic="will", payload=b"gone")


@pytest.mark.statement("MQTT-3.1.3-3", "MQTT311-3.1.3-3", "MQTT311-3.1.4-1")
@each_version
def test_a_missing_client_id_is_malformed(mqtt: VirtualBroker, version: int) -> None:
    answer = expect_refused(mqtt, version, connect_frame(version, 2))
    assert answer is None or answer.reason == ReasonCode.MALFORMED_PACKET
    assert (answer is None) is (version == MQTT311)


@pytest.mark.statement("MQTT-3.1.3-4", "MQTT311-3.1.3-4")
@each_version
@pytest.mark.parametrize("client_id", [b"\xff", b"\xed\xa0\x80", b"a\0b"])
def test_a_client_id_is_utf8(mqtt: VirtualBroker, version: int, client_id: bytes) -> None:
    expect_refused(mqtt, version, connect_frame(version, 2, text(client_id)))


@pytest.mark.statement("MQTT-3.1.3-5", "MQTT311-3.1.3-5")
@all_versions
def test_alphanumeric_client_ids_up_to_23_bytes_are_taken(
    mqtt: VirtualBroker, version: int
) -> None:
    ids = [ALPHABET[i : i + 23] for i in range(0, len(ALPHABET), 23)] + ["a", "Z", "0"]
    clients = [mqtt.connect(client_id, version) for client_id in ids]
    assert all(client.connack == clients[0].connack for client in clients)
    assert clients[0].connack is not None
    assert clients[0].connack.reason == 0
    assert list(mqtt.broker.connections) == ids


@pytest.mark.statement("MQTT-3.1.3-6", "MQTT-3.1.3-7", "MQTT-3.2.2-16")
def test_an_empty_client_id_is_replaced_and_told(mqtt: VirtualBroker) -> None:
    first, second = mqtt.connect(""), mqtt.connect("")
    assert first.connack is not None
    assert second.connack is not None
    name = first.connack.properties["assigned_client_identifier"]
    assert name
    assert name != second.connack.properties["assigned_client_identifier"]
    assert not first.closed
    # It is a client id like any other: whoever brings it takes the session over.
    mqtt.connect(name, clean_start=False)
    expect_closed(first, ReasonCode.SESSION_TAKEN_OVER)
    assert not second.closed


@pytest.mark.statement("MQTT-3.2.2-16")
def test_a_client_that_names_itself_is_not_named(mqtt: VirtualBroker) -> None:
    client = mqtt.connect("myself")
    assert client.connack is not None
    assert "assigned_client_identifier" not in client.connack.properties


@pytest.mark.statement("MQTT311-3.1.3-6")
def test_empty_client_ids_are_different_clients_in_311(mqtt: VirtualBroker) -> None:
    first, second = mqtt.connect("", MQTT311), mqtt.connect("", MQTT311)
    assert first.connack == second.connack == Connack(False, 0)
    first.subscribe("t")
    second.publish("t", b"to the other")
    first.expect(Publish, payload=b"to the other")
    second.expect_nothing()


@pytest.mark.statement("MQTT311-3.1.3-7", "MQTT311-3.1.3-8")
def test_an_empty_client_id_needs_a_clean_session_in_311(mqtt: VirtualBroker) -> None:
    client = mqtt.connect("", MQTT311, clean_start=False)
    assert client.connack == Connack(False, ConnectReturnCode.IDENTIFIER_REJECTED)
    assert client.closed


@pytest.mark.statement("MQTT-3.1.3-8", "MQTT311-3.1.3-9")
@each_version
@pytest.mark.parametrize("client_id", ["", "x" * 24])
def test_a_refused_client_id_closes_the_connection(version: int, client_id: str) -> None:
    broker = broker_with(zero_length_client_id=False, maximum_client_id_length=23)
    client = broker.connect(client_id, version)
    assert client.connack is not None
    refused = ReasonCode.CLIENT_IDENTIFIER_NOT_VALID if version == MQTT5 else 2
    assert client.connack.reason == refused
    assert client.closed


@pytest.mark.statement("MQTT-3.1.3-2", "MQTT311-3.1.3-2")
@each_version
def test_state_goes_by_client_id(mqtt: VirtualBroker, version: int) -> None:
    for name in ("one", "two"):
        client = mqtt.connect(name, version, **keep(version))
        client.subscribe(f"for/{name}", qos=1)
        client.disconnect()
    mqtt.publish("for/one", b"1", qos=1)
    two = mqtt.connect("two", version, **keep(version))
    two.expect_nothing()
    one = mqtt.connect("one", version, **keep(version))
    one.expect(Publish, topic="for/one")


# --- who may come in --------------------------------------------------------------


@pytest.mark.statement("MQTT-3.1.4-2", "MQTT-3.2.2-6", "MQTT-3.2.2-7", "MQTT-4.13.2-1")
@pytest.mark.statement("MQTT311-3.2.2-4", "MQTT311-3.2.2-5")
@each_version
@pytest.mark.parametrize("password", [b"wrong", b"", None])
def test_a_wrong_password_closes_the_connection(version: int, password: bytes | None) -> None:
    broker = broker_with(users={"user": "secret"})
    right = broker.connect("c", version, user_name="user", password=b"secret", **keep(version))
    right.disconnect()
    wrong = broker.connect("c", version, user_name="user", password=password, **keep(version))
    assert wrong.connack is not None
    assert wrong.connack.reason == (0x86 if version == MQTT5 else 4)
    assert not wrong.connack.session_present  # although there is a session
    wrong.expect_nothing()
    assert wrong.closed_reason == "closed"


@pytest.mark.statement("MQTT-3.1.4-2")
def test_a_will_that_may_not_be_published_closes_the_connection() -> None:
    broker = broker_with(authorizer=Rules(("publish", "secret/will")))
    client = broker.connect("c", will=Will("secret/will", b""))
    assert client.connack is not None
    assert client.connack.reason == ReasonCode.NOT_AUTHORIZED
    assert client.closed


@pytest.mark.statement("MQTT-3.1.4-3", "MQTT311-3.1.4-2", "MQTT-4.13.2-1")
@all_versions
def test_the_old_connection_of_a_client_id_is_closed(mqtt: VirtualBroker, version: int) -> None:
    old = mqtt.connect("same", version)
    new = mqtt.connect("same", version)
    expect_closed(old, ReasonCode.SESSION_TAKEN_OVER)
    new.send(Pingreq())
    new.expect(Pingresp)


@pytest.mark.statement("MQTT-3.1.4-5", "MQTT311-3.1.4-4", "MQTT-3.2.0-2")
@all_versions
def test_connect_is_acknowledged_once(mqtt: VirtualBroker, version: int) -> None:
    client = mqtt.connect("c", version)
    assert client.connack is not None
    assert client.connack.reason == 0
    client.send(Pingreq())
    mqtt.advance(60)
    client.expect(Pingresp)
    client.expect_nothing()


@pytest.mark.statement("MQTT-3.1.4-6", "MQTT311-3.1.4-5")
@each_version
def test_what_follows_a_refused_connect_is_not_processed(version: int) -> None:
    broker = broker_with(users={"user": "secret"})
    reader = broker.connect("reader", user_name="user", password=b"secret")
    reader.subscribe("#")
    client = broker.open(version)
    client.send(
        Connect("c", version, user_name="user", password=b"wrong"),
        Publish("t", b"smuggled", retain=True),
        Pingreq(),
    )
    assert client.expect(Connack).reason != 0
    expect_closed(client)
    reader.expect_nothing()
    reader.subscribe("t")
    reader.expect_nothing()


# --- keep alive ---


@pytest.mark.statement("MQTT-3.1.2-22", "MQTT-3.2.2-22", "MQTT311-3.1.2-24")
@all_versions
def test_silence_closes_after_one_and_a_half_keep_alives(mqtt: VirtualBroker, version: int) -> None:
    reader = mqtt.connect("reader")
    reader.subscribe("will")
    client = mqtt.connect("c", version, keep_alive=10, will=Will("will", b"lost"))
    assert client.connack is not None
    assert "server_keep_alive" not in client.connack.properties
    mqtt.advance(14)
    client.send(Pingreq())
    client.expect(Pingresp)
    mqtt.advance(14.9)
    client.expect_nothing()
    assert not client.closed
    mqtt.advance(1.1)
    expect_closed(client, ReasonCode.KEEP_ALIVE_TIMEOUT)
    reader.expect(Publish, payload=b"lost")  # as if the network had failed


@pytest.mark.statement("MQTT-3.1.2-22", "MQTT311-3.1.2-24")
@each_version
def test_any_packet_counts_against_silence_and_zero_switches_it_off(
    mqtt: VirtualBroker, version: int
) -> None:
    busy = mqtt.connect("busy", version, keep_alive=10)
    idle = mqtt.connect("idle", version, keep_alive=0)
    for _ in range(10):
        mqtt.advance(12)
        busy.publish("t")
    mqtt.advance(100_000)
    assert busy.closed
    assert not idle.closed


@pytest.mark.statement("MQTT-3.1.2-21", "MQTT-3.2.2-21")
@pytest.mark.parametrize("asked", [0, 100])
def test_a_server_keep_alive_is_in_force(asked: int) -> None:
    broker = broker_with(maximum_keep_alive=10)
    client = broker.connect("c", keep_alive=asked)
    assert client.connack is not None
    assert client.connack.properties["server_keep_alive"] == 10
    broker.advance(14.9)
    assert not client.closed
    broker.advance(1.1)
    expect_closed(client, ReasonCode.KEEP_ALIVE_TIMEOUT)


# --- enhanced authentication under way ---


class Asking:
    """A method that asks without end."""

    name = "ask"

    def start(self, credentials: Any) -> Any:
        return self

    def respond(self, data: bytes | None) -> Challenge:
        return Challenge(b"?")


@pytest.mark.statement("MQTT-3.1.2-30")
@pytest.mark.parametrize(
    "packet", [Publish("t", b"early"), Pingreq(), Subscribe(1, [SubscriptionRequest("t")])]
)
def test_only_auth_and_disconnect_before_connack(packet: Any) -> None:
    broker = broker_with(methods=[Asking()])
    reader = broker.connect("reader")
    reader.subscribe("t")
    client = broker.connect("c", authentication_method="ask")
    client.received.clear()  # AUTH
    client.send(packet)
    # Not in; the reason may be told by CONNACK alone.
    assert client.expect(Connack).reason == ReasonCode.PROTOCOL_ERROR
    expect_closed(client)
    reader.expect_nothing()
