"""The command lines: ``twistd mqttd`` from its options, ``mqttctl`` from its parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from docs.from_code.markup import described, heading, literal
from mqttd.ctl.__main__ import build_parser
from mqttd.ctl.parser import make_parser
from mqttd.tap import Options


def twistd() -> Iterator[str]:
    """The options of ``twistd mqttd``."""
    options = Options()
    yield from (".. program:: twistd mqttd", "")
    shorts: dict[str, list[str]] = {}
    for short, name in options.synonyms.items():
        if short != name:
            shorts.setdefault(name, []).append(f"-{short}" if len(short) == 1 else f"--{short}")
    for name in sorted(options.docs):
        argument = (
            "" if f"{name}=" not in options.longOpt else f" {name.rpartition('-')[2].upper()}"
        )
        spellings = [each + argument for each in (*shorts.get(name, ()), f"--{name}")]
        text = (options.docs[name] or "").split()
        yield from described("option", ", ".join(spellings), [" ".join(text)])


def mqttctl() -> Iterator[str]:
    """Every command, by group, with its options."""
    parser = build_parser()
    common = {action.dest for action in make_parser()._actions}
    yield from heading("Options of all commands", 1)
    yield from (".. program:: mqttctl", "")
    for action in make_parser()._actions:
        yield from _argument(action)
    for name, help, inner in _commands(parser):
        yield from heading(f"mqttctl {name}", 1)
        yield f"{help[:1].upper()}{help[1:]}."
        leaves = list(_commands(inner))
        if not leaves:
            yield from _command(inner, common)
        for _, text, leaf in leaves:
            yield from heading(leaf.prog, 2)
            yield f"{text[:1].upper()}{text[1:]}."
            yield from _command(leaf, common)


def _command(parser: argparse.ArgumentParser, common: Iterable[str]) -> Iterator[str]:
    own = [action for action in parser._actions if action.dest not in common]
    words = [parser.prog, "[options]" if any(each.option_strings for each in own) else ""]
    words += [_shape(each) for each in own if not each.option_strings]
    yield from ("", f".. program:: {parser.prog}", "", "::", "")
    yield "   " + " ".join(word for word in words if word)
    for action in own:
        # An argument without help is named in the line above; that says it all.
        if action.option_strings or _help(action):
            yield from _argument(action)


def _shape(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest).upper()
    shapes = {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} ..."}
    return shapes.get(str(action.nargs), name)


def _argument(action: argparse.Action) -> Iterator[str]:
    text = _help(action)
    if not action.option_strings:
        yield from ("", literal(_shape(action)))
        yield from (f"   {text}", "")
        return
    value = ""
    if action.nargs != 0:
        value = " " + str(action.metavar or action.dest.upper())
    yield from described(
        "option", ", ".join(f"{each}{value}" for each in action.option_strings), [text]
    )


def _help(action: argparse.Action) -> str:
    known = {key: value for key, value in vars(action).items() if key != "help"}
    text = (action.help or "") % known
    if action.choices is not None:
        text = f"{text}{': ' if text else ''}{', '.join(literal(str(x)) for x in action.choices)}"
    return text.replace("*", "\\*")


def _commands(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """The commands of *parser*: name, help, parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {each.dest: each.help or "" for each in action._choices_actions}
            for name, inner in action.choices.items():
                yield name, helps.get(name, ""), inner
