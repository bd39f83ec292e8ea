"""The fast lane does what the plain way does: byte for byte, client by client."""

from __future__ import annotations

from random import Random
from typing import Any
from zlib import crc32

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from mqttd.broker import fast_lane
from mqttd.broker.metrics import Histogram, Metrics
from mqttd.interfaces import PUBLISH, RECEIVE, SUBSCRIBE, AccessRequest, IAuthorizer
from mqttd.settings import BrokerSettings, Overflow, SessionSettings, SharedStrategy
from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.codes import MQTT5, MQTT311, ReasonCode
from mqttd.wire.packets import (
    Disconnect,
    Packet,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    SubscriptionRequest,
)
from mqttd.wire.serializer import serialize
from tests.broker.doubles import Rules
from tests.conftest import seeds

TOPICS = ("a", "a/b", "a/b/c", "long/" * 40 + "end", "é/☃")
FILTERS = ("#", "a/#", "+/b", "a", "é/☃", "$share/g/a/#")


def bounded(**fields: Any) -> BrokerSettings:
    return BrokerSettings(session=evolve(SessionSettings(), **fields))


def counters(metrics: Metrics) -> dict[str, Any]:
    """What was counted; how long it took is another matter."""
    return {
        name: value
        for name in dir(metrics)
        if name[0] != "_" and not isinstance(value := getattr(metrics, name), Histogram)
    }


class Pair:
    """The same clients on two brokers: one with the lane and one without."""

    def __init__(self, brokers: tuple[VirtualBroker, VirtualBroker]) -> None:
        brokers[1].broker.use_fast_lane = False
        self.brokers = brokers
        self.clients: dict[str, tuple[VirtualClient, VirtualClient]] = {}

    def connect(self, name: str, version: int, **fields: Any) -> None:
        fast, plain = (broker.connect(name, version, **fields) for broker in self.brokers)
        self.clients[name] = (fast, plain)

    def each(self, name: str, act: Any) -> None:
        for client in self.clients[name]:
            act(client)

    def received(self, name: str) -> list[Packet]:
        """What both got, after seeing that it is the same."""
        fast, plain = self.clients[name]
        # The lane answers a run at once, so kinds may mingle in another order
        # where a client receives what it publishes itself.
        kinds = {packet.type for packet in (*fast.received, *plain.received)}
        for kind in sorted(kinds):
            assert [p for p in fast.received if p.type is kind] == [
                p for p in plain.received if p.type is kind
            ]
        packets = list(plain.received)
        fast.received.clear()
        plain.received.clear()
        assert fast.closed_reason == plain.closed_reason
        return packets

    def check_counters(self) -> None:
        fast, plain = (broker.broker.metrics for broker in self.brokers)
        assert counters(fast) == counters(plain)


def answer(packets: list[Packet], whole: bool) -> bytes:
    """The client's acknowledgements; of a part of them if not *whole*."""
    answers: list[Packet] = []
    for packet in packets if whole else packets[::2]:
        if isinstance(packet, Publish) and packet.qos:
            answers.append((Puback if packet.qos == 1 else Pubrec)(packet.packet_id))
        elif isinstance(packet, Pubrel):
            answers.append(Pubcomp(packet.packet_id))
        elif isinstance(packet, Pubrec) and packet.reason < 0x80:
            answers.append(Pubrel(packet.packet_id))
    return b"".join(serialize(packet, MQTT311) for packet in answers)


POLICIES = (
    BrokerSettings(),
    bounded(maximum_inflight=3),
    bounded(maximum_queued_messages=4),
    # Never full: who is let go on first is not the same on both ways.
    bounded(overflow=Overflow.PAUSE_PUBLISHERS),
    bounded(upgrade_qos=True),
    bounded(queue_qos0=True),
)
ABILITIES: tuple[dict[str, int], ...] = (
    {},
    {},
    {"maximum_packet_size": 100},
    {"topic_alias_maximum": 2},
    {"receive_maximum": 2},
)


