"""Helpers for testing what runs on mqttd, and mqttd itself.

``VirtualBroker`` is a whole broker on a virtual clock, without sockets or waiting;
``VirtualClient`` is a client of it that does exactly what it is told, the wrong
things included::

    broker = VirtualBroker()
    alice = broker.connect("alice")
    bob = broker.connect("bob", version=4)
    bob.subscribe("rooms/+", qos=1)
    alice.publish("rooms/kitchen", b"21.5", qos=1)
    message = bob.expect(Publish, topic="rooms/kitchen", payload=b"21.5")
    bob.acknowledge(message)
    broker.advance(3600)

``LiveBroker`` is a real one on a free port, in a thread; fixtures of pytest
(``pytest_plugin``) and a mixin for trial (``trial``) make it. Both have a
``Recorder`` and ``Faults``. ``ManualStore`` is a durable store whose commits are
made by hand. Nothing in the broker or the network layer may import this
package. Its names are imported when first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mqttd.testing.faults import Faults
    from mqttd.testing.live import LiveBroker
    from mqttd.testing.recorder import Recorded, Recorder
    from mqttd.testing.serving import Serving
    from mqttd.testing.store import ManualStore
    from mqttd.testing.transport import MemoryTransport
    from mqttd.testing.trial import BrokerMixin
    from mqttd.testing.virtual import VirtualBroker, VirtualClient

__all__ = [
    "BrokerMixin",
    "Faults",
    "LiveBroker",
    "ManualStore",
    "MemoryTransport",
    "Recorded",
    "Recorder",
    "Serving",
    "VirtualBroker",
    "VirtualClient",
]

_HOMES = {
    "BrokerMixin": "trial",
    "Faults": "faults",
    "LiveBroker": "live",
    "ManualStore": "store",
    "MemoryTransport": "transport",
    "Recorded": "recorder",
    "Recorder": "recorder",
    "Serving": "serving",
    "VirtualBroker": "virtual",
    "VirtualClient": "virtual",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
