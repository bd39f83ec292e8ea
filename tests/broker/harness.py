"""The broker core without its network layer: the plainest transport there is.

Tests of ``mqttd.broker`` use it where they want nothing between themselves and
the protocol machine: no limits, no gathering of output, no socket. What a
client sends is parsed and handed on at once, and a resumed connection goes on
reading inside the call, which is the hardest case for whoever resumes it. The
names are those of ``mqttd.testing``, whose broker has the network layer too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from random import Random
from typing import Any, TypeVar, cast

from attrs import evolve
from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from mqttd.access import make_portal
from mqttd.broker.broker import Broker
from mqttd.broker.connection import Connection
from mqttd.broker.pause import PENDING
from mqttd.broker.session import Session
from mqttd.interfaces import (
    FlightEntry,
    IAuthenticationMethod,
    IAuthorizer,
    IPacketWatcher,
    IStore,
    ITransport,
    Peer,
)
from mqttd.settings import BrokerSettings, ListenerSettings, ProtocolSettings, SessionSettings
from mqttd.wire.codes import MAXIMUM_REMAINING_LENGTH, MQTT5
from mqttd.wire.errors import ProtocolViolation
from mqttd.wire.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from mqttd.wire.parser import Parser
from mqttd.wire.serializer import serialize

P = TypeVar("P")

_PROPERTIES = frozenset(Properties.__annotations__)


@implementer(ITransport)
class BareTransport:
    """The network side of one connection."""

    def __init__(self, bare: BareBroker, listener: ListenerSettings, peer: Peer) -> None:
        self.peer = peer
        self.listener = listener
        self.writable = True
        #: Why it is not read; see ``mqttd.broker.pause``.
        self.paused = 0
        #: "" while open; then "closed" or "aborted" by the broker, or "by client".
        self.ending = ""
        self.keep_alive = -1.0
        self.user: str | None = None
        self.arrived = bytearray()
        #: Bytes that the broker wrote after it had closed.
        self.late = b""
        self.written = 0
        self._bare = bare
        self._parser = Parser(listener.protocol.maximum_packet_size)
        self._reading = False
        self.connection = Connection(bare.broker, self)
        self._deadline: IDelayedCall | None = bare.clock.callLater(
            listener.limits.connect_timeout, self._too_late
        )

    @property
    def version(self) -> int:
        return self._parser.version

    # --- for the protocol machine ---------------------------------------------

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        if self.ending:
            self.late += data
        else:
            self.arrived += data
            self.written += len(data)

    def write_now(self, data: bytes) -> None:
        self.write(data)

    def pause(self, reason: int) -> None:
        self.paused |= reason

    def resume(self, reason: int) -> None:
        self.paused &= ~reason
        self.read()

    def close(self, announced: bool = False) -> None:
        self._end("closed")

    def abort(self) -> None:
        self._end("aborted")

    def accepted(
        self, version: int, keep_alive: float, maximum_packet_size: int, user: str | None
    ) -> None:
        self.keep_alive = keep_alive
        self.user = user
        self._no_deadline()

    def watch(self, watcher: IPacketWatcher | None) -> None:
        raise NotImplementedError

    def flight(self) -> tuple[FlightEntry, ...]:
        return ()

    # --- inside -----------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Bytes from the client."""
        if not self.ending:
            self._parser.feed(data)
            self.read()

    def read(self) -> None:
        """Hand on what has been received, as far as nothing pauses us."""
        if self._reading:
            return
        self._reading = True
        try:
            while not self.paused and not self.ending:
                try:
                    packet = self._parser.next_packet()
                except ProtocolViolation as violation:
                    self.connection.violated(violation)
                    return
                if packet is None:
                    return
                self._hand_on(packet)
        finally:
            self._reading = False

    def _hand_on(self, packet: Packet) -> None:
        waiting = self.connection.packet_received(packet)
        if isinstance(waiting, Deferred):
            self.pause(PENDING)
            waiting.addErrback(self._failed)
            waiting.addCallback(lambda _: self.resume(PENDING))

    def _failed(self, failure: Failure) -> None:
        self._bare.errors.append(failure)
        self.abort()

    def lost(self, ending: str) -> None:
        """The network has ended the connection."""
        self._end(ending)

    def _end(self, ending: str) -> None:
        if self.ending:
            return
        self.ending = ending
        self._no_deadline()
        self._bare.clock.callLater(0, self.connection.connection_lost, "lost")

    def _no_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        self.connection.connect_timed_out()


