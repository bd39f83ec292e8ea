"""A session that outlives the broker: what ``Session`` does, and the store with it.

``sessions`` makes one for each client that asks for an expiry above 0 where the
store survives. It differs from its base in *when* things may be said, and in
what is written; ``durability`` has the reasons.

A QoS 2 message to the client goes out when its row, packet id included, is
committed, and its PUBREL when that is; whatever then fails, the client gets the
message once. A QoS 1 message goes out at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from twisted.logger import Logger
from twisted.python.failure import Failure

from mqttd.broker.delivery import Delivery
from mqttd.broker.handover import hand_over
from mqttd.broker.owed import GONE, OWED, SAFE, WRITTEN, DurableDelivery, Run, Source
from mqttd.broker.paging import PagedQueue
from mqttd.broker.queue import OVERHEAD, MessageQueue
from mqttd.broker.session import Session
from mqttd.broker.thinning import Thinned
from mqttd.interfaces import RestoredSession, StoredRow, StoredSession, StoredSubscription
from mqttd.settings import ListenerSettings, SessionSettings
from mqttd.store import records

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.durability import Durability
    from mqttd.broker.roles import Consumer
    from mqttd.broker.shared import SharedGroup
    from mqttd.broker.subscription import Subscription

log = Logger()


class DurableSession(Session):
    """The state of one client id, in memory and in the store."""

    durable = True
    delivery_class: ClassVar[type[Delivery]] = DurableDelivery

    __slots__ = (
        "_is_handed_over",
        "_owed",
        "_runs",
        "_warming",
        "cold",
        "durability",
        "ended_at",
        "has_ended",
        "last_order",
        "last_seq",
        "listener",
        "sid",
        "stored_at",
    )

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        principal: str | None,
        settings: SessionSettings,
        durability: Durability,
        sid: int,
    ) -> None:
        super().__init__(broker, client_id, principal, settings)
        self.durability = durability
        #: Its number in the store.
        self.sid = sid
        #: Name of the listener whose settings it has.
        self.listener = ""
        #: In the store's time: when it began, and when its connection ended.
        self.stored_at = durability.store.time()
        self.ended_at: float | None = None
        self.has_ended = False
        #: It ended, and others get what it has on disk.
        self._is_handed_over = False
        #: The last ``seq`` and ``order`` given out; see ``StoredRow``.
        self.last_seq = 0
        self.last_order = 0
        #: Messages that were sent before the broker restarted, not read yet.
        self.cold = 0
        #: Who waits for them to be read.
        self._warming: Consumer | None = None
        #: Deliveries that are owed to the store, by ``seq``.
        self._owed: dict[int, DurableDelivery] | None = None
        #: What the fast lane has sent and nobody has acknowledged or written.
        self._runs: deque[Run] | None = None

    # --- the record -------------------------------------------------------------

    def save(self) -> None:
        """Write all but subscriptions and messages."""
        if self.has_ended:
            return
        will = self.will
        self.durability.store.put_session(
            StoredSession(
                self.sid,
                self.client_id,
                self.principal,
                self.mount_point,
                self.listener,
                self.expiry,
                self.stored_at,
                self.ended_at,
                None if will is None else self.durability.envelopes.encode_will(will),
            )
        )

    def restore(self, restored: RestoredSession) -> None:
        """Take up what the store has of it, but for the messages themselves."""
        stored = restored.session
        self.mount_point = stored.mount_point
        self.listener = stored.listener
        self.expiry = stored.expiry
        self.stored_at = stored.created_at
        self.created_at -= self.durability.store.time() - stored.created_at
        self.ended_at = stored.ended_at
        self.last_seq = restored.last_seq
        self.cold = restored.sent
        if restored.incoming:
            self.awaiting_release = set(restored.incoming)
        if restored.rows > restored.sent:
            self.queue = queue = PagedQueue(self)
            # What the rows that were sent take of it is not known.
            waiting = restored.rows - restored.sent
            queue.restore(waiting, restored.bytes * waiting // restored.rows)

    def opened_by(self, listener: ListenerSettings) -> None:
        self.listener = listener.name or listener.endpoint
        self.ended_at = None
        self.save()

    def subscribed(self, subscription: Subscription) -> None:
        options = (
            subscription.qos | subscription.no_local << 2 | subscription.retain_as_published << 3
        )
        self.durability.store.put_subscription(
            self.sid,
            StoredSubscription(
                subscription.topic_filter,
                options,
                subscription.identifier,
                subscription.wants.encode() if isinstance(subscription, Thinned) else "",
            ),
        )

    def unsubscribed(self, topic_filter: str) -> None:
        self.durability.store.delete_subscription(self.sid, topic_filter)

    # --- QoS 2 from the client ----------------------------------------------------

    def remember(self, packet_id: int) -> None:
        super().remember(packet_id)
        self.durability.store.put_incoming(self.sid, packet_id)
        self.durability.added()

    def forget(self, packet_id: int) -> bool:
        known = super().forget(packet_id)
        if known:
            self.durability.store.delete_incoming(self.sid, packet_id)
            self.durability.added()
        return known

    # --- rows -------------------------------------------------------------------

    def write(self, delivery: Delivery) -> None:
        """Add *delivery* to the store, as it is now."""
        assert isinstance(delivery, DurableDelivery)
        message = delivery.message
        row = StoredRow(
            delivery.seq,
            self.durability.message_id(message),
            message.size + OVERHEAD,
            _state(delivery),
            delivery.identifiers,
            _share(delivery.group),
            expires_at=self.durability.envelopes.deadline(message),
        )
        self.durability.store.put_row(self.sid, row)
        delivery.kept = WRITTEN

    def write_in_turn(self, delivery: Delivery) -> None:
        """Add *delivery* to the store, and before it what is owed already.

        After a crash a message of QoS 1 must not be there without one that came
        before it: its publisher would send that one again, behind it.
        """
        if delivery.qos == 1:
            self._write_owed()
        self.write(delivery)

    def _write_owed(self) -> None:
        """Write what is owed, now."""
        committed = self.durability.store.committed
        for delivery in list((self._owed or {}).values()):
            receipt = delivery.keep()
            if receipt is not None:
                committed(receipt.settle)
        for run in list(self._runs or ()):
            receipt = run.keep()
            if receipt is not None:
                committed(receipt.settle)

    def owes_no_more(self, delivery: DurableDelivery) -> None:
        """*delivery* is written as it is, or need not be."""
        if self._owed is not None:
            self._owed.pop(delivery.seq, None)
            self._owed = self._owed or None

    def note_state(self, delivery: DurableDelivery) -> None:
        """Its packet id, or what has become of it, is to be in the store."""
        self.durability.store.change_row(self.sid, delivery.seq, _state(delivery))
        delivery.kept = WRITTEN

    def gone(self, delivery: Delivery) -> None:
        """*delivery* is done, or will not happen: nothing need be kept of it."""
        assert isinstance(delivery, DurableDelivery)
        kept, delivery.kept = delivery.kept, GONE
        if kept in (WRITTEN, SAFE) and (self._is_handed_over or not self.has_ended):
            self.durability.delete_rows(self.sid, (delivery.seq,))
        receipt, delivery.receipt = delivery.receipt, None
        if self._owed is not None:
            self.owes_no_more(delivery)
        if receipt is not None:
            receipt.settle()

    def _take(self, delivery: DurableDelivery) -> None:
        self.last_seq += 1
        delivery.seq = self.last_seq
        delivery.session = self

    def _oblige(self, delivery: DurableDelivery) -> None:
        """*delivery* must be safe, or done, before its message is acknowledged."""
        durability = self.durability
        is_twofold = delivery.message.qos == 2 or delivery.qos == 2
        if self.consumer is None or is_twofold or durability.at_once:
            self.write_in_turn(delivery)
            durability.added()
            return
        receipt = delivery.receipt = durability.open()
        receipt.pending += 1
        self._owe(delivery)

    def _owe(self, delivery: DurableDelivery) -> None:
        """*delivery*, or the packet id that it now has, will be written soon."""
        if self._owed is None:
            self._owed = {}
        self._owed[delivery.seq] = delivery
        self.durability.owe(delivery)

    def reopen_row(self, row: StoredRow) -> DurableDelivery | None:
        """The delivery of a row that was read; None, and the row is deleted, when
        it makes no sense."""
        try:
            message = self.durability.envelopes.decode(row.body)
        except ValueError as error:
            log.error(
                "A message kept for {client_id} is damaged, and dropped: {error}",
                client_id=self.client_id,
                error=error,
            )
            self.durability.delete_rows(self.sid, (row.seq,))
            self.dropped += 1
            self.broker.metrics.dropped["damaged"] += 1
            return None
        state = row.state
        delivery = DurableDelivery(
            message,
            records.qos_of(state),
            records.retain_of(state),
            row.identifiers,
            self._group(row.share),
        )
        delivery.session = self
        delivery.seq = row.seq
        delivery.packet_id = records.packet_id_of(state)
        delivery.order = records.order_of(state)
        delivery.released = records.is_released(state)
        delivery.kept = SAFE
        return delivery

    def _group(self, share: str) -> SharedGroup | None:
        subscription = self.subscriptions.get(share) if share else None
        return None if subscription is None else subscription.group

    # --- towards the client -------------------------------------------------------

    def _make_queue(self) -> MessageQueue:
        return PagedQueue(self)

    def _enqueue(self, delivery: Delivery, front: bool = False) -> None:
        assert isinstance(delivery, DurableDelivery)
        is_new = not delivery.seq
        if is_new and self.durability.is_overfull:
            self.drop(delivery, "store")
            return
        if is_new:
            self._take(delivery)
        super()._enqueue(delivery, front)
        if not is_new:
            return
        if delivery.kept == WRITTEN:
            self.durability.added()  # it went to the tail
        elif delivery.kept == OWED and delivery.qos:
            self._oblige(delivery)

    def _send(self, delivery: Delivery, consumer: Consumer, packet_id: int) -> None:
        assert isinstance(delivery, DurableDelivery)
        if delivery.qos and not delivery.seq:
            self._take(delivery)
            self._oblige(delivery)
        super()._send(delivery, consumer, packet_id)

    def _transmit(self, delivery: Delivery, consumer: Consumer, packet_id: int) -> None:
        assert isinstance(delivery, DurableDelivery)
        if not delivery.qos:
            super()._transmit(delivery, consumer, 0)
            self.gone(delivery)
        elif packet_id:
            # A QoS 2 message that is not safe yet goes out when it is.
            if delivery.qos == 1 or delivery.kept == SAFE:
                super()._transmit(delivery, consumer, packet_id)
        else:
            self._transmit_first(delivery, consumer)

    def _transmit_first(self, delivery: DurableDelivery, consumer: Consumer) -> None:
        packet_id = delivery.packet_id = self._take_packet_id()
        self.inflight[packet_id] = delivery
        self.last_order += 1
        delivery.order = self.last_order
        if delivery.qos == 1:
            if delivery.kept != OWED:
                self._owe(delivery)
            self._write(delivery, consumer, packet_id, False)
            return
        self.note_state(delivery)
        self.durability.store.committed(partial(self._safe, delivery))

    def _safe(self, delivery: DurableDelivery) -> None:
        """The row of a QoS 2 message is committed: the client may hear of it."""
        packet_id, consumer = delivery.packet_id, self.consumer
        if delivery.kept != WRITTEN or self.inflight.get(packet_id) is not delivery:
            return
        delivery.kept = SAFE
        if consumer is None:
            return  # it is sent again when the client is back
        if delivery.released:
            consumer.send_pubrel(packet_id)
        elif not (self.resends and packet_id in self.resends) and (
            self.asking is None or self.asking.delivery is not delivery
        ):
            if consumer.may_receive(delivery) is True:
                self._write(delivery, consumer, packet_id, False)
            else:  # the rules have changed meanwhile, or are to be looked up again
                self._send(delivery, consumer, packet_id)

    def _refused(self, delivery: Delivery, packet_id: int, reason: str) -> None:
        assert isinstance(delivery, DurableDelivery)
        if packet_id and delivery.qos == 2 and reason == "denied" and self.consumer is not None:
            # The client may hold the packet id: it stays taken until PUBCOMP.
            super().drop(delivery, reason)
            delivery.released = True
            self.note_state(delivery)
            self.release(packet_id)
        else:
            super()._refused(delivery, packet_id, reason)

    def drop(self, delivery: Delivery, reason: str) -> None:
        super().drop(delivery, reason)
        self.gone(delivery)

    def page_arrived(self) -> None:
        """The head of the queue is longer: send, or make room for what came since."""
        queue = self.queue
        if queue is None:
            return
        while queue.messages > self.settings.maximum_queued_messages:
            oldest = MessageQueue.pop(queue)
            if oldest is None:
                break
            self.drop(oldest, "queue-full")
        self.pump()

    # --- from the client ----------------------------------------------------------

    def sent_run(self, source: Source, frames: list[bytes]) -> None:
        at = source.head
        ids: Sequence[int] = [frame[at] << 8 | frame[at + 1] for frame in frames]
        receipt = self.durability.open()
        receipt.pending += 1
        run = Run(self, source, ids, frames, receipt)
        self.last_seq += len(frames)
        self.last_order += len(frames)
        if self._runs is None:
            self._runs = deque()
        self._runs.append(run)
        self.durability.owe(run)

    def acknowledged(self, packet_id: int) -> bool:
        if type(self.inflight.get(packet_id)) is bytes:
            self._done(packet_id)
            return True
        return super().acknowledged(packet_id)

    def acknowledged_in_lane(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self.gone(delivery)
        if self._runs:
            self._settle_runs()

    def _settle_runs(self) -> None:
        runs = self._runs
        while runs and runs[0].is_acknowledged():
            run = runs.popleft()
            receipt, run.receipt = run.receipt, None
            if receipt is not None:
                receipt.settle()
        if not runs:
            self._runs = None

    def write_run(self, run: Run) -> None:
        """The client is slow to acknowledge *run*: to the store with what is left."""
        inflight = self.inflight
        for index in range(run.head, len(run.ids)):
            packet_id, frame = run.ids[index], run.frames[index]
            if inflight.get(packet_id) is not frame:
                continue
            delivery = DurableDelivery(run.source.message(index, frame), 1, False)
            delivery.session = self
            delivery.seq = run.first_seq + index
            delivery.order = run.first_order + index
            delivery.packet_id = packet_id
            delivery.sent_at = run.source.created_at
            inflight[packet_id] = delivery
            self.write(delivery)
        run.receipt = None
        if self._runs is not None:
            self._runs.remove(run)
            self._runs = self._runs or None

    def _sent(self, packet_id: int) -> Delivery | None:
        if type(self.inflight.get(packet_id)) is bytes:
            self._write_owed()
        return super()._sent(packet_id)

    def received(self, packet_id: int, success: bool) -> bool:
        known = super().received(packet_id, success)
        delivery = self.inflight.get(packet_id) if known and success else None
        if isinstance(delivery, DurableDelivery):
            self.note_state(delivery)
        return known

    def release(self, packet_id: int) -> None:
        delivery = self.inflight.get(packet_id)
        if isinstance(delivery, DurableDelivery):
            self.durability.store.committed(partial(self._safe, delivery))

    def _repeat_pubrel(self, packet_id: int, delivery: Delivery, consumer: Consumer) -> None:
        # One that is not safe yet is sent when it is.
        if isinstance(delivery, DurableDelivery) and delivery.kept == SAFE:
            consumer.send_pubrel(packet_id)

    def _done(self, packet_id: int) -> None:
        sent = self.inflight[packet_id]
        if isinstance(sent, Delivery):
            self.gone(sent)
        super()._done(packet_id)
        if self._runs:
            self._settle_runs()

    # --- coming and going -----------------------------------------------------------

    def attach(self, consumer: Consumer) -> None:
        if not self.cold:
            super().attach(consumer)
            return
        if self.expiry_timer is not None:
            self.expiry_timer.cancel()
            self.expiry_timer = None
        # Until what was sent before is known, nothing new may be.
        self._warming = consumer
        rows = self.durability.store.read_sent(self.sid)
        rows.addCallback(self._warm, consumer).addErrback(self._not_read, consumer)

    def _warm(self, rows: list[StoredRow], consumer: Consumer) -> None:
        if self.has_ended or self._warming is not consumer:
            return
        self._warming = None
        self.cold = 0
        for row in rows:
            delivery = self.reopen_row(row)
            if delivery is not None:
                self.inflight[delivery.packet_id] = delivery
                self.last_order = max(self.last_order, delivery.order)
        super().attach(consumer)

    def _not_read(self, failure: Failure, consumer: Consumer) -> None:
        log.error(
            "What {client_id} was sent before cannot be read, and it is turned away: {reason}",
            client_id=self.client_id,
            reason=failure.getErrorMessage(),
        )
        if self._warming is consumer:
            self._warming = None
            consumer.failed()

    def detach(self) -> None:
        self._warming = None
        self._write_owed()
        super().detach()
        self.left()

    def left(self) -> None:
        """Write down that its client is away from now on, and for how long it is kept."""
        self.ended_at = self.durability.store.time()
        self.save()

    def drain(self) -> Iterator[tuple[int, Delivery]]:
        if not self._is_handed_over:
            # Never read: counted, and deleted with the session.
            self.dropped += self._unread
            self.broker.metrics.dropped["session-ended"] += self._unread
        yield from super().drain()

    def end(self) -> None:
        """It is over, and all that was its own with it."""
        self._is_handed_over = bool(self._unread) and any(
            subscription.group is not None for subscription in self.subscriptions.values()
        )
        if self._is_handed_over:
            self.expiry = 0  # a start that finds it goes on
            self.will = None
            self.save()
        self.has_ended = True
        if self._is_handed_over:
            # When those that are in memory have gone, row by row.
            self.broker.clock.callLater(0, hand_over, self.broker, self.durability, self.sid)
        else:
            self.durability.delete_session(self.sid)

    @property
    def _unread(self) -> int:
        """Messages that are in the store only."""
        queue = self.queue
        return self.cold + (queue.tail if isinstance(queue, PagedQueue) else 0)


def _state(delivery: DurableDelivery) -> int:
    return records.row_state(
        delivery.qos, delivery.retain, delivery.packet_id, delivery.order, delivery.released
    )


def _share(group: SharedGroup | None) -> str:
    if group is None:
        return ""
    if group.name == "$queue":
        return f"$queue/{group.inner_filter}"
    return f"$share/{group.name}/{group.inner_filter}"
