"""Messages and wills as a store keeps them, and back again.

``durability`` encodes what it adds to the store, sessions and ``restore`` decode
what they read. With a message goes who published it, so that the rules that hold
later can judge it still. A deadline is moved between the broker's clock and the
store's time by the difference of the two, which never changes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mqttd.broker.access import Guard
from mqttd.broker.message import Message
from mqttd.broker.wills import PendingWill
from mqttd.interfaces import Avatar, Peer
from mqttd.store import records
from mqttd.wire.packets import Properties, Will

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker

#: Publishers remembered while messages are decoded.
MAXIMUM_SOURCES = 1024


class Envelopes:
    """Encodes and decodes for one broker and one store."""

    def __init__(self, broker: Broker, offset: float) -> None:
        """*offset*: the store's time less the broker's clock, seconds."""
        self._broker = broker
        self._offset = offset
        #: Encoded source -> guard and client id; most messages share a few.
        self._sources: dict[bytes, tuple[Guard | None, str | None]] = {b"": (None, None)}

    def deadline(self, message: Message) -> float | None:
        """When *message* expires, in the store's time."""
        expires_at = message.expires_at
        return None if expires_at is None else expires_at + self._offset

    def encode(self, message: Message) -> bytes:
        """The body of *message*."""
        return records.encode_message(
            message.topic.encode(),
            message.payload,
            message.qos,
            message.retain,
            message.passthrough,
            message.created_at + self._offset,
            self.deadline(message),
            source_of(message.guard, message.publisher),
        )

    def decode(self, body: bytes) -> Message:
        """The message of *body*; ValueError when it is none."""
        stored = records.decode_message(body)
        guard, publisher = self._source(stored.source)
        expires_at = stored.expires_at
        return Message(
            stored.topic,
            stored.payload,
            stored.qos,
            stored.retain,
            passthrough=stored.passthrough,
            expires_at=None if expires_at is None else expires_at - self._offset,
            publisher=publisher,
            guard=guard,
            created_at=stored.created_at - self._offset,
        )

    def encode_will(self, pending: PendingWill) -> bytes:
        """A will, with the rights under which it will be published."""
        will = pending.will
        message = records.encode_message(
            pending.topic.encode(),
            will.payload,
            will.qos,
            will.retain,
            will.passthrough,
            source=source_of(pending.guard, pending.guard.client_id),
        )
        expiry = will.properties.get("message_expiry_interval")
        return records.encode_will(message, pending.delay, expiry)

    def decode_will(self, data: bytes) -> PendingWill:
        """The reverse of ``encode_will``; ValueError when *data* is none."""
        stored = records.decode_will(data)
        guard, _ = self._source(stored.message.source)
        if guard is None:
            raise ValueError("a stored will does not say whose it is")
        properties = Properties()
        if stored.expiry is not None:
            properties["message_expiry_interval"] = stored.expiry
        message = stored.message
        will = Will(
            message.topic,
            message.payload,
            message.qos,
            message.retain,
            properties,
            message.passthrough,
        )
        return PendingWill(will, message.topic, guard, stored.delay)

    def _source(self, source: bytes) -> tuple[Guard | None, str | None]:
        known = self._sources.get(source)
        if known is None:
            if len(self._sources) > MAXIMUM_SOURCES:
                self._sources = {b"": (None, None)}
            known = self._sources[source] = self._decode_source(source)
        return known

    def _decode_source(self, source: bytes) -> tuple[Guard | None, str | None]:
        said = json.loads(source)
        if not isinstance(said, dict):
            raise ValueError("a stored message does not say who sent it")
        client_id = said.get("client")
        if "listener" not in said:
            return None, client_id
        avatar = Avatar(
            said.get("principal"), said.get("superuser") is True, None, said.get("claims") or {}
        )
        broker = self._broker
        address = said.get("address")
        guard = Guard(
            broker.authorizer,
            avatar,
            client_id or "",
            None if address is None else Peer(address),
            said["listener"],
            broker.metrics,
            broker.seconds,
        )
        return guard, client_id


def source_of(guard: Guard | None, publisher: str | None) -> bytes:
    """Who published, in JSON; b"" for the broker itself."""
    if guard is None:
        return b"" if publisher is None else json.dumps({"client": publisher}).encode()
    if guard.source is None:
        guard.source = _encode_source(guard)
    return guard.source


def _encode_source(guard: Guard) -> bytes:
    avatar = guard.avatar
    said: dict[str, Any] = {"client": guard.client_id, "listener": guard.listener_name}
    if avatar.principal is not None:
        said["principal"] = avatar.principal
    if avatar.superuser is True:
        said["superuser"] = True
    if claims := getattr(avatar, "claims", None):
        said["claims"] = claims
    if guard.peer is not None:
        said["address"] = guard.peer.address
    # What JSON does not know becomes its text, which a rule may or may not know.
    encoded = json.dumps(said, separators=(",", ":"), default=str).encode()
    if len(encoded) > 65_535:
        del said["claims"]
        encoded = json.dumps(said, separators=(",", ":")).encode()
    return encoded
