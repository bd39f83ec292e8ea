"""Every way from a message to a socket passes the rules.

First by walking: the places in the code that bring a message nearer to a client, or
a client's message into the broker, are listed with the check that each has. A new
one fails here until somebody has looked for its check and written it down. Then by
trying: clients do everything they can while the rules change, and nobody ever gets
what the rules of that moment do not allow.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import pytest
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from mqttd.interfaces import PUBLISH, RECEIVE, SUBSCRIBE, AccessRequest, IAuthorizer
from mqttd.testing import VirtualBroker
from mqttd.wire.codes import MQTT5, MQTT311
from mqttd.wire.packets import Publish, Subscribe, SubscriptionRequest, Will
from tests.conftest import seeds

PACKAGE = Path(__file__).parent.parent.parent / "mqttd"

# --- walking ----------------------------------------------------------------------------

#: Calls that take a message towards a client, or into the broker.
STEPS = {
    "send_message",
    "_transmit",
    "_write",
    "inbox.put",
    "deliver",
    "publisher.publish",
    "publisher.deliver",
    "retained.store",
    "transport.write",
    "transport.write_now",
}

#: Module and function -> why nothing slips through there.
CHECKED = {
    # Bytes to a client. PUBLISH is written in two places:
    "connection.send_message": "called by Session._transmit and _write, which see",
    "fast_lane._take_publishes": "receivers are those that `judged` allows; others go by deliver",
    "fast_lane.take_alone": "the same, and there are no others",
    "fast_lane._send_with_ids": "the same receivers",
    # ... handed over as an object in one:
    "inprocess.send_message": "called by Session._transmit and _write, which see",
    # ... and these are answers:
    "connection.send": "no PUBLISH: packets of the protocol machine",
    "connection._pingreq": "PINGRESP",
    "fast_lane._take_acknowledgements": "PUBREL and PUBCOMP",
    "receipts.acknowledge": "PUBACK and PUBREC",
    "receipts._let_go": "PUBACK and PUBREC",
    "receiving.acknowledge": "PUBACK and PUBREC",
    "receiving.pubrel": "PUBCOMP",
    "hashing.compare": "a password to the process that hashes it",
    # From a session to its client:
    "session._send": "asks may_receive, for what is new, queued, retained or repeated",
    "session._answered": "the answer to that question",
    "session._transmit": "called by _send and _answered alone",
    "session._write": "called by _transmit",
    "durable_session._transmit": "as in session",
    "durable_session._transmit_first": "called by _transmit",
    "durable_session._safe": "asks may_receive again: the rules may have changed meanwhile",
    # Towards sessions, which ask when they send:
    "publish.route": "a session asks when it sends",
    "publish.deliver": "a session asks when it sends",
    "publish._route_shared": "a session asks when it sends",
    "thinning._send": "a session asks when it sends",
    "fast_lane._deliver": "a session asks when it sends",
    # Into the broker:
    "receiving.route": "called after guard.allowed(PUBLISH), on what hooks have made of it",
    "publish.publish": "whoever brings a message has had it checked",
    "wills._send": "guard.allowed(PUBLISH) in fire, again after hooks",
    "hooked._publish_will": "_will_may asks about what the hooks have changed",
    "delayed._decided": "guard.allowed(PUBLISH) when it is due",
    "broker.publish": "the broker itself speaks, or the program that embeds it",
}


def steps(path: Path) -> Iterator[tuple[str, str]]:
    """Functions that take such a step, with the step."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        for inner in ast.walk(node):
            if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute):
                called = ast.unparse(inner.func)
                if any(called == step or called.endswith(f".{step}") for step in STEPS):
                    yield f"{path.stem}.{node.name}", called


def test_every_step_of_a_message_is_known_and_has_its_check() -> None:
    found: dict[str, set[str]] = {}
    for folder in ("broker", "hooks", "admin", "access"):
        for path in sorted((PACKAGE / folder).glob("*.py")):
            for name, step in steps(path):
                found.setdefault(name, set()).add(step)
    unknown = {name: sorted(found[name]) for name in found.keys() - CHECKED.keys()}
    assert not unknown, "look for the check of these, and write it down in CHECKED"
    gone = CHECKED.keys() - found.keys()
    assert not gone, "these are no steps any more"


# --- trying ------------------------------------------------------------------------------

TOPICS = ("a", "a/b", "b", "b/c")
FILTERS = ("#", "a/#", "+", "b/c", "$share/g/#", "$share/h/a/#")
NAMES = ("p", "q", "r")


