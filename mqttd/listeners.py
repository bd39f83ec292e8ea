"""The listeners of one daemon: opened, changed, closed, and those that fade out.

The service opens them at a start, ``reloading`` brings them to what new settings say,
and an operator closes and opens single ones. What a listener is, ``net`` knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mqttd.net.factory import Network
from mqttd.net.flight import room
from mqttd.net.listener import Listener
from mqttd.settings import ListenerSettings

log = Logger()


class StartError(Exception):
    """The broker could not start; nothing is left listening."""


@frozen
class Reloaded:
    """What a reload did."""

    #: Settings and listeners that are new, gone or different now.
    changed: tuple[str, ...] = ()
    #: Settings that differ and have no effect before a restart.
    restart_needed: tuple[str, ...] = ()
    #: What went wrong; what it concerns is as it was.
    errors: tuple[str, ...] = ()

    def tell(self) -> None:
        """Write it into the log."""
        for error in self.errors:
            log.error("Reload: {error}", error=error)
        if self.restart_needed:
            names = ", ".join(self.restart_needed)
            log.warn("Reload: only a restart changes {names}", names=names)
        log.info("Reload: changed {names}", names=", ".join(self.changed) or "nothing")


class Listeners:
    """All listeners of one daemon."""

    #: What they share; another one after each start.
    network: Network

    def __init__(self, reactor: Any, running: Callable[[], bool]) -> None:
        """:param running: whether the daemon runs, so that one more may be opened."""
        self._reactor = reactor
        self._running = running
        #: Endpoint -> listener.
        self.serving: dict[str, Listener] = {}
        #: Those that were taken away by a reload, while clients remain.
        self._retired: list[Listener] = []
        #: Endpoints that an operator has closed.
        self._closed: set[str] = set()

    def all(self) -> tuple[Listener, ...]:
        """Those that serve, and those that are gone but for their clients."""
        return (*self.serving.values(), *self._retired)

    def record(self, size: int) -> None:
        """Have the flight recorders of connections to come keep *size* bytes."""
        for listener in self.all():
            listener.factory.flight_room = room(size)

    def clear(self) -> None:
        """Forget all; they have been stopped."""
        self.serving.clear()
        self._retired.clear()

    def open_again(self, settings: ListenerSettings) -> Deferred[None]:
        """Listen as *settings* say where it was closed; fails with ``StartError``."""
        self._closed.discard(settings.endpoint)
        return self.open(settings)

    def close(self, endpoint: str) -> None:
        """Listen there no more, until ``open_again`` or a start; its clients stay."""
        self._closed.add(endpoint)
        self._retire(endpoint)

    def _retire(self, endpoint: str) -> Deferred[None]:
        listener = self.serving.pop(endpoint)
        self._retired.append(listener)
        return listener.stop()

    def open(self, settings: ListenerSettings) -> Deferred[None]:
        """Listen as *settings* say; fails with ``StartError``."""
        kind = _site_listener() if settings.endpoint.startswith("site:") else Listener
        listener = kind(self._reactor, self.network, settings)
        self.serving[settings.endpoint] = listener
        opened: Deferred[None] = ensureDeferred(_started(listener, settings))
        return opened.addErrback(self._forget, settings.endpoint)

    def _forget(self, failure: Failure, endpoint: str) -> Failure:
        self.serving.pop(endpoint, None)
        return failure

    def change(
        self, settings: Iterable[ListenerSettings]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Open, change and close listeners; what was done, and what went wrong."""
        changed: list[str] = []
        errors: list[str] = []
        wanted = {each.endpoint: each for each in settings}
        self._retired = [listener for listener in self._retired if listener.connections]
        closing: list[Deferred[None]] = []
        self._closed &= wanted.keys()
        for endpoint in self.serving.keys() - wanted.keys():
            closing.append(self._retire(endpoint))
            changed.append(f"listener {endpoint} closed")
        closed = DeferredList(closing, consumeErrors=True)
        for endpoint, each in wanted.items():
            if endpoint in self._closed:
                continue
            if endpoint not in self.serving:
                self._open_more(each, closed, changed, errors)
                continue
            listener = self.serving[endpoint]
            is_new = listener.settings != each
            try:
                listener.reload(each)
            except Exception as error:
                errors.append(f"listener {endpoint}: {error}")
                continue
            if is_new:
                changed.append(f"listener {endpoint}")
        return tuple(changed), tuple(errors)

    def _open_more(
        self,
        settings: ListenerSettings,
        closed: Deferred[Any],
        changed: list[str],
        errors: list[str],
    ) -> None:
        """Listen at one more endpoint; the lists take what came of it.

        What comes of it later is told by the log.
        """
        results: list[Reloaded] = []
        opening = ensureDeferred(self._opened(settings, closed))
        opening.addCallback(results.append)
        if results:
            changed.extend(results[0].changed)
            errors.extend(results[0].errors)
        else:
            changed.append(f"listener {settings.endpoint} opens when others have closed")
            opening.addCallback(lambda _: results[0].tell())

    async def _opened(self, settings: ListenerSettings, closed: Deferred[Any]) -> Reloaded:
        """Listen, if need be when those that are *closed* are out of the way.

        They may have the same port on another address.
        """
        try:
            try:
                await self.open(settings)
            except StartError:
                if closed.called:
                    raise
                await closed
                if self._running():
                    await self.open(settings)
        except StartError as error:
            return Reloaded(errors=(str(error),))
        return Reloaded(changed=(f"listener {settings.endpoint} opened",))


def _site_listener() -> type[Listener]:
    from mqttd.net.site import SiteListener

    return SiteListener


async def _started(listener: Listener, settings: ListenerSettings) -> None:
    try:
        await listener.start()
    except Exception as error:
        reason: BaseException = getattr(error, "socketError", error)
        text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise StartError(f"cannot listen on {settings.endpoint!r}: {text}") from error
