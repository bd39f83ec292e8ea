"""The MQTT client that programs use: a service that keeps itself connected.

``ClientService`` of Twisted connects and connects again; ``protocol`` is one
connection; ``outgoing``, ``incoming`` and ``subscriptions`` hold what outlives it. Here
they are put together, and here is what a program calls.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from attrs import evolve
from twisted.application.internet import ClientService
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqttd.client.endpoints import make_endpoint
from mqttd.client.incoming import Incoming
from mqttd.client.keeping import Keeping
from mqttd.client.outgoing import Outgoing
from mqttd.client.protocol import ClientProtocol
from mqttd.client.received import Received
from mqttd.client.settings import ClientSettings
from mqttd.client.subscriptions import Subscriptions
from mqttd.interfaces import IClientAuthentication, IStore, StoreError
from mqttd.messaging import ClientClosed, Inbox, make_publish
from mqttd.wire.codes import MQTT5, ReasonCode
from mqttd.wire.errors import ProtocolViolation
from mqttd.wire.packets import (
    Connack,
    Connect,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    SubscriptionRequest,
    Unsuback,
)
from mqttd.wire.properties import encode_properties
from mqttd.wire.topics import check_topic_filter

log = Logger()

#: Seconds that a connection must have lasted for the next attempt to come early again.
STABLE = 30.0


class Client(Service):
    """One client of a broker elsewhere.

    It may be used at once: what is published or subscribed to before it is connected
    waits. Subscriptions that are made before it starts miss nothing of what a session
    of before has kept.
    """

    def __init__(
        self,
        reactor: Any,
        where: Any,
        settings: ClientSettings | None = None,
        *,
        ca_file: str = "",
        certificate: str = "",
        store: Callable[[], IStore] | None = None,
        authentication: IClientAuthentication | None = None,
        on_message: Callable[[Received], Any] | None = None,
        at_once: int = 1,
    ) -> None:
        """
        :param where: ``mqtt://host[:port]``, ``mqtts://...``, an endpoint string, or an
            endpoint.
        :param ca_file: see ``make_endpoint``, also for *certificate*.
        :param store: makes what keeps unacknowledged messages beyond this process, a
            ``mqttd.store.sqlite.SQLiteStore`` with a directory of its own. It needs a
            client id, and in 5.0 a session expiry.
        :param authentication: a method of enhanced authentication (5.0).
        :param on_message: gets what comes by no subscription of this client.
        :param at_once: messages that *on_message* may be busy with.
        """
        settings = settings if settings is not None else ClientSettings()
        if store is not None and not settings.client_id:
            raise ValueError("a store needs a client id that is always the same")
        if authentication is not None and settings.version != MQTT5:
            raise ValueError("methods of authentication need MQTT 5.0")
        self.settings = evolve(settings, client_id=settings.client_id or f"mqttd-{uuid4().hex}")
        self.clock = reactor
        # A real reactor's own time is the wall clock, which may jump.
        self.seconds = reactor.seconds if isinstance(reactor, Clock) else time.monotonic
        self._endpoint = make_endpoint(
            reactor,
            where,
            ca_file=ca_file,
            certificate=certificate,
            timeout=self.settings.connect_timeout,
        )
        self._store = store
        self._authentication = authentication
        self._default = None if on_message is None else Inbox(self, "", 0, on_message, at_once)
        #: Called with CONNACK when it is connected, and with the error when it is not
        #: any more, or could not be.
        self.on_connected: list[Callable[[Connack], Any]] = []
        self.on_disconnected: list[Callable[[Exception], Any]] = []
        #: Why it is not connected; None while it is, or has not tried.
        self.error: Exception | None = None
        #: Messages that no subscription wanted.
        self.unclaimed = 0
        self._keeping: Keeping | None = None
        self._service: ClientService | None = None
        self._protocol: ClientProtocol | None = None
        self._last: ClientProtocol | None = None
        self._connected_at: float | None = None
        self._attempts = 0
        self._has_connected = False
        self._awake: dict[Inbox[Received], None] = {}
        self._turn: IDelayedCall | None = None
        self._arrivals: list[Deferred[Connack]] = []
        self._make_state()

    def _make_state(self) -> None:
        version = self.settings.version
        self._subscriptions = Subscriptions(version)
        self._outgoing = Outgoing(self.settings, self.seconds, self._subscriptions.asked)
        self._subscriptions.next_packet_id = self._outgoing.next_packet_id
        self._incoming = Incoming(self.settings, self._deliver, self._awaits_answers)

    def __repr__(self) -> str:
        return f"<Client {self.client_id!r}>"

    @property
    def client_id(self) -> str:
        return self.settings.client_id

    @property
    def is_connected(self) -> bool:
        return self._protocol is not None

    @property
    def unsent(self) -> int:
        """Messages that were published and are not acknowledged."""
        return len(self._outgoing)

    # --- life ---------------------------------------------------------------------------

    def startService(self) -> None:
        """Open the store, if there is one, and begin to connect.

        Raises ``StoreError``.
        """
        super().startService()  # type: ignore[no-untyped-call]
        factory = Factory.forProtocol(self._build)
        factory.noisy = False
        self._service = ClientService(self._endpoint, factory, self._delay, self.clock)
        if self._store is None:
            self._service.startService()
            return
        self._keeping = Keeping(self._store(), self.client_id)
        self._keeping.start()
        self._outgoing.keeping = self._incoming.keeping = self._keeping
        self._incoming.finished = self._keeping.incoming
        self._outgoing.held = True
        loading = Deferred.fromCoroutine(self._keeping.load())
        loading.addCallbacks(self._loaded, self._not_loaded)

    def _loaded(self, rows: list[Any]) -> None:
        if self._service is not None:
            self._outgoing.restore(rows)
            self._service.startService()

    def _not_loaded(self, failure: Failure) -> None:
        # Not connected without what is owed: packet ids would be used twice.
        self.error = StoreError(f"what was published before cannot be read: {failure.value}")
        log.error("{client}: {error}", client=self, error=self.error)

    def stopService(self) -> Deferred[None]:
        """Take leave. What is not acknowledged stays in the store, if there is one."""
        super().stopService()  # type: ignore[no-untyped-call]
        service, self._service = self._service, None
        if self._last is not None:
            self._last.close()
        stopped: Deferred[Any] = succeed(None)
        if service is not None and service.running:
            stopped = service.stopService()
        return stopped.addCallback(lambda _: self._close())

    def _close(self) -> Deferred[None]:
        error = ClientClosed(f"{self!r} is closed")
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._outgoing.close(error)
        self._subscriptions.close(error)
        arrivals, self._arrivals = self._arrivals, []
        for each in arrivals:
            each.errback(error)
        keeping, self._keeping = self._keeping, None
        self._make_state()
        return succeed(None) if keeping is None else keeping.stop()

    def when_connected(self) -> Deferred[Connack]:
        """Fires with CONNACK when it is connected next; see ``on_disconnected`` for
        failures, after which it goes on trying."""
        waiting: Deferred[Connack] = Deferred()
        if self._protocol is not None:
            waiting.callback(self._connack)
        else:
            self._arrivals.append(waiting)
        return waiting

    def reconnect(self) -> None:
        """Drop the connection that there is, if any, and make another."""
        if self._protocol is not None:
            self._protocol.close()

    # --- publish and subscribe --------------------------------------------------------------

    def publish(
        self,
        topic: str,
        payload: bytes = b"",
        qos: int = 0,
        retain: bool = False,
        **properties: Any,
    ) -> Deferred[int]:
        """Publish; *properties* by the names of ``wire.packets.Properties`` (5.0).

        Fires with the reason code when the server has the message (QoS 0: when it is
        written, QoS 2: when the exchange is over), by whichever connection. To wait for
        it, or for ``room``, is the back-pressure. Fails with ``Refused``,
        ``ClientClosed``, ``MessageExpired``, ``OutgoingFull``, or ``StoreError``.

        :raise ValueError, TypeError: no server could take such a message.
        """
        if properties and self.settings.version != MQTT5:
            raise ValueError("properties need MQTT 5.0")
        packet = make_publish(topic, payload, qos, retain, properties)
        encode_properties(packet.properties)
        try:
            answer = self._outgoing.add(packet)
        except Exception as error:
            return fail(error)
        self._incoming.watch()
        return answer

    def room(self) -> Deferred[None]:
        """Fires when at least half of the queue of messages is free."""
        return self._outgoing.room()

    def kept(self) -> Deferred[None]:
        """Fires when all that was published so far is on disk; at once without a store."""
        waiting: Deferred[None] = Deferred()
        if self._keeping is None:
            waiting.callback(None)
        else:
            self._keeping.when_kept(lambda: waiting.callback(None))
        return waiting

    def subscribe(
        self,
        topic_filter: str,
        callback: Callable[[Received], Any] | None = None,
        *,
        qos: int = 0,
        at_once: int = 1,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
        user_property: list[tuple[str, str]] | None = None,
    ) -> Deferred[Inbox[Received]]:
        """Subscribe, now and on every connection to come; fires at the first SUBACK.

        Messages go to *callback*, one after the other; it may return a Deferred or be
        a coroutine function, and be busy with *at_once* messages. Without one, take
        them by ``get`` or ``async for``. Fails with ``Refused`` or ``ClientClosed``.
        What follows *at_once* needs MQTT 5.0 and is left out below.

        :raise ValueError: it is no Topic Filter.
        """
        if check_topic_filter(topic_filter, 65_536, 65_535) is not None:
            raise ValueError(f"{topic_filter[:80]!r} is not a Topic Filter")
        identifier = self._subscriptions.next_identifier()
        inbox: Inbox[Received] = Inbox(self, topic_filter, identifier, callback, at_once)
        properties: Properties = {"user_property": user_property} if user_property else {}
        request = SubscriptionRequest(
            topic_filter, qos, no_local, retain_as_published, retain_handling
        )
        return self._subscriptions.add(inbox, request, properties)

    def unsubscribe(self, inbox: Inbox[Received]) -> Deferred[int]:
        """End *inbox*; fires with the reason code when the server knows."""
        return self._subscriptions.end(inbox)

    # --- connections -------------------------------------------------------------------------

    def _build(self, address: IAddress | None = None) -> ClientProtocol:
        self._last = ClientProtocol(
            self, self.clock, self.seconds, self.settings, self._connect(), self._authentication
        )
        return self._last

    def _connect(self) -> Connect:
        settings = self.settings
        clean = settings.clean_start and not (settings.version == MQTT5 and self._has_connected)
        return Connect(
            settings.client_id,
            settings.version,
            clean,
            settings.keep_alive,
            settings.will,
            settings.user_name,
            settings.password,
            settings.connect_properties if settings.version == MQTT5 else Properties(),
            settings.bridge,
        )

    def _delay(self, attempt: int) -> float:
        """Seconds before the next attempt; *attempt* counts from each TCP connection,
        so that it does not tell of a server that takes us and lets us go."""
        settings = self.settings
        wait = settings.retry_first * 1.5 ** min(self._attempts, 100)
        self._attempts += 1
        return min(wait, settings.retry_last) * random.uniform(0.9, 1.1)

    def opened(self, protocol: ClientProtocol, connack: Connack) -> None:
        """CONNACK with success has come."""
        if connack.session_present and protocol.asked_clean:
            raise ProtocolViolation(
                ReasonCode.PROTOCOL_ERROR, "a session where a clean start was asked for"
            )
        self._protocol, self._connack, self.error = protocol, connack, None
        self._has_connected = True
        self._connected_at = self.seconds()
        log.info("{client} is connected", client=self)
        self._incoming.open(protocol, connack)
        self._subscriptions.open(protocol, connack)
        self._outgoing.open(protocol, connack)
        arrivals, self._arrivals = self._arrivals, []
        for each in arrivals:
            each.callback(connack)
        self._tell(self.on_connected, connack)

    def ended(self, protocol: ClientProtocol, reason: Exception) -> None:
        """A connection is over, or an attempt."""
        if self._protocol is protocol:
            self._protocol = None
            for part in (self._incoming, self._subscriptions, self._outgoing):
                part.lost()
            since = self._connected_at
            if since is not None and self.seconds() - since >= STABLE:
                self._attempts = 0
        if self._service is not None and str(reason) != str(self.error):
            log.warn("{client} is not connected: {reason}", client=self, reason=reason)
        self.error = reason
        self._tell(self.on_disconnected, reason)

    def _tell(self, listeners: list[Callable[[Any], Any]], value: Any) -> None:
        for each in list(listeners):
            try:
                each(value)
            except Exception:
                log.failure("What listens to {client} has failed", client=self)

    def packet_received(self, packet: Any) -> None:
        """Any packet of an open connection but those of the connection itself."""
        match packet:
            case Publish():
                self._incoming.publish(packet)
            case Puback():
                self._acknowledged(packet, 1)
            case Pubrec() if packet.reason >= 0x80:
                self._acknowledged(packet, 2)
            case Pubrec():
                self._outgoing.received(packet.packet_id)
            case Pubrel():
                self._incoming.released(packet)
            case Pubcomp():
                self._acknowledged(packet, 2)
            case Suback():
                self._subscriptions.suback(packet)
            case Unsuback():
                self._subscriptions.unsuback(packet)

    def _acknowledged(self, packet: Puback | Pubrec | Pubcomp, qos: int) -> None:
        self._outgoing.acknowledged(packet.packet_id, packet.reason, packet.properties, qos)
        self._incoming.watch()

    def writable_again(self) -> None:
        """The network takes more."""
        self._outgoing.pump()

    # --- messages -------------------------------------------------------------------------------

    def _awaits_answers(self) -> bool:
        return bool(self._outgoing.inflight)

    def _deliver(self, packet: Publish, token: tuple[ClientProtocol, int]) -> None:
        received = Received(self, packet, token)
        inboxes = self._subscriptions.find(packet)
        if not inboxes and self._default is not None:
            inboxes = [self._default]
        received.open = len(inboxes) or 1
        for inbox in inboxes:
            inbox.put(received)
            self.wake(inbox)
        if not inboxes:
            self.unclaimed += 1
            received.done()

    def taken(self, received: Received, token: Any) -> None:
        """A message is done with: acknowledge it."""
        self._incoming.taken(received, token)

    def wake(self, inbox: Inbox[Received]) -> None:
        """Let *inbox* hand on what it has, in a turn of its own."""
        self._awake[inbox] = None
        if self._turn is None:
            self._turn = self.clock.callLater(0, self._run)

    def _run(self) -> None:
        self._turn = None
        awake, self._awake = self._awake, {}
        for inbox in awake:
            inbox.run()

    def callback_failed(self) -> None:
        """A callback has failed, which is in the log; the message counts as taken."""
