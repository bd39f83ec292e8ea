"""The settings in force, written as a configuration file.

``--check-config`` prints it. Reading it again gives the same settings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from attrs import Attribute, fields, fields_dict, has

from mqttd.config.structure import FLAT_TABLES, LISTENER_OPTIONS, LISTENER_PARTS, PARTS, TYPED
from mqttd.config.values import format_duration, format_rate, format_size
from mqttd.fields import Rate, Unit
from mqttd.settings import BrokerSettings, ListenerSettings, PluginSettings


def render_settings(settings: BrokerSettings) -> str:
    """*settings* as TOML."""
    return "\n".join(_document(settings)) + "\n"


def render_plugin(plugin: PluginSettings) -> str:
    """*plugin* as a table of TOML."""
    return "\n".join(_plugin(plugin)) + "\n"


def _document(settings: BrokerSettings) -> Iterator[str]:
    for table, names in FLAT_TABLES.items():
        yield from _table(table, settings, names)
    for part in PARTS:
        yield from _table(part, getattr(settings, part))
    for name in TYPED:
        for each in getattr(settings, name):
            yield f"[[{name}]]"
            yield f"type = {toml_value(each.TYPE)}"
            yield from _lines(each, {f.name: f.name for f in fields(type(each))})
            yield ""
    for plugin in settings.plugins:
        yield from _plugin(plugin)
    for bridge in settings.bridges:
        yield "[[bridge]]"
        yield from _lines(bridge, {f.name: f.name for f in fields(type(bridge))}, ("topics",))
        for topic in bridge.topics:
            yield "[[bridge.topics]]"
            yield from _lines(topic, {f.name: f.name for f in fields(type(topic))})
        yield ""
    for listener in settings.listeners:
        yield from _listener(listener, settings)


def _plugin(plugin: PluginSettings) -> Iterator[str]:
    yield "[[plugin]]"
    yield from _lines(plugin, {"use": "use", "priority": "priority"})
    if plugin.settings is not None:
        yield from _lines(plugin.settings, {f.name: f.name for f in fields(type(plugin.settings))})
    yield ""


def _listener(listener: ListenerSettings, settings: BrokerSettings) -> Iterator[str]:
    """A listener, and of its parts what differs from those for all."""
    yield "[[listener]]"
    inner = (*LISTENER_PARTS, *LISTENER_OPTIONS)
    yield from _lines(listener, {f.name: f.name for f in fields(type(listener))}, inner)
    yield ""
    for option in LISTENER_OPTIONS:
        if getattr(listener, option) is not None:
            yield from _table(f"listener.{option}", getattr(listener, option))
    for part in LISTENER_PARTS:
        own, common = getattr(listener, part), getattr(settings, part)
        changed = [
            f.name for f in fields(type(own)) if getattr(own, f.name) != getattr(common, f.name)
        ]
        if changed:
            yield from _table(f"listener.{part}", own, {name: name for name in changed})


def _table(title: str, part: Any, names: Mapping[str, str] | None = None) -> Iterator[str]:
    yield f"[{title}]"
    yield from _lines(part, names or {f.name: f.name for f in fields(type(part))})
    yield ""


def _lines(part: Any, names: Mapping[str, str], without: tuple[str, ...] = ()) -> Iterator[str]:
    attributes = fields_dict(type(part))
    for key, name in names.items():
        if name not in without:
            yield f"{key} = {write_value(attributes[name], getattr(part, name))}"


def write_value(attribute: Attribute[Any], value: Any) -> str:
    """*value* of a field as TOML."""
    unit = attribute.metadata.get("unit")
    if value is None:
        value = attribute.metadata["absent"]
    elif isinstance(value, Rate):
        value = format_rate(value, unit is Unit.BYTES_PER_SECOND)
    elif unit is Unit.SECONDS and value:
        value = format_duration(value)
    elif unit is Unit.BYTES and value >= 1024:
        value = format_size(value)
    return toml_value(value)


def toml_value(value: Any) -> str:
    """*value* as TOML has it."""
    if isinstance(value, Enum):
        value = value.value
    if has(type(value)):
        attributes = fields_dict(type(value))
        pairs = (
            f"{key} = {write_value(attributes[key], getattr(value, key))}" for key in attributes
        )
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, dict):
        pairs = (f"{toml_value(key)} = {toml_value(item)}" for key, item in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    # JSON's strings, numbers and booleans are TOML's.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
