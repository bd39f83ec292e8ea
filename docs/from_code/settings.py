"""The settings: every table of the configuration, from the classes of ``mqttd.settings``.

The comment above a field is its text, its metadata is what it allows. The walk goes
by the types of the fields of ``BrokerSettings``, so that a new table is here when it
is there.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from configparser import ConfigParser
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from attrs import NOTHING, Attribute, Factory, fields, has, resolve_types
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging

from docs.from_code.markup import described, heading, literal
from mqttd.config.render import write_value
from mqttd.config.structure import LISTENER_PARTS, TYPED
from mqttd.plugins import IN_THE_BOX, find_plugin
from mqttd.reloading import CHANGEABLE
from mqttd.settings import BrokerSettings, PluginSettings

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]

RESTART = "A change takes effect at a restart."

#: Fields that hold lists of tables: field -> what the table is called.
_LISTS = {"listeners": "listener", "plugins": "plugin", "bridges": "bridge"}


def tables() -> Iterator[str]:
    """Every table of the configuration file."""
    own = [each for each in _fields(BrokerSettings) if not _classes(each)]
    log = [each for each in own if each.name.startswith("log_")]
    broker = [each for each in own if each not in log]
    yield from _table("broker", "The node, and what concerns all of it.", broker, BrokerSettings)
    for each in _fields(BrokerSettings):
        yield from _part(each)
    yield from _table("log", "What is logged, and in which form.", log, BrokerSettings, "log_")


def plugins() -> Iterator[str]:
    """The settings of the plugins in the box."""
    for name in IN_THE_BOX:
        kind = find_plugin(name)
        yield from heading(f'use = "{name}"', 2)
        yield from _class(kind.Settings, f"plugin.{name}", _said(kind))
        for each in _fields(kind.Settings):
            for inner in _classes(each):
                yield from ("", f"``{each.name}`` is a list of tables, each with:", "")
                yield from _class(inner, f"plugin.{name}.{each.name}")


def extras() -> Iterator[str]:
    """What can be installed besides, from setup.cfg."""
    parser = ConfigParser()
    parser.read(ROOT / "setup.cfg")
    for name, packages in parser["options.extras_require"].items():
        if name in ("test", "dev", "bench", "docs"):
            continue
        needed = ", ".join(literal(each) for each in packages.split("\n") if each)
        yield f":{name}: {needed}"


def _part(attribute: Attribute[Any]) -> Iterator[str]:
    """The table, or the list of tables, that a field of ``BrokerSettings`` is."""
    name = attribute.name
    if name in TYPED:
        yield from heading(f"[[{name}]]", 1)
        yield from (*_comment(BrokerSettings, name), "", "One table for each, by its ``type``.")
        for kind, settings in TYPED[name].items():
            yield from heading(f'type = "{kind}"', 2)
            yield from _class(settings, f"{name}.{kind}")
        return
    for settings in _classes(attribute):
        title = _LISTS.get(name, name.removesuffix("s") if _is_list(attribute) else name)
        yield from heading(f"[[{title}]]" if _is_list(attribute) else f"[{title}]", 1)
        if name not in CHANGEABLE:
            yield from (f"*{RESTART}*", "")
        yield from _class(settings, title)
        yield from _inner(settings, title)


def _inner(settings: type, title: str) -> Iterator[str]:
    """The tables inside a table; those that a listener inherits are described above."""
    for each in _fields(settings):
        inherits = title == "listener" and each.name in LISTENER_PARTS
        if inherits:
            continue
        for kind in _classes(each):
            inside = f"{title}.{each.name}"
            yield from heading(f"[[{inside}]]" if _is_list(each) else f"[{inside}]", 2)
            yield from _class(kind, inside)


def _class(settings: type, title: str, text: str = "") -> Iterator[str]:
    own = [each for each in _fields(settings) if not _classes(each)]
    if settings is PluginSettings:
        own = [each for each in own if each.name != "settings"]
    yield from _entries(own, settings, title, text or _said(settings))


def _table(
    title: str, text: str, own: list[Attribute[Any]], settings: type, prefix: str = ""
) -> Iterator[str]:
    yield from heading(f"[{title}]", 1)
    yield from _entries(own, settings, title, text, prefix)


def _entries(
    own: list[Attribute[Any]], settings: type, title: str, text: str, prefix: str = ""
) -> Iterator[str]:
    yield text
    for each in own:
        name = each.name.removeprefix(prefix)
        facts = (f":type: {_allowed(each)}", f":default: {_default(each)}")
        yield from described("confval", f"{title}.{name}", _text(settings, each), *facts)


def _text(settings: type, attribute: Attribute[Any]) -> list[str]:
    """The comment above a field; of a choice also what its values mean."""
    lines = _comment(settings, attribute.name)
    kind = attribute.type
    if inspect.isclass(kind) and issubclass(kind, Enum):
        lines = lines or [_said(kind)]
        for value in kind:
            meaning = " ".join(_comment(kind, value.name)).strip()
            if meaning:
                lines = [*lines, "", f'``"{value.value}"``', f"   {meaning}"]
    if settings is BrokerSettings and attribute.name not in CHANGEABLE:
        lines = [*lines, "", f"*{RESTART}*"]
    if not any(lines):
        log.warning("%s.%s has no comment that says what it is", settings, attribute.name)
    return lines


def _allowed(attribute: Attribute[Any]) -> str:
    allowed = str(attribute.metadata.get("allowed") or _wanted(attribute))
    if allowed.startswith("one of "):
        return ", ".join(literal(word) for word in re.findall(r'"[^"]*"', allowed))
    return re.sub(r'"[^"]+"', lambda found: literal(found[0]), allowed)


def _wanted(attribute: Attribute[Any]) -> str:
    """What a field's check names, where its metadata does not."""
    cells = getattr(attribute.validator, "__closure__", None) or ()
    return next(
        (cell.cell_contents for cell in cells if isinstance(cell.cell_contents, str)), "any"
    )


def _default(attribute: Attribute[Any]) -> str:
    default: Any = attribute.default
    if default is NOTHING:
        return "none: it must be given"
    if isinstance(default, Factory):  # type: ignore[arg-type]
        default = default.factory()
    return literal(write_value(attribute, default))


def _fields(settings: type) -> tuple[Attribute[Any], ...]:
    resolve_types(settings)
    found: tuple[Attribute[Any], ...] = fields(settings)
    return found


def _classes(attribute: Attribute[Any]) -> list[Any]:
    """The classes of settings that a field holds: none for a plain value."""
    kind = attribute.type
    found = [kind, *get_args(kind), *(inner for each in get_args(kind) for inner in get_args(each))]
    return [
        each for each in found if inspect.isclass(each) and has(each) and each.__name__ != "Rate"
    ]


def _is_list(attribute: Attribute[Any]) -> bool:
    return getattr(attribute.type, "__origin__", None) is tuple


def _said(kind: type) -> str:
    return inspect.cleandoc(kind.__doc__ or "")


def _comment(settings: type, name: str) -> list[str]:
    """The comment above a field, in the class or in one that it inherits from."""
    for base in settings.__mro__:
        if base.__module__.startswith("mqttd."):
            analyzer = ModuleAnalyzer.for_module(base.__module__)
            found = analyzer.find_attr_docs().get((base.__qualname__, name))
            if found:
                return found
    return []
