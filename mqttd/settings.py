"""Every setting of the broker, typed, with its default, unit and range.

Plain values: nothing here reads a file, opens a socket or knows Twisted.
``mqttd.config`` fills these classes from TOML; an embedding program may build
them by hand and gets the same checks, as a ``SettingError``. Sizes are bytes,
times are seconds, rates are per second; 0 means "no limit" where a field says
so.

``ProtocolSettings``, ``SessionSettings`` and ``ConnectionLimits`` hold for the
whole broker and may be overridden per listener.
"""

from __future__ import annotations

from enum import Enum
from ipaddress import ip_network
from typing import Any

from attrs import field, frozen

from mqttd.fields import (
    Rate,
    SettingError,
    Unit,
    check,
    choice,
    count,
    flag,
    number,
    one_of,
    part,
    rate,
    seconds,
    size,
    table,
    text,
    texts,
    whole_seconds,
)
from mqttd.settings_access import (
    RULE_SOURCES,
    AbuseSettings,
    AccessSettings,
    RuleSource,
)
from mqttd.settings_authentication import ALL, AuthenticatorSettings, check_names
from mqttd.settings_bridge import BridgeSettings, are_bridges
from mqttd.settings_watch import FlightSettings, TraceSettings

__all__ = [
    "LOG_LEVELS",
    "AbuseSettings",
    "AccessSettings",
    "AuthenticatorSettings",
    "BrokerSettings",
    "ClientCertificate",
    "ConnectionLimits",
    "DeniedPublish",
    "Durability",
    "HTTPSettings",
    "HookSettings",
    "Identity",
    "ListenerSettings",
    "Overflow",
    "PasswordHashing",
    "PluginSettings",
    "ProtocolSettings",
    "Rate",
    "RetainedSettings",
    "SessionSettings",
    "SettingError",
    "SharedLimits",
    "SharedStrategy",
    "StoreBackend",
    "StoreSettings",
    "TLSSettings",
    "WebSocketSettings",
]


class Overflow(Enum):
    """What happens to a message for which a session's queue has no room."""

    DROP_OLDEST = "drop-oldest"
    DROP_NEWEST = "drop-newest"
    DISCONNECT = "disconnect"
    PAUSE_PUBLISHERS = "pause-publishers"


class SharedStrategy(Enum):
    """How a shared subscription picks the member that gets a message."""

    ROUND_ROBIN = "round-robin"
    RANDOM = "random"
    STICKY = "sticky"
    HASH_CLIENT = "hash-client"
    HASH_TOPIC = "hash-topic"
    LEAST_INFLIGHT = "least-inflight"


class DeniedPublish(Enum):
    """What a 3.1 or 3.1.1 client gets for a PUBLISH it may not send."""

    ACKNOWLEDGE = "acknowledge"
    DISCONNECT = "disconnect"


class Identity(Enum):
    """Which part of a client certificate becomes the user name."""

    NONE = "none"
    COMMON_NAME = "cn"
    SUBJECT = "dn"
    ALTERNATIVE_NAME = "san"