@implementer(IAuthorizer)
class Moody:
    """Allows two thirds of all there is, others in each epoch; sometimes later."""

    checks = frozenset({PUBLISH, SUBSCRIBE, RECEIVE})

    def __init__(self, source: Random, looks_up: bool) -> None:
        self.epoch = 0
        self.time_to_live = 5.0
        self._source = source
        self._looks_up = looks_up
        self.waiting: list[tuple[Deferred[bool], AccessRequest]] = []

    def allows(self, client_id: str, action: str, topic: str, epoch: int | None = None) -> bool:
        epoch = self.epoch if epoch is None else epoch
        return crc32(f"{epoch} {client_id} {action} {topic}".encode()) % 3 > 0

    def authorize(self, request: AccessRequest) -> bool | Deferred[bool]:
        if not self._looks_up or self._source.random() < 0.5:
            return self.allows(request.client_id, request.action, request.topic)
        if self._source.random() < 0.5:
            return succeed(self.allows(request.client_id, request.action, request.topic))
        answer: Deferred[bool] = Deferred()
        self.waiting.append((answer, request))
        return answer

    def answer_all(self) -> None:
        while self.waiting:
            answer, request = self.waiting.pop(0)
            answer.callback(self.allows(request.client_id, request.action, request.topic))


class Walk:
    """Some clients that do what they like, and what they may get."""

    def __init__(self, seed: int, looks_up: bool) -> None:
        self.source = Random(seed)
        self.rules = Moody(self.source, looks_up)
        self.virtual = VirtualBroker(authorizer=self.rules)
        self.clients: dict[str, Any] = {}
        self.number = 0
        for name in NAMES:
            self.come(name)

    def come(self, name: str) -> None:
        version = self.source.choice((MQTT311, MQTT5))
        will = None
        if self.source.random() < 0.5:
            will = Will(self.source.choice(TOPICS), self.payload(name), 1, self.chance())
        session = {"session_expiry_interval": 100} if version >= MQTT5 else {}
        client = self.virtual.connect(
            name, version, clean_start=self.source.random() < 0.2, will=will, **session
        )
        self.settle()
        if client.connack is None or client.connack.reason:
            client = self.virtual.connect(name, version, clean_start=False, **session)
            self.settle()
        self.clients[name] = client

    def chance(self) -> bool:
        return self.source.random() < 0.3

    def payload(self, name: str) -> bytes:
        self.number += 1
        return f"{name} {self.number}".encode()

    def settle(self) -> None:
        while self.rules.waiting:
            self.rules.answer_all()
            self.virtual.advance()

    def step(self) -> None:
        source = self.source
        name = source.choice(NAMES)
        client = self.clients[name]
        kind = source.choices(("publish", "subscribe", "leave", "rules", "time"), (9, 3, 2, 2, 1))[
            0
        ]
        if client.closed or kind == "leave":
            client.drop()
            self.virtual.advance()
            self.settle()
            self.check()
            self.come(name)
        elif kind == "publish":
            topic, qos, retain = source.choice(TOPICS), source.randrange(3), self.chance()
            client.send(
                *(
                    Publish(topic, self.payload(name), qos, retain, packet_id=n if qos else 0)
                    for n in range(self.number + 1, self.number + source.randint(2, 5))
                )
            )
        elif kind == "subscribe":
            request = SubscriptionRequest(source.choice(FILTERS), source.randrange(3))
            client.send(Subscribe(7, [request]))
        elif kind == "rules":
            self.rules.epoch += 1
            self.virtual.broker.rules_changed()
        else:
            self.virtual.advance(source.choice((0.5, 6)))
        self.virtual.advance()
        self.settle()
        self.check()

    def check(self) -> None:
        """What has come since the last step may come by the rules of now."""
        for name, client in self.clients.items():
            for packet in client.received:
                if isinstance(packet, Publish):
                    assert self.rules.allows(name, RECEIVE, packet.topic), (name, packet)
                    publisher = packet.payload.decode().split()[0]
                    if packet.retain:
                        assert self.rules.allows(publisher, PUBLISH, packet.topic), packet
                    self.acknowledge(client, packet)
            client.received.clear()

    def acknowledge(self, client: Any, packet: Publish) -> None:
        if packet.qos and not client.closed and self.source.random() < 0.7:
            client.acknowledge(packet)


@pytest.mark.parametrize("looks_up", [False, True])
@pytest.mark.parametrize("seed", seeds(20))
def test_nobody_gets_what_the_rules_of_the_moment_do_not_allow(seed: int, looks_up: bool) -> None:
    walk = Walk(seed, looks_up)
    for _ in range(150):
        walk.step()
    metrics = walk.virtual.broker.metrics
    # It would be no test if nothing came, or nothing was denied.
    assert sum(metrics.messages_sent) > 20
    assert metrics.dropped["denied"] + metrics.dropped["not-authorized"] > 5
