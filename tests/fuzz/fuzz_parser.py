"""Fuzz the parser: ``python -m tests.fuzz.fuzz_parser --runs 1000000``.

Whatever the bytes and however they are chopped, nothing but a
``ProtocolViolation`` may come out, the parser may not hold more than it was
fed or a packet may have, and one chunk or many must give the same packets. What
was accepted must encode and read back as the same packet.

Coverage guided with atheris (``pip install atheris``); without it, or with
``--random``, inputs are mutations of the wire vectors from a seeded generator.
The first failure ends the run with a status that is not 0; its input is
printed in hex, or saved by atheris as a file crash-*.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import random
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

from mqttd.wire.codes import MQTT5
from mqttd.wire.errors import ProtocolViolation
from mqttd.wire.packets import Packet
from mqttd.wire.parser import Parser
from mqttd.wire.serializer import serialize
from tests.vectors import MALFORMED_VECTORS, VALID, Malformed, Vector

#: Small, so that the limit is met.
MAXIMUM_PACKET_SIZE = 4096

#: Bytes that one input of at most 4 KiB may make the process keep or build.
MAXIMUM_MEMORY = 4 * 1024 * 1024

#: First byte of an input -> (server side, version); 0 is before CONNECT.
MODES = [(True, 0), *((side, version) for side in (True, False) for version in (3, 4, 5))]


def parse(chunks: list[bytes], server_side: bool, version: int) -> tuple[list[Packet], int, int]:
    """Packets, the reason code of the violation or -1, and the version at the end."""
    parser = Parser(MAXIMUM_PACKET_SIZE, server_side, 16, 16)
    parser.version = version
    packets: list[Packet] = []
    for chunk in chunks:
        parser.feed(chunk)
        try:
            while (packet := parser.next_packet()) is not None:
                packets.append(packet)
        except ProtocolViolation as violation:
            assert parser.pending == 0, "a failed parser holds bytes"
            return packets, violation.reason, parser.version
        assert parser.pending <= MAXIMUM_PACKET_SIZE, "more is held than a packet may have"
    return packets, -1, parser.version


def check(data: bytes) -> None:
    """One input: a mode, a chopping, and a stream."""
    if len(data) < 2:
        return
    server_side, version = MODES[data[0] % len(MODES)]
    step = data[1] % 16 + 1
    stream = data[2:]
    whole = parse([stream], server_side, version)
    chopped = parse(
        [stream[i : i + step] for i in range(0, len(stream), step)], server_side, version
    )
    # Of a CONNECT refused for its size the version is told only if it is there.
    assert whole[:2] == chopped[:2], f"chunks of {step} bytes give something else"
    for packet in whole[0]:
        check_packet(packet, server_side, whole[2] or version)


def check_packet(packet: Packet, server_side: bool, version: int) -> None:
    """*packet*, which the parser took, encodes and reads back."""
    wire = serialize(packet, version)
    parser = Parser(len(wire), server_side, 16, 16)
    parser.version = 0 if wire[0] >> 4 == 1 else version
    parser.feed(wire)
    again = parser.next_packet()
    if version != MQTT5:
        assert again == packet, f"{packet} came back as {again}"
        return
    # Repeated properties come back next to each other, so the order may differ.
    assert again is not None
    assert serialize(again, version) == wire, f"{packet} came back as {again}"


def corpus() -> list[bytes]:
    """The wire vectors as inputs: a mode and a chopping in front."""
    inputs = []
    rows: list[Vector | Malformed] = [*VALID, *MALFORMED_VECTORS]
    for row in rows:
        side = row.sender == "client"
        for version in row.versions:
            connect = row.wire[0] >> 4 == 1
            mode = MODES.index((side, 0 if connect and side else version))
            inputs.append(bytes((mode, 2)) + row.wire)
    return inputs


def mutate(generator: random.Random, seeds: list[bytes]) -> bytes:
    """A seed, or some behind each other, with a few bytes changed."""
    data = bytearray(generator.choice(seeds))
    for _ in range(generator.choice((0, 0, 1, 3))):
        data += generator.choice(seeds)[2:]
    data[1] = generator.randrange(256)
    for _ in range(generator.choice((0, 1, 1, 2, 8))):
        place = generator.randrange(len(data))
        match generator.randrange(5):
            case 0:
                data[place] = generator.randrange(256)
            case 1:
                data[place] ^= 1 << generator.randrange(8)
            case 2:
                data[place] = generator.choice((0, 1, 2, 0x7F, 0x80, 0xFF))
            case 3:
                data[place:place] = generator.randbytes(generator.randrange(1, 5))
            case _:
                del data[place : place + generator.randrange(1, 5)]
                data += b"\0\0"[len(data) :]
    return bytes(data[:MAXIMUM_PACKET_SIZE])


def run_random(runs: int, seed: int, check_one: Callable[[bytes], None] = check) -> None:
    """*runs* mutated vectors; raises at the first failure, its input printed."""
    generator = random.Random(seed)
    seeds = corpus()
    for data in seeds[:runs]:
        _run_one(data, check_one)
    tracemalloc.start()
    try:
        for _ in range(max(0, runs - len(seeds))):
            _run_one(mutate(generator, seeds), check_one)
        peak = tracemalloc.get_traced_memory()[1]
        assert peak < MAXIMUM_MEMORY, f"memory grew to {peak} bytes"
    finally:
        tracemalloc.stop()


def _run_one(data: bytes, check_one: Callable[[bytes], None]) -> None:
    try:
        check_one(data)
    except Exception:
        print(f"failing input: {data.hex()}", file=sys.stderr)
        raise


def run_atheris(runs: int, seed: int) -> None:
    """Coverage guided; atheris ends the process when it is done."""
    library: Any = importlib.import_module("atheris")
    # Only modules that are imported from here on can be watched.
    for name in [name for name in sys.modules if name.startswith(("mqttd.", "tests."))]:
        del sys.modules[name]
    with library.instrument_imports(include=["mqttd.wire", "tests.fuzz"]):
        watched: Any = importlib.import_module("tests.fuzz.fuzz_parser")
    generator = random.Random(seed)
    seeds = corpus()

    def mutator(data: bytes, maximum: int, seed: int) -> bytes:
        # Half of the time a fresh vector, so that every packet type is met.
        generator.seed(seed)
        if len(data) < 2 or generator.random() < 0.5:
            return mutate(generator, seeds)[:maximum]
        mutated: bytes = library.Mutate(data, maximum)
        return mutated

    arguments = [sys.argv[0], f"-atheris_runs={runs}", f"-seed={seed}", "-max_len=4096"]
    library.Setup(
        [*arguments, "-rss_limit_mb=512", "-timeout=5", "-verbosity=0"],
        watched.check,
        custom_mutator=mutator,
    )
    library.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.fuzz_parser", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000, help="number of inputs")
    parser.add_argument("--seed", type=int, default=1, help="of the generator; not 0")
    parser.add_argument("--random", action="store_true", help="do not use atheris")
    parser.add_argument("--input", help="run one input, in hex, and nothing else")
    options = parser.parse_args()
    if options.input is not None:
        check(bytes.fromhex(options.input))
    elif options.random or importlib.util.find_spec("atheris") is None:
        run_random(options.runs, options.seed)
        print(f"{options.runs} inputs, no failure (random, seed {options.seed})")
    else:
        run_atheris(options.runs, options.seed)


if __name__ == "__main__":
    main()