class ClientCertificate(Enum):
    """Whether a TLS listener asks clients for a certificate."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


LOG_LEVELS = ("debug", "info", "warn", "error", "critical")


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _is_rule(text: str) -> bool:
    action, _, network = text.partition(" ")
    return action in ("allow", "deny") and (network == "all" or _is_network(network))


def _is_priority(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


@frozen
class ProtocolSettings:
    """What the server offers and accepts in the protocol."""

    #: Highest QoS accepted and granted.
    maximum_qos: int = count(2, 0, 2)
    #: Accept messages to be retained.
    retain_available: bool = flag(True)
    #: Accept filters with "+" and "#".
    wildcard_subscriptions: bool = flag(True)
    #: Accept $share/<group>/<filter>.
    shared_subscriptions: bool = flag(True)
    #: Accept subscription identifiers (5.0).
    subscription_identifiers: bool = flag(True)
    #: Obey max-rate, conflate and sample among the user properties of SUBSCRIBE.
    thinned_subscriptions: bool = flag(True)
    #: Largest packet accepted, fixed header included; bytes.
    maximum_packet_size: int = size(2 * 1024 * 1024, 20, 268_435_460)
    #: Unacknowledged QoS 1 and 2 messages a client may have towards us.
    receive_maximum: int = count(1024, 1, 65_535)
    #: Largest payload routed; a larger one is acknowledged (5.0: with an error)
    #: and goes to nobody. 0 means that only the packet's size counts. Bytes.
    maximum_payload_size: int = size(0, 0, 268_435_455)
    #: Topic aliases a client may set up.
    topic_alias_maximum: int = count(64, 0, 65_535)
    #: Topic aliases we set up towards a client that allows more.
    outbound_topic_alias_maximum: int = count(64, 0, 65_535)
    #: Of a topic name or filter.
    maximum_topic_levels: int = count(128, 1, 65_535)
    #: Of a topic name or filter; bytes.
    maximum_topic_length: int = size(4096, 1, 65_535)
    #: Of a client id; bytes.
    maximum_client_id_length: int = size(1024, 23, 65_535)
    #: Assign an id to clients that come without one; otherwise they are refused.
    zero_length_client_id: bool = flag(True)
    #: Put before the client ids that the server assigns.
    assigned_client_id_prefix: str = text("auto-", 1024)
    #: Largest keep alive, seconds; a larger or zero one is replaced by it in
    #: 5.0 and refused below. 0 means any.
    maximum_keep_alive: int = whole_seconds(0, 65_535)
    #: Close after this multiple of the keep alive without a packet.
    keep_alive_factor: float = number(1.5, Unit.FACTOR, (int, float), 1, 100)
    #: Longest session expiry granted, seconds; None ("forever") means any.
    maximum_session_expiry: int | None = whole_seconds(None, 4_294_967_294, "forever")
    #: Expiry of a 3.1 or 3.1.1 session with clean session 0, seconds; None is "forever".
    persistent_session_expiry: int | None = whole_seconds(None, 4_294_967_294, "forever")
    #: Longest will delay honoured, seconds.
    maximum_will_delay: int = whole_seconds(86_400, 4_294_967_295)
    #: User properties accepted in one packet.
    maximum_user_properties: int = count(256, 0, 65_535)
    #: Topic filters accepted in one SUBSCRIBE or UNSUBSCRIBE.
    maximum_filters_per_packet: int = count(1024, 1, 65_535)
    #: Let clients publish to topics that begin with "$", $SYS excepted.
    dollar_topics: bool = flag(False)
    #: Check PUBLISH payloads that declare themselves UTF-8.
    check_payload_format: bool = flag(True)
    #: Sent to clients that ask for response information; "" means none.
    response_information: str = text()
    #: "server:port" list; with it every CONNECT is answered 0x9C.
    server_reference: str = text()
    #: With server_reference: answer 0x9D (moved) in place of 0x9C.
    server_moved: bool = flag(False)
    #: Serve clients of MQTT 3.1.
    allow_mqtt31: bool = flag(True)
    #: Serve clients of MQTT 3.1.1.
    allow_mqtt311: bool = flag(True)
    #: Serve clients of MQTT 5.0.
    allow_mqtt5: bool = flag(True)
    #: Take the user name (of the certificate, if that names the user) as the client
    #: id; a client without one is refused.
    user_name_as_client_id: bool = flag(False)
    denied_publish: DeniedPublish = choice(DeniedPublish.ACKNOWLEDGE)
    #: Say why in reason strings, when the client wants to know.
    reason_strings: bool = flag(True)

    def __attrs_post_init__(self) -> None:
        if not (self.allow_mqtt31 or self.allow_mqtt311 or self.allow_mqtt5):
            raise SettingError("allow_mqtt5", False, "true when no other version is allowed")
        if self.server_moved and not self.server_reference:
            raise SettingError("server_moved", True, "false without a server_reference")


@frozen
class SessionSettings:
    """Bounds and habits of one session."""

    #: QoS 1 and 2 messages on their way to a client, unacknowledged.
    maximum_inflight: int = count(32, 1, 65_535)
    #: Their bytes; one message may always be on its way. 0 means no limit.
    maximum_inflight_bytes: int = size(0)
    #: Messages waiting in one session.
    maximum_queued_messages: int = count(10_000, 1)
    #: Their bytes, topics and properties included.
    maximum_queued_bytes: int = size(16 * 1024 * 1024, 1)
    overflow: Overflow = choice(Overflow.DROP_OLDEST)
    #: pause-publishers gives up and drops the newest after this; seconds.
    maximum_publisher_pause: float = seconds(10.0, 0, 3600)
    #: Keep QoS 0 messages for clients that are away.
    queue_qos0: bool = flag(False)
    #: Deliver at the subscription's QoS even when the message had less.
    upgrade_qos: bool = flag(False)
    #: Never send a 3.1 or 3.1.1 client what it published itself; 5.0 clients
    #: ask for that themselves, by No Local.
    no_local: bool = flag(False)
    #: Send unacknowledged packets again after this; 0 means only at
    #: reconnection, which is all that 3.1.1 and 5.0 want. Seconds.
    retry_interval: float = seconds(0.0)
    #: Per session; 0 means no limit.
    maximum_subscriptions: int = count(10_000)
    #: Topic filter -> priority, 0 (the default) to 255, higher first.
    priorities: dict[str, int] = table(
        "a table of topic filters, each with a priority from 0 to 255", _is_priority
    )


@frozen
class RetainedSettings:
    """How much is retained, and for how long."""

    #: 0 means no limit.
    maximum_messages: int = count(1_000_000)
    #: All of them together; 0 means no limit. Bytes.
    maximum_bytes: int = size(1024 * 1024 * 1024)
    #: Of one message; larger ones are routed and not retained. Bytes.
    maximum_payload: int = size(1024 * 1024)
    #: Seconds that a message without expiry of its own is kept; 0: for ever.
    expiry: int = whole_seconds(0, 4_294_967_295)
    #: Before a retained message is sent, check again that its publisher may
    #: publish it.
    check_source: bool = flag(True)


class StoreBackend(Enum):
    """Where sessions, queues, retained messages and wills are kept."""

    SQLITE = "sqlite"
    MEMORY = "memory"


class Durability(Enum):
    """What an acknowledgement means."""

    #: On disk: it survives a power failure.
    FULL = "full"
    #: With the operating system: it survives the end of the process.
    NORMAL = "normal"
    #: In memory; it is written a moment later.
    MEMORY = "memory"


@frozen
class StoreSettings:
    """What survives a restart, and how surely."""

    #: "memory" keeps nothing, nor does "sqlite" without a data directory.
    backend: StoreBackend = choice(StoreBackend.SQLITE)
    durability: Durability = choice(Durability.FULL)
    #: Wait so long for more to commit with the first, which spares flash cards
    #: and delays acknowledgements; seconds.
    commit_interval: float = seconds(0.0, 0, 10)


@frozen
class ConnectionLimits:
    """What one connection, and one listener, may use."""

    #: Seconds from accept to a complete CONNECT, the TLS handshake included.
    connect_timeout: float = seconds(10.0, 0.001, 3600)
    #: Seconds that a close may take before the connection is cut.
    close_timeout: float = seconds(5.0, 0, 3600)
    #: Cut a client that takes none of the bytes waiting for it for so long; 0
    #: means that its queue waits, within its bounds. Seconds.
    send_timeout: float = seconds(0.0)
    #: Connections of the listener; 0 means no limit.
    maximum_connections: int = count(0)
    #: Connections from one address; 0 means no limit.
    maximum_connections_per_address: int = count(0)
    #: New connections per second of the listener.
    connection_rate: Rate | None = rate(Unit.EVENTS_PER_SECOND)
    #: Bytes a connection may send us per second.
    inbound_bytes: Rate | None = rate()
    #: PUBLISH packets a connection may send us per second.
    inbound_messages: Rate | None = rate(Unit.EVENTS_PER_SECOND)
    #: Bytes per second that we send to a connection.
    outbound_bytes: Rate | None = rate()
    #: PUBLISH packets per second that we send to a connection.
    outbound_messages: Rate | None = rate(Unit.EVENTS_PER_SECOND)
    #: Bytes written and not yet taken by the network before the session queues.
    output_buffer: int = size(65_536, 1)


@frozen
class SharedLimits:
    """Buckets that all connections of one user, or of one address, share."""

    #: Bytes per second from all connections of one user.
    user_inbound_bytes: Rate | None = rate()
    #: PUBLISH packets per second from all connections of one user.
    user_inbound_messages: Rate | None = rate(Unit.EVENTS_PER_SECOND)
    #: Bytes per second from all connections of one address.
    address_inbound_bytes: Rate | None = rate()
    #: PUBLISH packets per second from all connections of one address.
    address_inbound_messages: Rate | None = rate(Unit.EVENTS_PER_SECOND)


@frozen
class TLSSettings:
    """TLS of one listener."""

    #: PEM file, the chain included.
    certificate: str = text()
    #: PEM file of the private key; "" means that it is in ``certificate``.
    private_key: str = text()
    #: Server name -> certificate file (key included) for SNI.
    server_names: dict[str, str] = table(
        "a table of server names, each with a certificate file", lambda x: isinstance(x, str)
    )
    #: "1.2" or "1.3".
    minimum_version: str = one_of("1.2", "1.2", "1.3")
    #: OpenSSL cipher list for TLS 1.2; "" means a safe default.
    ciphers: str = text()
    #: OpenSSL cipher suites for TLS 1.3; "" means OpenSSL's own.
    ciphersuites: str = text()
    client_certificate: ClientCertificate = choice(ClientCertificate.NONE)
    #: PEM file of the authorities that sign client certificates.
    client_authorities: str = text()
    #: PEM file of certificate revocation lists.
    revocation_list: str = text()
    identity: Identity = choice(Identity.NONE)
    #: Session tickets, so that a reconnection is cheap.
    session_tickets: bool = flag(True)
    #: Application protocols offered by ALPN.
    alpn: tuple[str, ...] = texts(
        ("mqtt",), "a list of protocol names", lambda name: 0 < len(name) < 256
    )

    def __attrs_post_init__(self) -> None:
        asks = self.client_certificate is not ClientCertificate.NONE
        if not self.certificate:
            raise SettingError("certificate", "", "the name of a PEM file")
        if asks and not self.client_authorities:
            raise SettingError(
                "client_authorities", "", "the name of a PEM file when clients show certificates"
            )
        if self.identity is not Identity.NONE and not asks:
            raise SettingError(
                "identity", self.identity.value, '"none" unless client_certificate is asked for'
            )


def _is_origin(text: str) -> bool:
    scheme, separator, host = text.partition("://")
    return text == "*" or bool(scheme and separator and host and "/" not in host)


@frozen
class WebSocketSettings:
    """MQTT over WebSocket on one listener."""

    #: Path of the URL that clients ask for.
    path: str = field(
        default="/mqtt",
        validator=check(
            'a path such as "/mqtt"', lambda x: isinstance(x, str) and x.startswith("/")
        ),
        metadata={"allowed": 'a path such as "/mqtt"'},
    )
    #: Origins whose pages may connect besides those of the same host; "*" for any.
    origins: tuple[str, ...] = texts(
        (), 'a list of origins such as "https://app.example", or "*"', _is_origin
    )
    #: Networks (CIDR) of proxies whose X-Forwarded-For is believed.
    trusted_proxies: tuple[str, ...] = texts(
        (), 'a list of networks, such as "10.0.0.0/8"', _is_network
    )


@frozen
class ListenerSettings:
    """One listening endpoint."""

    #: Twisted endpoint string.
    endpoint: str = field(
        validator=check('an endpoint such as "tcp:1883"', lambda x: isinstance(x, str) and bool(x))
    )
    #: Shown in logs and metrics; "" means the endpoint string.
    name: str = text()
    #: Whether a client that no authenticator knows comes in, as nobody.
    allow_anonymous: bool = flag(False)
    #: Names of the authenticators that are asked, in this order; "all" stands for
    #: all of them, in the order of the configuration.
    authentication: tuple[str, ...] = texts(
        (ALL,), 'a list of names of [[authentication]] tables, or ["all"]', bool
    )
    #: Connections that may wait in the kernel to be accepted, where the endpoint
    #: string does not say.
    backlog: int = count(4096, 1, 65_535)
    #: Send small packets at once (TCP_NODELAY).
    tcp_no_delay: bool = flag(True)
    #: Kernel's buffers of a socket; 0 leaves them to the system. Bytes.
    receive_buffer: int = size(0)
    #: The same for what is sent. Bytes.
    send_buffer: int = size(0)
    tls: TLSSettings | None = field(
        default=None,
        validator=check("a TLSSettings or None", lambda x: x is None or isinstance(x, TLSSettings)),
    )
    #: Speak MQTT over WebSocket here.
    websocket: WebSocketSettings | None = field(
        default=None,
        validator=check(
            "a WebSocketSettings or None",
            lambda x: x is None or isinstance(x, WebSocketSettings),
        ),
    )
    #: Expect a PROXY protocol header, version 1 or 2, before anything else.
    proxy_protocol: bool = flag(False)
    #: Networks (CIDR) whose PROXY header is believed; others are refused.
    proxy_sources: tuple[str, ...] = texts(
        ("127.0.0.0/8", "::1/128"), 'a list of networks, such as "10.0.0.0/8"', _is_network
    )
    #: "allow CIDR" and "deny CIDR" rules ("all" for any); first match decides,
    #: no match allows if there is no allow rule and denies otherwise.
    access: tuple[str, ...] = texts(
        (), 'a list of rules such as "deny 10.0.0.0/8" or "allow all"', _is_rule
    )
    #: Put before every topic of this listener's clients; "%c" and "%u" stand
    #: for client id and user name.
    mount_point: str = text()
    protocol: ProtocolSettings = part(ProtocolSettings)
    session: SessionSettings = part(SessionSettings)
    limits: ConnectionLimits = part(ConnectionLimits)

    def __attrs_post_init__(self) -> None:
        if self.mount_point and not self.mount_point.endswith("/"):
            raise SettingError("mount_point", self.mount_point, 'one that ends with "/"')
        if self.mount_point and self.protocol.dollar_topics:
            # Under a mount point "$x" is a topic like others, which "#" would match.
            raise SettingError("protocol.dollar_topics", True, "false with a mount_point")


def _are_rule_sources(value: Any) -> bool:
    kinds = tuple(RULE_SOURCES.values())
    return isinstance(value, tuple) and all(isinstance(x, kinds) for x in value)


def _are_listeners(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(x, ListenerSettings) for x in value)


def _are_authenticators(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(x, AuthenticatorSettings) for x in value)


@frozen
class PasswordHashing:
    """The processes in which passwords are compared with their hashes."""

    #: Hashes computed at once; 0 means one less than the machine has processors.
    processes: int = count(0, 0, 64)
    #: How much they stand back behind the broker: from 0 to 19, as nice(1).
    niceness: int = count(10, 0, 19)
    #: Logins that wait for one of them; more are refused as "busy".
    maximum_waiting: int = count(1000, 1)
    #: Of these, from one address, so that one cannot take the place of all.
    maximum_waiting_per_address: int = count(50, 1)
    #: Seconds for which a right password is known again without computing its hash,
    #: so that all may come back at once after a break; 0 switches it off.
    remember: float = seconds(600.0, 0, 86_400)


@frozen
class HookSettings:
    """Bounds of what plugins may do to the broker."""

    #: A hook that decides and has not answered after this has refused. Seconds.
    timeout: float = seconds(5.0, 0.001, 3600)


ROLES = ("viewer", "operator", "administrator")


#: Endpoint of the listener whose connections come by the site of ``[http] endpoint``.
OWN_SITE = "site:http"


@frozen
class HTTPSettings:
    """The control API over HTTP."""

    #: Unix socket for this machine's operator and ``mqttctl``; only the user that
    #: mqttd runs as may open it. "" lets the daemon choose, and an embedded broker
    #: have none; "none" means none.
    socket: str = text()
    #: Seconds that a request may take to arrive as a whole.
    request_timeout: float = seconds(30.0, 0.1, 3600)
    #: Of a request; bytes.
    maximum_body: int = size(1024 * 1024, 1024)
    #: Connections to each door of the API.
    maximum_connections: int = count(100, 1)
    #: Serve the dashboard, at ``/dashboard/`` of each door.
    dashboard: bool = flag(True)
    #: How long each chunk of input takes to be answered is measured, for the metrics, on
    #: one of so many connections, the first included; 1: on all; 0: on none.
    latency_sample: int = count(16)
    #: Twisted endpoint on which the API is served over TCP; "" means nowhere. One
    #: that can be reached from outside must be TLS.
    endpoint: str = text()
    #: PEM file, the chain included, for HTTPS; "" means none.
    certificate: str = text()
    #: PEM file of the private key; "" means that it is in ``certificate``.
    private_key: str = text()
    #: Serve the API to the outside without TLS all the same.
    plain: bool = flag(False)
    #: User -> role (viewer, operator or administrator) for those who come with a
    #: name and a password; others may not come in.
    roles: dict[str, str] = table(
        'a table of users, each with "viewer", "operator" or "administrator"',
        lambda role: role in ROLES,
    )
    #: File of the tokens; "" means http-tokens.json in the data directory.
    token_file: str = text()


@frozen
class PluginSettings:
    """One plugin that the broker is to have."""

    #: ``module:Class``, or the name of a plugin in the box or of an entry point.
    use: str = field(
        validator=check(
            'a plugin such as "rewrite" or "package.module:Class"',
            lambda x: isinstance(x, str) and bool(x),
        )
    )
    #: Its hooks come before those of plugins with a higher one.
    priority: int = count(0, -1000, 1000)
    #: What its own class for settings has made of the other keys; None: no such class.
    settings: Any = None


def _are_plugins(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(x, PluginSettings) for x in value)


@frozen
class BrokerSettings:
    """The whole broker."""

    #: Name of this node in $SYS; "" means "mqttd@" and the host name.
    node: str = text()
    #: Seconds between $SYS reports; 0 switches them off.
    sys_interval: float = seconds(60.0)
    #: Publish $SYS/brokers/<node>/clients/<id>/connected and /disconnected.
    presence: bool = flag(True)
    #: Directory of the store; "" means none, and that nothing is kept. The daemon
    #: puts its own in place of "".
    data_directory: str = text()
    shared_strategy: SharedStrategy = choice(SharedStrategy.ROUND_ROBIN)
    #: Let any principal resume or take over any client id's session.
    share_sessions: bool = flag(False)
    #: Seconds that a drain at shutdown may take.
    drain_timeout: float = seconds(10.0, 0, 3600)
    #: Seconds over which the farewells at shutdown are spread, before
    #: ``drain_timeout`` begins, so that not all clients come back at once.
    drain_spread: float = seconds(0.0, 0, 3600)
    #: Sessions without a connection; 0 means no limit.
    maximum_offline_sessions: int = count(1_000_000)
    protocol: ProtocolSettings = part(ProtocolSettings)
    session: SessionSettings = part(SessionSettings)
    retained: RetainedSettings = part(RetainedSettings)
    store: StoreSettings = part(StoreSettings)
    limits: ConnectionLimits = part(ConnectionLimits)
    shared_limits: SharedLimits = part(SharedLimits)
    #: Who is asked what a client may do, in this order; without any, everyone may
    #: do everything.
    authorization: tuple[RuleSource, ...] = field(
        default=(), validator=check("a tuple of settings of rule sources", _are_rule_sources)
    )
    access: AccessSettings = part(AccessSettings)
    abuse: AbuseSettings = part(AbuseSettings)
    hooks: HookSettings = part(HookSettings)
    http: HTTPSettings = part(HTTPSettings)
    trace: TraceSettings = part(TraceSettings)
    flight: FlightSettings = part(FlightSettings)
    #: Who is asked who a client is, in this order.
    authentication: tuple[AuthenticatorSettings, ...] = field(
        default=(), validator=check("a tuple of AuthenticatorSettings", _are_authenticators)
    )
    password_hashing: PasswordHashing = part(PasswordHashing)
    #: "text" or "json".
    log_format: str = one_of("text", "text", "json")
    #: "debug", "info", "warn", "error" or "critical".
    log_level: str = one_of("info", *LOG_LEVELS)
    #: Module -> its own level; "mqttd.net" stands for all that is in it.
    log_levels: dict[str, str] = table(
        "a table of module names, each with a level", lambda level: level in LOG_LEVELS
    )
    #: File of the changes that operators make, one a line; "" means none.
    log_audit_file: str = text()
    listeners: tuple[ListenerSettings, ...] = field(
        default=(), validator=check("a tuple of ListenerSettings", _are_listeners)
    )

    def __attrs_post_init__(self) -> None:
        check_names(self.authentication, tuple(x for y in self.listeners for x in y.authentication))

    #: Links to other brokers.
    bridges: tuple[BridgeSettings, ...] = field(
        default=(), validator=check("bridges with names of their own", are_bridges)
    )
    plugins: tuple[PluginSettings, ...] = field(
        default=(), validator=check("a tuple of PluginSettings", _are_plugins)
    )
