"""Any traffic, commits at any time, any crash: nothing acknowledged is lost.

The clients are those of ``tests.kill``, which keep the truth, here on virtual time
and with a store whose commits are made by hand, so that every order of events can
be tried: what is committed before what is sent, and what a crash takes with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from unittest.mock import patch

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mqttd.broker import paging
from mqttd.broker.durability import TICK
from mqttd.settings import BrokerSettings, SessionSettings
from mqttd.testing import ManualStore, VirtualBroker, VirtualClient
from mqttd.testing.virtual import VirtualClock
from mqttd.wire.codes import MQTT5, MQTT311
from mqttd.wire.packets import Connect, Packet, Properties
from tests.kill.clients import Client, Publisher, Subscriber, verdict

#: Clients talk more often than anything else happens, and not always to the end.
WEIGHTS = {"publish": 6, "listen": 12, "tick": 3, "commit": 3, "drop": 1, "connect": 3, "crash": 1}
NAMES = [name for name, weight in WEIGHTS.items() for _ in range(weight)]
STEPS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 6), st.integers(1, 6)),
    min_size=25,
    max_size=90,
)


class World:
    """A broker, its store, and clients that outlive it."""

    def __init__(self, lane: bool, upgrade: bool = False) -> None:
        self.clock = VirtualClock()
        self.store = ManualStore(lambda: 1e9 + self.clock.seconds(), self.clock.seconds)
        self.store.automatic = True
        self._lane = lane
        session = evolve(SessionSettings(), maximum_inflight=4, upgrade_qos=upgrade)
        self._settings = BrokerSettings(session=session)
        self._start()
        self.publishers = [
            Publisher("p1-4", MQTT311, 1, window=0),
            Publisher("p1-5", MQTT5, 1, window=0),
            Publisher("p2-4", MQTT311, 2, window=0),
            Publisher("p2-5", MQTT5, 2, window=0),
        ]
        for publisher in self.publishers:
            publisher.ids = 4
        source = Random(1)
        self.subscribers = [
            Subscriber("s4", MQTT311, 20, 0.0, source),
            Subscriber("s5", MQTT5, 20, 0.0, source),
            Subscriber("narrow", MQTT5, 2, 0.0, source),
        ]
        self.clients: list[Client] = [*self.publishers, *self.subscribers]
        self.ends: dict[Client, VirtualClient] = {}
        for client in self.clients:
            self.connect(client)
            self.listen(client, 9)
            self.listen(client, 9)
        assert all(client.is_kept for client in self.clients)
        assert all(subscriber.subscribed.is_set() for subscriber in self.subscribers)
        self.store.automatic = False

    def _start(self) -> None:
        self.broker = VirtualBroker(self._settings, store=self.store, clock=self.clock)
        self.broker.broker.use_fast_lane = self._lane

    def act(self, name: str, index: int, amount: int) -> None:
        match name:
            case "publish":
                publisher = self.publishers[index % 4]
                publisher.window = min(4, amount + publisher.open)
                if publisher.connected.is_set():
                    publisher.fill()
                publisher.window = 0
            case "listen":
                self.listen(self.clients[index], amount)
            case "commit":
                self.store.commit()
                self.broker.advance()
            case "tick":
                self.broker.advance(amount * TICK)
            case "drop":
                self.drop(self.clients[index])
            case "connect":
                self.connect(self.clients[index])
            case "crash":
                self.crash()

    def connect(self, client: Client) -> None:
        if client in self.ends:
            return
        end = self.ends[client] = self.broker.open(client.version)
        client.send = lambda *packets: self.say(end, packets)  # type: ignore[method-assign]
        properties = Properties()
        if client.version == MQTT5:
            properties["session_expiry_interval"] = 0xFFFF_FFFF
            properties["receive_maximum"] = max(client.window, 20)
            if isinstance(client, Subscriber):
                properties["receive_maximum"] = client.window
        end.send(Connect(client.client_id, client.version, False, properties=properties))

    @staticmethod
    def say(end: VirtualClient, packets: tuple[Packet, ...]) -> None:
        if packets and not end.closed:
            end.send(*packets)

    def listen(self, client: Client, amount: int) -> None:
        """The client sees, and answers, the next *amount* packets."""
        end = self.ends.get(client)
        if end is None:
            return
        packets = end.received[:amount]
        del end.received[:amount]
        for packet in packets:
            client.handle(packet)
        if end.closed and not end.received:
            self._lost(client)

    def drop(self, client: Client) -> None:
        end = self.ends.get(client)
        if end is not None:
            end.drop()
            self._lost(client)

    def _lost(self, client: Client) -> None:
        del self.ends[client]
        client.connected.clear()
        client.send = lambda *packets: None  # type: ignore[method-assign]

    def crash(self) -> None:
        self.broker.broker.stop()
        self.clock.calls.clear()
        for client in list(self.ends):
            self._lost(client)
        self.store = self.store.crash()
        self._start()

    def finish(self) -> list[str]:
        """Let everything arrive; what is wrong then."""
        self.store.automatic = True
        self.store.commit()
        for publisher in self.publishers:
            publisher.is_stopped = True
        quiet = 0
        while quiet < 3:
            for client in self.clients:
                self.connect(client)
            self.broker.advance(3 * TICK)
            self.store.commit()
            self.broker.advance()
            heard = [client for client in self.clients if self.ends[client].received]
            quiet = 0 if heard else quiet + 1
            for client in heard:
                self.listen(client, 1000)
        faults = verdict(self.publishers, self.subscribers)
        faults += [f"{each.client_id} is not done" for each in self.publishers if not each.is_done]
        self.store.commit()
        if any(self.store.tables.rows.values()) or self.store.tables.messages:
            faults.append("something is left in the store")
        return faults


@pytest.fixture(autouse=True)
def short_pages() -> Iterator[None]:
    """Queues are paged after a few messages."""
    with patch.object(paging, "HEAD", 3), patch.object(paging, "PAGE", 4):
        yield


@pytest.mark.parametrize(
    ("lane", "upgrade"),
    [(True, False), (False, False), (False, True)],
    ids=["lane", "plain", "upgraded"],
)
@given(steps=STEPS)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_nothing_is_lost_doubled_or_disordered(
    lane: bool, upgrade: bool, steps: list[tuple[str, int, int]]
) -> None:
    world = World(lane, upgrade)
    for step in steps:
        world.act(*step)
    assert world.finish() == []
    world.broker.stop()
