"""The one exception of the wire layer: a peer broke the rules.

The parser raises it, the protocol machine answers it (MQTT 5.0 section 4.13).
"""

from __future__ import annotations

from mqttd.wire.codes import ReasonCode


class ProtocolViolation(Exception):
    """A packet that the specification forbids, or that exceeds a limit.

    ``reason`` is the reason code that CONNACK or DISCONNECT carries for it;
    the text is for people, names the packet and the rule, and never holds
    payload or password bytes.
    """

    def __init__(self, reason: ReasonCode, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


def malformed(text: str) -> ProtocolViolation:
    """A Malformed Packet (0x81): bytes that cannot be parsed."""
    return ProtocolViolation(ReasonCode.MALFORMED_PACKET, text)


def protocol_error(text: str) -> ProtocolViolation:
    """A Protocol Error (0x82): well-formed, but not allowed."""
    return ProtocolViolation(ReasonCode.PROTOCOL_ERROR, text)
