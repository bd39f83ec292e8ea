"""Alarms, and the watch that raises them."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import LogEvent, capturedLogs

from mqttd.admin import alarms as alarms_module
from mqttd.admin import census as census_module
from mqttd.admin.alarms import Severity
from mqttd.admin.memory import Memory, memory_limit, read_memory
from mqttd.settings import SessionSettings
from mqttd.testing import VirtualClient
from mqttd.wire.codes import ReasonCode

from .conftest import BEGIN, MIB, Watched

Make = Callable[..., Watched]

NODE = "$SYS/brokers/node-1/"


def listener(watched: Watched) -> VirtualClient:
    client = watched.connect("listener", version=4, keep_alive=0)
    client.subscribe(NODE + "alarms/#", NODE + "sysmon/#")
    client.messages()
    return client


def said(client: VirtualClient) -> list[tuple[str, bytes]]:
    return [(m.topic.removeprefix(NODE), m.payload) for m in client.messages()]


def names(client: VirtualClient) -> list[str]:
    return [topic for topic, _ in said(client)]


@pytest.fixture
def logged() -> Iterable[Sequence[LogEvent]]:
    with capturedLogs() as events:
        yield events


def test_alert_and_clear_carry_emqttds_fields(watch: Make) -> None:
    watched = watch(sys_interval=0)
    client = listener(watched)
    alarms = watched.admin.alarms
    assert alarms.activate("disk/full", Severity.CRITICAL, "disk", "no bytes left")
    watched.advance(7)
    assert alarms.clear("disk/full")
    watched.advance()
    (alert, first), (clear, second) = said(client)
    assert alert == "alarms/disk%2Ffull/alert"
    assert json.loads(first) == {
        "id": "disk/full",
        "severity": "critical",
        "title": "disk",
        "summary": "no bytes left",
        "ts": int(BEGIN),
    }
    assert clear == "alarms/disk%2Ffull/clear"
    assert json.loads(second) == {"id": "disk/full", "ts": int(BEGIN) + 7}


def test_who_comes_late_sees_what_is_active_and_only_that(watch: Make) -> None:
    watched = watch(sys_interval=0)
    watched.admin.alarms.activate("a", Severity.WARNING, "t", "s")
    watched.admin.alarms.activate("b", Severity.WARNING, "t", "s")
    watched.admin.alarms.clear("a")
    assert watched.topics() == {NODE + "alarms/b/alert"}
    watched.admin.alarms.clear("b")
    assert watched.topics() == set()


def test_an_alarm_is_raised_and_cleared_once(watch: Make, logged: Sequence[LogEvent]) -> None:
    watched = watch(sys_interval=0)
    client = listener(watched)
    alarms = watched.admin.alarms
    results = [alarms.activate("a", Severity.ERROR, "t", "s") for _ in range(3)]
    assert results == [True, False, False]
    assert [alarm.id for alarm in alarms.active] == ["a"]
    assert [alarms.clear("a") for _ in range(2)] == [True, False]
    watched.advance()
    assert names(client) == ["alarms/a/alert", "alarms/a/clear"]
    levels = [e["log_level"].name for e in logged if e["log_namespace"] == "mqttd.admin.alarms"]
    assert levels == ["error", "info"]


def test_both_lists_are_bounded(watch: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarms_module, "MAXIMUM_ACTIVE", 5)
    alarms = watch(sys_interval=0).admin.alarms
    raised = [alarms.activate(str(n), Severity.WARNING, "t", "s") for n in range(7)]
    assert raised == [True] * 5 + [False] * 2
    assert alarms.left_out == 2
    for n in range(alarms_module.MAXIMUM_HISTORY + 10):
        alarms.clear("0")
        alarms.activate("0", Severity.WARNING, "t", str(n))
    assert len(alarms.history) == alarms_module.MAXIMUM_HISTORY
    assert alarms.history[-1].cleared_at == BEGIN


def test_a_stalled_event_loop_is_reported_and_forgiven(watch: Make) -> None:
    watched = watch(sys_interval=0)
    client = listener(watched)
    watched.advance(100)
    assert said(client) == []
    watched.stall(0.9)
    watched.advance(2)
    ((topic, text),) = said(client)
    assert topic == "sysmon/long_schedule"
    assert b"0.400 s" in text
    assert watched.admin.alarms.active == ()
    watched.stall(4)
    watched.advance(2)
    assert names(client) == ["sysmon/long_schedule", "alarms/event-loop-stall/alert"]
    assert watched.admin.monitor.longest_stall >= 3.5
    watched.advance(50)
    assert "event-loop-stall" in watched.admin.alarms
    watched.advance(20)
    assert names(client) == ["alarms/event-loop-stall/clear"]


def test_a_long_garbage_collection_is_reported(watch: Make) -> None:
    watched = watch(sys_interval=0)
    client = listener(watched)

    class Slow:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            watched.virtual.clock.rightNow += 0.2

    Slow()
    gc.collect()
    watched.advance(1)
    ((topic, text),) = said(client)
    assert (topic, text) == ("sysmon/long_gc", b"a garbage collection took 0.200 s")


def test_nobody_watches_the_collector_after_stop(watch: Make) -> None:
    before = len(gc.callbacks)
    watched = watch()
    assert len(gc.callbacks) == before + 1
    watched.admin.stop()
    assert len(gc.callbacks) == before


def test_memory_alarm_has_two_thresholds(watch: Make) -> None:
    watched = watch(sys_interval=0)
    client = listener(watched)
    for used, expected in (
        (790, []),
        (801, ["sysmon/large_heap", "alarms/memory/alert"]),
        (950, []),
        (750, []),
        (690, ["alarms/memory/clear"]),
    ):
        watched.memory = Memory(used * MIB, 1000 * MIB)
        watched.advance(6)
        assert names(client) == expected


def test_without_a_memory_gauge_there_is_no_alarm_and_no_topic(watch: Make) -> None:
    watched = watch(sys_interval=10)
    watched.memory = Memory(None, 999 * MIB)
    watched.advance(20)
    assert watched.admin.alarms.active == ()
    assert watched.retained("$SYS/broker/heap/maximum") == str(999 * MIB)


def test_a_full_queue_is_an_alarm_until_it_has_drained(watch: Make) -> None:
    watched = watch(sys_interval=0, session=SessionSettings(maximum_queued_messages=10))
    client = listener(watched)
    bob = watched.connect("bob", version=4, clean_start=False)
    bob.subscribe("t", qos=1)
    bob.drop()
    for _ in range(7):
        watched.virtual.publish("t", qos=1)
    watched.advance(20)
    assert said(client) == []
    watched.virtual.publish("t", qos=1)
    watched.advance(20)
    assert names(client) == ["alarms/session-queue:bob/alert"]
    bob = watched.connect("bob", version=4, clean_start=False)
    watched.advance(20)
    assert names(client) == ["alarms/session-queue:bob/clear"]


def test_the_alarm_of_a_queue_goes_with_its_session(watch: Make) -> None:
    watched = watch(sys_interval=0, session=SessionSettings(maximum_queued_messages=10))
    bob = watched.connect("bob", session_expiry_interval=60)
    bob.subscribe("t", qos=1)
    bob.drop()
    for _ in range(10):
        watched.virtual.publish("t", qos=1)
    watched.advance(20)
    assert [alarm.id for alarm in watched.admin.alarms.active] == ["session-queue:bob"]
    watched.advance(60)
    assert watched.broker.sessions.get("bob") is None
    assert watched.admin.alarms.active == ()
    assert watched.topics() == set()


def test_an_output_that_takes_no_more_is_a_busy_port(watch: Make) -> None:
    watched = watch(sys_interval=0)
    client = listener(watched)
    watched.connect("slow", keep_alive=0)
    transport: Any = watched.broker.connections["slow"].transport
    transport.pauseProducing()
    watched.advance(10)
    assert said(client) == [("sysmon/busy_port", b"the output is full: 'slow'")]
    assert watched.admin.stats.snapshot().gauges.blocked_connections == 1


def test_many_sessions_are_counted_in_slices(watch: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census_module, "SLICE", 4)
    watched = watch(sys_interval=0)
    for number in range(10):
        watched.connect(f"c-{number}", keep_alive=0).subscribe("t")
    # Too many to be counted at once: the figure is that of the last walk.
    assert watched.admin.stats.snapshot().gauges.subscribers.count == 0
    seen: list[int] = []
    watched.admin.stats.census.on_census.append(lambda census: seen.append(census.sessions))
    watched.admin.stats.census.walk()
    assert seen == []
    # One that is still to be counted leaves meanwhile.
    watched.broker.connections["c-9"].disconnect(ReasonCode.SUCCESS, "", "test")
    watched.advance()
    assert seen == [10]
    assert watched.admin.stats.snapshot().gauges.subscribers.count == 9


def test_the_process_tells_its_memory(tmp_path: Path) -> None:
    memory = read_memory()
    assert memory.maximum > MIB
    assert memory.current is None or MIB < memory.current <= memory.maximum
    assert read_memory(tmp_path / "nothing").current is None
    group = tmp_path / "memory.max"
    group.write_text("1048576\n")
    assert memory_limit([group]) == MIB
    group.write_text("max\n")
    assert memory_limit([group]) == memory_limit([]) != MIB


def test_a_walk_that_is_not_done_ends_with_stop(
    watch: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census_module, "SLICE", 1)
    watched = watch(sys_interval=0)
    for number in range(3):
        watched.connect(f"c-{number}", keep_alive=0)
    watched.admin.stats.census.walk()
    watched.admin.stop()
    watched.virtual.stop()
    assert watched.virtual.clock.getDelayedCalls() == []
