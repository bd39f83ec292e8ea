"""Who may connect, and what they may do: the parts behind the broker's seams.

``twisted.cred`` says who: a ``Portal`` turns ``IMQTTCredentials`` into an avatar.
An ``IAuthorizer`` says what.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mqttd.access.authentication import Authentication, AuthenticationError, Changed
    from mqttd.access.realm import MQTTRealm, make_portal

__all__ = ["Authentication", "AuthenticationError", "Changed", "MQTTRealm", "make_portal"]

#: Imported when asked for: the processes that compare passwords need none of it.
_HOMES = {
    "Authentication": "mqttd.access.authentication",
    "AuthenticationError": "mqttd.access.authentication",
    "Changed": "mqttd.access.authentication",
    "MQTTRealm": "mqttd.access.realm",
    "make_portal": "mqttd.access.realm",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
