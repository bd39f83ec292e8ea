"""The daemon after a crash: how long until it serves, and how much memory it holds.

``python -m bench.restart`` fills a store with sessions, messages that wait and
retained messages, starts ``twistd mqttd`` on it, and waits until a client has its
CONNACK. Then it reads a queue to the end and a retained message, which must be
there. Each start but the first comes after ``kill -9``.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import react

from mqttd.interfaces import StoredRow, StoredSession, StoredSubscription
from mqttd.store.records import encode_message, row_state
from mqttd.store.schema import DATABASE
from mqttd.store.sqlite import SQLiteStore
from mqttd.wire.codes import MQTT311
from mqttd.wire.packets import (
    Connack,
    Connect,
    Packet,
    Publish,
    Subscribe,
    SubscriptionRequest,
)
from mqttd.wire.parser import Parser
from mqttd.wire.serializer import serialize

P = TypeVar("P")

#: Seconds to wait for anything.
PATIENCE = 120.0
SOURCE = b'{"client":"backend","listener":"tcp","principal":"backend","address":"192.0.2.1"}'


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.restart", description=__doc__)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--queued", type=int, default=1_000_000, help="messages, in all")
    parser.add_argument("--retained", type=int, default=100_000)
    parser.add_argument("--payload", type=int, default=64, help="bytes")
    parser.add_argument("--directory", help="where the store goes, to measure another disk")
    parser.add_argument("--folder", help="a folder that is kept, and used again if it is filled")
    parser.add_argument("--rounds", type=int, default=3, help="starts, each after kill -9")
    options = parser.parse_args()
    folder = options.folder or tempfile.mkdtemp(prefix="mqttd-restart-", dir=options.directory)
    try:
        if not Path(folder, DATABASE).exists():
            began = time.monotonic()
            try:
                react(lambda reactor: ensureDeferred(fill(reactor, folder, options)), ())
            except SystemExit as ended:  # that is how it returns
                if ended.code:
                    raise
            print(f"filled in {time.monotonic() - began:.0f} s", flush=True)
        for _ in range(options.rounds):
            measure(folder, options)
    finally:
        if not options.folder:
            shutil.rmtree(folder)
    return 0


async def fill(reactor: Any, folder: str, options: argparse.Namespace) -> None:
    store = SQLiteStore(reactor, folder)
    store.start()
    for number in range(1, options.sessions + 1):
        store.put_session(StoredSession(number, f"device-{number:06}", ended_at=1.0))
        store.put_subscription(number, StoredSubscription(f"devices/{number:06}/+", 1))
    for number in range(options.retained):
        topic = f"state/{number:06}"
        store.put_retained(topic, body(topic, next_payload(options.payload), retain=True))
    state = row_state(1)
    for number in range(options.queued):
        seq, sid = divmod(number, options.sessions)
        payload = next_payload(options.payload)
        mid = store.put_message(body(f"devices/{sid + 1:06}/commands", payload))
        store.put_row(sid + 1, StoredRow(seq + 1, mid, options.payload + 223, state))
        if number % 5000 == 0:
            await committed(store)
    await store.stop()


_source = random.Random(1)


def next_payload(size: int) -> bytes:
    return _source.randbytes(size)


def body(topic: str, payload: bytes, retain: bool = False) -> bytes:
    return encode_message(topic.encode(), payload, 1, retain, created_at=1.0, source=SOURCE)


def committed(store: SQLiteStore) -> Deferred[None]:
    done: Deferred[None] = Deferred()
    store.committed(lambda: done.callback(None))
    return done


def measure(folder: str, options: argparse.Namespace) -> None:
    """Start, look, kill."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
    twistd = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
    twistd += ["-n", "--pidfile=", "mqttd"]
    endpoint = f"tcp:{port}:interface=127.0.0.1"
    began = time.monotonic()
    process = subprocess.Popen(
        [*twistd, "--listen", endpoint, "--allow-anonymous", "--data-dir", folder],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    try:
        link = wait_for(lambda: Link(port, "probe"))
        serves = time.monotonic() - began
        memory, processor = resident(process.pid), cpu(process.pid)
        check(link, port, options)
        print(
            f"{options.sessions:,} sessions, {options.queued:,} queued, "
            f"{options.retained:,} retained: CONNACK after {serves:.2f} s "
            f"({processor:.2f} s of CPU), {memory / 2**20:.0f} MiB "
            f"(at most {peak(process.pid) / 2**20:.0f})",
            flush=True,
        )
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def check(link: Link, port: int, options: argparse.Namespace) -> None:
    """Something that was kept is there."""
    number = options.retained // 2
    link.send(Subscribe(1, [SubscriptionRequest(f"state/{number:06}", 0)]))
    if link.expect(Publish).topic != f"state/{number:06}":
        raise AssertionError("a retained message is not there")
    # Not acknowledged, so that the next round finds them again.
    device = Link(port, f"device-{random.randint(1, options.sessions):06}")
    for _ in range(min(10, options.queued // options.sessions)):
        device.expect(Publish)


class Link:
    """A connection that waits for what it expects."""

    def __init__(self, port: int, client_id: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._parser = Parser(1 << 20, server_side=False)
        self._parser.version = MQTT311
        self.send(Connect(client_id, MQTT311, client_id == "probe"))
        self.expect(Connack)

    def send(self, packet: Packet) -> None:
        self._socket.sendall(serialize(packet, MQTT311))

    def expect(self, packet_type: type[P]) -> P:
        for packet in self._packets():
            if isinstance(packet, packet_type):
                return packet
        raise AssertionError(f"the connection ended without {packet_type.__name__}")

    def _packets(self) -> Iterator[Packet]:
        while True:
            while (packet := self._parser.next_packet()) is not None:
                yield packet
            data = self._socket.recv(65_536)
            if not data:
                return
            self._parser.feed(data)


def wait_for(attempt: Callable[[], Link]) -> Link:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return attempt()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu(pid: int) -> float:
    """Seconds that it has used, in all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    sys.exit(main())
