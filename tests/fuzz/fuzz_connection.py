"""Fuzz whole connections: ``python -m tests.fuzz.fuzz_connection --runs 100000``.

An input is what one client sends, from its CONNECT on, chopped and with some
time passing, to a broker that lives on from input to input. Whatever it is: no
exception may be logged, another client is served as before, what the broker
sends back must be packets, and when the client has gone nothing of it is left
but what the settings bound.

Coverage guided with atheris (``pip install atheris``); without it, or with
``--random``, inputs are mutations of the wire vectors from a seeded generator.
The first failure ends the run with a status that is not 0; its input is
printed in hex, or saved by atheris as a file crash-*. An input can depend on
those before it; ``--seed`` repeats the whole run.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import random
import sys
from collections.abc import Callable
from typing import Any

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import provider

from mqttd.settings import BrokerSettings, ProtocolSettings, RetainedSettings, SessionSettings
from mqttd.testing import VirtualBroker
from mqttd.wire.packets import (
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    SubscriptionRequest,
    Unsubscribe,
    Will,
)
from mqttd.wire.serializer import serialize
from tests.vectors import MALFORMED_VECTORS, VALID, Malformed, Vector

#: Bounds so small that they are met.
SETTINGS = BrokerSettings(
    protocol=ProtocolSettings(maximum_packet_size=4096, receive_maximum=4, topic_alias_maximum=4),
    session=SessionSettings(maximum_inflight=4, maximum_queued_messages=8, maximum_subscriptions=8),
    retained=RetainedSettings(maximum_messages=16),
    maximum_offline_sessions=8,
)

#: Inputs after which the broker's books are looked at.
ROUND = 200

FAILURES: list[Any] = []


@provider(ILogObserver)
def watch(event: LogEvent) -> None:
    """Note what the broker contains and logs: here it is a failure."""
    if "log_failure" in event:
        FAILURES.append(event["log_failure"])


class Target:
    """A broker that takes one input after the other."""

    def __init__(self) -> None:
        self.mqtt = VirtualBroker(SETTINGS)
        self.inputs = 0
        self.witness = self.mqtt.connect("witness")
        self.witness.subscribe("witness", qos=1)

    def check(self, data: bytes) -> None:
        """The first byte: version and chopping; the others: what the client sends."""
        if len(data) < 2:
            return
        version, step = data[0] % 3 + 3, data[1] or 4096
        stream = data[2:]
        client = self.mqtt.open(version)
        for start in range(0, len(stream), step):
            client.send_bytes(stream[start : start + step])
        # What was sent back is well-formed, in the language of the CONNECT.
        spoken = _spoken(stream)
        if spoken is not None:
            client._parser.version = spoken
            _ = client.received
        if data[1] & 1:
            client.drop()
        else:
            client.close()
        self.mqtt.advance(data[0] / 64)
        self._look()

    def _look(self) -> None:
        assert not FAILURES, FAILURES[0].getTraceback()
        broker = self.mqtt.broker
        assert not broker.metrics.errors, broker.metrics.errors
        self.inputs += 1
        self.mqtt.publish("witness", b"still here", 1)
        for message in self.witness.messages():
            if message.topic == "witness":
                self.witness.acknowledge(message)
        assert not self.witness.closed
        if self.inputs % ROUND == 0:
            self._look_closely()

    def _look_closely(self) -> None:
        broker = self.mqtt.broker
        assert list(broker.connections) == ["witness"], list(broker.connections)
        assert len(broker.sessions) <= 9
        assert broker.sessions.offline == len(broker.sessions) - 1
        assert broker.retained.count <= 16
        assert len(broker.router) <= 9 * 8
        assert len(broker.wheel) < 5_000
        for session in broker.sessions:
            assert session.queued <= 9
            assert len(session.inflight) <= 4
            assert len(session.awaiting_release or ()) <= 65_535


def _spoken(stream: bytes) -> int | None:
    """The version of the CONNECT that *stream* begins with, if it is plain to see."""
    for level, version in ((b"\x04MQTT\x05", 5), (b"\x04MQTT\x04", 4), (b"\x06MQIsdp\x03", 3)):
        if stream[:1] == b"\x10" and level in stream[:14]:
            return version
    return None


def corpus() -> dict[int, list[bytes]]:
    """What clients send, by version: the wire vectors, bad ones too."""
    vectors: dict[int, list[bytes]] = {3: [], 4: [], 5: []}
    rows: list[Vector | Malformed] = [*VALID, *MALFORMED_VECTORS]
    for row in rows:
        if row.sender == "client":
            for version in row.versions:
                vectors[version].append(row.wire)
    return vectors


def connects(version: int) -> list[bytes]:
    """CONNECTs that are accepted, of three client ids: sessions are resumed and taken over."""
    found = []
    for client_id in ("a", "b", "witness2"):
        for clean_start in (False, True):
            for will in (None, Will("a", b"gone", 1, True)):
                packet = Connect(client_id, version, clean_start, 60, will)
                if version == 5:
                    packet.properties = {"session_expiry_interval": 5, "topic_alias_maximum": 2}
                found.append(serialize(packet, version))
    return found


def sensible(generator: random.Random, version: int) -> Packet:
    """A packet that a connected client may well send; with few names and numbers,
    so that they meet."""
    packet_id = generator.randrange(1, 7)
    topics, filters = ("a", "a/b", "c/d/e", "$SYS/x"), ("a", "a/#", "+/b", "#", "$share/g/a/#")
    properties = Properties()
    match generator.choices(range(8), (8, 4, 2, 4, 3, 3, 2, 1))[0]:
        case 0:
            qos = generator.randrange(3)
            if version == 5:
                properties = generator.choice(_PUBLISH_PROPERTIES)()
            topic = generator.choice(topics)
            if "topic_alias" in properties and generator.random() < 0.5:
                topic = ""
            payload, retain = generator.choice((b"", b"x", bytes(300))), generator.random() < 0.3
            dup = bool(qos) and generator.random() < 0.2
            return Publish(topic, payload, qos, retain, dup, packet_id if qos else 0, properties)
        case 1:
            requests = [
                SubscriptionRequest(generator.choice(filters), generator.randrange(3))
                for _ in range(generator.randrange(1, 4))
            ]
            if version == 5 and generator.random() < 0.5:
                properties["subscription_identifier"] = [generator.randrange(1, 4)]
            return Subscribe(packet_id, requests, properties)
        case 2:
            return Unsubscribe(packet_id, [generator.choice(filters)])
        case 3:
            return Puback(packet_id)
        case 4:
            return Pubrec(packet_id, 0x80 if version == 5 and generator.random() < 0.2 else 0)
        case 5:
            return generator.choice((Pubrel, Pubcomp))(packet_id)
        case 6:
            return Pingreq()
        case _:
            return Disconnect(generator.choice((0, 4)) if version == 5 else 0)


_PUBLISH_PROPERTIES: tuple[Callable[[], Properties], ...] = (
    Properties,
    Properties,
    lambda: Properties(message_expiry_interval=1),
    lambda: Properties(topic_alias=1),
    lambda: Properties(topic_alias=2, user_property=[("k", "v"), ("k", "w")]),
    lambda: Properties(payload_format_indicator=1, response_topic="a", correlation_data=b"c"),
)


class Inputs:
    """Inputs from a generator: a CONNECT, sensible packets, vectors, changed bytes."""

    def __init__(self, generator: random.Random) -> None:
        self.generator = generator
        self.vectors = corpus()
        self.connects = {version: connects(version) for version in (3, 4, 5)}

    def make(self) -> bytes:
        generator = self.generator
        version = generator.choice((3, 4, 5, 5))
        stream = bytearray()
        if generator.random() < 0.95:
            stream += generator.choice(self.connects[version])
        for _ in range(generator.choice((1, 2, 4, 8, 16))):
            # Most packets good, or nothing behind the first would be reached.
            if generator.random() < 0.95:
                part = bytearray(serialize(sensible(generator, version), version))
            else:
                part = bytearray(generator.choice(self.vectors[version]))
            if generator.random() < 0.04:
                self._change(part)
            stream += part
        step = generator.choice((0, 0, 1, 2, 7, 100, 101))
        head = bytes((generator.randrange(84) * 3 + version - 3, step))
        return head + bytes(stream[:8192])

    def _change(self, part: bytearray) -> None:
        generator = self.generator
        for _ in range(generator.choice((1, 1, 2, 6))):
            if not part:
                return
            place = generator.randrange(len(part))
            match generator.randrange(4):
                case 0:
                    part[place] = generator.randrange(256)
                case 1:
                    part[place] ^= 1 << generator.randrange(8)
                case 2:
                    part[place:place] = generator.randbytes(generator.randrange(1, 4))
                case _:
                    del part[place]


def run_random(runs: int, seed: int) -> None:
    """*runs* inputs; raises at the first failure, its input printed."""
    inputs = Inputs(random.Random(seed))
    globalLogPublisher.addObserver(watch)
    try:
        target = Target()
        for _ in range(runs):
            data = inputs.make()
            try:
                target.check(data)
            except BaseException:
                print(f"failing input: {data.hex()}", file=sys.stderr)
                raise
    finally:
        globalLogPublisher.removeObserver(watch)
        FAILURES.clear()


def run_atheris(runs: int, seed: int) -> None:
    """Coverage guided; atheris ends the process when it is done."""
    library: Any = importlib.import_module("atheris")
    # Only modules that are imported from here on can be watched.
    for name in [name for name in sys.modules if name.startswith(("mqttd.", "tests."))]:
        del sys.modules[name]
    with library.instrument_imports(include=["mqttd.broker", "tests.fuzz"]):
        watched: Any = importlib.import_module("tests.fuzz.fuzz_connection")
    globalLogPublisher.addObserver(watched.watch)
    target = watched.Target()
    generator = random.Random(seed)
    inputs = Inputs(generator)

    def mutator(data: bytes, maximum: int, seed: int) -> bytes:
        # Half of the time a fresh input, so that every packet type is met.
        generator.seed(seed)
        if len(data) < 2 or generator.random() < 0.5:
            return inputs.make()[:maximum]
        mutated: bytes = library.Mutate(data, maximum)
        return mutated

    arguments = [sys.argv[0], f"-atheris_runs={runs}", f"-seed={seed}", "-max_len=8192"]
    library.Setup(
        [*arguments, "-rss_limit_mb=512", "-timeout=10", "-verbosity=0"],
        target.check,
        custom_mutator=mutator,
    )
    library.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.fuzz_connection", description=__doc__
    )
    parser.add_argument("--runs", type=int, default=100_000, help="number of inputs")
    parser.add_argument("--seed", type=int, default=1, help="of the generator; not 0")
    parser.add_argument("--random", action="store_true", help="do not use atheris")
    parser.add_argument("--input", help="run one input, in hex, and nothing else")
    options = parser.parse_args()
    if options.input is not None:
        globalLogPublisher.addObserver(watch)
        Target().check(bytes.fromhex(options.input))
    elif options.random or importlib.util.find_spec("atheris") is None:
        run_random(options.runs, options.seed)
        print(f"{options.runs} inputs, no failure (random, seed {options.seed})")
    else:
        run_atheris(options.runs, options.seed)


if __name__ == "__main__":
    main()
