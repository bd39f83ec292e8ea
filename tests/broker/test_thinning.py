"""Subscriptions that ask for fewer messages than there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from mqttd.broker import thinning
from mqttd.broker.thinning import Thinned, Thinning, read
from mqttd.interfaces import StoredSubscription
from mqttd.settings import BrokerSettings, ProtocolSettings
from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.packets import Suback
from tests.broker.kept import Kept


@pytest.fixture
def virtual() -> Iterator[VirtualBroker]:
    broker = VirtualBroker()
    yield broker
    broker.stop()
    assert broker.clock.getDelayedCalls() == []


def subscribe(client: VirtualClient, topic_filter: str, **wishes: str) -> Suback:
    pairs = [(name.replace("_", "-"), value) for name, value in wishes.items()]
    return client.subscribe(topic_filter, user_property=pairs)


def watcher(virtual: VirtualBroker, topic_filter: str = "#", **wishes: str) -> VirtualClient:
    client = virtual.connect("watcher", keep_alive=0)
    assert subscribe(client, topic_filter, **wishes).reasons == [0]
    return client


def taken(client: VirtualClient) -> list[tuple[str, bytes]]:
    return [(message.topic, message.payload) for message in client.messages()]


def subscription(virtual: VirtualBroker, name: str = "#") -> Thinned:
    session = virtual.broker.sessions.get("watcher")
    assert session is not None
    found = session.subscriptions[name]
    assert isinstance(found, Thinned)
    return found


# --- what can be asked for ----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "interval"), [("10", 0.1), ("10/s", 0.1), ("6/m", 10), ("1/h", 3600), ("0.5 / s", 2)]
)
def test_a_rate_is_read(text: str, interval: float) -> None:
    wants = read([("other", "x"), ("max-rate", text)])
    assert wants == Thinning(interval, asked=(("max-rate", text),))


def test_other_user_properties_ask_for_nothing() -> None:
    assert read([("rate", "1"), ("Sample", "2")]) is None


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        ([("max-rate", "")], "max-rate is a rate"),
        ([("max-rate", "0")], "max-rate is a rate"),
        ([("max-rate", "-1/s")], "max-rate is a rate"),
        ([("max-rate", "1/d")], "max-rate is a rate"),
        ([("max-rate", "0.0001/h")], "at least one in a day"),
        ([("max-rate", "9" * 400)], "max-rate is a rate"),
        ([("conflate", "topic")], "needs max-rate"),
        ([("conflate", "x"), ("max-rate", "1")], 'conflate is "topic" or "all"'),
        ([("sample", "0")], "sample is a whole number"),
        ([("sample", "²")], "sample is a whole number"),
        ([("sample", "9" * 400)], "sample is a whole number"),
        ([("sample", "1"), ("sample", "2")], "once each"),
    ],
)
def test_what_can_not_be_read_is_refused_with_the_reason(
    virtual: VirtualBroker, pairs: list[tuple[str, str]], text: str
) -> None:
    client = virtual.connect("x")
    answer = client.subscribe("a", "b", user_property=pairs)
    assert answer.reasons == [0x83, 0x83]
    assert text in answer.properties["reason_string"]
    assert len(virtual.broker.router) == 0


def test_what_is_granted_is_said(virtual: VirtualBroker) -> None:
    client = virtual.connect("x")
    answer = subscribe(client, "a", sample="2", max_rate="1", other="x")
    assert answer.properties == {"user_property": [("sample", "2"), ("max-rate", "1")]}
    quiet = virtual.connect("y", request_problem_information=0)
    assert subscribe(quiet, "a", sample="2").properties == {}


def test_a_shared_subscription_is_not_thinned(virtual: VirtualBroker) -> None:
    client = virtual.connect("x")
    assert subscribe(client, "$share/g/a", sample="2").reasons == [0x83]


def test_it_can_be_switched_off() -> None:
    virtual = VirtualBroker(BrokerSettings(protocol=ProtocolSettings(thinned_subscriptions=False)))
    client = watcher(virtual, sample="10")
    for _ in range(10):
        virtual.publish("t")
    assert len(client.messages()) == 10
    virtual.stop()


# --- what comes ---------------------------------------------------------------------


def test_every_nth_message_comes(virtual: VirtualBroker) -> None:
    client = watcher(virtual, sample="3")
    for number in range(10):
        virtual.publish("t", b"%d" % number)
    assert [payload for _, payload in taken(client)] == [b"0", b"3", b"6", b"9"]
    assert subscription(virtual).suppressed == virtual.broker.metrics.dropped["thinned"] == 6


def test_a_rate_holds_and_the_rest_is_suppressed(virtual: VirtualBroker) -> None:
    client = watcher(virtual, max_rate="2/s")
    for number in range(100):
        virtual.publish("t", b"%d" % number)
        virtual.advance(0.1)
    # 10 s at 2 a second.
    assert [int(payload) for _, payload in taken(client)] == list(range(0, 100, 5))
    assert subscription(virtual).suppressed == 80


def test_the_latest_of_each_topic_follows_when_it_is_due(virtual: VirtualBroker) -> None:
    client = watcher(virtual, max_rate="1/s", conflate="topic")
    for number in range(10):
        virtual.publish(f"t/{number % 3}", b"%d" % number)
    assert taken(client) == [("t/0", b"0")]
    virtual.advance(1)
    assert taken(client) == [("t/1", b"7")]
    virtual.advance(1)
    assert taken(client) == [("t/2", b"8")]
    virtual.advance(1)
    assert taken(client) == [("t/0", b"9")]
    virtual.advance(10)
    assert taken(client) == []
    assert subscription(virtual).suppressed == 6


def test_the_latest_of_all_follows_when_it_is_due(virtual: VirtualBroker) -> None:
    client = watcher(virtual, max_rate="1/s", conflate="all")
    for number in range(10):
        virtual.publish(f"t/{number}", b"")
    virtual.advance(1)
    assert [topic for topic, _ in taken(client)] == ["t/0", "t/9"]


def test_the_rate_of_what_is_conflated_is_met(virtual: VirtualBroker) -> None:
    client = watcher(virtual, max_rate="10/s", conflate="all")
    for number in range(1000):
        virtual.publish("t", b"%d" % number)
        virtual.advance(0.01)
    assert 99 <= len(taken(client)) <= 101


def test_a_sample_and_a_rate_go_together(virtual: VirtualBroker) -> None:
    client = watcher(virtual, max_rate="1/s", sample="2")
    for number in range(6):
        virtual.publish("t", b"%d" % number)
        virtual.advance(0.5)
    assert [payload for _, payload in taken(client)] == [b"0", b"2", b"4"]


def test_other_subscribers_get_everything(virtual: VirtualBroker) -> None:
    client = watcher(virtual, sample="100")
    other = virtual.connect("other")
    other.subscribe("t", qos=1)
    publisher = virtual.connect("publisher")
    for number in range(50):
        publisher.publish("t", b"%d" % number, 1)
    assert len(client.messages()) == 1
    received = []
    while messages := other.messages():
        for message in messages:
            received.append(message.payload)
            other.acknowledge(message)
    assert received == [b"%d" % number for number in range(50)]


def test_what_was_received_adds_up(virtual: VirtualBroker) -> None:
    client = watcher(virtual, max_rate="3/s", conflate="topic", sample="2")
    for number in range(500):
        virtual.publish(f"t/{number % 7}", b"")
        virtual.advance(0.05)
    held = len(subscription(virtual)._waiting)
    assert len(taken(client)) + virtual.broker.metrics.dropped["thinned"] + held == 500


def test_a_qos_of_its_own_and_no_local_are_kept(virtual: VirtualBroker) -> None:
    client = virtual.connect("watcher")
    client.subscribe("t", qos=1, no_local=True, user_property=[("sample", "2")])
    client.publish("t", b"own")
    virtual.publish("t", b"1", 2)
    virtual.publish("t", b"2", 2)
    ((payload, qos),) = [(m.payload, m.qos) for m in client.messages()]
    assert (payload, qos) == (b"1", 1)
    assert subscription(virtual, "t").no_local


def test_one_that_is_not_thinned_decides(virtual: VirtualBroker) -> None:
    client = watcher(virtual, "a/#", sample="10")
    client.subscribe("a/b")
    for _ in range(10):
        virtual.publish("a/b")
    assert len(client.messages()) == 10


def test_of_several_that_are_thinned_the_message_comes_once(virtual: VirtualBroker) -> None:
    client = watcher(virtual, "a/#", sample="2")
    subscribe(client, "a/b", sample="5")
    for _ in range(10):
        virtual.publish("a/b")
    assert len(client.messages()) in (2, 5)


def test_retained_messages_come_all(virtual: VirtualBroker) -> None:
    for number in range(10):
        virtual.publish(f"t/{number}", b"x", retain=True)
    assert len(taken(watcher(virtual, max_rate="1/h"))) == 10


# --- what waits -----------------------------------------------------------------------


@pytest.mark.parametrize("end", ["unsubscribe", "replace", "disconnect", "stop"])
def test_what_waits_goes_with_the_subscription(end: str) -> None:
    virtual = VirtualBroker()
    client = watcher(virtual, max_rate="1/m", conflate="topic")
    for number in range(5):
        virtual.publish(f"t/{number}")
    assert len(virtual.broker.thinned) == 1
    if end == "unsubscribe":
        client.unsubscribe("#")
    elif end == "replace":
        client.subscribe("#")
    elif end == "disconnect":
        client.disconnect()
    virtual.advance()
    if end == "stop":
        virtual.stop()
    assert virtual.broker.thinned == set()
    assert virtual.broker.metrics.dropped["thinned"] == 4
    if end != "stop":
        virtual.stop()
    assert virtual.clock.getDelayedCalls() == []


def test_what_waits_is_bounded(virtual: VirtualBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinning, "MAXIMUM_WAITING", 10)
    watcher(virtual, max_rate="1/m", conflate="topic")
    for number in range(100):
        virtual.publish(f"t/{number}")
    found = subscription(virtual)
    assert list(found._waiting) == [f"t/{number}" for number in range(90, 100)]
    assert found.suppressed == 89


def test_what_expires_while_it_waits_does_not_come(virtual: VirtualBroker) -> None:
    client = watcher(virtual, max_rate="6/m", conflate="topic")
    virtual.publish("a")
    virtual.publish("b", message_expiry_interval=5)
    virtual.publish("c", message_expiry_interval=60)
    virtual.advance(20)
    assert [topic for topic, _ in taken(client)] == ["a", "c"]


def test_a_session_that_is_away_gets_a_thinned_queue(virtual: VirtualBroker) -> None:
    client = virtual.connect("watcher", session_expiry_interval=1000)
    wishes = [("max-rate", "1/s"), ("conflate", "all")]
    client.subscribe("t", qos=1, user_property=wishes)
    client.drop()
    for number in range(100):
        virtual.publish("t", b"%d" % number, 1)
        virtual.advance(0.1)
    session = virtual.broker.sessions.get("watcher")
    assert session is not None
    assert 10 <= session.queued <= 11


def test_an_inprocess_client_can_ask_too(virtual: VirtualBroker) -> None:
    clients: list[object] = []
    virtual.broker.client("app").addCallback(clients.append)
    virtual.advance()
    got: list[bytes] = []
    client = virtual.broker.connections["app"]
    client.subscribe("t", lambda m: got.append(m.payload), user_property=[("sample", "2")])  # type: ignore[attr-defined]
    for number in range(4):
        virtual.publish("t", b"%d" % number)
    assert got == [b"0", b"2"]
    virtual.broker.drain()
    virtual.advance()


# --- after a restart -------------------------------------------------------------------


def test_the_wishes_of_a_kept_session_survive() -> None:
    kept = Kept()
    client = kept.connect("a")
    client.subscribe("t", user_property=[("max-rate", "1/m"), ("conflate", "topic")])
    client.subscribe("u", user_property=[("sample", "3")])
    client.subscribe("all", user_property=[("sample", "3")])
    client.subscribe("all")
    kept.crash()
    back = kept.connect("a")
    source = kept.bare.connect("source")
    for number in range(4):
        for topic in ("t", "u", "all"):
            source.publish(topic, b"%d" % number)
    assert Counter(message.topic for message in back.messages()) == {"t": 1, "u": 2, "all": 4}
    kept.bare.advance(60)
    assert [message.payload for message in back.messages()] == [b"3"]
    kept.bare.stop()


@pytest.mark.parametrize("text", ["{", "[]", '{"sample": 2}', '{"max-rate": "0"}'])
def test_wishes_that_are_damaged_are_left_out(text: str) -> None:
    kept = Kept()
    kept.connect("a").subscribe("t")
    kept.store.put_subscription(kept.session("a").sid, StoredSubscription("t", 0, thinning=text))
    kept.commit()
    kept.crash()
    back = kept.connect("a")
    source = kept.bare.connect("source")
    for number in range(3):
        source.publish("t", b"%d" % number)
    assert len(back.messages()) == 3
    kept.bare.stop()
