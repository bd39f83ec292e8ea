"""Durations, sizes and rates as people write them: "5m", "2MiB", "100/s burst 500".

Called by ``structure.py``, which reads, and ``render.py``, which writes. Knows no
setting and no file; what cannot be read is a ``ValueError``.
"""

from __future__ import annotations

import re

from mqttd.fields import Rate

DURATIONS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
SIZES = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
PERIODS = {"s": 1, "m": 60, "h": 3600}

_NUMBER = r"\d[\d_]*(?:\.\d+)?"
_PART = re.compile(rf"({_NUMBER})\s*([A-Za-z]*)\s*")
_RATE = re.compile(rf"({_NUMBER}\s*[A-Za-z]*)\s*/\s*([A-Za-z]+)(?:\s+burst\s+({_NUMBER}\s*\w*))?")


def parse_duration(text: str) -> float:
    """Seconds in "90", "1.5s", "5m" or "1h30m"."""
    text = text.strip()
    if re.fullmatch(_NUMBER, text):
        return _number(text)
    parts = [match.groups() for match in _PART.finditer(text)]
    if _PART.sub("", text) or not parts or any(unit not in DURATIONS for _, unit in parts):
        raise ValueError(f"{text!r} is no duration")
    return _whole(sum(_number(number) * DURATIONS[unit] for number, unit in parts))


def parse_size(text: str) -> float:
    """Bytes in "65536", "64KiB" or "2MB"."""
    match = _PART.fullmatch(text.strip())
    if match is None or (match[2] and match[2] not in SIZES):
        raise ValueError(f"{text!r} is no size")
    return _whole(_number(match[1]) * SIZES.get(match[2], 1))


def parse_rate(text: str, in_bytes: bool) -> Rate:
    """The rate in "100/s", "6000/m burst 50" or, *in_bytes*, "10KiB/s burst 1MiB"."""
    match = _RATE.fullmatch(text.strip())
    if match is None or match[2] not in PERIODS:
        raise ValueError(f"{text!r} is no rate")
    amount = parse_size if in_bytes else _plain
    burst = amount(match[3]) if match[3] else 0
    return Rate(_whole(amount(match[1]) / PERIODS[match[2]]), burst)


def format_duration(seconds: float) -> str:
    """The shortest exact way to write *seconds*: "90s", "2h"."""
    if seconds != int(seconds):
        milliseconds = round(seconds * 1000, 6)
        return f"{_whole(milliseconds):g}ms" if seconds < 1 else f"{seconds!r}s"
    units = ((name, DURATIONS[name]) for name in ("w", "d", "h", "m", "s"))
    name, size = next(((n, s) for n, s in units if seconds >= s and seconds % s == 0), ("s", 1))
    return f"{int(seconds // size)}{name}"


def format_size(size: float) -> str:
    """The shortest exact way to write *size* bytes: "64KiB", "1000B"."""
    for name in ("GiB", "MiB", "KiB"):
        if size >= SIZES[name] and size % SIZES[name] == 0:
            return f"{int(size // SIZES[name])}{name}"
    return f"{_whole(size)!r}B"


def format_rate(rate: Rate, in_bytes: bool) -> str:
    write = format_size if in_bytes else lambda amount: repr(_whole(amount))
    burst = f" burst {write(rate.burst)}" if rate.burst else ""
    return f"{write(rate.rate)}/s{burst}"


def _plain(text: str) -> float:
    match = _PART.fullmatch(text)
    if match is None or match[2]:
        raise ValueError(f"{text!r} is no number")
    return _number(match[1])


def _number(digits: str) -> float:
    return _whole(float(digits)) if "." in digits else int(digits)


def _whole(value: float) -> float:
    """An int where that is exact, so that whole settings stay whole."""
    return int(value) if value == int(value) else value
