"""mosquitto's ``acl_file``, read as it is and answered as mosquitto answers.

Lines are ``topic [read|write|readwrite|deny] FILTER``, ``user NAME`` before the
topics of a user, ``pattern ...`` for everyone with ``%u`` and ``%c``, and comments.
Topics before any ``user`` line are for clients without a user name. Denials are
looked at before grants, a user's own topics before patterns. Everyone may
subscribe to anything; what is received is what counts.

In two things we are stricter: a name with ``/`` in it, and an empty one, fill no
pattern that grants something (mosquitto puts them in as they are). A user name
counts when it was proven, which it is in mosquitto with a password file only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import field, frozen

from mqttd.access.patterns import covers, value_of
from mqttd.access.rule_file import read_file
from mqttd.config.errors import ConfigError, Problem
from mqttd.interfaces import PUBLISH, RECEIVE, SUBSCRIBE, AccessRequest, Decision
from mqttd.wire.topics import check_topic_filter

_READ, _WRITE = frozenset({RECEIVE}), frozenset({PUBLISH})
_ACCESS = {"read": _READ, "write": _WRITE, "readwrite": _READ | _WRITE, "deny": frozenset[str]()}


@frozen
class Entry:
    """One topic or pattern line."""

    line: int
    topic: str
    #: What it grants; nothing: it denies everything.
    grants: frozenset[str]
    levels: Sequence[str] = field(init=False, repr=False)

    @levels.default
    def _levels(self) -> Sequence[str]:
        return self.topic.split("/")


class MosquittoRules:
    """What one acl_file says."""

    checks = frozenset({PUBLISH, SUBSCRIBE, RECEIVE})

    def __init__(self, source: str) -> None:
        self.source = source
        #: User (None: no user name) -> its topics, denials first.
        self.topics: dict[str | None, list[Entry]] = {}
        self.patterns: list[Entry] = []

    def decide(self, request: AccessRequest) -> Decision | None:
        """The answer of mosquitto; None where it says no for want of a line that fits."""
        if request.action == SUBSCRIBE:
            return Decision(True, f"{self.source}: mosquitto lets everyone subscribe")
        topic = request.topic.split("/")
        for entry in self.topics.get(request.avatar.principal, ()):
            # [MQTT-4.7.2-1] as covers() has it: "#" is not about $SYS.
            if covers(entry.levels, topic) and (found := self._judged(entry, request)):
                return found
        if self.patterns and _is_dangerous(request):
            return Decision(False, f"{self.source}: + or # in the user name or client id")
        for entry in self.patterns:
            for levels in _filled(entry, request):
                if covers(levels, topic) and (found := self._judged(entry, request)):
                    return found
        return None

    def _judged(self, entry: Entry, request: AccessRequest) -> Decision | None:
        if entry.grants and request.action not in entry.grants:
            return None
        return Decision(bool(entry.grants), f"line {entry.line} of {self.source}")


def _is_dangerous(request: AccessRequest) -> bool:
    names = request.client_id + (request.avatar.principal or "")
    return "+" in names or "#" in names


def _filled(entry: Entry, request: AccessRequest) -> Iterator[Sequence[str]]:
    """The levels of a pattern for this client, if there are any for it."""
    user = request.avatar.principal
    if "%u" in entry.topic and user is None:
        return
    names = {"u": user or "", "c": request.client_id}
    if entry.grants and any(
        f"%{holder}" in entry.topic and value_of(holder, request) is None for holder in names
    ):
        return
    pieces = entry.topic.split("%")
    filled = pieces[0]
    for piece in pieces[1:]:
        # In one pass: a name may hold what looks like a place holder.
        filled += names[piece[0]] + piece[1:] if piece[:1] in names else "%" + piece
    if not entry.topic.startswith("$") and filled.startswith("$") and entry.grants:
        return
    yield filled.split("/")


def load_mosquitto(path: str) -> MosquittoRules:
    """The rules in the acl_file at *path*.

    :raise ConfigError: with everything that is wrong.
    """
    return parse_mosquitto(read_file(path), path)


def parse_mosquitto(text: str, source: str = "acl_file") -> MosquittoRules:
    """As ``load_mosquitto``, from *text*; *source* names it in errors."""
    rules = MosquittoRules(source)
    problems: list[Problem] = []
    user: str | None = None
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip(" \t\r\n\v\f")
        if line.startswith("#"):
            continue
        word, _, rest = line.lstrip(" ").partition(" ")
        try:
            if word == "user":
                user = _user(rest)
            elif word in ("topic", "pattern"):
                _enter(rules, user, word, _entry(number, rest))
            elif word:
                raise ValueError(f'{word[:80]!r} is not "user", "topic" or "pattern"')
        except ValueError as error:
            problems.append(Problem((), f"line {number}: {error}"))
    if not problems and not rules.topics and not rules.patterns:
        problems.append(Problem((), "has no topic and no pattern: it would deny everything"))
    if problems:
        raise ConfigError(source, problems)
    return rules


def _user(rest: str) -> str:
    name = rest.strip(" ")
    if not name:
        raise ValueError("user without a name")
    return name


def _entry(number: int, rest: str) -> Entry:
    first, _, last = rest.lstrip(" ").partition(" ")
    if not first:
        raise ValueError("no topic")
    if not last:
        access, topic = "readwrite", first
    elif first in _ACCESS:
        access, topic = first, last.lstrip(" ")
    else:
        raise ValueError(f'{first[:80]!r} is not "read", "write", "readwrite" or "deny"')
    if check_topic_filter(topic, 65_535, 65_535) is not None:
        raise ValueError(f"{topic[:80]!r} is no topic filter")
    return Entry(number, topic, _ACCESS[access])


def _enter(rules: MosquittoRules, user: str | None, word: str, entry: Entry) -> None:
    entries = rules.patterns if word == "pattern" else rules.topics.setdefault(user, [])
    if entry.grants:
        entries.append(entry)
    else:
        entries.insert(0, entry)
