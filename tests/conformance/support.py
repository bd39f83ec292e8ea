"""What the conformance tests share: versions, brokers, frames by hand."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse

from mqttd.interfaces import AccessRequest
from mqttd.settings import (
    BrokerSettings,
    ConnectionLimits,
    ProtocolSettings,
    RetainedSettings,
    SessionSettings,
)
from mqttd.testing import VirtualBroker, VirtualClient
from mqttd.wire.codes import MQTT5, MQTT31, MQTT311
from mqttd.wire.packets import Connack, Disconnect
from mqttd.wire.strings import variable_byte_integer

V31 = pytest.param(MQTT31, id="3.1")
V311 = pytest.param(MQTT311, id="3.1.1")
V5 = pytest.param(MQTT5, id="5.0")

#: A rule that 3.1.1 and 5.0 have in common.
each_version = pytest.mark.parametrize("version", [V311, V5])
#: One that 3.1 shares.
all_versions = pytest.mark.parametrize("version", [V31, V311, V5])

#: For ever, as a Session Expiry Interval.
FOR_EVER = 0xFFFFFFFF


def broker_with(
    *,
    session: SessionSettings | None = None,
    retained: RetainedSettings | None = None,
    limits: ConnectionLimits | None = None,
    authorizer: Any = None,
    users: dict[str, str] | None = None,
    methods: Any = (),
    **protocol: Any,
) -> VirtualBroker:
    """A broker with these settings; *users* maps names to passwords."""
    settings = BrokerSettings(
        protocol=ProtocolSettings(**protocol),
        session=session or SessionSettings(),
        retained=retained or RetainedSettings(),
        limits=limits or ConnectionLimits(),
    )
    checkers: tuple[Any, ...] = ()
    if users is not None:
        passwords = {name: password.encode() for name, password in users.items()}
        checkers = (InMemoryUsernamePasswordDatabaseDontUse(**passwords),)
    return VirtualBroker(settings, authorizer=authorizer, checkers=checkers, methods=methods)


class Rules:
    """An authorizer that refuses what is in ``refused``: (action, topic)."""

    checks = frozenset({"publish", "subscribe", "receive"})
    epoch = 0

    def __init__(self, *refused: tuple[str, str]) -> None:
        self.refused = set(refused)

    def authorize(self, request: AccessRequest) -> bool:
        return (request.action, request.topic) not in self.refused


def keep(version: int) -> dict[str, Any]:
    """Fields of a CONNECT whose session outlives the connection."""
    if version == MQTT5:
        return {"clean_start": False, "session_expiry_interval": FOR_EVER}
    return {"clean_start": False}


def expect_closed(client: VirtualClient, reason: int | None = None) -> None:
    """The broker has closed, in 5.0 after a DISCONNECT with *reason*."""
    if client.version == MQTT5 and reason is not None:
        client.expect(Disconnect, reason=reason)
    client.expect_nothing()
    assert client.closed_reason in ("closed", "aborted")


def expect_refused(broker: VirtualBroker, version: int, data: bytes) -> Connack | None:
    """Send *data* first: no session comes of it; the CONNACK, if there is one."""
    client = broker.open(version)
    client.send_bytes(data)
    answers = client.take(Connack)
    client.expect_nothing()
    assert client.closed
    assert not broker.broker.sessions
    if not answers:
        return None
    (answer,) = answers
    assert answer.reason != 0
    assert not answer.session_present
    return answer


# --- frames by hand -----------------------------------------------------------


def frame(first: int, *parts: bytes) -> bytes:
    """A packet: first byte, length, and what follows."""
    body = b"".join(parts)
    return bytes((first,)) + variable_byte_integer(len(body)) + body


def text(value: str | bytes) -> bytes:
    """A string with its length, valid or not."""
    data = value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(2, "big") + data


def properties(data: bytes = b"") -> bytes:
    return variable_byte_integer(len(data)) + data


def none_for(version: int) -> bytes:
    """An empty property block, where there are any."""
    return b"\x00" if version == MQTT5 else b""


def connect_frame(
    version: int,
    flags: int,
    *payload: bytes,
    keep_alive: int = 0,
    name: str | None = None,
    level: int | None = None,
    block: bytes = b"",
) -> bytes:
    """A CONNECT, byte by byte."""
    if name is None:
        name = "MQIsdp" if version == MQTT31 else "MQTT"
    return frame(
        0x10,
        text(name),
        bytes((version if level is None else level, flags)),
        keep_alive.to_bytes(2, "big"),
        properties(block) if version == MQTT5 else b"",
        *payload,
    )
