"""A short run of the fuzzer of connections; its command is the long one."""

from __future__ import annotations

from tests.fuzz.fuzz_connection import run_random


def test_a_few_hundred_connections() -> None:
    run_random(400, 7)
