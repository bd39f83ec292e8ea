"""Settings changed while they are in force: some keys given, as in a file.

The control API calls it. What is given is read and checked exactly like a
configuration file; what is shown is what such a file would say.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any, TypeVar

from attrs import evolve, fields_dict

from mqttd.config.errors import ConfigError, Problem
from mqttd.config.render import render_plugin, render_settings, write_value
from mqttd.config.structure import LISTENER_PARTS, Path, Reader
from mqttd.settings import BrokerSettings, PluginSettings

P = TypeVar("P")

#: What is shown in place of a secret.
MASK = "..."

#: What errors call the settings.
SOURCE = "change"

_SECRET = re.compile(r"password$|secret$|token$|credential|^key$|authorization", re.IGNORECASE)


def show_part(part: Any) -> dict[str, Any]:
    """The keys of *part*, a group of settings, with their values as in a file."""
    attributes = fields_dict(type(part))
    lines = [f"{name} = {write_value(a, getattr(part, name))}" for name, a in attributes.items()]
    return tomllib.loads("\n".join(lines))


def show_settings(settings: BrokerSettings) -> dict[str, Any]:
    """The configuration in force, without what looks like a secret."""
    shown: dict[str, Any] = _redacted(tomllib.loads(render_settings(settings)))
    return shown


def show_plugin(plugin: PluginSettings) -> dict[str, Any]:
    """The [[plugin]] table of *plugin*, without what looks like a secret."""
    shown: dict[str, Any] = _redacted(_table(plugin))
    return shown


def with_secrets(table: Mapping[str, Any], plugin: PluginSettings) -> dict[str, Any]:
    """*table*, as ``show_plugin`` showed it and somebody changed it, with *plugin*'s secrets."""
    whole: dict[str, Any] = _restored(dict(table), _table(plugin))
    return whole


def _table(plugin: PluginSettings) -> Any:
    return tomllib.loads(render_plugin(plugin))["plugin"][0]


def read_plugin(table: Mapping[str, Any]) -> PluginSettings:
    """The plugin that *table*, a [[plugin]] as in a file, describes.

    :raise ConfigError: when that is wrong.
    """
    return Reader().one_plugin(dict(table), SOURCE)


def change_part(part: P, changes: Mapping[str, Any], path: Path) -> P:
    """*part* with *changes*, written as in a file.

    :raise ConfigError: when they are wrong.
    """
    changed: P = Reader().change(part, changes, path, SOURCE)
    return changed


def change_settings(settings: BrokerSettings, changes: Mapping[str, Any]) -> BrokerSettings:
    """*settings* with *changes*: tables of keys, as in a file, but no listeners.

    A listener that had what held for all follows; one with its own keeps it.

    :raise ConfigError: when they are wrong, with all that is.
    """
    changed = Reader().change_all(settings, changes, SOURCE)
    listeners = []
    for listener in settings.listeners:
        for part in LISTENER_PARTS:
            if getattr(listener, part) == getattr(settings, part):
                listener = evolve(listener, **{part: getattr(changed, part)})
        listeners.append(listener)
    return evolve(changed, listeners=tuple(listeners))


def _redacted(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _redacted(part, key) for key, part in value.items()}
    if isinstance(value, list):
        return [_redacted(part, name) for part in value]
    return MASK if isinstance(value, str) and value and _SECRET.search(name) else value


def _restored(value: Any, before: Any, name: str = "") -> Any:
    if isinstance(value, dict) and isinstance(before, dict):
        return {key: _restored(part, before.get(key), key) for key, part in value.items()}
    if isinstance(value, list) and isinstance(before, list):
        return [
            _restored(part, old, name) for part, old in zip_longest(value, before[: len(value)])
        ]
    return before if value == MASK and isinstance(before, str) and _SECRET.search(name) else value


__all__ = [
    "ConfigError",
    "Problem",
    "change_part",
    "change_settings",
    "read_plugin",
    "show_part",
    "show_plugin",
    "show_settings",
    "with_secrets",
]
