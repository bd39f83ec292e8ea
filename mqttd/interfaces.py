"""Every seam of the broker: what may be replaced, and what the parts promise.

``wire`` and ``broker`` see their surroundings only through these interfaces.
Names follow zope.interface; a provider declares itself with ``@implementer``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from attrs import define, field, frozen
from twisted.cred.error import UnauthorizedLogin
from zope.interface import Attribute, Interface, implementer

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from twisted.internet.defer import Deferred

    from mqttd.settings import BrokerSettings, ListenerSettings


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
    #: Headers of the WebSocket request by lower-case name; None without WebSocket.
    headers: dict[str, str] | None = None


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

    def write_now(data: bytes) -> None:
        """Send *data*, in order, which is all that this turn has for the client."""

    def pause(reason: int) -> None:
        """Stop reading and parsing for *reason* (``mqttd.broker.pause``)."""

    def resume(reason: int) -> None:
        """End *reason*; reading goes on when none is left."""

    def close(announced: bool = False) -> None:
        """Flush and close; cut when that takes longer than the limit allows.

        *announced*: the client has said that it closes, and sends no more.
        """

    def abort() -> None:
        """Close at once and drop what is not sent."""

    def accepted(
        version: int, keep_alive: float, maximum_packet_size: int, user: str | None
    ) -> None:
        """CONNECT was accepted: stop the CONNECT deadline, watch *keep_alive*
        (seconds until the connection counts as dead, 0 for never), and join
        the buckets shared by *user*."""

    def watch(watcher: IPacketWatcher | None) -> None:
        """Show *watcher* every packet from now on, which takes the plain way; None ends it."""

    def flight() -> Iterable[FlightEntry]:
        """The last of what came and went since CONNECT was accepted, the oldest first."""


class FlightEntry(NamedTuple):
    """One entry of a flight recorder: several packets, maybe, that came or went at once."""

    #: By the broker's clock.
    seconds: float
    #: Of its first byte in all the input; entries may overlap. Of output it says nothing.
    offset: int
    #: Bytes of the whole.
    size: int
    #: Its first bytes, as far as they are kept; they begin with a packet.
    head: bytes
    #: Whether it went to the client.
    out: bool


class IPacketWatcher(Interface):
    """One who is shown the packets of a connection. It must not raise."""

    def received(packet: Any) -> None:
        """A packet has come, and is about to be handled."""

    def sent(data: bytes) -> None:
        """These bytes, one or more whole packets, go out."""

    def broken(text: str) -> None:
        """What came was no packet: *text* says why. The connection ends."""

    def ended(reason: str) -> None:
        """The connection is gone; *reason* as in the metrics."""


# --- who -------------------------------------------------------------------


class IMQTTCredentials(Interface):
    """What a CONNECT says of who it is; adapts to cred's usual interfaces."""

    client_id: str = Attribute("Client identifier, after assignment.")
    username: bytes = Attribute("User name, UTF-8; b'' when absent.")
    has_username: bool = Attribute("Whether CONNECT carried a user name.")
    password: bytes | None = Attribute("Password, or None.")
    peer: Peer = Attribute("Where the client is.")
    listener: ListenerSettings | None = Attribute("Where it came in, if by MQTT.")

    def checkPassword(password: bytes) -> bool:
        """As in ``IUsernamePassword``."""

    def wanted() -> bool:
        """False when the client has left meanwhile, so that an answer is of no use."""


class IMQTTAvatar(Interface):
    """The authenticated client: cred's avatar for ``Portal.login``."""

    principal: str | None = Attribute("Stable name of who this is; None: anonymous.")
    superuser: bool = Attribute("True passes every access rule.")
    source: str = Attribute("Name of the authenticator that said yes; '' if none has a name.")
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
    #: Claims that an authorizer may look at; "groups" is a list of names.
    claims: dict[str, Any] = field(factory=dict)
    source: str = ""


class LoginRefused(UnauthorizedLogin):
    """A no that says more than that user name or password is not right."""

    #: Reason code of the CONNACK; *label* names the cause in the metrics.
    reason = 0x87
    label = "authentication"
    text = "not authorized"


class LoginUnavailable(LoginRefused):
    """Who could tell is not there, or talks nonsense; str() says so to the log only."""

    reason = 0x88
    label = "authentication-error"
    text = "authentication is not available"


class LoginBusy(LoginRefused):
    """Too many logins wait already."""

    reason = 0x89
    label = "authentication-busy"
    text = "too many logins at once"


class Unknown(Enum):
    """The answer of an authenticator that is not the one to ask."""

    NOT_MINE = "not mine"


