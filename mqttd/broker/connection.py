"""The protocol machine of one connection: CONNECT to DISCONNECT.

The transport hands it packets in order and tells it when the client can take
more or is gone; it decides what is legal when, answers, and moves messages
between its client and the session. It sees the network only as ``ITransport``.

Its states::

    NEW --CONNECT--> CONNECTING --> ACCEPTED --CONNACK 0x00--> CONNECTED --> CLOSED
                     |  ^ AUTH |    |                                        ^
                     |  +------+    | enhanced authentication                |
                     +--------------+--- refused, or any error --------------+

ACCEPTED, it owns its session; where that survives the broker, CONNACK waits for
the store.

``handshake`` handles what comes before CONNECTED, ``receiving`` PUBLISH and the
acknowledgements, ``subscribing`` SUBSCRIBE and UNSUBSCRIBE. A handler may return
a Deferred; the transport reads no further until it fires.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from mqttd.broker import fast_lane, handshake, hooked, receipts, receiving, subscribing
from mqttd.broker.delivery import Delivery, encode, encode_alone
from mqttd.broker.pause import DOWNSTREAM
from mqttd.broker.reasons import CLOSED, FAILURES
from mqttd.broker.waiting import rest_of
from mqttd.interfaces import RECEIVE, IClient, ITransport, Peer
from mqttd.wire.codes import (
    MAXIMUM_REMAINING_LENGTH,
    MQTT5,
    PacketType,
    ReasonCode,
    connect_return_code,
)
from mqttd.wire.errors import ProtocolViolation, protocol_error
from mqttd.wire.packets import (
    Connack,
    Disconnect,
    Packet,
    Properties,
    Pubrel,
    SubscriptionRequest,
)
from mqttd.wire.serializer import PINGRESP, serialize

if TYPE_CHECKING:
    from mqttd.broker.access import Guard
    from mqttd.broker.broker import Broker
    from mqttd.broker.receipts import Receipt
    from mqttd.broker.session import Session
    from mqttd.broker.timers import Timer

log = Logger()

#: The largest packet there can be, header included.
NO_PACKET_LIMIT = MAXIMUM_REMAINING_LENGTH + 5

MAXIMUM_PACKET_IDS = 65_535


class State(Enum):
    NEW = "new"
    CONNECTING = "connecting"
    ACCEPTED = "accepted"
    CONNECTED = "connected"
    CLOSED = "closed"


class Connection:
    """One client's connection."""

    __slots__ = (
        "aliases",
        "assigned_aliases",
        "broker",
        "client_id",
        "connected_at",
        "exchange",
        "expiry_timer",
        "guard",
        "holds",
        "is_bridge",
        "keep_alive",
        "known_properties",
        "lane",
        "maximum_aliases",
        "maximum_awaiting",
        "maximum_incoming",
        "maximum_packet_size",
        "method",
        "mount_point",
        "problem_information",
        "receipts",
        "routes",
        "session",
        "state",
        "transport",
        "unanswered",
        "user_name",
        "version",
        "window",
    )

    session: Session
    guard: Guard

    def __init__(self, broker: Broker, transport: ITransport) -> None:
        self.broker = broker
        self.transport = transport
        self.state = State.NEW
        self.version = 0
        self.client_id = ""
        self.user_name: str | None = None
        #: An MQTT bridge of mosquitto's kind, by the bit in its protocol level.
        self.is_bridge = False
        self.keep_alive = 0
        self.connected_at = 0.0
        #: Put before topics that the client names, cut from those it gets.
        self.mount_point = ""
        #: QoS 1 and 2 messages that may be unacknowledged towards the client.
        self.window = 0
        self.maximum_packet_size = NO_PACKET_LIMIT
        protocol = transport.listener.protocol
        #: Largest PUBLISH for the fast lane; a larger one needs a second look.
        self.maximum_incoming = protocol.maximum_payload_size or protocol.maximum_packet_size
        #: QoS 2 messages that the client may leave unreleased.
        self.maximum_awaiting = MAXIMUM_PACKET_IDS
        #: For the fast lane: whose frames the client can be sent as they are
        #: (MQTT311 or MQTT5, 0 for none), and the topics that it publishes to.
        self.lane = 0
        self.routes: fast_lane.Routes | None = None
        #: Encoded properties, their length included, that may travel on as they are.
        self.known_properties: set[bytes] | None = None
        self.problem_information = True
        #: Topic aliases that the client has set.
        self.aliases: dict[int, str] | None = None  # [MQTT-3.3.2-7]
        #: Topic aliases that we have set, and how many we may.
        self.assigned_aliases: dict[str, int] | None = None
        self.maximum_aliases = 0
        #: Authentication method of the CONNECT, and the exchange under way.
        self.method: str | None = None
        self.exchange: Any = None
        self.expiry_timer: Timer | None = None
        #: Acknowledgements that wait, in order, and how many packets they are.
        self.receipts: deque[Receipt] | None = None
        self.unanswered = 0
        #: Receivers that it waits for (pause-publishers).
        self.holds = 0

    @property
    def is_connected(self) -> bool:
        """CONNACK was sent and the connection has not ended."""
        return self.state is State.CONNECTED

    @property
    def is_closed(self) -> bool:
        return self.state is State.CLOSED

    # --- for hooks (``IClient``) ---------------------------------------------------

    @property
    def peer(self) -> Peer:
        return self.transport.peer

    @property
    def listener_name(self) -> str:
        listener = self.transport.listener
        return listener.name or listener.endpoint

    @property
    def principal(self) -> str | None:
        """Who the client is; None while that is not known, and for the anonymous."""
        guard: Guard | None = getattr(self, "guard", None)
        return None if guard is None else guard.avatar.principal

    def add_subscriptions(self, requests: list[SubscriptionRequest]) -> Deferred[list[int]]:
        """Subscribe on the client's behalf, as far as it may; a reason code for each."""
        return Deferred.fromCoroutine(hooked.subscribe_for(self, requests))

    def kick(self, text: str) -> None:
        """End the connection."""
        self.disconnect(ReasonCode.ADMINISTRATIVE_ACTION, text, "kicked")

    # --- the handshake --------------------------------------------------------------

    def accepted(self, session: Session) -> None:
        """The handshake has given us *session*: we are its owner now."""
        broker = self.broker
        self.session = session
        session.guard = self.guard
        self.state = State.ACCEPTED
        self.connected_at = broker.seconds()
        broker.connections[self.client_id] = self
        self.lane = fast_lane.receiving_lane(self)
        # [MQTT-4.4.0-1] in 5.0 a reconnection is the only occasion.
        if session.settings.retry_interval and self.version < MQTT5:
            broker.retrying.add(self)
        if self.version >= MQTT5:
            # [MQTT-3.3.4-7] What an earlier connection has left does not count.
            left = len(session.awaiting_release or ())
            self.maximum_awaiting = left + self.transport.listener.protocol.receive_maximum
        broker.maximum_connections = max(broker.maximum_connections, len(broker.connections))

    def start_delivery(self) -> None:
        """CONNACK is out: what waited for the client follows."""
        self.state = State.CONNECTED
        self.session.attach(self)
        hooks = self.broker.hooks
        if hooks.connected:
            hooks.tell(hooks.connected, self)

    # --- from the transport -----------------------------------------------------

    def packet_received(self, packet: Packet) -> Deferred[None] | None:
        """Handle one packet; a Deferred asks to wait with the next."""
        if self.state is State.CLOSED:
            # [MQTT311-3.1.4-5] [MQTT311-3.14.4-2]
            return None  # [MQTT-3.1.4-6] nothing that follows is processed
        self.broker.metrics.packets_received[packet.type] += 1
        try:
            if self.state is State.CONNECTED:
                return _HANDLERS[packet.type](self, packet)
            return handshake.received(self, packet)
        except ProtocolViolation as violation:
            self.violated(violation, packet)
            return None

    def violated(self, violation: ProtocolViolation, packet: Packet | None = None) -> None:
        """The client broke the rules: say so if it can hear it, and close."""
        for told in self.broker.failures:
            told(self, "violation", violation.text, packet)
        log.debug(
            "{client_id} at {address} broke the rules: {text}",
            client_id=self.client_id,
            address=self.transport.peer.address,
            text=violation.text,
        )
        if self.state is State.CONNECTED:
            # [MQTT-4.13.1-1] [MQTT311-4.8.0-1]
            self.disconnect(violation.reason, violation.text, "protocol-error")
        elif self.state is not State.CLOSED:
            handshake.refuse_violation(self, violation)

    def failed(self) -> None:
        """Something of ours broke while handling a packet."""
        for told in self.broker.failures:
            told(self, "error", "an error of the server; the log has it", None)
        if self.state is State.CONNECTED:
            self.disconnect(ReasonCode.UNSPECIFIED_ERROR, "an error of the server", "error")
        else:
            self.refuse(ReasonCode.UNSPECIFIED_ERROR, "an error of the server", "error")

    def connection_lost(self, reason: str) -> None:
        """The network connection is gone; *reason* is a metrics label."""
        self.end(reason)

    def resume_delivery(self) -> None:
        """The output has drained."""
        if self.state is State.CONNECTED:
            self.session.pump()

    def connect_timed_out(self) -> None:
        """No CONNECT, or no end of the handshake, in time."""
        self.broker.metrics.refused["connect-timeout"] += 1
        self.end("connect-timeout")
        self.transport.abort()

    def keep_alive_expired(self) -> None:
        """[MQTT-3.1.2-22] [MQTT311-3.1.2-24] Nothing came for too long."""
        self.disconnect(ReasonCode.KEEP_ALIVE_TIMEOUT, "nothing received", "keep-alive")

    # --- ending -------------------------------------------------------------------

    def disconnect(
        self,
        reason: ReasonCode,
        text: str,
        label: str,
        properties: Properties | None = None,
    ) -> None:
        """Send DISCONNECT where the version has it, and close.

        *label* names the cause in metrics and presence events.
        """
        if self.state is State.CLOSED:
            return
        if self.state is State.ACCEPTED:
            # What DISCONNECT can say, CONNACK can not.
            self.refuse(ReasonCode.SERVER_UNAVAILABLE, text, label)
            return
        if self.state is State.CONNECTED and self.version >= MQTT5:  # [MQTT-3.14.0-1]
            # A DISCONNECT may carry a reason string whatever the client asked for.
            properties = properties if properties is not None else Properties()
            if self.transport.listener.protocol.reason_strings:
                properties["reason_string"] = text
            self.send(Disconnect(reason, properties))
        self.end(label)  # [MQTT-3.14.4-1] nothing is sent from here on
        self.transport.close()  # [MQTT-3.14.4-2] [MQTT-4.13.2-1]

    def end(self, label: str, will: bool = True) -> None:
        """Give the session back; from here on the client is gone."""
        state, self.state = self.state, State.CLOSED
        if state is State.CLOSED:
            return
        self.broker.metrics.closed[label] += 1
        if self.expiry_timer is not None:
            self.expiry_timer.cancel()
        if self.receipts:
            receipts.forget(self)
        if state not in (State.ACCEPTED, State.CONNECTED):
            return
        if state is State.ACCEPTED:
            will = False  # the client was never told that its will is ours
        broker, session = self.broker, self.session
        if label in FAILURES:
            for told in broker.failures:
                told(self, label, CLOSED[label], None)
        del broker.connections[self.client_id]
        broker.retrying.discard(self)
        if not will:
            broker.wills.disarm(session)
        # Before the will goes out: it must not come here, behind DISCONNECT.
        broker.sessions.release(session)
        if will:
            broker.wills.connection_lost(session)
        if state is State.CONNECTED and broker.hooks.disconnected:
            broker.hooks.tell(broker.hooks.disconnected, self, label)

    def publish_will(self) -> None:
        """The server is going down: the will goes out while others can hear it."""
        if self.state in (State.ACCEPTED, State.CONNECTED):
            self.broker.wills.connection_lost(self.session)

    def refuse(
        self, reason: ReasonCode, text: str, label: str, properties: Properties | None = None
    ) -> None:
        """Answer CONNECT with an error and close."""
        if self.state is State.CLOSED:
            return
        self.broker.metrics.refused[label] += 1
        if self.version >= MQTT5:
            properties = properties if properties is not None else Properties()
            if self.transport.listener.protocol.reason_strings:
                properties["reason_string"] = text
            self.send(Connack(False, reason, properties))  # [MQTT-3.2.2-6]
        else:
            self.send(Connack(False, connect_return_code(reason)))  # [MQTT311-3.2.2-4]
        self.end(label)
        self.transport.close()  # [MQTT-3.2.2-7] [MQTT311-3.2.2-5]

    # --- to the client --------------------------------------------------------------

    def send(self, packet: Packet) -> bool:
        """Send a packet other than PUBLISH; False if the client takes none so large."""
        frame = self.frame(packet)
        if not frame:
            return False
        self.broker.metrics.packets_sent[packet.type] += 1
        self.transport.write(frame)
        return True

    def frame(self, packet: Packet) -> bytes:
        """The bytes of *packet*; b"" if the client takes none so large."""
        frame = serialize(packet, self.version)
        if len(frame) > self.maximum_packet_size:  # [MQTT-3.1.2-24]
            shorter = _without_explanations(packet)
            frame = serialize(shorter, self.version) if shorter is not None else b""
            if not frame or len(frame) > self.maximum_packet_size:
                self.broker.metrics.dropped["answer-too-large"] += 1
                return b""
        return frame

    def explain(self, text: str) -> Properties:
        """The properties of an acknowledgement that says no. [MQTT-3.1.2-29]"""
        if self.problem_information and self.transport.listener.protocol.reason_strings:
            return Properties(reason_string=text)
        return Properties()

    def publish_refused(self, reason: ReasonCode, text: str) -> bool:
        """A QoS 0 message of the client was refused. Whether that could be said: on the
        network there is no packet for it."""
        return False

    @property
    def writable(self) -> bool:
        return self.transport.writable

    def send_message(self, delivery: Delivery, packet_id: int, dup: bool) -> bool:
        """Send one PUBLISH; False when it is larger than the client takes."""
        message = delivery.message
        qos = delivery.qos
        if self.mount_point or self.maximum_aliases:
            before, after, alias = self._encode_alone(delivery, self.maximum_aliases)
        else:
            alias = None
            before, after = encode(
                message,
                self.version,
                qos,
                delivery.retain,
                delivery.identifiers,
                self.broker.seconds,
            )
        middle = packet_id.to_bytes(2, "big") if qos else b""
        frame = before + middle + after
        if len(frame) > self.maximum_packet_size and alias is not None:
            # It may fit by the few bytes that an alias needs.
            before, after, alias = self._encode_alone(delivery, 0)
            frame = before + middle + after
        if len(frame) > self.maximum_packet_size:  # [MQTT-3.1.2-24]
            return False
        if alias is not None and self.assigned_aliases is not None:
            self.assigned_aliases.setdefault(*alias)
        if dup:  # [MQTT-3.3.1-3] [MQTT311-3.3.1-3]
            frame = bytes((frame[0] | 0x08,)) + frame[1:]
        metrics = self.broker.metrics
        metrics.packets_sent[PacketType.PUBLISH] += 1
        metrics.messages_sent[qos] += 1
        metrics.payload_bytes_sent += len(message.payload)
        if message.publisher is None and message.topic.startswith("$SYS/"):
            metrics.system_sent[qos] += 1
        self.transport.write(frame)
        hooks = self.broker.hooks
        if hooks.message_delivered:
            hooks.tell(hooks.message_delivered, message, self)
        return True

    def _encode_alone(
        self, delivery: Delivery, maximum_aliases: int
    ) -> tuple[bytes, bytes, tuple[str, int] | None]:
        topic = delivery.message.topic
        if self.mount_point:
            topic = topic.removeprefix(self.mount_point)
        number = 0
        name = topic
        if maximum_aliases:  # [MQTT-3.3.2-11] [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-8]
            aliases = self.assigned_aliases
            if aliases is None:
                aliases = self.assigned_aliases = {}
            number = aliases.get(topic, 0)
            if number:
                name = ""
            elif len(aliases) < maximum_aliases:
                number = len(aliases) + 1
        frame = encode_alone(delivery, self.version, name, number, self.broker.seconds)
        return (*frame, (topic, number) if number else None)

    def send_pubrel(self, packet_id: int) -> None:
        self.send(Pubrel(packet_id))  # [MQTT-4.3.3-4] [MQTT-3.6.1-1] [MQTT311-3.6.1-1]

    def may_receive(self, delivery: Delivery) -> bool | Deferred[bool]:
        """Whether the rules in force now let the client have this message.

        A retained message also needs that its publisher may still publish it.
        """
        message = delivery.message
        source = message.guard
        if delivery.retain and source is not None and self.broker.settings.retained.check_source:
            allowed = source.allowed("publish", message.topic, message.qos, True)
            if allowed is False:
                return False
            if allowed is not True:
                return allowed.addCallback(self._source_answered, delivery)
        return self.guard.allowed(RECEIVE, message.topic, delivery.qos, delivery.retain)

    def _source_answered(self, allowed: bool, delivery: Delivery) -> bool | Deferred[bool]:
        if not allowed:
            return False
        message = delivery.message
        return self.guard.allowed(RECEIVE, message.topic, delivery.qos, delivery.retain)

    def overflowed(self) -> None:
        """The session's queue is full and its policy is to disconnect."""
        self.disconnect(ReasonCode.QUOTA_EXCEEDED, "too many messages wait", "queue-full")

    def later(self) -> None:
        """Let others have their turn, then go on sending."""
        self.broker.clock.callLater(0, self.resume_delivery)

    # --- pause-publishers -------------------------------------------------------------

    def hold(self) -> None:
        self.holds += 1
        if self.holds == 1:
            self.transport.pause(DOWNSTREAM)

    def unhold(self) -> None:
        self.holds -= 1
        if self.holds == 0:
            self.transport.resume(DOWNSTREAM)

    # --- waiting ------------------------------------------------------------------------

    def run(self, work: Coroutine[Deferred[Any], Any, None]) -> Deferred[None] | None:
        """Run a handler that may wait; None when it is done already.

        Few wait: the first step needs no Deferred, which saves 5 us of a CONNECT.
        """
        try:
            awaited = work.send(None)
        except StopIteration:
            return None
        return self.contain(Deferred.fromCoroutine(rest_of(work, awaited)))

    def contain(self, waiting: Deferred[None]) -> Deferred[None]:
        """*waiting*, which ends the connection if it fails with a violation."""
        return waiting.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, ProtocolViolation):
            failure.raiseException()
        self.violated(failure.value)


