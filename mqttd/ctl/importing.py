"""``mqttctl import``: a configuration of mosquitto's as one of ours, with a report."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from attrs import asdict

from mqttd.config import ConfigError, check_listeners, parse_settings
from mqttd.ctl.context import Context
from mqttd.ctl.errors import Failed
from mqttd.ctl.mosquitto_conf import Converted, convert
from mqttd.ctl.mosquitto_values import Unfit
from mqttd.ctl.output import Output
from mqttd.ctl.parser import Subparsers, command

HEAD = "# Made of {name} by mqttctl import. Check it: twistd mqttd --config FILE --check-config\n\n"


def add_to(subparsers: Subparsers) -> None:
    parser = command(
        subparsers, "import", run, "write mqttd.toml from mosquitto.conf, and report the rest"
    )
    parser.add_argument("file", help="a mosquitto.conf")
    parser.add_argument("-o", "--output", metavar="FILE", help="standard output without it")


def run(context: Context) -> None:
    given = context.arguments
    # With --json nothing is written.
    passwords = "" if given.output is None or context.out.as_json else f"{_beside(given.output)}."
    converted = convert(_read(Path(given.file)), included, passwords)
    toml = HEAD.format(name=given.file) + converted.toml()
    problems = check(toml, converted)
    if context.out.as_json:
        report = [asdict(remark) for remark in converted.report]
        context.out.value({"toml": toml, "report": report, "problems": problems})
        return
    _write(context, toml, converted.passwords)
    _report(converted, problems)


def _beside(output: str) -> Path:
    """What the names of files begin with that belong to *output*."""
    return Path(output).resolve().with_suffix("")


def _read(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise Failed(f"{path}: {reason}") from None


def included(folder: str) -> Iterator[tuple[str, list[str]]]:
    """In mosquitto's order: a letter's capital first."""
    paths = [path for path in Path(folder).glob("*.conf") if not path.name.startswith(".")]
    if not Path(folder).is_dir():
        raise Unfit("is no folder that can be read here")
    for path in sorted(paths, key=lambda path: (path.name.lower(), path.name)):
        yield str(path), _read(path)


def check(toml: str, converted: Converted) -> list[str]:
    """What is wrong with the result as a configuration; nothing, mostly."""
    try:
        settings = parse_settings(toml, "mqttd.toml")
        check_listeners(settings.listeners, bool(converted.authentication))
    except ConfigError as error:
        return error.lines()
    return []


def _write(context: Context, toml: str, passwords: dict[str, str]) -> None:
    output = context.arguments.output
    if output is None:
        context.out.stream.write(toml)
        return
    for path in (output, *passwords):
        if Path(path).exists():
            raise Failed(f"{path} is there already: name another file")
    for path, password in passwords.items():
        _write_new(path, password + "\n", 0o600)
    _write_new(output, toml, 0o666)


def _write_new(path: str, text: str, mode: int) -> None:
    """Never into a file that is there, nor by a link that somebody has put there."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(number, "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Failed(f"{path} is there already: name another file") from None
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from None


def _report(converted: Converted, problems: list[str]) -> None:
    out = Output(sys.stderr)
    if converted.report:
        out.line("What has no counterpart, or needs a look:")
        for remark in converted.report:
            place = f"line {remark.line or '-'}" + (remark.file and f" of {remark.file}")
            out.line(f"  {place}: {remark.option}: {remark.text}")
    else:
        out.line("Everything was taken over.")
    for problem in problems:
        out.line(f"Still to be mended: {problem}")
