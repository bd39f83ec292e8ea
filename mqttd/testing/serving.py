"""A real broker on free ports of the loopback interface, for tests.

``Serving`` is a whole ``MQTTBroker`` on whatever reactor it is given, with a recorder
and faults, and a TLS port with certificates of its own if that is wanted. ``live``
runs it in a thread, ``trial`` on the reactor of a trial test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from mqttd.broker.broker import Broker
from mqttd.service import MQTTBroker
from mqttd.settings import BrokerSettings, ListenerSettings, TLSSettings
from mqttd.testing import faults as faulty
from mqttd.testing import recorder as recording
from mqttd.testing.certificates import Authority
from mqttd.testing.faults import Faults
from mqttd.testing.recorder import Recorder

HOST = "127.0.0.1"

#: What tests want of a broker: quick to stop, and nothing said by itself.
QUICK: dict[str, Any] = {"drain_timeout": 1.0, "sys_interval": 0.0}


class Serving:
    """One broker that serves."""

    host = HOST

    def __init__(
        self,
        reactor: Any,
        settings: BrokerSettings | None = None,
        *,
        folder: Path | None = None,
        tls: bool = False,
        port: int = 0,
        tls_port: int = 0,
        **more: Any,
    ) -> None:
        """
        :param settings: without listeners; a listener on a free port takes what they
            say for all of them. Without checkers it lets anyone in.
        :param folder: where certificates are written, for *tls*.
        :param port: for tests that insist on one; 0: a free one. So is *tls_port*.
        :param more: further arguments of ``MQTTBroker``.
        """
        self._reactor = reactor
        self._given = settings
        self._folder = folder
        self._tls = tls
        self._more = more
        self._ports = {"plain": port, "tls": tls_port}
        #: PEM file of the authority that has signed the certificate; "" without TLS.
        self.authority = ""
        self.recorder = Recorder()
        self.faults = Faults()
        self.service: MQTTBroker

    # --- life -------------------------------------------------------------------------

    def start(self) -> None:
        """Listen. Raises ``StartError``; a second start takes the same ports again."""
        self.service = MQTTBroker(self._reactor, self._settings(), **self._more)
        recording.attach(self.broker, self.recorder)
        # Endpoints of TCP listen at once, so the factories are there before a client.
        self.service.startService()
        for listener in self.service.listeners.values():
            faulty.attach(listener.factory, self.faults)
            address: Any = listener.address
            self._ports[listener.name] = address.port

    def stop(self) -> Deferred[None]:
        """Stop; done when nothing is left."""
        return self.service.stopService()

    def _settings(self) -> BrokerSettings:
        settings = self._given or BrokerSettings(**QUICK)
        listener = ListenerSettings(
            f"tcp:{self._ports['plain']}:interface={HOST}",
            "plain",
            allow_anonymous=not self._more.get("checkers"),
            protocol=settings.protocol,
            session=settings.session,
            limits=settings.limits,
        )
        listeners = [listener]
        if self._tls:
            endpoint = f"tcp:{self._ports['tls']}:interface={HOST}"
            # Two endpoints of port 0 would be one listener to the service.
            endpoint += "" if self._ports["tls"] else ":backlog=4096"
            listeners.append(
                evolve(listener, endpoint=endpoint, name="tls", tls=self._certificates())
            )
        return evolve(settings, listeners=tuple(listeners))

    def _certificates(self) -> TLSSettings:
        if self._folder is None:
            raise ValueError("TLS needs a folder for its certificates")
        pem = self._folder / "server.pem"
        if not self.authority:
            authority = Authority("mqttd.testing")
            self.authority = authority.write(self._folder / "authority.pem")
            authority.issue("localhost").write(pem)
        return TLSSettings(certificate=str(pem))

    # --- what it is --------------------------------------------------------------------

    @property
    def broker(self) -> Broker:
        return self.service.broker

    @property
    def port(self) -> int:
        return self._ports["plain"]

    @property
    def tls_port(self) -> int:
        """0 without TLS."""
        return self._ports["tls"]
