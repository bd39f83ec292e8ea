"""Addresses and networks: who is who, and who may come in.

The gate asks for every connection; the rules come from the settings as text.
Knows no socket.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


def plain(host: str) -> str:
    """*host* as people write it: an IPv4 address that IPv6 carries is IPv4."""
    # A socket that serves both families shows 192.0.2.1 as ::ffff:192.0.2.1; a
    # PROXY header may bring it as ::ffff:c000:201. No rule may be passed that way.
    if not host.startswith("::ffff:"):
        return host
    try:
        inside = IPv6Address(host).ipv4_mapped
    except ValueError:
        return host
    return host if inside is None else str(inside)


def _parsed(host: str) -> IPv4Address | IPv6Address | None:
    """The address that *host* is; None when it is none ("unix", say)."""
    try:
        return ip_address(plain(host).partition("%")[0])
    except ValueError:
        return None


def is_address(host: str) -> bool:
    """Whether *host* is an IP address."""
    return _parsed(host) is not None


class Networks:
    """A list of networks in CIDR notation."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._networks = [ip_network(text) for text in texts]

    def __contains__(self, host: object) -> bool:
        address = _parsed(str(host))
        return address is not None and any(address in network for network in self._networks)


class AccessRules:
    """Rules such as "deny 10.0.0.0/8" and "allow all": the first match decides.

    Without a match the answer is yes, unless there is an allow rule.
    """

    def __init__(self, rules: Iterable[str]) -> None:
        self._rules: list[tuple[bool, Network | None]] = []
        for rule in rules:
            action, _, network = rule.partition(" ")
            self._rules.append((action == "allow", _network(network)))
        self._otherwise = not any(allow for allow, _ in self._rules)

    def allow(self, host: str) -> bool:
        """Whether *host* may connect; only "all" matches what is no IP address."""
        if not self._rules:
            return True
        address = _parsed(host)
        for allow, network in self._rules:
            if network is None or (address is not None and address in network):
                return allow
        return self._otherwise


def _network(text: str) -> Network | None:
    return None if text == "all" else ip_network(text)