NOT_MINE = Unknown.NOT_MINE


@frozen
class Revoked:
    """Whose right to be here has ended, as an authenticator sees it."""

    #: Principals that are not known any more: connections and sessions end.
    removed: frozenset[str] = frozenset()
    #: Those who must log in again: connections end.
    changed: frozenset[str] = frozenset()
    #: All that came by this authenticator must log in again.
    everyone: bool = False
    #: What was read differs from what was there before, be it by a user more.
    different: bool = False


class IAuthenticator(Interface):
    """One of those that the chain asks who a client is."""

    name: str = Attribute("Name in listeners' settings, logs and metrics.")

    def start() -> None:
        """Open what it needs; called before the first login."""

    def stop() -> None:
        """Close it."""

    def authenticate(credentials: Any) -> Any:
        """Answer for ``IMQTTCredentials``: yes, no, or not mine.

        Returns an ``Avatar`` (yes) or ``NOT_MINE``, or a Deferred of one; raises,
        or fails with, ``UnauthorizedLogin`` (no). Any other error is a no.
        """

    def reload() -> Any:
        """Read files anew; returns ``Revoked``.

        Raises ``ValueError`` or ``OSError`` with what is wrong; nothing has changed then.
        """


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


class IClientAuthentication(Interface):
    """The client's side of a method of enhanced authentication (MQTT 5.0 section 4.12).

    Each may return a Deferred; one that fails ends the connection.
    """

    method: str = Attribute("The Authentication Method, for CONNECT.")

    def start() -> Any:
        """Begin anew; returns the data for CONNECT, or None."""

    def respond(data: bytes | None) -> Any:
        """Take the server's challenge; returns the data of our answer, or None."""

    def finish(data: bytes | None) -> Any:
        """Take the data of CONNACK: the server's own proof, if the method has one."""


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
        """True to allow. False, an exception or a failure refuses.

        What is answered at once holds until ``epoch`` grows. What a Deferred
        brings was looked up somewhere: it is kept for ``time_to_live`` seconds,
        if the authorizer has that attribute, and until ``epoch`` grows if not.
        """


@frozen
class Decision:
    """What was decided about an access request, and by whom."""

    allowed: bool
    #: The rule or backend: 'rule 3 "devices" of /etc/mqttd/acl.toml'.
    by: str


class IAdmission(Interface):
    """Keeps out those who misbehave, each before the step that it protects.

    What refuses gives a few words for metrics and logs; None lets the client pass.
    """

    has_quota: bool = Attribute("Whether ``may_publish`` must be asked.")

    def refuses_address(address: str) -> str | None:
        """Before anything is read from a connection, and before TLS."""

    def refuses_login(client_id: str, user: str | None, address: str) -> str | None:
        """Before authentication; *user* is what CONNECT claims."""

    def refuses_client(client_id: str, principal: str | None) -> str | None:
        """After authentication, before anything that exists is touched."""

    def login_failed(address: str) -> None:
        """A client at *address* was not who it said."""

    def may_publish(principal: str | None, address: str, size: int) -> bool:
        """Whether a PUBLISH with a payload of *size* bytes is within the quota."""


class IRuleSource(Interface):
    """One of those that an authorizer asks in turn; the first that decides, decides."""

    name: str = Attribute("What logs and explanations call it.")
    checks: frozenset[str] = Attribute("The actions it may have an opinion on.")

    def start() -> None:
        """Open what it needs; called before the first question."""

    def stop() -> None:
        """Close it."""

    def decide(request: AccessRequest) -> Any:
        """A ``Decision``, or None: no opinion. Or a Deferred of one, for what must be
        looked up; a failure refuses."""


# --- what is kept ------------------------------------------------------------


class StoreError(Exception):
    """The store cannot be used; the text names it, the cause and the remedy."""


@frozen
class StoredSession:
    """A session, but for its subscriptions, packet ids and messages.

    Times are those of ``IStore.time``. One with ``expiry`` 0 is kept for the
    sake of its will only.
    """

    #: Number of the session in the store, from ``IStore.new_session_id``.
    sid: int
    client_id: str
    principal: str | None = None
    mount_point: str = ""
    #: Name of the listener whose settings hold for it.
    listener: str = ""
    #: Seconds it outlives its connection; None for ever.
    expiry: int | None = None
    created_at: float = 0.0
    #: When its connection ended; None while there is one.
    ended_at: float | None = None
    #: As ``mqttd.store.records.encode_will`` makes it.
    will: bytes | None = None


