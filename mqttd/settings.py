"""Every setting of the broker, typed, with its default and unit.

Plain values: nothing here reads a file, opens a socket or knows Twisted.
``config.py`` fills these classes from TOML and checks them as a whole; an
embedding program may build them by hand. Sizes are bytes, times are seconds,
rates are per second; 0 means "no limit" where a field says so.

``ProtocolSettings``, ``SessionSettings`` and ``ConnectionLimits`` hold for the
whole broker and may be overridden per listener.
"""

from __future__ import annotations

from enum import Enum

from attrs import field, frozen


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


@frozen
class Rate:
    """A token bucket: *rate* units per second, at most *burst* at once."""

    rate: float
    #: 0 means one second's worth.
    burst: float = 0


@frozen
class ProtocolSettings:
    """What the server offers and accepts in the protocol."""

    maximum_qos: int = 2
    retain_available: bool = True
    wildcard_subscriptions: bool = True
    shared_subscriptions: bool = True
    subscription_identifiers: bool = True
    #: Largest packet accepted, fixed header included; bytes.
    maximum_packet_size: int = 2 * 1024 * 1024
    #: Unacknowledged QoS 1 and 2 messages a client may have towards us.
    receive_maximum: int = 1024
    #: Topic aliases a client may set up.
    topic_alias_maximum: int = 64
    #: Topic aliases we set up towards a client that allows more.
    outbound_topic_alias_maximum: int = 64
    maximum_topic_levels: int = 128
    #: Bytes.
    maximum_topic_length: int = 4096
    #: Bytes.
    maximum_client_id_length: int = 1024
    zero_length_client_id: bool = True
    #: Put before the client ids that the server assigns.
    assigned_client_id_prefix: str = "auto-"
    #: Largest keep alive, seconds; a larger or zero one is replaced by it in
    #: 5.0 and refused below. 0 means any.
    maximum_keep_alive: int = 0
    #: Close after this multiple of the keep alive without a packet.
    keep_alive_factor: float = 1.5
    #: Longest session expiry granted, seconds; None means for ever.
    maximum_session_expiry: int | None = None
    #: Expiry of a 3.1 or 3.1.1 session with clean session 0; None: for ever.
    persistent_session_expiry: int | None = None
    #: Longest will delay honoured, seconds.
    maximum_will_delay: int = 86_400
    #: User properties accepted in one packet.
    maximum_user_properties: int = 256
    #: Topic filters accepted in one SUBSCRIBE or UNSUBSCRIBE.
    maximum_filters_per_packet: int = 1024
    #: Let clients publish to topics that begin with "$", $SYS excepted.
    dollar_topics: bool = False
    #: Check PUBLISH payloads that declare themselves UTF-8.
    check_payload_format: bool = True
    #: Sent to clients that ask for response information; "" means none.
    response_information: str = ""
    #: "server:port" list; with it every CONNECT is answered 0x9C.
    server_reference: str = ""
    #: With server_reference: answer 0x9D (moved) in place of 0x9C.
    server_moved: bool = False
    allow_mqtt31: bool = True
    allow_mqtt311: bool = True
    allow_mqtt5: bool = True
    #: Take the user name as the client id.
    user_name_as_client_id: bool = False
    denied_publish: DeniedPublish = DeniedPublish.ACKNOWLEDGE
    #: Say why in reason strings, when the client wants to know.
    reason_strings: bool = True


@frozen
class SessionSettings:
    """Bounds and habits of one session."""

    #: QoS 1 and 2 messages on their way to a client, unacknowledged.
    maximum_inflight: int = 32
    #: Messages waiting in one session.
    maximum_queued_messages: int = 10_000
    #: Their bytes, topics and properties included.
    maximum_queued_bytes: int = 16 * 1024 * 1024
    overflow: Overflow = Overflow.DROP_OLDEST
    #: pause-publishers gives up and drops the newest after this; seconds.
    maximum_publisher_pause: float = 10.0
    #: Keep QoS 0 messages for clients that are away.
    queue_qos0: bool = False
    #: Deliver at the subscription's QoS even when the message had less.
    upgrade_qos: bool = False
    #: Send unacknowledged packets again after this; 0 means only at
    #: reconnection, which is all that 3.1.1 and 5.0 want. Seconds.
    retry_interval: float = 0.0
    #: Per session; 0 means no limit.
    maximum_subscriptions: int = 10_000
    #: Topic filter -> priority, 0 (the default) to 255, higher first.
    priorities: dict[str, int] = field(factory=dict)


@frozen
class RetainedSettings:
    #: 0 means no limit.
    maximum_messages: int = 1_000_000
    #: All of them together; 0 means no limit. Bytes.
    maximum_bytes: int = 1024 * 1024 * 1024
    #: Of one message; larger ones are routed and not retained. Bytes.
    maximum_payload: int = 1024 * 1024
    #: Seconds that a message without expiry of its own is kept; 0: for ever.
    expiry: int = 0
    #: Before a retained message is sent, check again that its publisher may
    #: publish it.
    check_source: bool = True


