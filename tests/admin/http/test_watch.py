"""``/metrics``, ``/healthz`` and ``/readyz``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mqttd.admin.http import Role
from mqttd.settings import HTTPSettings
from tests.admin.http.harness import Web

ETC = Path(__file__).parents[3] / "etc"


@pytest.fixture
def web(web: Web) -> Web:
    web.base = ""
    return web


def scrape(web: Web) -> dict[tuple[str, ...], float]:
    """Name and label values -> value, as Prometheus reads them."""
    answer = web.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def test_figures_are_those_of_the_broker(web: Web) -> None:
    client = web.connect("a")
    client.subscribe("t", qos=1)
    client.publish("t", b"12345", qos=1)
    client.publish("nobody", b"1", qos=0)
    web.connect("b").close()
    found = scrape(web)
    assert found["mqttd_connections",] == 1
    assert found["mqttd_sessions", "online"] == 1
    assert found["mqttd_subscriptions",] == 1
    assert found["mqttd_messages_received_total", "1"] == 1
    assert found["mqttd_messages_sent_total", "1"] == 1
    assert found["mqttd_packets_received_total", "connect"] == 2
    assert found["mqttd_messages_unrouted_total",] == 1
    assert found["mqttd_payload_received_bytes_total",] == 6
    assert found["mqttd_connections_closed_total", "closed-by-client"] == 1


def test_the_node_and_the_version_are_labels(web: Web) -> None:
    (info,) = [key for key in scrape(web) if key[0] == "mqttd_info"]
    assert "node-1" in info


def test_delays_of_the_event_loop_are_a_histogram(web: Web) -> None:
    web.advance(2)
    web.virtual.clock.advance(0.7)
    web.advance(2)
    found = scrape(web)
    assert (
        found["mqttd_event_loop_delay_seconds_bucket", "0.1"]
        < (found["mqttd_event_loop_delay_seconds_count",])
    )
    assert (
        found["mqttd_event_loop_delay_seconds_bucket", "+Inf"]
        == (found["mqttd_event_loop_delay_seconds_count",])
    )


def test_the_time_of_processing_is_measured_where_that_is_wanted(
    make_web: Callable[..., Web],
) -> None:
    web = make_web(http=HTTPSettings(latency_sample=1))
    web.base = ""
    web.connect("a").publish("t", b"")
    assert scrape(web)["mqttd_processing_seconds_count",] >= 2
    other = make_web(http=HTTPSettings(latency_sample=2))
    other.base = ""
    for name in "abcde":
        other.connect(name)
    assert scrape(other)["mqttd_processing_seconds_count",] == 3
    other = make_web(http=HTTPSettings(latency_sample=0))
    other.base = ""
    assert ("mqttd_processing_seconds_count",) not in scrape(other)


def test_alarms_are_counted_by_severity(web: Web) -> None:
    from mqttd.admin.alarms import Severity

    web.admin.alarms.activate("x", Severity.CRITICAL, "t", "s")
    assert scrape(web)["mqttd_alarms", "critical"] == 1


def test_names_follow_the_conventions(web: Web) -> None:
    client = web.connect("a")
    client.publish("t", b"")
    text = web.ask("GET", "/metrics").body.decode()
    for family in text_string_to_metric_families(text):
        if family.name.startswith("mqttd"):
            assert re.fullmatch(r"mqttd(_[a-z]+)*", family.name), family.name
            assert family.documentation.endswith("."), family.name
            if family.type == "counter":
                assert all(sample.name.endswith("_total") for sample in family.samples)


def test_the_dashboard_asks_for_what_there_is(make_web: Callable[..., Web]) -> None:
    web = make_web(http=HTTPSettings(latency_sample=1))
    web.base = ""
    web.connect("a").close()
    names = {name for name, *_ in scrape(web)}
    families = {
        family.name
        for family in text_string_to_metric_families(web.ask("GET", "/metrics").body.decode())
    }
    names |= {f"{family}_total" for family in families} | families
    dashboard = json.loads((ETC / "grafana-dashboard.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"\b(?:mqttd|process)_\w+", target["expr"])
    }
    assert asked
    assert asked <= names


def test_figures_are_for_viewers(web: Web) -> None:
    web.role = Role.ANYONE
    assert web.ask("GET", "/metrics").status == 403


def test_health_is_for_all(web: Web) -> None:
    web.role = Role.ANYONE
    assert web.ask("GET", "/healthz").json == {"status": "ok"}
    assert web.ask("GET", "/readyz").json == {"status": "ready", "reasons": []}


def test_who_takes_leave_is_not_ready(web: Web) -> None:
    web.broker.drain()
    answer = web.ask("GET", "/readyz")
    assert answer.status == 503
    assert "leave" in answer.json["reasons"][0]


def test_a_closed_listener_is_not_ready(web: Web) -> None:
    class Listener:
        name, address, connections = "tls", None, 0

    web.daemon.listeners["tls"] = Listener()
    assert "tls" in web.ask("GET", "/readyz").json["reasons"][0]


def test_a_store_that_keeps_nothing_is_not_ready(web: Web, monkeypatch: Any) -> None:
    class Store:
        problem = "the disk is full"

    monkeypatch.setattr(web.broker, "durability", Store())
    assert "disk is full" in web.ask("GET", "/readyz").json["reasons"][0]
