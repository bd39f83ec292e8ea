"""Every seam of the broker: what may be replaced, and what the parts promise.

``wire`` and ``broker`` see their surroundings only through these interfaces.
Names follow zope.interface; a provider declares itself with ``@implementer``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from zope.interface import Attribute, Interface, implementer

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from twisted.internet.defer import Deferred

    from mqttd.settings import ListenerSettings


# --- the network side of a connection -------------------------------------


@define
class Peer:
    """Where a connection comes from, as far as it may be believed."""

    #: IP address, or "unix" or "memory"; after the PROXY header if there is one.
    address: str
    port: int = 0
    #: The verified client certificate, if any.
    certificate: Certificate | None = None
    #: User name taken from the certificate, if the listener says so.
    certificate_user: str | None = None
    #: Server name of the TLS handshake.
    server_name: str | None = None
    tls: bool = False


class ITransport(Interface):
    """What the protocol machine knows of its network side.

    TCP, TLS, WebSocket and in-memory transports all look like this. The
    transport calls ``packet_received``, ``connection_lost``,
    ``pause_delivery`` and ``resume_delivery`` on its connection.
    """

    peer: Peer = Attribute("Where the client is.")
    listener: ListenerSettings = Attribute("The listener's settings.")
    version: int = Attribute("Protocol level of the CONNECT being parsed; 0 before.")
    writable: bool = Attribute(
        "False while the output buffer is full; a session queues then. When it "
        "has drained, the transport calls the connection's resume_delivery()."
    )

    def write(data: bytes) -> None:
        """Send *data*, in order, gathered with what the turn writes besides."""

    def pause(reason: int) -> None:
        """Stop reading and parsing for *reason* (``mqttd.broker.pause``)."""

    def resume(reason: int) -> None:
        """End *reason*; reading goes on when none is left."""

    def close() -> None:
        """Flush and close; cut when that takes longer than the limit allows."""

    def abort() -> None:
        """Close at once and drop what is not sent."""

    def accepted(
        version: int, keep_alive: float, maximum_packet_size: int, user: str | None
    ) -> None:
        """CONNECT was accepted: stop the CONNECT deadline, watch *keep_alive*
        (seconds until the connection counts as dead, 0 for never), and join
        the buckets shared by *user*."""


# --- who -------------------------------------------------------------------


class IMQTTCredentials(Interface):
    """What a CONNECT says of who it is; adapts to cred's usual interfaces."""

    client_id: str = Attribute("Client identifier, after assignment.")
    username: bytes = Attribute("User name, UTF-8; b'' when absent.")
    has_username: bool = Attribute("Whether CONNECT carried a user name.")
    password: bytes | None = Attribute("Password, or None.")
    peer: Peer = Attribute("Where the client is.")
    listener: ListenerSettings = Attribute("Where it came in.")

    def checkPassword(password: bytes) -> bool:
        """As in ``IUsernamePassword``."""


class IMQTTAvatar(Interface):
    """The authenticated client: cred's avatar for ``Portal.login``."""

    principal: str | None = Attribute("Stable name of who this is; None: anonymous.")
    superuser: bool = Attribute("True passes every access rule.")
    expires_at: float | None = Attribute(
        "Clock time at which the right to be connected ends, or None."
    )


@implementer(IMQTTAvatar)
@frozen
class Avatar:
    """The plain avatar."""

    principal: str | None = None
    superuser: bool = False
    expires_at: float | None = None
    #: Claims or groups that an authorizer may look at.
    claims: dict[str, Any] = field(factory=dict)


class IAuthenticationMethod(Interface):
    """One method of enhanced authentication (MQTT 5.0 section 4.12)."""

    name: str = Attribute("The Authentication Method, as in CONNECT.")

    def start(credentials: Any) -> Any:
        """Begin an exchange for *credentials*; returns an ``IAuthenticationExchange``."""


@frozen
class Challenge:
    """Send AUTH 0x18 with this data and wait for the client's answer."""

    data: bytes


@frozen
class Accepted:
    """The exchange succeeded: *avatar* it is; *data* goes into CONNACK or AUTH."""

    avatar: Any
    data: bytes | None = None


class IAuthenticationExchange(Interface):
    def respond(data: bytes | None) -> Any:
        """Take the client's next data (None: CONNECT had none).

        Returns ``Challenge`` or ``Accepted``, or a Deferred of one; raises, or
        fails with, ``twisted.cred.error.UnauthorizedLogin`` to refuse.
        """


# --- what ------------------------------------------------------------------

PUBLISH = "publish"
SUBSCRIBE = "subscribe"
RECEIVE = "receive"


@frozen
class AccessRequest:
    """May this client do this? The question that an ``IAuthorizer`` answers."""

    avatar: Any
    client_id: str
    peer: Peer | None
    listener_name: str
    #: ``PUBLISH``, ``SUBSCRIBE`` or ``RECEIVE``.
    action: str
    #: Topic Name, or Topic Filter for SUBSCRIBE: without $share/<group>/, with
    #: the mount point.
    topic: str
    qos: int = 0
    retain: bool = False


class IAuthorizer(Interface):
    """Decides on access requests."""

    epoch: int = Attribute("Grows when rules change: cached decisions of an older epoch are void.")
    checks: frozenset[str] = Attribute(
        "The actions it has an opinion on; others are allowed without asking."
    )

    def authorize(request: AccessRequest) -> bool | Deferred[bool]:
        """True to allow. False, an exception or a failure refuses."""
