"""Who may connect, and what they may do: the parts behind the broker's seams.

``twisted.cred`` says who: a ``Portal`` turns ``IMQTTCredentials`` into an avatar.
An ``IAuthorizer`` says what.
"""

from __future__ import annotations

from mqttd.access.authentication import Authentication, AuthenticationError, Changed
from mqttd.access.realm import MQTTRealm, make_portal

__all__ = ["Authentication", "AuthenticationError", "Changed", "MQTTRealm", "make_portal"]
