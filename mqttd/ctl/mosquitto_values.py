"""Values of a mosquitto.conf, and what is said of those that cannot be taken over.

``mosquitto_conf`` and ``mosquitto_bridge`` read by these.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

Table = dict[str, Any]


@frozen
class Remark:
    """One thing that the person has to know, or to do."""

    #: Of the file; 0: of no line.
    line: int
    option: str
    text: str
    #: Where it stands, if not in the file that was named.
    file: str = ""


class Unfit(ValueError):
    """A value that mosquitto would not take, or that has no counterpart."""


def as_flag(value: str) -> bool:
    if value.lower() in ("true", "1"):
        return True
    if value.lower() in ("false", "0"):
        return False
    raise Unfit("must be true or false")


def as_number(value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise Unfit("must be a whole number") from None


def as_text(value: str) -> str:
    return value
