"""What a client has sent and not yet been told that it is ours: its receipts.

An acknowledgement may have to wait, for the disk or for those who are to get the
message; later ones then wait behind it, since they go out in the order of what
they answer. ``receiving`` and the fast lane ask here for every PUBACK, PUBREC and
PUBCOMP; whoever makes one wait takes the ``Receipt`` and calls ``settle``. While
nothing waits an acknowledgement is written at once, and costs what a write costs.

What may wait is bounded by the receive maximum: a client with more than that is
read no further. Nothing here knows why a receipt waits.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mqttd.broker.pause import UNANSWERED

if TYPE_CHECKING:
    from mqttd.broker.connection import Connection


class Receipt:
    """One or more acknowledgements of one kind that go out together."""

    __slots__ = ("added", "answers", "connection", "pending")

    def __init__(self, pending: int = 0) -> None:
        #: What must still happen before it may go out.
        self.pending = pending
        #: Among that is a commit of what this turn adds, which is not asked for yet.
        self.added = False
        #: The packets, when it is known what they are.
        self.answers: tuple[bytes, ...] = ()
        #: Whose it is; None before that, and when the client has gone.
        self.connection: Connection | None = None

    def settle(self) -> None:
        """One thing that it waits for has happened."""
        self.pending -= 1
        if not self.pending and self.connection is not None:
            _let_go(self.connection)


def acknowledge(
    connection: Connection, answers: tuple[bytes, ...], receipt: Receipt | None = None
) -> None:
    """Send *answers*, packets of one kind, when *receipt* and those before it allow."""
    waiting = connection.receipts
    if not waiting and (receipt is None or not receipt.pending):
        connection.broker.metrics.packets_sent[answers[0][0] >> 4] += len(answers)
        connection.transport.write(b"".join(answers))
        return
    if receipt is None:
        receipt = Receipt()
    receipt.answers = answers
    receipt.connection = connection
    if waiting is None:
        waiting = connection.receipts = deque()
    waiting.append(receipt)
    connection.unanswered += len(answers)
    if connection.unanswered > connection.transport.listener.protocol.receive_maximum:
        connection.transport.pause(UNANSWERED)


def forget(connection: Connection) -> None:
    """The client has gone: nobody waits for an answer."""
    waiting, connection.receipts = connection.receipts, None
    for receipt in waiting or ():
        receipt.connection = None


def _let_go(connection: Connection) -> None:
    waiting = connection.receipts
    if not waiting or waiting[0].pending:
        return
    sent = connection.broker.metrics.packets_sent
    ready: list[bytes] = []
    while waiting and not waiting[0].pending:
        answers = waiting.popleft().answers
        sent[answers[0][0] >> 4] += len(answers)
        ready += answers
    if not waiting:
        connection.receipts = None
    connection.transport.write(b"".join(ready))
    limit = connection.transport.listener.protocol.receive_maximum
    before, connection.unanswered = connection.unanswered, connection.unanswered - len(ready)
    if connection.unanswered <= limit < before:
        # Not within this call: it may come from the middle of another client's packet.
        connection.broker.clock.callLater(0, connection.transport.resume, UNANSWERED)
