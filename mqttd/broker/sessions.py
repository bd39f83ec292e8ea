"""The registry of sessions: one per client id, each with an owner.

The handshake claims a session here, the protocol machine gives it back when the
connection ends. A session belongs to the principal that made it; another one
neither resumes nor ends it. When a session ends, everything that hangs on it
goes: subscriptions, will, undelivered messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mqttd.broker.durable_session import DurableSession
from mqttd.broker.session import Session
from mqttd.settings import SessionSettings
from mqttd.wire.codes import ReasonCode

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker


class ClaimRefused(Exception):
    """The session can not be had; ``reason`` says why."""

    def __init__(self, reason: ReasonCode, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


class SessionRegistry:
    """Client id -> session."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._sessions: dict[str, Session] = {}
        self.maximum = 0
        #: Sessions whose client is away.
        self.offline = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def __contains__(self, client_id: str) -> bool:
        return client_id in self._sessions

    def get(self, client_id: str) -> Session | None:
        return self._sessions.get(client_id)

    def check(
        self, client_id: str, principal: str | None, expiry: int | None, mount_point: str = ""
    ) -> None:
        """Whether *principal* may have the session of *client_id*; costs nobody
        anything.

        Raises ``ClaimRefused`` when it belongs to somebody else, or when there
        are too many sessions without a connection to keep another one.
        """
        session = self._sessions.get(client_id)
        settings = self._broker.settings
        if session is not None:
            if session.principal != principal and not settings.share_sessions:
                raise ClaimRefused(
                    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
                    "the client identifier belongs to another user",
                )
            if session.mount_point != mount_point:
                raise ClaimRefused(
                    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
                    "the client identifier belongs to another mount point",
                )
        elif expiry != 0 and 0 < settings.maximum_offline_sessions <= self.offline:
            raise ClaimRefused(ReasonCode.QUOTA_EXCEEDED, "too many sessions are kept")

    def claim(
        self,
        client_id: str,
        principal: str | None,
        clean_start: bool,
        settings: SessionSettings,
        expiry: int | None = 0,
    ) -> tuple[Session, bool]:
        """The session for a new connection, and whether it was there before.

        With an *expiry* other than 0 it survives the broker, where there is a store.

        ``check`` has passed, and no connection holds the session any more.
        """
        session = self._sessions.get(client_id)
        if session is not None and clean_start:  # [MQTT-3.1.4-4] [MQTT311-3.1.4-3]
            self.end(session)  # [MQTT-3.1.2-4] [MQTT311-3.1.2-6]
            session = None
        if session is not None:  # [MQTT-3.1.2-5] [MQTT311-3.1.2-4]
            self.offline -= 1
            session.change_settings(settings)
            session.principal = principal
            self._tell("session_resumed", session)
            return session, True
        durability = self._broker.durability
        if expiry == 0 or durability is None:
            session = Session(self._broker, client_id, principal, settings)  # [MQTT-3.1.2-6]
        else:
            sid = durability.store.new_session_id()
            session = DurableSession(self._broker, client_id, principal, settings, durability, sid)
        self._sessions[client_id] = session  # [MQTT-3.1.3-2] [MQTT311-3.1.3-2]
        self.maximum = max(self.maximum, len(self._sessions))
        self._tell("session_created", session)
        return session, False

    def _tell(self, event: str, session: Session) -> None:
        hooks = self._broker.hooks
        if chain := getattr(hooks, event):
            hooks.tell(chain, session)

    def adopt(self, session: Session) -> None:
        """*session* was found in the store; its client is away."""
        self._sessions[session.client_id] = session
        self.offline += 1

    def release(self, session: Session) -> None:
        """The connection of *session* ended: keep it as long as it was asked."""
        session.detach()
        self.offline += 1
        if session.expiry == 0 or 0 < self._broker.settings.maximum_offline_sessions < self.offline:
            self.end(session)
        elif session.expiry is not None:  # [MQTT-3.1.2-23] [MQTT-4.1.0-2]
            self.expire_in(session, session.expiry)

    def expire_in(self, session: Session, delay: float) -> None:
        """End *session* after *delay* seconds, if its client is not back by then."""
        session.expiry_timer = self._broker.wheel.call_later(delay, self._expire, session)

    def keep_for(self, session: Session, seconds: int) -> None:
        """Let *session*, whose client is away, end after *seconds* from now, whatever
        was asked."""
        session.expiry = seconds
        if session.expiry_timer is not None:
            session.expiry_timer.cancel()
        self.expire_in(session, seconds)
        if isinstance(session, DurableSession):
            session.left()

    def _expire(self, session: Session) -> None:
        # [MQTT-4.1.0-1] [MQTT311-4.1.0-1] [MQTT311-4.1.0-2]
        if self._sessions.get(session.client_id) is session and not session.online:
            self._broker.metrics.sessions_expired += 1
            self.end(session, "session_expired")

    def end(self, session: Session, event: str = "session_discarded") -> None:
        """Forget *session*, which has no connection, and all that hangs on it.

        *event* is what hooks are told.
        """
        broker = self._broker
        del self._sessions[session.client_id]
        self.offline -= 1
        if session.expiry_timer is not None:
            session.expiry_timer.cancel()
        broker.router.remove_session(session)
        if session.durable:
            session.end()
        session.subscriptions.clear()  # [MQTT311-3.1.2-7] retained messages stay
        for packet_id, delivery in session.drain():
            if delivery.group is not None and not (packet_id and delivery.qos == 2):
                broker.publisher.redistribute(
                    delivery, session
                )  # [MQTT-4.8.2-5] not QoS 2 once sent
            else:
                session.drop(delivery, "session-ended")
        broker.wills.fire(session)  # [MQTT-3.1.3-9] the delay ends with the session
        self._tell(event, session)
