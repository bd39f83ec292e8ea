"""What the bad-input tests share: a witness, and counters of cost."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from gc import collect
from typing import Any

from tests.broker.harness import BareBroker, BareClient


@contextmanager
def unaffected(bare: BareBroker) -> Iterator[None]:
    """Another client is served before and after as if nothing happened."""
    witness = bare.connect("witness")
    witness.subscribe("witness/topic", qos=1)
    yield
    sender = bare.connect("witness-sender")
    sender.publish("witness/topic", b"still here", 1)
    (message,) = witness.messages()
    assert message.payload == b"still here"
    witness.acknowledge(message)
    witness.expect_nothing()
    assert not witness.closed
    sender.disconnect()
    witness.disconnect()


def growth(act: Callable[[], Any]) -> int:
    """Bytes held more after *act* than before, once it has been done already.

    So what fills up to its bound the first time does not count, nor do cycles that
    the collector has not come to yet.
    """
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    try:
        act()
        collect()
        before = tracemalloc.get_traced_memory()[0]
        act()
        collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        if not tracing:
            tracemalloc.stop()


def calls(act: Callable[[], Any]) -> int:
    """How many Python functions *act* calls: a cost that no other load disturbs."""
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        if event == "call":
            count += 1

    sys.setprofile(trace)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


def instructions(act: Callable[[], Any]) -> int:
    """How many bytecode instructions *act* runs: loops count where calls do not."""
    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return count


def finished(client: BareClient, reason: int | None = None) -> None:
    """Closed cleanly, with *reason* where the version can say it."""
    client.expect_closed(reason)
