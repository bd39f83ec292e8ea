"""``python -m tests.kill``: the broker is killed again and again under load.

Publishers and subscribers of QoS 1 and 2 with sessions that are kept, one of them
slow and one often away, while the daemon gets ``kill -9`` at random moments. It
exits with 1 when an acknowledged message was lost, a QoS 2 message came twice, or
an order was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.kill.rounds import trial


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--folder", help="for the data; kept. By default one that is removed.")
    options = parser.parse_args()
    print(f"{options.rounds} rounds, seed {options.seed}", flush=True)
    began = time.monotonic()
    if options.folder:
        result = asyncio.run(trial(Path(options.folder), options.rounds, options.seed))
    else:
        with tempfile.TemporaryDirectory(prefix="mqttd-kill-") as folder:
            result = asyncio.run(trial(Path(folder), options.rounds, options.seed))
    print(
        f"{result.rounds} rounds in {time.monotonic() - began:.0f} s: "
        f"{result.acknowledged} messages acknowledged, {result.received} received "
        f"({result.repeated} of them again), slowest start {result.slowest_start:.1f} s"
    )
    for fault in result.faults:
        print(f"WRONG: {fault}")
    if not result.faults:
        print("nothing lost, nothing of QoS 2 twice, all in order")
    return 1 if result.faults else 0


if __name__ == "__main__":
    sys.exit(main())
