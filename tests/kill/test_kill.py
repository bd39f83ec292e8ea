"""A short form of ``python -m tests.kill``."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.kill.rounds import trial


def test_a_killed_broker_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    result = asyncio.run(trial(tmp_path, rounds=2, seed=4))
    assert result.faults == []
    assert result.acknowledged
