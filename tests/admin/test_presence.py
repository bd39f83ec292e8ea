"""Who comes and goes, as a subscriber sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mqttd.admin import presence
from mqttd.settings import Overflow, ProtocolSettings, SessionSettings
from mqttd.testing import VirtualClient

from .conftest import BEGIN, Watched

Make = Callable[..., Watched]

CLIENTS = "$SYS/brokers/node-1/clients/"


def listener(watched: Watched, topic_filter: str = CLIENTS + "#") -> VirtualClient:
    client = watched.connect("listener", keep_alive=0)
    client.subscribe(topic_filter)
    client.messages()
    return client


def events(client: VirtualClient) -> list[tuple[str, dict[str, Any]]]:
    return [(m.topic.removeprefix(CLIENTS), json.loads(m.payload)) for m in client.messages()]


def test_connected_and_disconnected_with_emqttds_fields(watch: Make) -> None:
    watched = watch(sys_interval=0)
    client = listener(watched)
    watched.advance(10)
    other = watched.connect("sensor", version=4, user_name="bob", address="192.0.2.7")
    watched.advance(5)
    other.disconnect()
    assert events(client) == [
        (
            "sensor/connected",
            {
                "clientid": "sensor",
                "username": "bob",
                "ipaddress": "192.0.2.7",
                "clean_sess": True,
                "protocol": 4,
                "connack": 0,
                "ts": int(BEGIN) + 10,
            },
        ),
        (
            "sensor/disconnected",
            {
                "clientid": "sensor",
                "username": "bob",
                "reason": "disconnect",
                "ts": int(BEGIN) + 15,
            },
        ),
    ]


def test_a_session_that_outlives_its_connection_is_not_clean(watch: Make) -> None:
    watched = watch(sys_interval=0)
    client = listener(watched)
    watched.connect("old", version=4, clean_start=False)
    watched.connect("new", session_expiry_interval=60)
    assert [event["clean_sess"] for _, event in events(client)] == [False, False]


def test_a_takeover_says_who_left_first(watch: Make) -> None:
    watched = watch(sys_interval=0)
    client = listener(watched)
    watched.connect("x")
    watched.connect("x")
    assert [(topic, event.get("reason")) for topic, event in events(client)] == [
        ("x/connected", None),
        ("x/disconnected", "taken-over"),
        ("x/connected", None),
    ]


@pytest.mark.parametrize(
    ("client_id", "level"),
    [
        ("a/b", "a%2Fb"),
        ("+", "%2B"),
        ("#", "%23"),
        ("a%2Fb", "a%252Fb"),
        ('"},{"x":"', '"},{"x":"'),
        ("schlüssel 🔑", "schlüssel 🔑"),
        ("\u2028\\", "\u2028\\"),
    ],
)
def test_any_client_id_is_one_level_and_safe_in_json(
    watch: Make, client_id: str, level: str
) -> None:
    watched = watch(sys_interval=0)
    client = listener(watched, CLIENTS + "+/connected")
    watched.connect(client_id, version=4)
    ((topic, event),) = events(client)
    assert topic == f"{level}/connected"
    assert event["clientid"] == client_id


def test_an_id_that_makes_the_topic_too_long_is_left_out(watch: Make) -> None:
    watched = watch(sys_interval=0, protocol=ProtocolSettings(maximum_client_id_length=65_535))
    client = listener(watched)
    assert watched.connect("/" * 30_000, version=4).connack is not None
    watched.connect("next")
    assert [topic for topic, _ in events(client)] == ["next/connected"]
    assert watched.broker.metrics.dropped["system-topic"] == 1


def test_it_can_be_switched_off(watch: Make) -> None:
    watched = watch(sys_interval=0, presence=False)
    client = listener(watched)
    watched.connect("x").drop()
    assert events(client) == []


def test_nothing_of_it_is_retained(watch: Make) -> None:
    watched = watch(sys_interval=0)
    for number in range(20):
        watched.connect(f"client-{number}").drop()
    assert watched.topics() == set()


def test_a_flood_is_bounded_and_counted(watch: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "MAXIMUM_WAITING", 3)
    watched = watch(sys_interval=0)
    client = listener(watched)
    connection = watched.broker.connections["listener"]
    for _ in range(5):
        watched.broker.hooks.tell(watched.broker.hooks.connected, connection)
    watched.advance()
    assert len(events(client)) == 3
    assert watched.broker.metrics.dropped["presence"] == 2
    watched.connect("later")
    assert len(events(client)) == 1


def test_listeners_that_are_cut_for_being_slow_do_not_pile_up(watch: Make) -> None:
    session = SessionSettings(maximum_queued_messages=1, overflow=Overflow.DISCONNECT)
    watched = watch(sys_interval=0, session=session)
    slow = [watched.connect(f"slow-{number}", keep_alive=0) for number in range(300)]
    for client in slow:
        client.subscribe(CLIENTS + "#")
        transport: Any = watched.broker.connections[client.client_id].transport
        transport.pauseProducing()  # its output is full from here on
    for _ in range(3):
        watched.connect("x").drop()
    watched.advance(10)
    assert watched.broker.metrics.closed["queue-full"] == 300
    assert watched.broker.metrics.errors == {}


def test_what_waits_at_stop_is_said_and_leaves_no_call(watch: Make) -> None:
    watched = watch(sys_interval=0)
    client = watched.connect("x", keep_alive=0)
    client.subscribe(CLIENTS + "#")
    clock = watched.virtual.clock
    waiting = len(clock.getDelayedCalls())
    hooks = watched.broker.hooks
    hooks.tell(hooks.connected, watched.broker.connections[client.client_id])
    assert len(clock.getDelayedCalls()) == waiting + 1
    said = watched.broker.metrics.system_sent[0]
    watched.admin.stop()
    assert watched.broker.metrics.system_sent[0] == said + 1
    watched.advance()
    assert len(clock.getDelayedCalls()) == waiting


def test_events_that_nobody_listens_for_are_not_made(watch: Make) -> None:
    watched = watch(sys_interval=0)
    watched.connect("other").subscribe("#")
    before = watched.broker.metrics.messages_unrouted
    watched.connect("x").drop()
    watched.advance()
    assert watched.broker.metrics.messages_unrouted == before
    assert watched.broker.router.plan_count == 0


@pytest.mark.parametrize("wanted", ["x/connected", "+/connected", "#"])
def test_any_filter_that_matches_is_a_listener(watch: Make, wanted: str) -> None:
    watched = watch(sys_interval=0)
    client = watched.connect("listener")
    client.subscribe(CLIENTS + wanted)
    watched.connect("x")
    watched.advance()
    assert len(events(client)) == 1
