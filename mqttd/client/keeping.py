"""What a client keeps in a store: messages that are not acknowledged, and QoS 2 ids.

``Client`` makes one where it was given a store that survives; ``Outgoing`` and
``Incoming`` tell it of each step. The store is any ``IStore``, in which the client is
one session and each message a row of its queue, as a broker has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from mqttd.interfaces import IStore, StoredRow, StoredSession, StoreError
from mqttd.store.records import (
    decode_message,
    encode_message,
    is_released,
    order_of,
    packet_id_of,
    row_state,
)
from mqttd.wire.packets import Publish
from mqttd.wire.properties import PUBLISH, read_properties, with_length

#: Rows that are read at once.
PAGE = 500


class Keeping:
    """The store of one client."""

    def __init__(self, store: IStore, client_id: str) -> None:
        self._store = store
        self._client_id = client_id
        self._sid = 0
        self._seq = 0
        self._order = 0
        #: Packet ids of QoS 2 messages from the server, as they were found.
        self.incoming: set[int] = set()

    def start(self) -> None:
        """Open the store; blocks. Raises ``StoreError``."""
        found = None
        for restored in self._store.start().sessions:
            if restored.session.client_id == self._client_id:
                found = restored
        if found is None:
            self._sid = self._store.new_session_id()
            self._store.put_session(StoredSession(self._sid, self._client_id))
        else:
            self._sid, self._seq = found.session.sid, found.last_seq
            self.incoming = set(found.incoming)

    def stop(self) -> Deferred[None]:
        return self._store.stop()

    def check(self) -> None:
        """Raises ``StoreError`` while nothing can be kept."""
        if self._store.problem is not None:
            raise StoreError(self._store.problem)

    def when_kept(self, callback: Callable[[], None]) -> None:
        """Call *callback* when all that was said so far is safe."""
        self._store.committed(callback)

    async def load(self) -> list[tuple[int, Publish, bool, float | None]]:
        """What was not acknowledged: ``seq``, message, whether PUBREC has come, and the
        seconds until it expires. Those that were sent come first and have packet ids."""
        sent = await self._store.read_sent(self._sid)
        self._order = max((order_of(row.state) for row in sent), default=0)
        rows, after = list(sent), 0
        known = {row.seq for row in sent}
        while page := await self._store.read(self._sid, after, PAGE):
            after = page[-1].seq
            rows += (row for row in page if row.seq not in known)
        return [self._loaded(row) for row in rows]

    def _loaded(self, row: StoredRow) -> tuple[int, Publish, bool, float | None]:
        message = decode_message(row.body)
        block = with_length(message.passthrough)
        properties, _ = read_properties(block, 0, len(block), PUBLISH, 65_535)
        packet = Publish(
            message.topic,
            message.payload,
            message.qos,
            message.retain,
            packet_id=packet_id_of(row.state),
            properties=properties,
            passthrough=message.passthrough,
        )
        left = None if message.expires_at is None else message.expires_at - self._store.time()
        if left is not None:
            # Outgoing puts in what is left of it.
            properties["message_expiry_interval"] = max(0, int(left))
        return row.seq, packet, is_released(row.state), left

    # --- outgoing ---------------------------------------------------------------------

    def add(self, packet: Publish, size: int, lifetime: float | None) -> int:
        """Keep a message; returns its ``seq``."""
        self._seq += 1
        now = self._store.time()
        expires_at = None if lifetime is None else now + lifetime
        body = encode_message(
            packet.topic.encode(),
            packet.payload,
            packet.qos,
            packet.retain,
            packet.passthrough,
            now,
            expires_at,
        )
        mid = self._store.put_message(body)
        self._store.put_row(
            self._sid, StoredRow(self._seq, mid, size, row_state(packet.qos, packet.retain))
        )
        return self._seq

    def sent(self, seq: int, packet: Publish) -> None:
        """It goes out under its packet id; 0: that means nothing any more."""
        order = 0
        if packet.packet_id:
            self._order += 1
            order = self._order
        state = row_state(packet.qos, packet.retain, packet.packet_id, order)
        self._store.change_row(self._sid, seq, state)

    def released(self, seq: int, packet: Publish) -> None:
        """PUBREC has come."""
        self._order += 1
        state = row_state(packet.qos, packet.retain, packet.packet_id, self._order, True)
        self._store.change_row(self._sid, seq, state)

    def done(self, seq: int) -> None:
        self._store.delete_rows(self._sid, (seq,))

    # --- incoming -----------------------------------------------------------------------

    def took(self, packet_id: int) -> None:
        """A QoS 2 message is handled; it may come again until PUBREL."""
        self._store.put_incoming(self._sid, packet_id)

    def let_go(self, packet_id: int) -> None:
        self._store.delete_incoming(self._sid, packet_id)


def when_kept(keeping: Any, callback: Callable[[], None]) -> None:
    """``keeping.when_kept``; at once where nothing is kept."""
    if keeping is None:
        callback()
    else:
        keeping.when_kept(callback)
