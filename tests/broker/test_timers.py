"""The timer wheel: on time, bounded, and not stopped by what it calls."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from mqttd.broker.timers import TimerWheel


def test_a_timer_fires_at_its_time_or_one_tick_later() -> None:
    clock = Clock()
    wheel = TimerWheel(clock, tick=0.5)
    fired: list[float] = []
    wheel.call_later(1.2, lambda: fired.append(clock.seconds()))
    clock.pump([0.1] * 12)
    assert fired == []
    clock.pump([0.1] * 4)
    assert len(fired) == 1
    assert 1.2 <= fired[0] <= 1.7001


def test_a_cancelled_timer_does_not_fire() -> None:
    clock = Clock()
    wheel = TimerWheel(clock)
    fired: list[int] = []
    timer = wheel.call_later(1, fired.append, 1)
    assert timer.active
    timer.cancel()
    timer.cancel()
    assert not timer.active
    clock.advance(10)
    assert fired == []


def test_one_delayed_call_serves_all() -> None:
    clock = Clock()
    wheel = TimerWheel(clock)
    for n in range(1000):
        wheel.call_later(1 + n, lambda: None)
    assert len(clock.getDelayedCalls()) == 1


def test_a_nearer_timer_is_not_kept_waiting_by_a_farther_one() -> None:
    clock = Clock()
    wheel = TimerWheel(clock)
    fired: list[int] = []
    wheel.call_later(100, fired.append, 100)
    wheel.call_later(1, fired.append, 1)
    clock.advance(2)
    assert fired == [1]
    clock.advance(100)
    assert fired == [1, 100]


def test_a_callback_may_set_and_cancel_timers() -> None:
    clock = Clock()
    wheel = TimerWheel(clock)
    fired: list[str] = []
    other = wheel.call_later(2, fired.append, "other")

    def first() -> None:
        fired.append("first")
        other.cancel()
        wheel.call_later(0, fired.append, "at once")
        wheel.call_later(3, fired.append, "later")

    wheel.call_later(1, first)
    clock.advance(1.5)
    clock.advance(1)
    assert fired == ["first", "at once"]
    clock.advance(5)
    assert fired == ["first", "at once", "later"]


def test_a_callback_that_fails_stops_no_other(logged_failures: list[Any]) -> None:
    clock = Clock()
    wheel = TimerWheel(clock)
    fired: list[int] = []

    def fail() -> None:
        raise ValueError("meant to be")

    wheel.call_later(1, fail)
    wheel.call_later(1, fired.append, 1)
    clock.advance(2)
    assert fired == [1]
    assert [failure.type for failure in logged_failures] == [ValueError]
    logged_failures.clear()


def test_stop_leaves_nothing_on_the_clock() -> None:
    clock = Clock()
    wheel = TimerWheel(clock)
    timer = wheel.call_later(1, lambda: None)
    wheel.stop()
    assert clock.getDelayedCalls() == []
    timer.cancel()
    wheel.call_later(1, lambda: None)
    assert clock.getDelayedCalls() == []


def test_timers_set_and_cancelled_for_ever_leave_nothing_behind() -> None:
    """A client that reconnects all day must not pay with a timer each time."""
    clock = Clock()
    wheel = TimerWheel(clock)
    for _ in range(50_000):
        wheel.call_later(1e6, lambda: None).cancel()
    assert len(wheel) < 5_000
    kept = [wheel.call_later(1e6 + n, lambda: None) for n in range(100)]
    for n in range(50_000):
        wheel.call_later(2e6 + n, lambda: None).cancel()
    assert len(wheel) < 5_000
    assert all(timer.active for timer in kept)
    fired: list[int] = []
    wheel.call_later(5, fired.append, 5)
    clock.advance(6)
    assert fired == [5]


@given(
    st.lists(st.tuples(st.floats(0, 50), st.booleans()), max_size=40),
    st.lists(st.floats(0.05, 5), max_size=40),
)
def test_every_timer_fires_once_and_in_time(
    timers: list[tuple[float, bool]], steps: list[float]
) -> None:
    clock = Clock()
    wheel = TimerWheel(clock, tick=0.5)
    fired: list[int] = []
    set_at: dict[int, tuple[float, bool]] = {}
    for number, (delay, cancelled) in enumerate(timers):
        timer = wheel.call_later(delay, fired.append, number)
        set_at[number] = (delay, cancelled)
        if cancelled:
            timer.cancel()
    for step in steps:
        clock.advance(step)
        now = clock.seconds()
        for number, (due, cancelled) in set_at.items():
            if cancelled or due > now + 1e-6:
                assert number not in fired
            elif due + 0.5 <= now - 1e-6:
                assert fired.count(number) == 1
