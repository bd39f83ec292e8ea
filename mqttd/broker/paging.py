"""The queue of a durable session: its head in memory, its tail in the store.

The session makes one; to it and to the bounds it is a ``MessageQueue`` like any
other. What comes when the head is long, or while there is a tail, is written and
let go of; when the head runs low the next page is read. Where topics have
priorities the order of the store is not that of sending, and all is in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger
from twisted.python.failure import Failure

from mqttd.broker.delivery import Delivery
from mqttd.broker.queue import OVERHEAD, MessageQueue
from mqttd.interfaces import StoredRow
from mqttd.settings import Overflow
from mqttd.store.records import packet_id_of

if TYPE_CHECKING:
    from mqttd.broker.durable_session import DurableSession

log = Logger()

#: Deliveries in memory; from there on they go to the store.
HEAD = 100
#: Rows read at once.
PAGE = 100
#: Empty pages in a row that are believed.
MAXIMUM_EMPTY = 3
#: Seconds until a page that could not be read is asked for again.
RETRY = 1.0


class PagedQueue(MessageQueue):
    """Deliveries in waiting, of which only the first are in memory."""

    __slots__ = ("_after", "_empty", "_reading", "_session", "tail")

    def __init__(self, session: DurableSession) -> None:
        super().__init__(session.settings)
        self._session = session
        #: Rows in the store that are not in memory. While there are any,
        #: ``messages_qos0`` is one higher: they may have QoS 0.
        self.tail = 0
        #: The rows of the tail have a ``seq`` above this.
        self._after = 0
        self._reading = False
        #: Empty pages in a row.
        self._empty = 0

    def restore(self, rows: int, size: int) -> None:
        """The session was found in the store with *rows* of together *size* bytes."""
        self.tail = self.messages = rows
        self.bytes = size
        self.messages_qos0 = 1

    @property
    def in_memory(self) -> int:
        return self.messages - self.tail

    def has_room(self, delivery: Delivery, share: float = 1.0) -> bool:
        if super().has_room(delivery, share):
            return True
        # The oldest are on their way from the store and give way when they come.
        return (
            self._reading
            and not self.in_memory
            and self.settings.overflow is Overflow.DROP_OLDEST
            and self.messages < self.settings.maximum_queued_messages + PAGE
        )

    def push(self, delivery: Delivery) -> None:
        if self.tail or (self.messages >= HEAD and not self.settings.priorities):
            self._session.write_in_turn(delivery)
            if not self.tail:
                self._after = delivery.seq - 1  # type: ignore[attr-defined]
                self.messages_qos0 += 1
            self.tail += 1
            self.messages += 1
            self.bytes += delivery.message.size + OVERHEAD
        else:
            super().push(delivery)

    def pop(self) -> Delivery | None:
        if self.tail and (self.in_memory <= PAGE // 2 or self.settings.priorities):
            self.read()
            if self.settings.priorities:
                return None
        return super().pop()

    def drop_oldest(self, newcomer: Delivery) -> Delivery | None:
        if self.tail and self.in_memory <= PAGE // 2:
            self.read()
        return super().drop_oldest(newcomer)

    @property
    def sid(self) -> int:
        return self._session.sid

    def expire(self, row: StoredRow) -> bool:
        """Drop the message of *row*, if it waits here."""
        session = self._session
        delivery = self._take_out(row.seq)
        if delivery is None and self._reading:
            return False  # it may be on its way here: another time
        if delivery is None and self.tail and row.seq > self._after:
            self._leave_tail(1, row.size)
            # None: it made no sense, and is gone already.
            delivery = session.reopen_row(row)
        elif delivery is None:
            return False
        if delivery is not None:
            session.drop(delivery, "expired")
        return True

    def _take_out(self, seq: int) -> Delivery | None:
        """The delivery with this place, if it is in memory."""
        for priority, lane in self._lanes.items():
            for delivery in lane:
                if delivery.seq == seq:  # type: ignore[attr-defined]
                    lane.remove(delivery)
                    if not lane:
                        del self._lanes[priority]
                    self._count(delivery, -1)
                    return delivery
        return None

    # --- pages ------------------------------------------------------------------

    def read(self) -> None:
        """Get the next page, if that is not under way."""
        if self._reading:
            return
        self._reading = True
        session = self._session
        page = session.durability.store.read(session.sid, self._after, PAGE)
        page.addCallback(self._arrived).addErrback(self._failed)

    def _arrived(self, rows: list[StoredRow]) -> None:
        self._reading = False
        session = self._session
        if session.queue is not self or session.has_ended:
            return
        for row in rows:
            self._after = row.seq
            if packet_id_of(row.state):
                continue  # it was sent, and is known
            if self.tail:
                self._leave_tail(1, row.size)
            delivery = session.reopen_row(row)
            if delivery is not None:
                self._lane(delivery).append(delivery)
                self._count(delivery, 1)
        if rows:
            self._empty = 0
        elif self.tail:
            self._nothing_came()
        if self.tail and (not self.in_memory or self.settings.priorities):
            self.read()
        session.page_arrived()

    def _nothing_came(self) -> None:
        """An empty page: all of its rows were done with meanwhile, or there are none."""
        self._empty += 1
        if self._empty > MAXIMUM_EMPTY:
            log.error(
                "{count} messages kept for {client_id} are not in the store",
                count=self.tail,
                client_id=self._session.client_id,
            )
            self._leave_tail(self.tail, 0)

    def _leave_tail(self, rows: int, size: int) -> None:
        self.tail -= rows
        self.messages -= rows
        self.bytes = max(0, self.bytes - size)
        if not self.tail:
            self.messages_qos0 -= 1
            if not self.messages:
                self.bytes = 0

    def _failed(self, failure: Failure) -> None:
        session = self._session
        log.error(
            "The queue of {client_id} cannot be read, and is tried again: {reason}",
            client_id=session.client_id,
            reason=failure.getErrorMessage(),
        )
        if session.queue is self and not session.has_ended:
            session.broker.wheel.call_later(RETRY, self._again)

    def _again(self) -> None:
        self._reading = False
        self.read()
