"""From the settings of ``[[authorization]]`` to sources of rules.

The service calls it when it begins and at each reload, and ``--check-config`` to see
that files can be read. Files are read here, so that one that is wrong is told
before anything has changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import frozen
from zope.interface import implementer

from mqttd.access.authorizer import AccessControl
from mqttd.access.listed import listed_rules
from mqttd.access.looked_up import RedisRules, SQLRules, WebRules
from mqttd.access.mosquitto_acl import load_mosquitto
from mqttd.access.patterns import claim_of
from mqttd.access.rule_file import load_rules
from mqttd.access.rules import ACTIONS
from mqttd.config.errors import ConfigError, Problem
from mqttd.interfaces import AccessRequest, Decision, IRuleSource
from mqttd.settings import AccessSettings, BrokerSettings
from mqttd.settings_access import (
    ClaimsSettings,
    MosquittoFileSettings,
    RedisRulesSettings,
    RuleFileSettings,
    RuleSource,
    SQLRulesSettings,
    WebRulesSettings,
)


@implementer(IRuleSource)
class FileSource:
    """Rules that were read from a file."""

    def __init__(self, name: str, rules: Any, listeners: Iterable[str] = ()) -> None:
        """:param listeners: names of those that the rules are for; none: for all."""
        self.name = name
        self.rules = rules
        self.checks: frozenset[str] = rules.checks
        self._listeners = frozenset(listeners)
        self.decide: Callable[[AccessRequest], Decision | None] = (
            self._decide_there if self._listeners else rules.decide
        )

    def _decide_there(self, request: AccessRequest) -> Decision | None:
        if request.listener_name not in self._listeners:
            return None
        decision: Decision | None = self.rules.decide(request)
        return decision

    def start(self) -> None:
        """A file is read already."""

    def stop(self) -> None:
        """And closed."""


@implementer(IRuleSource)
class ClaimsSource:
    """Rules in a claim of the client's own."""

    checks = ACTIONS

    def __init__(self, name: str, claim: str) -> None:
        self.name = name
        self._claim = claim

    def start(self) -> None:
        """The claims come with the client."""

    def stop(self) -> None:
        """And go with it."""

    def decide(self, request: AccessRequest) -> Decision | None:
        said = claim_of(request, self._claim)
        if said is None:
            return None
        try:
            rules = listed_rules(said, self.name)
        except ValueError as error:
            return Decision(False, f"{self.name} cannot be used: {error}")
        return rules.decide(request)


@frozen
class Surroundings:
    """What sources that look things up are given."""

    reactor: Any
    #: Monotonic time.
    seconds: Callable[[], float]
    #: Seconds that a list of rules is kept.
    lifetime: float


def _rule_file(settings: RuleFileSettings, around: Surroundings) -> FileSource:
    return FileSource(settings.name or settings.path, load_rules(settings.path))


def _mosquitto(settings: MosquittoFileSettings, around: Surroundings) -> FileSource:
    name = settings.name or settings.path
    return FileSource(name, load_mosquitto(settings.path), settings.listeners)


def _claims(settings: ClaimsSettings, around: Surroundings) -> ClaimsSource:
    return ClaimsSource(settings.name or f"claim {settings.claim!r}", settings.claim)


def _web(settings: WebRulesSettings, around: Surroundings) -> WebRules:
    return WebRules(settings, around.reactor)


def _sql(settings: SQLRulesSettings, around: Surroundings) -> SQLRules:
    return SQLRules(settings, around.reactor, around.lifetime, around.seconds)


def _redis(settings: RedisRulesSettings, around: Surroundings) -> RedisRules:
    return RedisRules(settings, around.reactor, around.lifetime, around.seconds)


_MAKERS: Mapping[type[RuleSource], Callable[[Any, Surroundings], IRuleSource]] = {
    RuleFileSettings: _rule_file,
    MosquittoFileSettings: _mosquitto,
    ClaimsSettings: _claims,
    WebRulesSettings: _web,
    SQLRulesSettings: _sql,
    RedisRulesSettings: _redis,
}


def ban_file(settings: BrokerSettings) -> str | None:
    """Where bans are kept; None where nothing is."""
    if settings.abuse.ban_file:
        return settings.abuse.ban_file
    folder = settings.data_directory
    return os.path.join(folder, "bans.json") if folder else None


Sources = tuple[tuple[IRuleSource, ...], tuple[IRuleSource, ...]]


def make_sources(settings: Iterable[RuleSource], around: Surroundings) -> Sources:
    """The sources in force, and those in shadow.

    :raise ConfigError: with everything that is wrong with their files.
    """
    made: list[tuple[bool, IRuleSource]] = []
    problems: list[Problem] = []
    for index, each in enumerate(settings):
        try:
            made.append((each.shadow, _MAKERS[type(each)](each, around)))
        except ConfigError as error:
            problems += [Problem(("authorization", index), f": {x}") for x in error.lines()]
        except ValueError as error:
            problems.append(Problem(("authorization", index), f": {error}"))
    if problems:
        raise ConfigError("mqttd", problems)
    return (
        tuple(source for shadow, source in made if not shadow),
        tuple(source for shadow, source in made if shadow),
    )


def change(control: AccessControl, access: AccessSettings, settings: Iterable[RuleSource]) -> bool:
    """Read all files and put their rules in force; False when there are none.

    :raise ConfigError: when one cannot be used; nothing has changed then.
    """
    # What was looked up is kept twice, as a list of rules and as a decision.
    lifetime = access.decision_lifetime / 2
    around = Surroundings(control.clock, control.seconds, lifetime)
    sources, shadow = make_sources(settings, around)
    control.time_to_live = lifetime
    control.cache_size = access.decisions
    if not (sources or shadow or control.sources or control.shadow):
        return False
    control.replace(sources, shadow)
    return True
