"""The hub: many sockets, one event of the reactor."""

from __future__ import annotations

import select
import socket
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mqttd.net import hub as module
from mqttd.net.hub import MOST, Hub
from mqttd.net.outbound import Flusher, Outbound

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="needs epoll: Linux")


class Reactor:
    """Knows what it is to watch."""

    def __init__(self) -> None:
        self.readers: set[Any] = set()
        self.addReader, self.removeReader = self.readers.add, self.readers.discard


class Transport:
    """One end of a pair of sockets."""

    def __init__(self, hub: Hub, outcome: object = None) -> None:
        self.socket, self.other = socket.socketpair()
        self.fileno = self.socket.fileno
        self.hub = hub
        self.outcome = outcome
        self.seen: list[Any] = []
        self.number = hub.watch(self)  # type: ignore[arg-type]

    def doRead(self) -> object:
        self.seen.append(self.socket.recv(100))
        if isinstance(self.outcome, ValueError):
            raise self.outcome
        return self.outcome() if callable(self.outcome) else self.outcome

    def close(self) -> None:
        self.hub.forget(self.number)
        self.socket.close()

    def connectionLost(self, reason: Failure) -> None:
        self.seen.append(reason.type)
        self.close()


@pytest.fixture
def flusher() -> Flusher:
    return Flusher(Clock())


@pytest.fixture
def hub(flusher: Flusher) -> Hub:
    return Hub(Reactor(), flusher)


def test_it_is_one_reader_of_the_reactor_while_there_is_a_client(hub: Hub) -> None:
    readers = hub._reactor.readers
    assert not readers
    for _ in range(2):
        first, second = Transport(hub), Transport(hub)
        assert readers == {hub}
        first.close()
        assert readers == {hub}
        second.close()
        assert not readers
        assert hub._epoll is None


def test_it_stays_while_somebody_listens(hub: Hub) -> None:
    readers = hub._reactor.readers
    hub.open()
    hub.open()
    hub.close()
    epoll = hub._epoll
    transport = Transport(hub)
    transport.close()
    assert (readers, hub._epoll) == ({hub}, epoll)
    transport = Transport(hub)
    hub.close()
    assert (readers, hub._epoll) == ({hub}, epoll)
    transport.close()
    assert not readers
    assert epoll.closed


def test_all_that_have_sent_something_are_read(hub: Hub) -> None:
    transports = [Transport(hub) for _ in range(5)]
    for transport in transports[1:4]:
        transport.other.send(b"x")
    hub.doRead()
    assert [transport.seen for transport in transports] == [[], [b"x"], [b"x"], [b"x"], []]


def test_what_they_cause_for_others_leaves_at_the_end(hub: Hub, flusher: Flusher) -> None:
    under_way: list[tuple[int, int]] = []

    def look() -> None:
        under_way.append((flusher.chunks, len(flusher.touched)))

    transports = [Transport(hub, look) for _ in range(3)]
    for transport in transports:
        transport.other.send(b"x")
    flusher.touched.append(Outbound())
    hub.doRead()
    assert under_way == 3 * [(1, 1)]
    assert (flusher.chunks, flusher.touched) == (0, [])


def test_a_lone_one_leaves_it_to_the_connection(hub: Hub, flusher: Flusher) -> None:
    under_way: list[int] = []
    transport = Transport(hub, lambda: under_way.append(flusher.chunks))
    transport.other.send(b"x")
    hub.doRead()
    assert under_way == [0]


def test_others_have_their_turn_in_between(hub: Hub) -> None:
    transports = [Transport(hub) for _ in range(MOST + 10)]
    for transport in transports:
        transport.other.send(b"x")
    hub.doRead()
    assert sum(bool(transport.seen) for transport in transports) == MOST
    hub.doRead()
    assert all(transport.seen == [b"x"] for transport in transports)


def test_who_was_closed_by_another_is_not_read(hub: Hub) -> None:
    transports: list[Transport] = []

    def end_the_others() -> None:
        for transport in transports:
            if not transport.seen:
                transport.close()

    transports += [Transport(hub, end_the_others) for _ in range(3)]
    for transport in transports:
        transport.other.send(b"x")
    hub.doRead()
    assert sorted(transport.seen for transport in transports) == [[], [], [b"x"]]


@pytest.mark.parametrize(
    ("outcome", "seen"),
    [
        (CONNECTION_DONE, [b"x", ConnectionDone]),
        (CONNECTION_LOST, [b"x", ConnectionLost]),
        (ValueError("ours"), [b"x", ValueError]),
    ],
)
def test_a_connection_ends_as_its_read_says(
    hub: Hub, outcome: object, seen: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(module.log, "failure", logged.append)
    first, other = Transport(hub, outcome), Transport(hub)
    for transport in (first, other):
        transport.other.send(b"x")
    hub.doRead()
    assert first.seen == seen
    assert other.seen == [b"x"]
    assert not hub._flusher.chunks
    assert len(logged) == isinstance(outcome, ValueError)


def test_the_others_go_on_where_one_can_not_even_be_ended(
    hub: Hub, flusher: Flusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(module.log, "failure", logged.append)

    def fail(reason: Failure) -> None:
        raise ValueError("ours")

    transports = [Transport(hub, CONNECTION_LOST), Transport(hub), Transport(hub)]
    monkeypatch.setattr(transports[0], "connectionLost", fail)
    for transport in transports:
        transport.other.send(b"x")
    hub.doRead()
    assert [transport.seen for transport in transports] == 3 * [[b"x"]]
    assert not flusher.chunks
    assert len(logged) == 1


def test_a_reactor_that_stops_ends_all(hub: Hub) -> None:
    transports = [Transport(hub) for _ in range(3)]
    hub.connectionLost(Failure(CONNECTION_LOST))
    assert [transport.seen for transport in transports] == 3 * [[ConnectionLost]]
    assert not hub._reactor.readers
