"""Clients that keep the truth: what was acknowledged, what came, how often, in which order.

Their memory outlives the broker, as that of a device does: messages that were not
acknowledged are sent again when the broker is back, and packet ids of QoS 2 are
held until they are released. They know nothing of daemons and rounds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

from mqttd.wire.codes import MQTT5
from mqttd.wire.packets import (
    Connack,
    Connect,
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
)
from mqttd.wire.parser import Parser
from mqttd.wire.serializer import serialize

#: (publisher, QoS, number): a message; its payload says the same.
Message = tuple[str, int, int]


class Client:
    """One client, over as many connections as it takes."""

    def __init__(self, client_id: str, version: int, window: int) -> None:
        self.client_id = client_id
        self.version = version
        self.window = window
        #: What the broker did that it must not.
        self.faults: list[str] = []
        #: The broker has said that it keeps the session.
        self.is_kept = False
        self.connected = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None

    async def run(self, port: int) -> None:
        """Connect, and go on until the connection ends."""
        try:
            reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        parser = Parser(1 << 20, server_side=False)
        parser.version = self.version
        properties = Properties()
        if self.version == MQTT5:
            properties["session_expiry_interval"] = 0xFFFF_FFFF
            properties["receive_maximum"] = self.window
        self.send(Connect(self.client_id, self.version, False, properties=properties))
        try:
            while data := await reader.read(65_536):
                parser.feed(data)
                while (packet := parser.next_packet()) is not None:
                    self.handle(packet)
        except OSError:
            pass
        finally:
            self.connected.clear()
            self._writer.close()
            self._writer = None
            self.lost()

    def send(self, *packets: Packet) -> None:
        if self._writer is not None:
            data = b"".join(serialize(packet, self.version) for packet in packets)
            self._writer.write(data)

    def close(self) -> None:
        """Break the connection."""
        if self._writer is not None:
            self._writer.transport.abort()

    def handle(self, packet: Packet) -> None:
        if isinstance(packet, Connack):
            if packet.reason:
                self.faults.append(f"{self.client_id} was refused with {packet.reason}")
                return
            if self.is_kept and not packet.session_present:
                self.faults.append(f"the session of {self.client_id} is lost")
            self.is_kept = True
            self.connected.set()
            self.begun()
        else:
            self.received(packet)

    def begun(self) -> None:
        """The broker has accepted us."""

    def received(self, packet: Packet) -> None:
        raise NotImplementedError

    def lost(self) -> None:
        """The connection has ended."""


class Publisher(Client):
    """Publishes numbered messages of one QoS as fast as its window allows."""

    def __init__(self, client_id: str, version: int, qos: int, window: int = 20) -> None:
        super().__init__(client_id, version, window)
        self.qos = qos
        self.sent = 0
        self.acknowledged: list[Message] = []
        #: Packet id -> the message; None when PUBREC has come.
        self._open: dict[int, Publish | None] = {}
        #: Packet ids that it uses; few are soon used again.
        self.ids = 65_535
        self._last_id = 0
        self.is_stopped = False

    def begun(self) -> None:
        for packet_id, packet in self._open.items():
            if packet is None:
                self.send(Pubrel(packet_id))
            else:
                packet.dup = True
                self.send(packet)
        self.fill()

    def fill(self) -> None:
        fresh: list[Packet] = []
        while len(self._open) < self.window and not self.is_stopped:
            self._last_id = self._last_id % self.ids + 1
            if self._last_id in self._open:
                continue
            self.sent += 1
            payload = f"{self.client_id} {self.qos} {self.sent}".encode()
            packet = Publish(f"kill/{self.client_id}", payload, self.qos, packet_id=self._last_id)
            self._open[self._last_id] = packet
            fresh.append(packet)
        self.send(*fresh)

    @property
    def open(self) -> int:
        """Messages that are not done."""
        return len(self._open)

    @property
    def is_done(self) -> bool:
        return not self._open

    def received(self, packet: Packet) -> None:
        if isinstance(packet, Puback | Pubrec):
            message = self._open.get(packet.packet_id)
            if message is None:
                return
            if packet.reason >= 0x80:
                self.faults.append(f"{self.client_id} was told {packet.reason} to a message")
            self.acknowledged.append(parse(message.payload))
        if isinstance(packet, Pubrec):
            self._open[packet.packet_id] = None
            self.send(Pubrel(packet.packet_id))
        elif isinstance(packet, Puback | Pubcomp):
            self._open.pop(packet.packet_id, None)
            self.fill()


class Subscriber(Client):
    """Receives everything; acknowledges at once, or after a while."""

    def __init__(
        self, client_id: str, version: int, window: int, delay: float, source: Random
    ) -> None:
        super().__init__(client_id, version, window)
        self.delay = delay
        self._source = source
        self.subscribed = asyncio.Event()
        #: In the order of coming, QoS 1 messages as often as they came.
        self.messages: list[Message] = []
        self._held: set[int] = set()

    def begun(self) -> None:
        if not self.subscribed.is_set():
            self.send(Subscribe(1, [SubscriptionRequest("kill/+", 2)]))

    def received(self, packet: Packet) -> None:
        if isinstance(packet, Suback):
            self.subscribed.set()
        elif isinstance(packet, Publish):
            self._take(packet)
        elif isinstance(packet, Pubrel):
            self._held.discard(packet.packet_id)
            self._answer(Pubcomp(packet.packet_id))

    def _take(self, packet: Publish) -> None:
        if packet.qos == 1:
            self.messages.append(parse(packet.payload))
            self._answer(Puback(packet.packet_id))
            return
        if packet.packet_id not in self._held:
            self._held.add(packet.packet_id)
            self.messages.append(parse(packet.payload))
        self._answer(Pubrec(packet.packet_id))

    def _answer(self, packet: Packet) -> None:
        if not self.delay:
            self.send(packet)
            return
        # Of this connection: what is not said before it ends is never said.
        writer = self._writer
        asyncio.get_running_loop().call_later(self.delay, self._say, packet, writer)

    def _say(self, packet: Packet, writer: asyncio.StreamWriter | None) -> None:
        if writer is self._writer:
            self.send(packet)


def parse(payload: bytes) -> Message:
    publisher, qos, number = payload.decode().split()
    return publisher, int(qos), int(number)


def verdict(publishers: list[Publisher], subscribers: list[Subscriber]) -> list[str]:
    """Everything that is wrong; [] when nothing was lost, doubled or disordered."""
    faults = [fault for client in (*publishers, *subscribers) for fault in client.faults]
    for subscriber in subscribers:
        count = Counter(subscriber.messages)
        for publisher in publishers:
            lost = [message for message in publisher.acknowledged if message not in count]
            if lost:
                faults.append(
                    f"{subscriber.client_id} did not get {len(lost)} acknowledged messages "
                    f"of {publisher.client_id}: {[number for _, _, number in lost[:10]]}"
                )
        doubled = [message for message, times in count.items() if message[1] == 2 and times > 1]
        if doubled:
            faults.append(f"{subscriber.client_id} got twice with QoS 2: {doubled[:10]}")
        faults += _disorder(subscriber)
    return faults


def _disorder(subscriber: Subscriber) -> list[str]:
    last: dict[str, int] = {}
    seen: set[Message] = set()
    for message in subscriber.messages:
        publisher, _, number = message
        if message in seen:
            continue
        seen.add(message)
        if number < last.get(publisher, 0):
            return [f"{subscriber.client_id} got {message} after number {last[publisher]}"]
        last[publisher] = number
    return []
