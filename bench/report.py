"""Medians, ratios, the table, JSON and charts.

Fed by the driver with the raw results of each round; starts nothing.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from attrs import define, field

from bench.scenarios import SCENARIOS, Scenario

REFERENCE = "mosquitto"
NODELAY = "mosquitto-nodelay"

#: Where each mode has its main CPU figure, and what is told besides:
#: (key, name, factor, unit).
Figure = tuple[str, str, float, str]
PRIMARY = {"retained": "replay.cpu_us"}
RATE = {"retained": "replay.rate"}
BESIDE: dict[str, list[Figure]] = {
    "traffic": [
        ("latency.p50_us", "p50", 1, "us"),
        ("latency.p95_us", "p95", 1, "us"),
        ("latency.p99_us", "p99", 1, "us"),
        ("latency.p999_us", "p99.9", 1, "us"),
        ("latency.max_us", "max", 1, "us"),
        ("acknowledged.p50_us", "acknowledged p50", 1, "us"),
        ("acknowledged.p99_us", "acknowledged p99", 1, "us"),
        ("generator_lag.p99_us", "own lag p99", 1, "us"),
        ("storm_rate", "storm", 1, "/s"),
    ],
    "connect": [("latency.p50_us", "p50", 1, "us"), ("latency.p99_us", "p99", 1, "us")],
    "idle": [
        ("rss_per_connection", "memory", 1, "bytes each"),
        ("idle_cpu_ms_per_second", "idle", 1, "ms CPU/s"),
    ],
    "subscribe": [
        ("subscribe.rate", "subscribed", 1, "/s"),
        ("subscribe.cpu_us", "CPU", 1, "us each"),
        ("subscribe.rss_per_filter", "memory", 1, "bytes each"),
        ("drop_cpu_us", "dropped at", 1, "us each"),
        ("drop_seconds", "dropped in", 1e3, "ms"),
    ],
    "retained": [
        ("store.rate", "stored", 1, "/s"),
        ("store.cpu_us", "CPU", 1, "us each"),
        ("store.rss_per_message", "memory", 1, "bytes each"),
        ("select.seconds", "selected in", 1e3, "ms"),
    ],
}
TROUBLE = ("lost", "duplicates", "out_of_order", "malformed", "errors", "not_marked_retained")


def flat(result: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The figures of a result, nested ones as "outer.inner"."""
    for key, value in result.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)):
            yield f"{prefix}{key}", float(value)


@define
class Row:
    """One scenario with one broker: every round, and the medians."""

    scenario: Scenario
    broker: str
    rounds: list[dict[str, float] | None] = field(factory=list)
    problems: list[str] = field(factory=list)

    def median(self, key: str) -> float | None:
        values = [each[key] for each in self.rounds if each is not None and key in each]
        return median(values) if values else None

    @property
    def primary(self) -> str:
        return PRIMARY.get(self.scenario.mode, "cpu_us")

    def ratio_to(self, other: Row | None, key: str) -> float | None:
        """The median of the rounds' ratios: what both rounds shared falls out."""
        if other is None:
            return None
        ratios = [
            mine[key] / theirs[key]
            for mine, theirs in zip(self.rounds, other.rounds, strict=False)
            if mine is not None and theirs is not None and theirs.get(key) and key in mine
        ]
        return median(ratios) if ratios else None

    def trouble(self) -> list[str]:
        """What went wrong with messages, and doubts about the figures."""
        found = list(dict.fromkeys(self.problems))
        for key in TROUBLE:
            count = sum(each.get(key, 0) for each in self.rounds if each is not None)
            if count:
                found.append(f"{key.replace('_', ' ')} {count:.0f}")
        return found

    def doubts(self) -> list[str]:
        found = []
        if any(each and each.get("generator_limited") for each in self.rounds):
            found.append("the generator was the limit: do not believe the rate")
        elif any(each and each.get("generator_busy") for each in self.rounds):
            found.append("generator over 90 % busy")
        waited = self.median("generator_waiting") or 0
        if waited > 0.1:
            found.append(f"generator waited for its core {waited:.0%}")
        waited = self.median("broker_waiting") or 0
        if waited > 0.1:
            found.append(f"broker waited for its core {waited:.0%}")
        return found


