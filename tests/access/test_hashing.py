"""Passwords are compared beside the reactor, in threads that give way."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import DeferredList
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from mqttd.access import hashing
from mqttd.access.hashing import HashPool
from mqttd.access.passwords import make_hash
from mqttd.interfaces import LoginBusy, Peer
from mqttd.settings import PasswordHashing
from tests.access.logins import login

ENCODED = make_hash(b"secret")


class InThreads(TestCase):
    def make(self, **settings: Any) -> HashPool:
        pool = HashPool(reactor, PasswordHashing(**settings))
        pool.start()
        self.addCleanup(pool.stop)
        return pool

    async def test_right_wrong_and_unknown(self) -> None:
        pool = self.make()
        assert await pool.matches(login("ann", b"secret"), ENCODED) is True
        assert await pool.matches(login("ann", b"guess"), ENCODED) is False
        assert await pool.matches(login("eve", b"secret"), None, ENCODED) is False
        assert await pool.matches(login("eve", b"secret"), None) is False

    async def test_the_reactor_goes_on_and_threads_are_few_and_nice(self) -> None:
        pool = self.make(threads=2, niceness=7)
        seen: set[tuple[int, int]] = set()
        released = threading.Event()

        def matches(encoded: str, password: bytes) -> bool:
            nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
            seen.add((threading.get_native_id(), nice))
            return released.wait(20)

        self.patch(hashing, "matches", matches)  # type: ignore[no-untyped-call]
        asked = [pool.matches(login("ann", b"secret"), ENCODED) for _ in range(6)]
        await deferLater(reactor, 0.01, lambda: None)
        assert pool.workload.running == 2
        released.set()
        assert all(answer for _, answer in await DeferredList(asked))
        assert len(seen) <= 2
        if sys.platform == "linux":
            own = os.getpriority(os.PRIO_PROCESS, 0)
            assert {nice for _, nice in seen} == {min(19, max(7, own))}

    async def test_a_flood_from_one_address_leaves_places_to_others(self) -> None:
        pool = self.make(threads=1, maximum_waiting=10, maximum_waiting_per_address=3)
        released = threading.Event()

        def matches(encoded: str, password: bytes) -> bool:
            return released.wait(20)

        self.patch(hashing, "matches", matches)  # type: ignore[no-untyped-call]
        flood = [pool.matches(login("x", b"y"), ENCODED) for _ in range(50)]
        mine = pool.matches(login("ann", b"secret", peer=Peer("198.51.100.1")), ENCODED)
        released.set()
        assert await mine
        results: Any = await DeferredList(flood, consumeErrors=True)
        assert sum(1 for done, _ in results if done) == 4
        assert all(done or result.check(LoginBusy) for done, result in results)
