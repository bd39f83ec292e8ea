"""What a broker owes to whom: the simple model that the real one is held to.

The model knows sessions, subscriptions and messages, and nothing of packets,
windows or queues. Every payload is published once, so it names its message.
"""

from __future__ import annotations

from collections import Counter

from mqttd.wire.topics import matches

#: Seconds that a session to be kept outlives its connection.
EXPIRY = 10


class ModelSession:
    """A session as its client and an observer of all messages see it."""

    def __init__(self) -> None:
        self.online = True
        #: It outlives its connection; for ``EXPIRY`` seconds, or for ever.
        self.kept = False
        self.for_ever = False
        self.offline_since = 0.0
        self.subscriptions: dict[str, int] = {}
        #: Messages that the broker has routed to it, of every QoS.
        self.routed = 0
        #: QoS 1 and 2 messages that the client has not finished: payload -> QoS.
        self.owed: dict[bytes, int] = {}
        self.received_qos0 = 0
        self.finished = 0
        #: How often the client's application has seen a payload.
        self.seen: Counter[bytes] = Counter()
        #: (topic, QoS) -> number of the last message seen for the first time.
        self.last: dict[tuple[str, int], int] = {}
        #: Payload -> packet id under which it came first.
        self.packet_ids: dict[bytes, int] = {}
        #: QoS 2 packet ids that the client has seen and not seen released.
        self.unreleased: set[int] = set()
        #: The client's own QoS 2 messages that it has not released: id -> (topic, payload).
        self.outstanding: dict[int, tuple[str, bytes]] = {}

    def granted(self, topic: str) -> int | None:
        """QoS of the highest subscription to *topic*; None without any."""
        return max(
            (qos for wanted, qos in self.subscriptions.items() if matches(wanted, topic)),
            default=None,
        )


class Model:
    """All sessions by client id."""

    def __init__(self) -> None:
        self.sessions: dict[str, ModelSession] = {}
        self.now = 0.0

    def route(self, topic: str, payload: bytes, qos: int) -> None:
        for session in self.sessions.values():
            granted = session.granted(topic)
            if granted is None:
                continue
            session.routed += 1
            if min(granted, qos):
                session.owed[payload] = min(granted, qos)

    def detach(self, client_id: str) -> None:
        """The connection of *client_id* has ended."""
        session = self.sessions[client_id]
        session.online = False
        session.offline_since = self.now
        if not session.kept:
            del self.sessions[client_id]

    def overdue(self, client_id: str) -> bool | None:
        """Whether the session must be gone; None: it may be, or not."""
        session = self.sessions[client_id]
        if session.online or session.for_ever:
            return False
        away = self.now - session.offline_since
        # A timer may fire up to a tick late.
        return None if EXPIRY <= away <= EXPIRY + 1 else away > EXPIRY
