"""The store alone: what a commit costs, what a page costs, how long a restart takes.

``python -m bench.store`` runs it on Twisted's own reactor, in a directory of
its own, which it removes. No broker and no network: the figures are an upper
bound for what durability can give, and show what the disk does to it.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import LoopingCall, deferLater, react

from mqttd.interfaces import StoredRow, StoredSession, StoredSubscription
from mqttd.settings import Durability, StoreSettings
from mqttd.store.records import encode_message, row_state
from mqttd.store.sqlite import SQLiteStore
from mqttd.testing.store_suite import StoreReactor

SESSIONS = 1000
STATE = row_state(1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.store", description=__doc__)
    parser.add_argument("--directory", help="where the files go, to measure another disk")
    parser.add_argument("--durability", default="full", choices=[d.value for d in Durability])
    parser.add_argument("--commit-interval", type=float, default=0.0, help="seconds")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--payload", type=int, default=256, help="bytes")
    parser.add_argument("--queued", type=int, default=100_000, help="messages of the restart")
    parser.add_argument("--sessions", type=int, default=10_000, help="of the restart")
    parser.add_argument("--retained", type=int, default=10_000, help="messages of the restart")
    parser.add_argument("--restart", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.restart:
        restart(options.restart)
        return
    folder = tempfile.mkdtemp(prefix="mqttd-store-", dir=options.directory)
    try:
        react(lambda reactor: ensureDeferred(Run(reactor, options, folder).all()), ())
    finally:
        shutil.rmtree(folder)


class Run:
    """All measurements, one after the other, on one store."""

    def __init__(self, reactor: Any, options: argparse.Namespace, folder: str) -> None:
        self._reactor = reactor
        self._options = options
        self._folder = folder
        settings = StoreSettings(
            durability=Durability(options.durability), commit_interval=options.commit_interval
        )
        self._store = SQLiteStore(reactor, folder, settings)
        self._bodies = bodies(options.payload)
        self._seqs = [0] * (SESSIONS + 1)

    async def all(self) -> None:
        self._syncs()
        contents = self._store.start()
        list(contents.sessions), list(contents.retained)
        for number in range(1, SESSIONS + 1):
            self._store.put_session(StoredSession(number, f"client {number}"))
        await committed(self._store)
        for batch in (1, 50, 200):
            await self._closed_loop(f"queue, {batch} at a time", batch, False)
            await self._closed_loop(f"queue and take out, {batch} at a time", batch, True)
        for rate in (1000, 5000, 20_000):
            for busy in (0.0, 0.5):
                await self._open_loop(rate, busy)
        await self._pages()
        await self._store.stop()
        await self._restart()

    def _syncs(self) -> None:
        """What the disk can do at all."""
        path = Path(self._folder, "sync")
        count, began = 0, time.perf_counter()
        with path.open("wb") as file:
            while time.perf_counter() - began < self._options.seconds / 3:
                file.write(b"x" * 4096)
                file.flush()
                os.fdatasync(file.fileno())
                count += 1
        path.unlink()
        report("fdatasync of 4 KiB", f"{count / (time.perf_counter() - began):,.0f}/s")

    def _queue(self, count: int) -> list[tuple[int, int]]:
        added = []
        for _ in range(count):
            sid = random.randint(1, SESSIONS)
            self._seqs[sid] += 1
            mid = self._store.put_message(next(self._bodies))
            self._store.put_row(sid, StoredRow(self._seqs[sid], mid, 500, STATE))
            added.append((sid, self._seqs[sid]))
        return added

    async def _closed_loop(self, name: str, batch: int, take_out: bool) -> None:
        """The next ones come when the last ones are safe."""
        count, commits = 0, self._store.commits
        began, cpu = time.perf_counter(), time.process_time()
        previous: list[tuple[int, int]] = []
        while time.perf_counter() - began < self._options.seconds:
            added = self._queue(batch)
            if take_out:
                for sid, seq in previous:
                    self._store.delete_rows(sid, (seq,))
                previous = added
            await committed(self._store)
            count += batch
        spent = time.perf_counter() - began
        processor = (time.process_time() - cpu) / count * 1e6
        commits = self._store.commits - commits
        report(
            name,
            f"{count / spent:,.0f}/s",
            f"{commits / spent:,.0f} commits/s",
            f"{processor:.1f} us CPU each",
        )

    async def _open_loop(self, rate: int, busy: float) -> None:
        """Messages come whatever the store does, while the reactor has other work."""
        waits: list[float] = []
        pending = 0
        due = time.perf_counter()

        def tick() -> None:
            nonlocal due, pending
            now = time.perf_counter()
            end = now + 0.002 * busy
            while due <= now:
                self._queue(1)
                pending += 1
                self._store.committed(partial(arrived, due))
                due += 1 / rate
            while time.perf_counter() < end:
                pass

        def arrived(since: float) -> None:
            nonlocal pending
            pending -= 1
            waits.append(time.perf_counter() - since)

        loop = LoopingCall(tick)
        loop.clock = self._reactor
        loop.start(0.002)
        await deferLater(self._reactor, self._options.seconds)
        loop.stop()
        while pending:
            await deferLater(self._reactor, 0.01)
        waits.sort()
        report(
            f"{rate:,}/s, the reactor {busy:.0%} busy",
            f"p50 {waits[len(waits) // 2] * 1000:.1f} ms",
            f"p99 {waits[int(len(waits) * 0.99)] * 1000:.1f} ms",
            f"{len(waits) / self._options.seconds:,.0f}/s done",
        )

    async def _pages(self) -> None:
        """A client comes back: the first 100 messages of its queue."""
        times = []
        for sid in range(1, 201):
            began = time.perf_counter()
            rows = await self._store.read(sid, 0, 100)
            times.append((time.perf_counter() - began, len(rows)))
        times.sort()
        middle, count = times[len(times) // 2]
        report(
            f"a page of {count}", f"p50 {middle * 1000:.2f} ms", f"max {times[-1][0] * 1000:.1f} ms"
        )

    async def _restart(self) -> None:
        """Fill a store, and let a new process open it."""
        options = self._options
        folder = os.path.join(self._folder, "restart")
        store = SQLiteStore(self._reactor, folder)
        store.start()
        for number in range(1, options.sessions + 1):
            store.put_session(StoredSession(number, f"client {number}", "user", ended_at=1.0))
            store.put_subscription(number, StoredSubscription(f"devices/{number}/+", 1))
        for number in range(options.retained):
            store.put_retained(f"state/{number}", next(self._bodies))
        for number in range(options.queued):
            mid = store.put_message(next(self._bodies))
            seq, sid = divmod(number, options.sessions)
            store.put_row(sid + 1, StoredRow(seq + 1, mid, 500, STATE))
            if number % 2000 == 0:
                await committed(store)
        await store.stop()
        command = [sys.executable, "-m", "bench.store", "--restart", folder]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="")


def restart(folder: str) -> None:
    """In a process of its own: open the store and look at all that it gives."""
    before, began = resident(), time.perf_counter()
    contents = SQLiteStore(StoreReactor(), folder).start()
    rows = sessions = 0
    for session in contents.sessions:
        sessions += 1
        rows += session.rows
    retained = sum(1 for _ in contents.retained)
    report(
        f"restart: {sessions:,} sessions, {rows:,} queued, {retained:,} retained",
        f"{time.perf_counter() - began:.2f} s",
        f"{(resident() - before) / 2**20:.0f} MiB more",
    )


def committed(store: SQLiteStore) -> Deferred[None]:
    done: Deferred[None] = Deferred()
    store.committed(lambda: done.callback(None))
    return done


def bodies(size: int) -> Iterator[bytes]:
    """Messages that no compression makes smaller."""
    source = random.Random(1)
    while True:
        for payload in [source.randbytes(size) for _ in range(100)]:
            yield encode_message(b"devices/12345/commands", payload, 1, False, source=b"backend")


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def report(name: str, *figures: str) -> None:
    print(f"{name:<58}", *(f"{figure:>18}" for figure in figures), flush=True)


if __name__ == "__main__":
    main()
