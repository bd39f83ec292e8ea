"""A session: what the broker remembers of a client between its packets.

It holds the subscriptions, the messages that wait and those on their way, and
both halves of the packet-id state machines (MQTT 5.0 section 4.3). The publish
service delivers into it, the protocol machine of the client feeds it
acknowledgements; while the client is connected the session sends through its
``consumer``. It knows no bytes and no socket.

The states of a message to the client, per packet id::

    QoS 1   deliver -> inflight --PUBACK--> done
    QoS 2   deliver -> inflight --PUBREC--> released --PUBCOMP--> done

and from the client, QoS 2, which is routed when it first comes::

    PUBLISH -> awaiting_release --PUBREL--> forgotten
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from mqttd.broker.delivery import Delivery, reopen
from mqttd.broker.inflight import Inflight, size_of, suited
from mqttd.broker.queue import MessageQueue
from mqttd.interfaces import RECEIVE
from mqttd.settings import ListenerSettings, Overflow, SessionSettings

if TYPE_CHECKING:
    from mqttd.broker.access import Guard
    from mqttd.broker.broker import Broker
    from mqttd.broker.message import Message
    from mqttd.broker.owed import Source
    from mqttd.broker.roles import Consumer, Publisher
    from mqttd.broker.router import Target
    from mqttd.broker.subscription import Subscription
    from mqttd.broker.timers import Timer
    from mqttd.broker.wills import PendingWill

#: Messages sent in one go before others get their turn.
BATCH = 200

#: Packet ids in use beyond which those given back are taken first.
CROWDED = 1024


class Question:
    """Whether the client may have *delivery*: the answer comes later."""

    __slots__ = ("delivery", "packet_id")

    def __init__(self, delivery: Delivery, packet_id: int) -> None:
        self.delivery = delivery
        #: If it has one already; 0: it has not.
        self.packet_id = packet_id


class Session:
    """The state of one client id."""

    #: Whether it survives the broker; see ``durable_session``.
    durable = False
    #: What a delivery to it is made as.
    delivery_class: ClassVar[type[Delivery]] = Delivery

    __slots__ = (
        "_replays",
        "_waiting_publishers",
        "asking",
        "awaiting_release",
        "broker",
        "client_id",
        "connected_at",
        "consumer",
        "created_at",
        "dropped",
        "expiry",
        "expiry_timer",
        "guard",
        "inflight",
        "mount_point",
        "next_packet_id",
        "principal",
        "queue",
        "resends",
        "settings",
        "stalled",
        "subscriptions",
        "will",
    )

    def __init__(
        self, broker: Broker, client_id: str, principal: str | None, settings: SessionSettings
    ) -> None:
        self.broker = broker
        self.client_id = client_id
        #: Whose session this is; nobody else may resume it.
        self.principal = principal
        #: What its client may do, as it was last here; None: it was not yet.
        self.guard: Guard | None = None
        self.settings = settings
        #: Before all its topics; a client of another mount point is another one.
        self.mount_point = ""
        self.created_at = broker.seconds()
        #: Seconds it outlives its connection; None for ever, 0 not at all.
        self.expiry: int | None = 0
        self.expiry_timer: Timer | None = None
        self.subscriptions: dict[str, Subscription] = {}
        #: Packet id -> delivery, in the order of first sending. While the client
        #: is here, what went by the fast lane stands as the frame that was sent.
        self.inflight: Inflight = {}
        if settings.maximum_inflight_bytes:
            self.inflight = suited({}, settings)
        self.queue: MessageQueue | None = None
        #: QoS 2 packet ids received and not yet released by PUBREL.
        self.awaiting_release: set[int] | None = None
        self.consumer: Consumer | None = None
        self.will: PendingWill | None = None
        #: Messages dropped by this session.
        self.dropped = 0
        #: pause-publishers was tried and took too long: drop until drained.
        self.stalled = False
        #: Where the search for an unused packet id begins.
        self.next_packet_id = 1
        #: What is asked of the access rules, and not answered yet.
        self.asking: Question | None = None
        self._replays: deque[Iterator[Delivery | None]] | None = None
        #: Packet ids to be sent again, before anything else.
        self.resends: deque[int] | None = None
        #: With the deadline of each.
        self._waiting_publishers: dict[Publisher, Timer] | None = None

    @property
    def online(self) -> bool:
        return self.consumer is not None

    @property
    def queued(self) -> int:
        """Messages waiting."""
        return len(self.queue) if self.queue is not None else 0

    @property
    def is_replaying(self) -> bool:
        """Retained messages or repetitions are still to be sent."""
        return bool(self._replays or self.resends)

    @property
    def is_clear(self) -> bool:
        """Nothing must go out before a new message may."""
        return self.asking is None and not self.resends

    # --- towards the client ---------------------------------------------------

    def deliver(self, message: Message, target: Target) -> None:
        """Take *message*, routed here by *target*: send it, keep it or drop it."""
        qos = message.qos
        if target.qos < qos or self.settings.upgrade_qos:
            qos = target.qos  # [MQTT-3.8.4-8] [MQTT311-3.8.4-6]
        # [MQTT-3.3.1-12] [MQTT-3.3.1-13] [MQTT311-3.3.1-9]
        retain = message.retain and target.retain_as_published
        delivery = self.delivery_class(message, qos, retain, target.identifiers, target.group)
        consumer = self.consumer
        if consumer is None:
            if qos == 0 and not self.settings.queue_qos0:
                self.drop(delivery, "offline")
            else:
                self._enqueue(delivery)  # [MQTT311-3.1.2-5] [MQTT311-4.5.0-1]
            return
        queue = self.queue
        if not consumer.writable or not self.is_clear:
            self._enqueue(delivery)
        elif qos == 0:
            # QoS 0 needs no window: it may pass waiting QoS 1, never QoS 0.
            if queue is None or not queue.messages_qos0:
                self._send(delivery, consumer, 0)
            else:
                self._enqueue(delivery)
        # [MQTT-4.6.0-5] [MQTT-4.6.0-6] [MQTT311-4.6.0-5] [MQTT311-4.6.0-6]
        elif (queue is None or not queue.messages) and self._window_is_open(consumer):
            self._send(delivery, consumer, 0)
        else:
            self._enqueue(delivery)

    def _window_is_open(self, consumer: Consumer) -> bool:
        # [MQTT-4.9.0-2] [MQTT-3.3.4-9] never more than the client's receive maximum
        if len(self.inflight) >= consumer.window:
            return False
        limit = self.settings.maximum_inflight_bytes
        return not limit or size_of(self.inflight) < limit

    def replay(self, messages: Iterator[Message | None], subscription: Subscription) -> None:
        """Send retained *messages* as the client can take them."""
        if self._replays is None:
            self._replays = deque()
        self._replays.append(_retained(messages, subscription, self))
        self.pump()

    def pump(self) -> None:
        """Send what waits, as far as window and output allow."""
        consumer = self.consumer
        if consumer is None:
            return
        self._send_waiting(consumer)
        # Last, since a publisher that goes on may deliver to us within the call.
        if self._waiting_publishers or self.stalled:
            self._room_made()

    def _send_waiting(self, consumer: Consumer) -> None:
        for _ in range(BATCH):
            if self.asking or not consumer.writable:
                return
            if self.resends:
                # [MQTT-3.3.4-9] the window may be smaller than that of the last connection.
                if len(self.inflight) - len(self.resends) >= consumer.window:
                    return
                self._resend(self.resends.popleft(), consumer)
                continue
            self.resends = None
            delivery = self._next_delivery(consumer)
            if delivery is None:
                # An idle session keeps no empty containers: each is half a KiB.
                self._replays = self._replays or None
                return
            self._send(delivery, consumer, 0)
        if self.queue or self._replays or self.resends:
            consumer.later()

    def _next_delivery(self, consumer: Consumer) -> Delivery | None:
        queue = self.queue
        while queue:
            delivery = queue.pop()
            if delivery is None:  # what waits is on its way from the disk
                return None
            if delivery.message.expired(self.broker.seconds()):
                self.drop(delivery, "expired")  # [MQTT-3.3.2-5]
            # [MQTT-3.3.4-10] [MQTT-4.9.0-3] only PUBLISH asks for room
            elif delivery.qos and not self._window_is_open(consumer):
                queue.push_front(delivery)
                return None
            else:
                return delivery
        while self._replays and self._window_is_open(consumer):
            for retained in self._replays[0]:
                if retained is None:  # a long search: others have their turn
                    consumer.later()
                return retained
            self._replays.popleft()
        return None

    def _send(self, delivery: Delivery, consumer: Consumer, packet_id: int) -> None:
        """Send if the rules allow it; *packet_id* is 0 the first time."""
        allowed = consumer.may_receive(delivery)
        if allowed is True:
            self._transmit(delivery, consumer, packet_id)
        elif allowed is False:
            self._refused(delivery, packet_id, "denied")
        else:
            # The answer comes later: what follows waits behind it, in order.
            self.asking = question = Question(delivery, packet_id)
            allowed.addBoth(self._answered, question, consumer)

    def _answered(self, allowed: object, question: Question, consumer: Consumer) -> None:
        if self.asking is not question:
            return  # the client left meanwhile, and the message went back
        self.asking = None
        delivery, packet_id = question.delivery, question.packet_id
        if allowed is True:
            self._transmit(delivery, consumer, packet_id)
        else:
            self._refused(delivery, packet_id, "denied")
        consumer.later()

    def _transmit(self, delivery: Delivery, consumer: Consumer, packet_id: int) -> None:
        if not delivery.qos:
            if not consumer.send_message(delivery, 0, False):  # [MQTT-4.3.1-1] [MQTT311-4.3.1-1]
                self.drop(delivery, "too-large")
            return
        again = packet_id != 0
        if not again:
            packet_id = self._take_packet_id()  # [MQTT-4.3.2-1] [MQTT-4.3.3-1] [MQTT311-2.3.1-4]
            # [MQTT-4.3.2-3] [MQTT-4.3.3-3] [MQTT311-4.3.2-1] [MQTT311-4.3.3-1]
            self.inflight[packet_id] = delivery
        self._write(delivery, consumer, packet_id, again)

    def _write(self, delivery: Delivery, consumer: Consumer, packet_id: int, again: bool) -> None:
        delivery.sent_at = self.broker.seconds()
        # [MQTT-4.3.2-2] [MQTT-4.3.3-2] [MQTT311-3.3.1-1]
        if not consumer.send_message(delivery, packet_id, again):  # [MQTT-3.3.1-1]
            # [MQTT-3.1.2-25] as if it had been completed
            self._refused(delivery, packet_id, "too-large")

    def _refused(self, delivery: Delivery, packet_id: int, reason: str) -> None:
        """*delivery* does not go out; *packet_id* if it has one."""
        self.drop(delivery, reason)
        if not packet_id:
            return
        if delivery.qos == 2 and reason == "denied" and self.consumer is not None:
            # The client may hold the packet id since it was sent the first time.
            delivery.released = True
            self.release(packet_id)
        else:
            self.inflight.pop(packet_id, None)

    def _take_packet_id(self) -> int:
        # [MQTT-2.2.1-4] [MQTT311-2.3.1-2] not one in use; the window is smaller than the ids.
        packet_id = self.next_packet_id
        while packet_id in self.inflight:
            packet_id = packet_id % 65_535 + 1
        self.next_packet_id = packet_id % 65_535 + 1
        return packet_id

    def note_free(self, packet_id: int) -> None:
        """*packet_id* was given back.

        In a window that is nearly as large as all packet ids the search for an
        unused one would be long; there the next one is the last given back.
        """
        if len(self.inflight) > CROWDED:
            self.next_packet_id = packet_id

    # --- what waits -------------------------------------------------------------

    def _enqueue(self, delivery: Delivery, front: bool = False) -> None:
        queue = self.queue
        if queue is None:
            queue = self.queue = self._make_queue()
        if front:
            queue.push_front(delivery)
        elif queue.has_room(delivery):
            queue.push(delivery)
            if (
                self.settings.overflow is Overflow.PAUSE_PUBLISHERS
                and self.consumer is not None
                and not self.stalled
                and not queue.has_room(delivery)
            ):
                self.broker.publisher.hold_publisher(self)
        else:
            self._overflow(queue, delivery)

    def _make_queue(self) -> MessageQueue:
        return MessageQueue(self.settings)

    def _overflow(self, queue: MessageQueue, delivery: Delivery) -> None:
        policy = self.settings.overflow
        if policy is Overflow.DROP_OLDEST:
            while queue and queue.may_hold(delivery) and not queue.has_room(delivery):
                oldest = queue.drop_oldest(delivery)
                if oldest is None:
                    break
                self.drop(oldest, "queue-full")
            if queue.has_room(delivery):
                queue.push(delivery)
            else:
                self.drop(delivery, "queue-full")
        elif policy is Overflow.PAUSE_PUBLISHERS and self._wait_for_room(queue, delivery):
            queue.push(delivery)
        else:
            self.drop(delivery, "queue-full")
            if policy is Overflow.DISCONNECT and self.consumer is not None:
                self.consumer.overflowed()

    def _wait_for_room(self, queue: MessageQueue, delivery: Delivery) -> bool:
        # Each publisher may bring the message that gets it paused, so the bound
        # is twice the setting.
        if self.consumer is None or self.stalled or not queue.has_room(delivery, 2.0):
            return False
        return self.broker.publisher.hold_publisher(self)

    def _room_made(self) -> None:
        """Let publishers go on once the queue is half empty."""
        settings, queue = self.settings, self.queue
        if queue is None or (
            queue.messages * 2 <= settings.maximum_queued_messages
            and queue.bytes * 2 <= settings.maximum_queued_bytes
        ):
            self.stalled = False
            self.release_publishers()

    def add_waiting_publisher(self, publisher: Publisher, deadline: Timer) -> None:
        """Note that *publisher* is paused for us until *deadline* at most."""
        if self._waiting_publishers is None:
            self._waiting_publishers = {}
        self._waiting_publishers[publisher] = deadline

    def waits(self, publisher: Publisher) -> bool:
        """Whether *publisher* is paused for us."""
        return self._waiting_publishers is not None and publisher in self._waiting_publishers

    def release_publishers(self) -> None:
        """Let every publisher that waits for this session go on."""
        waiting, self._waiting_publishers = self._waiting_publishers, None
        for publisher, deadline in (waiting or {}).items():
            deadline.cancel()
            publisher.unhold()

    def drop(self, delivery: Delivery, reason: str) -> None:
        """Count a delivery that will not happen."""
        self.dropped += 1
        self.broker.metrics.dropped[reason] += 1
        hooks = self.broker.hooks
        if hooks.message_dropped:
            hooks.tell(hooks.message_dropped, delivery.message, self.client_id, reason)

    # --- acknowledgements from the client ---------------------------------------

    def acknowledged(self, packet_id: int) -> bool:
        """PUBACK: a QoS 1 message is done. False for an unknown packet id."""
        delivery = self._sent(packet_id)
        if delivery is None or delivery.qos != 1:
            return False
        self._done(packet_id)
        self._tell_acknowledged(delivery)
        return True

    def _tell_acknowledged(self, delivery: Delivery) -> None:
        hooks = self.broker.hooks
        if hooks.message_acknowledged:
            hooks.tell(hooks.message_acknowledged, delivery.message, self)

    def received(self, packet_id: int, success: bool) -> bool:
        """PUBREC: a QoS 2 message arrived, or was refused. False: unknown id."""
        delivery = self._sent(packet_id)
        if delivery is None or delivery.qos != 2:
            return False
        if success:
            delivery.released = True  # [MQTT-4.3.3-4] ``release`` follows
            delivery.sent_at = self.broker.seconds()
            self._tell_acknowledged(delivery)
        else:
            self._done(packet_id)  # [MQTT-4.8.2-6]
        return True

    def release(self, packet_id: int) -> None:
        """Send PUBREL for a message that was just received."""
        if self.consumer is not None:
            self.consumer.send_pubrel(packet_id)

    def completed(self, packet_id: int) -> bool:
        """PUBCOMP: a QoS 2 message is done. False for an unknown packet id."""
        delivery = self._sent(packet_id)
        if delivery is None or not delivery.released:  # [MQTT-4.3.3-5]
            return False
        self._done(packet_id)
        return True

    def _sent(self, packet_id: int) -> Delivery | None:
        sent = self.inflight.get(packet_id)
        if isinstance(sent, bytes):
            assert self.consumer is not None
            sent = self.inflight[packet_id] = reopen(sent, self.consumer.version)
        return sent

    def change_settings(self, settings: SessionSettings) -> None:
        """The client came back by another listener, or that has new settings."""
        self.settings = settings
        self.inflight = suited(self.inflight, settings)
        if self.queue is not None:
            self.queue.settings = settings

    def _done(self, packet_id: int) -> None:
        del self.inflight[packet_id]
        self.note_free(packet_id)
        if self.queue or self.is_replaying:
            self.pump()

    # --- connection -------------------------------------------------------------

    def attach(self, consumer: Consumer) -> None:
        """The client is here: resend what it had not acknowledged, then go on."""
        self.consumer = consumer
        if self.expiry_timer is not None:
            self.expiry_timer.cancel()
            self.expiry_timer = None
        self.broker.router.session_online(self, True)
        if RECEIVE in self.broker.authorizer.checks:
            self.broker.router.refresh(self)
        # [MQTT311-4.6.0-1]
        # [MQTT-4.4.0-1] [MQTT311-4.4.0-1] [MQTT-4.6.0-1] in the order of first sending
        self._repeat(list(self.inflight), consumer)
        self.pump()

    def _repeat(self, packet_ids: list[int], consumer: Consumer) -> None:
        """Send PUBREL again at once, and PUBLISH as the window allows."""
        again: deque[int] = deque()
        for packet_id in packet_ids:
            delivery = self._sent(packet_id)
            if delivery is not None and delivery.released:  # [MQTT-4.3.3-6] [MQTT-3.3.4-10]
                delivery.sent_at = self.broker.seconds()
                self._repeat_pubrel(packet_id, delivery, consumer)
            else:
                again.append(packet_id)
        self.resends = again or None

    def _repeat_pubrel(self, packet_id: int, delivery: Delivery, consumer: Consumer) -> None:
        consumer.send_pubrel(packet_id)

    def _resend(self, packet_id: int, consumer: Consumer) -> None:
        delivery = self._sent(packet_id)
        if delivery is not None and not delivery.released:
            # [MQTT-4.3.3-7] [MQTT-4.3.3-13] expired or not
            self._send(delivery, consumer, packet_id)

    def detach(self) -> None:
        """The client is gone; what waits stays if the session does."""
        for packet_id in self.inflight:
            self._sent(packet_id)
        self.consumer = None
        # Retained messages not yet sent are due at the next connection.
        self.resends = None
        question, self.asking = self.asking, None
        if question is not None and not question.packet_id:
            self._enqueue(question.delivery, front=True)
        self.release_publishers()
        self.stalled = False
        self.broker.router.session_online(self, False)
        if self.guard is not None:
            self.guard.forget()
        if self.queue and not self.settings.queue_qos0 and self.queue.messages_qos0:
            self._drop_queued_qos0()

    def _drop_queued_qos0(self) -> None:
        assert self.queue is not None
        for delivery in self.queue.take_qos0():
            self.drop(delivery, "offline")

    def retry(self) -> None:
        """Send again what has been unacknowledged for the retry interval."""
        latest = self.broker.seconds() - self.settings.retry_interval
        due = [
            packet_id
            for packet_id, sent in self.inflight.items()
            if isinstance(sent, Delivery) and sent.sent_at <= latest
        ]
        if due and not self.resends and self.consumer is not None:
            self._repeat(due, self.consumer)
            self.pump()

    # --- what a session that survives the broker writes --------------------------

    def save(self) -> None:
        """Something of it has changed."""

    def opened_by(self, listener: ListenerSettings) -> None:
        """The client is here, by *listener*."""

    def subscribed(self, subscription: Subscription) -> None:
        """The client has made *subscription*."""

    def unsubscribed(self, topic_filter: str) -> None:
        """The subscription to *topic_filter* has ended."""

    def remember(self, packet_id: int) -> None:
        """A QoS 2 message with *packet_id* was routed: it is not, once more."""
        if self.awaiting_release is None:
            self.awaiting_release = set()
        self.awaiting_release.add(packet_id)

    def forget(self, packet_id: int) -> bool:
        """PUBREL has come. False: the packet id is not known."""
        awaiting = self.awaiting_release
        if awaiting is None or packet_id not in awaiting:
            return False
        awaiting.discard(packet_id)  # [MQTT-4.3.3-12] [MQTT311-4.3.3-2]
        return True

    def sent_run(self, source: Source, frames: list[bytes]) -> None:
        """The fast lane has sent these QoS 1 *frames* in one piece."""

    def acknowledged_in_lane(self, deliveries: list[Delivery]) -> None:
        """The fast lane took what PUBACK named out of ``inflight``; *deliveries* were
        among it."""

    def gone(self, delivery: Delivery) -> None:
        """*delivery* is done, one way or the other."""

    def end(self) -> None:
        """It is going to be drained."""

    def drain(self) -> Iterator[tuple[int, Delivery]]:
        """Everything undelivered, when the session ends.

        With the packet id under which it was sent, 0 for what was not.
        """
        for packet_id, delivery in self.inflight.items():
            assert isinstance(delivery, Delivery)
            yield packet_id, delivery
        self.inflight = suited({}, self.settings)
        for delivery in self.queue or ():
            yield 0, delivery
        self.queue = None


def _retained(
    messages: Iterator[Message | None], subscription: Subscription, session: Session
) -> Iterator[Delivery | None]:
    identifiers = subscription.identifiers
    settings = session.settings
    for message in messages:
        if session.subscriptions.get(subscription.topic_filter) is not subscription:
            return  # ended, or replaced by one with a replay of its own
        if message is None:
            yield None
            continue
        qos = subscription.qos
        if message.qos < qos and not settings.upgrade_qos:
            qos = message.qos
        # [MQTT-3.3.1-8] [MQTT311-3.3.1-8] RETAIN is set on what was retained
        yield session.delivery_class(message, qos, True, identifiers)