@frozen
class ConnectionLimits:
    """What one connection, and one listener, may use."""

    #: Seconds from accept to a complete CONNECT, the TLS handshake included.
    connect_timeout: float = 10.0
    #: Seconds that a close may take before the connection is cut.
    close_timeout: float = 5.0
    #: Connections of the listener; 0 means no limit.
    maximum_connections: int = 0
    #: Connections from one address; 0 means no limit.
    maximum_connections_per_address: int = 0
    #: New connections per second of the listener.
    connection_rate: Rate | None = None
    #: Bytes a connection may send us per second.
    inbound_bytes: Rate | None = None
    #: PUBLISH packets a connection may send us per second.
    inbound_messages: Rate | None = None
    #: Bytes per second that we send to a connection.
    outbound_bytes: Rate | None = None
    #: PUBLISH packets per second that we send to a connection.
    outbound_messages: Rate | None = None
    #: Bytes written and not yet taken by the network before the session queues.
    output_buffer: int = 65_536


@frozen
class SharedLimits:
    """Buckets that all connections of one user, or of one address, share."""

    user_inbound_bytes: Rate | None = None
    user_inbound_messages: Rate | None = None
    address_inbound_bytes: Rate | None = None
    address_inbound_messages: Rate | None = None


@frozen
class TLSSettings:
    """TLS of one listener; ``certificate`` switches it on."""

    #: PEM file, the chain included.
    certificate: str = ""
    #: PEM file of the private key; "" means that it is in ``certificate``.
    private_key: str = ""
    #: Server name -> certificate file (key included) for SNI.
    server_names: dict[str, str] = field(factory=dict)
    #: "1.2" or "1.3".
    minimum_version: str = "1.2"
    #: OpenSSL cipher list for TLS 1.2; "" means a safe default.
    ciphers: str = ""
    client_certificate: ClientCertificate = ClientCertificate.NONE
    #: PEM file of the authorities that sign client certificates.
    client_authorities: str = ""
    #: PEM file of certificate revocation lists.
    revocation_list: str = ""
    identity: Identity = Identity.NONE
    #: Session tickets, so that a reconnection is cheap.
    session_tickets: bool = True
    #: Application protocols offered by ALPN.
    alpn: tuple[str, ...] = ("mqtt",)


@frozen
class ListenerSettings:
    """One listening endpoint."""

    #: Twisted endpoint string.
    endpoint: str
    #: Shown in logs and metrics; "" means the endpoint string.
    name: str = ""
    allow_anonymous: bool = False
    tls: TLSSettings | None = None
    #: Expect a PROXY protocol header, version 1 or 2, before anything else.
    proxy_protocol: bool = False
    #: Networks (CIDR) whose PROXY header is believed; others are refused.
    proxy_sources: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    #: "allow CIDR" and "deny CIDR" rules ("all" for any); first match decides,
    #: no match allows if there is no allow rule and denies otherwise.
    access: tuple[str, ...] = ()
    #: Put before every topic of this listener's clients; "%c" and "%u" stand
    #: for client id and user name.
    mount_point: str = ""
    protocol: ProtocolSettings = field(factory=ProtocolSettings)
    session: SessionSettings = field(factory=SessionSettings)
    limits: ConnectionLimits = field(factory=ConnectionLimits)


@frozen
class BrokerSettings:
    """The whole broker."""

    #: Name of this node in $SYS; "" means "mqttd@" and the host name.
    node: str = ""
    #: Seconds between $SYS reports; 0 switches them off.
    sys_interval: float = 60.0
    #: Publish $SYS/brokers/<node>/clients/<id>/connected and /disconnected.
    presence: bool = True
    shared_strategy: SharedStrategy = SharedStrategy.ROUND_ROBIN
    #: Let any principal resume or take over any client id's session.
    share_sessions: bool = False
    #: Seconds that a drain at shutdown may take.
    drain_timeout: float = 10.0
    #: Sessions without a connection; 0 means no limit.
    maximum_offline_sessions: int = 1_000_000
    protocol: ProtocolSettings = field(factory=ProtocolSettings)
    session: SessionSettings = field(factory=SessionSettings)
    retained: RetainedSettings = field(factory=RetainedSettings)
    limits: ConnectionLimits = field(factory=ConnectionLimits)
    shared_limits: SharedLimits = field(factory=SharedLimits)
    #: "text" or "json".
    log_format: str = "text"
    #: "debug", "info", "warn", "error" or "critical".
    log_level: str = "info"
    listeners: tuple[ListenerSettings, ...] = ()
