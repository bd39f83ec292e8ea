"""The broker's figures as Prometheus wants them; needs prometheus-client.

``admin.http`` serves the text at ``/metrics``. Names follow Prometheus' conventions:
base units, ``_total`` for what only grows, labels for what adds up. Nothing is
counted here: everything comes from a ``Snapshot`` and the counters of the broker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from mqttd import __version__
from mqttd.access.admission import Admission
from mqttd.access.authorizer import AccessControl
from mqttd.access.bans import KINDS
from mqttd.bridge import BridgeStatus, State
from mqttd.broker.metrics import Histogram
from mqttd.wire.codes import PacketType

#: Gauge -> its part of ``Gauges``, and what it counts.
_GAUGES = {
    "subscriptions": ("subscriptions", "Subscriptions, shared ones included."),
    "topic_filters": ("topics", "Distinct topic filters subscribed to."),
    "shared_subscriptions": ("shared_subscriptions", "Members of shared subscriptions."),
    "retained_messages": ("retained", "Retained messages, without $SYS."),
    "retained_bytes": ("retained_bytes", "Topics, payloads and properties of those."),
    "queued_messages": ("queued_messages", "Messages that wait in sessions."),
    "queued_bytes": ("queued_bytes", "Topics, payloads and properties of those."),
    "inflight_messages": ("inflight", "Messages sent and not acknowledged to the end."),
    "blocked_connections": ("blocked_connections", "Connections that take no more output."),
}

#: Counter -> its part of ``Counters``, its label ("" for none), and what it counts.
_COUNTERS = {
    "network_received_bytes": ("bytes_received", "", "Bytes of MQTT from clients."),
    "network_sent_bytes": ("bytes_sent", "", "Bytes of MQTT to clients."),
    "payload_received_bytes": ("payload_bytes_received", "", "Payloads of PUBLISH received."),
    "payload_sent_bytes": ("payload_bytes_sent", "", "Payloads of PUBLISH sent."),
    "packets_received": ("packets_received", "type", "Packets from clients."),
    "packets_sent": ("packets_sent", "type", "Packets to clients."),
    "packets_missed": ("packets_missed", "type", "Acknowledgements of unknown packet ids."),
    "messages_received": ("messages_received", "qos", "PUBLISH packets from clients."),
    "messages_sent": ("messages_sent", "qos", "PUBLISH packets to clients, without $SYS."),
    "messages_dropped": ("dropped", "reason", "Messages that a receiver did not get."),
    "messages_unrouted": ("messages_unrouted", "", "Messages that found no subscriber."),
    "connections_accepted": ("connections_accepted", "", "Network connections accepted."),
    "connections_closed": ("closed", "reason", "Connections that ended."),
    "connections_refused": ("refused", "reason", "Connections refused."),
    "sessions_expired": ("sessions_expired", "", "Sessions that ended by their expiry."),
    "errors": ("errors", "where", "Exceptions contained."),
}


#: Counter or gauge -> its part of ``BridgeStatus``, and what it counts.
_OF_A_BRIDGE = {
    "bridge_connection_attempts": ("attempts", "Attempts of a bridge to connect."),
    "bridge_messages_sent": ("sent", "Messages that a bridge took to the other side."),
    "bridge_messages_received": ("received", "Messages that a bridge brought from there."),
    "bridge_queued_messages": ("queued", "Messages that wait to go out over a bridge."),
    "bridge_queued_bytes": ("queued_bytes", "Topics, payloads and properties of those."),
}


class Prometheus:
    """Makes the text for one daemon."""

    def __init__(self, daemon: Any) -> None:
        """*daemon*: an ``IDaemon``."""
        self._daemon = daemon
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(daemon))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """What ``/metrics`` says."""
        return generate_latest(self._registry)


class _Collector:
    def __init__(self, daemon: Any) -> None:
        self._daemon = daemon

    def describe(self) -> list[Metric]:
        """Nothing beforehand: the registry would collect everything to see names."""
        return []

    def collect(self) -> Iterator[Metric]:
        daemon = self._daemon
        snapshot = daemon.admin.stats.snapshot()
        info = {"version": __version__, "node": daemon.broker.node}
        yield InfoMetricFamily("mqttd", "The broker.", value=info)
        yield _gauge("uptime_seconds", "Since the broker started.", snapshot.uptime)
        yield from _levels(snapshot.gauges)
        for name, (part, label, text) in _COUNTERS.items():
            yield _counter(name, text, label, getattr(snapshot.counters, part))
        yield _by_label("alarms", "Active alarms.", "severity", _alarms(daemon))
        yield _by_label(
            "listener_connections",
            "Open connections of a listener.",
            "listener",
            {listener.name: listener.connections for listener in daemon.listeners.values()},
        )
        yield from _bridges(daemon.bridges.statuses())
        yield from _access(daemon.broker)
        yield from _store(daemon.broker)
        metrics = daemon.broker.metrics
        yield _histogram(
            "event_loop_delay_seconds", "How late the event loop came back.", metrics.loop_delay
        )
        if daemon.broker.settings.http.latency_sample:
            yield _histogram(
                "processing_seconds",
                "From reading a chunk of input until it was handled.",
                metrics.processing,
            )


def _levels(gauges: Any) -> Iterator[Metric]:
    yield _gauge("connections", "Clients that are connected.", gauges.clients.count)
    offline = gauges.offline_sessions
    states = {"online": gauges.sessions.count - offline, "offline": offline}
    yield _by_label("sessions", "Sessions.", "state", states)
    for name, (part, text) in _GAUGES.items():
        value = getattr(gauges, part)
        yield _gauge(name, text, getattr(value, "count", value))


def _bridges(statuses: Sequence[BridgeStatus]) -> Iterator[Metric]:
    """Of each bridge; nothing where there is none."""
    if not statuses:
        return
    connected = {each.name: each.state is State.CONNECTED for each in statuses}
    yield _by_label("bridge_connected", "1 while a bridge is connected.", "bridge", connected)
    for name, (part, text) in _OF_A_BRIDGE.items():
        values = {each.name: getattr(each, part) for each in statuses}
        if part.startswith("queued"):
            yield _by_label(name, text, "bridge", values)
        else:
            yield _counter(name, text, "bridge", values)
    dropped = CounterMetricFamily(
        "mqttd_bridge_messages_dropped",
        "Messages that a bridge did not pass on.",
        labels=["bridge", "reason"],
    )
    for each in statuses:
        for reason, count in sorted(each.dropped.items()):
            dropped.add_metric([each.name, reason], count)
    yield dropped


def _access(broker: Any) -> Iterator[Metric]:
    """What access rules in shadow would have refused, and who is kept out."""
    if isinstance(broker.authorizer, AccessControl):
        total = broker.authorizer.reports.total
        yield _counter("shadow_denials", "Decisions that rules in shadow would deny.", "", total)
    if isinstance(broker.admission, Admission):
        bans = dict.fromkeys(KINDS, 0)
        for ban in broker.admission.bans:
            bans[ban.kind] += 1
        yield _by_label("bans", "Bans in force.", "kind", bans)


def _store(broker: Any) -> Iterator[Metric]:
    if broker.durability is None:
        return
    store = broker.durability.store
    yield _gauge("store_failing", "1 while the store commits nothing.", bool(store.problem))
    yield _gauge("store_backlog_bytes", "Messages that are not committed yet.", store.backlog)
    yield _counter("store_commits", "Commits of the store.", "", store.commits)
    yield _counter("store_commit_seconds", "Time that they took.", "", store.commit_seconds)


def _alarms(daemon: Any) -> dict[str, int]:
    found = {"warning": 0, "error": 0, "critical": 0}
    for alarm in daemon.admin.alarms.active:
        found[alarm.severity.value] += 1
    return found


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"mqttd_{name}", text, value=value)


def _by_label(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"mqttd_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _counter(name: str, text: str, label: str, value: Any) -> Metric:
    if not label:
        return CounterMetricFamily(f"mqttd_{name}", text, value=value)
    family = CounterMetricFamily(f"mqttd_{name}", text, labels=[label])
    for key, count in _labelled(label, value):
        family.add_metric([key], count)
    return family


def _labelled(label: str, value: Any) -> Sequence[tuple[str, int]]:
    if isinstance(value, Mapping):
        return sorted(value.items())
    if label == "type":
        return [(kind.name.lower(), value[kind]) for kind in PacketType]
    return [(str(qos), count) for qos, count in enumerate(value)]


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    buckets, below = [], 0
    for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
        below += count
        buckets.append((str(bound), below))
    return HistogramMetricFamily(f"mqttd_{name}", text, buckets, sum_value=histogram.total)
