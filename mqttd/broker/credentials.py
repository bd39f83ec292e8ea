"""What a CONNECT says of who it is, in twisted.cred's terms.

The handshake makes one per CONNECT; checkers behind the portal look at it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from attrs import define, field
from twisted.cred.credentials import IUsernamePassword
from zope.interface import implementer

from mqttd.interfaces import IMQTTCredentials, Peer
from mqttd.settings import ListenerSettings


@implementer(IMQTTCredentials, IUsernamePassword)
@define(eq=False)
class MQTTCredentials:
    """The claims of one CONNECT; the password is kept out of every repr."""

    client_id: str
    #: b"" when CONNECT has none.
    username: bytes
    has_username: bool
    password: bytes | None = field(repr=False)
    peer: Peer
    #: None for a login that came by no listener of MQTT.
    listener: ListenerSettings | None
    is_wanted: Callable[[], bool] | None = field(default=None, repr=False)

    def wanted(self) -> bool:
        """False when the client has left meanwhile."""
        return self.is_wanted is None or self.is_wanted()

    def checkPassword(self, password: bytes) -> bool:
        """Compare in constant time."""
        return self.password is not None and hmac.compare_digest(self.password, password)
