"""A protocol that measures how long each chunk of input takes to be answered.

The factory makes it for one of so many connections, as ``[http] latency_sample`` says.
"""

from __future__ import annotations

from mqttd.net.protocol import MQTTProtocol


class TimedProtocol(MQTTProtocol):
    """``MQTTProtocol``, with a look at the clock before and after."""

    __slots__ = ()

    def dataReceived(self, data: bytes) -> None:
        broker = self.factory.broker
        began = broker.seconds()
        super().dataReceived(data)
        broker.metrics.processing.observe(broker.seconds() - began)