def any_subscription(source: Random) -> SubscriptionRequest:
    topic_filter = source.choice(FILTERS)
    no_local = source.random() < 0.3 and not topic_filter.startswith("$share")
    return SubscriptionRequest(topic_filter, source.randrange(3), no_local, source.random() < 0.3)


def any_message(source: Random) -> Publish:
    qos = source.randrange(3)
    return Publish(
        source.choice(TOPICS),
        source.choice((b"", b"x", b"y" * 200)),
        qos,
        retain=source.random() < 0.1,
        packet_id=source.randint(1, 6) if qos else 0,
        properties=source.choice(
            (
                *[Properties()] * 6,
                Properties(user_property=[("k", "v")]),
                Properties(message_expiry_interval=9),
            )
        ),
    )


def any_run(source: Random) -> list[tuple[Publish, int]]:
    run: list[tuple[Publish, int]] = []
    for _ in range(source.randint(1, 4)):
        message = any_message(source)
        if message.qos and source.random() < 0.7:
            # Packet ids that differ, as a well-behaved client's do.
            run += [(evolve(message, packet_id=n), 1) for n in source.sample(range(1, 99), 6)]
        else:
            run.append((message, source.randint(1, 8)))
    return run


def any_step(source: Random) -> tuple[Any, ...]:
    name = source.choice("pqrs")
    kind = source.choices(("publish", "answer", "stall", "resume", "subscribe"), (8, 6, 2, 1, 1))[0]
    details: tuple[Any, ...] = ()
    if kind == "publish":
        details = (any_run(source), source.choice((7, 100, 5000)))
    elif kind in ("answer", "stall"):
        details = (source.random() < 0.6,)
    elif kind == "subscribe":
        details = (any_subscription(source), source.randrange(2))
    return kind, name, *details


def send(pair: Pair, name: str, run: list[tuple[Publish, int]], chunk: int) -> None:
    def act(client: VirtualClient) -> None:
        data = b"".join(serialize(packet, client.version) * times for packet, times in run)
        for start in range(0, len(data), chunk):
            client.send_bytes(data[start : start + chunk])

    pair.each(name, act)


def send_alone(pair: Pair, name: str, run: list[tuple[Publish, int]]) -> None:
    """Each packet in a chunk of its own."""
    for packet, times in run:
        for _ in range(times):
            pair.each(name, lambda client: client.send(packet))  # noqa: B023  called here


def act(pair: Pair, step: tuple[Any, ...], unanswered: dict[str, list[Packet]]) -> None:
    kind, name = step[:2]
    if kind == "publish":
        send(pair, name, step[2], step[3])
    elif kind == "answer":
        data = answer(unanswered.pop(name, []), step[2])
        if data:
            pair.each(name, lambda client: client.send_bytes(data))
    elif kind == "stall":
        if step[2]:
            pair.each(name, VirtualClient.stop_reading)
        else:
            pair.each(name, VirtualClient.start_reading)
    elif kind == "resume":
        version = pair.clients[name][0].version
        pair.each(name, VirtualClient.drop)
        unanswered.pop(name, None)
        pair.connect(name, version, clean_start=False, **session_of(version))
    else:
        properties = Properties(subscription_identifier=[7]) if step[3] else Properties()
        # Sent and not waited for: a publisher that is held back is not read.
        pair.each(name, lambda client: client.send(Subscribe(77, [step[2]], properties)))


def session_of(version: int) -> dict[str, int]:
    return {"session_expiry_interval": 100} if version >= MQTT5 else {}