class StoredSubscription(NamedTuple):
    """One subscription of a session."""

    #: As the client sent it, $share/<group>/ included.
    topic_filter: str
    #: The options byte of SUBSCRIBE (MQTT 5.0 section 3.8.3.1).
    options: int
    #: Subscription Identifier; 0: none.
    identifier: int = 0
    #: The user properties that thin it (``mqttd.broker.thinning``), in JSON; "": none.
    thinning: str = ""


class StoredRow(NamedTuple):
    """One message in the queue of one session."""

    #: Place in the queue; from 1, growing, below 2**39.
    seq: int
    #: The message.
    mid: int
    #: Bytes, as the bounds of the queue count them.
    size: int
    #: QoS, flags, packet id: see ``mqttd.store.records.row_state``.
    state: int
    #: Subscription identifiers.
    identifiers: tuple[int, ...] = ()
    #: The filter of the shared subscription that picked this session, or "".
    share: str = ""
    #: The message itself, where rows are read.
    body: bytes = b""
    #: When it need not be sent any more, in the store's time; None: never. Not
    #: there where rows are read, since the message says it.
    expires_at: float | None = None


class ExpiredRow(NamedTuple):
    """One message of a queue whose time is over."""

    client_id: str
    sid: int
    row: StoredRow


@frozen
class RestoredSession:
    """A session as ``IStore.start`` finds it; its rows are read when wanted."""

    session: StoredSession
    subscriptions: Sequence[StoredSubscription] = ()
    #: QoS 2 packet ids from the client, not yet released.
    incoming: Sequence[int] = ()
    #: Rows and their bytes; and how many of the rows were sent.
    rows: int = 0
    bytes: int = 0
    sent: int = 0
    #: The highest ``seq`` of a row; 0 when there is none.
    last_seq: int = 0


@frozen
class StoreContents:
    """All that a store holds when it starts, but for messages that wait.

    ``sessions``, ``retained`` and ``delayed`` are read once, in this order, before
    anything is added to the store.
    """

    #: Until when the broker was certainly running, in the store's time:
    #: connections without ``ended_at`` ended then.
    alive_until: float
    sessions: Iterable[RestoredSession]
    #: Topic and body (``mqttd.store.records.encode_message``).
    retained: Iterable[tuple[str, bytes]]
    #: Number, due time and body of messages that wait for their time, by due time.
    delayed: Iterable[tuple[int, float, bytes]] = ()


class IStore(Interface):
    """Keeps what must survive: sessions, queues, retained messages, wills.

    Everything is called from the reactor thread and returns at once. What one
    turn of the reactor adds is one unit: after a crash all of it is there, or
    nothing. What is added later is never there without what was added before.
    Nothing is safe before ``committed`` has said so.
    """

    durable: bool = Attribute("False: nothing survives, and nobody need add anything.")
    problem: str | None = Attribute(
        "Why nothing is committed at present, in words for an operator; None when all is well."
    )
    on_problem: list[Callable[[str | None], None]] = Attribute(
        "Called with ``problem`` when it changes. While there is one, what was added is "
        "kept and tried again, and ``committed`` stays silent; add no new messages then. "
        "None comes before the callbacks that waited."
    )
    backlog: int = Attribute("Bytes of messages that were added and are not committed yet.")
    commits: int = Attribute("Commits since the start.")
    commit_seconds: float = Attribute("What they took, all together.")

    def start() -> StoreContents:
        """Open the store; blocks. Raises ``StoreError``."""

    def stop() -> Deferred[None]:
        """Commit what was added and close. Fires even if that fails."""

    def time() -> float:
        """Now, in seconds: Unix time, but one that never jumps. Deadlines are kept in it."""

    # What is added. A later call for the same thing replaces an earlier one.

    def new_session_id() -> int:
        """A number that no session has."""

    def put_session(session: StoredSession) -> None:
        """Keep *session*, in place of the one with its ``sid`` if there is one."""

    def delete_session(sid: int) -> None:
        """Forget it with all that is its own. The number may be given out again."""

    def put_subscription(sid: int, subscription: StoredSubscription) -> None:
        """Keep it, in place of one of the same filter."""

    def delete_subscription(sid: int, topic_filter: str) -> None: ...

    def put_incoming(sid: int, packet_id: int) -> None:
        """Remember the packet id of a QoS 2 message from the client."""

    def delete_incoming(sid: int, packet_id: int) -> None: ...

    def put_message(body: bytes) -> int:
        """Keep *body* as long as there are rows of it; returns its ``mid``.

        Add its rows in the same turn; a further one only while another stands.
        """

    def put_row(sid: int, row: StoredRow) -> None:
        """Add to the queue of a session; ``row.body`` means nothing here."""

    def change_row(sid: int, seq: int, state: int) -> None:
        """Note a new state of a row that exists."""

    def delete_rows(sid: int, seqs: Iterable[int]) -> None:
        """Take rows out; a row that was not committed yet costs nothing."""

    def put_retained(topic: str, body: bytes) -> None: ...

    def delete_retained(topic: str) -> None: ...

    def put_delayed(number: int, due_at: float, body: bytes) -> None:
        """Keep a message that is to be published at *due_at*."""

    def delete_delayed(number: int) -> None: ...

    # What is asked.

    def committed(callback: Callable[[], None]) -> None:
        """Call *callback*, on the reactor thread, when all that was added is safe.

        At once if it is so already. Callbacks are called in the order of asking.
        """

    def read(sid: int, after: int, limit: int) -> Deferred[list[StoredRow]]:
        """The first rows with ``seq`` over *after*, in order, with bodies.

        At most *limit*, and fewer when they are large; none only if there are none.
        As they are when all that was added before the call is committed, without
        those that were deleted since; while there is a ``problem``, without those
        that are not committed. Fails with ``StoreError`` when they cannot be read.
        """

    def read_sent(sid: int) -> Deferred[list[StoredRow]]:
        """The rows that were sent, in the order of sending, with bodies."""

    def read_expired(limit: int) -> Deferred[list[ExpiredRow]]:
        """At most *limit* rows, with bodies, that have expired and were not sent.

        Of any session, those longest over first; they stay until they are deleted.
        """


