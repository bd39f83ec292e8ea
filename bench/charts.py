"""SVG charts of a report, by matplotlib, which is an optional extra.

``python -m bench --output`` draws them of its own run. ``python -m bench.charts
FOLDER FILE...`` draws those of several runs, from their ``results.json``, into one
set: so were made those of ``docs/performance.rst``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib  # type: ignore[import-not-found, unused-ignore]

matplotlib.use("svg")
import matplotlib.pyplot as plt  # type: ignore[import-not-found, unused-ignore]

if TYPE_CHECKING:
    from bench.report import Report, Row

COLOURS = {
    "mqttd": "#1f5fa8",
    "mqttd-lean": "#5b9bd5",
    "mqttd-default": "#9cc3e6",
    "mqttd-full": "#12386b",
    "mqttd-compiled": "#2e9ca6",
    "mqttd-compiled-lean": "#7cc7ce",
    "mosquitto-kept": "#8c8c8c",
    "mosquitto": "#6b6b6b",
    "mosquitto-nodelay": "#a6a6a6",
    "flashmq": "#c0504d",
    "nats": "#4f9d69",
    "aedes": "#d9a441",
    "amqtt": "#8064a2",
}


def _bars(
    title: str, label: str, cells: dict[str, dict[str, float]], path: Path, *, log: bool
) -> Path | None:
    """Grouped bars: *cells* is scenario -> broker -> value."""
    cells = {name: row for name, row in cells.items() if row}
    if not cells:
        return None
    brokers = [name for name in COLOURS if any(name in row for row in cells.values())]
    height = 0.8 / len(brokers)
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.17 * len(cells) * (len(brokers) + 1)))
    for index, broker in enumerate(brokers):
        places = [
            at + index * height for at, row in enumerate(cells.values()) if row.get(broker, 0) > 0
        ]
        values = [row[broker] for row in cells.values() if row.get(broker, 0) > 0]
        bars = axes.barh(places, values, height, label=broker, color=COLOURS[broker])
        axes.bar_label(bars, fmt="%.3g", fontsize=6, padding=2)
    axes.set_yticks([at + 0.4 - height / 2 for at in range(len(cells))], list(cells), fontsize=8)
    axes.invert_yaxis()
    if log:
        axes.set_xscale("log")
    axes.margins(x=0.12, y=0.01)
    axes.set_xlabel(label)
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    # Without a date two runs of the same figures give the same file.
    options: dict[str, Any] = {"metadata": {"Date": None}}
    figure.savefig(path, **options)
    plt.close(figure)
    return path


def _table(report: Report, modes: set[str], key: str | None) -> dict[str, dict[str, float]]:
    cells: dict[str, dict[str, float]] = {}
    row: Row
    for row in report.rows:
        if row.scenario.mode not in modes:
            continue
        value = row.median(key or row.primary)
        if value is not None and not row.trouble():
            cells.setdefault(row.scenario.name, {})[row.broker] = value
    return cells


def write(report: Report, folder: Path) -> list[Path]:
    """Write the charts into *folder* and return their paths."""
    matplotlib.rcParams["svg.hashsalt"] = "mqttd"
    # Text as text: a tenth of the size.
    matplotlib.rcParams["svg.fonttype"] = "none"
    latency = {
        row.scenario.name: cells
        for row in report.rows
        if row.scenario.paced
        and (cells := _table(report, {"traffic"}, "latency.p99_us").get(row.scenario.name))
    }
    wanted = [
        (
            "CPU time of the broker per message or delivery",
            "microseconds, logarithmic; shorter is better",
            _table(report, {"traffic", "subscribe", "retained"}, None),
            "cpu.svg",
            True,
        ),
        (
            "CPU time of the broker per connect",
            "microseconds; shorter is better",
            _table(report, {"connect"}, None),
            "connect.svg",
            False,
        ),
        (
            "Latency, 99th percentile, open loop",
            "microseconds, logarithmic; shorter is better",
            latency,
            "latency.svg",
            True,
        ),
        (
            "Memory per idle connection",
            "bytes; shorter is better",
            _table(report, {"idle"}, "rss_per_connection"),
            "idle.svg",
            False,
        ),
        (
            "Memory per subscription",
            "bytes; shorter is better",
            _table(report, {"subscribe"}, "subscribe.rss_per_filter"),
            "subscriptions.svg",
            False,
        ),
        (
            "Memory per retained message of 64 bytes",
            "bytes; shorter is better",
            _table(report, {"retained"}, "store.rss_per_message"),
            "retained.svg",
            False,
        ),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    paths = [
        _bars(title, label, cells, folder / name, log=log)
        for title, label, cells, name, log in wanted
    ]
    return [path for path in paths if path is not None]


def main() -> int:
    """Draw the charts of the runs whose files are named."""
    from bench.report import Report

    folder, *files = map(Path, sys.argv[1:])
    report = Report()
    for file in files:
        report.read(file)
    print("written:", ", ".join(map(str, write(report, folder))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
