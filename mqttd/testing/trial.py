"""For ``twisted.trial``: a broker on the reactor of the test.

::

    class Tests(BrokerMixin, TestCase):
        async def test_it(self):
            serving = self.start_broker()
            client = await connect("127.0.0.1", serving.port)
            ...
            serving.recorder.select("greeting")
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mqttd.settings import BrokerSettings
from mqttd.testing.serving import Serving

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase

    Base = TestCase
else:
    Base = object


class BrokerMixin(Base):
    """Adds ``start_broker`` to a ``TestCase``."""

    def start_broker(
        self, settings: BrokerSettings | None = None, *, tls: bool = False, **more: Any
    ) -> Serving:
        """A broker that serves until the end of the test; see ``Serving``.

        Its ``recorder`` can be asked, but a test on the reactor's own thread must not
        block in ``wait_for``: give it a *timeout* of 0.
        """
        from twisted.internet import reactor

        folder = None
        if tls:
            temporary = tempfile.TemporaryDirectory()
            self.addCleanup(temporary.cleanup)
            folder = Path(temporary.name)
        serving = Serving(reactor, settings, folder=folder, tls=tls, **more)
        serving.start()
        self.addCleanup(serving.stop)
        return serving
