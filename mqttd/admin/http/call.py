"""One request as a handler sees it, and what it may answer.

The site makes a ``Call`` when the request was found to be allowed and well
formed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from mqttd.admin.http.problems import Problem
from mqttd.admin.http.table import Role


@frozen
class Identity:
    """Who asks."""

    name: str
    role: Role
    #: Where from, for the audit log.
    address: str = "unix"


@frozen
class Reply:
    """An answer that is more than JSON with the route's own status."""

    body: Any = None
    status: int | None = None
    headers: Mapping[str, str] = field(factory=dict)


@frozen
class Call:
    """A request that fits its route."""

    #: ``interfaces.IDaemon``: the broker, and what stands around it.
    daemon: Any
    identity: Identity
    #: The variables of the path, decoded.
    path: Mapping[str, str]
    #: Every query parameter of the route, or its default.
    query: Mapping[str, Any]
    #: The decoded JSON body, which fits the route's schema.
    body: Any
    #: Twisted's request, for answers that are streams.
    request: Any


def read_json(content: bytes, media_type: str) -> Any:
    """The value in *content*.

    :raise Problem: 415 for another media type, 400 for what is not JSON.
    """
    # A form of a foreign web page can send a body without being asked, but not this type.
    if media_type.partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "The body must be JSON, and say so: Content-Type: application/json.")
    try:
        value = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Problem(400, "The body is not JSON.") from None
    if b"\\u" in content:
        _check_text(value)
    return value


def _check_text(value: Any) -> None:
    """Half a character, which JSON can escape, is no text."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Problem(422, "The body has a lone surrogate, which is no text.") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
