"""Plugins: found, configured, started and stopped."""

from __future__ import annotations

from collections.abc import Coroutine
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest
from attrs import frozen
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from mqttd import plugins as module
from mqttd.config import ConfigError, parse_settings, render_settings
from mqttd.fields import count, flag, text
from mqttd.hooks.rewrite import RewriteSettings, Rule
from mqttd.plugins import IN_THE_BOX, PluginError, Plugins, find_plugin
from mqttd.service import MQTTBroker, StartError
from mqttd.settings import BrokerSettings, PluginSettings
from mqttd.testing import VirtualBroker


@frozen
class ToySettings:
    loud: bool = flag(False)
    times: int = count(1, 1, 5)
    word: str = text("x")


class Toy:
    """A plugin that tells what it goes through."""

    Settings = ToySettings
    told: list[Any] = []  # noqa: RUF012

    def __init__(self, settings: ToySettings) -> None:
        self.settings = settings
        self.told.append(("made", settings.word))

    def start(self, broker: Any) -> None:
        self.told.append(("started", self.settings.word))
        if self.settings.word == "bad":
            raise OSError("no such thing")

    def stop(self) -> Deferred[None] | None:
        self.told.append(("stopped", self.settings.word))
        if self.settings.word == "stuck":
            return Deferred()
        if self.settings.word == "raises":
            raise RuntimeError("meant to be")
        return None

    def connected(self, client: Any) -> None:
        self.told.append(("connected", self.settings.word))


class Plain:
    """A plugin without settings, start or stop."""

    def connected(self, client: Any) -> None:
        Toy.told.append("plain")


TOY = "tests.test_plugins:Toy"
PLAIN = "tests.test_plugins:Plain"


@pytest.fixture(autouse=True)
def told() -> list[Any]:
    Toy.told.clear()
    return Toy.told


# --- the configuration ----------------------------------------------------------------


def test_a_plugin_is_named_with_its_settings() -> None:
    settings = parse_settings(
        f"""
        [[plugin]]
        use = "{TOY}"
        priority = 5
        loud = true
        times = 3

        [[plugin]]
        use = "{PLAIN}"

        [[plugin]]
        use = "rewrite"
        rules = [{{ filter = "old/#", topic = "new/$1" }}, {{ filter = "+", topic = "$1/x" }}]
        """
    )
    assert settings.plugins == (
        PluginSettings(TOY, 5, ToySettings(True, 3)),
        PluginSettings(PLAIN),
        PluginSettings("rewrite", 0, RewriteSettings((Rule("old/#", "new/$1"), Rule("+", "$1/x")))),
    )
    assert parse_settings(render_settings(settings)).plugins == settings.plugins


def test_all_mistakes_are_told_with_their_places() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(
            f"""
            [[plugin]]
            use = "{TOY}"
            lout = true
            times = 9

            [[plugin]]
            use = "nothing"

            [[plugin]]
            use = "no.such.module:Class"

            [[plugin]]
            priority = 1

            [[plugin]]
            use = "{PLAIN}"
            loud = 1

            [[plugin]]
            use = "rewrite"
            rules = [{{ filter = "a/#/b", topic = "x" }}, {{ topik = "y" }}, 7]
            """,
            "f",
        )
    lines = caught.value.lines()
    assert lines[:6] == [
        'f: plugin[1].lout: unknown; did you mean "loud"?',
        "f: plugin[1].times = 9: must be a whole number from 1 to 5",
        'f: plugin[2].use = "nothing": no plugin of that name is installed; there are '
        "auto-subscribe, delayed, rewrite, webhook",
        'f: plugin[3].use = "no.such.module:Class": cannot be loaded: ModuleNotFoundError: '
        "No module named 'no'",
        'f: plugin[4].use: missing; for instance use = "rewrite"',
        f"f: plugin[5].loud: unknown; {PLAIN} has no settings",
    ]
    assert lines[6].startswith('f: plugin[6].rules[1].filter = "a/#/b": must be a topic filter')
    assert 'f: plugin[6].rules[2].topik: unknown; did you mean "topic"?' in lines
    assert "f: plugin[6].rules[3] must be a table" in lines


def test_plugins_are_tables() -> None:
    with pytest.raises(ConfigError, match="must be written as"):
        parse_settings('plugin = "rewrite"')


@pytest.mark.parametrize("name", IN_THE_BOX)
def test_what_is_in_the_box_can_be_used_with_its_defaults(name: str) -> None:
    settings = parse_settings(f'[[plugin]]\nuse = "{name}"')
    assert parse_settings(render_settings(settings)).plugins == settings.plugins
    virtual = VirtualBroker()
    plugins = Plugins(virtual.broker, settings.plugins, ())
    plugins.start()
    assert plugins.stop().called
    virtual.stop()


