"""The regression guard: what the core scenarios cost, in executed instructions.

``python -m bench.guard`` drives a whole broker in this process, on virtual time and
without sockets, and counts the bytecode instructions that run in ``mqttd`` for
each message, connection or filter. A count does not depend on how busy the machine
is, so a difference is a change in the code. It is compared with the table for this
Python version in ``guard.toml``; ``--update`` writes that table anew.

It does not see what a single instruction costs (a slice, a join, a system call), nor
the time spent in C or in Twisted: for that there is the rest of ``bench``.
"""

from __future__ import annotations

import argparse
import random
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from attrs import evolve

import mqttd
from mqttd.access.authorizer import AccessControl
from mqttd.access.build import FileSource
from mqttd.access.rule_file import parse_rules
from mqttd.settings import BrokerSettings, HTTPSettings, SessionSettings
from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.codes import MQTT5, MQTT311
from mqttd.wire.packets import (
    Connect,
    Disconnect,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    SubscriptionRequest,
    Unsubscribe,
)
from mqttd.wire.serializer import serialize

TABLE = Path(__file__).with_name("guard.toml")
#: A scenario may cost this part more than the table says.
TOLERANCE = 0.02
#: Below this part less, the table is out of date.
NOTABLE = 0.02

#: Messages in one chunk of input.
COUNT = 64
#: For the scenarios that have some.
RULES = '[[rule]]\nallow = "all"\ntopics = ["guard/#"]'
#: Where the code stands whose instructions count; the harness is not part of it.
PACKAGE = str(Path(mqttd.__file__).parent)
NOT_COUNTED = str(Path(mqttd.__file__).parent / "testing")

#: What to measure, and how many messages or operations it handles.
Prepared = tuple[Callable[[], None], int]


