"""What subscriptions and retained messages cost: bytes and microseconds each.

Run it from the root of the source tree:

    python -m bench.memory_tables [--count 100000]

Bytes are those that Python allocates, by tracemalloc, filter strings and the
session's own dict of its subscriptions included, session objects not.
Times are of the processor, without tracemalloc.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

from mqttd.broker.message import Message
from mqttd.broker.metrics import Metrics
from mqttd.broker.retained import RetainedStore
from mqttd.broker.router import Router
from mqttd.broker.subscription import Subscription, Target
from mqttd.settings import RetainedSettings


class Session:
    """As much of a session as routing sees."""

    __slots__ = ("client_id", "inflight", "online", "subscriptions")

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.online = True
        self.inflight: tuple[int, ...] = ()
        self.subscriptions: dict[str, Subscription] | None = None

    def deliver(self, message: Message, target: Target, /) -> None:
        """Nothing is delivered here."""


def subscribe(pattern: str, count: int, per_session: int) -> Callable[[], Any]:
    """A job: *count* subscriptions to distinct filters."""
    sessions = [Session(f"client-{number}") for number in range(-(-count // per_session))]

    def job() -> Router:
        router = Router()
        for number in range(count):
            session = sessions[number // per_session]
            subscription = Subscription(session, pattern.format(number), 1)
            router.subscribe(subscription)
            if session.subscriptions is None:
                session.subscriptions = {}
            session.subscriptions[subscription.topic_filter] = subscription
        return router

    return job


def retain(pattern: str, count: int, expiry: int) -> Callable[[], Any]:
    """A job: *count* retained messages of 64 bytes on distinct topics."""

    def job() -> RetainedStore:
        store = RetainedStore(RetainedSettings(), lambda: 1000.0, Metrics())
        for number in range(count):
            created_at = 1000.0 + number / 1000
            payload = b"%064d" % number
            message = Message(
                pattern.format(number),
                payload,
                1,
                True,
                publisher="client",
                created_at=created_at,
                expires_at=created_at + expiry if expiry else None,
            )
            reason = store.store(message)
            assert reason is None, reason
        return store

    return job


def bytes_of(job: Callable[[], Any]) -> int:
    gc.collect()
    tracemalloc.start()
    kept = job()
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return size


def microseconds_of(job: Callable[[], Any]) -> tuple[float, Any]:
    gc.collect()
    started = time.process_time()
    result = job()
    return (time.process_time() - started) * 1e6, result


def report(name: str, count: int, make: Callable[[], Callable[[], Any]], limit: int) -> bool:
    size = bytes_of(make()) / count
    duration, _ = microseconds_of(make())
    verdict = "ok" if size < limit else f"OVER {limit}"
    print(f"{name:<58}{size:8.0f} bytes {duration / count:8.2f} us   {verdict}")
    return size < limit


def timing(name: str, times: int, job: Callable[[], Any]) -> None:
    duration, _ = microseconds_of(job)
    print(f"{name:<58}{'':>15}{duration / times:8.2f} us")


def exhaust(items: Iterable[Any]) -> int:
    return sum(1 for _ in items)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000, help="entries of a table")
    count: int = parser.parse_args().count
    good = True
    for pattern, per_session in (
        ("site/device/{}/command", 1),
        ("site/device/{}/command", 100),
        ("site/device/{}/+", 1),
        ("site/+/{}/#", 1),
        ("site/{}/+/command", 100),
        ("$share/workers/site/{}", 1),
    ):
        limit = 2000 if pattern.startswith("$share") else 1000
        good &= report(
            f"{pattern}, {per_session} per session",
            count,
            lambda p=pattern, s=per_session: subscribe(p, count, s),  # type: ignore[misc]
            limit,
        )
    for pattern, expiry in (("site/device/{}/state", 0), ("site/{}", 0), ("site/{}", 86_400)):
        good &= report(
            f"retained {pattern}{', with expiry' if expiry else ''}",
            count,
            lambda p=pattern, e=expiry: retain(p, count, e),  # type: ignore[misc]
            1000,
        )
    router = subscribe("site/{}/+/command", count, 1)()
    topics = [f"site/{number}/x/command" for number in range(count)]
    timing("plan, not cached, one target", count, lambda: [router.plan(t) for t in topics])
    last = topics[-10_000:]
    timing("plan, cached", len(last), lambda: [router.plan(t) for t in last])
    for number in range(100):
        router.subscribe(Subscription(Session(f"observer-{number}"), "site/#"))
    timing(
        "plan, not cached, 101 targets of 2 filters", 10_000, lambda: [router.plan(t) for t in last]
    )
    session = Session("newcomer")
    many = router.plan_count
    timing(
        f"site/# subscribed with {many} plans in the cache, at once",
        1,
        lambda: router.subscribe(Subscription(session, "site/#")),
    )
    store = retain("site/{}", count, 0)()
    timing("retained # read, each", count, lambda: exhaust(store.match("#")))
    timing(
        "retained +/+/nothing searched, each", count, lambda: exhaust(store.match("site/+/nothing"))
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