def test_other_distributions_offer_plugins_by_entry_points(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = EntryPoint("toy", PLAIN, module.GROUP)
    monkeypatch.setattr(module, "entry_points", lambda group: EntryPoints([point]))
    assert find_plugin("toy") is Plain


# --- life -------------------------------------------------------------------------------


def test_plugins_start_in_order_and_stop_in_the_other(told: list[Any]) -> None:
    virtual = VirtualBroker()
    names = [
        PluginSettings(TOY, 1, ToySettings(word="late")),
        PluginSettings(TOY, 0, ToySettings()),
    ]
    plugins = Plugins(virtual.broker, names, (Plain(),))
    plugins.start()
    virtual.connect("c")
    plugins.stop()
    virtual.connect("d")
    assert told == [
        ("made", "late"),
        ("started", "late"),
        ("made", "x"),
        ("started", "x"),
        "plain",
        ("connected", "x"),
        ("connected", "late"),
        ("stopped", "x"),
        ("stopped", "late"),
    ]
    virtual.stop()


def test_when_one_cannot_start_none_stays(told: list[Any]) -> None:
    virtual = VirtualBroker()
    settings = [PluginSettings(TOY, 0, ToySettings(word=word)) for word in ("good", "bad")]
    plugins = Plugins(virtual.broker, settings, ())
    with pytest.raises(PluginError, match=f"'{TOY}' cannot be used: no such thing"):
        plugins.start()
    assert told[-1] == ("stopped", "good")
    assert plugins.running == []
    assert virtual.broker.hooks.connected == ()
    virtual.stop()


def failure_of(doing: Coroutine[Any, Any, Any]) -> str:
    """What a ``PluginError`` says, with which *doing* fails at once."""
    failures: list[Failure] = []
    ensureDeferred(doing).addErrback(failures.append)
    failures[0].trap(PluginError)
    return str(failures[0].value)


def test_a_plugin_that_cannot_be_changed_so_stays_as_it_was(told: list[Any]) -> None:
    virtual = VirtualBroker()
    plugins = Plugins(virtual.broker, [PluginSettings(TOY, 0, ToySettings())], (Plain(),))
    plugins.start()
    assert [each.name for each in plugins.running] == ["Plain", TOY]
    bad = PluginSettings(TOY, 0, ToySettings(word="bad"))
    assert "no such thing" in failure_of(plugins.reload(TOY, bad))
    assert [each.settings for each in plugins.running[1:]] == [
        PluginSettings(TOY, 0, ToySettings())
    ]
    virtual.connect("c")
    assert told[-2:] == ["plain", ("connected", "x")]
    assert "program's own" in failure_of(plugins.reload("Plain"))
    assert plugins.load(PluginSettings(TOY, 0, ToySettings())).name == f"{TOY}-2"
    plugins.stop()
    virtual.stop()


def test_a_plugin_that_does_not_stop_is_unloaded_all_the_same(told: list[Any]) -> None:
    virtual = VirtualBroker()
    stuck = PluginSettings(TOY, 0, ToySettings(word="stuck"))
    plugins = Plugins(virtual.broker, [stuck], ())
    plugins.start()
    gone = ensureDeferred(plugins.unload(TOY))
    virtual.connect("c")
    assert ("connected", "stuck") not in told
    virtual.advance(module.STOP_TIMEOUT)
    assert gone.called
    assert plugins.running == []
    virtual.stop()


def service(clock: Clock, *plugins: PluginSettings, objects: tuple[object, ...] = ()) -> MQTTBroker:
    settings = BrokerSettings(plugins=plugins, sys_interval=0, drain_timeout=5)
    return MQTTBroker(clock, settings, plugins=objects)


def test_the_service_starts_and_stops_them(told: list[Any]) -> None:
    clock = Clock()
    broker = service(clock, PluginSettings(TOY, 0, ToySettings()), objects=(Plain(),))
    for _ in range(2):
        broker.startService()
        assert told == [("made", "x"), ("started", "x")]
        stopped = broker.stopService()
        clock.pump([0.05] * 4)
        assert stopped.called
        assert told.pop() == ("stopped", "x")
        told.clear()
    assert clock.getDelayedCalls() == []


def test_the_service_does_not_start_without_them() -> None:
    clock = Clock()
    broker = service(clock, PluginSettings(TOY, 0, ToySettings(word="bad")))
    with pytest.raises(StartError, match="no such thing"):
        broker.startService()
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("word", ["stuck", "raises"])
def test_a_plugin_that_does_not_stop_holds_nobody_up(word: str) -> None:
    clock = Clock()
    broker = service(clock, PluginSettings(TOY, 0, ToySettings(word=word)))
    broker.startService()
    stopped = broker.stopService()
    clock.pump([0.1] * 60)
    assert stopped.called
    assert clock.getDelayedCalls() == []


def test_another_list_of_plugins_needs_a_restart() -> None:
    clock = Clock()
    broker = service(clock)
    broker.startService()
    changed = BrokerSettings(plugins=(PluginSettings(PLAIN),), sys_interval=0, drain_timeout=5)
    assert "plugins" in broker.take_over(changed).restart_needed
    broker.stopService()
    clock.pump([0.1] * 60)
