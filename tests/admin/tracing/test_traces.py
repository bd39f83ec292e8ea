"""What a trace shows, what it hides, and whom it costs anything."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mqttd.admin import Admin
from mqttd.admin.tracing import TraceError, Wanted
from mqttd.settings import BrokerSettings
from mqttd.settings_watch import TraceSettings
from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.packets import Auth, Connect, Publish, Subscribe, SubscriptionRequest, Will


class Traced:
    """A broker whose traces can be asked."""

    def __init__(self, **settings: Any) -> None:
        self.virtual = VirtualBroker(BrokerSettings(trace=TraceSettings(**settings)))
        self.connect, self.advance = self.virtual.connect, self.virtual.advance
        self.admin = Admin(self.virtual.broker, wall_clock=lambda: 1_767_323_045.0)
        self.admin.start()
        self.traces = self.admin.traces
        self.records: list[dict[str, Any]] = []

    def live(self, shown: int = 0, **wanted: str) -> str:
        return self.traces.live(Wanted(**wanted), shown, self.records.append).name

    def take(self, *names: str) -> list[Any]:
        """These parts of all records since the last time."""
        found = [tuple(record.get(name) for name in names) for record in self.records]
        self.records.clear()
        return found

    def is_fast(self, client: VirtualClient) -> bool:
        protocol: Any = client.transport.protocol
        return bool(protocol._fast)

    def stop(self) -> None:
        self.admin.stop()
        self.virtual.stop()


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[Traced]:
    made = Traced(directory=str(tmp_path / "traces"), maximum_file=65_536, kept_files=2)
    yield made
    made.stop()


def test_the_packets_of_a_client_are_shown_from_connect_to_the_end(traced: Traced) -> None:
    traced.live(client_id="a")
    client = traced.connect("a")
    client.subscribe("t")
    client.publish("t", b"secret", qos=1)
    client.disconnect()
    traced.connect("b").publish("t", b"x")
    assert traced.take("direction", "packet", "event", "client_id") == [
        ("in", "CONNECT", None, "a"),
        ("out", "CONNACK", None, "a"),
        ("in", "SUBSCRIBE", None, "a"),
        ("out", "SUBACK", None, "a"),
        ("in", "PUBLISH", None, "a"),
        ("out", "PUBLISH", None, "a"),
        ("out", "PUBACK", None, "a"),
        ("in", "DISCONNECT", None, "a"),
        ("event", None, "ended", "a"),
    ]


def test_a_client_that_is_there_already_is_shown_from_now_on(traced: Traced) -> None:
    client = traced.connect("a")
    traced.live(client_id="a")
    client.publish("t", b"x")
    assert traced.take("packet", "topic", "payload_size") == [("PUBLISH", "t", 1)]


def test_one_that_has_yet_to_connect_is_shown_from_then_on(traced: Traced) -> None:
    client = traced.virtual.open()
    traced.live(client_id="a")
    client.connect("a")
    client.publish("t", b"x")
    assert traced.take("packet") == [("PUBLISH",)]


def test_a_chosen_client_id_is_what_the_broker_chose(traced: Traced) -> None:
    traced.live(address="192.0.2.1")
    client = traced.connect("")
    client.publish("t", b"x")
    assert traced.take("packet", "client_id")[-1] == ("PUBLISH", client.client_id)


@pytest.mark.parametrize(
    ("wanted", "address"),
    [
        ({"client_id": "sensor-*"}, "192.0.2.1"),
        ({"address": "192.0.2.7"}, "192.0.2.7"),
        ({"address": "192.0.2.0/24"}, "192.0.2.7"),
        ({"topic": "plant/+"}, "192.0.2.7"),
        ({"client_id": "sensor-1", "topic": "plant/#"}, "192.0.2.7"),
    ],
)
def test_what_fits_is_shown(traced: Traced, wanted: Any, address: str) -> None:
    traced.live(**wanted)
    traced.connect("sensor-1", address=address).publish("plant/1", b"x")
    assert traced.take("packet", "topic")[-1] == ("PUBLISH", "plant/1")


@pytest.mark.parametrize(
    "wanted",
    [
        {"client_id": "sensor"},
        {"client_id": "other-*"},
        {"address": "198.51.100.0/24"},
        {"address": "2001:db8::/32"},
        {"address": "unix"},
        {"topic": "plant"},
        {"client_id": "other", "topic": "plant/#"},
    ],
)
def test_what_does_not_fit_is_not_shown(traced: Traced, wanted: Any) -> None:
    traced.live(**wanted)
    client = traced.connect("sensor-1")
    client.subscribe("elsewhere")
    client.publish("plant/1", b"x")
    assert traced.take("packet") == []


def test_only_those_that_are_traced_leave_the_fast_lane(traced: Traced) -> None:
    one, other = traced.connect("a"), traced.connect("b")
    name = traced.live(client_id="a")
    assert (traced.is_fast(one), traced.is_fast(other)) == (False, True)
    late = traced.connect("c")
    assert traced.is_fast(late)
    protocol: Any = late.transport.protocol
    assert protocol.watcher is None
    traced.traces.end(name)
    assert traced.is_fast(one)
    assert traced.traces.taps == {}
    assert traced.virtual.broker.newcomers == []


def test_what_goes_by_the_fast_lane_to_a_traced_client_is_shown(traced: Traced) -> None:
    listener, publisher = traced.connect("a"), traced.connect("b")
    listener.subscribe("t")
    publisher.publish("t", b"1")
    traced.live(shown=10, client_id="a")
    publisher.send(*(Publish("t", b"%d" % number) for number in range(3)))
    assert traced.take("direction", "payload") == [("out", "0"), ("out", "1"), ("out", "2")]


def test_secrets_are_not_shown(traced: Traced) -> None:
    traced.live(shown=1000, client_id="a")
    client = traced.virtual.open()
    will = Will("w", b"last words")
    properties: Any = {
        "authentication_method": "SCRAM-SHA-256",
        "authentication_data": b"hush-1",
        "user_property": [("token", "hush-2")],
    }
    client.send(Connect("a", 5, user_name="ann", password=b"hush-3", will=will))
    client.send(Auth(0x19, properties))
    (connect, *_) = traced.records
    assert (connect["user_name"], connect["password"]) == ("ann", "(redacted)")
    assert connect["will"]["payload"] == "last words"
    assert "hush" not in json.dumps(traced.records)
    assert "68757368" not in json.dumps(traced.records)


def test_payloads_are_shown_as_far_as_was_asked(traced: Traced) -> None:
    traced.live(client_id="a")
    traced.live(shown=2, client_id="a")
    client = traced.connect("a")
    traced.records.clear()
    client.publish("t", b"text")
    client.publish("t", b"\xff\xfe\xfd")
    assert traced.take("payload", "payload_hex", "payload_size") == [
        (None, None, 4),
        ("te", None, 4),
        (None, None, 3),
        (None, "fffe", 3),
    ]


def test_topic_aliases_are_resolved(traced: Traced) -> None:
    traced.live(topic="long/#")
    client = traced.connect("a")
    client.publish("long/topic", b"1", topic_alias=1)
    client.publish("", b"2", topic_alias=1)
    assert traced.take("topic") == [("long/topic",), ("long/topic",)]


def test_what_breaks_the_rules_is_shown(traced: Traced) -> None:
    traced.live(client_id="a")
    traced.connect("a").send_bytes(b"\x00\x00")
    found = traced.take("event", "packet", "text", "reason")
    assert found[-3:-1] == [
        ("violation", None, "packet type 0 is reserved", None),
        (None, "DISCONNECT", None, "0x81"),
    ]


def test_a_subscription_is_shown_by_its_topic(traced: Traced) -> None:
    traced.live(topic="plant/1")
    client = traced.connect("a")
    client.send(Subscribe(1, [SubscriptionRequest("other"), SubscriptionRequest("plant/1")]))
    client.unsubscribe("plant/1")
    assert traced.take("packet") == [("SUBSCRIBE",), ("UNSUBSCRIBE",)]


# --- bounds ---------------------------------------------------------------------------


def test_more_packets_than_the_rate_allows_are_counted() -> None:
    traced = Traced(maximum_rate=5)
    traced.live(client_id="a")
    client = traced.connect("a")
    client.send(*(Publish("t", b"x") for _ in range(10)))
    (trace,) = traced.traces.running.values()
    assert (len(traced.records), trace.packets, trace.missed) == (5, 5, 7)
    traced.advance(1)
    client.publish("t", b"x")
    assert len(traced.records) == 6
    traced.stop()


def test_no_more_traces_run_than_may() -> None:
    traced = Traced(maximum_running=1)
    traced.live(client_id="a")
    with pytest.raises(TraceError, match="maximum_running"):
        traced.live(client_id="b")
    traced.stop()


@pytest.mark.parametrize(
    ("name", "wanted", "text"),
    [
        ("../a", {"client_id": "a"}, "no name"),
        (".", {"client_id": "a"}, "no name"),
        ("a/b", {"client_id": "a"}, "no name"),
        ("a\n", {"client_id": "a"}, "no name"),
        ("a", {}, "say what"),
        ("a", {"topic": "a/#/b"}, "no topic filter"),
    ],
)
def test_what_makes_no_sense_is_refused(traced: Traced, name: str, wanted: Any, text: str) -> None:
    with pytest.raises(TraceError, match=text):
        traced.traces.record(name, Wanted(**wanted), 0, 60)


def test_without_a_place_for_files_there_are_none() -> None:
    traced = Traced()
    with pytest.raises(TraceError, match="name a directory"):
        traced.traces.record("a", Wanted("a"), 0, 60)
    traced.stop()


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    traced = Traced(directory=str(tmp_path / "file" / "traces"))
    with pytest.raises(TraceError, match="cannot write to"):
        traced.traces.record("a", Wanted("a"), 0, 60)
    assert not traced.traces.running
    traced.stop()


# --- files ----------------------------------------------------------------------------


def test_a_file_has_a_line_of_json_for_each_packet(traced: Traced, tmp_path: Path) -> None:
    traced.traces.record("a", Wanted("a"), 0, 60)
    traced.connect("a")
    path = tmp_path / "traces" / "a.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["packet"] for line in lines] == ["CONNECT", "CONNACK"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert traced.traces.last_records("a", 1) == lines[1:]


def test_a_trace_ends_when_its_time_is_over(traced: Traced) -> None:
    traced.traces.record("a", Wanted("a"), 0, 60)
    client = traced.connect("a")
    traced.advance(61)
    assert traced.traces.running == {}
    client.publish("t", b"x")
    assert traced.traces.last_records("a", 1)[0]["packet"] == "CONNACK"


def test_files_are_put_aside_and_only_so_many_kept(traced: Traced, tmp_path: Path) -> None:
    traced.traces.record("a", Wanted("a"), 60_000, 60)
    client = traced.connect("a")
    for _ in range(8):
        client.publish("t", b"x" * 50_000)
    names = sorted(path.name for path in (tmp_path / "traces").iterdir())
    assert names == ["a.jsonl", "a.jsonl.1", "a.jsonl.2"]
    assert traced.traces.delete("a")
    assert list((tmp_path / "traces").iterdir()) == []
    assert not traced.traces.delete("a")


def test_a_full_disk_ends_the_file_and_harms_no_client(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = traced.traces.record("a", Wanted("a"), 0, 60)

    def full(data: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trace._file, "write", full)
    client = traced.connect("a")
    client.publish("t", b"x", qos=1)
    assert not client.closed
    assert "No space left" in trace.problem


# --- inside the process ---------------------------------------------------------------


def test_a_client_inside_the_process_is_shown_as_if_it_had_a_wire(traced: Traced) -> None:
    traced.live(client_id="in*", shown=10)
    opening = traced.virtual.broker.client("inside", principal="app")
    traced.advance(1)
    client: Any = opening.result
    client.subscribe("t/#", lambda message: None, qos=2)
    client.publish("t/1", b"hello", qos=1)
    client.publish("t/2", b"x", qos=2)
    traced.advance(1)
    client.close()
    shown = traced.take("direction", "packet", "topic", "event", "payload")
    assert [each[:3] for each in shown if each[1] != "PUBLISH"] == [
        ("in", "CONNECT", None),
        ("out", "CONNACK", None),
        ("in", "SUBSCRIBE", None),
        ("out", "SUBACK", None),
        ("out", "PUBACK", None),
        ("out", "PUBREC", None),
        ("in", "PUBREL", None),
        ("out", "PUBCOMP", None),
        ("in", "PUBACK", None),
        ("in", "PUBREC", None),
        ("out", "PUBREL", None),
        ("in", "PUBCOMP", None),
        ("event", None, None),
    ]
    assert [each for each in shown if each[1] == "PUBLISH"] == [
        ("in", "PUBLISH", "t/1", None, "hello"),
        ("out", "PUBLISH", "t/1", None, "hello"),
        ("in", "PUBLISH", "t/2", None, "x"),
        ("out", "PUBLISH", "t/2", None, "x"),
    ]
    assert shown[-1][3] == "ended"
    assert traced.traces.taps == {}


def test_who_is_inside_the_process_pays_only_while_watched(traced: Traced) -> None:
    opening = traced.virtual.broker.client("inside")
    traced.advance(1)
    client: Any = opening.result
    got: list[str] = []
    client.subscribe("t", lambda message: got.append(message.topic))
    traced.advance(1)
    assert client.watcher is None
    name = traced.live(client_id="inside")
    assert client.watcher is not None
    client.publish("t", b"x")
    traced.advance(1)
    assert traced.take("direction", "packet", "topic") == [
        ("in", "PUBLISH", "t"),
        ("out", "PUBLISH", "t"),
    ]
    traced.traces.end(name)
    assert client.watcher is None
    client.publish("t", b"x")
    traced.advance(1)
    assert got == ["t", "t"]
    assert traced.records == []
    client.close()


def test_a_trace_by_topic_sees_what_the_program_publishes(traced: Traced) -> None:
    opening = traced.virtual.broker.client("inside")
    traced.advance(1)
    client: Any = opening.result
    traced.live(topic="t/+")
    client.publish("t/1", b"x")
    client.publish("u", b"x")
    assert traced.take("client_id", "topic") == [("inside", "t/1")]
    traced.traces.stop()
    client.close()
