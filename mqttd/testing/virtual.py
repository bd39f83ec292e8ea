"""A whole broker on a virtual clock, and clients that do as they are told.

Tests and embedders use it to see what a peer would see, without sockets and
without waiting: time moves only by ``VirtualBroker.advance``. A
``VirtualClient`` never answers by itself: no acknowledgement, no PINGREQ, unless
it is told to, so that every way of misbehaving can be tried. Where a client
sees what it did not expect, ``AssertionError`` says what there was instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any, TypeVar, cast

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from mqttd.access import make_portal
from mqttd.broker.broker import Broker
from mqttd.interfaces import IAuthenticationMethod, IAuthorizer, IStore
from mqttd.net.factory import MQTTFactory
from mqttd.plugins import Plugins
from mqttd.settings import BrokerSettings, ListenerSettings
from mqttd.testing.faults import Faults
from mqttd.testing.faults import attach as attach_faults
from mqttd.testing.recorder import Recorder
from mqttd.testing.recorder import attach as attach_recorder
from mqttd.testing.transport import MemoryTransport
from mqttd.wire.codes import MAXIMUM_REMAINING_LENGTH, MQTT5
from mqttd.wire.packets import (
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

#: Names of all properties, to tell them from fields of a packet.
PROPERTIES = frozenset(Properties.__annotations__)


class VirtualClock(Clock):
    """A ``Clock`` that stops at every delayed call on its way."""

    def advance_through(self, seconds: float) -> None:
        """Advance by *seconds*; each call runs at its own time."""
        end = self.seconds() + seconds
        while (due := self._next()) is not None and due <= end:
            self.rightNow = max(due, self.rightNow)
            self.advance(0)
        self.rightNow = end
        self.advance(0)

    def _next(self) -> float | None:
        return min((call.getTime() for call in self.getDelayedCalls()), default=None)


class VirtualBroker:
    """A broker with one listener, to which clients connect in memory."""

    def __init__(
        self,
        settings: BrokerSettings | None = None,
        *,
        authorizer: IAuthorizer | None = None,
        checkers: Iterable[ICredentialsChecker] = (),
        methods: Iterable[IAuthenticationMethod] = (),
        plugins: Iterable[object] = (),
        clock: VirtualClock | None = None,
        store: IStore | None = None,
    ) -> None:
        """
        The listener is the first one in *settings*; without any, a listener
        with the broker-wide settings, which takes anonymous clients unless there
        are *checkers*.

        :param authorizer: what clients may do; by default everything.
        :param store: what survives; ``ManualStore`` commits by hand.
        :param checkers: ``twisted.cred`` checkers of user names and passwords.
        :param methods: methods of enhanced authentication.
        :param plugins: objects with hooks.
        """
        settings = settings if settings is not None else BrokerSettings()
        checkers = tuple(checkers)
        #: Virtual time, which starts at 0.
        self.clock = clock if clock is not None else VirtualClock()
        self.broker = Broker(
            settings,
            self.clock,
            portal=make_portal(checkers) if checkers else None,
            authorizer=authorizer,
            methods=methods,
            store=store,
        )
        self.listener = (
            settings.listeners[0]
            if settings.listeners
            else ListenerSettings(
                "memory",
                allow_anonymous=not checkers,
                protocol=settings.protocol,
                session=settings.session,
                limits=settings.limits,
            )
        )
        self.factory = MQTTFactory(self.broker, self.listener)
        self._ports = count(49_152)
        self._plugins = Plugins(self.broker, settings.plugins, plugins)
        self._faults: Faults | None = None
        self.broker.start()
        self._plugins.start()
        self.factory.doStart()  # type: ignore[no-untyped-call]

    def advance(self, seconds: float = 0) -> None:
        """Let *seconds* pass; every timer runs at its time."""
        self.clock.advance_through(seconds)

    def record(self) -> Recorder:
        """A recorder of what is published from now on, its ``wait_for`` in virtual time.

        To be called before the first client connects; it keeps the fast lane shut.
        """

        def pause(recorder: Recorder, seconds: float) -> float:
            step = min(seconds, 0.5)
            self.advance(step)
            return step

        recorder = Recorder(pause)
        attach_recorder(self.broker, recorder)
        return recorder

    @property
    def faults(self) -> Faults:
        """What shall go wrong on connections that begin from now on."""
        if self._faults is None:
            self._faults = Faults()
            attach_faults(self.factory, self._faults)
        return self._faults

    def open(self, version: int = MQTT5, address: str = "192.0.2.1") -> VirtualClient:
        """A connection on which nothing was sent yet; *version* is what will be."""
        host = IPv4Address("TCP", "192.0.2.254", 1883)
        peer = IPv4Address("TCP", address, next(self._ports))
        transport = MemoryTransport(self.clock, peer, host)
        protocol = self.factory.buildProtocol(peer)
        if protocol is None:
            transport.abortConnection()
        else:
            transport.protocol = protocol
            protocol.makeConnection(transport)
        self.advance()
        return VirtualClient(self, transport, version)

    def connect(
        self, client_id: str = "", version: int = MQTT5, clean_start: bool = True, **fields: Any
    ) -> VirtualClient:
        """A client that has sent CONNECT; its ``connack`` holds the answer, if any.

        *fields* are further fields of ``Connect``, or properties by name.
        """
        client = self.open(version, fields.pop("address", "192.0.2.1"))
        client.connect(client_id, clean_start, **fields)
        return client

    def publish(self, topic: str, payload: bytes = b"", qos: int = 0, **fields: Any) -> None:
        """Publish as the broker itself; *fields*: ``retain``, or properties by name."""
        fields, properties = _split(fields)
        self.broker.publish(topic, payload, qos, properties=properties, **fields)
        self.advance()

    def stop(self) -> None:
        """End every timer of the broker, and its plugins."""
        self._plugins.stop()
        self.factory.doStop()  # type: ignore[no-untyped-call]
        self.broker.stop()


class VirtualClient:
    """One network connection to a ``VirtualBroker``, from the client's side."""

    def __init__(self, broker: VirtualBroker, transport: MemoryTransport, version: int) -> None:
        self.broker = broker
        self.transport = transport
        #: Protocol level that packets are written and read in.
        self.version = version
        self.client_id = ""
        #: The answer to CONNECT, once ``connect`` has seen it.
        self.connack: Connack | None = None
        self._parser = Parser(MAXIMUM_REMAINING_LENGTH + 5, server_side=False)
        self._parser.version = version
        self._received: list[Packet] = []
        self._packet_ids = count(1)

    def __repr__(self) -> str:
        return f"<VirtualClient {self.client_id!r} version {self.version}>"

    # --- sending -----------------------------------------------------------------

    def send(self, *packets: Packet) -> None:
        """Send *packets* in one piece and let the broker work on them."""
        self.send_bytes(b"".join(serialize(packet, self.version) for packet in packets))

    def send_bytes(self, data: bytes) -> None:
        """Send *data* as it is."""
        self.transport.send(data)
        self.broker.advance()

    def connect(self, client_id: str = "", clean_start: bool = True, **fields: Any) -> None:
        """Send CONNECT; see ``VirtualBroker.connect``."""
        fields, properties = _split(fields)
        self.client_id = client_id
        self.send(Connect(client_id, self.version, clean_start, properties=properties, **fields))
        if self.received and isinstance(self._received[0], Connack):
            self.connack = self.expect(Connack)
            assigned = self.connack.properties.get("assigned_client_identifier")
            self.client_id = self.client_id or assigned or ""

    def close(self) -> None:
        """Close the network connection without a word."""
        self.transport.close()
        self.broker.advance()

    def drop(self) -> None:
        """Lose the network connection."""
        self.transport.drop()
        self.broker.advance()

    def disconnect(self, reason: int = 0, **properties: Any) -> None:
        """Send DISCONNECT and close."""
        self.send(Disconnect(reason, cast(Properties, properties)))
        self.close()

    def next_packet_id(self) -> int:
        """1, 2, 3 ..."""
        return next(self._packet_ids)

    # --- receiving ---------------------------------------------------------------

    @property
    def received(self) -> list[Packet]:
        """What came and was not yet taken by ``expect`` or ``take``.

        Raises ``ProtocolViolation`` when the broker has sent what it may not.
        """
        self._parser.feed(self.transport.take())
        while (packet := self._parser.next_packet()) is not None:
            self._received.append(packet)
        return self._received

    @property
    def closed(self) -> bool:
        """The network connection has ended."""
        return self.closed_reason != ""

    @property
    def closed_reason(self) -> str:
        """ "" while open; then "closed" or "aborted" by the broker, or "by client"."""
        return self.transport.ending

    def expect(self, packet_type: type[P], **fields: Any) -> P:
        """Take the next packet, which must be of *packet_type* and have *fields*."""
        received = self.received
        if not received:
            ended = f", and the connection was {self.closed_reason}" if self.closed else ""
            raise AssertionError(
                f"{self!r} expected {packet_type.__name__} and received nothing{ended}"
            )
        packet = received.pop(0)
        if not isinstance(packet, packet_type):
            raise AssertionError(f"{self!r} expected {packet_type.__name__}, not {packet!r}")
        for name, wanted in fields.items():
            found = getattr(packet, name)
            if found != wanted:
                raise AssertionError(
                    f"{self!r} expected {packet_type.__name__} with {name} {wanted!r}, "
                    f"not {found!r}: {packet!r}"
                )
        return packet

    def expect_nothing(self) -> None:
        """Fail if there is anything to be taken."""
        if self.received:
            raise AssertionError(f"{self!r} expected nothing, not {self._received!r}")

    def take(self, packet_type: type[P], **fields: Any) -> list[P]:
        """Take all packets of *packet_type* with *fields*, wherever they stand."""
        found: list[Any] = [
            packet
            for packet in self.received
            if isinstance(packet, packet_type)
            and all(getattr(packet, name) == wanted for name, wanted in fields.items())
        ]
        self._received[:] = [
            packet for packet in self._received if not any(packet is taken for taken in found)
        ]
        return found

    def messages(self) -> list[Publish]:
        """Take all PUBLISH packets."""
        return self.take(Publish)

    def stop_reading(self) -> None:
        """Take nothing from the network any more: the broker's output backs up."""
        self.transport.stop_reading()

    def start_reading(self) -> None:
        """Read again."""
        self.transport.start_reading()
        self.broker.advance()

    # --- whole exchanges -----------------------------------------------------------

    def subscribe(
        self, *topic_filters: str | SubscriptionRequest, qos: int = 0, **options: Any
    ) -> Suback:
        """SUBSCRIBE and its SUBACK; what came besides stays in ``received``.

        *options* are fields of ``SubscriptionRequest``, or properties by name.
        """
        options, properties = _split(options)
        requests = [
            SubscriptionRequest(wanted, qos, **options) if isinstance(wanted, str) else wanted
            for wanted in topic_filters
        ]
        packet_id = self.next_packet_id()
        self.send(Subscribe(packet_id, requests, properties))
        return self._answer(Suback, packet_id)

    def unsubscribe(self, *topic_filters: str, **properties: Any) -> Unsuback:
        """UNSUBSCRIBE and its UNSUBACK."""
        packet_id = self.next_packet_id()
        self.send(Unsubscribe(packet_id, list(topic_filters), cast(Properties, properties)))
        return self._answer(Unsuback, packet_id)

    def publish(
        self, topic: str, payload: bytes = b"", qos: int = 0, **fields: Any
    ) -> Puback | Pubrec | Pubcomp | None:
        """PUBLISH and its acknowledgements to the end; returns the last one.

        *fields* are ``retain``, ``dup`` or ``packet_id``, or properties by name.
        """
        fields, properties = _split(fields)
        packet_id = fields.pop("packet_id", 0) or (self.next_packet_id() if qos else 0)
        self.send(
            Publish(topic, payload, qos, packet_id=packet_id, properties=properties, **fields)
        )
        if qos == 0:
            return None
        if qos == 1:
            return self._answer(Puback, packet_id)
        answer = self._answer(Pubrec, packet_id)
        if answer.reason >= 0x80:
            return answer
        self.send(Pubrel(packet_id))
        return self._answer(Pubcomp, packet_id)

    def acknowledge(self, message: Publish) -> None:
        """All that the client has to say to a PUBLISH that it received."""
        if message.qos == 1:
            self.send(Puback(message.packet_id))
        elif message.qos == 2:
            self.send(Pubrec(message.packet_id))
            self._answer(Pubrel, message.packet_id)
            self.send(Pubcomp(message.packet_id))

    def _answer(self, packet_type: type[P], packet_id: int) -> P:
        found = self.take(packet_type, packet_id=packet_id)
        if len(found) != 1:
            ended = f"; the connection was {self.closed_reason}" if self.closed else ""
            raise AssertionError(
                f"{self!r} expected one {packet_type.__name__} for packet identifier "
                f"{packet_id}, not {found or self._received!r}{ended}"
            )
        return found[0]


def _split(fields: dict[str, Any]) -> tuple[dict[str, Any], Properties]:
    """Fields of a packet, and properties."""
    properties = {name: value for name, value in fields.items() if name in PROPERTIES}
    others = {name: value for name, value in fields.items() if name not in PROPERTIES}
    return others, cast(Properties, properties)
