from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from mqttd.access import admission as module
from mqttd.access.admission import Admission, network_of
from mqttd.access.bans import Ban, BanList
from mqttd.settings import BrokerSettings
from mqttd.settings_access import AbuseSettings
from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.codes import MQTT311, ReasonCode
from mqttd.wire.packets import Disconnect, Puback, Publish, Pubrec
from tests.broker.doubles import Checker

Made = tuple[VirtualBroker, Admission]


def guarded(authenticated: bool = False, **abuse: Any) -> Made:
    settings = evolve(AbuseSettings(), **abuse)
    virtual = VirtualBroker(BrokerSettings(), checkers=[Checker()] if authenticated else [])
    seconds = virtual.broker.seconds
    admission = Admission(settings, BanList(seconds), seconds, seconds)
    admission.start(virtual.broker)
    return virtual, admission


def log_in(
    virtual: VirtualBroker, client_id: str, user: str, right: bool = True, **more: Any
) -> Any:
    password = user[::-1] if right else "guess"
    return virtual.connect(client_id, user_name=user, password=password.encode(), **more)


def reason(client: VirtualClient) -> int | None:
    return None if client.connack is None else client.connack.reason


# --- bans ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ban", [Ban("client_id", "c"), Ban("user", "alice"), Ban("address", "192.0.2.1")]
)
@pytest.mark.parametrize("version", [MQTT311, 5])
def test_who_is_banned_leaves_and_does_not_come_back(ban: Ban, version: int) -> None:
    virtual, admission = guarded(authenticated=True)
    client = log_in(virtual, "c", "alice", version=version)
    other = log_in(virtual, "d", "bob", address="192.0.2.2")
    assert admission.ban(ban)[1] == 1
    if version == 5:
        client.expect(Disconnect, reason=ReasonCode.ADMINISTRATIVE_ACTION)
    assert client.closed
    assert not other.closed
    again = log_in(virtual, "c", "alice", version=version)
    assert reason(again) == (ReasonCode.BANNED if version == 5 else 5)
    admission.bans.remove(ban.kind, ban.value)
    assert reason(log_in(virtual, "c", "alice", version=version)) == 0


def test_a_ban_is_looked_at_before_a_checker_is_asked() -> None:
    virtual, admission = guarded(authenticated=True)
    admission.ban(Ban("user", "alice"))
    asked: list[object] = []
    virtual.broker.portal.login = lambda *_: asked.append(1)  # type: ignore[union-attr,method-assign]
    assert reason(log_in(virtual, "c", "alice")) == ReasonCode.BANNED
    assert asked == []


# --- connections of a user ---------------------------------------------------------------


def test_a_user_has_so_many_connections() -> None:
    virtual, _ = guarded(authenticated=True, maximum_connections_per_user=2)
    first = log_in(virtual, "1", "alice")
    log_in(virtual, "2", "alice")
    assert reason(log_in(virtual, "3", "alice")) == ReasonCode.QUOTA_EXCEEDED
    assert reason(log_in(virtual, "3", "bob")) == 0
    # Taking over one's own client id is no further connection.
    assert reason(log_in(virtual, "2", "alice")) == 0
    first.disconnect()
    assert reason(log_in(virtual, "4", "alice")) == 0
    assert virtual.broker.metrics.refused["maximum-connections-per-user"] == 1


def test_those_without_a_name_are_not_one_user() -> None:
    virtual, _ = guarded(maximum_connections_per_user=1)
    assert all(reason(virtual.connect(str(n))) == 0 for n in range(5))


# --- failed logins -------------------------------------------------------------------------


@pytest.fixture
def strict() -> Made:
    return guarded(
        authenticated=True,
        failed_logins=3,
        failed_login_window=60.0,
        failed_login_delay=10.0,
        maximum_failed_login_delay=25.0,
    )


def fail(virtual: VirtualBroker, times: int, **more: Any) -> None:
    for _ in range(times):
        log_in(virtual, "c", "alice", right=False, **more)


def test_an_address_that_fails_too_often_is_shut_out_longer_each_time(strict: Made) -> None:
    virtual, admission = strict
    for delay in (10, 20, 25, 25):
        fail(virtual, 2)
        assert admission.refuses_address("192.0.2.1") is None
        fail(virtual, 1)
        virtual.advance(delay - 0.1)
        assert admission.refuses_address("192.0.2.1") == "failed-logins"
        assert admission.refuses_address("192.0.2.2") is None
        virtual.advance(0.2)
        assert admission.refuses_address("192.0.2.1") is None
    virtual.advance(60)
    fail(virtual, 3)
    virtual.advance(10.1)
    assert admission.refuses_address("192.0.2.1") is None


def test_failures_far_apart_and_good_logins_shut_nobody_out(strict: Made) -> None:
    virtual, admission = strict
    for _ in range(5):
        fail(virtual, 2)
        virtual.advance(60)
    for _ in range(10):
        log_in(virtual, "c", "alice")
    assert admission.refuses_address("192.0.2.1") is None


