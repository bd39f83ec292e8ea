"""Server-Sent Events: an answer that goes on, for as long as somebody listens.

A handler makes an ``EventStream`` of its call, sends by it, and returns ``stream.begun``.
A listener that is slow is told how many events it missed; it costs no more memory than
a buffer, and nobody's time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from mqttd.admin.http.call import Call
from mqttd.admin.http.site import begin

MEDIA_TYPE = "text/event-stream"

#: Seconds between comments that keep proxies from closing a quiet stream.
HEARTBEAT = 15.0


@implementer(IPushProducer)
class EventStream:
    """One stream to one listener."""

    def __init__(self, call: Call, on_end: Callable[[], Any]) -> None:
        """:param on_end: called once, when the listener has gone."""
        self._request = call.request
        self._clock = call.daemon.clock
        self._on_end: Callable[[], Any] | None = on_end
        self._missed = 0
        #: The listener does not take what it is sent.
        self.paused = False
        #: Called when it does again.
        self.on_resume: Callable[[], Any] = lambda: None
        self._call: IDelayedCall | None = None
        #: For the handler to return.
        self.begun = NOT_DONE_YET
        begin(self._request, MEDIA_TYPE)
        self._request.notifyFinish().addBoth(self._ended)
        self._request.registerProducer(self, True)
        self._write(b": mqttd\n\n")
        self._beat()

    def send(self, event: str, data: Any) -> None:
        """Send *data* as JSON under the name *event*."""
        if self._on_end is None:
            return
        if self.paused:
            self._missed += 1
            return
        if self._missed:
            missed, self._missed = self._missed, 0
            self._event("missed", {"events": missed})
        self._event(event, data)

    def _event(self, event: str, data: Any) -> None:
        # JSON has no line ends, so that nothing in it can end the event.
        self._write(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())

    def _write(self, data: bytes) -> None:
        self._request.write(data)

    def _beat(self) -> None:
        if not self.paused and self._call is not None:
            self._write(b": still here\n\n")
        self._call = self._clock.callLater(HEARTBEAT, self._beat)

    def _ended(self, reason: Failure | None) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()

    # --- IPushProducer ------------------------------------------------------------

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        self.on_resume()

    def stopProducing(self) -> None:
        """The connection is gone; the request tells as well."""
