"""What a CONNECT says of who it is, in twisted.cred's terms.

The handshake makes one per CONNECT; checkers behind the portal look at it.
"""

from __future__ import annotations

import hmac

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
    listener: ListenerSettings

    def checkPassword(self, password: bytes) -> bool:
        """Compare in constant time."""
        return self.password is not None and hmac.compare_digest(self.password, password)