# --- hooks -----------------------------------------------------------------


@frozen
class Refuse:
    """A hook's no: *reason* is a reason code of MQTT 5.0 (0x87, not authorized)."""

    reason: int = 0x87
    #: For the client, if it wants to know.
    text: str = "refused"


@frozen
class Divert:
    """A hook's answer to ``message_publish``: give the message to *take* in place
    of the router, once it has passed the checks that every message has to pass.

    *take* gets the message with its full topic (mount point included) and returns
    the reason code for the publisher, 0 for success.
    """

    message: Any
    take: Callable[[Any], int]
    #: *take* adds it to the store: while nothing can be kept, nothing is taken.
    keeps: bool = False


class IClient(Interface):
    """A client as hooks see it: a connection, or a client inside the process."""

    client_id: str = Attribute("Client identifier.")
    user_name: str | None = Attribute("User name of CONNECT or certificate, or None.")
    principal: str | None = Attribute("Who it is; None: anonymous, or not yet known.")
    version: int = Attribute("Protocol level, 3 to 5.")
    peer: Peer = Attribute("Where the client is.")
    listener_name: str = Attribute("Where it came in.")
    mount_point: str = Attribute("Put before the topics that it names.")

    def add_subscriptions(requests: list[Any]) -> Deferred[list[int]]:
        """Subscribe on the client's behalf to these ``SubscriptionRequest``, by its
        rights and limits; fires with a reason code for each."""

    def kick(text: str) -> None:
        """End the connection (reason code 0x98, administrative action)."""


