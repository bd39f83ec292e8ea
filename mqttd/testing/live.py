"""A real broker in a thread, for tests whose clients block or have a loop of their own.

The broker's reactor is a private one: it is not installed as Twisted's global reactor,
so that a test program may use that, or asyncio, or neither, as if there were no
broker. One thread serves all brokers of a process. ``LiveBroker`` is the handle, whose
methods may be called from any thread but the reactor's own.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Lock, Thread, current_thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from mqttd.settings import BrokerSettings
from mqttd.testing.faults import Faults
from mqttd.testing.recorder import Recorded, Recorder
from mqttd.testing.serving import Serving

T = TypeVar("T")

#: Seconds that a call into the reactor's thread may take.
TIMEOUT = 30.0


def make_reactor() -> Any:
    """A reactor that is nobody else's."""
    reactor: Any
    try:
        from twisted.internet.epollreactor import EPollReactor

        reactor = EPollReactor()
    except ImportError:
        from twisted.internet.selectreactor import SelectReactor

        reactor = SelectReactor()
    # The thread that Twisted calls its own shall stay that of the global reactor.
    reactor._registerAsIOThread = False
    return reactor


class ReactorThread:
    """A reactor in a daemon thread."""

    def __init__(self) -> None:
        self.reactor = make_reactor()
        self._thread = Thread(target=self._run, name="mqttd.testing", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.reactor.run(installSignalHandlers=False)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def call(self, function: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """Call *function* there, wait for it, and for the Deferred that it returns.

        Raises what it raises, and ``TimeoutError`` after half a minute.
        """
        if current_thread() is self._thread:
            raise RuntimeError("a callback of the broker would wait for itself here")
        future: Future[Any] = Future()

        def call() -> None:
            # Nobody waits any more for one that comes too late.
            maybeDeferred(function, *arguments, **more).addCallbacks(
                future.set_result, lambda failure: future.set_exception(_error(failure))
            )

        self.reactor.callFromThread(call)
        return future.result(TIMEOUT)

    def stop(self) -> None:
        """End the thread. Brokers that still run are cut."""
        if self._thread.is_alive():
            self.reactor.callFromThread(self.reactor.stop)
            self._thread.join(TIMEOUT)


def _error(failure: Failure) -> BaseException:
    return failure.value or RuntimeError("failed without a reason")


_lock = Lock()
_threads: list[ReactorThread] = []


def reactor_thread() -> ReactorThread:
    """The thread that serves the brokers of this process; made when first asked for."""
    with _lock:
        if not _threads:
            _threads.append(ReactorThread())
        return _threads[0]


def stop_thread() -> None:
    """End that thread, if there is one."""
    with _lock:
        thread = _threads.pop() if _threads else None
    if thread is not None:
        thread.stop()


class LiveBroker:
    """A broker on a free port, with another one for TLS if wanted.

    It may be used as a context manager.
    """

    def __init__(
        self,
        settings: BrokerSettings | None = None,
        *,
        folder: Path | None = None,
        tls: bool = False,
        **more: Any,
    ) -> None:
        """See ``serving.Serving`` for the arguments. The broker runs at once."""
        self._thread = reactor_thread()
        self._serving = Serving(self._thread.reactor, settings, folder=folder, tls=tls, **more)
        self._running = False
        self.start()

    def __repr__(self) -> str:
        return f"<LiveBroker {self.host}:{self.port}{'' if self._running else ', stopped'}>"

    def __enter__(self) -> LiveBroker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # --- life -------------------------------------------------------------------------

    def start(self) -> None:
        """Serve, on the ports of before; without effect when it runs."""
        if not self._running:
            self._thread.call(self._serving.start)
            self._running = True

    def stop(self) -> None:
        """Take leave of the clients and close the ports."""
        if self._running:
            self._running = False
            if self._thread.is_alive:  # else it was cut with it
                self._thread.call(self._serving.stop)

    def restart(self) -> None:
        """Stop and serve anew, with nothing left of sessions and retained messages."""
        self.stop()
        self.start()

    # --- where it is ------------------------------------------------------------------

    @property
    def host(self) -> str:
        return self._serving.host

    @property
    def port(self) -> int:
        return self._serving.port

    @property
    def tls_port(self) -> int:
        """0 without TLS."""
        return self._serving.tls_port

    @property
    def authority(self) -> str:
        """PEM file of the authority behind the TLS port; "" without TLS."""
        return self._serving.authority

    @property
    def url(self) -> str:
        return f"mqtt://{self.host}:{self.port}"

    # --- what happens at it -------------------------------------------------------------

    @property
    def recorder(self) -> Recorder:
        """Everything that was published."""
        return self._serving.recorder

    @property
    def faults(self) -> Faults:
        """What shall go wrong."""
        return self._serving.faults

    def wait_for(self, *arguments: Any, **more: Any) -> Recorded:
        """``recorder.wait_for``."""
        __tracebackhide__ = True
        return self.recorder.wait_for(*arguments, **more)

    def publish(
        self,
        topic: str,
        payload: bytes | str = b"",
        qos: int = 0,
        retain: bool = False,
        **properties: Any,
    ) -> None:
        """Publish as the broker itself."""
        data = payload.encode() if isinstance(payload, str) else payload
        self.call(
            lambda: self._serving.broker.publish(topic, data, qos, retain, properties or None)  # type: ignore[arg-type]
        )

    def clients(self) -> list[str]:
        """The client ids that are connected."""
        return self.call(lambda: list(self._serving.broker.connections))

    def subscriptions(self, client_id: str) -> list[str]:
        """The filters that a session subscribes to; none if there is no session."""

        def find() -> list[str]:
            session = self._serving.broker.sessions.get(client_id)
            return [] if session is None else list(session.subscriptions)

        return self.call(find)

    def retained(self, topic: str) -> bytes | None:
        """The payload that is retained on *topic*."""

        def find() -> bytes | None:
            message = self._serving.broker.retained.get(topic)
            return None if message is None else message.payload

        return self.call(find)

    def kick(self, client_id: str) -> None:
        """End the connection of *client_id*, which is told so in 5.0."""
        self.call(lambda: self._serving.broker.connections[client_id].kick("kicked by a test"))

    def drop(self, client_id: str) -> None:
        """Cut the connection of *client_id* without a word."""
        self.call(lambda: self._serving.broker.connections[client_id].transport.abort())

    def call(self, function: Callable[[], Deferred[T] | T]) -> T:
        """Call *function* in the broker's thread; for what this class does not offer."""
        result: T = self._thread.call(function)
        return result

    @property
    def broker(self) -> Any:
        """The broker itself. It belongs to its thread: use it inside ``call`` only."""
        return self._serving.broker
