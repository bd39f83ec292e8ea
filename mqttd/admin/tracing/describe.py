"""A packet in words that JSON can say, without its secrets.

Never shown: passwords, data of an authentication, and the values of user properties
where a client says who it is, since tokens travel in them. Payloads are shown as far
as the caller says; else their size is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import asdict, fields

from mqttd.wire.codes import ConnectReturnCode, PacketType, ReasonCode
from mqttd.wire.packets import Packet

REDACTED = "(redacted)"

#: Characters of any text and items of any list, so that no packet fills a trace.
LONGEST_TEXT, LONGEST_LIST = 1000, 20

#: Packets by which a client says who it is.
_LOGIN = frozenset({PacketType.CONNECT, PacketType.AUTH})


def describe(packet: Packet, version: int, shown: int) -> dict[str, Any]:
    """*packet* of *version*, with at most *shown* bytes of payload; 0: its size only."""
    words: dict[str, Any] = {"packet": packet.type.name}
    for field in fields(type(packet)):
        value = getattr(packet, field.name)
        if field.name == "passthrough" or value is None or value == {}:
            continue
        if field.name == "payload":
            words |= _payload(value, shown)
        elif field.name == "password":
            words["password"] = REDACTED
        elif field.name == "will":
            words["will"] = _will(value, shown)
        elif field.name == "properties":
            words["properties"] = _properties(value, packet.type in _LOGIN)
        elif field.name == "subscriptions":
            words["subscriptions"] = [asdict(each) for each in value[:LONGEST_LIST]]
        elif field.name in ("reason", "reasons"):
            words |= _reasons(field.name, value, packet.type, version)
        else:
            words[field.name] = _plain(value)
    return words


def _will(will: Any, shown: int) -> dict[str, Any]:
    words = {"topic": _plain(will.topic), "qos": will.qos, "retain": will.retain}
    words |= _payload(will.payload, shown)
    if will.properties:
        words["properties"] = _properties(will.properties, False)
    return words


def _payload(payload: bytes, shown: int) -> dict[str, Any]:
    words: dict[str, Any] = {"payload_size": len(payload)}
    if shown and payload:
        part = payload[:shown]
        try:
            words["payload"] = part.decode()
        except UnicodeDecodeError:
            words["payload_hex"] = part.hex()
    return words


def _properties(properties: Mapping[str, Any], secret: bool) -> dict[str, Any]:
    words: dict[str, Any] = {}
    for name, value in properties.items():
        if name == "authentication_data":
            words[name] = REDACTED
        elif name == "user_property":
            pairs = value[:LONGEST_LIST]
            words[name] = [[_plain(k), REDACTED if secret else _plain(v)] for k, v in pairs]
        else:
            words[name] = _plain(value)
    return words


def _reasons(name: str, value: Any, kind: PacketType, version: int) -> dict[str, Any]:
    if name == "reasons":
        return {"reasons": [_hexadecimal(each) for each in value[:LONGEST_LIST]]}
    codes: Any = ConnectReturnCode if kind is PacketType.CONNACK and version < 5 else ReasonCode
    words = {"reason": _hexadecimal(value)}
    if value in set(codes):
        words["reason_name"] = codes(value).name.lower().replace("_", " ")
    return words


def _hexadecimal(code: int) -> str:
    return f"0x{code:02x}"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value[: LONGEST_TEXT // 2].hex()
    if isinstance(value, str):
        return value[:LONGEST_TEXT]
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value[:LONGEST_LIST]]
    return value