class BareBroker:
    """A broker on a virtual clock that starts at 0."""

    def __init__(
        self,
        settings: BrokerSettings | None = None,
        *,
        authorizer: IAuthorizer | None = None,
        checkers: Iterable[ICredentialsChecker] = (),
        methods: Iterable[IAuthenticationMethod] = (),
        listener: ListenerSettings | None = None,
        store: IStore | None = None,
        clock: Clock | None = None,
    ) -> None:
        settings = settings if settings is not None else BrokerSettings()
        checkers = tuple(checkers)
        self.clock = Clock() if clock is None else clock
        self.broker = Broker(
            settings,
            self.clock,
            portal=make_portal(checkers) if checkers else None,
            authorizer=authorizer,
            methods=methods,
            source=Random(1),
            store=store,
        )
        self.listener = listener or ListenerSettings(
            "memory",
            allow_anonymous=not checkers,
            protocol=settings.protocol,
            session=settings.session,
            limits=settings.limits,
        )
        #: What a handler raised and did not handle.
        self.errors: list[Any] = []
        self.broker.start()

    def advance(self, seconds: float = 0) -> None:
        """Let *seconds* pass, in steps that no timer can be late by."""
        end = self.clock.seconds() + seconds
        self.clock.advance(0)
        while (left := end - self.clock.seconds()) > 1e-9:
            due = min((call.getTime() for call in self.clock.getDelayedCalls()), default=end)
            self.clock.advance(max(0.0, min(left, due - self.clock.seconds())))
        self.clock.advance(0)

    def open(self, version: int = MQTT5, **fields: Any) -> BareClient:
        """A connection on which nothing was sent; *fields* are those of ``Peer``,
        or ``listener`` settings of its own."""
        listener = fields.pop("listener", self.listener)
        fields.setdefault("address", "192.0.2.1")
        return BareClient(self, BareTransport(self, listener, Peer(**fields)), version)

    def connect(
        self, client_id: str = "", version: int = MQTT5, clean_start: bool = True, **fields: Any
    ) -> BareClient:
        """A client that has sent CONNECT; ``connack`` holds the answer, if any.

        *fields* are further fields of ``Connect``, properties by name, or
        ``listener`` and ``certificate_user``.
        """
        where = {
            name: fields.pop(name) for name in ("listener", "certificate_user") if name in fields
        }
        client = self.open(version, **where)
        client.connect(client_id, clean_start, **fields)
        return client

    def session(self, client_id: str) -> Session:
        """The session of *client_id*, which there must be."""
        session = self.broker.sessions.get(client_id)
        assert session is not None, f"no session {client_id!r}"
        return session

    def publish(self, topic: str, payload: bytes = b"", qos: int = 0, **fields: Any) -> None:
        """Publish as the broker itself."""
        fields, properties = _split(fields)
        self.broker.publish(topic, payload, qos, properties=properties, **fields)
        self.advance()

    def stop(self) -> None:
        """End it, and fail if a handler has raised."""
        self.broker.stop()
        errors, self.errors = self.errors, []
        assert errors == []


