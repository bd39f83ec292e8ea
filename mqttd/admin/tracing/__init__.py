"""Traces: packets of chosen clients, addresses or topics, decoded, to a file or live.

``Traces`` keeps those of one broker; the API and ``mqttctl`` start and end them. It
sees connections by ``ITransport.watch`` and nothing deeper. While none runs nothing
is watched; one by client or address takes the fast lane from those alone that it is
about, one by topic from everybody.

``Flights`` has what the flight recorders keep of every client all the time.
"""

from __future__ import annotations

from mqttd.admin.tracing.flights import Flights
from mqttd.admin.tracing.trace import Trace, TraceError, Wanted
from mqttd.admin.tracing.traces import Traces

__all__ = ["Flights", "Trace", "TraceError", "Traces", "Wanted"]
