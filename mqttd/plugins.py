"""Plugins: found by name, made of their settings, started and stopped with a broker.

The configuration asks here for a plugin's class, to read its settings; the service
makes and starts what the settings name, and an operator may change that while it
runs. What a plugin is: ``interfaces.IPlugin``. Nothing here knows what any of them does.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import entry_points
from itertools import chain, count
from typing import TYPE_CHECKING, Any

from attrs import frozen
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


#: Seconds that a plugin has to stop when an operator unloads it.
STOP_TIMEOUT = 10.0


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


def offered() -> set[str]:
    """The names of the plugins that are installed."""
    return {*IN_THE_BOX, *(point.name for point in entry_points(group=GROUP))}


@frozen(eq=False)
class RunningPlugin:
    """A plugin that was started."""

    #: What ``use`` says, or the class of a program's object; with a number where
    #: another one has the name.
    name: str
    plugin: Any
    priority: int = 0
    #: What it was made of; None: it is an object of the program.
    settings: PluginSettings | None = None


class Plugins:
    """The plugins of one broker."""

    def __init__(
        self, broker: Broker, settings: Iterable[PluginSettings], objects: Iterable[object]
    ) -> None:
        self._broker = broker
        self._settings = tuple(settings)
        self._objects = tuple(objects)
        #: Those that were started, in order.
        self.running: list[RunningPlugin] = []
        self._begun = False

    def start(self) -> None:
        """Make and start all; none is left when one fails.

        :raise PluginError: that says which.
        """
        self._begun = True
        try:
            for plugin in self._objects:
                self._start(plugin, type(plugin).__name__)
            for settings in self._settings:
                self.load(settings)
        except PluginError:
            self.stop()
            raise

    def stop(self) -> Deferred[Any]:
        """Stop those that run, the last first; fires when all have, and never fails."""
        self._begun = False
        running, self.running = self.running, []
        return DeferredList([self._stop(each) for each in reversed(running)])

    # --- while the broker runs ---------------------------------------------------------

    @property
    def allowed(self) -> set[str]:
        """What an operator may load: what is installed, or in the configuration.

        Any other ``module:Class`` would let an operator run what was never meant to be.
        """
        return offered() | {each.use for each in self._settings}

    def find(self, name: str) -> RunningPlugin:
        """:raise KeyError: none of the name runs."""
        for each in self.running:
            if each.name == name:
                return each
        raise KeyError(name)

    def load(self, settings: PluginSettings) -> RunningPlugin:
        """Make and start one more.

        :raise PluginError: it cannot be, and the others are as they were.
        """
        return self._start(self._make(settings), settings.use, settings)

    async def unload(self, name: str) -> None:
        """Stop one; its hooks are out at once.

        :raise KeyError: none of the name runs.
        """
        each = self.find(name)
        self.running.remove(each)
        stopped = self._stop(each)
        stopped.addTimeout(STOP_TIMEOUT, self._broker.clock)
        stopped.addErrback(self._not_stopped, each)
        await stopped

    async def reload(self, name: str, settings: PluginSettings | None = None) -> RunningPlugin:
        """Stop one and make it anew, of *settings* or of what it had.

        :raise KeyError: none of the name runs.
        :raise PluginError: it cannot be made so; then it is as it was, unless that
            fails, too.
        """
        old = self.find(name)
        if old.settings is None:
            raise PluginError(f"{name!r} is the program's own, which alone can make it anew")
        wanted = settings or old.settings
        # While the old one works: most of what can be wrong shows here.
        plugin = self._make(wanted)
        await self.unload(name)
        if not self._begun:
            raise PluginError("the broker has stopped meanwhile")
        try:
            return self._start(plugin, wanted.use, wanted)
        except PluginError:
            log.warn("The plugin {name} is loaded as it was before", name=name)
            self.load(old.settings)
            raise

    # --- one -------------------------------------------------------------------------

    def _make(self, settings: PluginSettings) -> Any:
        try:
            kind = find_plugin(settings.use)
            return kind() if settings.settings is None else kind(settings.settings)
        except Exception as error:
            raise _unusable(settings.use, error) from error

    def _start(
        self, plugin: Any, name: str, settings: PluginSettings | None = None
    ) -> RunningPlugin:
        priority = 0 if settings is None else settings.priority
        try:
            if hasattr(plugin, "start"):
                plugin.start(self._broker)
            self._broker.hooks.add_plugin(plugin, priority)
        except Exception as error:
            raise _unusable(name, error) from error
        started = RunningPlugin(self._distinct(name), plugin, priority, settings)
        self.running.append(started)
        return started

    def _distinct(self, name: str) -> str:
        taken = {each.name for each in self.running}
        names = chain([name], (f"{name}-{number}" for number in count(2)))
        return next(each for each in names if each not in taken)

    def _stop(self, each: RunningPlugin) -> Deferred[Any]:
        self._broker.hooks.remove_plugin(each.plugin)
        stopped: Deferred[Any] = maybeDeferred(getattr(each.plugin, "stop", lambda: None))
        return stopped.addErrback(self._not_stopped, each)

    def _not_stopped(self, failure: Any, each: RunningPlugin) -> None:
        log.failure("The plugin {name} failed to stop", failure, name=each.name)
        self._broker.metrics.errors["plugin"] += 1


def _unusable(name: str, error: Exception) -> PluginError:
    return PluginError(f"the plugin {name!r} cannot be used: {error}")
