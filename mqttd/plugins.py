"""Plugins: found by name, made of their settings, started and stopped with a broker.

The configuration asks here for a plugin's class, to read its settings; the service
makes and starts what the settings name. What a plugin is: ``interfaces.IPlugin``.
Nothing here knows what any of them does.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.settings import PluginSettings

log = Logger()

#: Entry points of other distributions, each a class.
GROUP = "mqttd.plugins"

#: What is in the box.
IN_THE_BOX = {
    "rewrite": "mqttd.hooks.rewrite:TopicRewrite",
    "auto-subscribe": "mqttd.hooks.auto_subscribe:AutoSubscribe",
    "delayed": "mqttd.hooks.delayed:DelayedPublish",
    "webhook": "mqttd.hooks.webhook:WebHook",
}


class PluginError(Exception):
    """A plugin that cannot be found, made or started; the text names it and why."""


def find_plugin(use: str) -> Any:
    """The class that *use* names: ``module:Class``, one in the box, an entry point.

    :raise PluginError: there is none.
    """
    name = IN_THE_BOX.get(use, use)
    try:
        if ":" not in name:
            return _by_entry_point(name)
        module, _, attribute = name.partition(":")
        return getattr(import_module(module), attribute)
    except PluginError:
        raise
    except Exception as error:
        # Whatever the module does at import is its own affair.
        raise PluginError(f"cannot be loaded: {type(error).__name__}: {error}") from error


def _by_entry_point(name: str) -> Any:
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted([*IN_THE_BOX, *found]))
        raise PluginError(f"no plugin of that name is installed; there are {known}")
    return found[name].load()


class Plugins:
    """The plugins of one broker."""

    def __init__(
        self, broker: Broker, settings: Iterable[PluginSettings], objects: Iterable[object]
    ) -> None:
        self._broker = broker
        self._settings = tuple(settings)
        self._objects = tuple(objects)
        #: Those that were started, in order.
        self.running: list[Any] = []

    def start(self) -> None:
        """Make and start all; none is left when one fails.

        :raise PluginError: that says which.
        """
        for plugin in self._objects:
            self._start(plugin, type(plugin).__name__, 0)
        for settings in self._settings:
            self._start(self._make(settings), settings.use, settings.priority)

    def _make(self, settings: PluginSettings) -> Any:
        try:
            kind = find_plugin(settings.use)
            return kind() if settings.settings is None else kind(settings.settings)
        except Exception as error:
            self._fail(settings.use, error)

    def _start(self, plugin: Any, name: str, priority: int) -> None:
        try:
            if hasattr(plugin, "start"):
                plugin.start(self._broker)
            self._broker.hooks.add_plugin(plugin, priority)
        except Exception as error:
            self._fail(name, error)
        self.running.append(plugin)

    def _fail(self, name: str, error: Exception) -> Any:
        self.stop()
        raise PluginError(f"the plugin {name!r} cannot be used: {error}") from error

    def stop(self) -> Deferred[Any]:
        """Stop those that run, the last first; fires when all have, and never fails."""
        running, self.running = self.running, []
        stopping = []
        for plugin in reversed(running):
            self._broker.hooks.remove_plugin(plugin)
            if hasattr(plugin, "stop"):
                stopped: Deferred[Any] = maybeDeferred(plugin.stop)
                stopped.addErrback(self._not_stopped, plugin)
                stopping.append(stopped)
        return DeferredList(stopping)

    def _not_stopped(self, failure: Any, plugin: object) -> None:
        log.failure("The plugin {plugin!r} failed to stop", failure, plugin=plugin)
        self._broker.metrics.errors["plugin"] += 1
