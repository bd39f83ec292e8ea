"""Rules that a token, a database or a web service lists for one client.

They come as data: a list of ``{"permission": "allow", "action": "publish", "topic":
"a/#"}`` with ``qos`` and ``retain`` if they matter, or a table of topic lists
``{"pub": [...], "sub": [...], "all": [...]}`` that are allowed. What is not clearly
one of these is an error, and an error refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mqttd.access.patterns import Pattern
from mqttd.access.rules import ACTIONS, Rule, RuleSet
from mqttd.interfaces import PUBLISH, RECEIVE, SUBSCRIBE

_SUBSCRIBES = frozenset({SUBSCRIBE, RECEIVE})
_ACTIONS: dict[str, frozenset[str]] = {
    PUBLISH: frozenset({PUBLISH}),
    SUBSCRIBE: _SUBSCRIBES,
    RECEIVE: frozenset({RECEIVE}),
    "pub": frozenset({PUBLISH}),
    "sub": _SUBSCRIBES,
    "all": ACTIONS,
    "pubsub": ACTIONS,
}
_PERMISSIONS = {"allow": True, "deny": False}
#: Rules that one client may have, and topics of a table.
MOST_RULES = 1000


class ListError(ValueError):
    """What should be a list of rules is none; the text says why."""


def listed_rules(said: Any, source: str) -> RuleSet:
    """The rules that *said* lists; *source* is what explanations call it.

    :raise ListError: when it is no list of rules.
    """
    if isinstance(said, Mapping):
        rules = _from_table(said, source)
    elif isinstance(said, Sequence) and not isinstance(said, (str, bytes)):
        if len(said) > MOST_RULES:
            raise ListError(f"more than {MOST_RULES} rules")
        rules = [_rule(one, number, source) for number, one in enumerate(said, 1)]
    else:
        raise ListError("neither a list of rules nor a table of topics")
    return RuleSet(rules)


def _from_table(said: Mapping[Any, Any], source: str) -> list[Rule]:
    rules = []
    for key, topics in said.items():
        if key not in _ACTIONS or not isinstance(topics, list) or len(topics) > MOST_RULES:
            raise ListError(f"{key!r} is no list of topics to publish or subscribe to")
        if topics:
            patterns = tuple(_pattern(topic) for topic in topics)
            rules.append(Rule(f"{key!r} of {source}", True, _ACTIONS[key], patterns))
    return rules


def _rule(said: Any, number: int, source: str) -> Rule:
    if not isinstance(said, Mapping):
        raise ListError(f"rule {number} is no table")
    permission, action = said.get("permission", "allow"), said.get("action")
    qos, retain = said.get("qos"), said.get("retain")
    if not isinstance(permission, str) or permission not in _PERMISSIONS:
        raise ListError(f'rule {number}: permission is not "allow" or "deny"')
    if not isinstance(action, str) or action not in _ACTIONS:
        raise ListError(f"rule {number}: action is none of {', '.join(_ACTIONS)}")
    if (qos is not None and (type(qos) is not int or not 0 <= qos <= 2)) or (
        retain is not None and not isinstance(retain, bool)
    ):
        raise ListError(f"rule {number}: qos is from 0 to 2, retain is true or false")
    unknown = set(said) - {"permission", "action", "topic", "qos", "retain"}
    if unknown:
        # A condition that we do not know would widen the rule when left out.
        raise ListError(f"rule {number}: unknown {sorted(map(str, unknown))}")
    return Rule(
        f"rule {number} of {source}",
        _PERMISSIONS[permission],
        _ACTIONS[action],
        (_pattern(said.get("topic")),),
        qos=None if qos is None else frozenset({qos}),
        retain=retain,
    )


def _pattern(said: Any) -> Pattern:
    if not isinstance(said, str):
        raise ListError("a topic is no text")
    return Pattern(said)