@implementer(IAuthorizer)
class Moody:
    """Refuses a quarter of all there is, another one in each epoch."""

    checks = frozenset({PUBLISH, SUBSCRIBE, RECEIVE})

    def __init__(self) -> None:
        self.epoch = 0
        self.asked: set[tuple[int, str, str, str]] = set()

    def authorize(self, request: AccessRequest) -> bool | Deferred[bool]:
        question = (self.epoch, request.client_id, request.action, request.topic)
        allowed = crc32(repr(question).encode()) % 4 > 0
        first = question not in self.asked
        self.asked.add(question)
        return succeed(allowed) if first and request.qos == 2 else allowed


@pytest.mark.parametrize("ruled", [False, True])
@pytest.mark.parametrize("seed", seeds(48))
def test_two_ways_one_result(seed: int, ruled: bool) -> None:
    source = Random(seed)
    policy = POLICIES[seed % len(POLICIES)]
    moods = (Moody(), Moody())
    fast, plain = (VirtualBroker(policy, authorizer=mood if ruled else None) for mood in moods)
    pair = Pair((fast, plain))
    for name in "pqrs":
        version = source.choice((MQTT311, MQTT5))
        ability = source.choice(ABILITIES) if version >= MQTT5 else {}
        pair.connect(name, version, clean_start=False, **session_of(version), **ability)
        for _ in range(source.randrange(3)):
            act(pair, ("subscribe", name, any_subscription(source), 0), {})
    unanswered: dict[str, list[Packet]] = {}
    for number, step in enumerate([any_step(source) for _ in range(80)]):
        if ruled and number % 16 == 15:
            for mood, broker in zip(moods, pair.brokers, strict=True):
                mood.epoch += 1
                broker.broker.rules_changed()
        if all(not client.closed for client in pair.clients[step[1]]):
            act(pair, step, unanswered)
        for name in pair.clients:
            unanswered.setdefault(name, []).extend(pair.received(name))
    pair.check_counters()


@pytest.mark.parametrize("ruled", [False, True])
@pytest.mark.parametrize("seed", seeds(18))
def test_messages_that_come_alone(seed: int, ruled: bool) -> None:
    """Packet by packet, to nobody or to one, which has a shorter way of its own."""
    source = Random(seed)
    policy = POLICIES[seed % len(POLICIES)]
    if seed % 3 == 2:
        small = evolve(policy.protocol, maximum_packet_size=source.randint(100, 128))
        policy = evolve(policy, protocol=small)
    fast, plain = (VirtualBroker(policy, authorizer=Moody() if ruled else None) for _ in "ab")
    pair = Pair((fast, plain))
    for name in "pq":
        version = source.choice((MQTT311, MQTT5))
        ability = source.choice(ABILITIES) if version >= MQTT5 else {}
        pair.connect(name, version, clean_start=False, **session_of(version), **ability)
    wanted = SubscriptionRequest(source.choice(("a", "a/#")), source.randrange(3))
    # A client may be its own receiver.
    act(pair, ("subscribe", source.choice("pq"), wanted, source.randrange(2)), {})
    unanswered: dict[str, list[Packet]] = {}
    for _ in range(60):
        kind, name, *details = any_step(source)
        name = "p" if name in "pr" else "q"
        if kind == "subscribe" or any(client.closed for client in pair.clients[name]):
            continue
        if kind == "publish":
            send_alone(pair, name, details[0])
        else:
            act(pair, (kind, name, *details), unanswered)
        for each in pair.clients:
            unanswered.setdefault(each, []).extend(pair.received(each))
    pair.check_counters()


DETERMINATE = [
    SharedStrategy.ROUND_ROBIN,
    SharedStrategy.HASH_CLIENT,
    SharedStrategy.HASH_TOPIC,
    SharedStrategy.LEAST_INFLIGHT,
]