class BareClient:
    """One connection, from the client's side; it answers only when told to."""

    def __init__(self, bare: BareBroker, transport: BareTransport, version: int) -> None:
        self.bare = bare
        self.transport = transport
        self.version = version
        self.client_id = ""
        self.connack: Connack | None = None
        self._parser = Parser(MAXIMUM_REMAINING_LENGTH + 5, server_side=False)
        self._parser.version = version
        self._received: list[Packet] = []
        self._packet_ids = count(1)

    def __repr__(self) -> str:
        return f"<BareClient {self.client_id!r} version {self.version}>"

    # --- sending ------------------------------------------------------------------

    def send(self, *packets: Packet) -> None:
        """Send *packets* in one piece."""
        self.send_bytes(b"".join(serialize(packet, self.version) for packet in packets))

    def send_bytes(self, data: bytes) -> None:
        self.transport.feed(data)
        self.bare.advance()

    def connect(self, client_id: str = "", clean_start: bool = True, **fields: Any) -> None:
        """Send CONNECT, and take the CONNACK if there is one."""
        fields, properties = _split(fields)
        self.client_id = client_id
        self.send(
            Connect(
                client_id,
                self.version,
                clean_start,
                properties=cast(Properties, properties),
                **fields,
            )
        )
        found = self.take(Connack)
        self.connack = found[0] if found else None
        if self.connack is not None:
            self.client_id = self.connack.properties.get("assigned_client_identifier", client_id)

    def drop(self) -> None:
        """The network breaks."""
        self.transport.lost("by client")
        self.bare.advance()

    def disconnect(self, reason: int = 0, **properties: Any) -> None:
        self.send(Disconnect(reason, cast(Properties, properties)))
        self.drop()

    def next_packet_id(self) -> int:
        return next(self._packet_ids)

    # --- receiving ------------------------------------------------------------------

    @property
    def received(self) -> list[Packet]:
        """What came and was not yet taken."""
        transport = self.transport
        assert not transport.late, f"written after the end: {transport.late!r}"
        self._parser.feed(bytes(transport.arrived))
        transport.arrived.clear()
        while (packet := self._parser.next_packet()) is not None:
            self._received.append(packet)
        return self._received

    @property
    def closed(self) -> bool:
        return self.transport.ending != ""

    def expect(self, packet_type: type[P], **fields: Any) -> P:
        """Take the next packet, which must be of *packet_type* and have *fields*."""
        received = self.received
        assert received, f"{self!r} received nothing, not {packet_type.__name__}"
        packet = received.pop(0)
        assert isinstance(packet, packet_type), f"{self!r} received {packet!r}"
        for name, wanted in fields.items():
            assert getattr(packet, name) == wanted, f"{name} is not {wanted!r}: {packet!r}"
        return packet

    def expect_nothing(self) -> None:
        assert self.received == []

    def expect_closed(self, reason: int | None = None) -> None:
        """The broker has closed; in 5.0 with DISCONNECT and *reason*, if given."""
        assert self.closed, f"{self!r} is not closed: {self.received!r}"
        if reason is not None and self.version >= MQTT5:
            self.expect(Disconnect, reason=reason)
        self.expect_nothing()

    def take(self, packet_type: type[P], **fields: Any) -> list[P]:
        """Take all packets of *packet_type* with *fields*, wherever they stand."""
        found: list[Any] = []
        left: list[Packet] = []
        for packet in self.received:
            fits = isinstance(packet, packet_type) and all(
                getattr(packet, name) == wanted for name, wanted in fields.items()
            )
            (found if fits else left).append(packet)
        self._received = left
        return found

    def messages(self) -> list[Publish]:
        """Take all PUBLISH packets."""
        return self.take(Publish)

    def payloads(self) -> list[bytes]:
        """Take all PUBLISH packets; their payloads."""
        return [message.payload for message in self.messages()]

    def stop_reading(self) -> None:
        """The output is full from here on."""
        self.transport.writable = False

    def start_reading(self) -> None:
        """The output has drained."""
        self.transport.writable = True
        self.transport.connection.resume_delivery()
        self.bare.advance()

    # --- whole exchanges --------------------------------------------------------------

    def subscribe(
        self, *topic_filters: str | SubscriptionRequest, qos: int = 0, **options: Any
    ) -> Suback:
        """SUBSCRIBE and its SUBACK."""
        options, properties = _split(options)
        requests = [
            SubscriptionRequest(wanted, qos, **options) if isinstance(wanted, str) else wanted
            for wanted in topic_filters
        ]
        packet_id = self.next_packet_id()
        self.send(Subscribe(packet_id, requests, cast(Properties, properties)))
        return self._answer(Suback, packet_id)

    def unsubscribe(self, *topic_filters: str) -> Unsuback:
        """UNSUBSCRIBE and its UNSUBACK."""
        packet_id = self.next_packet_id()
        self.send(Unsubscribe(packet_id, list(topic_filters)))
        return self._answer(Unsuback, packet_id)

    def send_publish(self, topic: str, payload: bytes = b"", qos: int = 0, **fields: Any) -> int:
        """PUBLISH alone; returns its packet identifier."""
        fields, properties = _split(fields)
        packet_id = fields.pop("packet_id", 0) or (self.next_packet_id() if qos else 0)
        self.send(
            Publish(
                topic,
                payload,
                qos,
                packet_id=packet_id,
                properties=cast(Properties, properties),
                **fields,
            )
        )
        return int(packet_id)

    def publish(
        self, topic: str, payload: bytes = b"", qos: int = 0, **fields: Any
    ) -> Puback | Pubrec | Pubcomp | None:
        """PUBLISH and its acknowledgements to the end; returns the last one."""
        packet_id = self.send_publish(topic, payload, qos, **fields)
        if qos == 0:
            return None
        if qos == 1:
            return self._answer(Puback, packet_id)
        answer = self._answer(Pubrec, packet_id)
        if answer.reason >= 0x80:
            return answer
        self.send(Pubrel(packet_id))
        return self._answer(Pubcomp, packet_id)

    def acknowledge(self, *messages: Publish) -> None:
        """All that the client has to say to PUBLISHes that it received."""
        for message in messages:
            if message.qos == 1:
                self.send(Puback(message.packet_id))
            elif message.qos == 2:
                self.send(Pubrec(message.packet_id))
                self._answer(Pubrel, message.packet_id)
                self.send(Pubcomp(message.packet_id))

    def authenticate(self, reason: int, data: bytes | None = None, method: str = "toy") -> None:
        """AUTH with *data*."""
        properties = Properties(authentication_method=method)
        if data is not None:
            properties["authentication_data"] = data
        self.send(Auth(reason, properties))

    def _answer(self, packet_type: type[P], packet_id: int) -> P:
        found = self.take(packet_type, packet_id=packet_id)
        assert len(found) == 1, f"{self!r} got {found!r} for {packet_id}; {self._received!r}"
        return found[0]


def settings_with(
    *,
    protocol: dict[str, Any] | None = None,
    session: dict[str, Any] | None = None,
    **fields: Any,
) -> BrokerSettings:
    """Broker settings from fields of its parts."""
    return evolve(
        BrokerSettings(
            protocol=ProtocolSettings(**(protocol or {})),
            session=SessionSettings(**(session or {})),
        ),
        **fields,
    )


def running(bare: BareBroker) -> Iterator[BareBroker]:
    """For fixtures: *bare* until the test ends, without a handler having raised."""
    yield bare
    bare.stop()


def _split(fields: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Fields of a packet, and properties."""
    properties = {name: value for name, value in fields.items() if name in _PROPERTIES}
    others = {name: value for name, value in fields.items() if name not in _PROPERTIES}
    return others, properties
