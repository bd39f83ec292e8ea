"""The broker as a Twisted service: its life from the first port to the last byte.

``MQTTBroker`` is what an application adds to its own services, and what
``tap.py`` gives to twistd. It owns one ``Broker`` and the listeners that bring
it connections; it knows nothing of packets and nothing of configuration files.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import (
    Deferred,
    DeferredList,
    TimeoutError,
    ensureDeferred,
    succeed,
)
from twisted.internet.task import Clock, LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mqttd import __version__
from mqttd.access import Authentication
from mqttd.access.admission import Admission
from mqttd.access.authorizer import AccessControl
from mqttd.access.bans import BanList
from mqttd.access.build import ban_file, change
from mqttd.admin import Admin
from mqttd.admin.http import ControlError, HTTPControl
from mqttd.bridge import BridgeError, Bridges
from mqttd.broker.broker import Broker
from mqttd.config import ConfigError, check_listeners
from mqttd.interfaces import IDaemon, StoreError
from mqttd.listeners import Listeners, Reloaded, StartError
from mqttd.net.factory import Network
from mqttd.net.listener import Listener
from mqttd.net.tls import ServerTLS, TLSError, TLSFactory
from mqttd.plugins import PluginError, Plugins
from mqttd.reloading import reread_users, take_over
from mqttd.settings import OWN_SITE, BrokerSettings, ListenerSettings, TLSSettings
from mqttd.store import make_store
from mqttd.systemd import Supervisor

if TYPE_CHECKING:
    from twisted.cred.checkers import ICredentialsChecker

    from mqttd.interfaces import IAuthenticationMethod, IAuthorizer, IStore

__all__ = ["MQTTBroker", "Reloaded", "StartError", "raise_file_limit"]

log = Logger()

#: Seconds between looks at how many connections a drain still waits for.
DRAIN_TICK = 0.05

#: Seconds that a stop waits for the disk.
STORE_TIMEOUT = 30.0


@implementer(IDaemon)
class MQTTBroker(Service):
    """An MQTT broker with its listeners.

    Starting is all or nothing: when a listener cannot be opened, those already
    open are closed and ``StartError`` is raised. Stopping takes leave of the
    clients within ``settings.drain_timeout`` and cuts who is left.
    """

    name = "mqttd"

    def __init__(
        self,
        reactor: Any,
        settings: BrokerSettings,
        *,
        checkers: Iterable[ICredentialsChecker] = (),
        authorizer: IAuthorizer | None = None,
        methods: Iterable[IAuthenticationMethod] = (),
        plugins: Iterable[object] = (),
        reload: Callable[[], BrokerSettings] | None = None,
        control_socket: str = "",
        supervisor: Supervisor | None = None,
        store: Callable[[], IStore] | None = None,
    ) -> None:
        """
        :param checkers: who may connect by name; any of twisted.cred's.
        :param authorizer: what they may do; by default what the rules of
            ``settings.authorization`` say, and everything without any.
        :param methods: methods of enhanced authentication.
        :param plugins: objects with hooks, besides those of the settings; see
            ``interfaces.IHooks`` and ``IPlugin``.
        :param reload: gives the settings anew; with it SIGHUP means reload.
        :param supervisor: who wants to hear how the service fares: systemd.
        :param control_socket: path of the control socket when the settings name none.
        :param store: makes what keeps sessions and messages; by default as the
            settings say.
        """
        self.reactor = self.clock = reactor
        self.settings = settings
        self._checkers = tuple(checkers)
        if authorizer is not None and settings.authorization:
            raise ValueError("give either an authorizer or settings.authorization, not both")
        self._authorizer = authorizer
        self.methods = tuple(methods)
        self._plugin_objects = tuple(plugins)
        self._reload = reload
        self._control_socket = control_socket
        #: TLS of the control API, where it has its own.
        self._http_tls: ServerTLS | None = None
        self._supervisor = supervisor or Supervisor({})
        self._sign_of_life: LoopingCall | None = None
        self._store = store or (lambda: make_store(reactor, settings))
        #: Fires when the store of a broker that could not start is closed.
        self._closing: Deferred[None] = succeed(None)
        self._previous_handler: Any = None
        self.listening = Listeners(reactor, lambda: bool(self.running))
        self._make_broker()
        self._bound = self._begun = False
        self._stopped = False
        self.start_error: StartError | None = None
        #: Called when a listener fails after startService has returned.
        self.on_start_failure: Callable[[StartError], None] = lambda error: None

    def _make_broker(self) -> None:
        clock = self.reactor
        # A real reactor's own time is the wall clock, which may jump.
        seconds = clock.seconds if isinstance(clock, Clock) else time.monotonic
        #: Who is asked who a client is.
        self.authentication = Authentication(
            clock, self.settings, checkers=self._checkers, seconds=seconds
        )
        #: The rules of the settings; None where a program has an authorizer of its own.
        self.access: AccessControl | None = None
        if self._authorizer is None:
            self.access = AccessControl(clock, seconds)
            change(self.access, self.settings.access, self.settings.authorization)
        self.broker = Broker(
            self.settings,
            clock,
            seconds=seconds,
            portal=self.authentication.portal,
            authorizer=self._authorizer or self.access,
            methods=(*self.methods, *self.authentication.methods),
            store=self._store(),
        )
        #: Who is kept out.
        self.admission = Admission(
            self.settings.abuse,
            BanList(time.time, ban_file(self.settings)),
            self.broker.seconds,
            time.time,
        )
        #: What its listeners share: buckets, and the gathering of output.
        self.network = self.listening.network = Network(self.broker)
        #: Links to other brokers.
        self.bridges = Bridges(self.reactor, self.broker, self.settings.bridges)
        #: What the broker says about itself: $SYS, alarms, statistics.
        self.admin = Admin(self.broker, bridges=self.bridges)
        #: What takes part by hooks.
        self.plugins = Plugins(self.broker, self.settings.plugins, self._plugin_objects)
        #: What operators talk to.
        self.control = HTTPControl(
            self.reactor,
            self,
            self.settings.http,
            self._control_socket,
            self._token_file(),
            self._secure,
            self.settings.log_audit_file,
        )

    def _secure(self, factory: Any) -> Any:
        """*factory* with the TLS of the control API around it; raises ``TLSError``."""
        http = self.settings.http
        self._http_tls_settings = TLSSettings(
            http.certificate, http.private_key, alpn=("http/1.1",)
        )
        self._http_tls = ServerTLS(self._http_tls_settings)
        return TLSFactory(self._http_tls, False, factory, self.reactor)

    def _token_file(self) -> str:
        directory = self.settings.data_directory
        return os.path.join(directory, "http-tokens.json") if directory else ""

    # --- start ------------------------------------------------------------------

    def privilegedStartService(self) -> None:
        """Open the ports, while there may still be the right to."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        self._bind()

    def startService(self) -> None:
        """Take up what is in the store, open the ports if that is not done, and begin.

        Where the ports are open already, nothing is accepted before this is done.
        The store is opened here and not with the ports: it shall belong to the user
        that we run as.
        """
        self._begin()
        self._bind()
        self._open_control()
        super().startService()  # type: ignore[no-untyped-call]
        if self._reload is not None:
            self._watch_hangup()
        log.info(
            "mqttd {version} serves {where}", version=__version__, where=", ".join(self.listeners)
        )
        self._supervisor.ready(self._status())
        if self._supervisor.interval and self._sign_of_life is None:
            # Only now: to make one imports, and so installs, the global reactor.
            self._sign_of_life = LoopingCall(self._supervisor.alive)
            self._sign_of_life.clock = self.reactor
            self._sign_of_life.start(self._supervisor.interval)

    def _bind(self) -> None:
        if self._bound:
            return
        self.check_listeners(self.settings)
        raise_file_limit()
        self._make_anew()
        self._bound = True
        for settings in self.settings.listeners:
            self.listening.open(settings).addErrback(self._bind_failed)
            self._raise_start_error()

    def _make_anew(self) -> None:
        if self._stopped:
            self._make_broker()
            self._stopped = False

    def _begin(self) -> None:
        if self._begun:
            return
        self.check_listeners(self.settings)
        self._make_anew()
        self._begun = True
        self.authentication.start()
        # Before the store: a will that is due is judged by the rules.
        if self.access is not None:
            self.access.start()
        self.admission.start(self.broker)
        try:
            self.broker.start()
            self.admin.start()
            self.plugins.start()
            self.bridges.start()
        except (StoreError, PluginError, BridgeError) as error:
            self._bind_failed(Failure(StartError(str(error))))
            self._raise_start_error()

    def _open_control(self) -> None:
        """Not with the ports: the socket shall belong to the user that we run as."""
        try:
            self.control.start()
        except ControlError as error:
            self._bind_failed(Failure(StartError(str(error))))
            self._raise_start_error()

    def _raise_start_error(self) -> None:
        if self.start_error is not None:
            error, self.start_error = self.start_error, None
            raise error

    def check_listeners(self, settings: BrokerSettings) -> None:
        """:raise ConfigError: where somebody could come in whom nobody knows."""
        check_listeners(settings.listeners, bool(self._checkers or settings.authentication))

    @property
    def listeners(self) -> dict[str, Listener]:
        """Endpoint -> listener."""
        return self.listening.serving

    def open_listener(self, settings: ListenerSettings) -> Deferred[None]:
        """Listen again as *settings* say; fails with ``StartError``."""
        return self.listening.open_again(settings)

    def close_listener(self, endpoint: str) -> None:
        """Listen there no more, until ``open_listener`` or a start; its clients stay."""
        self.listening.close(endpoint)

    def resource(self, name: str) -> Any:
        """A resource for a web site of ``twisted.web`` that speaks MQTT over WebSocket.

        Behind it stands the listener with the endpoint ``site:``*name* of the settings.
        """
        from mqttd.net.site import MQTTResource, find_site

        return MQTTResource(find_site(self.listeners, name))

    def find_websocket(self, path: str) -> Any:
        """What speaks MQTT at *path* of the control API's site: the listener ``site:http``."""
        listener = self.listeners.get(OWN_SITE)
        websocket = None if listener is None else listener.settings.websocket
        if websocket is None or websocket.path != path:
            return None
        return self.resource(OWN_SITE.removeprefix("site:"))

    def _bind_failed(self, failure: Failure) -> None:
        """All or nothing: what is open closes again."""
        error = failure.value
        self.start_error = error if isinstance(error, StartError) else StartError(str(error))
        for listener in self.listeners.values():
            listener.stop()
        self.listeners.clear()
        self.control.stop()
        self.bridges.stop()
        self.plugins.stop()
        if self._begun:
            self.admin.stop()
            self._closing = self.broker.close()
        self.broker.stop()
        self.authentication.stop()
        self.admission.stop()
        if self.access is not None:
            self.access.stop()
        self._bound = self._begun = False
        self._stopped = True
        if self.running:
            # An endpoint that failed later than at once: nobody is there to
            # catch an exception.
            log.critical("{error}", error=self.start_error)
            self.on_start_failure(self.start_error)

    # --- stop -------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Take leave of the clients; done when the last socket is closed."""
        super().stopService()  # type: ignore[no-untyped-call]
        self._unwatch_hangup()
        if self._bound:
            self._supervisor.stopping()
        return ensureDeferred(self._drain()) if self._bound else self._closing

    async def _drain(self) -> None:
        """In this order: no new client, farewell, flush, cut, the store, silence."""
        listeners = self.listening.all()
        closing = DeferredList([listener.stop() for listener in listeners], consumeErrors=True)
        # They take leave themselves; what waits for the other side stays in the store.
        bridges = self.bridges.stop()
        await self._take_leave()
        deadline = self.broker.seconds() + self.settings.drain_timeout
        while self.broker.seconds() < deadline:
            if closing.called and bridges.called and not self._open_connections(listeners):
                break
            await deferLater(self.reactor, DRAIN_TICK)
        if left := self._open_connections(listeners):
            log.warn("{left} connections did not close in time and are cut", left=left)
            for listener in listeners:
                listener.abort()
            await deferLater(self.reactor, 0)
        await self.control.stop()
        await self._stop_plugins(max(DRAIN_TICK, deadline - self.broker.seconds()))
        self.admin.stop()
        await self._close_store()
        self.broker.stop()
        await self.authentication.stop()
        self.admission.stop()
        if self.access is not None:
            self.access.stop()
        self.listening.clear()
        # To the very end: the store may take its time.
        if self._sign_of_life is not None:
            self._sign_of_life.stop()
            self._sign_of_life = None
        self._bound = self._begun = False
        self._stopped = True

    async def _take_leave(self) -> None:
        """Tell the clients to go, some at a time where a spread is wanted."""
        spread = self.settings.drain_spread
        self.broker.draining = True
        begin = self.broker.seconds()
        leaving = list(self.broker.connections.values())
        done = 0
        while done < len(leaving) and (passed := self.broker.seconds() - begin) < spread:
            due = int(len(leaving) * (passed + DRAIN_TICK) / spread)
            self.broker.dismiss(leaving[done:due])
            done = max(done, due)
            await deferLater(self.reactor, DRAIN_TICK)
        self.broker.drain()

    async def _close_store(self) -> None:
        try:
            await self.broker.close().addTimeout(STORE_TIMEOUT, self.reactor)
        except TimeoutError:
            log.error(
                "The store is not written after {seconds} s, and what was not acknowledged "
                "may be lost; is its disk in order?",
                seconds=STORE_TIMEOUT,
            )

    async def _stop_plugins(self, timeout: float) -> None:
        try:
            await self.plugins.stop().addTimeout(timeout, self.reactor)
        except Exception:
            log.warn("A plugin did not stop in time and is left alone")

    @staticmethod
    def _open_connections(listeners: Iterable[Listener]) -> int:
        return sum(listener.connections for listener in listeners)

    # --- reload -----------------------------------------------------------------

    def reload(self) -> Reloaded:
        """Ask for the settings anew and take them over; the log tells the result."""
        self._supervisor.reloading()
        result = self._reloaded()
        self._supervisor.ready(self._status())
        return result

    def _status(self) -> str:
        return f"serves {', '.join(self.listeners)}"

    def _reloaded(self) -> Reloaded:
        if self._reload is None:
            return Reloaded()
        try:
            settings = self._reload()
        except ConfigError as error:
            result = Reloaded(errors=tuple(error.lines()))
        except Exception as error:
            log.failure("The settings could not be read")
            result = Reloaded(errors=(str(error),))
        else:
            result = self.take_over(settings)
        result.tell()
        return result

    def take_over(self, settings: BrokerSettings) -> Reloaded:
        """Change to *settings* as far as that is possible while running."""
        return take_over(self, settings)

    def reread_users(self) -> tuple[str, ...]:
        """Read again who may connect, and end what is not vouched for; what went wrong."""
        return reread_users(self)

    def reload_http_tls(self) -> tuple[str, ...]:
        """Read the certificate of the control API again; what went wrong."""
        if self._http_tls is None:
            return ()
        try:
            self._http_tls.reload(self._http_tls_settings)
        except TLSError as error:
            return (f"certificate of [http]: {error}",)
        return ()

    def _watch_hangup(self) -> None:
        def hangup(number: int, frame: object) -> None:
            self.reactor.callFromThread(self.reload)
            if callable(self._previous_handler):
                self._previous_handler(number, frame)

        self._previous_handler = signal.signal(signal.SIGHUP, hangup)

    def _unwatch_hangup(self) -> None:
        if self._previous_handler is not None:
            signal.signal(signal.SIGHUP, self._previous_handler)
            self._previous_handler = None


def raise_file_limit() -> int:
    """Allow as many open files as the system lets us; a socket is one.

    Returns how many.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            log.warn("The limit of open files stays at {soft}: {error}", soft=soft, error=error)
            return soft
    log.info("Open files allowed: {hard}", hard=hard)
    return hard
