"""A client inside the process: everything MQTT 5.0 offers, without a socket.

``Broker.client`` makes one. It is a ``Connection`` like those of the network, so that
sessions, access rules, hooks, limits, takeover and shutdown treat it as any client;
but packets come to it as objects, and messages as the broker holds them: nothing
is encoded or copied, but for who watches the client. What it publishes waits its turn
like the packets of a socket, and what it receives is handed over in a turn of the reactor
of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqttd.broker import handshake
from mqttd.broker.connection import Connection, State
from mqttd.broker.delivery import encode_alone
from mqttd.broker.inbox import ClientClosed, Inbox, Incoming
from mqttd.broker.passage import Passage, make_settings
from mqttd.broker.pause import PENDING
from mqttd.broker.requests import Requests
from mqttd.interfaces import Avatar, IPacketWatcher
from mqttd.messaging import OutgoingFull, Refused, make_publish
from mqttd.settings import ListenerSettings
from mqttd.wire.codes import MQTT5, PacketType
from mqttd.wire.packet_ids import PacketIds
from mqttd.wire.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
    Will,
)
from mqttd.wire.serializer import serialize

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.delivery import Delivery

__all__ = [
    "ClientClosed",
    "InProcessClient",
    "Inbox",
    "Incoming",
    "OutgoingFull",
    "Refused",
    "make_settings",
    "open_client",
]

log = Logger()

#: Messages handed to subscriptions and not yet taken, before the session queues.
BUFFER = 100

#: Packets that may wait to be sent; more are refused.
MAXIMUM_OUTGOING = 10_000


class InProcessClient(Connection):
    """One client of the broker, inside the program."""

    __slots__ = (
        "_answers",
        "_arrivals",
        "_awake",
        "_call",
        "_closing",
        "_default",
        "_identifiers",
        "_inboxes",
        "_outgoing",
        "_packet_ids",
        "_passage",
        "_refusal",
        "_requests",
        "_sending",
        "_untaken",
        "ending",
        "session_present",
        "watcher",
    )

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        listener: ListenerSettings | None,
        on_message: Callable[[Incoming], Any] | None,
        at_once: int = 1,
    ) -> None:
        self._passage = Passage(listener or make_settings(broker.settings))
        super().__init__(broker, self._passage)
        self._passage.client = self
        self.client_id = client_id or f"in-process-{uuid4().hex}"
        self.version = MQTT5
        self.window = self._passage.listener.session.maximum_inflight
        #: Whether the broker had the session already.
        self.session_present = False
        #: Why the client is closed; "" while it is not.
        self.ending = ""
        #: Who is shown the packets.
        self.watcher: IPacketWatcher | None = None
        #: Packets that wait to be sent, each with what awaits its end.
        self._outgoing: deque[tuple[Packet, Deferred[Any]]] = deque()
        #: Packet id -> who awaits the answer.
        self._answers: dict[int, Deferred[Any]] = {}
        self._packet_ids = PacketIds()
        self._sending = False
        #: Why the QoS 0 message that was handed in last is refused.
        self._refusal: Refused | None = None
        self._inboxes: dict[int, Inbox] = {}
        self._identifiers = count(1)
        self._default = Inbox(self, "", 0, on_message, at_once) if on_message is not None else None
        #: Messages handed to inboxes and not done with.
        self._untaken = 0
        self._awake: dict[Inbox, None] = {}
        self._call: IDelayedCall | None = None
        self._requests: Requests | None = None
        self._arrivals: Deferred[InProcessClient] | None = None
        self._closing: list[Deferred[str]] = []

    def __repr__(self) -> str:
        return f"<InProcessClient {self.client_id!r}>"

    # --- life -----------------------------------------------------------------------

    def open(self, avatar: Avatar, packet: Connect) -> Deferred[InProcessClient]:
        """Begin; fires when the broker has accepted the client."""
        if self.watcher is not None:
            self.watcher.received(packet)
        self.state = State.CONNECTING
        self.user_name = packet.user_name
        arrivals: Deferred[InProcessClient] = Deferred()
        self._arrivals = arrivals
        waiting = Deferred.fromCoroutine(handshake.finish(self, packet, False, avatar, None))
        waiting.addErrback(self._not_opened)
        return arrivals

    def _not_opened(self, failure: Failure) -> None:
        refused = failure.check(handshake.Refused)
        if refused is None:
            log.failure("{client} could not be opened", failure, client=self)
            self.failed()
        else:
            error: Any = failure.value
            self.refuse(error.reason, error.text, error.label)

    def close(self, *, will: bool = False) -> Deferred[None]:
        """End the connection; the session goes on as long as was asked.

        What waits to be sent is lost. With *will* the will is published.
        """
        self.end("disconnect", will=will)
        return succeed(None)

    def when_closed(self) -> Deferred[str]:
        """Fires with the reason when the client is closed, by whomever."""
        if self.ending:
            return succeed(self.ending)
        self._closing.append(Deferred())
        return self._closing[-1]

    def end(self, label: str, will: bool = True) -> None:
        super().end(label, will)
        if not self.ending:
            self.ending = label
            self._let_go()
        watcher, self.watcher = self.watcher, None
        if watcher is not None:
            watcher.ended(label)

    def _let_go(self) -> None:
        """Nobody shall wait for what does not come any more."""
        error = ClientClosed(f"{self!r} is closed: {self.ending}")
        if self._call is not None:
            self._call.cancel()
            self._call = None
        waiting = [*self._answers.values(), *(each for _, each in self._outgoing)]
        self._answers.clear()
        self._outgoing.clear()
        if self._arrivals is not None:
            waiting.append(self._arrivals)
        for deferred in waiting:
            if not deferred.called:
                deferred.errback(error)
        if self._requests is not None:
            self._requests.end(error)
        for inbox in self._inboxes.values():
            inbox.end(str(error))
        closing, self._closing = self._closing, []
        for each in closing:
            each.callback(self.ending)

    # --- publish and subscribe --------------------------------------------------------

    def publish(
        self,
        topic: str,
        payload: bytes = b"",
        qos: int = 0,
        retain: bool = False,
        **properties: Any,
    ) -> Deferred[int]:
        """Publish; *properties* by the names of ``wire.packets.Properties``.

        Fires with the reason code when the broker has the message (QoS 2: when the
        exchange is over): 0, or 0x10 when nobody subscribes (from QoS 1). To wait
        for it is the back-pressure. Fails with ``Refused`` (at QoS 0 too),
        ``ClientClosed``, or ``OutgoingFull``.

        :raise ValueError, TypeError: no broker could take such a message.
        """
        return self._send(make_publish(topic, payload, qos, retain, properties))

    def subscribe(
        self,
        topic_filter: str,
        callback: Callable[[Incoming], Any] | None = None,
        *,
        qos: int = 0,
        at_once: int = 1,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
        user_property: list[tuple[str, str]] | None = None,
    ) -> Deferred[Inbox]:
        """Subscribe; fires with the ``Inbox`` when SUBACK has come.

        Messages go to *callback*, one after the other; it may return a Deferred or be
        a coroutine function, and be busy with *at_once* messages. Without one, take
        them by ``get`` or ``async for``.
        ``$share/<group>/<filter>`` makes a shared subscription. Fails with
        ``Refused``.
        """
        inbox = Inbox(self, topic_filter, next(self._identifiers), callback, at_once)
        request = SubscriptionRequest(
            topic_filter, qos, no_local, retain_as_published, retain_handling
        )
        properties = Properties(subscription_identifier=[inbox.identifier])
        if user_property:
            properties["user_property"] = user_property
        # Before the answer: retained messages come with it.
        self._inboxes[inbox.identifier] = inbox
        answer: Deferred[list[int]] = self._send(Subscribe(0, [request], properties))
        return answer.addCallbacks(self._subscribed, self._not_subscribed, (inbox,), {}, (inbox,))

    def _subscribed(self, reasons: list[int], inbox: Inbox) -> Inbox:
        if reasons[0] >= 0x80:
            self._inboxes.pop(inbox.identifier, None)
            raise Refused(reasons[0], f"no subscription to {inbox.topic_filter!r}")
        inbox.qos = reasons[0]
        # One on the same filter is replaced by it.
        for other in list(self._inboxes.values()):
            if other is not inbox and other.topic_filter == inbox.topic_filter:
                self._forget(other, "replaced by another subscription")
        return inbox

    def _not_subscribed(self, failure: Failure, inbox: Inbox) -> Failure:
        self._inboxes.pop(inbox.identifier, None)
        return failure

    def unsubscribe(self, inbox: Inbox) -> Deferred[int]:
        """End *inbox*; fires with the reason code."""
        answer: Deferred[list[int]] = self._send(Unsubscribe(0, [inbox.topic_filter]))
        return answer.addCallback(self._unsubscribed, inbox)

    def _unsubscribed(self, reasons: list[int], inbox: Inbox) -> int:
        if reasons[0] >= 0x80:
            raise Refused(reasons[0], f"the subscription to {inbox.topic_filter!r} stays")
        self._forget(inbox, "unsubscribed")
        return reasons[0]

    def _forget(self, inbox: Inbox, reason: str) -> None:
        self._inboxes.pop(inbox.identifier, None)
        inbox.end(reason)

    def request(
        self,
        topic: str,
        payload: bytes = b"",
        timeout: int | float = 10,
        *,
        qos: int = 1,
        **more: Any,
    ) -> Deferred[Incoming]:
        """Publish a request and fire with the response (MQTT 5.0 section 4.10).

        Fails with ``twisted.internet.defer.TimeoutError`` after *timeout* seconds,
        and with ``Refused``, at once, when nobody subscribes to *topic*.
        """
        if self._requests is None:
            self._requests = Requests(self)
        return self._requests.request(topic, payload, timeout, qos, more)

    # --- packets to the broker ----------------------------------------------------------

    def _send(self, packet: Packet) -> Deferred[Any]:
        if self.ending:
            return fail(ClientClosed(f"{self!r} is closed: {self.ending}"))
        if len(self._outgoing) >= MAXIMUM_OUTGOING:
            return fail(OutgoingFull(f"{len(self._outgoing)} packets wait already"))
        answer: Deferred[Any] = Deferred()
        self._outgoing.append((packet, answer))
        self.send_on()
        return answer

    def send_on(self) -> None:
        """Give the broker what waits, as far as it takes it."""
        if self._sending:
            return
        self._sending = True
        try:
            while self._outgoing and not self._passage.paused and self.is_connected:
                packet, answer = self._outgoing[0]
                numbered = not isinstance(packet, Publish) or packet.qos
                if numbered and len(self._answers) >= self._most_unanswered:
                    break
                self._outgoing.popleft()
                if numbered:
                    self._number(packet, answer)
                self._hand_in(packet, None if numbered else answer)
        finally:
            self._sending = False

    @property
    def _most_unanswered(self) -> int:
        return self._passage.listener.protocol.receive_maximum

    def _number(self, packet: Any, answer: Deferred[Any]) -> None:
        packet_id = packet.packet_id = self._packet_ids.next(self._answers)
        self._answers[packet_id] = answer

    def _hand_in(self, packet: Packet, answer: Deferred[Any] | None) -> None:
        try:
            waiting = self.packet_received(packet)
        except Exception:
            self._broke(Failure())
            return
        if waiting is not None:
            self._passage.pause(PENDING)
            waiting.addErrback(self._broke)
            waiting.addCallback(self._handled, answer)
        else:
            self._taken_in(answer)

    def _handled(self, result: object, answer: Deferred[Any] | None) -> None:
        self._taken_in(answer)
        self._passage.resume(PENDING)

    def _taken_in(self, answer: Deferred[Any] | None) -> None:
        """The broker is done with a packet; *answer* awaits that at QoS 0."""
        refusal, self._refusal = self._refusal, None
        if answer is None or answer.called:
            return
        if refusal is None:
            answer.callback(0)
        else:
            answer.errback(refusal)

    def packet_received(self, packet: Packet) -> Deferred[None] | None:
        if self.watcher is not None:
            self.watcher.received(packet)
        return super().packet_received(packet)

    def publish_refused(self, reason: int, text: str) -> bool:
        said = self.explain(text).get("reason_string", "refused")
        self._refusal = Refused(reason, said)
        return True

    def _broke(self, failure: Failure) -> None:
        log.failure("A packet of {client} failed", failure, client=self)
        self.broker.metrics.errors["connection"] += 1
        self.failed()

    # --- packets from the broker ----------------------------------------------------------

    def send(self, packet: Packet) -> bool:
        self.broker.metrics.packets_sent[packet.type] += 1
        self.answered(packet)
        return True

    def answered(self, packet: Packet) -> None:
        """A packet other than PUBLISH and PUBREL has come from the broker."""
        if self.watcher is not None:
            self.watcher.sent(serialize(packet, self.version))
        match packet:
            case Puback() | Pubcomp():
                self._answer(packet.packet_id, packet.reason, packet.properties)
            case Pubrec() if packet.reason >= 0x80:
                self._answer(packet.packet_id, packet.reason, packet.properties)
            case Pubrec():
                self.packet_received(Pubrel(packet.packet_id))
            case Suback() | Unsuback():
                self._answers.pop(packet.packet_id).callback(packet.reasons)
                self.send_on()
            case Connack():
                self._connack(packet)
            case Disconnect():
                pass  # ``end`` follows and says why

    def _answer(self, packet_id: int, reason: int, properties: Properties) -> None:
        answer = self._answers.pop(packet_id, None)
        if answer is None:
            return
        if reason >= 0x80:
            answer.errback(Refused(reason, properties.get("reason_string", "refused")))
        else:
            answer.callback(reason)
        self.send_on()

    def _connack(self, packet: Connack) -> None:
        arrivals = self._arrivals
        assert arrivals is not None
        self._arrivals = None
        if packet.reason >= 0x80:
            text = packet.properties.get("reason_string", "refused")
            arrivals.errback(Refused(packet.reason, text))
            return
        self.session_present = packet.session_present
        # Not now: the broker is not done with the handshake.
        self.broker.clock.callLater(0, arrivals.callback, self)

    # --- messages from the broker ---------------------------------------------------------

    def accepted(self, session: Any) -> None:
        super().accepted(session)
        self.lane = 0  # nobody takes frames here

    @property
    def writable(self) -> bool:
        return self._untaken < BUFFER

    def send_message(self, delivery: Delivery, packet_id: int, dup: bool) -> bool:
        if self.watcher is not None:
            self._show(self.watcher, delivery, packet_id)
        message = delivery.message
        incoming = Incoming(self, message, delivery.qos, delivery.retain, packet_id)
        inboxes = [self._inboxes[i] for i in delivery.identifiers if i in self._inboxes]
        if not inboxes and self._default is not None:
            inboxes = [self._default]
        metrics = self.broker.metrics
        metrics.packets_sent[PacketType.PUBLISH] += 1
        metrics.messages_sent[delivery.qos] += 1
        metrics.payload_bytes_sent += len(message.payload)
        if message.publisher is None and message.topic.startswith("$SYS/"):
            metrics.system_sent[delivery.qos] += 1
        hooks = self.broker.hooks
        if hooks.message_delivered:
            hooks.tell(hooks.message_delivered, message, self)
        self._untaken += 1
        incoming.open = len(inboxes) or 1
        for inbox in inboxes:
            inbox.put(incoming)
            self.wake(inbox)
        if not inboxes:
            # From a session of before whose subscription nobody has renewed.
            metrics.errors["in-process-unclaimed"] += 1
            self.broker.clock.callLater(0, incoming.done)
        return True

    def _show(self, watcher: IPacketWatcher, delivery: Delivery, packet_id: int) -> None:
        """Encode what never is on a wire, as it would go over one."""
        topic = delivery.message.topic.removeprefix(self.mount_point)
        before, after = encode_alone(delivery, self.version, topic, 0, self.broker.seconds)
        middle = packet_id.to_bytes(2, "big") if delivery.qos else b""
        watcher.sent(before + middle + after)

    def send_pubrel(self, packet_id: int) -> None:
        if self.watcher is not None:
            self.watcher.sent(serialize(Pubrel(packet_id), self.version))
        self.broker.metrics.packets_sent[PacketType.PUBREL] += 1
        self.packet_received(Pubcomp(packet_id))

    def taken(self, packet_id: int, qos: int) -> None:
        """A message is done with: acknowledge it."""
        self._untaken -= 1
        if not self.is_connected:
            return
        if qos == 1:
            self.packet_received(Puback(packet_id))
        elif qos == 2:
            self.packet_received(Pubrec(packet_id))
        elif self._untaken == BUFFER // 2:
            self.later()

    def callback_failed(self) -> None:
        self.broker.metrics.errors["in-process"] += 1

    def wake(self, inbox: Inbox) -> None:
        """Let *inbox* hand on what it has, in a turn of its own."""
        self._awake[inbox] = None
        if self._call is None and not self.ending:
            self._call = self.broker.clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._call = None
        awake, self._awake = self._awake, {}
        for inbox in awake:
            inbox.run()


def open_client(
    broker: Broker,
    client_id: str,
    avatar: Avatar,
    *,
    clean_start: bool,
    session_expiry: int,
    will: Will | None,
    listener: ListenerSettings | None,
    on_message: Callable[[Incoming], Any] | None,
    at_once: int = 1,
) -> Deferred[InProcessClient]:
    """``Broker.client``."""
    client = InProcessClient(broker, client_id, listener, on_message, at_once)
    properties = Properties()
    if session_expiry:
        properties["session_expiry_interval"] = session_expiry
    packet = Connect(
        client.client_id,
        MQTT5,
        clean_start,
        will=will,
        user_name=avatar.principal,
        properties=properties,
    )
    broker.metrics.packets_received[PacketType.CONNECT] += 1
    for told in broker.newcomers:
        told(client)
    return client.open(avatar, packet)
