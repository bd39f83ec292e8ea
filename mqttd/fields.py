"""The kinds of field that ``settings.py`` is made of, each with its check.

A field knows its unit and what it allows (in its attrs metadata), so that the
check holds for whoever makes the object, and the configuration can read, write
and explain values without knowing the field. Knows no setting by name.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

from attrs import Attribute, field, frozen


class SettingError(ValueError):
    """A setting has a value that it may not have."""

    def __init__(self, name: str, value: object, allowed: str) -> None:
        super().__init__(f"{name} = {value!r}: must be {allowed}")
        self.name = name
        self.value = value
        #: What would be right: "a whole number from 0 to 2".
        self.allowed = allowed


class Unit(Enum):
    """What a number counts, for those who read or write it as text."""

    COUNT = "count"
    FACTOR = "factor"
    SECONDS = "seconds"
    BYTES = "bytes"
    BYTES_PER_SECOND = "bytes per second"
    EVENTS_PER_SECOND = "per second"


_E = TypeVar("_E", bound=Enum)
Check = Callable[[Any, "Attribute[Any]", Any], None]


def check(allowed: str, right: Callable[[Any], bool]) -> Check:
    """A validator: what is not *right* should have been what *allowed* says."""

    def validate(instance: object, attribute: Attribute[Any], value: Any) -> None:
        if not right(value):
            raise SettingError(attribute.name, value, allowed)

    return validate


def _between(least: float, most: float | None) -> str:
    return f"of at least {least:g}" if most is None else f"from {least:,} to {most:,}"


def number(
    default: Any,
    unit: Unit,
    types: tuple[type[int] | type[float], ...],
    least: float,
    most: float | None,
    absent: str = "",
) -> Any:
    """A number field; *absent* is the word that stands for None, if None may be."""
    whole = float not in types
    what = {
        Unit.SECONDS: f'a duration in {"whole " if whole else ""}seconds or such as "10s",',
        Unit.BYTES: 'a size in bytes or such as "64KiB",',
    }.get(unit, "a whole number" if whole else "a number")
    allowed = f"{what} {_between(least, most)}" + (f', or "{absent}"' if absent else "")

    def right(value: Any) -> bool:
        if value is None:
            return bool(absent)
        if not isinstance(value, types) or isinstance(value, bool):
            return False
        return bool(value >= least and (most is None or value <= most))

    metadata = {"unit": unit, "absent": absent, "allowed": allowed}
    return field(default=default, validator=check(allowed, right), metadata=metadata)


def count(default: int, least: int = 0, most: int | None = None) -> Any:
    return number(default, Unit.COUNT, (int,), least, most)


def size(default: int, least: int = 0, most: int | None = None) -> Any:
    return number(default, Unit.BYTES, (int,), least, most)


def seconds(default: float, least: float = 0, most: float | None = None) -> Any:
    return number(default, Unit.SECONDS, (int, float), least, most)


def whole_seconds(default: int | None, most: int | None = None, absent: str = "") -> Any:
    return number(default, Unit.SECONDS, (int,), 0, most, absent)


def flag(default: bool) -> Any:
    allowed = "true or false"
    validator = check(allowed, lambda value: isinstance(value, bool))
    return field(default=default, validator=validator, metadata={"allowed": allowed})


def text(default: str = "", most: int = 65_535) -> Any:
    """*most* bytes in UTF-8; no U+0000, since all of it may end up in a packet."""
    allowed = f"text of at most {most:,} bytes"

    def right(value: Any) -> bool:
        return isinstance(value, str) and "\0" not in value and len(value.encode()) <= most

    return field(default=default, validator=check(allowed, right), metadata={"allowed": allowed})


def checked(default: Any, allowed: str, right: Callable[[Any], bool]) -> Any:
    """A field with a check of its own."""
    return field(default=default, validator=check(allowed, right), metadata={"allowed": allowed})


def one_of(default: str, *words: str) -> Any:
    allowed = "one of " + ", ".join(f'"{word}"' for word in words)
    validator = check(allowed, lambda value: value in words)
    return field(default=default, validator=validator, metadata={"allowed": allowed})


def choice(default: _E) -> Any:
    kind = type(default)
    allowed = "one of " + ", ".join(f'"{member.value}"' for member in kind)
    validator = check(allowed, lambda value: isinstance(value, kind))
    return field(default=default, validator=validator, metadata={"allowed": allowed})


def part(kind: type) -> Any:
    """A group of settings inside another."""
    validator = check(f"a {kind.__name__}", lambda value: isinstance(value, kind))
    return field(factory=kind, validator=validator)


def parts(kind: type, allowed: str) -> Any:
    """A list of groups of settings; a list of tables in the file."""

    def all_right(value: Any) -> bool:
        return isinstance(value, tuple) and all(isinstance(item, kind) for item in value)

    return field(default=(), validator=check(allowed, all_right), metadata={"allowed": allowed})


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


@frozen
class Rate:
    """A token bucket: *rate* units per second, at most *burst* at once."""

    rate: float = field(validator=check("a number above 0", _is_positive))
    #: 0 means one second's worth.
    burst: float = number(0, Unit.FACTOR, (int, float), 0, None)


def rate(unit: Unit = Unit.BYTES_PER_SECOND) -> Any:
    example = "10KiB/s burst 100KiB" if unit is Unit.BYTES_PER_SECOND else "100/s burst 500"
    allowed = f'a rate such as "{example}", or "unlimited"'
    validator = check(allowed, lambda value: value is None or isinstance(value, Rate))
    metadata = {"unit": unit, "absent": "unlimited", "allowed": allowed}
    return field(default=None, validator=validator, metadata=metadata)


def texts(default: tuple[str, ...], allowed: str, right: Callable[[str], bool]) -> Any:
    def all_right(value: Any) -> bool:
        return isinstance(value, tuple) and all(isinstance(x, str) and right(x) for x in value)

    validator = check(allowed, all_right)
    return field(default=default, validator=validator, metadata={"allowed": allowed})


def table(allowed: str, right: Callable[[Any], bool]) -> Any:
    def all_right(value: Any) -> bool:
        return isinstance(value, dict) and all(
            isinstance(key, str) and key and right(item) for key, item in value.items()
        )

    return field(factory=dict, validator=check(allowed, all_right), metadata={"allowed": allowed})
