"""What every store must do, as tests that run over any backend.

Who writes an ``IStore`` subclasses ``StoreSuite`` in a test module of his own and
says how his store is made::

    class TestMyStore(StoreSuite):
        def make_store(self, reactor, folder, wall_clock, seconds):
            return MyStore(reactor, folder, wall_clock=wall_clock, seconds=seconds)

pytest finds the tests in it. Every store of one test gets the same folder, one
after the other. The reactor is a ``StoreReactor``: it has ``callLater``,
``callFromThread`` and ``seconds``, and runs while a test waits.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from mqttd.interfaces import (
    IStore,
    RestoredSession,
    StoredRow,
    StoredSession,
    StoredSubscription,
)
from mqttd.store.memory import MemoryStore, Tables
from mqttd.store.records import encode_will, packet_id_of, row_state
from mqttd.testing.store_traffic import Traffic, body_of, payload_of

T = TypeVar("T")

#: Seconds that a store may take for anything here, on a busy machine.
PATIENCE = 60.0


class StoreReactor:
    """As much of a reactor as a store needs; turns run in the test's own thread."""

    def __init__(self) -> None:
        self._clock = Clock()
        self._began = time.monotonic()
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.seconds = self._clock.seconds

    def callLater(self, delay: float, call: Callable[..., Any], *arguments: Any) -> Any:
        return self._clock.callLater(delay, call, *arguments)

    def callFromThread(self, call: Callable[..., Any], *arguments: Any) -> None:
        self._calls.put(lambda: call(*arguments))

    def turn(self, wait: float = 0.0) -> None:
        """One turn; waits at most *wait* seconds for a thread to call.

        What the call from a thread puts off runs in the next turn, as in a reactor.
        """
        call: Callable[[], None] | None
        try:
            call = self._calls.get(timeout=wait) if wait else self._calls.get_nowait()
        except Empty:
            call = None
        self._clock.advance(time.monotonic() - self._began - self._clock.seconds())
        if call is not None:
            call()

    def run_until(self, done: Callable[[], bool]) -> None:
        """Turn until *done*; AssertionError if it takes too long."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, "the store takes too long"
            self.turn(0.01)


class StoreSuite:
    """The tests; a subclass gives ``make_store``."""

    reactor: StoreReactor
    folder: Path
    #: Unix time, and the clock that never jumps.
    wall: float
    monotonic: float

    def make_store(
        self,
        reactor: StoreReactor,
        folder: Path,
        wall_clock: Callable[[], float],
        seconds: Callable[[], float],
    ) -> IStore:
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def prepare(self, tmp_path: Path) -> Any:
        self.reactor, self.folder = StoreReactor(), tmp_path / "store"
        self.wall, self.monotonic = 1_800_000_000.0, 1000.0
        self._open: list[IStore] = []
        yield
        for store in list(self._open):
            self.close(store)

    # --- what tests do with a store -----------------------------------------------

    def open(self) -> tuple[IStore, dict[str, RestoredSession], dict[str, bytes]]:
        """A store in the folder; its sessions by client id, and what is retained."""
        store = self.make_store(
            self.reactor, self.folder, lambda: self.wall, lambda: self.monotonic
        )
        contents = store.start()
        self._open.append(store)
        sessions = {each.session.client_id: each for each in contents.sessions}
        retained = dict(contents.retained)
        self.delayed = list(contents.delayed)
        return store, sessions, retained

    def close(self, store: IStore) -> None:
        self._open.remove(store)
        self.wait(store.stop())

    def reopen(self, store: IStore) -> tuple[IStore, dict[str, RestoredSession], dict[str, bytes]]:
        self.close(store)
        return self.open()

    def wait(self, deferred: Deferred[T]) -> T:
        results: list[T] = []
        failures: list[Any] = []
        deferred.addCallbacks(results.append, failures.append)
        self.reactor.run_until(lambda: bool(results or failures))
        if failures:
            failures[0].raiseException()
        return results[0]

    def settle(self, store: IStore) -> None:
        """Wait until all that was added is safe."""
        done: list[bool] = []
        store.committed(lambda: done.append(True))
        self.reactor.run_until(lambda: bool(done))

    def add_session(self, store: IStore, client_id: str, **fields: Any) -> int:
        sid = store.new_session_id()
        store.put_session(StoredSession(sid, client_id, **fields))
        return sid

    def add_row(self, store: IStore, sid: int, seq: int, payload: bytes, **fields: Any) -> int:
        mid = store.put_message(body_of(payload))
        store.put_row(sid, StoredRow(seq, mid, len(payload), row_state(1), **fields))
        return mid

    def payloads(self, store: IStore, sid: int) -> list[bytes]:
        return [payload_of(row) for row in self.wait(store.read(sid, 0, 1000))]

    # --- sessions -------------------------------------------------------------------

    def test_it_provides_the_interface(self) -> None:
        store, sessions, retained = self.open()
        assert self.delayed == []
        verifyObject(IStore, store)
        assert (sessions, retained, store.problem, store.backlog) == ({}, {}, None, 0)

    def test_a_session_comes_back_as_it_was(self) -> None:
        store, *_ = self.open()
        will = encode_will(body_of(b"gone"), 30, None)
        session = StoredSession(
            store.new_session_id(), "käthe", "alice", "site/", "tcp", 3600, 1.5, 2.5, will
        )
        store.put_session(session)
        self.add_session(store, "other")
        _, sessions, _ = self.reopen(store)
        assert sessions["käthe"].session == session
        other = sessions["other"]
        assert other.session == StoredSession(other.session.sid, "other")
        assert (other.rows, other.bytes, other.sent, other.last_seq) == (0, 0, 0, 0)

    def test_the_last_word_counts(self) -> None:
        store, *_ = self.open()
        sid = self.add_session(store, "a", ended_at=None)
        store.put_session(StoredSession(sid, "a", ended_at=7.0))
        self.settle(store)
        store.put_session(StoredSession(sid, "a", ended_at=8.0))
        _, sessions, _ = self.reopen(store)
        assert sessions["a"].session.ended_at == 8.0

    def test_numbers_of_sessions_are_distinct(self) -> None:
        store, *_ = self.open()
        sids = [self.add_session(store, f"c{n}") for n in range(10)]
        store.delete_session(sids[4])
        store, *_ = self.reopen(store)
        more = [store.new_session_id() for _ in range(10)]
        kept = set(sids) - {sids[4]}
        assert len({*more, *kept}) == len(more) + len(kept)

    def test_a_deleted_session_leaves_nothing(self) -> None:
        store, *_ = self.open()
        sid = self.add_session(store, "a")
        store.put_subscription(sid, StoredSubscription("t", 1))
        store.put_incoming(sid, 5)
        self.add_row(store, sid, 1, b"one")
        self.settle(store)
        # And what is still under way goes with it.
        self.add_row(store, sid, 2, b"two")
        store.delete_session(sid)
        self.settle(store)
        assert self.payloads(store, sid) == []
        store, sessions, _ = self.reopen(store)
        assert sessions == {}
        # The number may serve again; nothing of the first owner is there.
        again = store.new_session_id()
        assert again == sid
        store.put_session(StoredSession(again, "b"))
        store, sessions, _ = self.reopen(store)
        assert comparable(sessions["b"]) == (StoredSession(again, "b"), [], [], (0, 0, 0, 0))

    def test_subscriptions(self) -> None:
        store, *_ = self.open()
        sid = self.add_session(store, "a")
        kept = StoredSubscription("$share/g/a/+", 0x2E, 268_435_455)
        thinned = StoredSubscription("t", 1, 0, '{"max-rate": "1/s"}')
        store.put_subscription(sid, StoredSubscription("t", 1, 0, '{"sample": "2"}'))
        store.put_subscription(sid, thinned)
        store.put_subscription(sid, StoredSubscription("$share/g/a/+", 1))
        store.put_subscription(sid, kept)
        store.put_subscription(sid, StoredSubscription("é/#", 2))
        self.settle(store)
        store.delete_subscription(sid, "é/#")
        store.delete_subscription(sid, "never")
        _, sessions, _ = self.reopen(store)
        assert sorted(sessions["a"].subscriptions) == [kept, thinned]

    def test_packet_ids_from_clients(self) -> None:
        store, *_ = self.open()
        sid, other = self.add_session(store, "a"), self.add_session(store, "b")
        for packet_id in (1, 7, 65_535):
            store.put_incoming(sid, packet_id)
        store.put_incoming(other, 2)
        self.settle(store)
        store.delete_incoming(sid, 7)
        store.put_incoming(other, 3)
        store.delete_incoming(other, 3)
        _, sessions, _ = self.reopen(store)
        assert sorted(sessions["a"].incoming) == [1, 65_535]
        assert sorted(sessions["b"].incoming) == [2]

    # --- queues ---------------------------------------------------------------------

    def test_a_row_comes_back_as_it_was(self) -> None:
        store, *_ = self.open()
        sid = self.add_session(store, "a")
        mid = store.put_message(body_of(b"\x00;,\xff"))
        row = StoredRow(3, mid, 17, row_state(2, True), (1, 268_435_455), "$share/é,;/t")
        store.put_row(sid, row)
        store, sessions, _ = self.reopen(store)
        counts = sessions["a"]
        assert (counts.rows, counts.bytes, counts.sent, counts.last_seq) == (1, 17, 0, 3)
        assert self.wait(store.read(sid, 0, 10)) == [row._replace(body=body_of(b"\x00;,\xff"))]

    def test_a_message_serves_many_sessions(self) -> None:
        store, *_ = self.open()
        sids = [self.add_session(store, name) for name in "abc"]
        mid = store.put_message(body_of(b"news"))
        for sid in sids:
            store.put_row(sid, StoredRow(1, mid, 4, row_state(1)))
        self.settle(store)
        for sid in sids[:2]:
            store.delete_rows(sid, [1])
        self.settle(store)
        # A further row, as long as there is one.
        store.put_row(sids[0], StoredRow(2, mid, 4, row_state(1)))
        store.delete_rows(sids[2], [1])
        store, *_ = self.reopen(store)
        assert [self.payloads(store, sid) for sid in sids] == [[b"news"], [], []]

    def test_rows_are_in_order_and_come_in_pages(self) -> None:
        store, *_ = self.open()
        sid = self.add_session(store, "a")
        for seq in range(1, 251):
            self.add_row(store, sid, seq, b"%d" % seq)
        self.settle(store)
        store.delete_rows(sid, [3, 120])
        pages, after = [], 0
        while page := self.wait(store.read(sid, after, 100)):
            assert len(page) <= 100
            pages += page
            after = page[-1].seq
        assert [row.seq for row in pages] == [n for n in range(1, 251) if n not in (3, 120)]
        assert all(payload_of(row) == b"%d" % row.seq for row in pages)

    def test_large_messages_come_one_by_one_if_need_be(self) -> None:
        store, *_ = self.open()
        sid = self.add_session(store, "a")
        bodies = [bytes([n]) * 1_500_000 for n in range(3)]
        for seq, body in enumerate(bodies, 1):
            self.add_row(store, sid, seq, body)
        found, after = [], 0
        while page := self.wait(store.read(sid, after, 100)):
            found += [payload_of(row) for row in page]
            after = page[-1].seq
        assert found == bodies

    def test_a_question_sees_what_was_added_before_it(self) -> None:
        store, *_ = self.open()
        sid = self.add_session(store, "a")
        self.add_row(store, sid, 1, b"one")
        asked = store.read(sid, 0, 10)
        assert [payload_of(row) for row in self.wait(asked)] == [b"one"]
        asked = store.read(sid, 0, 10)
        store.delete_rows(sid, [1])
        assert [row.seq for row in self.wait(asked)] in ([], [1])
        assert self.payloads(store, sid) == []

    def test_what_cancels_out_is_not_kept(self) -> None:
        store, *_ = self.open()
        sid = self.add_session(store, "a")
        self.add_row(store, sid, 1, b"one")
        store.delete_rows(sid, [1])
        store.put_message(body_of(b"for nobody"))
        self.add_row(store, sid, 2, b"two")
        store, sessions, _ = self.reopen(store)
        assert sessions["a"].rows == 1
        assert self.payloads(store, sid) == [b"two"]

    def test_what_was_sent_comes_in_the_order_of_sending(self) -> None:
        store, *_ = self.open()
        sid = self.add_session(store, "a")
        for seq in range(1, 6):
            self.add_row(store, sid, seq, b"%d" % seq)
        store.change_row(sid, 4, row_state(1, packet_id=9, order=1))
        self.settle(store)
        store.change_row(sid, 2, row_state(2, packet_id=65_535, order=2, released=True))
        store.change_row(sid, 99, row_state(1))
        store, sessions, _ = self.reopen(store)
        assert (sessions["a"].rows, sessions["a"].sent) == (5, 2)
        sent = self.wait(store.read_sent(sid))
        assert [(row.seq, packet_id_of(row.state)) for row in sent] == [(4, 9), (2, 65_535)]
        assert sent[1].state == row_state(2, packet_id=65_535, order=2, released=True)
        assert [payload_of(row) for row in sent] == [b"4", b"2"]

    def test_what_has_expired_can_be_found(self) -> None:
        store, *_ = self.open()
        first, second = self.add_session(store, "a"), self.add_session(store, "é")
        now = store.time()
        for sid, seq, left in ((first, 1, 50), (first, 2, 5), (first, 3, None), (second, 1, 3)):
            deadline = None if left is None else now + left
            self.add_row(store, sid, seq, b"x", expires_at=deadline)
        self.add_row(store, second, 2, b"sent", expires_at=now + 1)
        store.change_row(second, 2, row_state(1, packet_id=1, order=1))
        assert self.wait(store.read_expired(10)) == []
        self.monotonic += 10
        self.wall += 10
        found = self.wait(store.read_expired(10))
        assert [(each.client_id, each.sid, each.row.seq) for each in found] == [
            ("é", second, 1),
            ("a", first, 2),
        ]
        assert [each.row for each in found[1:]] == self.wait(store.read(first, 1, 1))
        assert self.wait(store.read_expired(1)) == found[:1]
        store.delete_rows(second, [1])
        assert self.wait(store.read_expired(10)) == found[1:]
        store, *_ = self.reopen(store)
        assert self.wait(store.read_expired(10)) == found[1:]
        (row,) = self.wait(store.read(first, 1, 1))
        assert row.expires_at is None

    # --- retained ---------------------------------------------------------------------

    def test_retained_messages(self) -> None:
        store, *_ = self.open()
        store.put_retained("é/t", body_of(b"old"))
        store.put_retained("gone", body_of(b"x"))
        self.settle(store)
        store.put_retained("é/t", body_of(b"new"))
        store.delete_retained("gone")
        store.delete_retained("never")
        store.put_retained("brief", body_of(b"x"))
        store.delete_retained("brief")
        store.put_retained("empty", b"")
        _, _, retained = self.reopen(store)
        assert retained == {"é/t": body_of(b"new"), "empty": b""}

    # --- delayed messages ---------------------------------------------------------------

    def test_delayed_messages(self) -> None:
        store, *_ = self.open()
        store.put_delayed(1, 30.0, body_of(b"old"))
        store.put_delayed(2, 10.0, body_of(b"x"))
        store.put_delayed(3, 20.0, body_of(b"first"))
        self.settle(store)
        store.put_delayed(1, 25.5, body_of(b"second"))
        store.delete_delayed(2)
        store.put_delayed(4, 1.0, body_of(b"brief"))
        store.delete_delayed(4)
        store.delete_delayed(99)
        self.reopen(store)
        assert self.delayed == [(3, 20.0, body_of(b"first")), (1, 25.5, body_of(b"second"))]

    # --- acknowledgements ---------------------------------------------------------------

    def test_callbacks_come_in_order_and_at_once_when_all_is_safe(self) -> None:
        store, *_ = self.open()
        heard: list[int] = []
        store.committed(lambda: heard.append(0))
        assert heard == [0]
        sid = self.add_session(store, "a")
        store.committed(lambda: heard.append(1))
        for n in range(2, 40):
            self.add_row(store, sid, n, b"x")
            store.committed(lambda n=n: heard.append(n))  # type: ignore[misc]
            if n % 3 == 0:
                self.reactor.turn()
        self.reactor.run_until(lambda: len(heard) == 40)
        assert heard == list(range(40))
        store.committed(lambda: heard.append(40))
        assert heard[-1] == 40

    def test_a_callback_may_add_more(self) -> None:
        store, *_ = self.open()
        sid = self.add_session(store, "a")
        heard: list[str] = []

        def more() -> None:
            heard.append("first")
            self.add_row(store, sid, 1, b"more")
            store.committed(lambda: heard.append("second"))

        store.committed(more)
        self.reactor.run_until(lambda: len(heard) == 2)
        assert heard == ["first", "second"]
        assert self.payloads(store, sid) == [b"more"]

    def test_a_callback_that_raises_harms_nobody(self) -> None:
        store, *_ = self.open()
        self.add_session(store, "a")
        heard: list[int] = []

        def bad() -> None:
            if store.durable:  # one that is not calls at once, into its caller
                raise RuntimeError("a callback of the test")

        store.committed(bad)
        store.committed(lambda: heard.append(1))
        self.reactor.run_until(lambda: bool(heard))

    def test_stopping_commits_what_was_added(self) -> None:
        store, *_ = self.open()
        heard: list[int] = []
        self.add_session(store, "a")
        store.committed(lambda: heard.append(1))
        _, sessions, _ = self.reopen(store)
        assert heard == [1]
        assert list(sessions) == ["a"]

    # --- time -----------------------------------------------------------------------------

    def test_time_goes_on_while_nobody_is_there(self) -> None:
        store, *_ = self.open()
        assert store.time() == self.wall
        self.monotonic += 10
        assert store.time() == self.wall + 10
        self.wall += 10
        self.add_session(store, "a")
        store, *_ = self.reopen(store)
        before = store.time()
        self.add_session(store, "b")
        self.settle(store)
        self.close(store)
        self.wall += 3600
        self.monotonic = 5.0
        store, *_ = self.open()
        assert store.time() == pytest.approx(before + 3600)

    @pytest.mark.parametrize("step", [-1_700_000_000.0, -60.0, 80 * 365 * 86_400.0])
    def test_a_clock_that_steps_makes_nothing_older(self, step: float) -> None:
        store, *_ = self.open()
        self.add_session(store, "a")
        self.settle(store)
        before = store.time()
        # While it runs, no step counts; a step while it is down is not believed.
        self.wall += step
        assert store.time() == before
        self.wall -= step
        self.close(store)
        self.wall += step
        store, *_ = self.open()
        assert store.time() == pytest.approx(before)
        # From here on the new clock is the one that tells the downtime.
        self.add_session(store, "b")
        self.close(store)
        self.wall += 100
        store, *_ = self.open()
        assert store.time() == pytest.approx(before + 100)

    # --- everything -------------------------------------------------------------------------

    @pytest.mark.parametrize("seed", range(3))
    def test_it_holds_what_a_plain_store_holds(self, seed: int) -> None:
        """Random traffic; after each restart, and in between, both say the same."""
        source = random.Random(seed)
        store, *_ = self.open()
        plain = MemoryStore(lambda: self.wall, lambda: self.monotonic, Tables())
        plain.start()
        traffic = Traffic(source)
        for _ in range(6):
            for _ in range(source.randrange(1, 120)):
                traffic.step([store, plain])
                plain.committed(lambda: None)
                if source.random() < 0.2:
                    self.reactor.turn(0.001)
            for sid in traffic.sessions:
                rows, expected_rows = (
                    [row._replace(mid=0) for row in self.wait(each.read(sid, 0, 1000))]
                    for each in (store, plain)
                )
                assert rows == expected_rows
            store, sessions, retained = self.reopen(store)
            expected = {each.session.client_id: each for each in plain.tables.restored()}
            assert {name: comparable(each) for name, each in sessions.items()} == {
                name: comparable(each) for name, each in expected.items()
            }
            assert retained == plain.tables.retained


def comparable(each: RestoredSession) -> tuple[object, ...]:
    """What is kept of a session, in an order of its own."""
    counts = each.rows, each.bytes, each.sent, each.last_seq
    return each.session, sorted(each.subscriptions), sorted(each.incoming), counts
