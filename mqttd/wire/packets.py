"""MQTT control packets as values: what the parser yields and the serializer takes.

Fields carry the specification's names and types; strings are ``str``, binary
data and payloads ``bytes``, intervals seconds. The classes hold data and check
nothing: syntax is the parser's business, legality the protocol machine's. One
class serves all protocol versions; ``properties`` is empty below 5.0.
"""

from __future__ import annotations

from typing import ClassVar, TypedDict

from attrs import define, field

from mqttd.wire.codes import MQTT311, PacketType, ReasonCode


class Properties(TypedDict, total=False):
    """MQTT 5.0 properties by name (section 2.2.2.2).

    A plain ``dict`` at run time. Only ``user_property`` and
    ``subscription_identifier`` may stand in a packet more than once, so they
    are lists; booleans of the specification are ``int`` 0 or 1.
    """

    payload_format_indicator: int
    message_expiry_interval: int
    content_type: str
    response_topic: str
    correlation_data: bytes
    subscription_identifier: list[int]
    session_expiry_interval: int
    assigned_client_identifier: str
    server_keep_alive: int
    authentication_method: str
    authentication_data: bytes
    request_problem_information: int
    will_delay_interval: int
    request_response_information: int
    response_information: str
    server_reference: str
    reason_string: str
    receive_maximum: int
    topic_alias_maximum: int
    topic_alias: int
    maximum_qos: int
    retain_available: int
    user_property: list[tuple[str, str]]
    maximum_packet_size: int
    wildcard_subscription_available: int
    subscription_identifier_available: int
    shared_subscription_available: int


@define
class Will:
    """The Will Message of a CONNECT (MQTT 5.0 section 3.1.3.2 ff.)."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = field(factory=Properties)
    #: See ``Publish.passthrough``; Will Delay Interval is not in it either.
    passthrough: bytes = b""


@define
class Connect:
    type: ClassVar[PacketType] = PacketType.CONNECT
    client_id: str = ""
    #: Protocol level with the bridge bit removed: 3, 4 or 5.
    version: int = MQTT311
    clean_start: bool = True
    keep_alive: int = 0
    will: Will | None = None
    user_name: str | None = None
    password: bytes | None = None
    properties: Properties = field(factory=Properties)
    #: The protocol level had the 0x80 bit: an MQTT bridge.
    bridge: bool = False


@define
class Connack:
    type: ClassVar[PacketType] = PacketType.CONNACK
    session_present: bool = False
    #: A ``ReasonCode`` in 5.0, a ``ConnectReturnCode`` below.
    reason: int = ReasonCode.SUCCESS
    properties: Properties = field(factory=Properties)


@define
class Publish:
    type: ClassVar[PacketType] = PacketType.PUBLISH
    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    dup: bool = False
    #: 0 when QoS is 0.
    packet_id: int = 0
    properties: Properties = field(factory=Properties)
    #: Encoded properties that travel to subscribers unaltered, in the order
    #: received: all but Message Expiry Interval, Topic Alias and Subscription
    #: Identifier. Set by the parser; without the length in front.
    passthrough: bytes = b""


@define
class Puback:
    type: ClassVar[PacketType] = PacketType.PUBACK
    packet_id: int
    reason: int = ReasonCode.SUCCESS
    properties: Properties = field(factory=Properties)


@define
class Pubrec:
    type: ClassVar[PacketType] = PacketType.PUBREC
    packet_id: int
    reason: int = ReasonCode.SUCCESS
    properties: Properties = field(factory=Properties)


@define
class Pubrel:
    type: ClassVar[PacketType] = PacketType.PUBREL
    packet_id: int
    reason: int = ReasonCode.SUCCESS
    properties: Properties = field(factory=Properties)


@define
class Pubcomp:
    type: ClassVar[PacketType] = PacketType.PUBCOMP
    packet_id: int
    reason: int = ReasonCode.SUCCESS
    properties: Properties = field(factory=Properties)


@define
class SubscriptionRequest:
    """One Topic Filter of a SUBSCRIBE with its options (section 3.8.3.1)."""

    topic_filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    #: A ``RetainHandling`` value.
    retain_handling: int = 0


@define
class Subscribe:
    type: ClassVar[PacketType] = PacketType.SUBSCRIBE
    packet_id: int
    subscriptions: list[SubscriptionRequest]
    properties: Properties = field(factory=Properties)


@define
class Suback:
    type: ClassVar[PacketType] = PacketType.SUBACK
    packet_id: int
    reasons: list[int]
    properties: Properties = field(factory=Properties)


@define
class Unsubscribe:
    type: ClassVar[PacketType] = PacketType.UNSUBSCRIBE
    packet_id: int
    topic_filters: list[str]
    properties: Properties = field(factory=Properties)


@define
class Unsuback:
    type: ClassVar[PacketType] = PacketType.UNSUBACK
    packet_id: int
    #: Empty below 5.0.
    reasons: list[int] = field(factory=list)
    properties: Properties = field(factory=Properties)


@define
class Pingreq:
    type: ClassVar[PacketType] = PacketType.PINGREQ


@define
class Pingresp:
    type: ClassVar[PacketType] = PacketType.PINGRESP


@define
class Disconnect:
    type: ClassVar[PacketType] = PacketType.DISCONNECT
    reason: int = ReasonCode.SUCCESS
    properties: Properties = field(factory=Properties)


@define
class Auth:
    type: ClassVar[PacketType] = PacketType.AUTH
    reason: int = ReasonCode.SUCCESS
    properties: Properties = field(factory=Properties)


Packet = (
    Connect
    | Connack
    | Publish
    | Puback
    | Pubrec
    | Pubrel
    | Pubcomp
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)
