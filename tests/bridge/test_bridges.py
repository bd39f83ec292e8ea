"""The bridges of one broker: started and stopped by name, and changed while they run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from mqttd.bridge import Bridge, BridgeError, Bridges, BridgeStatus, State
from mqttd.settings_bridge import BridgeSettings, BridgeTopic, Direction, Queue, StartType
from mqttd.testing import VirtualBroker
from mqttd.testing.store import ManualStore
from mqttd.wire.packets import Publish
from tests.client.link import Link

#: Unix time when virtual time begins.
THEN = 1_700_000_000.0


class Site:
    """A broker here, with a store and its bridges, and one there."""

    def __init__(self) -> None:
        self.there = VirtualBroker()
        self.clock = self.there.clock
        self.link = Link(self.clock, self.there.factory.buildProtocol)
        self.store = ManualStore(seconds=self.clock.seconds)
        self.open()

    def open(self) -> None:
        self.store.automatic = True
        self.here = VirtualBroker(clock=self.clock, store=self.store)

    def begin(self, *settings: BridgeSettings) -> Bridges:
        self.bridges = Bridges(
            self.clock,
            self.here.broker,
            settings,
            lambda: THEN + self.clock.seconds(),
            partial(Bridge, where=self.link),
        )
        self.bridges.start()
        self.advance()
        return self.bridges

    def advance(self, seconds: float = 0) -> None:
        self.here.advance(seconds)

    def end(self) -> None:
        self.bridges.stop()
        self.advance(1)
        self.here.broker.drain()
        self.here.stop()

    def crash(self) -> None:
        """What is committed is there when the broker comes back."""
        self.store.commit()
        self.end()
        self.store = self.store.crash()
        self.open()

    def status(self, name: str = "up") -> BridgeStatus:
        return next(each for each in self.bridges.statuses() if each.name == name)

    def states(self) -> dict[str, str]:
        return {each.name: each.state.value for each in self.bridges.statuses()}


#: What stands for a day, since virtual days take their time.
KEPT = 200


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("mqttd.bridge.KEPT", KEPT)
    site = Site()
    yield site
    site.end()
    site.there.stop()
    site.clock.advance_through(100)


def subscriptions(broker: VirtualBroker, client_id: str) -> set[str]:
    session = broker.broker.sessions.get(client_id)
    return set() if session is None else set(session.subscriptions)


OUT = BridgeTopic("out/#", Direction.OUT)
IN = BridgeTopic("in/#", Direction.IN)


def bridge(name: str = "up", **more: Any) -> BridgeSettings:
    more = {"topics": (OUT, IN), "client_id": name, "retry_first": 1.0, **more}
    return BridgeSettings(name, ("mqtt://x:1", "mqtt://y:2"), **more)


def test_a_bridge_says_how_it_fares(site: Site) -> None:
    site.begin(bridge())
    status = site.status()
    assert (status.state, status.since, status.attempts) == (State.CONNECTED, THEN, 1)
    assert (status.away_for, status.last_error) == (None, "")
    site.here.publish("out/a", b"x", 1)
    site.there.publish("in/a", b"x", 1)
    site.advance(1)
    assert (site.status().sent, site.status().received) == (1, 1)
    site.link.down = True
    site.link.cut()
    site.advance()
    assert site.status().state is State.WAITING
    assert "cut" in site.status().last_error
    site.here.publish("out/a", b"xyz", 1)
    site.advance(10)
    status = site.status()
    assert (status.queued, status.away_for) == (1, 10)
    assert status.attempts > 3
    assert "refused" in status.last_error
    site.link.down = False
    site.advance(60)
    status = site.status()
    assert (status.state, status.away_for, status.queued) == (State.CONNECTED, None, 0)
    assert (status.sent, status.address) == (2, "mqtt://x:1")
    assert "refused" in status.last_error


def test_it_stops_and_starts_by_name_and_keeps_what_waits(site: Site) -> None:
    bridges = site.begin(bridge(), bridge("other"))
    site.here.publish("out/a", b"1", 1)
    site.advance(1)
    bridges.stop_one("up")
    site.advance(1)
    assert site.states() == {"up": "stopped", "other": "connected"}
    assert not bridges.is_started("up")
    assert "up" not in site.there.broker.connections
    site.here.publish("out/a", b"2", 1)
    site.advance(60)
    assert (site.status().queued, site.status().away_for) == (1, None)
    bridges.start_one("up")
    site.advance(1)
    status = site.status()
    assert (status.state, status.sent, status.queued) == (State.CONNECTED, 2, 0)
    assert status.attempts == 2
    with pytest.raises(KeyError):
        bridges.is_started("none")


def test_one_that_is_started_at_once_after_a_stop_waits_for_the_other_to_leave(site: Site) -> None:
    bridges = site.begin(bridge())
    for _ in range(3):
        bridges.stop_one("up")
        bridges.start_one("up")
    assert bridges.is_started("up")
    site.advance(5)
    assert site.states() == {"up": "connected"}
    assert len(site.link.attempts) == 2
    bridges.stop_one("up")
    bridges.start_one("up")
    bridges.stop_one("up")
    site.advance(5)
    assert site.states() == {"up": "stopped"}
    assert "up" not in site.there.broker.connections


def test_a_manual_one_waits_for_its_operator(site: Site) -> None:
    bridges = site.begin(bridge(start=StartType.MANUAL))
    site.advance(60)
    assert (site.states(), site.link.attempts) == ({"up": "stopped"}, [])
    assert site.status().away_for is None
    bridges.start_one("up")
    site.advance(1)
    assert site.states() == {"up": "connected"}


def test_a_lazy_one_is_idle_and_not_away(site: Site) -> None:
    site.begin(bridge(start=StartType.LAZY, topics=(OUT,), threshold=1, idle_timeout=5.0))
    assert (site.status().state, site.status().away_for) == (State.IDLE, None)
    site.here.publish("out/a", b"x", 1)
    site.advance(1)
    assert site.status().state is State.CONNECTED
    site.advance(20)
    assert (site.status().state, site.status().away_for) == (State.IDLE, None)


def test_one_that_starts_once_is_over_with_the_first_failure(site: Site) -> None:
    site.link.down = True
    bridges = site.begin(bridge(start=StartType.ONCE))
    site.advance(100)
    assert (site.status().state, len(site.link.attempts)) == (State.STOPPED, 1)
    # Nobody wished that: it is missed.
    assert site.status().away_for == 100
    assert not bridges.is_started("up")
    site.link.down = False
    bridges.start_one("up")
    site.advance(1)
    assert site.states() == {"up": "connected"}


def test_files_are_read_again_at_a_start(site: Site, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("one\n")
    bridges = site.begin(bridge(user_name="u", password_file=str(password)))
    bridges.stop_one("up")
    site.advance(1)
    password.unlink()
    with pytest.raises(BridgeError, match="password"):
        bridges.start_one("up")
    assert site.states() == {"up": "stopped"}
    password.write_text("two\n")
    bridges.start_one("up")
    site.advance(1)
    assert site.states() == {"up": "connected"}


def test_other_settings_begin_end_and_change_bridges(site: Site) -> None:
    bridges = site.begin(bridge(), bridge("same"), bridge("gone"))
    same = site.there.broker.connections["same"]
    more = bridge(topics=(OUT, BridgeTopic("in/only/#", Direction.IN)), keep_alive=30)
    done = bridges.change((more, bridge("same"), bridge("new")))
    assert done == (("bridge gone removed", "bridge up", "bridge new added"), ())
    site.advance(2)
    assert site.states() == {"up": "connected", "same": "connected", "new": "connected"}
    assert site.there.broker.connections["same"] is same
    assert "gone" not in site.there.broker.connections
    assert site.there.broker.connections["up"].keep_alive == 30
    # What it is not subscribed to any more is not sent either.
    assert subscriptions(site.there, "up") == {"in/only/#"}
    assert bridges.settings == (more, bridge("same"), bridge("new"))
    assert bridges.change(bridges.settings) == ((), ())


def test_filters_that_were_taken_away_are_unsubscribed_here(site: Site) -> None:
    site.begin(bridge(topics=(OUT, BridgeTopic("more/#"))))
    there = site.there.connect("listener", keep_alive=0)
    there.subscribe("#", qos=1)
    site.crash()
    site.begin(bridge(topics=(OUT,)))
    assert subscriptions(site.here, "bridge:up") == {"out/#"}
    site.here.publish("more/a", b"", 1)
    site.here.publish("out/a", b"", 1)
    site.advance(1)
    topics = [m.topic for m in there.take(Publish) if not m.topic.startswith("$")]
    assert topics == ["out/a"]
    assert site.status().dropped == {}


def test_what_waits_goes_out_by_the_changed_bridge(site: Site) -> None:
    bridges = site.begin(bridge())
    there = site.there.connect("listener", keep_alive=0)
    there.subscribe("#", qos=0)
    site.link.down = True
    site.link.cut()
    for number in range(100):
        site.here.publish("out/a", b"%d" % number, 1)
    site.advance(1)
    bridges.change((bridge(topics=(evolve(OUT, remote_prefix="far/"), IN)),))
    site.link.down = False
    site.advance(60)
    got = [m for m in there.take(Publish) if m.topic == "far/out/a"]
    assert [m.payload for m in got] == [b"%d" % number for number in range(100)]
    assert site.status().sent == 100


def test_one_that_cannot_be_as_it_should_stays_as_it_was(site: Site, tmp_path: Path) -> None:
    bridges = site.begin(bridge())
    wrong = bridge(password_file=str(tmp_path / "absent"), user_name="u")
    changed, errors = bridges.change((wrong, evolve(wrong, name="new", client_id="new")))
    assert changed == ()
    assert ["'up'" in errors[0], "'new'" in errors[1]] == [True, True]
    assert bridges.settings == (bridge(),)
    site.advance(1)
    assert (site.states(), site.status().attempts) == ({"up": "connected"}, 1)


def test_one_that_was_stopped_stays_so_when_it_changes(site: Site) -> None:
    bridges = site.begin(bridge(), bridge("manual", start=StartType.MANUAL))
    bridges.stop_one("up")
    bridges.start_one("manual")
    site.advance(1)
    bridges.change((bridge(keep_alive=30), bridge("manual", start=StartType.MANUAL, keep_alive=7)))
    site.advance(1)
    assert site.states() == {"up": "stopped", "manual": "connected"}
    bridges.start_one("up")
    site.advance(1)
    assert site.there.broker.connections["up"].keep_alive == 30


@pytest.mark.parametrize("queue", list(Queue))
def test_what_waits_for_one_that_was_taken_out_is_kept_for_a_day(site: Site, queue: Queue) -> None:
    bridges = site.begin(bridge(queue=queue))
    bridges.stop_one("up")
    site.here.publish("out/a", b"x", 1)
    site.advance(1)
    bridges.change(())
    assert site.states() == {}
    sessions = site.here.broker.sessions
    if queue is Queue.MEMORY:
        assert "bridge:up" not in sessions
        return
    site.advance(KEPT / 2)
    assert "bridge:up" in sessions
    # It comes back in time.
    bridges.change((bridge(queue=queue),))
    site.advance(KEPT)
    assert (site.states(), site.status().sent) == ({"up": "connected"}, 1)
    bridges.change(())
    site.advance(KEPT - 10)
    assert "bridge:up" in sessions
    site.advance(20)
    assert "bridge:up" not in sessions


def test_so_it_is_when_it_was_taken_out_before_a_start(site: Site) -> None:
    site.begin(bridge(), bridge("stays"))
    own = site.here.connect("bridge:client", clean_start=False, session_expiry_interval=0xFFFFFFFF)
    own.subscribe("a")
    site.advance(KEPT * 3)
    site.crash()
    site.begin(bridge("stays"))
    assert "bridge:up" in site.here.broker.sessions
    site.advance(KEPT - 20)
    # Another start does not begin the day anew, nor end it early.
    site.crash()
    site.begin(bridge("stays"))
    assert "bridge:up" in site.here.broker.sessions
    site.advance(40)
    assert "bridge:up" not in site.here.broker.sessions
    # What only looks like it is left alone.
    assert "bridge:client" in site.here.broker.sessions
