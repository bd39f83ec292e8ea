"""The retained messages: what a subscriber finds, what limits and time take away."""

from __future__ import annotations

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from mqttd.broker.message import Message
from mqttd.broker.metrics import Metrics
from mqttd.broker.retained import RetainedStore
from mqttd.settings import RetainedSettings
from mqttd.wire.topics import matches


class Bench:
    """A store with its clock and its counters."""

    def __init__(self, settings: RetainedSettings | None = None) -> None:
        self.clock = Clock()
        self.clock.advance(1000.5)
        self.metrics = Metrics()
        self.store = RetainedStore(settings or RetainedSettings(), self.clock.seconds, self.metrics)

    def put(self, topic: str, payload: bytes = b"x", expiry: float | None = None) -> str | None:
        now = self.clock.seconds()
        return self.store.store(
            Message(
                topic,
                payload,
                retain=True,
                created_at=now,
                expires_at=None if expiry is None else now + expiry,
            )
        )

    def found(self, topic_filter: str) -> dict[str, bytes]:
        return {message.topic: message.payload for message in self.store.match(topic_filter)}


def test_the_last_message_of_a_topic_is_kept() -> None:
    """[MQTT-3.3.1-5] [MQTT311-3.3.1-5] [MQTT311-3.3.1-7]"""
    bench = Bench()
    message = Message("a", b"1", 2, True, {"content_type": "c"}, b"\x03\x00\x01c", publisher="p")
    assert bench.store.store(message) is None
    (kept,) = bench.store.match("a")
    assert (kept.payload, kept.qos, kept.retain) == (b"1", 2, True)
    assert (kept.passthrough, kept.publisher) == (b"\x03\x00\x01c", "p")
    assert bench.put("a", b"2") is None
    assert bench.found("#") == {"a": b"2"}
    assert bench.store.count == 1


def test_an_empty_payload_clears_and_is_not_kept() -> None:
    """[MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT311-3.3.1-10] [MQTT311-3.3.1-11]"""
    bench = Bench()
    bench.put("a")
    bench.put("b")
    assert bench.put("a", b"") is None
    assert bench.put("never", b"") is None
    assert bench.found("#") == {"b": b"x"}
    assert bench.store.get("a") is None
    assert (bench.store.count, bench.store.bytes) == (1, 2)


def test_wildcards_do_not_find_dollar_topics() -> None:
    """[MQTT-4.7.2-1] [MQTT311-4.7.2-1]"""
    bench = Bench()
    for topic in ("$SYS/a", "a", "a/b", "x/b"):
        bench.put(topic)
    assert set(bench.found("#")) == {"a", "a/b", "x/b"}
    assert set(bench.found("+/b")) == {"a/b", "x/b"}
    assert set(bench.found("a/#")) == {"a", "a/b"}
    assert set(bench.found("$SYS/#")) == {"$SYS/a"}


def test_too_large_a_payload_is_refused_counted_and_takes_the_old_one_along() -> None:
    bench = Bench(RetainedSettings(maximum_payload=4))
    assert bench.put("a", b"1234") is None
    assert bench.put("a", b"12345") == "retained-payload"
    assert bench.found("#") == {}
    assert bench.metrics.dropped == {"retained-payload": 1}
    assert (bench.store.count, bench.store.bytes) == (0, 0)


def test_no_more_messages_than_allowed_but_known_topics_go_on() -> None:
    bench = Bench(RetainedSettings(maximum_messages=2))
    bench.put("a")
    bench.put("b")
    assert bench.put("c") == "retained-count"
    assert bench.put("a", b"new") is None
    assert bench.found("#") == {"a": b"new", "b": b"x"}
    assert bench.metrics.dropped == {"retained-count": 1}
    bench.put("b", b"")
    assert bench.put("c") is None


def test_no_more_bytes_than_allowed() -> None:
    bench = Bench(RetainedSettings(maximum_bytes=10))
    assert bench.put("a", b"1234") is None
    assert bench.put("b", b"1234") is None
    assert bench.put("c", b"1") == "retained-bytes"
    assert bench.put("a", b"4321") is None
    assert bench.put("a", b"12345") == "retained-bytes"
    assert bench.found("#") == {"b": b"1234"}
    assert bench.store.bytes == 5


def test_zero_means_no_limit() -> None:
    bench = Bench(RetainedSettings(maximum_messages=0, maximum_bytes=0))
    assert bench.put("a", b"x" * 1000) is None


def test_an_expired_message_is_not_found_and_then_deleted() -> None:
    """[MQTT-3.3.2-5]"""
    bench = Bench()
    bench.put("short", expiry=2)
    bench.put("long", expiry=100)
    bench.put("for ever")
    bench.clock.advance(1.9)
    assert set(bench.found("#")) == {"short", "long", "for ever"}
    bench.clock.advance(0.1)
    assert set(bench.found("#")) == {"long", "for ever"}
    assert bench.store.get("short") is None
    bench.clock.advance(1)
    assert bench.store.purge(bench.clock.seconds()) == 1
    assert bench.store.count == 2
    bench.clock.advance(1000)
    assert bench.store.purge(bench.clock.seconds()) == 1
    assert bench.store.count == 1


