"""The file of access rules: TOML in, ``RuleSet`` out, strictly.

What is wrong with a file is told all at once, with the rule and the key. A file
without rules is wrong too: it is more likely half written than meant.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from mqttd.access.certificate_rules import FORMS, is_condition
from mqttd.access.patterns import Pattern, PatternError
from mqttd.access.rules import ACTIONS, Rule, RuleSet, Who
from mqttd.config.errors import ConfigError, Problem
from mqttd.interfaces import PUBLISH, RECEIVE, SUBSCRIBE

ALL = "all"
_KEYS = (
    *("name", "allow", "deny", "topics", "qos", "retain"),
    *("users", "clients", "groups", "claims", "addresses", "listeners", "certificates"),
    "authenticated",
)
_NAMES = "a list of names"
_HEADER = re.compile(r"\s*\[\[\s*rule\s*\]\]")


def read_file(path: str) -> str:
    """The text of *path*.

    :raise ConfigError: when it cannot be read, or is empty.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(path, [Problem((), f"cannot be read: {reason}")]) from None
    if not text.strip():
        raise ConfigError(path, [Problem((), "is empty: it would deny everything")])
    return text


def load_rules(path: str) -> RuleSet:
    """The rules in the file at *path*.

    :raise ConfigError: with everything that is wrong.
    """
    return parse_rules(read_file(path), path)