class Counter:
    """Counts the instructions that run in the package while it is active."""

    def __init__(self) -> None:
        self.count = 0
        self._wanted: dict[str, bool] = {}

    def measure(self, action: Callable[[], None]) -> int:
        """How many instructions *action* runs."""
        self.count = 0
        previous = sys.gettrace()
        sys.settrace(self._called)
        try:
            action()
        finally:
            sys.settrace(previous)
        return self.count

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        wanted = self._wanted.get(name)
        if wanted is None:
            wanted = name.startswith(PACKAGE) and not name.startswith(NOT_COUNTED)
            self._wanted[name] = wanted
        if not wanted:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._traced

    def _traced(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode":
            self.count += 1
        return self._traced


def _broker() -> VirtualBroker:
    session = evolve(SessionSettings(), maximum_inflight=65_535)
    # One of 16 connections is looked at more closely, the first among them.
    http = HTTPSettings(latency_sample=0)
    return VirtualBroker(BrokerSettings(session=session, http=http))


def _feed(client: VirtualClient, data: bytes) -> None:
    """One chunk of input, as the reactor would hand it on."""
    protocol: Any = client.transport.protocol
    protocol.dataReceived(data)


def _messages(qos: int, version: int, mixed: bool = False, properties: bool = False) -> bytes:
    """COUNT PUBLISH packets: all alike, or of many sizes and 16 topics."""
    source = random.Random(1)
    held: Any = {"user_property": [("name", "a value of 16 b")] * 3} if properties else {}
    frames = []
    for number in range(COUNT):
        size = source.randint(32, 96) if mixed else 64
        topic = f"guard/pair/{source.randrange(16) if mixed else 0:02}"
        identifier = number + 1 if qos else 0
        packet = Publish(topic, b"x" * size, qos, packet_id=identifier, properties=held)
        frames.append(serialize(packet, version))
    return b"".join(frames)


def _answers(client: VirtualClient, kind: Callable[[int], Packet]) -> bytes:
    """An acknowledgement of all that the broker has sent and not seen answered."""
    protocol: Any = client.transport.protocol
    identifiers = protocol.connection.session.inflight
    return b"".join(serialize(kind(number), client.version) for number in identifiers)


def traffic(
    qos: int,
    *,
    version: int = MQTT311,
    mixed: bool = False,
    properties: bool = False,
    publishers: int = 1,
    subscribers: int = 1,
    ruled: bool = False,
    group: str = "",
) -> Prepared:
    """Messages from each publisher to each subscriber; acknowledged to the end."""
    virtual = _broker()
    if ruled:
        clock = virtual.clock
        source = FileSource("rules", parse_rules(RULES))
        virtual.broker.authorizer = AccessControl(clock, clock.seconds, [source])
    sinks = [virtual.connect(f"sink{number}", version) for number in range(subscribers)]
    for sink in sinks:
        sink.subscribe(f"{group}guard/pair/+", qos=qos)
    sources = [virtual.connect(f"source{number}", version) for number in range(publishers)]
    frames = _messages(qos, version, mixed, properties)
    releases = b"".join(serialize(Pubrel(number + 1), version) for number in range(COUNT))
    metrics = virtual.broker.metrics
    messages = COUNT * publishers * (1 if group else subscribers)

    def action() -> None:
        before = sum(metrics.messages_sent)
        for source in sources:
            _feed(source, frames)
        for sink in sinks:
            if qos == 1:
                _feed(sink, _answers(sink, Puback))
            elif qos == 2:
                _feed(sink, _answers(sink, Pubrec))
                _feed(sink, _answers(sink, Pubcomp))
        if qos == 2:
            for source in sources:
                _feed(source, releases)
        for client in (*sources, *sinks):
            client.transport.take()
        sent = sum(metrics.messages_sent) - before
        if sent != messages:
            raise AssertionError(f"{sent} messages were sent")

    return action, messages


def alone() -> Prepared:
    """QoS 1 messages to one client, each in a chunk of its own, as its PUBACK."""
    virtual = _broker()
    sink, source = (virtual.connect(name, MQTT311) for name in ("sink", "source"))
    sink.subscribe("guard/pair/+", qos=1)
    frames = _messages(1, MQTT311)
    frame = frames[: len(frames) // COUNT]
    answers = [serialize(Puback(number), MQTT311) for number in range(1, 65_536)]
    protocol: Any = sink.transport.protocol
    metrics = virtual.broker.metrics

    def action() -> None:
        before = sum(metrics.messages_sent)
        for _ in range(COUNT):
            _feed(source, frame)
            (number,) = protocol.connection.session.inflight
            _feed(sink, answers[number - 1])
            source.transport.take()
            sink.transport.take()
        if sum(metrics.messages_sent) - before != COUNT:
            raise AssertionError("not every message was sent")

    return action, COUNT


def connections() -> Prepared:
    """CONNECT, CONNACK, DISCONNECT and the end."""
    virtual = _broker()
    greeting = serialize(Connect("guard", clean_start=True, keep_alive=60), MQTT311)
    farewell = serialize(Disconnect(), MQTT311)

    def action() -> None:
        for _ in range(COUNT):
            client = virtual.open(MQTT311)
            _feed(client, greeting)
            _feed(client, farewell)
            virtual.advance()
        if virtual.broker.connections:
            raise AssertionError("a connection is left")

    return action, COUNT


def subscriptions() -> Prepared:
    """SUBSCRIBE and UNSUBSCRIBE, exact filters and wildcards in turn."""
    virtual = _broker()
    client = virtual.connect("guard", MQTT311)
    packets: list[Packet] = []
    for number in range(COUNT):
        wanted = f"guard/{number}/" + ("+/x", "#", "a/x")[number % 3]
        packets.append(Subscribe(number + 1, [SubscriptionRequest(wanted, 1)]))
        packets.append(Unsubscribe(number + 1, [wanted]))
    order = sorted(packets, key=lambda packet: isinstance(packet, Unsubscribe))
    data = b"".join(serialize(packet, MQTT311) for packet in order)

    def action() -> None:
        _feed(client, data)
        client.transport.take()
        if len(virtual.broker.router):
            raise AssertionError("a subscription is left")

    return action, COUNT


def retained() -> Prepared:
    """Retained messages sent to a new subscription."""
    virtual = _broker()
    client = virtual.connect("guard", MQTT311)
    for number in range(COUNT):
        virtual.publish(f"guard/{number}/state", b"x" * 64, 0, retain=True)
    data = serialize(Subscribe(1, [SubscriptionRequest("guard/+/state", 0)]), MQTT311)
    end = serialize(Unsubscribe(1, ["guard/+/state"]), MQTT311)
    metrics = virtual.broker.metrics

    def action() -> None:
        before = sum(metrics.messages_sent)
        _feed(client, data)
        virtual.advance()
        _feed(client, end)
        client.transport.take()
        if sum(metrics.messages_sent) - before != COUNT:
            raise AssertionError("not every retained message was sent")

    return action, COUNT


def offline() -> Prepared:
    """Messages into the queue of a client that is away; it comes back for them."""
    virtual = _broker()
    sink = virtual.connect("sink", MQTT311, clean_start=False)
    sink.subscribe("guard/pair/+", qos=1)
    sink.transport.close()
    virtual.advance()
    source = virtual.connect("source", MQTT311)
    frames = _messages(1, MQTT311)
    greeting = serialize(Connect("sink", clean_start=False, keep_alive=60), MQTT311)
    metrics = virtual.broker.metrics

    def action() -> None:
        before = sum(metrics.messages_sent)
        _feed(source, frames)
        client = virtual.open(MQTT311)
        _feed(client, greeting)
        virtual.advance()
        _feed(client, _answers(client, Puback))
        client.transport.close()
        virtual.advance()
        source.transport.take()
        if sum(metrics.messages_sent) - before != COUNT:
            raise AssertionError("not every queued message was sent")

    return action, COUNT


SCENARIOS: dict[str, Callable[[], Prepared]] = {
    "q0": lambda: traffic(0),
    "q1": lambda: traffic(1),
    "q2": lambda: traffic(2),
    "mixed-q0": lambda: traffic(0, mixed=True),
    "mixed-q1": lambda: traffic(1, mixed=True),
    "mixed-q2": lambda: traffic(2, mixed=True),
    "v5-q1-user3": lambda: traffic(1, version=MQTT5, mixed=True, properties=True),
    "out100-q0": lambda: traffic(0, subscribers=100),
    "out100-q1": lambda: traffic(1, subscribers=100),
    "in100-q1": lambda: traffic(1, publishers=100),
    "ruled-q0": lambda: traffic(0, ruled=True),
    "ruled-q1": lambda: traffic(1, ruled=True),
    "shared-q0": lambda: traffic(0, subscribers=4, group="$share/g/"),
    "shared-q1": lambda: traffic(1, subscribers=4, group="$share/g/"),
    "alone-q1": alone,
    "connect": connections,
    "subscribe": subscriptions,
    "retained": retained,
    "offline": offline,
}


def measure(name: str) -> float:
    """Instructions for each message or operation of the scenario *name*."""
    action, operations = SCENARIOS[name]()
    counter = Counter()
    # What is done once (a route learned, a plan made) is done now.
    action()
    action()
    return counter.measure(action) / operations


def _python() -> str:
    # Instructions are those of one version's compiler.
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _load() -> dict[str, dict[str, float]]:
    if not TABLE.exists():
        return {}
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def _store(tables: dict[str, dict[str, float]]) -> None:
    lines = ["# Bytecode instructions for each message; written by python -m bench.guard --update."]
    for version, rows in sorted(tables.items()):
        lines += ["", f'["{version}"]', *(f"{name} = {rows[name]:.2f}" for name in rows)]
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def compare(found: dict[str, float], table: dict[str, float], tolerance: float) -> bool:
    """Print what was *found* beside the *table*; whether all of it is within tolerance."""
    good = True
    print(f"{'instructions of mqttd':<24}{'table':>10}{'now':>10}{'change':>9}")
    for name, now in found.items():
        before = table.get(name)
        if before is None:
            good = False
            print(f"{name:<24}{'-':>10}{now:>10.1f}           not in the table")
            continue
        change = now / before - 1
        note = ""
        if change > tolerance:
            good = False
            note = "  WORSE"
        elif change < -NOTABLE:
            note = "  better: --update keeps it"
        print(f"{name:<24}{before:>10.1f}{now:>10.1f}{change:>+9.1%}{note}")
    return good


def main() -> int:
    """Measure and compare; 1 if a scenario has become dearer."""
    parser = argparse.ArgumentParser(prog="python -m bench.guard", description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the table anew")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="a part of 1")
    options = parser.parse_args()
    if mqttd.__compiled__:
        print("This build of mqttd is compiled: it runs no bytecode that could be counted.")
        return 2
    found = {name: measure(name) for name in SCENARIOS}
    if not all(found.values()):
        print(f"Python {sys.version.split()[0]} shows its opcodes to no trace function; 3.11 does.")
        return 2
    tables = _load()
    if options.update:
        tables[_python()] = found
        _store(tables)
        print(f"wrote {TABLE}")
        return 0
    if _python() not in tables:
        print(f"No table for Python {_python()}; it has {', '.join(tables) or 'none'}.")
        return 2
    return 0 if compare(found, tables[_python()], options.tolerance) else 1


if __name__ == "__main__":
    sys.exit(main())
