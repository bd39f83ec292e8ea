"""What the pages show can be typed: configurations are read, command lines understood."""

from __future__ import annotations

import re
import shlex
import textwrap
import tomllib
from argparse import ArgumentParser
from pathlib import Path

import pytest

from mqttd.access.rule_file import parse_rules
from mqttd.config import parse_settings
from mqttd.ctl.__main__ import build_parser
from mqttd.tap import Options

ROOT = Path(__file__).parent.parent

PAGES = [ROOT / "README.rst", *sorted((ROOT / "docs").glob("*.rst"))]


def blocks(*languages: str) -> list[pytest.ParameterSet]:
    """Every block of code in one of these languages, on all pages."""
    pattern = (
        rf"^( *)\.\. code-block:: (?:{'|'.join(languages)})\n(?:\1   :.*\n)*"
        r"\n((?:\1   .*\n|\n)+)"
    )
    return [
        pytest.param(textwrap.dedent(match[2]), id=f"{page.stem}-{number}")
        for page in PAGES
        for number, match in enumerate(re.finditer(pattern, page.read_text(), flags=re.M))
    ]


@pytest.mark.parametrize("text", blocks("toml"))
def test_a_configuration_that_is_shown_can_be_read(text: str) -> None:
    if "mypackage" in text:
        assert tomllib.loads(text)
    elif "[[rule]]" in text or "superusers" in tomllib.loads(text):
        assert parse_rules(text)
    else:
        parse_settings(text)


def command_lines() -> list[list[str]]:
    """The words of every command that starts mqttctl or the daemon."""
    lines = []
    for block in blocks("sh", "console"):
        text = re.sub(r"\\\n *", "", str(block.values[0]))
        text = re.sub(r"\$\(date [^)]*\)", "today", text)
        for line in text.splitlines():
            # Up to a comment, a redirection, a pipe, or the next command.
            found = re.search(r"(?:^|[ /])((?:mqttctl|twistd) .*?)(?: [#>|<&]|\)\"|$)", line)
            if found:
                lines.append(shlex.split(found[1]))
    return lines


@pytest.fixture(scope="module")
def parser() -> ArgumentParser:
    return build_parser()


@pytest.mark.parametrize("words", command_lines(), ids=" ".join)
def test_a_command_line_that_is_shown_is_understood(
    words: list[str], parser: ArgumentParser
) -> None:
    if words[0] == "mqttctl":
        if "--help" not in words:
            parser.parse_args(words[1:])
    elif "mqttd" in words:
        options = {f"--{name.rstrip('=')}" for name in Options().longOpt}
        given = words[words.index("mqttd") + 1 :]
        assert {word for word in given if word.startswith("--")} <= options
