"""Deliveries to durable sessions, and runs of frames to them, until they are safe.

A ``DurableSession`` makes them and ``durability`` asks them, a tick or two later,
to ``keep`` what was not delivered meanwhile. Only these two know them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mqttd.broker.delivery import Delivery
from mqttd.broker.message import Message

if TYPE_CHECKING:
    from mqttd.broker.connection import Connection
    from mqttd.broker.durable_session import DurableSession
    from mqttd.broker.receipts import Receipt
    from mqttd.broker.shared import SharedGroup

#: Where a delivery is. Not in the store (yet);
OWED = 0
#: added to the store, in its present state;
WRITTEN = 1
#: committed in its present state, which is looked at for QoS 2 only;
SAFE = 2
#: done, and not to be in the store any more.
GONE = 3


class DurableDelivery(Delivery):
    """A delivery that the store may know."""

    __slots__ = ("kept", "order", "packet_id", "receipt", "seq", "session")

    def __init__(
        self,
        message: Message,
        qos: int,
        retain: bool,
        identifiers: tuple[int, ...] = (),
        group: SharedGroup | None = None,
    ) -> None:
        super().__init__(message, qos, retain, identifiers, group)
        self.kept = OWED
        #: Place in the queue of the session; 0: not taken yet.
        self.seq = 0
        #: Under which it was sent, and when in the order of sending; 0: not yet.
        self.packet_id = 0
        self.order = 0
        #: Waits for this delivery while it is owed.
        self.receipt: Receipt | None = None
        self.session: DurableSession | None = None

    def keep(self) -> Receipt | None:
        session = self.session
        if self.kept == GONE or session is None or session.has_ended:
            return None
        if self.kept == OWED:
            session.write(self)
        elif self.packet_id and self.qos == 1:  # that of QoS 2 was noted when it was due
            session.note_state(self)
        receipt, self.receipt = self.receipt, None
        session.owes_no_more(self)
        return receipt


class Source:
    """What the messages of a run have in common."""

    __slots__ = (
        "created_at",
        "guard",
        "head",
        "messages",
        "payload",
        "publisher",
        "topic",
    )

    def __init__(self, connection: Connection, topic: str, head: int, payload: int) -> None:
        self.topic = topic
        self.publisher = connection.client_id
        self.guard = connection.guard
        self.created_at = connection.broker.seconds()
        #: Where in a frame the packet id stands, and where the payload begins.
        self.head = head
        self.payload = payload
        #: Those that had to be made; receivers share them.
        self.messages: dict[int, Message] = {}

    def message(self, index: int, frame: bytes) -> Message:
        """The message of the frame at *index* of the run."""
        message = self.messages.get(index)
        if message is None:
            block = self.head + 2
            message = self.messages[index] = Message(
                self.topic,
                frame[self.payload :],
                1,
                # Behind their length, which takes one byte in the lane; 3.1.1 has none.
                passthrough=frame[block : self.payload][1:],
                publisher=self.publisher,
                guard=self.guard,
                created_at=self.created_at,
            )
        return message


class Run:
    """QoS 1 frames that the fast lane sent to one durable session.

    They stand in its ``inflight`` as they were sent. The session takes note when
    all are acknowledged; else they become deliveries and are written.
    """

    __slots__ = (
        "first_order",
        "first_seq",
        "frames",
        "head",
        "ids",
        "receipt",
        "session",
        "source",
    )

    def __init__(
        self,
        session: DurableSession,
        source: Source,
        ids: Sequence[int],
        frames: list[bytes],
        receipt: Receipt,
    ) -> None:
        self.session = session
        self.source = source
        #: The packet ids of ``frames``.
        self.ids = ids
        self.frames = frames
        #: Those before it are acknowledged.
        self.head = 0
        self.first_seq = session.last_seq + 1
        self.first_order = session.last_order + 1
        #: Waits for the run; None when the run is over.
        self.receipt: Receipt | None = receipt

    def is_acknowledged(self) -> bool:
        """Whether the client has them all, as far as it goes on from the last look."""
        ids, frames, inflight = self.ids, self.frames, self.session.inflight
        head, count = self.head, len(ids)
        while head < count and inflight.get(ids[head]) is not frames[head]:
            head += 1
        self.head = head
        return head == count

    def keep(self) -> Receipt | None:
        receipt = self.receipt
        if receipt is not None and not self.session.has_ended:
            self.session.write_run(self)
            return receipt
        return None
