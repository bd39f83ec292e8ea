"""``${username}`` and its like, in SQL, Redis keys and LDAP names.

What a client says of itself never becomes part of a language: SQL gets it as a
parameter, LDAP gets it escaped, a key of Redis is one string whatever is in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_PLACE_HOLDER = re.compile(r"\$\{(\w+)\}")


def names_in(template: str) -> list[str]:
    """The names in *template*, in order."""
    return _PLACE_HOLDER.findall(template)


def values_of(credentials: Any) -> dict[str, str | None]:
    """What the names stand for; None is what the client did not say."""
    listener = credentials.listener
    return {
        "username": credentials.username.decode() if credentials.has_username else None,
        "client_id": credentials.client_id or None,
        "address": credentials.peer.address,
        "listener": (listener.name or listener.endpoint) if listener is not None else "",
    }


def needed(template: str, credentials: Any) -> dict[str, str] | None:
    """The values that *template* wants; None when the client lacks one of them."""
    values = values_of(credentials)
    found = {name: values[name] for name in names_in(template)}
    return None if None in found.values() else {k: v for k, v in found.items() if v is not None}


def fill(
    template: str, values: dict[str, str], escape: Callable[[str], str] = lambda value: value
) -> str:
    """*template* with the values, *escape*d each, in one pass."""
    return _PLACE_HOLDER.sub(lambda found: escape(values[found[1]]), template)


def as_parameters(query: str, style: str) -> str:
    """*query* with parameters in place of names, for a driver of *style*.

    ``pyformat`` is ``%(name)s``; ``named`` is ``:name``.
    """
    if style == "named":
        return _PLACE_HOLDER.sub(r":\1", query)
    return _PLACE_HOLDER.sub(r"%(\1)s", query.replace("%", "%%"))
