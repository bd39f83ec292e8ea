"""The queue of one session: bounds, order, priorities."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mqttd.broker.delivery import Delivery
from mqttd.broker.message import Message
from mqttd.broker.queue import OVERHEAD, MessageQueue
from mqttd.settings import SessionSettings


def delivery(topic: str = "t", payload: bytes = b"x", qos: int = 1) -> Delivery:
    return Delivery(Message(topic, payload, qos), qos, False)


def queue_with(**settings: Any) -> MessageQueue:
    return MessageQueue(SessionSettings(**settings))


def drained(queue: MessageQueue) -> list[Delivery]:
    found = []
    while (taken := queue.pop()) is not None:
        found.append(taken)
    return found


def test_an_empty_queue_has_nothing() -> None:
    queue = queue_with()
    assert not queue
    assert queue.pop() is None
    assert queue.drop_oldest(delivery()) is None
    assert list(queue) == []


def test_what_comes_first_goes_first() -> None:
    queue = queue_with()
    deliveries = [delivery(payload=bytes([n])) for n in range(10)]
    for one in deliveries:
        queue.push(one)
    assert list(queue) == deliveries
    assert drained(queue) == deliveries
    assert (queue.messages, queue.bytes, queue.messages_qos0) == (0, 0, 0)


def test_what_is_put_back_goes_first_again() -> None:
    queue = queue_with(priorities={"high": 5})
    first, second = delivery("high"), delivery("low")
    queue.push(first)
    queue.push(second)
    taken = queue.pop()
    assert taken is first
    queue.push_front(taken)
    assert drained(queue) == [first, second]


def test_a_higher_priority_goes_first_and_keeps_its_own_order() -> None:
    queue = queue_with(priorities={"alarm/#": 200, "alarm/fire": 255, "bulk": 0})
    low, alarm, fire, other = (
        delivery("bulk"),
        delivery("alarm/x"),
        delivery("alarm/fire"),
        delivery("alarm/y"),
    )
    for one in (low, alarm, fire, other):
        queue.push(one)
    assert list(queue) == [fire, alarm, other, low]
    assert drained(queue) == [fire, alarm, other, low]


def test_the_oldest_of_the_lowest_priority_is_dropped_first() -> None:
    queue = queue_with(priorities={"high": 1})
    high, low, low_too = delivery("high"), delivery("low"), delivery("low")
    for one in (high, low, low_too):
        queue.push(one)
    urgent = delivery("high")
    assert [queue.drop_oldest(urgent) for _ in range(3)] == [low, low_too, high]


def test_nothing_goes_for_one_of_a_lower_priority() -> None:
    queue = queue_with(priorities={"high": 1})
    queue.push(delivery("high"))
    assert queue.drop_oldest(delivery("low")) is None


def test_room_is_bounded_in_messages() -> None:
    queue = queue_with(maximum_queued_messages=2)
    assert queue.has_room(delivery())
    queue.push(delivery())
    queue.push(delivery())
    assert not queue.has_room(delivery())
    assert queue.has_room(delivery(), 2.0)


def test_room_is_bounded_in_bytes() -> None:
    one = delivery("ab", b"c" * 98)
    queue = queue_with(maximum_queued_bytes=2 * (100 + OVERHEAD))
    queue.push(one)
    assert queue.has_room(one)
    assert not queue.has_room(delivery("ab", b"c" * 99))
    queue.push(one)
    assert not queue.has_room(delivery("", b""))


def test_qos_0_is_counted_apart() -> None:
    queue = queue_with()
    for qos in (0, 1, 0, 2):
        queue.push(delivery(qos=qos))
    assert (queue.messages, queue.messages_qos0) == (4, 2)
    queue.pop()
    assert queue.messages_qos0 == 1
    assert [taken.qos for taken in queue.take_qos0()] == [0]
    assert (len(queue), queue.messages_qos0) == (2, 0)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 2)),
            st.sampled_from(["pop", "drop", "back"]),
        )
    )
)
def test_its_counts_are_those_of_what_it_holds(steps: list[Any]) -> None:
    queue = queue_with(priorities={"a": 9, "b": 3})
    for step in steps:
        if step == "pop":
            queue.pop()
        elif step == "drop":
            queue.drop_oldest(delivery("a"))
        elif step == "back":
            taken = queue.pop()
            if taken is not None:
                queue.push_front(taken)
        else:
            queue.push(delivery(step[0], b"x" * step[1], step[1]))
        held = list(queue)
        assert len(queue) == len(held)
        assert queue.messages_qos0 == sum(not one.qos for one in held)
        assert queue.bytes == sum(one.message.size + OVERHEAD for one in held)