def parse_rules(text: str, source: str = "rules") -> RuleSet:
    """As ``load_rules``, from TOML *text*; *source* names it in errors and titles."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(source, [Problem((), f"is not TOML: {error}")]) from None
    reader = _Reader(source, text)
    rules = reader.read(document)
    if reader.problems:
        raise ConfigError(source, reader.problems)
    return rules


class _Reader:
    def __init__(self, source: str, text: str = "") -> None:
        self.source = source
        #: Of the headers of rules; a text over several lines might look like one.
        self._lines = [n for n, line in enumerate(text.split("\n"), 1) if _HEADER.match(line)]
        self.problems: list[Problem] = []

    def read(self, document: Mapping[str, Any]) -> RuleSet:
        for key in document:
            self._known(key, ("superusers", "groups", "rule"), (key,))
        rules = []
        if superusers := self._names(document, "superusers", ()):
            title = f"superusers of {self.source}"
            rules.append(Rule(title, True, ACTIONS, None, Who(users=superusers)))
        groups = document.get("groups", {})
        if not isinstance(groups, dict):
            self._problem(("groups",), " must be a table of groups, each with a list of users")
            groups = {}
        members = {name: self._names(groups, name, ("groups",)) for name in groups}
        tables = document.get("rule", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._problem(("rule",), ": must be written as [[rule]], once for each")
            tables = []
        if len(self._lines) != len(tables):
            self._lines = []
        rules += [self._rule(table, index) for index, table in enumerate(tables)]
        if not rules and not self.problems:
            self._problem((), "has no [[rule]]: it would deny everything")
        return RuleSet(rules, members)

    def _rule(self, table: dict[str, Any], index: int) -> Rule:
        path = ("rule", index)
        for key in table:
            self._known(key, _KEYS, (*path, key))
        name = self._typed(table, "name", str, "a text", path, "")
        title = f"rule {index + 1}{f' {name!r}' if name else ''} of {self.source}"
        allow, actions = self._actions(table, path)
        retain = self._typed(table, "retain", bool, "true or false", path, None)
        if retain is not None and SUBSCRIBE in actions:
            self._problem((*path, "retain"), ": a subscription has none; say receive or publish")
        who = Who(
            users=self._names(table, "users", path),
            clients=self._names(table, "clients", path),
            groups=self._names(table, "groups", path),
            claims=self._claims(table, path),
            addresses=self._addresses(table, path),
            listeners=self._names(table, "listeners", path),
            certificates=self._certificates(table, path),
            authenticated=self._typed(table, "authenticated", bool, "true or false", path, None),
        )
        patterns = self._patterns(table, path)
        line = self._lines[index] if self._lines else None
        return Rule(title, allow, actions, patterns, who, self._qos(table, path), retain, line)

    def _actions(
        self, table: dict[str, Any], path: tuple[str | int, ...]
    ) -> tuple[bool, frozenset[str]]:
        given = [key for key in ("allow", "deny") if key in table]
        if len(given) != 1:
            self._problem(path, ": must say either allow or deny")
            return False, ACTIONS
        said = table[given[0]]
        words = [said] if isinstance(said, str) else said
        known = (PUBLISH, SUBSCRIBE, RECEIVE, ALL)
        if not isinstance(words, list) or not words or any(word not in known for word in words):
            text = (
                f' = {said!r}: must be "publish", "subscribe", "receive", "all" or a list of them'
            )
            self._problem((*path, given[0]), text)
            return False, ACTIONS
        actions = set(ACTIONS if ALL in words else words)
        if SUBSCRIBE in actions:
            actions.add(RECEIVE)
        return given[0] == "allow", frozenset(actions)

    def _patterns(
        self, table: dict[str, Any], path: tuple[str | int, ...]
    ) -> tuple[Pattern, ...] | None:
        texts = table.get("topics")
        if not isinstance(texts, list) or not texts or not all(isinstance(x, str) for x in texts):
            self._problem((*path, "topics"), ': must be a list of topic filters, such as ["a/#"]')
            return ()
        patterns = []
        for text in texts:
            try:
                patterns.append(Pattern(text))
            except PatternError as error:
                self._problem((*path, "topics"), f" = {text[:80]!r}: {error}")
        return tuple(patterns)

    def _qos(self, table: dict[str, Any], path: tuple[str | int, ...]) -> frozenset[int] | None:
        if "qos" not in table:
            return None
        said = table["qos"]
        values = said if isinstance(said, list) else [said]
        if not values or any(type(value) is not int or not 0 <= value <= 2 for value in values):
            self._problem((*path, "qos"), f" = {said!r}: must be a list of 0, 1 and 2")
        return frozenset(value for value in values if isinstance(value, int))

    def _claims(
        self, table: dict[str, Any], path: tuple[str | int, ...]
    ) -> dict[str, tuple[Any, ...]]:
        said = table.get("claims", {})
        claims = {}
        if not isinstance(said, dict) or ("claims" in table and not said):
            self._problem((*path, "claims"), ": must be a table of claims and their values")
            return {}
        for name, value in said.items():
            values = tuple(value) if isinstance(value, list) else (value,)
            if not values or any(not isinstance(one, (str, int, bool)) for one in values):
                text = ": must be a text, a whole number, true or false, or a list of these"
                self._problem((*path, "claims", name), text)
            claims[name] = values
        return claims

    def _addresses(self, table: dict[str, Any], path: tuple[str | int, ...]) -> tuple[Any, ...]:
        networks = []
        for text in sorted(self._names(table, "addresses", path)):
            try:
                networks.append(ip_network(text))
            except ValueError:
                allowed = 'an address or a network, such as "10.0.0.0/8"'
                self._problem((*path, "addresses"), f" = {text!r}: must be {allowed}")
        return tuple(networks)

    def _certificates(self, table: dict[str, Any], path: tuple[str | int, ...]) -> tuple[str, ...]:
        conditions = tuple(sorted(self._names(table, "certificates", path)))
        for condition in conditions:
            if not is_condition(condition):
                self._problem((*path, "certificates"), f" = {condition!r}: must be {FORMS}")
        return conditions

    # --- what all of them need --------------------------------------------------------

    def _names(
        self, table: Mapping[str, Any], key: str, path: tuple[str | int, ...]
    ) -> frozenset[str]:
        """The list of texts under *key*; an empty one would not mean what it seems to."""
        if key not in table:
            return frozenset()
        said = table[key]
        names = [said] if isinstance(said, str) else said
        if (
            not isinstance(names, list)
            or not names
            or not all(isinstance(name, str) and name for name in names)
        ):
            self._problem((*path, key), f" = {said!r}: must be {_NAMES}, none of them empty")
            return frozenset()
        return frozenset(names)

    def _typed(
        self,
        table: dict[str, Any],
        key: str,
        kind: type,
        allowed: str,
        path: tuple[str | int, ...],
        default: Any,
    ) -> Any:
        value = table.get(key, default)
        if key in table and not isinstance(value, kind):
            self._problem((*path, key), f" = {value!r}: must be {allowed}")
            return default
        return value

    def _known(self, key: str, known: tuple[str, ...], path: tuple[str | int, ...]) -> None:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f'did you mean "{near[0]}"?' if near else "known here: " + ", ".join(known)
            self._problem(path, f": unknown; {hint}")

    def _problem(self, path: tuple[str | int, ...], text: str) -> None:
        self.problems.append(Problem(path, text))
