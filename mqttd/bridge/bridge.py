"""One bridge: a client here, a client there, and what goes between them.

What goes out waits in the session of the client here, in memory or in the broker's
store, and is acknowledged there when the other broker has it. What comes in is
acknowledged to the other broker when this one has it, and has it safe. So nothing of
QoS 1 or 2 is lost when the link, or either end, breaks; a message may come twice.

Against loops: No Local on both sides, or the bridge bit below MQTT 5.0, keep a message
from coming back over the link that it came by. In rings of bridges with 5.0 each
bridge adds itself to the User Properties of what it passes on, either way, and passes
nothing on twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Any

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqttd.bridge.endpoint import InTurn
from mqttd.bridge.mapping import Mapping
from mqttd.bridge.state import Progress, State
from mqttd.broker import subscribing
from mqttd.broker.inprocess import InProcessClient, make_settings
from mqttd.client import Client, ClientSettings, Received, make_endpoint
from mqttd.messaging import ClientClosed, Inbox
from mqttd.settings_bridge import BridgeSettings, Queue, StartType
from mqttd.wire.codes import MQTT5, MQTT31, MQTT311
from mqttd.wire.packets import Connack, Will

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.inbox import Incoming

log = Logger()

VERSIONS = {"3.1": MQTT31, "3.1.1": MQTT311, "5.0": MQTT5}

#: The User Property that names the bridges which a message has passed, and how many of
#: them are enough.
HOP = "mqttd-hop"
MAXIMUM_HOPS = 16

#: Seconds before what could not be done here is tried again.
PAUSE = 0.5

#: Properties that belong to one hop.
_OF_THE_HOP = frozenset(
    ("topic_alias", "subscription_identifier", "message_expiry_interval", "user_property")
)


class BridgeError(Exception):
    """A bridge that cannot be made of its settings; the text says which and why."""


class Bridge:
    """A bridge."""

    def __init__(
        self, reactor: Any, broker: Broker, settings: BridgeSettings, here: str, where: Any = None
    ) -> None:
        """
        :param here: what this broker is called among the bridges of all.
        :param where: an endpoint in place of the addresses.

        Raises ``BridgeError``.
        """
        self._reactor = reactor
        self._broker = broker
        self.settings = settings
        self._hop = (HOP, f"{here}/{settings.name}")
        self.client_id = settings.client_id or f"{gethostname()}.{settings.name}"
        self.state_topic = settings.state_topic or f"$SYS/broker/connection/{self.client_id}/state"
        #: How far it is on its way to the other side.
        self.progress = Progress(broker.seconds)
        try:
            self._mappings = [Mapping(topic) for topic in settings.topics]
            self._endpoint = self._make_endpoint(where)
            self.remote = Client(reactor, self._endpoint, self._client_settings())
        except (ValueError, OSError) as error:
            raise BridgeError(f"the bridge {settings.name!r}: {error}") from error
        self.remote.on_connected.append(self._connected)
        self.remote.on_disconnected.append(self._disconnected)
        self.local: InProcessClient | None = None
        self._local_waiters: list[Deferred[InProcessClient]] = []
        #: What we are subscribed to on the other side, by filter.
        self._remote_inboxes: dict[str, Inbox[Received]] = {}
        #: It was started, and not stopped.
        self.running = False
        #: The start type "once" has had its connection.
        self.is_over = False
        self._state = b""
        self._idle: IDelayedCall | None = None
        self._pause: IDelayedCall | None = None
        self._stopping_remote: Deferred[None] | None = None
        #: Messages that went out and came in.
        self.sent = self.received = 0
        #: Those that did not, by reason.
        self.dropped: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Bridge {self.settings.name!r}>"

    @property
    def local_id(self) -> str:
        """Its client id here."""
        return f"bridge:{self.settings.name}"

    @property
    def address(self) -> str:
        """The address that it uses, or tries next."""
        return self.settings.addresses[self._endpoint.index]

    def _make_endpoint(self, where: Any) -> InTurn:
        settings = self.settings
        ends = (
            [where]
            if where is not None
            else [
                make_endpoint(
                    self._reactor,
                    each,
                    ca_file=settings.ca_file,
                    certificate=settings.certificate,
                    private_key=settings.private_key,
                    alpn=settings.alpn,
                    bind_address=settings.bind_address,
                )
                for each in settings.addresses
            ]
        )
        return InTurn(ends, self.progress.connecting, self._no_connection)

    def _client_settings(self) -> ClientSettings:
        settings = self.settings
        version = VERSIONS[settings.version]
        will = None
        if settings.notifications == "both":
            will = Will(self.state_topic, b"0", 1, True)
        return ClientSettings(
            self.client_id,
            version,
            settings.user_name or None,
            _read_password(settings.password_file),
            clean_start=settings.clean_start,
            session_expiry=0 if settings.clean_start else settings.session_expiry,
            keep_alive=settings.keep_alive,
            retry_first=settings.retry_first,
            retry_last=settings.retry_last,
            receive_maximum=settings.maximum_inflight,
            maximum_inflight=settings.maximum_inflight,
            maximum_packet_size=settings.maximum_packet_size,
            will=will,
            bridge=settings.bridge_bit and version != MQTT5,
        )

    # --- life ---------------------------------------------------------------------------

    def start(self) -> None:
        """Take up what waits, and connect when that is due."""
        self.running = True
        self._tell_state(b"0")
        self._open_local()
        if self.settings.start is StartType.LAZY:
            self.progress.rest(State.IDLE)
        else:
            self._start_remote()

    def count_on(self, former: Bridge) -> None:
        """Go on with the figures of *former*, in whose place this bridge comes."""
        self.sent, self.received = former.sent, former.received
        self.dropped = former.dropped
        self.progress.attempts = former.progress.attempts
        self.progress.last_error = former.progress.last_error

    def stop(self, successor: BridgeSettings | None = None) -> Deferred[None]:
        """Take leave of both sides; what waits stays where it is.

        :param successor: who goes on with the other side's session: what it does not
            want any more is unsubscribed there, if the link is up.
        """
        self.running = False
        self.progress.rest(State.STOPPED)
        for call in (self._idle, self._pause):
            if call is not None and call.active():
                call.cancel()
        # First: what ends unanswered there is then not acknowledged here.
        if self.local is not None:
            self.local.close()
            self.local = None
        if self.remote.is_connected and successor is not None:
            self._unsubscribe_there(successor)
        if self.remote.is_connected and self.settings.notifications == "both":
            self.remote.publish(self.state_topic, b"0", 0, True).addErrback(lambda f: None)
        if self.remote.running:
            return self._stop_remote()
        return self._stopping_remote or succeed(None)

    def _unsubscribe_there(self, successor: BridgeSettings) -> None:
        wanted = {each.remote_filter for each in map(Mapping, successor.topics) if each.comes_in}
        for topic_filter in self._remote_inboxes.keys() - wanted:
            ending = self.remote.unsubscribe(self._remote_inboxes[topic_filter])
            ending.addErrback(lambda failure: None)

    # --- the side here --------------------------------------------------------------------

    def _open_local(self) -> None:
        settings = self.settings
        own = make_settings(self._broker.settings)
        session = evolve(
            own.session,
            maximum_inflight=settings.maximum_inflight,
            maximum_queued_messages=settings.maximum_queued_messages,
            maximum_queued_bytes=settings.maximum_queued_bytes,
            queue_qos0=settings.queue_qos0,
        )
        on_disk = settings.queue is Queue.DISK
        opening = self._broker.client(
            self.local_id,
            principal=settings.principal or self.local_id,
            clean_start=not on_disk,
            session_expiry=0xFFFFFFFF if on_disk else 0,
            listener=evolve(own, name=self.local_id, session=session),
            on_message=partial(self._out, None),
            at_once=settings.maximum_inflight,
        )
        opening.addCallbacks(self._local_opened, self._local_failed)

    def _local_opened(self, client: InProcessClient) -> None:
        if not self.running:
            client.close()
            return
        self.local = client
        client.when_closed().addCallback(self._local_closed)
        going_out = [mapping for mapping in self._mappings if mapping.goes_out]
        # A session of before may have subscriptions that the settings had then.
        wanted = {mapping.local_filter for mapping in going_out}
        for topic_filter in client.session.subscriptions.keys() - wanted:
            subscribing.remove(self._broker, client.session, topic_filter)
        for mapping in going_out:
            take = partial(self._out, mapping)
            self._subscribe(client, mapping.local_filter, mapping, take, "here")
        waiters, self._local_waiters = self._local_waiters, []
        for each in waiters:
            each.callback(client)

    def _local_failed(self, failure: Failure) -> None:
        self.progress.last_error = f"refused by its own broker: {failure.value}"
        log.error("{bridge} is refused by its own broker: {why}", bridge=self, why=failure.value)
        self._try_local_again()

    def _local_closed(self, reason: str) -> None:
        self.local = None
        if self.running:
            log.warn("{bridge} was closed by its own broker: {reason}", bridge=self, reason=reason)
            self._try_local_again()

    def _try_local_again(self) -> None:
        if self.running and not self._broker.draining:
            self._pause = self._reactor.callLater(self.settings.retry_last, self._open_local)

    def _when_local(self) -> Deferred[InProcessClient]:
        if self.local is not None:
            return succeed(self.local)
        waiting: Deferred[InProcessClient] = Deferred()
        self._local_waiters.append(waiting)
        return waiting

    # --- the other side -------------------------------------------------------------------

    def _start_remote(self) -> None:
        for mapping in self._mappings:
            if mapping.comes_in:
                take = partial(self._in, mapping)
                there = self._subscribe(self.remote, mapping.remote_filter, mapping, take, "there")
                there.addCallback(self._subscribed_there)
        self.remote.startService()

    def _subscribe(
        self, client: Any, topic_filter: str, mapping: Mapping, take: Callable[..., Any], side: str
    ) -> Deferred[Any]:
        asked: Deferred[Any] = client.subscribe(
            topic_filter,
            take,
            qos=mapping.settings.qos,
            at_once=self.settings.maximum_inflight,
            no_local=not topic_filter.startswith("$share/"),
            retain_as_published=True,
            retain_handling=1,
        )
        return asked.addErrback(self._not_subscribed, topic_filter, side)

    def _subscribed_there(self, inbox: Inbox[Received] | None) -> None:
        if inbox is not None:
            self._remote_inboxes[inbox.topic_filter] = inbox

    def _stop_remote(self) -> Deferred[None]:
        stopping = self._stopping_remote = self.remote.stopService()
        return stopping.addBoth(self._remote_stopped)

    def _remote_stopped(self, result: object) -> None:
        self._stopping_remote = None
        self._tell_state(b"0")

    def _connected(self, connack: Connack) -> None:
        log.info("{bridge} is connected to {where}", bridge=self, where=self.address)
        self.progress.connected()
        self._tell_state(b"1")
        if self.settings.notifications == "both":
            told = self.remote.publish(self.state_topic, b"1", 1, True)
            told.addErrback(self._not_told)
        self._busy()

    def _not_told(self, failure: Failure) -> None:
        if not failure.check(ClientClosed):
            log.warn("{bridge} cannot tell its state: {why}", bridge=self, why=failure.value)

    def _disconnected(self, reason: Exception) -> None:
        self._tell_state(b"0")
        self._lost(reason)

    def _no_connection(self, failure: Failure) -> None:
        """Nobody is there; what else goes wrong the client says."""
        if self.running and failure.getErrorMessage() != self.progress.last_error:
            log.warn(
                "{bridge} cannot connect to {where}: {why}",
                bridge=self,
                where=self.address,
                why=failure.getErrorMessage(),
            )
        self._lost(failure.value)

    def _lost(self, reason: object) -> None:
        """An attempt or a connection has ended without our will."""
        if not self.running or not self.remote.running:
            return
        self.progress.failed(reason)
        if self.settings.start is StartType.ONCE and not self.is_over:
            self.is_over = True
            log.warn("{bridge} is over, as it starts once: {reason}", bridge=self, reason=reason)
            self._reactor.callLater(0, self._end_once)

    def _end_once(self) -> None:
        if self.running and self.remote.running:
            self.progress.over()
            self._stop_remote()

    def _tell_state(self, state: bytes) -> None:
        if self.settings.notifications != "none" and state != self._state:
            self._state = state
            self._broker.publish(self.state_topic, state, 1, True)

    def _not_subscribed(self, failure: Failure, topic_filter: str, where: str) -> None:
        if self.running and not failure.check(ClientClosed):
            log.error(
                "{bridge} may not subscribe to {topic_filter} {where}: {why}",
                bridge=self,
                topic_filter=topic_filter,
                where=where,
                why=failure.value,
            )

    # --- lazy ---------------------------------------------------------------------------------

    def _wanted(self) -> None:
        """Messages wait: a lazy bridge connects when there are enough."""
        if (
            self.settings.start is StartType.LAZY
            and self.running
            and not self.remote.running
            and self._stopping_remote is None
            and self.remote.unsent >= self.settings.threshold
        ):
            self._start_remote()

    def _busy(self) -> None:
        """Something has happened: stay for a while."""
        if self.settings.start is not StartType.LAZY:
            return
        if self._idle is not None and self._idle.active():
            self._idle.reset(self.settings.idle_timeout)
        else:
            self._idle = self._reactor.callLater(self.settings.idle_timeout, self._is_idle)

    def _is_idle(self) -> None:
        if self.remote.unsent:
            self._busy()
        elif self.remote.running:
            self.progress.rest(State.IDLE)
            self._stop_remote()

    # --- messages out -------------------------------------------------------------------------

    async def _out(self, mapping: Mapping | None, incoming: Incoming) -> None:
        """Pass on a message from here; it counts as taken when this is over."""
        topic = None if mapping is None else mapping.to_remote(incoming.topic)
        if topic is None:
            # It waited since before; what it was subscribed by may be another now.
            mapping, topic = self._find_out(incoming.topic)
        if mapping is None or topic is None:
            self._drop("unmapped", incoming.topic)
            return
        qos = min(incoming.qos, mapping.settings.qos)
        if not qos and not self.remote.is_connected and not self.settings.queue_qos0:
            self.dropped["offline"] += 1
            return
        properties = self._properties_out(incoming)
        if properties is None:
            self._drop("loop", incoming.topic)
            return
        await self._publish_out(
            topic, incoming, qos, incoming.retain and mapping.settings.retain, properties
        )

    def _find_out(self, topic: str) -> tuple[Mapping | None, str | None]:
        for mapping in self._mappings:
            if mapping.goes_out and (name := mapping.to_remote(topic)) is not None:
                return mapping, name
        return None, None

    async def _publish_out(
        self, topic: str, incoming: Incoming, qos: int, retain: bool, properties: dict[str, Any]
    ) -> None:
        while True:
            try:
                answer = self.remote.publish(topic, incoming.payload, qos, retain, **properties)
                self._wanted()
                await answer
            except ClientClosed:
                if not self.running:
                    return
                # A lazy bridge has just left.
                await deferLater(self._reactor, PAUSE)
            except Exception as error:
                self._drop("refused", topic, error)
                return
            else:
                self.sent += 1
                self._busy()
                return

    def _properties_out(self, incoming: Incoming) -> dict[str, Any] | None:
        """The properties that go along; None where the message has been here."""
        if self.remote.settings.version != MQTT5:
            return {}
        properties = _without_hop(incoming.properties)
        left = incoming.message.remaining(self._broker.seconds())
        if left is not None:
            properties["message_expiry_interval"] = left
        pairs = self._passed(incoming.properties)
        if pairs is None:
            return None
        properties["user_property"] = pairs
        return properties

    def _passed(self, properties: Any) -> list[tuple[str, str]] | None:
        """The User Properties with this bridge; None where it, or too many, stand there."""
        pairs = list(properties.get("user_property", ()))
        if self._hop in pairs or sum(1 for name, _ in pairs if name == HOP) >= MAXIMUM_HOPS:
            return None
        return [*pairs, self._hop]

    # --- messages in --------------------------------------------------------------------------

    async def _in(self, mapping: Mapping, received: Received) -> None:
        """Pass on a message from there; it counts as taken when this is over."""
        topic = mapping.to_local(received.topic)
        if topic is None:
            self._drop("unmapped", received.topic)
            return
        pairs = self._passed(received.properties)
        if pairs is None:
            self._drop("loop", received.topic)
            return
        properties = _without_hop(received.properties)
        if self.remote.settings.version == MQTT5:
            properties["user_property"] = pairs
        expiry = received.properties.get("message_expiry_interval")
        if expiry is not None:
            properties["message_expiry_interval"] = expiry
        qos = min(received.qos, mapping.settings.qos)
        retain = received.retain and mapping.settings.retain
        while True:
            try:
                local = await self._when_local()
                await local.publish(topic, received.payload, qos, retain, **properties)
            except ClientClosed:
                if not self.running:
                    # The link ends as well, and the other side keeps the message.
                    await Deferred[None]()
                await deferLater(self._reactor, PAUSE)
            except Exception as error:
                self._drop("refused-here", topic, error)
                return
            else:
                self.received += 1
                self._busy()
                return

    def _drop(self, reason: str, topic: str, error: object = "") -> None:
        """Count it, and say so the first time."""
        self.dropped[reason] += 1
        if self.dropped[reason] == 1:
            log.warn(
                "{bridge} drops a message on {topic} ({reason}){error}; more are only counted",
                bridge=self,
                topic=topic[:200],
                reason=reason,
                error=f": {error}" if error else "",
            )


def _without_hop(properties: Any) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if name not in _OF_THE_HOP}


def _read_password(path: str) -> bytes | None:
    if not path:
        return None
    return Path(path).read_bytes().split(b"\n", 1)[0].rstrip(b"\r")
