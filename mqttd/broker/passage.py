"""What an in-process client has where others have the network.

``inprocess`` makes one for each client: it holds the settings and the reasons to pause,
and turns the acknowledgements that the broker writes as bytes, a few each, back into
packets. Nothing else ever comes here in that form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve
from zope.interface import implementer

from mqttd.interfaces import FlightEntry, IPacketWatcher, ITransport, Peer
from mqttd.settings import BrokerSettings, ListenerSettings
from mqttd.wire.codes import MQTT5
from mqttd.wire.parser import Parser

if TYPE_CHECKING:
    from mqttd.broker.inprocess import InProcessClient


def make_settings(settings: BrokerSettings) -> ListenerSettings:
    """The listener's settings of in-process clients, where none are given.

    They are as for all, but topics that begin with "$" are open, $SYS excepted.
    """
    return ListenerSettings(
        "in-process",
        allow_anonymous=True,
        protocol=evolve(settings.protocol, dollar_topics=True, server_reference=""),
        session=settings.session,
        limits=settings.limits,
    )


@implementer(ITransport)
class Passage:
    """The transport of one client."""

    def __init__(self, listener: ListenerSettings) -> None:
        self.peer = Peer("in-process")
        self.listener = listener
        self.version = MQTT5
        self.writable = True
        self.paused = 0
        self.client: InProcessClient
        self._parser = Parser(listener.protocol.maximum_packet_size, server_side=False)
        self._parser.version = MQTT5

    def write(self, data: bytes) -> None:
        # Acknowledgements, of a few bytes each, are all that comes in this form.
        self._parser.feed(data)
        while (packet := self._parser.next_packet()) is not None:
            self.client.answered(packet)

    def write_now(self, data: bytes) -> None:
        self.write(data)

    def pause(self, reason: int) -> None:
        self.paused |= reason

    def resume(self, reason: int) -> None:
        self.paused &= ~reason
        self.client.send_on()

    def close(self, announced: bool = False) -> None:
        """The connection has ended; there is nothing to close."""

    def abort(self) -> None:
        self.client.connection_lost("aborted")

    def accepted(
        self, version: int, keep_alive: float, maximum_packet_size: int, user: str | None
    ) -> None:
        """Nobody has to be watched."""

    def watch(self, watcher: IPacketWatcher | None) -> None:
        self.client.watcher = watcher

    def flight(self) -> tuple[FlightEntry, ...]:
        return ()
