"""Proves the generator's accounts: a broker that loses, doubles, swaps and spoils.

    python -m bench.faulty

It counts what it did wrong, and the command compares that with what the
generator reports; they must be equal. QoS 0 and one subscriber per topic are
all that this broker knows.
"""

from __future__ import annotations

import random
import socket
import struct
import sys
import threading
from collections import Counter

from bench import generator

FAULTS = ("lost", "duplicates", "out_of_order", "malformed")


class FaultyBroker:
    """Serves two connections in threads; every fault is counted."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.injected: Counter[str] = Counter()
        self.subscribers: dict[bytes, socket.socket] = {}
        self.held: bytes | None = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        stream = client.makefile("rb")
        while head := stream.read(1):
            size = shift = 0
            while True:
                (byte,) = stream.read(1)
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
            self._packet(client, head[0], stream.read(size))

    def _packet(self, client: socket.socket, head: int, body: bytes) -> None:
        if head >> 4 == 1:
            client.sendall(b"\x20\x02\x00\x00")
        elif head >> 4 == 8:
            (length,) = struct.unpack_from(">H", body, 2)
            self.subscribers[body[4 : 4 + length]] = client
            client.sendall(b"\x90\x03" + body[:2] + b"\x00")
        elif head >> 4 == 3:
            (length,) = struct.unpack_from(">H", body)
            subscriber = self.subscribers[body[2 : 2 + length]]
            frame = bytes((head, len(body))) + body
            subscriber.sendall(b"".join(self._spoil(frame)))

    def _spoil(self, frame: bytes) -> list[bytes]:
        if self.held is not None:
            held, self.held = self.held, None
            return [frame, held]
        dice = self.random.random()
        if dice < 0.001:
            self.injected["lost"] += 1
            return []
        if dice < 0.002:
            self.injected["duplicates"] += 1
            return [frame, frame]
        if dice < 0.003:
            # Goes after the next one.
            self.injected["out_of_order"] += 1
            self.held = frame
            return []
        if dice < 0.004:
            # What cannot be read has not arrived.
            self.injected["malformed"] += 1
            self.injected["lost"] += 1
            return [frame[:-1] + b"?"]
        return [frame]


def main() -> int:
    """Run the comparison; return the exit status."""
    program, _ = generator.build()
    broker = FaultyBroker(seed=1)
    options = {"seconds": 1, "warmup": 0.1, "drain": 1, "outstanding": 500, "port": broker.port}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    result = generator.run(program, None, ["traffic", *arguments], 60)
    if broker.held is not None:
        # The last message of all was to be swapped with one that never came.
        broker.injected["out_of_order"] -= 1
        broker.injected["lost"] += 1
    wrong = 0
    print(f"{result['sent']} messages sent")
    for name in FAULTS:
        told, done = result[name], broker.injected[name]
        wrong += told != done
        print(f"{name.replace('_', ' '):13} injected {done:5}  reported {told:5}")
    return 1 if wrong or not all(broker.injected[name] for name in FAULTS) else 0


if __name__ == "__main__":
    sys.exit(main())