@pytest.mark.parametrize("strategy", DETERMINATE)
@pytest.mark.parametrize("ruled", [False, True])
@pytest.mark.parametrize("seed", seeds(6))
def test_groups_choose_the_same_member_on_both_ways(
    seed: int, ruled: bool, strategy: SharedStrategy
) -> None:
    source = Random(seed)
    policy = evolve(POLICIES[seed % len(POLICIES)], shared_strategy=strategy)
    fast, plain = (VirtualBroker(policy, authorizer=Moody() if ruled else None) for _ in "ab")
    pair = Pair((fast, plain))
    for name in "pqrs":
        version = source.choice((MQTT311, MQTT5))
        ability = source.choice(ABILITIES) if version >= MQTT5 else {}
        pair.connect(name, version, clean_start=False, **session_of(version), **ability)
        for topic_filter in ("$share/g/a/#", source.choice(("$share/h/#", "a/+", "$queue/a"))):
            wanted = SubscriptionRequest(topic_filter, source.randrange(3))
            act(pair, ("subscribe", name, wanted, source.randrange(2)), {})
    unanswered: dict[str, list[Packet]] = {}
    for step in [any_step(source) for _ in range(80)]:
        if all(not client.closed for client in pair.clients[step[1]]):
            act(pair, step, unanswered)
        for name in pair.clients:
            unanswered.setdefault(name, []).extend(pair.received(name))
    pair.check_counters()


