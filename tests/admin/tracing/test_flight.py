"""What is kept of each client, what is shown of it, and that it can be played again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttd.admin import Admin
from mqttd.admin.tracing.decode import decode
from mqttd.broker.pause import RATE
from mqttd.interfaces import FlightEntry
from mqttd.settings import BrokerSettings
from mqttd.settings_watch import FlightSettings
from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.testing.replay import main, replay
from mqttd.wire.packets import Disconnect, Pingreq, Puback, Publish
from mqttd.wire.serializer import serialize
from tests.conftest import examples


class Flying:
    def __init__(self, **settings: Any) -> None:
        self.virtual = VirtualBroker(BrokerSettings(flight=FlightSettings(**settings)))
        self.connect, self.advance = self.virtual.connect, self.virtual.advance
        self.admin = Admin(
            self.virtual.broker, wall_clock=lambda: 1000 + self.virtual.clock.seconds()
        )
        self.admin.start()

    def now(self, client_id: str, shown: int = 0) -> Any:
        dump = self.admin.flights.of(client_id)
        assert dump is not None
        return dump.document(shown)

    def records(self, client_id: str, *names: str, shown: int = 0) -> list[Any]:
        records = self.now(client_id, shown)["records"]
        return [tuple(record.get(name) for name in names) for record in records]

    def stop(self) -> None:
        self.admin.stop()
        self.virtual.stop()


@pytest.fixture
def flying() -> Iterator[Flying]:
    made = Flying()
    yield made
    made.stop()


def test_the_last_packets_are_there_with_their_time(flying: Flying) -> None:
    client = flying.connect("a")
    flying.advance(5)
    client.subscribe("t")
    client.publish("t", b"x", qos=1)
    assert flying.records("a", "at", "direction", "packet") == [
        (1000, "out", "CONNACK"),
        (1005, "in", "SUBSCRIBE"),
        (1005, "out", "SUBACK"),
        (1005, "in", "PUBLISH"),
        (1005, "out", "PUBLISH"),
        (1005, "out", "PUBACK"),
    ]


@pytest.mark.parametrize("version", [3, 4, 5])
def test_a_password_is_not_kept(flying: Flying, version: int) -> None:
    flying.connect("a", version, user_name="ann", password=b"hush")
    protocol: Any = flying.virtual.broker.connections["a"].transport
    assert b"hush" not in protocol._flight


def test_payloads_are_shown_only_where_that_is_asked(flying: Flying) -> None:
    flying.connect("a").publish("t", b"payload")
    assert flying.records("a", "payload_size", "payload")[-1] == (7, None)
    assert b"payload".hex() not in json.dumps(flying.now("a"))
    assert flying.records("a", "payload", shown=4)[-1] == ("payl",)


def test_of_what_comes_in_one_piece_the_beginning_is_there(flying: Flying) -> None:
    client = flying.connect("a")
    client.send(*(Publish(f"t/{number}", b"x" * 20) for number in range(10)))
    found = flying.records("a", "topic", "cut", "payload_size", "bytes_not_kept")[1:]
    assert [each[0] for each in found[:-1]] == ["t/0", "t/1", "t/2", "t/3", "t/4"]
    assert found[-1][3] == 10 * 28 - 28 * 5
    assert found[-2][1:3] == (True, 20)


def test_a_large_packet_that_comes_in_parts_is_there_once(flying: Flying) -> None:
    client = flying.connect("a")
    data = serialize(Publish("t", b"x" * 5000, 1, packet_id=7), 5)
    for start in range(0, len(data), 500):
        client.send_bytes(data[start : start + 500])
    assert flying.records("a", "packet", "size", "payload_size", "packet_id")[1:] == [
        ("PUBLISH", len(data), 5000, 7),
        ("PUBACK", 5, None, 7),
    ]


@settings(max_examples=examples(0.3))
@given(st.lists(st.integers(1, 40), max_size=60), st.integers(0, 3))
def test_each_packet_is_shown_once_however_it_is_cut(cuts: list[int], pings: int) -> None:
    flying = Flying()
    client = flying.connect("a")
    packets = [Publish(f"t/{number}", b"x", 1, packet_id=number + 1) for number in range(8)]
    data = b"".join(serialize(packet, 5) for packet in packets) + b"\xc0\x00" * pings
    for cut in cuts:
        client.send_bytes(data[:cut])
        data = data[cut:]
    client.send_bytes(data)
    found = [
        record["packet_id"]
        for record in flying.now("a")["records"]
        if record["direction"] == "in" and record["packet"] == "PUBLISH" and "topic" in record
    ]
    assert found == sorted(set(found))
    assert set(range(1, 9)) - set(found) <= {8}, "the last may end in a piece too short to be noted"
    flying.stop()


@given(st.binary(max_size=128), st.integers(0, 1000), st.booleans())
def test_whatever_was_kept_can_be_shown(head: bytes, more: int, out: bool) -> None:
    entry = FlightEntry(1.0, 5, len(head) + more, head, out)
    json.dumps(list(decode([entry, entry], 5, lambda at: at, 10)))


@pytest.mark.parametrize("size", [1000, 4096, 100_000])
@pytest.mark.parametrize("kind", ["alone", "own", "large", "many"])
def test_it_stays_small_and_forgets_the_oldest(size: int, kind: str) -> None:
    flying = Flying(size=size)
    client = flying.connect("a")
    topics: list[str] = []
    if kind == "own":
        client.subscribe("topic/+", qos=1)
    for number in range(1200):
        # Each twice, so that the second takes the fast lane.
        topic = f"topic/{number // 2}"
        client.send(
            *[Publish(topic, b"x" * (500 if kind == "large" else 100), 1, packet_id=1 + number)]
            * (3 if kind == "many" else 1)
        )
        if number % 2:
            topics.append(topic)
        if kind == "own":
            client.acknowledge(client.messages()[-1])
    protocol: Any = flying.virtual.broker.connections["a"].transport
    held = {id(each): each for each in protocol._flight}
    memory = sys.getsizeof(protocol._flight) + sum(map(memory_of, held.values()))
    assert memory < 1.6 * size
    found = [topic for (topic,) in flying.records("a", "topic") if topic]
    shown = [topic for topic, _ in groupby(found)]
    assert shown == topics[-len(shown) :]
    assert len(shown) >= size // 1300
    flying.stop()


def test_it_stays_small_where_the_client_takes_nothing() -> None:
    flying = Flying(size=4096)
    client = flying.connect("a")
    protocol: Any = flying.virtual.broker.connections["a"].transport
    protocol.pauseProducing()
    for _ in range(1000):
        client.send(Publish("t", b"x" * 100))
    assert 0 < len(protocol._flight) <= protocol.factory.flight_room
    flying.stop()


def memory_of(each: Any) -> int:
    inner = sum(map(sys.getsizeof, each)) if isinstance(each, tuple) else 0
    return sys.getsizeof(each) + inner


def test_pings_push_nothing_out(flying: Flying) -> None:
    client = flying.connect("a")
    for _ in range(10):
        client.send(Pingreq())
    assert flying.records("a", "packet") == [("CONNACK",)]


def test_what_comes_while_nothing_is_read_is_left_out_and_the_rest_is_right(
    flying: Flying,
) -> None:
    client = flying.connect("a")
    protocol: Any = flying.virtual.broker.connections["a"].transport
    protocol.pause(RATE)
    for number in range(3):
        protocol.dataReceived(serialize(Publish(f"early/{number}"), 5))
    protocol.resume(RATE)
    client.publish("t", b"x")
    assert flying.records("a", "packet", "topic")[1:] == [("PUBLISH", "t")]


def test_switched_off_it_keeps_nothing() -> None:
    flying = Flying(size=0)
    flying.connect("a").publish("t", b"x")
    assert flying.records("a", "packet") == []
    flying.stop()


# --- failures -------------------------------------------------------------------------


def fail(client: VirtualClient) -> None:
    client.subscribe("t/#")
    client.publish("t/1", b"x", qos=1)
    client.send_bytes(b"\x36\x00")


def test_after_a_violation_the_packets_before_it_are_kept(flying: Flying) -> None:
    fail(flying.connect("a"))
    dump = flying.admin.flights.failures["a"]
    assert (dump.cause, dump.summary()["text"]) == ("violation", "PUBLISH with QoS 3")
    document = dump.document()
    assert document["subscriptions"] == [{"topic_filter": "t/#", "qos": 0}]
    assert [r["packet"] for r in document["records"]][-2:] == ["PUBLISH", "PUBACK"]


def test_a_packet_that_breaks_the_rules_is_named(flying: Flying) -> None:
    flying.connect("b").send(Publish("", b"secret", properties={"topic_alias": 9}))
    document = flying.admin.flights.failures["b"].document()
    assert document["offending"]["packet"] == "PUBLISH"
    assert b"secret".hex() not in json.dumps(document)


def test_the_latest_failure_of_each_client_is_kept_and_so_many_clients() -> None:
    flying = Flying(maximum_failures=2)
    for name in ("a", "b", "a", "c"):
        fail(flying.connect(name))
    failures = flying.admin.flights.failures
    assert [(name, dump.count) for name, dump in failures.items()] == [("a", 2), ("c", 1)]
    flying.stop()


def test_who_never_got_in_leaves_nothing(flying: Flying) -> None:
    flying.virtual.open().send_bytes(b"\x30\x00")
    assert flying.admin.flights.failures == {}


def test_what_breaks_of_ours_is_kept_too(flying: Flying, monkeypatch: pytest.MonkeyPatch) -> None:
    client = flying.connect("a")

    def broken(*_: object) -> None:
        raise RuntimeError("a test")

    monkeypatch.setattr(flying.virtual.broker.publisher, "publish", broken)
    client.send(Publish("t", b"x"))
    assert flying.admin.flights.failures["a"].cause == "error"


# --- replay ---------------------------------------------------------------------------


def test_a_failure_can_be_played_again(flying: Flying) -> None:
    client = flying.connect("a")
    client.subscribe("t/#", qos=1)
    flying.virtual.publish("t/other", b"from another", qos=1)
    client.acknowledge(client.expect(Publish))
    client.publish("u/1", b"x" * 1000, qos=1)
    client.send(Publish("", b"x", properties={"topic_alias": 9}))
    document = json.loads(json.dumps(flying.admin.flights.failures["a"].document()))
    played = replay(document)
    assert played.closed_reason == "closed"
    last = played.received[-1]
    assert last == client.take(Disconnect)[0]
    assert [type(packet) for packet in played.received].count(Puback) == 1
    assert not played.left_out
    played.broker.stop()


def test_a_file_can_be_played_by_command(
    flying: Flying, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(flying.connect("a"))
    path = tmp_path / "dump.json"
    path.write_text(json.dumps(flying.admin.flights.failures["a"].document()))
    assert main([str(path)]) == 0
    assert "packets sent" in capsys.readouterr().out
    assert main([]) == 2
