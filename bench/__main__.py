"""``python -m bench``: run scenarios against brokers, in alternating rounds.

Reads the command line, starts broker and generator for each measurement, and
hands the results to the report. Exits with 1 when a broker under test (mqttd)
lost, doubled or disordered a message, or could not run a scenario.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import subprocess
import sys
import tempfile
from fnmatch import fnmatch
from pathlib import Path

from attrs import define, field, frozen

from bench import generator
from bench.brokers import (
    BROKERS,
    ROOT,
    Broker,
    NotInstalled,
    Places,
    Start,
    make_certificate,
    running,
    versions,
)
from bench.report import Report, flat, machine_facts
from bench.scenarios import SCENARIOS, Scenario


@frozen
class Cores:
    """Where the broker and the generator run; None means anywhere."""

    broker: int | None
    generator: int | None

    @classmethod
    def choose(cls) -> Cores:
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            print("only one core: broker and generator share it; rates mean little")
            return cls(None, None)
        return cls(usable[0], usable[1])


@define
class Driver:
    """One run: its brokers, its options and the report that it fills."""

    options: argparse.Namespace
    brokers: list[Broker]
    places: Places
    program: Path
    tls: bool
    cores: Cores
    folder: Path
    report: Report = field(factory=Report)
    certificate: Path | None = None
    #: Not the same for two runs at a time.
    next_port: int = field(factory=lambda: 21_000 + os.getpid() * 40 % 8_000)
    #: (broker, with TLS) that did not start: not tried again.
    missing: set[tuple[str, bool]] = field(factory=set)

    def ports(self) -> tuple[int, int]:
        """Fresh ports: those of the last broker may still be resting."""
        while True:
            self.next_port = 21_000 + (self.next_port - 21_000 + 2) % 8_000
            # The third is of what some brokers open besides.
            if all(_is_free(self.next_port + more) for more in (0, 1, 20)):
                return self.next_port, self.next_port + 1

    def certificate_for(self, scenario: Scenario) -> Path | None:
        if not scenario.tls:
            return None
        if self.certificate is None:
            self.certificate = make_certificate(self.folder)
        return self.certificate

    def takes_part(self, broker: Broker, scenario: Scenario) -> bool:
        if broker.name in scenario.without or (broker.name, scenario.tls) in self.missing:
            return False
        if scenario.tls and not broker.tls:
            return False
        named = broker.name in (self.options.brokers or "").split(",")
        return named or scenario.paced or not broker.paced_only

    def arguments(self, scenario: Scenario) -> list[str]:
        options = self.options
        words = [*scenario.arguments.split(), "--seconds", str(options.seconds)]
        words += ["--warmup", str(options.warmup)]
        if options.quick:
            words += scenario.quick.split()
        return words + str(options.extra).split()

    def measure(self, broker: Broker, scenario: Scenario) -> dict[str, float]:
        """One broker, one scenario, one fresh process.

        :raise generator.RunFailed: when the generator gave up.
        :raise NotInstalled: when the broker does not start.
        """
        port, tls_port = self.ports()
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            certificate = self.certificate_for(scenario)
            start = Start(self.places, Path(name), port, tls_port, certificate)
            with running(broker, start, self.cores.broker) as pid:
                words = self.arguments(scenario)
                words += ["--port", str(tls_port if scenario.tls else port), "--pid", str(pid)]
                if scenario.tls:
                    words.append("--tls")
                patience = scenario.patience + self.options.seconds + self.options.warmup
                result = generator.run(self.program, self.cores.generator, words, patience)
        return dict(flat(result))

    def run(self, scenario: Scenario) -> None:
        if scenario.tls and not self.tls:
            print(f"\n{scenario.name}: skipped, the generator was built without OpenSSL")
            return
        for _ in range(self.options.rounds):
            for broker in self.brokers:
                if not self.takes_part(broker, scenario):
                    continue
                row = self.report.row(scenario, broker.name)
                try:
                    row.rounds.append(self.measure(broker, scenario))
                except generator.RunFailed as error:
                    row.rounds.append(None)
                    row.problems.append(str(error))
                except NotInstalled as error:
                    row.rounds.append(None)
                    row.problems.append(str(error))
                    print(f"{broker.name}: {error}")
                    self.missing.add((broker.name, scenario.tls))
        self.report.print_scenario(scenario, scenario.quick if self.options.quick else "")
        sys.stdout.flush()


def _is_free(port: int) -> bool:
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--scenario", action="append", help="name or pattern such as 'q1-*'; may be repeated")
    add("--brokers", help="names with commas between; default: every one that is installed")
    add("--rounds", type=int, help="alternating rounds (3; 1 with --quick)")
    add("--seconds", type=float, help="measured window (1.5; 0.5 with --quick)")
    add("--warmup", type=float, help="seconds before it (0.5; 0.2 with --quick)")
    add("--quick", action="store_true", help="the core scenarios, small tables, one short round")
    add("--output", type=Path, help="folder for results.json and the charts")
    add("--path", action="append", default=[], help="a folder with programs of peers")
    add("--node-modules", default=os.environ.get("MQTTD_BENCH_NODE_MODULES", ""))
    add("--extra", default="", help="further arguments of the generator, as one word")
    add("--list", action="store_true", help="list scenarios and brokers, and exit")
    return parser


def _choose_scenarios(options: argparse.Namespace) -> list[Scenario]:
    if not options.scenario:
        return [each for each in SCENARIOS if each.core or not options.quick]
    chosen = [
        each for each in SCENARIOS if any(fnmatch(each.name, like) for like in options.scenario)
    ]
    if not chosen:
        sys.exit(f"no scenario is called {', '.join(options.scenario)}: see --list")
    return chosen


def _choose_brokers(options: argparse.Namespace, places: Places, folder: Path) -> list[Broker]:
    """Those asked for, or all that are here; tells which are not."""
    names = options.brokers.split(",") if options.brokers else None
    known = {each.name for each in BROKERS}
    if names and not set(names) <= known:
        sys.exit(f"no broker is called {', '.join(sorted(set(names) - known))}: see --list")
    chosen = []
    for broker in BROKERS:
        if broker.name not in names if names else broker.named_only:
            continue
        try:
            broker.command(Start(places, folder, 1, 2, None))
        except NotInstalled as error:
            print(f"{broker.name}: left out: {error}")
        else:
            chosen.append(broker)
    return chosen


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except OSError:
        return ""


def _list() -> None:
    for scenario in SCENARIOS:
        print(f"{scenario.name:16} {'*' if scenario.core else ' '} {scenario.title}")
    print("\n* with --quick\nbrokers:", ", ".join(each.name for each in BROKERS))


def _finish(driver: Driver, output: Path | None) -> None:
    report = driver.report
    report.facts["load_after"] = os.getloadavg()
    if output is None:
        return
    output.mkdir(parents=True, exist_ok=True)
    report.write_json(output / "results.json")
    try:
        charts = report.write_charts(output)
    except ImportError:
        print("\nno charts: install matplotlib for them")
    else:
        print("\nwritten:", ", ".join(str(path) for path in (output / "results.json", *charts)))


def main() -> int:
    """Run the command; return its exit status."""
    options = _parser().parse_args()
    if options.list:
        _list()
        return 0
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (0.5 if options.quick else 1.5)
    options.warmup = options.warmup or (0.2 if options.quick else 0.5)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    places = Places(options.path, options.node_modules)
    try:
        program, tls = generator.build()
    except generator.RunFailed as error:
        sys.exit(str(error))
    with tempfile.TemporaryDirectory(prefix="mqttd-bench-") as name:
        folder = Path(name)
        scenarios = _choose_scenarios(options)
        brokers = _choose_brokers(options, places, folder)
        if not brokers:
            sys.exit("none of the brokers is installed")
        driver = Driver(options, brokers, places, program, tls, Cores.choose(), folder)
        driver.report.facts = {
            **machine_facts(),
            "commit": _commit(),
            "versions": versions(brokers, places),
            "rounds": options.rounds,
            "seconds": options.seconds,
        }
        try:
            for scenario in scenarios:
                driver.run(scenario)
        except KeyboardInterrupt:
            print("\nstopped; here is what there is")
        _finish(driver, options.output)
    ours = [row for row in driver.report.rows if row.broker.startswith("mqttd")]
    return 1 if any(row.trouble() for row in ours) else 0


if __name__ == "__main__":
    sys.exit(main())