# Not by decorator: a decorated class is not compiled.
classImplements(Connection, IClient)


def _pingreq(connection: Connection, packet: Packet) -> None:
    # [MQTT-3.12.4-1] [MQTT311-3.12.4-1]
    connection.broker.metrics.packets_sent[PacketType.PINGRESP] += 1
    connection.transport.write(PINGRESP)


def _disconnect(connection: Connection, packet: Packet) -> None:
    assert isinstance(packet, Disconnect)
    session = connection.session
    expiry = packet.properties.get("session_expiry_interval")
    if expiry is not None:
        if session.expiry == 0 and expiry:
            raise protocol_error("DISCONNECT sets a session expiry where CONNECT had none")
        session.expiry = handshake.granted_expiry(connection, expiry)
    # [MQTT-3.14.4-3] [MQTT311-3.14.4-3] [MQTT-3.1.2-10]
    with_will = packet.reason != ReasonCode.SUCCESS
    connection.end("disconnect", will=with_will)
    connection.transport.close(announced=True)  # [MQTT-3.14.4-2] [MQTT311-3.14.4-1]


def _second_connect(connection: Connection, packet: Packet) -> None:
    # [MQTT-3.1.0-2] [MQTT311-3.1.0-2]
    raise protocol_error("a second CONNECT")  # [MQTT-3.2.0-2]


