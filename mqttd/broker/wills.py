"""Wills: kept while a connection lives, published when it ends badly.

The protocol machine arms a will at CONNECT and disarms it at DISCONNECT;
sessions tell when they are resumed or end. A will whose delay has not passed
waits on the timer wheel (MQTT 5.0 section 3.1.3.2.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mqttd.broker import hooked
from mqttd.broker.access import Guard
from mqttd.broker.message import Message
from mqttd.broker.timers import Timer
from mqttd.interfaces import PUBLISH
from mqttd.wire.packets import Will

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.session import Session

log = Logger()


@define
class PendingWill:
    """A will, with the rights under which it will be published."""

    will: Will
    #: Topic with the mount point.
    topic: str
    guard: Guard
    #: Seconds to wait after the connection is lost.
    delay: int
    #: The part of ``topic`` that the client does not know.
    mount_point: str = ""
    timer: Timer | None = None
    #: Its number in the store, where it survives without its session; or 0.
    sid: int = 0


class WillService:
    """Publishes the wills of connections that were not closed properly."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def arm(self, session: Session, will: PendingWill) -> None:
        """Keep *will* for the connection that now owns *session*."""
        self.disarm(session)
        session.will = will  # [MQTT-3.1.2-7]
        durability = self._broker.durability
        if session.durable:
            session.save()
        elif durability is not None:
            durability.put_will(session, will)

    def disarm(self, session: Session) -> None:
        """Forget the will: DISCONNECT came, or the client is back in time."""
        # [MQTT-3.1.2-10] [MQTT-3.1.3-9] [MQTT311-3.1.2-10]
        if session.will is None:
            return
        will = self._take(session)
        if will is not None:
            self._forget(session, will)

    def _take(self, session: Session) -> PendingWill | None:
        will, session.will = session.will, None
        if will is not None and will.timer is not None:
            will.timer.cancel()
        return will

    def _forget(self, session: Session, will: PendingWill) -> None:
        """The store need not keep *will* any more."""
        if will.sid and self._broker.durability is not None:
            self._broker.durability.delete_session(will.sid)
        elif session.durable:
            session.save()

    def connection_lost(self, session: Session) -> None:
        """The connection ended without DISCONNECT: publish now, or wait."""
        will = session.will
        if will is None or will.timer is not None:  # [MQTT311-3.1.2-12]
            return
        delay = will.delay
        if session.expiry is not None:
            delay = min(delay, session.expiry)
        self.fire_in(session, will, delay)

    def fire_in(self, session: Session, will: PendingWill, delay: float) -> None:
        """Publish *will*, that of *session*, after *delay* seconds."""
        if delay > 0:
            will.timer = self._broker.wheel.call_later(delay, self.fire, session)
        else:
            self.fire(session)  # [MQTT-3.1.2-8] [MQTT311-3.1.2-8]

    def fire(self, session: Session) -> None:
        """Publish the will, if the client may still do that, and forget it."""
        will = self._take(session)
        if will is None:
            return
        allowed = will.guard.allowed(PUBLISH, will.topic, will.will.qos, will.will.retain)
        if isinstance(allowed, Deferred):
            allowed.addBoth(self._decided, session, will)
        else:
            self._decided(allowed, session, will)

    def _decided(self, allowed: object, session: Session, will: PendingWill) -> None:
        if allowed is True:
            self._publish(session.client_id, will)
        else:
            self._broker.metrics.dropped["will-denied"] += 1
        # In the turn that publishes it: after a crash it is there, or was published.
        self._forget(session, will)

    def _publish(self, client_id: str, pending: PendingWill) -> None:
        will = pending.will
        now = self._broker.seconds()
        expiry = will.properties.get("message_expiry_interval")
        message = Message(
            pending.topic,
            will.payload,
            will.qos,
            will.retain,  # [MQTT-3.1.2-14] [MQTT-3.1.2-15] [MQTT311-3.1.2-16] [MQTT311-3.1.2-17]
            properties=will.properties,
            passthrough=will.passthrough,
            expires_at=None if expiry is None else now + expiry,
            publisher=client_id,
            guard=pending.guard,
            created_at=now,
        )
        durability = self._broker.durability
        if durability is None:
            self._send(message, pending)
            return
        # Nobody waits for an acknowledgement of it, or could send it again.
        durability.at_once = True
        try:
            self._send(message, pending)
        finally:
            durability.at_once = False

    def _send(self, message: Message, pending: PendingWill) -> None:
        if self._broker.hooks.will or self._broker.hooks.message_publish:
            hooked.publish_will(self._broker, message, pending.mount_point)
        else:
            self._broker.publisher.publish(message)
