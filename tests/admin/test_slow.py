"""Who is listed as slow, and for what."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqttd.admin import slow as slow_module
from mqttd.admin.slow import INTERVAL
from mqttd.wire.packets import Publish

from .conftest import Watched

Make = Callable[..., Watched]


def listed(watched: Watched) -> list[str]:
    return [slow.client_id for slow in watched.admin.slow.latest]


def test_who_acknowledges_is_not_slow(watch: Make) -> None:
    watched = watch()
    client = watched.connect("a", keep_alive=0)
    client.subscribe("t", qos=1)
    watched.virtual.publish("t", b"x", qos=1)
    client.acknowledge(client.expect(Publish))
    watched.advance(2 * INTERVAL)
    assert listed(watched) == []


def test_who_does_not_acknowledge_is_listed_with_the_time(watch: Make) -> None:
    watched = watch()
    client = watched.connect("a", keep_alive=0)
    client.subscribe("t", qos=1)
    watched.virtual.publish("t", b"x", qos=1)
    watched.advance(2 * INTERVAL + 1)
    (slow,) = watched.admin.slow.latest
    assert INTERVAL <= slow.unacknowledged_for <= 2 * INTERVAL + 1
    assert (slow.inflight, slow.queued) == (1, 0)
    client.acknowledge(client.expect(Publish))
    watched.advance(INTERVAL + 1)
    assert listed(watched) == []


def test_messages_of_the_fast_lane_have_a_time_too(watch: Make) -> None:
    watched = watch()
    client, publisher = watched.connect("a", keep_alive=0), watched.connect("b", keep_alive=0)
    client.subscribe("t", qos=1)
    for _ in range(3):
        publisher.publish("t", b"x", qos=1)
    first, *_ = client.messages()
    client.acknowledge(first)
    watched.advance(3 * INTERVAL + 1)
    (slow,) = watched.admin.slow.latest
    assert slow.unacknowledged_for >= INTERVAL
    assert slow.inflight == 2


def test_another_message_under_the_same_packet_id_begins_anew(watch: Make) -> None:
    watched = watch()
    client = watched.connect("a", keep_alive=0, receive_maximum=1)
    client.subscribe("t", qos=1)
    for _ in range(6):
        watched.virtual.publish("t", b"x", qos=1)
        client.acknowledge(client.expect(Publish))
        watched.advance(INTERVAL)
    assert listed(watched) == []


def test_those_with_a_queue_are_listed_the_worst_first(watch: Make) -> None:
    watched = watch()
    for name, count in (("a", 2), ("b", 5)):
        client = watched.connect(name, keep_alive=0, receive_maximum=1)
        client.subscribe(name, qos=1)
        for _ in range(count):
            watched.virtual.publish(name, b"x", qos=1)
    watched.advance(INTERVAL + 1)
    assert [(s.client_id, s.queued) for s in watched.admin.slow.latest] == [("b", 4), ("a", 1)]


def test_many_are_looked_at_in_turns(watch: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_module, "SLICE", 2)
    monkeypatch.setattr(slow_module, "MOST", 3)
    watched = watch()
    for number in range(9):
        client = watched.connect(f"c{number}", keep_alive=0)
        client.subscribe("t", qos=1)
    watched.virtual.publish("t", b"x", qos=1)
    watched.advance(2 * INTERVAL + 1)
    assert len(listed(watched)) == 3
