"""Clients that come and go without a pause, and what became of each.

``outcomes_while`` is for tests; ``python callers.py PORT TIMES COMMAND...`` runs COMMAND
so many times among such clients, from any network namespace, and prints the outcomes as JSON.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

#: How many clients there are at a time.
CALLERS = 3

#: Seconds that a client waits, and that are waited for clients.
PATIENCE = 60.0

CONNECT = bytes.fromhex("10 0c 00 04 4d515454 04 02 003c 00 00")


def call(port: int) -> str:
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as stream:
            stream.sendall(CONNECT)
            return "served" if stream.recv(4)[:1] == b"\x20" else "dropped"
    except ConnectionRefusedError:
        return "refused"
    except ConnectionError:
        return "dropped"


def outcomes_while(port: int, disturb: Callable[[], object], times: int) -> Counter[str]:
    """What became of those who came while *disturb* was called, *times* times.

    They are served, dropped (their connection was open when the server stopped) or refused.
    """
    outcomes: list[str] = []
    ending = threading.Event()

    def come_and_go() -> None:
        while not ending.is_set():
            outcomes.append(call(port))
            time.sleep(0.005)

    def wait_for_more(served: int = 20) -> None:
        goal = outcomes.count("served") + served
        deadline = time.monotonic() + PATIENCE
        while outcomes.count("served") < goal:
            assert time.monotonic() < deadline, outcomes[-20:]
            time.sleep(0.01)

    callers = [threading.Thread(target=come_and_go) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(times):
            wait_for_more()
            disturb()
        wait_for_more()
    finally:
        ending.set()
        for caller in callers:
            caller.join(PATIENCE)
    return Counter(outcomes)


if __name__ == "__main__":
    port, times, *command = sys.argv[1:]
    counted = outcomes_while(int(port), lambda: subprocess.run(command, check=True), int(times))
    print(json.dumps(counted))
