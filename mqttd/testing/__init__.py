"""Helpers for testing what runs on mqttd, and mqttd itself: no sockets, no waiting.

``VirtualBroker`` is a whole broker on a virtual clock; ``VirtualClient`` is a
client of it that does exactly what it is told, the wrong things included::

    broker = VirtualBroker()
    alice = broker.connect("alice")
    bob = broker.connect("bob", version=4)
    bob.subscribe("rooms/+", qos=1)
    alice.publish("rooms/kitchen", b"21.5", qos=1)
    message = bob.expect(Publish, topic="rooms/kitchen", payload=b"21.5")
    bob.acknowledge(message)
    broker.advance(3600)

``ManualStore`` is a durable store whose commits are made by hand.

Nothing in the broker or the network layer may import this package.
"""

from __future__ import annotations

from mqttd.testing.store import ManualStore
from mqttd.testing.transport import MemoryTransport
from mqttd.testing.virtual import VirtualBroker, VirtualClient

__all__ = ["ManualStore", "MemoryTransport", "VirtualBroker", "VirtualClient"]
