"""Two brokers and a bridge between them, on virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mqttd.bridge import Bridge, BridgeError
from mqttd.fields import SettingError
from mqttd.settings_bridge import BridgeSettings, BridgeTopic, Direction, Queue, StartType
from mqttd.testing import VirtualBroker
from mqttd.testing.store import ManualStore
from mqttd.testing.virtual import VirtualClient
from mqttd.wire.packets import Publish
from tests.client.link import Link

STATE = "$SYS/broker/connection/b/state"


class Site:
    """A broker here, one there, and bridges."""

    def __init__(self) -> None:
        self.here = VirtualBroker()
        self.there = VirtualBroker(clock=self.here.clock)
        self.bridges: list[Bridge] = []
        self.link: Link

    def bridge(
        self, *topics: BridgeTopic, here: Any = None, there: Any = None, **more: Any
    ) -> Bridge:
        one, two = here or self.here, there or self.there
        self.link = Link(self.here.clock, two.factory.buildProtocol)
        more.setdefault("client_id", "b")
        more.setdefault("name", "b")
        more.setdefault("retry_last", 0.5)
        settings = BridgeSettings(addresses=("mqtt://x",), topics=topics, retry_first=0.1, **more)
        bridge = Bridge(one.clock, one.broker, settings, f"node{id(one)}", self.link)
        self.bridges.append(bridge)
        bridge.start()
        self.advance()
        return bridge

    def advance(self, seconds: float = 0) -> None:
        self.here.advance(seconds)

    def listen(self, broker: VirtualBroker, *filters: str) -> VirtualClient:
        client = broker.connect(f"listener{id(filters)}", keep_alive=0)
        for topic_filter in filters or ("#",):
            client.subscribe(topic_filter, qos=2)
        return client


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    for bridge in site.bridges:
        bridge.stop()
    site.advance(1)
    site.here.stop()
    site.there.stop()
    site.advance(100)


def got(client: VirtualClient) -> list[tuple[str, bytes, int]]:
    return [(m.topic, m.payload, m.qos) for m in client.take(Publish)]


versions = pytest.mark.parametrize("version", ["3.1", "3.1.1", "5.0"])
BOTH = BridgeTopic("#", Direction.BOTH, 2)


@versions
def test_messages_go_both_ways_and_do_not_come_back(site: Site, version: str) -> None:
    bridge = site.bridge(BOTH, version=version)
    here, there = site.listen(site.here), site.listen(site.there)
    site.here.connect("p").publish("a", b"out", qos=1)
    site.there.connect("p").publish("b", b"in", qos=1)
    site.advance(5)
    for client in (here, there):
        assert sorted(got(client)) == [("a", b"out", 1), ("b", b"in", 1)]
    assert (bridge.sent, bridge.received) == (1, 1)


@versions
def test_topics_are_mapped_and_the_qos_is_capped(site: Site, version: str) -> None:
    site.bridge(
        BridgeTopic("+/t", Direction.OUT, 1, "here/", "there/x/"),
        BridgeTopic("cmd/#", Direction.IN, 0, "from/", ""),
        version=version,
    )
    here, there = site.listen(site.here), site.listen(site.there)
    site.here.publish("here/2/t", b"b", 2)
    site.here.publish("elsewhere/2/t", b"c", 1)
    site.there.publish("cmd/x", b"d", 1)
    site.advance(1)
    assert got(there) == [("there/x/2/t", b"b", 1), ("cmd/x", b"d", 1)]
    assert ("from/cmd/x", b"d", 0) in got(here)


def test_one_topic_is_mapped_to_one_of_another_name(site: Site) -> None:
    site.bridge(
        BridgeTopic("", Direction.OUT, 1, "one", "two/three"),
        BridgeTopic("", Direction.IN, 1, "back", "four"),
    )
    here, there = site.listen(site.here), site.listen(site.there)
    for topic in ("one", "one/more", "ones"):
        site.here.publish(topic, b"x", 1)
    site.there.publish("four", b"y", 1)
    site.advance(1)
    assert [topic for topic, _, _ in got(there)] == ["two/three", "four"]
    assert ("back", b"y", 1) in got(here)


def test_the_state_is_retained_on_both_sides(site: Site) -> None:
    site.bridge(BOTH)

    def states() -> list[bytes]:
        found = [broker.broker.retained.get(STATE) for broker in (site.here, site.there)]
        return [b"" if message is None else message.payload for message in found]

    assert states() == [b"1", b"1"]
    site.link.down = True
    site.link.cut()
    site.advance()
    assert states() == [b"0", b"0"]
    site.link.down = False
    site.advance(5)
    assert states() == [b"1", b"1"]
    site.bridges.pop().stop()
    site.advance(1)
    assert states() == [b"0", b"0"]


def watch(broker: VirtualBroker) -> set[bytes]:
    """What arrives on "t"."""
    arrived: set[bytes] = set()
    broker.broker.client().addCallback(
        lambda client: client.subscribe("t", lambda m: arrived.add(m.payload), qos=1)
    )
    broker.advance()
    return arrived


def test_what_waits_is_sent_when_the_other_side_is_back_after_a_day(site: Site) -> None:
    bridge = site.bridge(BOTH, retry_last=10)
    arrived = watch(site.there)
    site.link.down = True
    site.link.cut()
    site.advance()
    site.here.publish("zero", b"", 0)
    for number in range(500):
        site.here.publish("t", b"%d" % number, 1)
    site.advance(86_400)
    site.link.down = False
    for _ in range(20):
        site.advance(1)
    assert arrived == {b"%d" % number for number in range(500)}
    assert bridge.sent == 500
    assert bridge.dropped == {"offline": 1}


def test_nothing_is_lost_when_the_link_is_cut_again_and_again(site: Site) -> None:
    bridge = site.bridge(BridgeTopic("t", Direction.BOTH, 1))
    arrived = [watch(site.here), watch(site.there)]
    for number in range(200):
        site.here.publish("t", b"h%d" % number, 1)
        site.there.publish("t", b"t%d" % number, 1)
        if number % 2:
            site.link.cut()
        site.advance(0.3)
    site.advance(30)
    everything = {b"%s%d" % (side, n) for side in (b"h", b"t") for n in range(200)}
    assert arrived == [everything, everything]
    assert not bridge.dropped


def test_a_ring_of_bridges_ends(site: Site) -> None:
    third = VirtualBroker(clock=site.here.clock)
    for one, two, name in (
        (site.here, site.there, "x"),
        (site.there, third, "y"),
        (third, site.here, "z"),
    ):
        site.bridge(BOTH, here=one, there=two, name=name, client_id=name, notifications="none")
    there = site.listen(site.there, "t")
    site.here.publish("t", b"x", 1, user_property=[("a", "b")])
    site.advance(60)
    messages = there.take(Publish)
    # Once each way round the ring, and no further.
    assert 1 <= len(messages) <= 2
    assert ("a", "b") in messages[0].properties["user_property"]
    assert sum(bridge.sent + bridge.received for bridge in site.bridges) <= 6
    third.stop()


def test_access_rules_hold_for_the_bridge(site: Site) -> None:
    asked: list[tuple[str | None, str, str]] = []

    class Rules:
        epoch = 0
        checks = frozenset(("publish", "subscribe", "receive"))

        def authorize(self, request: Any) -> bool:
            asked.append((request.avatar.principal, request.action, request.topic))
            return not request.topic.startswith("secret")

    here = VirtualBroker(authorizer=Rules(), clock=site.here.clock)  # type: ignore[arg-type]
    bridge = site.bridge(BOTH, here=here)
    site.there.publish("secret/x", b"", 1)
    site.there.publish("open/x", b"", 1)
    site.advance(1)
    assert bridge.received == 1
    assert bridge.dropped["refused-here"] == 1
    assert ("bridge:b", "publish", "secret/x") in asked
    here.broker.drain()


def test_a_lazy_bridge_comes_when_there_is_enough_and_leaves(site: Site) -> None:
    bridge = site.bridge(
        BridgeTopic("#", Direction.OUT, 1), start=StartType.LAZY, threshold=3, idle_timeout=10.0
    )
    assert site.link.attempts == []
    for _ in range(2):
        site.here.publish("t", b"", 1)
        site.advance(1)
    assert site.link.attempts == []
    site.here.publish("t", b"", 1)
    site.advance(1)
    assert bridge.sent == 3
    site.advance(20)
    assert not bridge.remote.is_connected
    for _ in range(3):
        site.here.publish("t", b"", 1)
    site.advance(5)
    assert bridge.sent == 6


def test_a_bridge_that_starts_once_does_not_come_back(site: Site) -> None:
    bridge = site.bridge(BOTH, start=StartType.ONCE)
    assert bridge.remote.is_connected
    site.link.cut()
    site.advance(1000)
    assert bridge.is_over
    assert len(site.link.attempts) == 1


@pytest.mark.parametrize("queue", list(Queue))
def test_the_queue_survives_on_disk_only(site: Site, queue: Queue) -> None:
    store = ManualStore(seconds=site.here.clock.seconds)
    store.automatic = True
    here = VirtualBroker(clock=site.here.clock, store=store)
    bridge = site.bridge(BridgeTopic("#", Direction.OUT, 1), here=here, queue=queue)
    site.link.down = True
    site.link.cut()
    site.advance()
    for number in range(120):
        here.publish("t", b"%d" % number, 1)
    site.advance(1)
    store.commit()
    bridge.stop()
    site.advance(1)
    site.bridges.clear()
    after = store.crash()
    after.automatic = True
    here.broker.drain()
    here.stop()
    again = VirtualBroker(clock=site.here.clock, store=after)
    second = site.bridge(BridgeTopic("#", Direction.OUT, 1), here=again, queue=queue)
    site.advance(30)
    assert second.sent == (120 if queue is Queue.DISK else 0)


def test_a_bridge_that_cannot_be_says_why(site: Site) -> None:
    for settings, text in (
        ({"topics": (BridgeTopic("a/#/b"),)}, "Topic Filter"),
        ({"topics": (BridgeTopic("#", local_prefix="+/"),)}, "wildcard"),
        ({"password_file": "/nowhere", "user_name": "x"}, "nowhere"),
        ({"ca_file": "/nowhere", "addresses": ("mqtts://x",)}, "nowhere"),
    ):
        more: Any = {"addresses": ("mqtt://x",), **settings}
        with pytest.raises(BridgeError, match=text) as caught:
            Bridge(site.here.clock, site.here.broker, BridgeSettings("name", **more), "n")
        assert "'name'" in str(caught.value)


@pytest.mark.parametrize(
    "more",
    [
        {"name": "a/b"},
        {"addresses": ()},
        {"addresses": ("http://x",)},
        {"addresses": ("mqtt://user:secret@x",)},
        {"addresses": ("mqtt://x:port",)},
        {"threshold": 60},
        {"start": StartType.LAZY, "topics": (BOTH,)},
    ],
)
def test_settings_that_are_wrong(more: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        BridgeSettings(**{"name": "x", "addresses": ("mqtt://x",), **more})
