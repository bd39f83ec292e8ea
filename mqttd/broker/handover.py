"""What a session that ends leaves on disk for others: messages of shared subscriptions.

A member of a group that ends gives back what it has not done (section 4.8.2 of 5.0).
The registry sees to what is in memory; ``DurableSession`` and ``restore`` come here
for the rows that were never read. Each goes to another member in the turn that takes
it out, so a crash leaves it with exactly one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mqttd.broker.delivery import Delivery
from mqttd.interfaces import StoredRow, StoreError
from mqttd.store import records

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.durability import Durability

log = Logger()

#: Rows read at once.
PAGE = 100


def hand_over(broker: Broker, durability: Durability, sid: int) -> None:
    """Give the rows of session *sid* to others where that is due, and delete it."""
    Deferred.fromCoroutine(_hand_over(broker, durability, sid)).addErrback(
        lambda failure: log.failure("Messages of a session that ended stay behind", failure)
    )


async def _hand_over(broker: Broker, durability: Durability, sid: int) -> None:
    after = 0
    while True:
        try:
            rows = await durability.store.read(sid, after, PAGE)
        except StoreError as error:
            # The session is still in the store, and is tried again at the next start.
            log.error("A session that ended cannot be read: {error}", error=error)
            return
        if not rows:
            break
        after = rows[-1].seq
        durability.at_once = True
        try:
            for row in rows:
                _pass_on(broker, durability, row)
        finally:
            durability.at_once = False
        durability.delete_rows(sid, tuple(row.seq for row in rows))
    durability.delete_session(sid)


def _pass_on(broker: Broker, durability: Durability, row: StoredRow) -> None:
    qos = records.qos_of(row.state)
    group = broker.router.group(row.share) if row.share else None
    # [MQTT-4.8.2-5] a QoS 2 message that was sent stays with the one it was sent to
    if group is None or (qos == 2 and records.packet_id_of(row.state)):
        broker.metrics.dropped["session-ended"] += 1
        return
    try:
        message = durability.envelopes.decode(row.body)
    except ValueError as error:
        log.error("A message that was kept is damaged, and dropped: {error}", error=error)
        broker.metrics.dropped["damaged"] += 1
        return
    broker.publisher.redistribute(Delivery(message, qos, False, (), group), None)
