"""Rules: who may do what to which topics, the first that fits decides.

``rule_file`` makes them from a file, ``listed`` from tokens and databases. A rule
is looked at in two steps: is it about this client, and about this topic. Rules
that name users or client ids stand in an index by these, so that a file with a
rule for each of ten thousand devices costs each device its own rules only.

A rule about subscribing is one about receiving too. One that allows fits a filter
when it allows everything that the filter matches; one that denies fits when it
denies anything that the filter matches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

from attrs import field, frozen

from mqttd.access.certificate_rules import certificate_matches
from mqttd.access.patterns import Pattern, claim_of, covers, overlaps
from mqttd.interfaces import PUBLISH, RECEIVE, SUBSCRIBE, AccessRequest, Decision

ACTIONS = frozenset({PUBLISH, SUBSCRIBE, RECEIVE})

Network = IPv4Network | IPv6Network


@frozen
class Who:
    """Whom a rule is about; an empty condition is met by everybody."""

    users: frozenset[str] = frozenset()
    clients: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    #: Claim -> the values of which it must have one.
    claims: Mapping[str, tuple[Any, ...]] = field(factory=dict)
    addresses: tuple[Network, ...] = ()
    listeners: frozenset[str] = frozenset()
    certificates: tuple[str, ...] = ()
    #: True: a user; False: a client without a name; None: either.
    authenticated: bool | None = None

    def includes(self, request: AccessRequest, groups: Mapping[str, frozenset[str]]) -> bool:
        """Whether the client is one of these; *groups*: user -> groups of the file."""
        avatar, peer = request.avatar, request.peer
        user = avatar.principal
        if self.users and user not in self.users:
            return False
        if self.clients and request.client_id not in self.clients:
            return False
        if self.listeners and request.listener_name not in self.listeners:
            return False
        if self.authenticated is not None and self.authenticated is (user is None):
            return False
        if self.groups and self.groups.isdisjoint(_groups(request, groups)):
            return False
        if self.claims and not all(
            _has_claim(request, name, values) for name, values in self.claims.items()
        ):
            return False
        if self.addresses and (peer is None or not _is_in(peer.address, self.addresses)):
            return False
        return not self.certificates or (
            peer is not None
            and any(certificate_matches(peer.certificate, one) for one in self.certificates)
        )


def _groups(request: AccessRequest, groups: Mapping[str, frozenset[str]]) -> set[str]:
    said = claim_of(request, "groups")
    found = {name for name in said if isinstance(name, str)} if isinstance(said, list) else set()
    if request.avatar.principal is not None:
        found |= groups.get(request.avatar.principal, frozenset())
    return found


def _has_claim(request: AccessRequest, name: str, values: tuple[Any, ...]) -> bool:
    said = claim_of(request, name)
    found = said if isinstance(said, list) else [said]
    # 1 and true are the same to Python and not to us.
    return any(one == value and type(one) is type(value) for one in found for value in values)


def _is_in(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False  # "unix" or "memory"
    mapped = getattr(parsed, "ipv4_mapped", None)
    return any((mapped or parsed) in network for network in networks)


@frozen
class Rule:
    """One rule; ``title`` is what explanations call it."""

    title: str
    allow: bool
    actions: frozenset[str]
    #: None: every topic.
    patterns: tuple[Pattern, ...] | None
    who: Who = Who()
    #: None: every QoS.
    qos: frozenset[int] | None = None
    #: None: retained or not.
    retain: bool | None = None
    #: Where it begins in its file, if that is known.
    line: int | None = None

    def fits(self, request: AccessRequest, topic: Sequence[str]) -> bool:
        """Whether it is about this action on *topic*, given as its levels."""
        if request.action not in self.actions:
            return False
        if self.qos is not None and request.qos not in self.qos:
            return False
        if self.retain is not None and self.retain is not request.retain:
            return False
        if self.patterns is None:
            return True
        compare = covers if self.allow else overlaps
        for pattern in self.patterns:
            levels = pattern.levels or pattern.fill(request, not self.allow)
            if levels is not None and compare(levels, topic):
                return True
        return False


class RuleSet:
    """Rules in order."""

    def __init__(
        self, rules: Iterable[Rule], groups: Mapping[str, Iterable[str]] | None = None
    ) -> None:
        """*groups*: group -> its users."""
        self.rules = tuple(rules)
        self._groups: dict[str, frozenset[str]] = {}
        for name, users in (groups or {}).items():
            for user in users:
                self._groups[user] = self._groups.get(user, frozenset()) | {name}
        #: Numbers of the rules for everyone, of those for a user, for a client id.
        self._common: list[int] = []
        self._of_user: dict[str, list[int]] = {}
        self._of_client: dict[str, list[int]] = {}
        for number, rule in enumerate(self.rules):
            if rule.who.users:
                for user in rule.who.users:
                    self._of_user.setdefault(user, []).append(number)
            elif rule.who.clients:
                for client in rule.who.clients:
                    self._of_client.setdefault(client, []).append(number)
            else:
                self._common.append(number)

    @property
    def checks(self) -> frozenset[str]:
        return frozenset(action for rule in self.rules for action in rule.actions)

    def decide(self, request: AccessRequest) -> Decision | None:
        """What the first rule that fits says; None when none fits."""
        topic = request.topic.split("/")
        for number in self._candidates(request):
            rule = self.rules[number]
            if rule.fits(request, topic) and rule.who.includes(request, self._groups):
                return Decision(rule.allow, rule.title)
        return None

    def _candidates(self, request: AccessRequest) -> list[int]:
        of_user = self._of_user.get(request.avatar.principal or "")
        of_client = self._of_client.get(request.client_id)
        if not of_user and not of_client:
            return self._common
        return sorted({*self._common, *(of_user or ()), *(of_client or ())})
