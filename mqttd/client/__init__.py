"""An MQTT client on Twisted, for versions 3.1.1 and 5.0.

Programs use ``Client``; bridges do as well. It shares the packets, their parser and
their serializer with the broker (``mqttd.wire``), inboxes and errors with the client
inside the process (``mqttd.messaging``) and what survives with the broker's store
(``mqttd.store``). It knows nothing of the broker.
"""

from __future__ import annotations

from mqttd.client.client import Client
from mqttd.client.endpoints import make_endpoint
from mqttd.client.outgoing import MessageExpired
from mqttd.client.protocol import ConnectionEnded
from mqttd.client.received import Received
from mqttd.client.settings import ClientSettings
from mqttd.messaging import ClientClosed, Inbox, OutgoingFull, Refused

__all__ = [
    "Client",
    "ClientClosed",
    "ClientSettings",
    "ConnectionEnded",
    "Inbox",
    "MessageExpired",
    "OutgoingFull",
    "Received",
    "Refused",
    "make_endpoint",
]
