"""The last hour in figures."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan
from typing import Any

from mqttd.admin.history import INTERVAL, KEPT
from tests.admin.conftest import Watched


def last(watched: Watched, name: str) -> Any:
    return watched.admin.history.figures[name].last(1)[0]


def test_what_there_was_and_how_much_it_grew(watch: Callable[..., Watched]) -> None:
    watched = watch()
    a, b = watched.connect("a"), watched.connect("b")
    b.subscribe("t")
    watched.advance(INTERVAL)
    for _ in range(20):
        a.publish("t", b"x")
        a.publish("nobody", b"x")
    watched.advance(INTERVAL)
    assert last(watched, "clients") == 2
    assert last(watched, "messages_in") == 4.0
    assert last(watched, "messages_out") == 2.0
    assert last(watched, "unrouted") == 2.0
    assert last(watched, "bytes_in") > 0
    watched.advance(INTERVAL)
    assert last(watched, "messages_in") == 0.0
    assert watched.admin.history.figures["messages_in"].last(2) == [4.0, 0.0]
    assert list(watched.admin.history.times) == [INTERVAL, 2 * INTERVAL, 3 * INTERVAL]


def test_drops_are_kept_by_reason_and_begin_at_nothing(watch: Callable[..., Watched]) -> None:
    watched = watch()
    watched.advance(INTERVAL)
    watched.broker.metrics.dropped["queue-full"] += 5
    watched.advance(INTERVAL)
    watched.advance(INTERVAL)
    dropped = watched.admin.history.dropped
    assert {reason: ring.last(3) for reason, ring in dropped.items()} == {
        "queue-full": [0.0, 0.5, 0.0]
    }


def test_latency_is_told_where_it_was_measured(watch: Callable[..., Watched]) -> None:
    watched = watch()
    for _ in range(99):
        watched.broker.metrics.processing.observe(0.0009)
    watched.broker.metrics.processing.observe(2.0)
    watched.advance(INTERVAL)
    bound = last(watched, "processing")
    assert 0.0009 <= bound <= 0.01
    watched.advance(INTERVAL)
    assert last(watched, "processing") is None


def test_it_keeps_an_hour_and_no_more(watch: Callable[..., Watched]) -> None:
    watched = watch()
    for _ in range(KEPT + 5):
        watched.advance(INTERVAL)
    history = watched.admin.history
    assert len(history.times) == KEPT
    assert history.times[-1] - history.times[0] == (KEPT - 1) * INTERVAL
    clients = history.figures["clients"].last(KEPT)
    assert len(clients) == KEPT
    assert not any(each is None or isnan(each) for each in clients)
