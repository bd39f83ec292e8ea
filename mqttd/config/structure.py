"""From TOML's tables to ``BrokerSettings``, strictly.

``loader.py`` hands over what ``tomllib`` read. Every key is looked at even when
others are wrong, so that all problems are told at once. The ranges stand with
the fields in ``settings.py``; here is only how a file is laid out and how text
becomes a number.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from enum import Enum
from typing import Any, get_args, get_origin

from attrs import Attribute, evolve, fields_dict, has, resolve_types
from cattrs import BaseValidationError, Converter

from mqttd.config.errors import ConfigError, Problem
from mqttd.config.values import parse_duration, parse_rate, parse_size
from mqttd.fields import Unit
from mqttd.plugins import PluginError, find_plugin
from mqttd.settings import (
    BrokerSettings,
    ListenerSettings,
    PluginSettings,
    Rate,
    SettingError,
    TLSSettings,
    WebSocketSettings,
)
from mqttd.settings_access import RULE_SOURCES
from mqttd.settings_authentication import AUTHENTICATORS
from mqttd.settings_bridge import BridgeSettings

Path = tuple[str | int, ...]

#: The tables that are one part of ``BrokerSettings`` each.
PARTS = (
    "protocol",
    "session",
    "retained",
    "store",
    "limits",
    "shared_limits",
    "password_hashing",
    "access",
    "abuse",
    "hooks",
    "http",
    "trace",
    "flight",
)

#: The tables of which there is one for each of several, of one type each: the
#: name, which is the field's too -> the types.
TYPED: dict[str, Mapping[str, type]] = {
    "authentication": AUTHENTICATORS,
    "authorization": RULE_SOURCES,
}

_LOG = tuple(name for name in fields_dict(BrokerSettings) if name.startswith("log_"))
_BROKER = tuple(
    name
    for name in fields_dict(BrokerSettings)
    if name not in (*PARTS, *_LOG, *TYPED, "listeners", "plugins", "bridges")
)

#: The tables that hold fields of ``BrokerSettings`` itself: key -> field.
FLAT_TABLES: dict[str, dict[str, str]] = {
    "broker": {name: name for name in _BROKER},
    "log": {name.removeprefix("log_"): name for name in _LOG},
}

#: The parts that a listener overrides.
LISTENER_PARTS = ("protocol", "session", "limits")

#: The parts that a listener may have: without the table it does without.
LISTENER_OPTIONS: dict[str, Any] = {"tls": TLSSettings, "websocket": WebSocketSettings}


resolve_types(BrokerSettings)


class Reader:
    """Reads one configuration; ``problems`` says what was wrong with it."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._converter = Converter(forbid_extra_keys=True)
        self._converter.register_structure_hook(str, _only(str, "text"))
        self._converter.register_structure_hook(bool, _only(bool, "true or false"))
        self._converter.register_structure_hook(int, _only(int, "a whole number"))

    def read(self, document: Mapping[str, Any]) -> tuple[BrokerSettings, list[bool]]:
        """The settings, and of each listener whether it says allow_anonymous.

        Means nothing if there are ``problems``.
        """
        values: dict[str, Any] = {}
        known = [*FLAT_TABLES, *PARTS, *TYPED, "plugin", "bridge", "listener"]
        for key, table in document.items():
            if key in FLAT_TABLES:
                values |= self._fields(table, BrokerSettings, (key,), FLAT_TABLES[key])
            elif key in PARTS:
                kind = fields_dict(BrokerSettings)[key].type
                values[key] = self._make(kind, self._fields(table, kind, (key,)), (key,))
            elif key in TYPED:
                values[key] = self._typed(document, key, TYPED[key])
            elif key not in ("listener", "plugin", "bridge"):
                self._unknown(key, known, (key,))
        values = {key: value for key, value in values.items() if value is not None}
        settings = self._make(BrokerSettings, values, ()) or BrokerSettings()
        plugins = [
            self._plugin(table, i) for i, table in enumerate(self._tables(document, "plugin"))
        ]
        bridges = [
            self._bridge(table, i) for i, table in enumerate(self._tables(document, "bridge"))
        ]
        self._distinct_bridges(bridges)
        tables = self._tables(document, "listener")
        listeners = [self._listener(table, i, settings) for i, table in enumerate(tables)]
        said = ["allow_anonymous" in table for table in tables]
        made = tuple(listener for listener in listeners if listener is not None)
        self._distinct(made)
        useful = tuple(plugin for plugin in plugins if plugin is not None)
        if not self.problems:
            linked = tuple(bridge for bridge in bridges if bridge is not None)
            more = {"listeners": made, "plugins": useful, "bridges": linked}
            settings = self._make(BrokerSettings, more, (), settings) or settings
        return settings, said

    def change(self, part: Any, table: object, path: Path, source: str) -> Any:
        """*part*, a group of settings, with what *table* says.

        :raise ConfigError: when that is wrong.
        """
        changed = self._make(type(part), self._fields(table, type(part), path), path, part)
        if self.problems:
            raise ConfigError(source, self.problems)
        return changed

    def one_plugin(self, table: dict[str, Any], source: str) -> PluginSettings:
        """The plugin of one [[plugin]] table.

        :raise ConfigError: when that is wrong.
        """
        made = self._plugin(table, 0)
        if self.problems or made is None:
            raise ConfigError(source, self.problems)
        return made

    def change_all(
        self, settings: BrokerSettings, document: Mapping[str, Any], source: str
    ) -> BrokerSettings:
        """*settings* with what the tables in *document* say, of which none repeats.

        :raise ConfigError: when that is wrong.
        """
        values: dict[str, Any] = {}
        for key, table in document.items():
            if key in FLAT_TABLES:
                values |= self._fields(table, BrokerSettings, (key,), FLAT_TABLES[key])
            elif key in PARTS:
                base = getattr(settings, key)
                changes = self._fields(table, type(base), (key,))
                values[key] = self._make(type(base), changes, (key,), base)
            else:
                self._unknown(key, [*FLAT_TABLES, *PARTS], (key,))
        changed = None if self.problems else self._make(BrokerSettings, values, (), settings)
        if changed is None:
            raise ConfigError(source, self.problems)
        return changed  # type: ignore[no-any-return]

    def _tables(self, document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
        """The tables that stand in the file as [[*name*]]."""
        value = document.get(name, [])
        if isinstance(value, list) and all(isinstance(table, dict) for table in value):
            return value
        self._problem((name,), f": must be written as [[{name}]], once for each")
        return []

    # --- tables of a type -----------------------------------------------------

    def _typed(
        self, document: Mapping[str, Any], name: str, kinds: Mapping[str, type]
    ) -> tuple[Any, ...]:
        tables = self._tables(document, name)
        made = [self._one_of(table, (name, index), kinds) for index, table in enumerate(tables)]
        return tuple(each for each in made if each is not None)

    def _one_of(self, table: dict[str, Any], path: Path, kinds: Mapping[str, type]) -> Any:
        kind = table.get("type")
        if not isinstance(kind, str) or kind not in kinds:
            known = ", ".join(f'"{each}"' for each in kinds)
            self._problem((*path, "type"), f" = {_shown(kind)}: must be one of {known}")
            return None
        rest = {key: value for key, value in table.items() if key != "type"}
        before = len(self.problems)
        values = self._fields(rest, kinds[kind], path)
        return None if len(self.problems) > before else self._make(kinds[kind], values, path)

    # --- plugins ------------------------------------------------------------

    def _plugin(self, table: dict[str, Any], index: int) -> PluginSettings | None:
        """A plugin; what is not ``use`` or ``priority`` is for its own settings."""
        path: Path = ("plugin", index)
        own = {key: value for key, value in table.items() if key in ("use", "priority")}
        values = self._fields(own, PluginSettings, path)
        if "use" not in table:
            self._problem((*path, "use"), ': missing; for instance use = "rewrite"')
        if "use" not in values:
            return None
        try:
            kind = getattr(find_plugin(values["use"]), "Settings", None)
        except PluginError as error:
            self._problem((*path, "use"), f" = {_shown(values['use'])}: {error}")
            return None
        rest = {key: value for key, value in table.items() if key not in own}
        if kind is not None:
            values["settings"] = self._make(kind, self._fields(rest, kind, path), path)
        for key in rest if kind is None else ():
            self._problem((*path, key), f": unknown; {values['use']} has no settings")
        made = self._make(PluginSettings, values, path)
        return made if isinstance(made, PluginSettings) else None

    # --- bridges ------------------------------------------------------------

    def _bridge(self, table: dict[str, Any], index: int) -> BridgeSettings | None:
        path: Path = ("bridge", index)
        if "name" not in table:
            self._problem((*path, "name"), ": missing; it is for logs and client ids")
            return None
        before = len(self.problems)
        values = self._fields(table, BridgeSettings, path)
        if len(self.problems) > before:
            return None
        made = self._make(BridgeSettings, values, path)
        return made if isinstance(made, BridgeSettings) else None

    def _distinct_bridges(self, bridges: Iterable[BridgeSettings | None]) -> None:
        seen: dict[str, int] = {}
        for index, bridge in enumerate(bridges):
            if bridge is not None and seen.setdefault(bridge.name, index) != index:
                text = f" = {_shown(bridge.name)}: that of bridge[{seen[bridge.name] + 1}] already"
                self._problem(("bridge", index, "name"), text)

    # --- listeners ----------------------------------------------------------

    def _listener(
        self, table: dict[str, Any], index: int, settings: BrokerSettings
    ) -> ListenerSettings | None:
        path: Path = ("listener", index)
        inner = (*LISTENER_PARTS, *LISTENER_OPTIONS)
        own = {key: value for key, value in table.items() if key not in inner}
        names = {name: name for name in fields_dict(ListenerSettings)}
        values = self._fields(own, ListenerSettings, path, names)
        for name in LISTENER_PARTS:
            base = getattr(settings, name)
            values[name] = base
            if name in table:
                override = self._fields(table[name], type(base), (*path, name))
                values[name] = self._make(type(base), override, (*path, name), base) or base
        for name, kind in LISTENER_OPTIONS.items():
            if name in table:
                option = self._fields(table[name], kind, (*path, name))
                if isinstance(table[name], dict):
                    values[name] = self._make(kind, option, (*path, name))
        if "endpoint" not in own:
            self._problem((*path, "endpoint"), ': missing; for instance endpoint = "tcp:1883"')
        if "endpoint" not in values:
            return None
        made = self._make(ListenerSettings, values, path)
        return made if isinstance(made, ListenerSettings) else None

    def _distinct(self, listeners: tuple[ListenerSettings, ...]) -> None:
        seen: dict[str, int] = {}
        for index, listener in enumerate(listeners):
            for key in dict.fromkeys((listener.endpoint, listener.name or listener.endpoint)):
                if seen.setdefault(key, index) != index:
                    text = f": {_shown(key)} stands for listener[{seen[key] + 1}] already"
                    self._problem(("listener", index), text)

    # --- tables ----------------------------------------------------------------

    def _fields(
        self, table: object, kind: Any, path: Path, names: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """What *table* says of the fields of *kind*; *names*: key -> field."""
        resolve_types(kind)
        fields = fields_dict(kind)
        names = names if names is not None else {name: name for name in fields}
        values: dict[str, Any] = {}
        if not isinstance(table, dict):
            self._problem(path, " must be a table")
            return values
        for key, value in table.items():
            if key not in names:
                self._unknown(key, names, (*path, key))
                continue
            attribute = fields[names[key]]
            try:
                values[attribute.name] = self._value(attribute, value, (*path, key))
            except (ValueError, TypeError, BaseValidationError):
                allowed = attribute.metadata.get("allowed", "something else")
                self._problem((*path, key), f" = {_shown(value)}: must be {allowed}")
        return values

    def _value(self, attribute: Attribute[Any], value: Any, path: Path) -> Any:
        """*value* as the field has it, checked."""
        metadata = attribute.metadata
        if metadata.get("absent") and value == metadata["absent"]:
            result = None
        elif "unit" in metadata:
            result = _measure(value, metadata["unit"], _is_rate(attribute))
        elif _is_list_of_parts(attribute.type) and isinstance(value, list):
            kind = get_args(attribute.type)[0]
            made = [
                self._make(kind, self._fields(item, kind, (*path, i)), (*path, i))
                for i, item in enumerate(value)
            ]
            # What is wrong with one of them has been told.
            result = tuple(item for item in made if item is not None)
        else:
            result = self._structure(value, attribute.type)
        if attribute.validator is not None:
            attribute.validator(None, attribute, result)
        return result

    def _structure(self, value: Any, kind: Any) -> Any:
        container = get_origin(kind)
        # The converter would take any iterable for a list, a text included.
        if container in (tuple, dict) and not isinstance(
            value, dict if container is dict else list
        ):
            raise TypeError("not a list or table")
        return self._converter.structure(value, kind)

    def _make(self, kind: Any, values: dict[str, Any], path: Path, base: Any = None) -> Any:
        """A *kind* of *values*, which are right each, or None if not together."""
        try:
            return kind(**values) if base is None else evolve(base, **values)
        except SettingError as error:
            text = f" = {_shown(error.value)}: must be {error.allowed}"
            self._problem((*path, error.name), text)
            return None

    def _unknown(self, key: str, known: Any, path: Path) -> None:
        near = get_close_matches(key, list(known), n=1)
        hint = f'did you mean "{near[0]}"?' if near else "known here: " + ", ".join(known)
        self._problem(path, f": unknown; {hint}")

    def _problem(self, path: Path, text: str) -> None:
        self.problems.append(Problem(path, text))


def _only(kind: type, allowed: str) -> Any:
    def structure(value: object, _: object) -> object:
        if type(value) is not kind:
            raise TypeError(f"must be {allowed}")
        return value

    return structure


def _is_list_of_parts(kind: Any) -> bool:
    return get_origin(kind) is tuple and has(get_args(kind)[0])


def _is_rate(attribute: Attribute[Any]) -> bool:
    return attribute.metadata["unit"] in (Unit.BYTES_PER_SECOND, Unit.EVENTS_PER_SECOND)


def _measure(value: Any, unit: Unit, is_rate: bool) -> Any:
    """A number, or a text with a unit, as a number or a ``Rate``."""
    if is_rate:
        if isinstance(value, str):
            return parse_rate(value, unit is Unit.BYTES_PER_SECOND)
        return Rate(value)
    if isinstance(value, str):
        if unit is Unit.SECONDS:
            return parse_duration(value)
        if unit is Unit.BYTES:
            return parse_size(value)
    return value


def _shown(value: object) -> str:
    """*value* about as it stands in the file, in one line."""
    if isinstance(value, Enum):
        value = value.value
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 100 else text[:97] + "..."
