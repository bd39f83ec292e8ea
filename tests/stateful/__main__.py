"""The long run: ``python -m tests.stateful --examples 5000 --steps 80``."""

from __future__ import annotations

from argparse import ArgumentParser

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.stateful.machine import Clients, CrowdedClients, CrowdedKeptClients, KeptClients


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.stateful", description=__doc__)
    parser.add_argument("--examples", type=int, default=2000, help="runs per machine")
    parser.add_argument("--steps", type=int, default=60, help="steps per run at most")
    options = parser.parse_args()
    profile = settings(
        max_examples=options.examples,
        stateful_step_count=options.steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    for machine in (Clients, CrowdedClients, KeptClients, CrowdedKeptClients):
        run_state_machine_as_test(machine, settings=profile)
        print(f"{machine.__name__}: {options.examples} runs of up to {options.steps} steps")


if __name__ == "__main__":
    main()
