"""Figures: what there is, what has happened, and how the process fares."""

from __future__ import annotations

import gc
import os
import resource
import threading
from typing import Any

from attrs import asdict

from mqttd.admin.history import INTERVAL
from mqttd.admin.http.call import Call
from mqttd.admin.http.table import Role, Route
from mqttd.admin.memory import read_memory
from mqttd.broker.metrics import Histogram
from mqttd.wire.codes import PacketType

_BY_TYPE = ("packets_received", "packets_sent", "packets_missed")


def show(call: Call) -> dict[str, Any]:
    snapshot = call.daemon.admin.stats.snapshot()
    counters = asdict(snapshot.counters)
    for name in _BY_TYPE:
        counts = counters[name]
        counters[name] = {kind.name.lower(): counts[kind] for kind in PacketType}
    metrics = call.daemon.broker.metrics
    timed = call.daemon.broker.settings.http.latency_sample
    load = call.daemon.admin.stats.load.averages
    return {
        "uptime": snapshot.uptime,
        "gauges": asdict(snapshot.gauges),
        "counters": counters,
        "latency": {
            "event_loop": _shown(metrics.loop_delay),
            "processing": _shown(metrics.processing) if timed else None,
        },
        "per_minute": {name: list(values) for name, values in load.items()},
    }


def _shown(histogram: Histogram) -> dict[str, Any]:
    return {"bounds": list(histogram.bounds), "counts": list(histogram.counts)}


def history(call: Call) -> dict[str, Any]:
    kept = call.daemon.admin.history
    count = len(kept.times)
    return {
        "interval": INTERVAL,
        "uptime": list(kept.times),
        "figures": {name: ring.last(count) for name, ring in kept.figures.items()},
        "dropped": {reason: ring.last(count) for reason, ring in kept.dropped.items()},
    }


def process(call: Call) -> dict[str, Any]:
    memory = read_memory()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "pid": os.getpid(),
        "memory": memory.current,
        "memory_maximum": memory.maximum,
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 3),
        "load": list(os.getloadavg()),
        "open_files": _open_files(),
        "open_files_allowed": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "threads": threading.active_count(),
        "collections": [each["collections"] for each in gc.get_stats()],
        "longest_stall": round(call.daemon.admin.monitor.longest_stall, 3),
    }


def _open_files() -> int | None:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return None


_OBJECT = {"type": "object"}
_SERIES = {
    "type": "object",
    "additionalProperties": {"type": "array", "items": {"type": ["number", "null"]}},
}

ROUTES = (
    Route(
        "GET",
        "/stats",
        Role.VIEWER,
        show,
        "What there is and what has happened",
        "stats",
        answer={
            "type": "object",
            "required": ["uptime", "gauges", "counters"],
            "properties": {
                "uptime": {"type": "number", "description": "Seconds."},
                "gauges": {**_OBJECT, "description": "What there is now, and was at most."},
                "counters": {
                    **_OBJECT,
                    "description": "What has happened since the start, as on $SYS.",
                },
                "latency": {
                    "type": "object",
                    "description": "How often what took how long: bounds are seconds, and "
                    "the last count is of what is above them all. `event_loop`: how late it "
                    "came back; `processing`: of a chunk of input, where it is measured.",
                },
                "per_minute": {
                    "type": "object",
                    "description": "Averages over 1, 5 and 15 minutes.",
                },
            },
        },
    ),
    Route(
        "GET",
        "/stats/history",
        Role.VIEWER,
        history,
        "The figures of the last hour, the oldest first",
        "stats",
        answer={
            "type": "object",
            "required": ["interval", "uptime", "figures", "dropped"],
            "properties": {
                "interval": {"type": "number", "description": "Seconds between samples."},
                "uptime": {
                    "type": "array",
                    "items": {"type": "number"},
                    "description": "When each sample was taken: seconds since the start.",
                },
                "figures": {
                    **_SERIES,
                    "description": "What there was (clients, sessions, blocked, queued, "
                    "inflight); what there was a second, on average since the sample before "
                    "(messages_in, messages_out, bytes_in, bytes_out, unrouted); seconds "
                    "within which 99 of 100 were (event_loop, processing), null where "
                    "nothing was measured.",
                },
                "dropped": {**_SERIES, "description": "By reason, a second."},
            },
        },
    ),
    Route(
        "GET",
        "/process",
        Role.VIEWER,
        process,
        "Memory, processor time and files of the process",
        "stats",
        answer={
            "type": "object",
            "properties": {
                "pid": {"type": "integer", "description": "Process id."},
                "memory": {"type": ["integer", "null"], "description": "Bytes."},
                "memory_maximum": {"type": "integer", "description": "Bytes."},
                "processor_seconds": {
                    "type": "number",
                    "description": "Processor time so far, system calls included.",
                },
                "load": {
                    "type": "array",
                    "items": {"type": "number"},
                    "description": "Load of the machine over 1, 5 and 15 minutes.",
                },
                "open_files": {
                    "type": ["integer", "null"],
                    "description": "Descriptors in use; null: not known here.",
                },
                "open_files_allowed": {
                    "type": "integer",
                    "description": "Descriptors that may be in use.",
                },
                "threads": {"type": "integer", "description": "Threads of the process."},
                "collections": {
                    "type": "array",
                    "items": {"type": "integer"},
                    "description": "Garbage collections, by generation.",
                },
                "longest_stall": {"type": "number", "description": "Seconds."},
            },
        },
    ),
)