@pytest.mark.parametrize("qos", [0, 1])
def test_messages_for_groups_take_the_lane(qos: int, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = VirtualBroker()
    members = [broker.connect(name) for name in "mn"]
    for member in members:
        member.subscribe("$share/g/t", qos=qos)
    sender = broker.connect("s")
    sender.publish("t", b"the plain way teaches the lane", qos)
    publisher = broker.broker.publisher
    monkeypatch.setattr(publisher, "publish", lambda *_: pytest.fail("this went the plain way"))
    sender.send(*(Publish("t", b"%d" % n, qos, packet_id=n if qos else 0) for n in range(1, 8)))
    assert [len(member.messages()) for member in members] == [4, 4]


def test_the_lane_stops_where_a_member_has_the_publisher_wait() -> None:
    broker = VirtualBroker(
        bounded(maximum_inflight=1, maximum_queued_messages=2, overflow=Overflow.PAUSE_PUBLISHERS)
    )
    member, sender = broker.connect("m"), broker.connect("s")
    member.subscribe("$share/g/t", qos=1)
    sender.publish("t", b"the plain way teaches the lane", 1)
    sender.send(*(Publish("t", b"%d" % n, 1, packet_id=n) for n in range(1, 21)))
    session = broker.broker.sessions.get("m")
    assert session is not None
    assert session.queue is not None
    assert len(session.queue) <= 3
    received: list[bytes] = []
    while messages := member.messages():
        received += [message.payload for message in messages]
        member.send(*(Puback(message.packet_id) for message in messages))
        broker.advance()
    assert received[1:] == [b"%d" % n for n in range(1, 21)]


@pytest.mark.parametrize("version", [MQTT311, MQTT5])
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("heard", [False, True])
def test_a_message_alone_has_a_shorter_way(
    version: int, qos: int, heard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = VirtualBroker()
    sender = broker.connect("s", version)
    if heard:
        sender.subscribe("t", qos=1)
    sender.publish("t", b"the plain way teaches the lane", qos)
    monkeypatch.setattr(
        fast_lane, "_take_publishes", lambda *_: pytest.fail("this went the longer way")
    )
    sender.publish("t", b"alone", qos)
    assert [message.payload for message in sender.messages()][1:] == [b"alone"] * heard


@pytest.mark.parametrize("version", [MQTT311, MQTT5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_lane_is_used(version: int, qos: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this the comparison above could compare the plain way to itself."""
    broker = VirtualBroker()
    receiver = broker.connect("r", version)
    receiver.subscribe("t", qos=2)
    sender = broker.connect("s", version)
    sender.publish("t", b"the plain way teaches the lane", qos, packet_id=9 if qos else 0)
    plain = broker.broker.publisher.publish
    monkeypatch.setattr(
        broker.broker.publisher, "publish", lambda *_: pytest.fail("this went the plain way")
    )
    receiver.messages()
    sender.send(*(Publish("t", b"%d" % n, qos, packet_id=n if qos else 0) for n in range(1, 9)))
    monkeypatch.setattr(broker.broker.publisher, "publish", plain)
    assert [message.payload for message in receiver.messages()] == [b"%d" % n for n in range(1, 9)]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_rules_leave_the_lane_in_use(qos: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may receive gets it by the lane; who may not, by the plain way: not."""
    rules = Rules()
    broker = VirtualBroker(authorizer=rules)
    receivers = [broker.connect(name) for name in ("r1", "r2")]
    for receiver in receivers:
        receiver.subscribe("t", qos=2)
    sender = broker.connect("s")
    sender.publish("t", b"the plain way teaches the lane", qos)
    asked = len(rules.requests)
    publisher = broker.broker.publisher
    monkeypatch.setattr(publisher, "publish", lambda *_: pytest.fail("this went the plain way"))
    sender.send(*(Publish("t", b"%d" % n, qos, packet_id=n if qos else 0) for n in range(1, 9)))
    for receiver in receivers:
        assert len(receiver.messages()) == 9
    assert len(rules.requests) == asked


def test_the_lane_judges_a_receiver_who_comes_later_or_comes_back() -> None:
    rules = Rules((RECEIVE, "t"))
    broker = VirtualBroker(authorizer=rules.only(RECEIVE))
    sender = broker.connect("s")
    receiver = broker.connect("r", session_expiry_interval=100)
    receiver.drop()
    for _ in range(3):
        sender.publish("t", b"nobody subscribes yet", 0)
    receiver = broker.connect("r", clean_start=False, session_expiry_interval=100)
    receiver.subscribe("t")
    for _ in range(3):
        sender.publish("t", b"secret", 0)
    receiver.drop()
    sender.publish("t", b"away", 0)
    receiver = broker.connect("r", clean_start=False, session_expiry_interval=100)
    sender.publish("t", b"secret", 0)
    receiver.expect_nothing()
    rules.change()
    sender.publish("t", b"open", 0)
    assert [message.payload for message in receiver.messages()] == [b"open"]
    rules.change((RECEIVE, "t"))
    for _ in range(3):
        sender.publish("t", b"secret", 0)
    receiver.expect_nothing()


def test_the_lane_judges_a_receiver_who_comes_back_from_elsewhere() -> None:
    rules = Rules()
    broker = VirtualBroker(authorizer=rules.only(RECEIVE))
    allow = rules.authorize
    rules.authorize = lambda request: (  # type: ignore[method-assign]
        allow(request)
        if request.peer is not None and request.peer.address != "192.0.2.9"
        else False
    )
    receiver = broker.connect("r", session_expiry_interval=100)
    receiver.subscribe("t")
    sender = broker.connect("s")
    for _ in range(3):
        sender.publish("t", b"open", 0)
    assert len(receiver.messages()) == 3
    receiver.drop()
    receiver = broker.connect(
        "r", clean_start=False, session_expiry_interval=100, address="192.0.2.9"
    )
    sender.publish("t", b"secret", 0)
    receiver.expect_nothing()


def test_what_the_lane_sent_is_sent_again() -> None:
    """A frame of the lane that was not acknowledged survives its connection."""
    broker = VirtualBroker()
    receiver = broker.connect("r", session_expiry_interval=100)
    receiver.subscribe("t", qos=1)
    sender = broker.connect("s")
    for number in range(3):
        sender.publish("t", b"%d" % number, 1)
    first = receiver.messages()
    receiver.drop()
    back = broker.connect("r", clean_start=False, session_expiry_interval=100)
    again = back.messages()
    assert [(m.packet_id, m.payload, m.dup) for m in again] == [
        (m.packet_id, m.payload, True) for m in first
    ]


def test_routes_are_bounded() -> None:
    broker = VirtualBroker()
    sender = broker.connect("s")
    for number in range(fast_lane.MAXIMUM_ROUTES + 10):
        sender.send(Publish(f"t/{number}"))
    routes = broker.broker.connections["s"].routes
    assert routes is not None
    assert len(routes[0]) <= fast_lane.MAXIMUM_ROUTES


def on_the_lane(**fields: Any) -> tuple[VirtualClient, VirtualClient]:
    """A receiver of topic t, and a sender whose next PUBLISH takes the lane."""
    broker = VirtualBroker()
    receiver = broker.connect("r", **fields)
    receiver.subscribe("t", qos=2)
    sender = broker.connect("s")
    for qos in range(3):
        sender.publish("t", b"", qos)
    for message in receiver.messages():
        receiver.acknowledge(message)
    return sender, receiver


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_frame_too_large_for_the_receiver_is_not_sent(qos: int) -> None:
    sender, receiver = on_the_lane(maximum_packet_size=50)
    sender.publish("t", b"x" * 60, qos)
    assert receiver.messages() == []
    assert sender.broker.broker.metrics.dropped == {"too-large": 1}


def test_an_output_that_is_full_makes_the_session_queue() -> None:
    sender, receiver = on_the_lane()
    receiver.stop_reading()
    for _ in range(40):
        sender.publish("t", b"x" * 10_000, 0)
    session = sender.broker.broker.sessions.get("r")
    assert session is not None
    assert session.queued > 20
    receiver.start_reading()
    assert len(receiver.messages()) == 40


@pytest.mark.parametrize(("qos", "answer"), [(2, Puback), (2, Pubcomp), (1, Pubcomp)])
def test_the_wrong_acknowledgement_ends_the_connection(
    qos: int, answer: type[Puback] | type[Pubcomp]
) -> None:
    sender, receiver = on_the_lane()
    sender.publish("t", b"x", qos)
    (message,) = receiver.messages()
    receiver.send(answer(message.packet_id))
    receiver.expect(Disconnect, reason=ReasonCode.PROTOCOL_ERROR)
    assert receiver.closed


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_frame_of_the_same_size_may_differ_inside(qos: int) -> None:
    """Only the property length tells it from the frame before."""
    sender, receiver = on_the_lane()
    plain = Publish("t", b"0123456789", qos, packet_id=1 if qos else 0)
    alias = Publish(
        "t", b"3456789", qos, packet_id=2 if qos else 0, properties=Properties(topic_alias=9)
    )
    assert len(serialize(plain, MQTT5)) == len(serialize(alias, MQTT5))
    sender.send(plain, alias)
    assert [(message.payload, message.properties) for message in receiver.messages()] == [
        (b"0123456789", {}),
        (b"3456789", {}),
    ]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_properties_that_repeat_take_the_lane(qos: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sender, receiver = on_the_lane()
    properties = Properties(user_property=[("unit", "K")], content_type="text/plain")
    frames = [
        Publish("t", b"%d" % n, qos, packet_id=n if qos else 0, properties=properties)
        for n in range(1, 5)
    ]
    sender.send(frames[0])
    publisher = sender.broker.broker.publisher
    monkeypatch.setattr(publisher, "publish", lambda *_: pytest.fail("this went the plain way"))
    sender.send(*frames[1:])
    received = receiver.messages()
    assert [message.payload for message in received] == [b"1", b"2", b"3", b"4"]
    assert all(message.properties == properties for message in received)


def test_properties_that_need_a_look_do_not() -> None:
    """Expiry counts down, and a payload that claims to be UTF-8 is checked."""
    sender, receiver = on_the_lane()
    for _ in range(3):
        sender.publish("t", b"x", 0, message_expiry_interval=9)
        sender.publish("t", b"x", 0, payload_format_indicator=1)
    connection = sender.broker.broker.connections["s"]
    assert not connection.known_properties
    assert len(receiver.messages()) == 6
