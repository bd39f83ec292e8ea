"""The seam between the broker and its store: what must be safe before what is said.

There is one when the broker's store survives; without it the broker is all in
memory and pays nothing. Sessions, wills and retained messages add to the store
through it, and whoever acknowledges asks it when that may be.

A QoS 1 or 2 message is acknowledged when everyone durable who is to get it has
it: on disk, or, at QoS 1, acknowledged by the client itself. Most clients that
are here answer within a few milliseconds. So a QoS 1 message to such a client is
sent at once and *owed* to the disk; what is still owed after one to two ticks is
written, and most is never written at all. All else is written when it comes:

- what nobody can answer for: the session's client is away, or its queue is long;
- QoS 2, because the packet id from the publisher, the message and its place in
  every queue must be safe together (exactly once), and before it is sent on.

The store commits in the order of adding, so a callback after a commit
finds everything safe that was added before.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from mqttd.broker import receipts, restore
from mqttd.broker.envelope import Envelopes
from mqttd.broker.expiry import ExpirySweep
from mqttd.broker.receipts import Receipt
from mqttd.interfaces import IStore, StoredSession

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.connection import Connection
    from mqttd.broker.message import Message
    from mqttd.broker.router import Plan
    from mqttd.broker.session import Session
    from mqttd.broker.wills import PendingWill

log = Logger()

#: Seconds between ticks. A message waits for one to two of them, and at least a
#: turn of the reactor, before it is written.
TICK = 0.004

#: Bytes that may wait for a store that commits nothing.
MAXIMUM_BACKLOG = 64 * 1024 * 1024

#: Retained messages of the broker itself, which it will say anew.
_SYSTEM = "$SYS/"


class Owed(Protocol):
    """What will be written unless it is delivered before."""

    def keep(self) -> Receipt | None:
        """Write it if that is still needed; the receipt that waits for it."""


class Durability:
    """Everything that the broker has to do with its store."""

    def __init__(self, broker: Broker, store: IStore) -> None:
        self._broker = broker
        self.store = store
        #: What the message that is being routed must wait for; None: nothing yet.
        self.receipt: Receipt | None = None
        #: Write at once what else would be owed.
        self.at_once = False
        self._young: list[Owed] = []
        self._old: list[Owed] = []
        self._call: IDelayedCall | None = None
        #: The last message written, which may go to more sessions.
        self._message: Message | None = None
        self._mid = 0
        self.envelopes = Envelopes(broker, 0.0)
        self._recovering: list[Deferred[None]] = []
        store.on_problem.append(self._problem_changed)

    def start(self) -> None:
        """Open the store and take up what is in it; raises ``StoreError``."""
        contents = self.store.start()
        self.envelopes = Envelopes(self._broker, self.store.time() - self._broker.seconds())
        restore.restore(self._broker, self, contents)
        ExpirySweep(self._broker, self).start()

    def stop(self) -> Deferred[None]:
        """Write what is owed, and close the store."""
        self.flush()
        return self.store.stop()

    def flush(self) -> None:
        """Write what is owed now."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        owed = self._old + self._young
        self._old, self._young = [], []
        self._keep(owed)

    # --- acknowledgements -------------------------------------------------------

    def begin(self) -> None:
        """A message is going to be routed that will be acknowledged."""
        self.receipt = None

    def open(self) -> Receipt:
        """The receipt of the message that is being routed."""
        receipt = self.receipt
        if receipt is None:
            receipt = self.receipt = Receipt()
        return receipt

    def added(self) -> None:
        """What this turn has added must be safe before the receipt goes out."""
        receipt = self.open()
        if receipt.connection is None:
            receipt.added = True
        else:
            receipt.pending += 1
            self.store.committed(receipt.settle)

    def acknowledge(self, connection: Connection, answers: tuple[bytes, ...]) -> None:
        """Send *answers* when the message that was routed since ``begin`` is safe."""
        receipt, self.receipt = self.receipt, None
        if receipt is not None and receipt.added:
            receipt.pending += 1
            self.store.committed(receipt.settle)
        receipts.acknowledge(connection, answers, receipt)

    def committed(self) -> Deferred[None]:
        """Fires when all that was added is safe."""
        waiting: Deferred[None] = Deferred()
        self.store.committed(partial(waiting.callback, None))
        return waiting

    # --- what is owed -----------------------------------------------------------

    def owe(self, owed: Owed) -> None:
        """Write it in a tick or two, if it is then still to be delivered."""
        self._young.append(owed)
        if self._call is None:
            self._call = self._broker.clock.callLater(TICK, self._tick)

    def _tick(self) -> None:
        self._call = None
        due, self._old, self._young = self._old, self._young, []
        self._keep(due)
        if self._old:
            self._call = self._broker.clock.callLater(TICK, self._tick)

    def _keep(self, due: list[Owed]) -> None:
        waiting: list[Receipt] = []
        for owed in due:
            receipt = owed.keep()
            if receipt is not None:
                waiting.append(receipt)
        if waiting:
            self.store.committed(partial(_settle, waiting))

    def message_id(self, message: Message) -> int:
        """The number of *message* in the store, for a row that is added now."""
        if message is not self._message:
            self._mid = self.store.put_message(self.envelopes.encode(message))
            self._message = message
        return self._mid

    def delete_rows(self, sid: int, seqs: tuple[int, ...]) -> None:
        """These deliveries are done."""
        # It may have been the last row of its message, which is then gone too.
        self._message = None
        self.store.delete_rows(sid, seqs)

    def delete_session(self, sid: int) -> None:
        self._message = None
        self.store.delete_session(sid)

    # --- retained and delayed messages, wills --------------------------------------------

    def put_retained(self, message: Message) -> None:
        """*message* is the retained one of its topic."""
        if not message.topic.startswith(_SYSTEM):
            self.store.put_retained(message.topic, self.envelopes.encode(message))
            self.added()

    def delete_retained(self, topic: str) -> None:
        """*topic* has no retained message any more."""
        if not topic.startswith(_SYSTEM):
            self.store.delete_retained(topic)
            self.added()

    def put_delayed(self, number: int, message: Message, delay: float) -> None:
        """*message* waits for *delay* seconds before it is published."""
        self.store.put_delayed(number, self.store.time() + delay, self.envelopes.encode(message))
        self.added()

    def put_will(self, session: Session, will: PendingWill) -> None:
        """Keep the will of a session that does not survive itself."""
        if self.problem is not None:
            return  # nothing is promised, and connections could bring any number
        will.sid = self.store.new_session_id()
        self.store.put_session(
            StoredSession(
                will.sid,
                session.client_id,
                session.principal,
                session.mount_point,
                expiry=0,
                created_at=self.store.time(),
                will=self.envelopes.encode_will(will),
            )
        )

    # --- a store in trouble -----------------------------------------------------

    @property
    def problem(self) -> str | None:
        """Why nothing can be made safe at present."""
        return self.store.problem

    @property
    def is_overfull(self) -> bool:
        """Nothing can be written, and much waits for it: no more may be added.

        Whoever is acknowledged is held back before that; this is for wills, for the
        broker's own messages, and for QoS 0.
        """
        store = self.store
        return store.problem is not None and store.backlog > MAXIMUM_BACKLOG

    def concerns(self, connection: Connection, topic: str, qos: int, retain: bool) -> bool:
        """Whether a message needs the store before it can be acknowledged."""
        plan: Plan = self._broker.router.plan(topic)
        return (
            retain
            or (qos == 2 and connection.session.durable)
            or bool(plan.groups)
            or any(target.session.durable for target in plan.targets)  # type: ignore[attr-defined]
        )

    def recovery(self) -> Deferred[None]:
        """Fires when the store has no problem any more."""
        if self.problem is None:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._recovering.append(waiting)
        return waiting

    def _problem_changed(self, problem: str | None) -> None:
        if problem is not None:
            log.critical(
                "The store commits nothing: {problem}. QoS 1 and 2 messages for sessions that "
                "are kept are refused until it does",
                problem=problem,
            )
            return
        log.info("The store commits again")
        waiting, self._recovering = self._recovering, []
        for each in waiting:
            each.callback(None)


def _settle(waiting: list[Receipt]) -> None:
    for receipt in waiting:
        receipt.settle()