class IHooks(Interface):
    """Every event of the broker that a hook may take part in.

    A plugin provides the methods that it wants; the others cost nothing. Hooks of
    one event are called in the order of their priorities, the lowest first.

    Those that *observe* return nothing that matters. Those that *decide* return
    ``None`` (go on), another value in place of the first argument where the event
    says so, or ``Refuse``; or a Deferred, or a coroutine, of one of these, for which
    the client waits. A hook that raises, returns anything else, or takes longer
    than the setting ``hooks.timeout``, has refused. Exceptions of observers are
    logged, counted and harm nobody.

    What a hook has changed is checked as if the client had sent it so.
    """

    # Decide.

    def connect(client: IClient, packet: Any) -> Any:
        """A CONNECT from the network that is well-formed, before authentication. May
        refuse."""

    def authenticated(client: IClient) -> Any:
        """The client is who it says; nothing else has happened yet. May refuse."""

    def subscribe(requests: list[Any], client: IClient) -> Any:
        """SUBSCRIBE with these ``SubscriptionRequest``, before any check. May refuse
        all, or return a list of the same length of requests and ``Refuse``."""

    def unsubscribe(topic_filters: list[str], client: IClient) -> Any:
        """UNSUBSCRIBE. May refuse all, or return a list of the same length of
        filters and ``Refuse``."""

    def message_publish(message: Any, client: IClient | None) -> Any:
        """A message of a client, or its will (*client* is None then), before any
        check of topic and access. The topic is as the client wrote it, without mount
        point. May refuse, divert, or return another message
        (``message.changed(...)``); the QoS stays."""

    def will(message: Any, client_id: str) -> Any:
        """A will is due. May refuse, or return another message; then it goes the
        way of ``message_publish``. The topic has the mount point."""

    # Observe.

    def connected(client: IClient) -> None:
        """CONNACK with success was sent."""

    def disconnected(client: IClient, reason: str) -> None:
        """A connection that was connected has ended; *reason* as in the metrics."""

    def subscribed(client: IClient, subscription: Any) -> None:
        """A subscription was made or replaced."""

    def unsubscribed(client: IClient, topic_filter: str) -> None:
        """A subscription was ended by the client."""

    def session_created(session: Any) -> None:
        """A session began; it has a client id and a principal."""

    def session_resumed(session: Any) -> None:
        """A client is back and found its session."""

    def session_taken_over(session: Any) -> None:
        """Another connection takes the session; the present one is closed."""

    def session_discarded(session: Any) -> None:
        """A session ended by its client's wish or for want of room."""

    def session_expired(session: Any) -> None:
        """A session ended because its expiry interval had passed."""

    def message_delivered(message: Any, client: Any) -> None:
        """A message was sent to a client (again, for each repetition)."""

    def message_acknowledged(message: Any, session: Any) -> None:
        """A client has a QoS 1 or 2 message: PUBACK or PUBREC came."""

    def message_dropped(message: Any, client_id: str, reason: str) -> None:
        """A message does not reach this client, or was refused to this publisher;
        *reason* as in the metrics."""


class IPlugin(Interface):
    """What the configuration can name: an object with hooks (``IHooks``), made by
    its class from its settings; all of this is optional."""

    def start(broker: Any) -> None:
        """The broker is about to open its listeners."""

    def stop() -> Any:
        """The listeners are closed; may return a Deferred, which is waited for."""


# --- the daemon, for those who operate it ------------------------------------


class IRunningListener(Interface):
    """A listener that is open."""

    settings: ListenerSettings = Attribute("What it was made of.")
    name: str = Attribute("Its name, or else its endpoint.")
    address: Any = Attribute("Twisted's address of it; None while it is not open.")
    connections: int = Attribute("Open connections, those without CONNECT included.")
    paused: bool = Attribute("Whether it accepts nobody for now.")

    def pause() -> None:
        """Accept nobody for now; clients wait in the kernel's backlog."""

    def resume() -> None:
        """Accept again."""


class IBridges(Interface):
    """The bridges of the daemon, for those who look at them and steer them."""

    def statuses() -> list[Any]:
        """A ``mqttd.bridge.BridgeStatus`` of each, in the order of the configuration."""

    def is_started(name: str) -> bool:
        """Whether it runs, or is about to. Raises ``KeyError`` where there is none."""

    def start_one(name: str) -> None:
        """Start one that is not started; raises ``mqttd.bridge.BridgeError``."""

    def stop_one(name: str) -> None:
        """Stop one; what waits for it stays."""


class IDaemon(Interface):
    """What the control API may ask of the service around the broker."""

    broker: Any = Attribute("The ``Broker``.")
    admin: Any = Attribute("The ``Admin``: figures and alarms.")
    settings: BrokerSettings = Attribute("The settings in force.")
    control: Any = Attribute("The ``HTTPControl`` itself: its tokens.")
    clock: Any = Attribute("The reactor, as ``IReactorTime``.")
    listeners: dict[str, Any] = Attribute("Endpoint -> ``IRunningListener``.")

    plugins: Any = Attribute("The ``Plugins``.")
    bridges: IBridges = Attribute("Links to other brokers.")

    def close_listener(endpoint: str) -> None:
        """Close a listener that is open; its clients stay."""

    def open_listener(settings: ListenerSettings) -> Deferred[None]:
        """Open one that is not; fails when it cannot be."""

    def take_over(settings: BrokerSettings) -> Any:
        """Change to *settings* as far as that goes; returns what ``reload`` does."""

    def find_websocket(path: str) -> Any:
        """The web resource that speaks MQTT at *path* of the API's own site; or None."""

    def reread_users() -> tuple[str, ...]:
        """Read again who may connect, and end what is not vouched for; what went wrong."""

    def reload() -> Any:
        """Read the settings again; returns what changed, what needs a restart and
        what was wrong (``changed``, ``restart_needed``, ``errors``: tuples of text)."""
