"""What an endpoint string says of itself, without opening anything.

Twisted's own parser makes endpoints; here is only enough of its grammar to
tell who can reach one, and to fill in what the string leaves out.
"""

from __future__ import annotations

from ipaddress import ip_address

#: Endpoints over IP: type -> address that it listens on by default.
_IP_TYPES = {"tcp": "0.0.0.0", "ssl": "0.0.0.0", "tcp6": "::", "tls": "::"}
_BACKLOG_TYPES = (*_IP_TYPES, "unix")


def split_endpoint(endpoint: str) -> tuple[list[str], dict[str, str]]:
    """Positional and named parts of *endpoint*; a backslash escapes one character."""
    parts: list[list[str]] = [[""]]
    characters = iter(endpoint)
    for character in characters:
        if character == "\\":
            parts[-1][-1] += next(characters, "")
        elif character == ":":
            parts.append([""])
        elif character == "=" and len(parts[-1]) == 1:
            parts[-1].append("")
        else:
            parts[-1][-1] += character
    positional = [part[0] for part in parts if len(part) == 1]
    return positional, {part[0]: part[1] for part in parts if len(part) == 2}


def is_local(endpoint: str) -> bool:
    """Whether only this machine can reach *endpoint*; doubt says no."""
    positional, named = split_endpoint(endpoint)
    kind = positional[0].lower()
    if kind == "haproxy":
        return is_local(endpoint.partition(":")[2])
    if kind in _IP_TYPES:
        return _is_loopback(named.get("interface", _IP_TYPES[kind]))
    domain = positional[1] if len(positional) > 1 else ""
    return kind in ("unix", "stdio") or (
        kind == "systemd" and named.get("domain", domain).upper() == "UNIX"
    )


def _is_loopback(interface: str) -> bool:
    if interface == "localhost":
        return True
    try:
        return ip_address(interface).is_loopback
    except ValueError:
        return False


def is_tls(endpoint: str) -> bool:
    """Whether the endpoint string itself asks for TLS."""
    return split_endpoint(endpoint)[0][0].lower() in ("ssl", "tls")


def with_backlog(endpoint: str, backlog: int) -> str:
    """*endpoint* with *backlog*, unless it has its own or can have none."""
    positional, named = split_endpoint(endpoint)
    if positional[0].lower() not in _BACKLOG_TYPES or "backlog" in named:
        return endpoint
    return f"{endpoint}:backlog={backlog}"
