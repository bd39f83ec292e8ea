"""Passwords are compared beside the reactor, in processes that give way."""

from __future__ import annotations

import os
import signal
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import DeferredList, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from mqttd.access.hashing import HashPool
from mqttd.access.passwords import make_hash
from mqttd.interfaces import LoginBusy, LoginUnavailable, Peer
from mqttd.settings import PasswordHashing
from tests.access.logins import login

ENCODED = make_hash(b"secret")


class InProcesses(TestCase):
    timeout = 60

    def make(self, **settings: Any) -> HashPool:
        pool = HashPool(reactor, PasswordHashing(**{"remember": 0, **settings}))
        pool.start()
        self.addCleanup(pool.stop)
        return pool

    def pids(self, pool: HashPool) -> list[int]:
        return [worker.transport.pid for worker in pool._workers]  # type: ignore[union-attr]

    async def test_right_wrong_and_unknown(self) -> None:
        pool = self.make()
        assert await pool.matches(login("ann", b"secret"), ENCODED) is True
        for password in (b"guess", b"", b"\xff\n 1\n", b"x" * 100_000, b"secret\0"):
            assert await pool.matches(login("ann", password), ENCODED) is False
        assert await pool.matches(login("eve", b"secret"), None, ENCODED) is False
        assert await pool.matches(login("eve", b"secret"), None) is False

    async def test_processes_are_few_nice_and_used_again(self) -> None:
        pool = self.make(processes=2, niceness=7)
        for _ in range(3):
            asked = [pool.matches(login("ann", b"secret"), ENCODED) for _ in range(6)]
            results: Any = await DeferredList(asked)
            assert all(done and right for done, right in results)
            assert len(self.pids(pool)) == 2
        own = os.getpriority(os.PRIO_PROCESS, 0)
        for pid in self.pids(pool):
            assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, own + 7)

    async def test_a_right_password_is_remembered_for_a_while_and_a_wrong_one_never(self) -> None:
        clock = Clock()
        pool = HashPool(clock, PasswordHashing(remember=60))
        compared: list[bytes] = []

        def compare(encoded: str, password: bytes) -> Any:
            compared.append(password)
            return succeed(password == b"secret")

        self.patch(pool, "_compare", compare)  # type: ignore[no-untyped-call]
        other = make_hash(b"other")
        for _ in range(3):
            assert await pool.matches(login("ann", b"secret"), ENCODED)
            assert not await pool.matches(login("ann", b"guess"), ENCODED)
            assert not await pool.matches(login("eve", b"secret"), None, other)
        assert compared == [b"secret", b"guess", b"secret"] + [b"guess", b"secret"] * 2
        compared.clear()
        # Another hash, and so a changed password, is another matter.
        assert await pool.matches(login("ann", b"secret"), other)
        clock.advance(60)
        assert await pool.matches(login("ann", b"secret"), ENCODED)
        assert compared == [b"secret"] * 2

    async def test_a_process_that_dies_refuses_one_login_and_is_replaced(self) -> None:
        pool = self.make(processes=1)
        assert await pool.matches(login("ann", b"secret"), ENCODED)
        (pid,) = self.pids(pool)
        asked = pool.matches(login("ann", b"secret"), ENCODED)
        os.kill(pid, signal.SIGKILL)
        await self.assertFailure(asked, LoginUnavailable)
        assert await pool.matches(login("ann", b"secret"), ENCODED)

    async def test_what_is_no_hash_is_an_error(self) -> None:
        pool = self.make(processes=1)
        await self.assertFailure(pool.matches(login("ann", b"x"), "secret"), LoginUnavailable)
        assert await pool.matches(login("ann", b"secret"), ENCODED)

    async def test_a_flood_from_one_address_leaves_places_to_others(self) -> None:
        pool = self.make(processes=1, maximum_waiting=10, maximum_waiting_per_address=3)
        flood = [pool.matches(login("x", b"y"), ENCODED) for _ in range(50)]
        mine = pool.matches(login("ann", b"secret", peer=Peer("198.51.100.1")), ENCODED)
        assert await mine
        results: Any = await DeferredList(flood, consumeErrors=True)
        assert sum(1 for done, _ in results if done) == 4
        assert all(done or result.check(LoginBusy) for done, result in results)

    async def test_after_the_end_nobody_comes_in(self) -> None:
        pool = self.make()
        assert await pool.matches(login("ann", b"secret"), ENCODED)
        await pool.stop()
        assert self.pids(pool) == []
        await self.assertFailure(pool.matches(login("ann", b"secret"), ENCODED), LoginUnavailable)
