"""The realm and the portal: twisted.cred as the plane of authentication.

Any ``ICredentialsChecker`` for ``IUsernamePassword`` serves MQTT clients as it
is: what a CONNECT says are its credentials, the avatar id that it returns
becomes the principal.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from zope.interface import implementer

from mqttd.access.chain import Chain, CredCheckers
from mqttd.interfaces import Avatar, IMQTTAvatar


@implementer(IRealm)
class MQTTRealm:
    """Makes the avatar of an authenticated client."""

    def requestAvatar(self, avatarId: Any, mind: object, *interfaces: Any) -> Any:
        """An avatar for ``IMQTTAvatar``; a checker may also return a whole one."""
        if IMQTTAvatar not in interfaces:
            raise NotImplementedError("MQTTRealm has avatars for IMQTTAvatar only")
        if IMQTTAvatar.providedBy(avatarId):
            return IMQTTAvatar, avatarId, _nothing
        if avatarId is ANONYMOUS:
            return IMQTTAvatar, Avatar(), _nothing
        if not avatarId:
            raise UnauthorizedLogin("the checker named nobody")
        name = avatarId.decode() if isinstance(avatarId, bytes) else str(avatarId)
        return IMQTTAvatar, Avatar(principal=name), _nothing


def _nothing() -> None:
    """Logging out costs nothing."""


def make_portal(checkers: Iterable[ICredentialsChecker]) -> Portal:
    """A portal to ``MQTTRealm`` through *checkers*; one that says yes is enough."""
    return Portal(MQTTRealm(), [Chain((), [CredCheckers("cred", checkers)])])
