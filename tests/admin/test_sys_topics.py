"""What a subscriber to ``$SYS`` reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqttd.admin.monitor import SYSMON
from mqttd.admin.names import BROKER
from mqttd.settings import RetainedSettings
from mqttd.wire.packets import Puback, Publish

from .conftest import MIB, Watched

Make = Callable[..., Watched]

LEVELS = ("clients", "sessions", "topics", "subscribers", "subscriptions", "routes", "retained")

#: emqttd's names as its documentation lists them, below the node.
EMQTTD_STATS = {f"stats/{name}/{what}" for name in LEVELS for what in ("count", "max")}
_METRICS = """
    bytes/received bytes/sent
    packets/received packets/sent packets/connect packets/connack
    packets/publish/received packets/publish/sent
    packets/puback/received packets/puback/sent packets/puback/missed
    packets/pubrec/received packets/pubrec/sent packets/pubrec/missed
    packets/pubrel/received packets/pubrel/sent packets/pubrel/missed
    packets/pubcomp/received packets/pubcomp/sent packets/pubcomp/missed
    packets/subscribe packets/suback packets/unsubscribe packets/unsuback
    packets/pingreq packets/pingresp packets/disconnect
    messages/received messages/sent
    messages/qos0/received messages/qos0/sent messages/qos1/received messages/qos1/sent
    messages/qos2/received messages/qos2/sent messages/qos2/dropped
    messages/retained messages/dropped
"""
EMQTTD_METRICS = {f"metrics/{name}" for name in _METRICS.split()}
EMQTTD_SYSMON = {"long_gc", "long_schedule", "large_heap", "busy_port", "busy_dist_port"}
EMQTTD_BROKER = {"version", "sysdescr", "uptime", "datetime"}

#: What mosquitto 2.0 retains, and those of its manual page that it does not.
_FIGURES = """
    bytes/received bytes/sent clients/active clients/connected clients/disconnected
    clients/expired clients/inactive clients/maximum clients/total heap/current heap/maximum
    messages/inflight messages/received messages/sent messages/stored
    publish/messages/dropped publish/messages/received publish/messages/sent
    shared_subscriptions/count store/messages/bytes store/messages/count
    subscriptions/count uptime version
"""
_LOADS = """
    bytes/received bytes/sent connections messages/received messages/sent
    publish/dropped publish/received publish/sent sockets
