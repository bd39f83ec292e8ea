"""The settings of ``[[bridge]]``: links to other brokers.

``settings.py`` puts them into ``BrokerSettings``, ``mqttd.bridge`` makes bridges of
them. The password stands in a file that a setting names.
"""

from __future__ import annotations

from enum import Enum
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from attrs import field, frozen

from mqttd.fields import (
    SettingError,
    check,
    choice,
    count,
    flag,
    one_of,
    parts,
    seconds,
    size,
    text,
    texts,
    whole_seconds,
)


class Direction(Enum):
    """Which way messages go."""

    OUT = "out"
    IN = "in"
    BOTH = "both"


class StartType(Enum):
    """When a bridge connects."""

    #: At once, and again whenever the connection is lost.
    AUTOMATIC = "automatic"
    #: When messages wait; it leaves when there is nothing to do.
    LAZY = "lazy"
    #: At once, and never again after the first failure.
    ONCE = "once"
    #: When an operator says so, and then like automatic.
    MANUAL = "manual"


class Queue(Enum):
    """Where messages wait while the other side is away."""

    #: In memory: they are lost with the process.
    MEMORY = "memory"
    #: In the broker's store.
    DISK = "disk"


def _is_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in ("mqtt", "mqtts")
        and bool(parts.hostname)
        and port != 0
        and parts.username is None
        and not (parts.path.strip("/") or parts.query or parts.fragment)
    )


def _is_own_address(text: object) -> bool:
    try:
        return isinstance(text, str) and (not text or bool(ip_address(text)))
    except ValueError:
        return False


@frozen
class BridgeTopic:
    """What goes over a bridge, and under which names."""

    #: Topic Filter, to which the prefixes are put on either side; "" where both prefixes
    #: are given: these are one topic then.
    filter: str = field(validator=check("a topic filter such as '#'", lambda x: isinstance(x, str)))
    #: Which way: from here to there, from there to here, or both.
    direction: Direction = choice(Direction.OUT)
    #: The highest QoS on the link; messages with more get this.
    qos: int = count(1, 0, 2)
    #: Put before the filter here, and taken from (put before) topics that leave (come).
    local_prefix: str = text()
    #: The same on the other side.
    remote_prefix: str = text()
    #: Keep the RETAIN flag of what goes over.
    retain: bool = flag(True)

    def __attrs_post_init__(self) -> None:
        if not self.filter and not (self.local_prefix and self.remote_prefix):
            raise SettingError("filter", "", "a topic filter, or both prefixes given")


@frozen
class BridgeSettings:
    """One bridge to another broker."""

    #: Its name in logs, and in the client ids by default.
    name: str = field(
        validator=check(
            'a name without "/", "+" and "#"',
            lambda x: isinstance(x, str) and bool(x) and not set(x) & set("/+#\0"),
        )
    )
    #: ``mqtt://host:port`` or ``mqtts://host:port``; the next one is tried when one
    #: does not answer.
    addresses: tuple[str, ...] = texts(
        (), 'a list of addresses such as "mqtts://host:8883"', _is_address
    )
    #: Version of MQTT on the link: "3.1", "3.1.1" or "5.0".
    version: str = one_of("5.0", "3.1", "3.1.1", "5.0")
    #: Client id there; "" makes one of the host's name and the bridge's.
    client_id: str = text()
    #: User name there; "" means none.
    user_name: str = text()
    #: File with the password in its first line; "" means none.
    password_file: str = text()
    #: PEM file of the authorities for ``mqtts``; "" are the system's.
    ca_file: str = text()
    #: PEM file with the certificate that the bridge shows, and its key; "" is none.
    certificate: str = text()
    #: PEM file with the key, if it is not in ``certificate``.
    private_key: str = text()
    #: Protocols to offer in the TLS handshake (ALPN), for servers that tell MQTT from
    #: others by that; none by default.
    alpn: tuple[str, ...] = texts(
        (), 'a list of names such as "mqtt"', lambda name: 0 < len(name.encode()) < 256
    )
    #: Address of this machine to connect from; "" leaves that to the system.
    bind_address: str = field(
        default="", validator=check("an IP address, or empty", _is_own_address)
    )
    #: When it connects.
    start: StartType = choice(StartType.AUTOMATIC)
    #: A lazy bridge connects when so many messages wait.
    threshold: int = count(10, 1, 1000)
    #: It leaves when no message has gone for so long; seconds.
    idle_timeout: float = seconds(60.0, 0.1)
    #: Let the other side forget its session of us with each connection: what it has for
    #: us while we are away is lost.
    clean_start: bool = flag(False)
    #: Seconds that it keeps that session (5.0); 3.1.1 knows no end.
    session_expiry: int = whole_seconds(604_800, 4_294_967_295)
    #: Seconds without a packet after which the link is tried.
    keep_alive: int = count(60, 5, 65_535)
    #: Seconds before the first attempt to connect again; each wait is half as long
    #: again as the one before.
    retry_first: float = seconds(1.0, 0.01)
    #: The longest such wait; seconds.
    retry_last: float = seconds(60.0, 0.01)
    #: Messages on their way, unacknowledged, in each direction.
    maximum_inflight: int = count(50, 1, 1000)
    #: Larger packets are not taken; bytes.
    maximum_packet_size: int = size(16 * 1024 * 1024, 1024)
    #: Where messages wait while the other side is away.
    queue: Queue = choice(Queue.DISK)
    #: How many of them at most.
    maximum_queued_messages: int = count(100_000, 1)
    #: Their bytes, topics and properties included.
    maximum_queued_bytes: int = size(256 * 1024 * 1024, 1)
    #: Let QoS 0 messages wait, too.
    queue_qos0: bool = flag(False)
    #: Who the bridge is here, for the access rules; "" makes it "bridge:" and its name.
    principal: str = text()
    #: Tell the other side that it is a bridge (3.1 and 3.1.1), so that it sends no echo.
    bridge_bit: bool = flag(True)
    #: Where the state is retained, 1 or 0: here and there, only here, or nowhere.
    notifications: str = one_of("both", "both", "local", "none")
    #: The topic of it; "" is $SYS/broker/connection/<client id>/state.
    state_topic: str = text()
    #: Seconds that it may be away before an alarm says so; 0: none does.
    alarm_after: float = seconds(300.0)
    #: What goes over it.
    topics: tuple[BridgeTopic, ...] = parts(BridgeTopic, "a list of tables")

    def __attrs_post_init__(self) -> None:
        if self.private_key and not self.certificate:
            raise SettingError("private_key", self.private_key, "given with certificate only")
        if not self.addresses:
            raise SettingError("addresses", [], "a list of at least one address")
        if self.threshold > self.maximum_inflight:
            raise SettingError("threshold", self.threshold, "at most maximum_inflight")
        if self.start is StartType.LAZY and any(
            topic.direction is not Direction.OUT for topic in self.topics
        ):
            raise SettingError("start", "lazy", "automatic or once where messages come in")


def are_bridges(value: Any) -> bool:
    """Whether *value* is a tuple of bridges with names of their own."""
    if not isinstance(value, tuple) or not all(isinstance(x, BridgeSettings) for x in value):
        return False
    return len({bridge.name for bridge in value}) == len(value)
