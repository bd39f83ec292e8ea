"""The rules of an authorizer as a list, for people: in the order in which they are asked.

The HTTP API shows it. What is looked up elsewhere (a database, a web service, a token) has
no rules before a client asks: such a source is one line that says what it decides on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import field, fields, frozen

from mqttd.access.authorizer import AccessControl
from mqttd.access.build import FileSource
from mqttd.access.mosquitto_acl import Entry, MosquittoRules
from mqttd.access.rules import Rule, RuleSet, Who
from mqttd.interfaces import IRuleSource


@frozen
class ListedRule:
    """One rule, or a source whose rules are elsewhere."""

    #: Name of the source.
    source: str
    shadow: bool
    #: What explanations call it.
    title: str
    #: None: that is looked up.
    allow: bool | None
    actions: list[str]
    #: Topic filters; None: every topic, or what is looked up.
    topics: list[str] | None = None
    #: Condition -> values, as in a file of rules; without any, everybody.
    who: dict[str, Any] = field(factory=dict)
    qos: list[int] | None = None
    retain: bool | None = None
    #: Where in the file it begins, if that is known.
    line: int | None = None


def list_rules(authorizer: AccessControl) -> Iterator[ListedRule]:
    """All rules of *authorizer*: those in force, then those in shadow."""
    for shadow, sources in ((False, authorizer.sources), (True, authorizer.shadow)):
        for source in sources:
            yield from _of(source, shadow)


def _of(source: IRuleSource, shadow: bool) -> Iterable[ListedRule]:
    rules = source.rules if isinstance(source, FileSource) else None
    if isinstance(rules, RuleSet):
        return (_from_rule(each, source.name, shadow) for each in rules.rules)
    if isinstance(rules, MosquittoRules):
        return _from_mosquitto(rules, source.name, shadow)
    return [ListedRule(source.name, shadow, source.name, None, sorted(source.checks))]


def _from_rule(rule: Rule, source: str, shadow: bool) -> ListedRule:
    return ListedRule(
        source,
        shadow,
        rule.title,
        rule.allow,
        sorted(rule.actions),
        None if rule.patterns is None else [pattern.text for pattern in rule.patterns],
        _conditions(rule.who),
        None if rule.qos is None else sorted(rule.qos),
        rule.retain,
        rule.line,
    )


def _conditions(who: Who) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for condition in fields(Who):
        name, value = condition.name, getattr(who, condition.name)
        if isinstance(value, bool):
            found[name] = value
        elif isinstance(value, Mapping) and value:
            found[name] = {claim: list(values) for claim, values in value.items()}
        elif value:
            found[name] = sorted(map(str, value))
    return found


def _from_mosquitto(rules: MosquittoRules, source: str, shadow: bool) -> Iterator[ListedRule]:
    for user, entries in rules.topics.items():
        who = {"authenticated": False} if user is None else {"users": [user]}
        yield from (_from_entry(each, who, source, shadow) for each in entries)
    yield from (_from_entry(each, {}, source, shadow) for each in rules.patterns)


def _from_entry(entry: Entry, who: dict[str, Any], source: str, shadow: bool) -> ListedRule:
    return ListedRule(
        source,
        shadow,
        f"line {entry.line} of {source}",
        bool(entry.grants),
        sorted(entry.grants or MosquittoRules.checks),
        [entry.topic],
        who,
        line=entry.line,
    )
