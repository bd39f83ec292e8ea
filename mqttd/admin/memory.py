"""How much memory the process uses, and how much it may.

The one place of ``admin`` that asks the operating system. Everything is bytes,
and None where this system does not tell.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from attrs import frozen

#: Where Linux tells what a control group may use: version 2, version 1.
_GROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@frozen
class Memory:
    """Resident memory of the process."""

    current: int | None
    maximum: int


def read_memory(statm: Path = Path("/proc/self/statm")) -> Memory:
    """What the process uses now, and the most it has used."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    maximum = peak if sys.platform == "darwin" else peak * 1024
    try:
        current = int(statm.read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return Memory(None, maximum)
    return Memory(current, max(current, maximum))


def memory_limit(limits: Iterable[Path] = _GROUP_LIMITS) -> int | None:
    """What the process may use: the machine's memory, or less by its control group."""
    found: list[int] = []
    for path in limits:
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    with suppress(OSError, ValueError):
        found.append(os.sysconf("SC_PHYS_PAGES") * resource.getpagesize())
    return min((limit for limit in found if limit > 0), default=None)