@define
class Report:
    """All rows of a run."""

    rows: list[Row] = field(factory=list)
    facts: dict[str, Any] = field(factory=dict)

    def row(self, scenario: Scenario, broker: str) -> Row:
        for row in self.rows:
            if row.scenario is scenario and row.broker == broker:
                return row
        row = Row(scenario, broker)
        self.rows.append(row)
        return row

    def find(self, scenario: Scenario, broker: str) -> Row | None:
        rows = (row for row in self.rows if row.scenario is scenario and row.broker == broker)
        return next(rows, None)

    def ratios(self, row: Row) -> dict[str, float]:
        """The row against the reference: CPU, and p99 where that counts."""
        found = {}
        cpu = row.ratio_to(self.find(row.scenario, REFERENCE), row.primary)
        if cpu is not None:
            found["cpu"] = cpu
        if row.scenario.paced:
            p99 = row.ratio_to(self.find(row.scenario, NODELAY), "latency.p99_us")
            if p99 is not None:
                found["p99"] = p99
        return found

    def read(self, path: Path) -> None:
        """Add the rows of a JSON file; of a scenario and broker the first counts."""
        known = {each.name: each for each in SCENARIOS}
        for found in json.loads(path.read_text())["rows"]:
            scenario = known.get(found["scenario"])
            if scenario is not None and self.find(scenario, found["broker"]) is None:
                self.row(scenario, found["broker"]).rounds = found["rounds"]

    def print_scenario(self, scenario: Scenario, changed: str = "") -> None:
        """Print a scenario's rows; *changed* tells what --quick made of it."""
        print(f"\n{scenario.name}: {scenario.title}{f' (here {changed})' if changed else ''}")
        head = f"  {'':18}{'rate/s':>11}{'CPU us':>9}{'user':>8}{'system':>8}"
        print(f"{head}{'ratio':>8}{'RSS MiB':>9}  per {scenario.unit}")
        for row in self.rows:
            if row.scenario is scenario:
                self._print_row(row)

    def _print_row(self, row: Row) -> None:
        cpu = row.median(row.primary)
        if cpu is None:
            print(f"  {row.broker:18}  {'; '.join(row.trouble()) or 'not run'}")
            return
        prefix = row.primary.removesuffix("cpu_us")
        figures = [
            (row.median(RATE.get(row.scenario.mode, "rate")), 11, ",.0f"),
            (cpu, 9, ".2f"),
            (row.median(f"{prefix}cpu_user_us"), 8, ".2f"),
            (row.median(f"{prefix}cpu_system_us"), 8, ".2f"),
            (self.ratios(row).get("cpu"), 8, ".2f"),
            ((row.median("rss_after") or 0) / 2**20, 9, ".1f"),
        ]
        cells = [
            f"{'-' if value is None else format(value, how):>{width}}"
            for value, width, how in figures
        ]
        print(f"  {row.broker:18}{''.join(cells)}")
        beside = [
            f"{name} {value * factor:,.4g} {unit}"
            for key, name, factor, unit in BESIDE[row.scenario.mode]
            if (value := row.median(key)) is not None and (value or "latency" not in key)
        ]
        if "p99" in self.ratios(row):
            beside.append(f"p99 {self.ratios(row)['p99']:.2f} of {NODELAY}")
        if beside:
            print(f"  {'':18}  {', '.join(beside)}")
        for line in row.trouble():
            print(f"  {'':18}  NOT RIGHT: {line}")
        for line in row.doubts():
            print(f"  {'':18}  note: {line}")

    def as_json(self) -> dict[str, Any]:
        return {
            "facts": self.facts,
            "rows": [
                {
                    "scenario": row.scenario.name,
                    "title": row.scenario.title,
                    "unit": row.scenario.unit,
                    "broker": row.broker,
                    "medians": {key: row.median(key) for key in _keys(row)},
                    "ratios": self.ratios(row),
                    "trouble": row.trouble(),
                    "doubts": row.doubts(),
                    "rounds": row.rounds,
                }
                for row in self.rows
            ],
        }

    def write_json(self, path: Path) -> None:
        path.write_text(json.dumps(self.as_json(), indent=1) + "\n")

    def write_charts(self, folder: Path) -> list[Path]:
        """One SVG for CPU, one for latency, one for memory; none without data.

        :raise ImportError: when matplotlib is missing.
        """
        from bench import charts

        return charts.write(self, folder)


def _keys(row: Row) -> list[str]:
    return sorted({key for each in row.rounds if each is not None for key in each})


def machine_facts() -> dict[str, Any]:
    """What a reader must know of the machine."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": os.getloadavg(),
    }
