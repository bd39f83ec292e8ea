"""The broker: the parts put together, and what the outside may ask of them.

Whoever embeds, serves or tests mqttd makes one ``Broker``; ``service.py`` does
it for the daemon. The parts know each other through it. It opens nothing and
listens to nothing: connections come from ``net`` or from a test.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from socket import gethostname
from typing import TYPE_CHECKING, Any

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from mqttd.broker.access import AllowAll
from mqttd.broker.delayed import DelayedMessages
from mqttd.broker.durability import Durability
from mqttd.broker.hooks import Hooks
from mqttd.broker.message import Message
from mqttd.broker.metrics import Metrics
from mqttd.broker.publish import PublishService
from mqttd.broker.retained import RetainedStore
from mqttd.broker.revision import Revision
from mqttd.broker.router import Router
from mqttd.broker.sessions import SessionRegistry
from mqttd.broker.timers import TimerWheel
from mqttd.broker.wills import WillService
from mqttd.interfaces import (
    Avatar,
    IAdmission,
    IAuthenticationMethod,
    IAuthorizer,
    IStore,
    Revoked,
)
from mqttd.settings import BrokerSettings, ListenerSettings
from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import Packet, Properties, Will
from mqttd.wire.serializer import passthrough_of

if TYPE_CHECKING:
    from mqttd.broker.connection import Connection
    from mqttd.broker.inbox import Incoming
    from mqttd.broker.inprocess import InProcessClient
    from mqttd.broker.thinning import Thinned

#: Seconds between sweeps for expired retained messages and for retries.
SWEEP_INTERVAL = 1.0


class Broker:
    """One MQTT server: sessions, routing, retained messages, wills."""

    def __init__(
        self,
        settings: BrokerSettings,
        clock: IReactorTime,
        *,
        seconds: Callable[[], float] | None = None,
        portal: Portal | None = None,
        authorizer: IAuthorizer | None = None,
        methods: Iterable[IAuthenticationMethod] = (),
        source: random.Random | None = None,
        store: IStore | None = None,
    ) -> None:
        """
        :param clock: where delayed calls are put; the reactor, or a test's clock.
        :param seconds: monotonic time; the clock's own by default.
        :param portal: who may connect by name; without one nobody is known, and
            listeners that allow the anonymous take every client as anonymous.
        :param authorizer: what they may do; by default everything.
        :param methods: methods of enhanced authentication.
        :param source: of random numbers, for shared subscriptions.
        :param store: keeps what must survive; without one nothing does.
        """
        self.settings = settings
        self.clock = clock
        self.node = settings.node or f"mqttd@{gethostname()}"
        self.wheel = TimerWheel(clock, seconds)
        self.seconds = self.wheel.seconds
        self.metrics = Metrics()
        self.portal = portal
        self.authorizer: IAuthorizer = authorizer or AllowAll()
        #: Who keeps out those who misbehave; None: nobody.
        self.admission: IAdmission | None = None
        self.methods = {method.name: method for method in methods}
        self.source = source or random.Random()
        self.router = Router(strategy=settings.shared_strategy, source=self.source)
        self.retained = RetainedStore(settings.retained, self.seconds, self.metrics)
        self.sessions = SessionRegistry(self)
        self.wills = WillService(self)
        self.delayed = DelayedMessages(self)
        self.publisher = PublishService(self)
        #: What survives, and when it is safe; None where nothing does.
        self.durability: Durability | None = None
        if store is not None and store.durable:
            self.durability = self.retained.durability = Durability(self, store)
        self.revision = Revision(self)
        #: Client id -> connection, from CONNACK to the end.
        self.connections: dict[str, Connection] = {}
        #: Who is told and asked of what happens.
        self.hooks = Hooks(self)
        #: Thinned subscriptions that have something waiting.
        self.thinned: set[Thinned] = set()
        #: Told of each connection that begins, before anything came.
        self.newcomers: list[Callable[[Connection], None]] = []
        #: Told when a client broke the rules, or something of ours broke on one: which
        #: connection, "violation" or "error", what, and the packet if it was one.
        self.failures: list[Callable[[Connection, str, str, Packet | None], None]] = []
        self.maximum_connections = 0
        #: Those of them whose sessions send again what is not acknowledged.
        self.retrying: set[Connection] = set()
        self.started_at = self.seconds()
        self.draining = False
        #: For tests: without it every packet takes the plain way.
        self.use_fast_lane = True

    def start(self) -> None:
        """Begin to keep time; before the first connection.

        Takes up what is in the store, which may take seconds; raises
        ``StoreError`` when that cannot be read.
        """
        self.started_at = self.seconds()
        self.draining = False
        if self.durability is not None:
            self.durability.start()
        self.wheel.call_later(SWEEP_INTERVAL, self._sweep)

    def _sweep(self) -> None:
        self.wheel.call_later(SWEEP_INTERVAL, self._sweep)
        self.retained.purge(self.seconds())
        for connection in list(self.retrying):
            connection.session.retry()

    def rules_changed(self) -> Deferred[int]:
        """The authorizer has other rules, and a new epoch: take away what they do
        not allow any more. Fires with the number of subscriptions that ended."""
        return self.revision.begin()

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> ReasonCode:
        """Publish as the broker itself: no access rule is asked."""
        now = self.seconds()
        properties = properties if properties is not None else Properties()
        expiry = properties.get("message_expiry_interval")
        message = Message(
            topic,
            payload,
            qos,
            retain,
            properties=properties,
            passthrough=passthrough_of(properties) if properties else b"",
            expires_at=None if expiry is None else now + expiry,
            created_at=now,
        )
        return self.publisher.publish(message)

    def client(
        self,
        client_id: str = "",
        *,
        principal: str | None = None,
        superuser: bool = False,
        claims: dict[str, Any] | None = None,
        clean_start: bool = True,
        session_expiry: int = 0,
        will: Will | None = None,
        listener: ListenerSettings | None = None,
        on_message: Callable[[Incoming], Any] | None = None,
        at_once: int = 1,
    ) -> Deferred[InProcessClient]:
        """A client inside the process; fires when it is connected.

        :param client_id: "" for one that nobody else has.
        :param principal: who the access rules take it for; None: anonymous.
        :param superuser: pass every access rule.
        :param claims: what an authorizer may look at.
        :param session_expiry: seconds that the session outlives the client.
        :param listener: bounds, mount point and session settings; by default those
            of the broker, with topics open that begin with "$".
        :param on_message: gets what comes by no subscription that the client has
            made: what waited in a session of before.
        :param at_once: messages that *on_message* may be busy with.

        Fails with ``inprocess.Refused``, as CONNECT would.
        """
        from mqttd.broker.inprocess import open_client

        return open_client(
            self,
            client_id,
            Avatar(principal, superuser, claims=claims or {}),
            clean_start=clean_start,
            session_expiry=session_expiry,
            will=will,
            listener=listener,
            on_message=on_message,
            at_once=at_once,
        )

    def revoke(self, source: str, revoked: Revoked) -> int:
        """End what was there by right of the authenticator *source*; how many connections.

        Their wills are not published: it was not for them to come back.
        """
        ended = 0
        for connection in list(self.connections.values()):
            avatar = connection.guard.avatar
            known = revoked.everyone or avatar.principal in revoked.changed | revoked.removed
            if getattr(avatar, "source", "") == source and known:
                self.wills.disarm(connection.session)
                connection.disconnect(
                    ReasonCode.NOT_AUTHORIZED, "the right to be connected was revoked", "revoked"
                )
                ended += 1
        for session in list(self.sessions):
            if session.principal in revoked.removed and not session.online:
                self.wills.disarm(session)
                self.sessions.end(session)
        return ended

    def drain(self) -> None:
        """Take leave of everyone: wills first, then DISCONNECT 0x8B.

        The connections close by themselves; ``connections`` gets empty.
        """
        self.draining = True
        self.dismiss(list(self.connections.values()))

    def dismiss(self, leaving: Iterable[Connection]) -> None:
        """Take leave of some, as ``drain`` does of all."""
        leaving = [connection for connection in leaving if connection.is_connected]
        for connection in leaving:
            connection.publish_will()
        for connection in leaving:
            connection.disconnect(
                ReasonCode.SERVER_SHUTTING_DOWN, "the server is shutting down", "shutdown"
            )

    def close(self) -> Deferred[None]:
        """Write what is not written, and close the store; no connection is left."""
        self.delayed.stop()
        return succeed(None) if self.durability is None else self.durability.stop()

    def stop(self) -> None:
        """Forget every timer. Connections are the network's to end."""
        for subscription in list(self.thinned):
            subscription.ended()
        self.delayed.stop()
        self.wheel.stop()
