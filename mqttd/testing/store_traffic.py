"""Random changes to stores, the same ones to each: what ``store_suite`` compares by."""

from __future__ import annotations

import random
from collections.abc import Sequence

from mqttd.interfaces import IStore, StoredRow, StoredSession, StoredSubscription
from mqttd.store.records import encode_message, row_state

KINDS = {
    "session": 1,
    "end": 0.3,
    "again": 1,
    "message": 4,
    "acknowledge": 3,
    "change": 1,
    "subscribe": 1,
    "unsubscribe": 1,
    "receive": 1,
    "release": 1,
    "retain": 1,
    "forget": 1,
}


class Traffic:
    """Makes one change after another; numbers of sessions are those of the first store."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        #: Session -> its highest ``seq``.
        self.sessions: dict[int, int] = {}
        self._order = 0

    def step(self, stores: Sequence[IStore]) -> None:
        """One change to all of *stores*."""
        (kind,) = self._source.choices(list(KINDS), list(KINDS.values()))
        sid = self._source.choice(list(self.sessions)) if self.sessions else None
        if kind == "session" or sid is None:
            sid = stores[0].new_session_id()
            self.sessions[sid] = 0
            kind = "again"
        number = self._source.randint(1, 9)
        for store, message in zip(stores, self._prepare(kind, sid, len(stores)), strict=True):
            self._change(store, kind, sid, number, message)

    def _prepare(self, kind: str, sid: int, count: int) -> Sequence[tuple[bytes, list[int]]]:
        """A body, and the sessions or rows that the change is about."""
        body = body_of(self._source.randbytes(self._source.choice([0, 10, 5000])))
        chosen: list[int] = []
        if kind == "message":
            chosen = [each for each in self.sessions if self._source.random() < 0.4]
            for each in chosen:
                self.sessions[each] += 1
        elif kind == "acknowledge":
            rows = range(1, self.sessions[sid] + 1)
            chosen = [seq for seq in rows if self._source.random() < 0.3]
        elif kind == "change":
            self._order += 1
            chosen = [self._source.randint(min(1, self.sessions[sid]), self.sessions[sid])]
        elif kind == "end":
            del self.sessions[sid]
        return [(body, chosen)] * count

    def _change(
        self, store: IStore, kind: str, sid: int, number: int, message: tuple[bytes, list[int]]
    ) -> None:
        body, chosen = message
        match kind:
            case "again":
                store.put_session(StoredSession(sid, f"client {sid}", ended_at=float(number)))
            case "end":
                store.delete_session(sid)
            case "message":
                mid = store.put_message(body)
                for each in chosen:
                    row = StoredRow(self.sessions[each], mid, 20, row_state(1), (number,), "")
                    store.put_row(each, row)
            case "acknowledge":
                store.delete_rows(sid, chosen)
            case "change":
                state = row_state(2, packet_id=number, order=self._order)
                store.change_row(sid, chosen[0], state)
            case "subscribe":
                store.put_subscription(sid, StoredSubscription(f"t/{number}", 1, number))
            case "unsubscribe":
                store.delete_subscription(sid, f"t/{number}")
            case "receive":
                store.put_incoming(sid, number)
            case "release":
                store.delete_incoming(sid, number)
            case "retain":
                store.put_retained(f"r/{number}", body)
            case "forget":
                store.delete_retained(f"r/{number}")


def body_of(payload: bytes) -> bytes:
    """A message with *payload*, encoded."""
    return encode_message(b"a/topic", payload, 1, False, created_at=5.0)


def payload_of(row: StoredRow) -> bytes:
    """The payload of a message that ``body_of`` made."""
    return row.body[len(body_of(b"")) :]
