"""Topics of access rules: filters with place holders, compared level by level.

The rules of files, tokens and databases are made of ``Pattern``. Matching is
linear in the length of pattern and topic: no regular expression is made of what
a rule or a client says.

A place holder never widens a pattern. What would stand for it (a user name, a
client id, a claim) must be there, must not hold ``/``, ``+``, ``#`` or U+0000, and
must not make a $-topic of one that was none. Where it does, a rule that allows
allows nothing, and a rule that denies takes the level for any.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mqttd.interfaces import AccessRequest
from mqttd.wire.topics import check_topic_filter

Levels = Sequence[str]

_PLACE_HOLDER = re.compile(r"%(?:\{([^{}]*)\}|(.?))", re.DOTALL)
_UNSAFE = re.compile("[/+#\0]")
#: Levels and bytes that the filter of a rule may have.
MOST = 65_535


class PatternError(ValueError):
    """A pattern that is none; the text says why."""


class Holder(NamedTuple):
    """Where a name is to be put in: "u", "c", or that of a claim."""

    name: str


class Pattern:
    """One topic filter of a rule."""

    __slots__ = ("_parts", "levels", "text")

    def __init__(self, text: str) -> None:
        """``%u`` is the user, ``%c`` the client id, ``%{claim}`` a claim (dots lead into
        tables), ``%%`` a percent sign.

        :raise PatternError: for another place holder, or what is no topic filter.
        """
        self.text = text
        self._parts = _parse(text)
        #: The levels, or None where a place holder is among them.
        self.levels: tuple[str, ...] | None = None
        if all(isinstance(part, str) for parts in self._parts for part in parts):
            self.levels = tuple("".join(parts) for parts in self._parts)  # type: ignore[arg-type]
            self._parts = []

    def fill(self, request: AccessRequest, deny: bool = False) -> Levels | None:
        """The levels for this client; None when the pattern has none for it."""
        if self.levels is not None:
            return self.levels
        levels: list[str] = []
        for parts in self._parts:
            level = _filled(parts, request)
            if level is None or (not levels and level[:1] == "$" and not _is_dollar(parts)):
                if not deny:
                    return None
                level = "+"
            levels.append(level)
        return levels


def _is_dollar(parts: list[str | Holder]) -> bool:
    return isinstance(parts[0], str) and parts[0].startswith("$")


def _parse(text: str) -> list[list[str | Holder]]:
    """The levels of *text*, each as texts and place holders in turn."""
    if text.startswith(("$share/", "$queue/")):
        raise PatternError("a rule is about the filter inside a shared subscription")
    if check_topic_filter(_PLACE_HOLDER.sub("x", text), MOST, MOST) is not None:
        raise PatternError(f"{text[:80]!r} is no topic filter")
    levels: list[list[str | Holder]] = [[]]
    end = 0
    for found in _PLACE_HOLDER.finditer(text):
        _add(levels, text[end : found.start()])
        end = found.end()
        if found[0] == "%%":
            levels[-1].append("%")
        elif found[1] or found[2] in ("u", "c"):
            levels[-1].append(Holder(found[1] or found[2]))
        else:
            raise PatternError(
                f"{found[0]} is no place holder: %u (user), %c (client id), %{{claim}}, "
                "or %% for a percent sign"
            )
    _add(levels, text[end:])
    return levels


def _add(levels: list[list[str | Holder]], text: str) -> None:
    first, *others = text.split("/")
    if first or not levels[-1]:
        levels[-1].append(first)
    levels.extend([level] for level in others)


def _filled(parts: list[str | Holder], request: AccessRequest) -> str | None:
    """A level with its place holders replaced; None when one may not be."""
    level = ""
    for part in parts:
        value = part if isinstance(part, str) else value_of(part.name, request)
        if value is None:
            return None
        level += value
    return level


def value_of(holder: str, request: AccessRequest) -> str | None:
    """What stands for a place holder, if it may stand in a topic."""
    value: Any
    if holder == "c":
        value = request.client_id
    elif holder == "u":
        value = request.avatar.principal
    else:
        value = claim_of(request, holder)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value or _UNSAFE.search(value):
        return None
    return value


def claim_of(request: AccessRequest, name: str) -> Any:
    """The claim *name* of the client; a dot leads into a table. None: it has none."""
    claims: Any = getattr(request.avatar, "claims", None)
    if isinstance(claims, dict) and name in claims:
        return claims[name]
    for step in name.split("."):
        if not isinstance(claims, dict):
            return None
        claims = claims.get(step)
    return claims


Compare = Callable[[Levels, Levels], bool]


def covers(pattern: Levels, topic: Levels) -> bool:
    """Whether all that *topic* (a name or a filter) matches, *pattern* matches."""
    first = pattern[0]
    if topic[0][:1] == "$" and first in ("+", "#"):
        return False
    count = len(topic)
    for index, level in enumerate(pattern):
        if level == "#":  # the parent level itself included
            return True
        if index == count:
            return False
        other = topic[index]
        if other == "#" or level not in ("+", other):
            return False
    return len(pattern) == count


def overlaps(pattern: Levels, topic: Levels) -> bool:
    """Whether there is a topic that both match; *topic* is a name or a filter."""
    for one, other in ((pattern, topic), (topic, pattern)):
        if one[0] in ("+", "#") and other[0][:1] == "$":
            return False
    for level, other_level in zip(pattern, topic, strict=False):
        if level == "#" or other_level == "#":
            return True
        if level not in ("+", other_level) and other_level != "+":
            return False
    if len(pattern) == len(topic):
        return True
    longer, shorter = (pattern, topic) if len(pattern) > len(topic) else (topic, pattern)
    # "a/#" matches "a" as well.
    return len(longer) == len(shorter) + 1 and longer[-1] == "#"