def _unexpected(connection: Connection, packet: Packet) -> None:
    raise protocol_error(f"a client may not send {packet.type.name}")


def _without_explanations(packet: Packet) -> Packet | None:
    """*packet* without what may be left out; None if there is nothing to cut."""
    # [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2]
    # [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3]
    # [MQTT-3.9.2-1] [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2] [MQTT-3.14.2-3]
    # [MQTT-3.14.2-4] [MQTT-3.15.2-2] [MQTT-3.15.2-3]
    properties: Properties | None = getattr(packet, "properties", None)
    if not properties:
        return None
    properties.pop("reason_string", None)
    properties.pop("user_property", None)
    return packet


_Handler = Callable[[Connection, Any], "Deferred[None] | None"]

_HANDLERS: list[_Handler] = [_unexpected] * 16
_HANDLERS[PacketType.CONNECT] = _second_connect
_HANDLERS[PacketType.PUBLISH] = receiving.publish
_HANDLERS[PacketType.PUBACK] = receiving.puback
_HANDLERS[PacketType.PUBREC] = receiving.pubrec
_HANDLERS[PacketType.PUBREL] = receiving.pubrel
_HANDLERS[PacketType.PUBCOMP] = receiving.pubcomp
_HANDLERS[PacketType.SUBSCRIBE] = subscribing.subscribe
_HANDLERS[PacketType.UNSUBSCRIBE] = subscribing.unsubscribe
_HANDLERS[PacketType.PINGREQ] = _pingreq
_HANDLERS[PacketType.DISCONNECT] = _disconnect
_HANDLERS[PacketType.AUTH] = handshake.reauthenticate