def test_the_store_gives_an_expiry_to_messages_without() -> None:
    bench = Bench(RetainedSettings(expiry=10))
    bench.put("a")
    bench.put("own", expiry=100)
    bench.put("$SYS/broker/version")
    (message,) = bench.store.match("a")
    assert message.remaining(bench.clock.seconds()) is None, "subscribers are not told of it"
    bench.clock.advance(10)
    assert set(bench.found("#")) == {"own"}
    assert set(bench.found("$SYS/#")) == {"$SYS/broker/version"}
    bench.clock.advance(1)
    assert bench.store.purge(bench.clock.seconds()) == 1


def test_a_new_expiry_holds_for_what_is_stored() -> None:
    bench = Bench()
    bench.put("a")
    bench.store.settings = evolve(bench.store.settings, expiry=5)
    bench.clock.advance(6)
    assert bench.found("#") == {}
    assert bench.store.purge(bench.clock.seconds()) == 1


def test_a_replaced_message_does_not_take_the_new_one_along() -> None:
    bench = Bench()
    bench.put("a", b"old", expiry=1)
    bench.put("a", b"new")
    bench.clock.advance(100)
    assert bench.store.purge(bench.clock.seconds()) == 0
    assert bench.found("#") == {"a": b"new"}


def test_messages_replaced_again_and_again_leave_nothing_behind() -> None:
    bench = Bench()
    for expiry in range(1, 20_000):
        bench.put("a", expiry=expiry * 97 % 20_011)
    assert len(bench.store._due) < 200
    assert len(bench.store._buckets) == 1
    bench.put("a", b"")
    assert bench.store._buckets == {}


def test_a_purge_goes_no_further_than_its_limit() -> None:
    bench = Bench()
    for number in range(25):
        bench.put(str(number), expiry=1)
    bench.clock.advance(5)
    now = bench.clock.seconds()
    assert [bench.store.purge(now, 10) for _ in range(4)] == [10, 10, 5, 0]
    assert (bench.store.count, bench.store.bytes) == (0, 0)


def test_a_reader_may_pause_while_the_store_changes() -> None:
    bench = Bench()
    for number in range(3000):
        bench.put(f"t/{number}")
    reader = bench.store.match("t/#")
    seen = [next(reader).topic for _ in range(100)]
    for number in range(3000):
        if number % 2:
            bench.put(f"t/{number}", b"")
        else:
            bench.put(f"t/{number}", b"new")
    rest = list(reader)
    assert {message.payload for message in rest} == {b"new"}
    topics = seen + [message.topic for message in rest]
    assert len(topics) == len(set(topics))
    assert {f"t/{number}" for number in range(0, 3000, 2)} <= set(topics)


def test_a_reader_finds_no_message_that_expires_while_it_pauses() -> None:
    bench = Bench()
    for number in range(5):
        bench.put(str(number), expiry=5)
    reader = bench.store.match("#")
    next(reader)
    bench.clock.advance(5)
    assert list(reader) == []


TOPICS = st.sampled_from(["a", "a/b", "a/b/c", "b", "$x/a", "/"])


@given(
    st.lists(
        st.tuples(
            TOPICS, st.sampled_from([b"", b"1", b"22"]), st.integers(0, 4), st.integers(0, 2)
        ),
        max_size=50,
    )
)
def test_any_history_leaves_what_a_dict_would_hold(
    history: list[tuple[str, bytes, int, int]],
) -> None:
    bench = Bench()
    model: dict[str, tuple[bytes, float | None]] = {}
    for topic, payload, expiry, advance in history:
        bench.put(topic, payload, expiry or None)
        now = bench.clock.seconds()
        model.pop(topic, None)
        if payload:
            model[topic] = (payload, now + expiry if expiry else None)
        bench.clock.advance(advance)
        now = bench.clock.seconds()
        model = {t: (p, e) for t, (p, e) in model.items() if e is None or e > now}
        for topic_filter in ("#", "a/#", "+/b", "$x/+", "a"):
            assert bench.found(topic_filter) == {
                t: p for t, (p, _) in model.items() if matches(topic_filter, t)
            }
        if advance:
            bench.store.purge(now)
    bench.clock.advance(10)
    bench.store.purge(bench.clock.seconds())
    kept = {message.topic: message for message in bench.store}
    assert bench.store.count == len(kept)
    assert bench.store.bytes == sum(message.size for message in kept.values())
    assert set(kept) == {t for t, (_, e) in model.items() if e is None}
