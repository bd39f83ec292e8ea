"""What a client is to be: checked values, each with its unit.

A program makes one and gives it to ``Client``; a bridge makes one of its own settings.
"""

from __future__ import annotations

from typing import Any

from attrs import field, frozen

from mqttd.fields import SettingError, check, count, flag, seconds, size, text, whole_seconds
from mqttd.wire.codes import MQTT5, MQTT31, MQTT311
from mqttd.wire.packets import Properties, Will


def _version() -> Any:
    validator = check("3 (MQTT 3.1), 4 (3.1.1) or 5 (5.0)", lambda x: x in (MQTT31, MQTT311, MQTT5))
    return field(default=MQTT5, validator=validator)


@frozen
class ClientSettings:
    """One client."""

    #: "" for one that nobody else has; the same as long as the ``Client`` lives.
    client_id: str = text()
    #: Protocol level: 5, 4 for MQTT 3.1.1, 3 for 3.1.
    version: int = _version()
    user_name: str | None = None
    password: bytes | None = field(default=None, repr=False)
    #: Begin anew with the first connection. False keeps what the server kept.
    clean_start: bool = flag(True)
    #: Seconds that the server keeps the session without a connection (5.0 only).
    session_expiry: int = whole_seconds(0, 4_294_967_295)
    #: Seconds without a packet after which the connection is tried; 0: never.
    keep_alive: int = count(60, 0, 65_535)
    #: Seconds to wait for the answer to that trial.
    ping_timeout: float = seconds(20.0, 0.1)
    #: Seconds that connecting may take: TCP, TLS and CONNACK together.
    connect_timeout: float = seconds(30.0, 0.1)
    #: Seconds before the first attempt to connect again, and the longest wait; each is
    #: half as long again as the one before, and a tenth more or less by chance.
    retry_first: float = seconds(1.0, 0.01)
    retry_last: float = seconds(60.0, 0.01)
    #: QoS 1 and 2 messages on their way to us, unacknowledged, that we ask for at most
    #: (5.0); to send more is no error, since some servers do so after a break.
    receive_maximum: int = count(100, 1, 65_535)
    #: QoS 1 and 2 messages on their way from us; the server may allow fewer.
    maximum_inflight: int = count(100, 1, 65_535)
    #: The largest packet that we take; bytes.
    maximum_packet_size: int = size(16 * 1024 * 1024, 16)
    #: Messages that may wait to be acknowledged, and their bytes.
    maximum_queued: int = count(10_000, 1)
    maximum_queued_bytes: int = size(64 * 1024 * 1024, 1)
    will: Will | None = None
    #: Say that this is a bridge (3.1 and 3.1.1 only): some brokers then send no echo.
    bridge: bool = flag(False)
    #: User Properties of CONNECT (5.0 only).
    user_property: tuple[tuple[str, str], ...] = ()

    def __attrs_post_init__(self) -> None:
        if self.password is not None and self.user_name is None and self.version != MQTT5:
            raise SettingError("user_name", None, "given with a password before MQTT 5.0")
        if self.bridge and self.version == MQTT5:
            raise SettingError("bridge", True, "false with MQTT 5.0, which has No Local")

    @property
    def connect_properties(self) -> Properties:
        """Properties of CONNECT, but for those of authentication."""
        properties: Properties = {"receive_maximum": self.receive_maximum}
        properties["maximum_packet_size"] = self.maximum_packet_size
        if self.session_expiry:
            properties["session_expiry_interval"] = self.session_expiry
        if self.user_property:
            properties["user_property"] = list(self.user_property)
        return properties