"""
MOSQUITTO = (
    {f"$SYS/broker/{name}" for name in _FIGURES.split()}
    | {f"$SYS/broker/load/{name}/{span}min" for name in _LOADS.split() for span in (1, 5, 15)}
    | {"$SYS/broker/retained messages/count"}
)


def test_all_62_fixed_names_of_emqttd_are_there(watch: Make) -> None:
    assert (len(EMQTTD_STATS), len(EMQTTD_METRICS), len(EMQTTD_SYSMON)) == (14, 38, 5)
    assert len(EMQTTD_BROKER | {"$SYS/brokers"}) + 14 + 38 + 5 == 62
    watched = watch()
    below = "$SYS/brokers/node-1/"
    figures = EMQTTD_BROKER | EMQTTD_STATS | EMQTTD_METRICS
    assert watched.topics("$SYS/brokers") == {"$SYS/brokers"} | {below + n for n in figures}
    # The last five are events: nothing has happened.
    assert set(SYSMON) == EMQTTD_SYSMON
    assert set(BROKER) == EMQTTD_BROKER | {"$SYS/brokers"}


def test_mosquittos_names_are_there(watch: Make) -> None:
    assert watch().topics("$SYS/broker") == MOSQUITTO


def test_everything_is_said_at_the_start_and_not_after_an_interval_only(watch: Make) -> None:
    watched = watch(sys_interval=3600)
    client = watched.connect("c")
    client.subscribe("$SYS/brokers")
    client.expect(Publish, topic="$SYS/brokers", payload=b"node-1", retain=True)
    assert watched.node("uptime") == "0 days,0 hours, 0 minutes, 0 seconds"
    assert watched.node("datetime") == "2026-01-02 03:04:05"
    assert watched.retained("$SYS/broker/version") == f"mqttd version {watched.node('version')}"


def test_uptime_and_date_follow_the_interval(watch: Make) -> None:
    watched = watch(sys_interval=60)
    watched.stall(86_400 + 7200)
    watched.advance(180)
    assert watched.node("uptime") == "1 days,2 hours, 3 minutes, 0 seconds"
    assert watched.node("datetime") == "2026-01-03 05:07:05"
    assert watched.retained("$SYS/broker/uptime") == "93780 seconds"


def test_interval_zero_switches_the_figures_off_and_events_not(watch: Make) -> None:
    watched = watch(sys_interval=0)
    watched.advance(600)
    assert watched.topics() == set()
    client = watched.connect("c")
    client.subscribe("$SYS/#")
    watched.connect("d")
    assert [m.topic for m in client.messages()] == ["$SYS/brokers/node-1/clients/d/connected"]


def test_an_interval_shorter_than_the_timers_can_do_is_no_busy_loop(watch: Make) -> None:
    watched = watch(sys_interval=0.01)
    client = watched.connect("c", keep_alive=0)
    client.subscribe("$SYS/broker/bytes/sent", retain_handling=2)
    watched.advance(10)
    assert 15 <= len(client.messages()) <= 25


def test_a_stall_of_many_intervals_is_made_up_for_once(watch: Make) -> None:
    watched = watch(sys_interval=10)
    client = watched.connect("c", keep_alive=0)
    client.subscribe("$SYS/broker/uptime", retain_handling=2)
    watched.stall(95)
    watched.advance(1)
    assert [m.payload for m in client.messages()] == [b"95 seconds"]
    watched.advance(9)
    assert [m.payload for m in client.messages()] == [b"105 seconds"]


def test_only_what_has_changed_is_said_again(watch: Make) -> None:
    watched = watch(sys_interval=10)
    client = watched.connect("c", keep_alive=0)
    client.subscribe("$SYS/#")
    assert len(client.messages()) > 100
    watched.advance(40)
    client.messages()
    watched.advance(10)
    # Nobody did anything but the broker itself, and time.
    topics = {
        m.topic.removeprefix("$SYS/").removeprefix("brokers/node-1/") for m in client.take(Publish)
    }
    assert {"uptime", "datetime", "broker/uptime", "metrics/bytes/sent"} < topics
    assert not {t for t in topics if t.startswith(("stats/", "metrics/messages/"))}
    assert "version" not in topics
    assert "brokers" not in topics


def test_counts_after_known_traffic(watch: Make) -> None:
    watched = watch(sys_interval=60)
    alice = watched.connect("alice")
    bob = watched.connect("bob", version=4, clean_start=False)
    bob.subscribe("rooms/#", qos=2)
    bob.subscribe("$share/g/rooms/hall")
    alice.subscribe("rooms/kitchen")
    alice.publish("rooms/kitchen", b"0")
    alice.publish("rooms/kitchen", b"1", qos=1)
    alice.publish("rooms/kitchen", b"22", qos=2)
    alice.publish("nobody/cares", b"3")
    alice.publish("kept", b"12345", retain=True)
    alice.send(Puback(999))
    watched.connect("carol").disconnect()
    watched.advance(60)
    expected = {
        "stats/clients/count": 2,
        "stats/clients/max": 3,
        "stats/sessions/count": 2,
        "stats/sessions/max": 3,
        "stats/topics/count": 3,
        "stats/routes/count": 3,
        "stats/subscribers/count": 2,
        "stats/subscriptions/count": 3,
        "stats/retained/count": 1,
        "stats/retained/max": 1,
        "metrics/packets/connect": 3,
        "metrics/packets/connack": 3,
        "metrics/packets/disconnect": 1,
        "metrics/packets/subscribe": 3,
        "metrics/packets/suback": 3,
        "metrics/packets/publish/received": 5,
        "metrics/packets/puback/sent": 1,
        "metrics/packets/puback/received": 1,
        "metrics/packets/puback/missed": 1,
        "metrics/packets/pubrec/sent": 1,
        "metrics/packets/pubcomp/sent": 1,
        "metrics/messages/received": 5,
        "metrics/messages/qos0/received": 3,
        "metrics/messages/qos1/received": 1,
        "metrics/messages/qos2/received": 1,
        # Alice gets three with QoS 0; Bob one of each QoS.
        "metrics/messages/sent": 6,
        "metrics/messages/qos0/sent": 4,
        "metrics/messages/qos1/sent": 1,
        "metrics/messages/qos2/sent": 1,
        "metrics/messages/retained": 1,
        # Two found no subscriber.
        "metrics/messages/dropped": 2,
    }
    assert {name: int(watched.node(name) or -1) for name in expected} == expected
    mosquitto = {
        "clients/total": 2,
        "clients/connected": 2,
        "clients/maximum": 3,
        "messages/inflight": 2,
        "messages/stored": 3,
        "publish/messages/received": 5,
        "publish/messages/sent": 6,
        "publish/messages/dropped": 0,
        "retained messages/count": 1,
        "store/messages/bytes": len("kept") + 5,
        "subscriptions/count": 3,
        "shared_subscriptions/count": 1,
        "heap/current": 100 * MIB,
        "heap/maximum": 120 * MIB,
    }
    assert {n: int(watched.retained(f"$SYS/broker/{n}") or -1) for n in mosquitto} == mosquitto


def test_queues_and_absent_clients_are_counted(watch: Make) -> None:
    watched = watch(sys_interval=60)
    bob = watched.connect("bob", version=4, clean_start=False)
    bob.subscribe("t", qos=1)
    bob.drop()
    alice = watched.connect("alice")
    alice.publish("t", b"four", qos=1)
    alice.publish("t", b"none", qos=0)
    watched.advance(60)
    gauges = watched.admin.stats.snapshot().gauges
    assert (gauges.queued_messages, gauges.queued_bytes) == (1, len("t") + 4)
    assert watched.retained("$SYS/broker/clients/disconnected") == "1"
    assert watched.retained("$SYS/broker/messages/stored") == "1"
    assert watched.retained("$SYS/broker/publish/messages/dropped") == "1"
    assert watched.node("dropped/offline") == "1"
    assert watched.node("closed/connection-lost") == "1"


def test_what_the_broker_says_is_no_application_traffic(watch: Make) -> None:
    watched = watch(sys_interval=10)
    # One who is away and gets nothing of it.
    away = watched.connect("away", version=4, clean_start=False)
    away.subscribe("$SYS/#")
    away.drop()
    watched.advance(100)
    assert watched.broker.metrics.dropped["offline"] > 50
    assert watched.broker.metrics.messages_unrouted > 50
    snapshot = watched.admin.stats.snapshot()
    assert snapshot.counters.dropped == {}
    assert snapshot.counters.messages_dropped == 0
    assert snapshot.counters.messages_unrouted == 0
    assert (snapshot.gauges.retained.count, snapshot.gauges.retained_bytes) == (0, 0)


def test_messages_sent_on_sys_count_as_packets_only(watch: Make) -> None:
    watched = watch(sys_interval=10)
    client = watched.connect("c", keep_alive=0)
    client.subscribe("$SYS/broker/uptime", retain_handling=2)
    client.messages()
    sent = watched.admin.stats.snapshot().counters
    watched.advance(100)
    assert len(client.messages()) == 10
    now = watched.admin.stats.snapshot().counters
    assert sum(now.messages_sent) == sum(sent.messages_sent)
    assert now.packets_sent[3] == sent.packets_sent[3] + 10


def test_load_averages_approach_a_steady_rate(watch: Make) -> None:
    watched = watch(sys_interval=60)
    client = watched.connect("c", keep_alive=0)
    for _ in range(60):
        for _ in range(10):
            client.publish("t")
        watched.advance(1)
    rates = {
        span: float(watched.retained(f"$SYS/broker/load/publish/received/{span}min") or -1)
        for span in (1, 5, 15)
    }
    # 600 a minute for one minute: 1 - 1/e of it, and so on.
    assert rates[1] == pytest.approx(600 * (1 - 0.367879), rel=0.02)
    assert rates[5] == pytest.approx(600 * (1 - 0.818731), rel=0.02)
    assert rates[15] == pytest.approx(600 * (1 - 0.935507), rel=0.02)
    watched.advance(600)
    assert float(watched.retained("$SYS/broker/load/publish/received/1min") or -1) < 0.1


def test_a_node_name_can_not_break_the_topics(watch: Make) -> None:
    watched = watch(node="a/b+c#d")
    assert watched.retained("$SYS/brokers") == "a/b+c#d"
    assert watched.retained("$SYS/brokers/a%2Fb%2Bc%23d/stats/clients/count") == "0"


def test_a_name_that_makes_topics_too_long_is_left_out(watch: Make) -> None:
    watched = watch(node="n" * 65_500)
    assert watched.retained("$SYS/broker/clients/total") == "0"
    assert watched.topics("$SYS/broker") == MOSQUITTO
    assert watched.admin.stats.snapshot().counters.dropped == {}


def test_nothing_is_left_after_stop(watch: Make) -> None:
    watched = watch(sys_interval=10)
    watched.advance(25)
    watched.admin.stop()
    watched.admin.stop()
    assert watched.topics() == set()
    client = watched.connect("c", keep_alive=0)
    client.subscribe("$SYS/#")
    watched.connect("d").drop()
    watched.stall(5)
    watched.advance(100)
    assert client.messages() == []


def test_it_can_be_started_again(watch: Make) -> None:
    watched = watch(sys_interval=10)
    watched.admin.stop()
    watched.admin.start()
    watched.advance(10)
    assert watched.retained("$SYS/broker/uptime") == "10 seconds"


def test_reports_take_no_room_from_what_clients_retain(watch: Make) -> None:
    watched = watch(sys_interval=10, retained=RetainedSettings(maximum_messages=2))
    watched.advance(10)
    assert watched.topics("$SYS/broker") == MOSQUITTO
    for topic in ("a", "b", "c"):
        watched.broker.publish(topic, b"x", retain=True)
    watched.advance(10)
    assert watched.broker.metrics.dropped == {"retained-count": 1}
    assert watched.admin.stats.snapshot().gauges.retained.count == 2
    watched.broker.publish("a", b"", retain=True)
    watched.broker.publish("c", b"x", retain=True)
    assert watched.retained("c") == "x"
