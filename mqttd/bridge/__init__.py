"""Bridges: links to other brokers, by which messages go there, come here, or both.

The service makes ``Bridges`` of its settings. A bridge is a client of its own broker
(``Broker.client``) and a client of the other one (``mqttd.client``), and passes on what
either receives; no other part of the broker knows of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList

from mqttd.bridge.bridge import Bridge, BridgeError

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.settings_bridge import BridgeSettings

__all__ = ["Bridge", "BridgeError", "Bridges"]


class Bridges:
    """The bridges of one broker."""

    def __init__(self, reactor: Any, broker: Broker, settings: Iterable[BridgeSettings]) -> None:
        self._reactor = reactor
        self._broker = broker
        self._settings = tuple(settings)
        #: Those that run, by name.
        self.running: dict[str, Bridge] = {}

    def start(self) -> None:
        """Start all. Raises ``BridgeError`` before any of them runs."""
        here = f"{self._broker.settings.node or 'mqttd'}/{token_hex(4)}"
        made = [Bridge(self._reactor, self._broker, each, here) for each in self._settings]
        for bridge in made:
            self.running[bridge.settings.name] = bridge
            bridge.start()

    def stop(self) -> Deferred[Any]:
        """Fires when all have taken leave; does not fail."""
        running, self.running = self.running, {}
        return DeferredList([each.stop() for each in running.values()], consumeErrors=True)