def test_who_is_shut_out_is_told_before_a_checker_is_asked(strict: Made) -> None:
    virtual, _ = strict
    fail(virtual, 3)
    # No gate stands before this broker, so the handshake is the door.
    assert reason(log_in(virtual, "c", "alice")) == ReasonCode.QUOTA_EXCEEDED
    assert reason(log_in(virtual, "c", "alice", address="192.0.2.2")) == 0


def test_an_error_of_ours_is_no_failed_login() -> None:
    class Broken:
        credentialInterfaces = Checker.credentialInterfaces

        def requestAvatarId(self, credentials: Any) -> Any:
            raise RuntimeError("meant to be")

    virtual = VirtualBroker(checkers=[Broken()])  # type: ignore[list-item]
    seconds = virtual.broker.seconds
    admission = Admission(AbuseSettings(failed_logins=1), BanList(seconds), seconds, seconds)
    admission.start(virtual.broker)
    log_in(virtual, "c", "alice")
    assert admission.refuses_address("192.0.2.1") is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("unix", "memory", False),
    ],
)
def test_a_site_of_ipv6_counts_as_one(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same


def test_what_is_remembered_is_bounded(strict: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 100)
    _, admission = strict
    for number in range(1000):
        admission.login_failed(f"10.0.{number // 250}.{number % 250}")
    assert len(admission._logins) == 100


# --- flapping --------------------------------------------------------------------------------


def flap(virtual: VirtualBroker, times: int, end: Callable[[VirtualClient], Any]) -> None:
    for _ in range(times):
        end(virtual.connect("c"))


@pytest.mark.parametrize("end", [VirtualClient.drop, VirtualClient.disconnect])
def test_a_client_that_comes_and_goes_too_often_is_banned_for_a_time(
    end: Callable[[VirtualClient], Any],
) -> None:
    virtual, _ = guarded(flapping_limit=4, flapping_window=60.0, flapping_ban=30.0)
    flap(virtual, 3, end)
    virtual.advance(60)
    flap(virtual, 3, end)
    assert reason(virtual.connect("c")) == 0
    flap(virtual, 1, end)
    assert reason(virtual.connect("c")) == ReasonCode.BANNED
    assert reason(virtual.connect("d")) == 0
    virtual.advance(30)
    assert reason(virtual.connect("c")) == 0


def test_two_clients_that_take_each_others_place_flap_too() -> None:
    virtual, _ = guarded(flapping_limit=10)
    for _ in range(11):
        virtual.connect("same")
    assert reason(virtual.connect("same")) == ReasonCode.BANNED


# --- quotas ------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("version", [MQTT311, 5])
def test_a_user_may_send_so_many_messages_in_a_period(qos: int, version: int) -> None:
    virtual, _ = guarded(authenticated=True, message_quota=5, quota_period=60.0)
    receiver = log_in(virtual, "r", "bob")
    receiver.subscribe("t", qos=2)
    senders = [log_in(virtual, name, "alice", version=version) for name in "ab"]
    for number in range(4):
        for sender in senders:
            sender.send(Publish("t", b"x", qos, packet_id=number + 1 if qos else 0))
    assert len(receiver.messages()) == 5
    if qos:
        answers = [packet for sender in senders for packet in sender.received]
        reasons = [packet.reason for packet in answers if isinstance(packet, (Puback, Pubrec))]
        refused = ReasonCode.QUOTA_EXCEEDED if version == 5 else 0
        assert sorted(reasons) == [0] * 5 + [refused] * 3
    assert virtual.broker.metrics.dropped["quota-exceeded"] == 3
    virtual.advance(60)
    senders[0].send(Publish("t", b"x", qos, packet_id=9 if qos else 0))
    assert len(receiver.messages()) == 1


def test_bytes_are_counted_of_payloads_and_by_address_for_those_without_a_name() -> None:
    virtual, _ = guarded(byte_quota=100)
    receiver = virtual.connect("r")
    receiver.subscribe("t")
    for name in ("a", "b"):
        sender = virtual.connect(name, address="192.0.2.7")
        for _ in range(3):
            sender.send(Publish("t", b"x" * 30))
    other = virtual.connect("c", address="192.0.2.8")
    other.send(Publish("t", b"x" * 100))
    other.send(Publish("t", b"x"))
    assert [len(message.payload) for message in receiver.messages()] == [30, 30, 30, 100]


def test_a_quota_that_comes_by_a_reload_holds_for_the_fast_lane_too() -> None:
    virtual, admission = guarded()
    receiver = virtual.connect("r")
    receiver.subscribe("t")
    sender = virtual.connect("s")
    for _ in range(3):
        sender.send(Publish("t", b"x"))
    admission.change(AbuseSettings(message_quota=2))
    for _ in range(5):
        sender.send(Publish("t", b"x"))
    assert len(receiver.messages()) == 5
