"""Work in turn: bounds on what runs, on what waits, and on how long."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mqttd.access.workload import Workload
from mqttd.interfaces import LoginBusy, LoginUnavailable, Peer
from tests.access.logins import login


class Bench:
    """A workload, and the work under way in it."""

    def __init__(self, *bounds: int, **more: Any) -> None:
        self.clock = Clock()
        self.workload = Workload(self.clock, *bounds, **more)
        #: Label -> what the work waits for.
        self.begun: dict[str, Deferred[str]] = {}
        self.ended: dict[str, Any] = {}

    def ask(self, label: str, address: str = "a", wanted: bool = True) -> None:
        credentials = login(peer=Peer(address))
        credentials.is_wanted = lambda: wanted

        def work() -> Deferred[str]:
            self.begun[label] = Deferred()
            return self.begun[label]

        answer = self.workload.run(credentials, work)
        answer.addBoth(lambda result: self.ended.__setitem__(label, result))

    def finish(self, label: str) -> None:
        self.begun[label].callback(label)

    def failed(self, label: str, error: type[Exception]) -> bool:
        return bool(self.ended[label].check(error))


def test_so_much_at_once_and_the_rest_in_turn() -> None:
    bench = Bench(2, 10)
    for label in "123":
        bench.ask(label)
    assert list(bench.begun) == ["1", "2"]
    bench.finish("1")
    assert list(bench.begun) == ["1", "2", "3"]
    bench.finish("2")
    bench.finish("3")
    assert bench.ended == {"1": "1", "2": "2", "3": "3"}
    assert (bench.workload.running, bench.workload.waiting) == (0, 0)


def test_addresses_take_turns() -> None:
    bench = Bench(1, 100)
    bench.ask("running")
    for number in range(5):
        bench.ask(f"flood{number}", "flood")
    bench.ask("mine", "mine")
    bench.finish("running")
    bench.finish("flood0")
    assert list(bench.begun)[-1] == "mine"


def test_one_address_leaves_places_to_others() -> None:
    bench = Bench(1, 4, per_address=2)
    bench.ask("running", "flood")
    for label in "123":
        bench.ask(label, "flood")
    assert bench.failed("3", LoginBusy)
    bench.ask("b1", "b")
    bench.ask("c1", "c")
    bench.ask("d1", "d")
    assert bench.failed("d1", LoginBusy)
    assert bench.workload.waiting == 4


def test_for_a_client_that_has_left_nothing_is_done() -> None:
    bench = Bench(1, 10)
    bench.ask("1")
    bench.ask("gone", wanted=False)
    bench.ask("2")
    bench.finish("1")
    assert list(bench.begun) == ["1", "2"]
    assert bench.failed("gone", LoginBusy)


def test_what_takes_too_long_is_stopped_and_its_place_is_free() -> None:
    bench = Bench(1, 10, timeout=5)
    bench.ask("1")
    bench.ask("2")
    bench.clock.advance(5)
    assert bench.failed("1", LoginUnavailable)
    assert "2" in bench.begun
    bench.finish("2")
    bench.clock.advance(5)
    assert bench.ended["2"] == "2"
    assert bench.clock.getDelayedCalls() == []


def test_a_thread_keeps_its_place_until_it_is_done() -> None:
    bench = Bench(1, 10, timeout=5, cancels=False)
    bench.ask("1")
    bench.ask("2")
    bench.clock.advance(5)
    assert bench.failed("1", LoginUnavailable)
    assert "2" not in bench.begun
    bench.finish("1")
    assert "2" in bench.begun


def test_failures_go_to_who_waits() -> None:
    bench = Bench(1, 10)
    bench.ask("1")
    bench.begun["1"].errback(RuntimeError("meant to be"))
    assert bench.failed("1", RuntimeError)

    def fails() -> None:
        raise KeyError("meant to be")

    answer = bench.workload.run(login(), fails)
    answer.addErrback(lambda failure: failure.trap(KeyError))
    assert bench.workload.running == 0


@pytest.mark.parametrize("count", [10_000])
def test_a_long_queue_of_work_that_ends_at_once_needs_no_deep_stack(count: int) -> None:
    bench = Bench(1, count)
    bench.ask("first")
    done: list[int] = []
    for _ in range(count):
        bench.workload.run(login(), lambda: None).addCallback(done.append)
    bench.finish("first")
    assert len(done) == count
