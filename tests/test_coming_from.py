"""``docs/coming-from.rst`` has a row for each option of mosquitto.conf and of emq.conf."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.foreign_options import EMQTTD, MOSQUITTO, MOSQUITTO_BRIDGE

DOCS = Path(__file__).parent.parent / "docs"


def named(text: str) -> set[str]:
    """The options in the first column of the tables in *text*, without their values."""
    cells = re.findall(r"^   \* - (.*(?:\n {7}.*)*)", text, flags=re.M)
    literals = [literal for cell in cells for literal in re.findall(r"``([^`]+)``", cell)]
    return {literal.split()[0] for literal in literals}


def covers(name: str, option: str) -> bool:
    """Whether *name* of the page is *option*, or stands for it by ``*``, NAME or a leading dot."""
    if name.startswith("."):
        return re.fullmatch(r"listener\.\w+\.\w+" + _pattern(name), option) is not None
    return re.fullmatch(_pattern(name), option) is not None


def _pattern(name: str) -> str:
    text = re.escape(name.removesuffix(".*")).replace("NAME", r"\w+").replace(r"\.N", r"\.\d+")
    return text + (r"\..*" if name.endswith(".*") else "")


PAGE = (DOCS / "coming-from.rst").read_text()
FROM_MOSQUITTO, _, REST = PAGE.partition("\nemq.conf\n")
FROM_EMQTTD = REST.partition("\nemqttd's REST API\n")[0]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (MOSQUITTO, FROM_MOSQUITTO),
        (MOSQUITTO_BRIDGE, (DOCS / "bridges.rst").read_text()),
        (EMQTTD, FROM_EMQTTD),
    ],
    ids=["mosquitto", "its bridges", "emqttd"],
)
def test_each_option_has_a_row(options: tuple[str, ...], text: str) -> None:
    names = named(text)
    assert [each for each in options if not any(covers(name, each) for name in names)] == []


def test_no_row_is_about_an_option_that_does_not_exist() -> None:
    of_mosquitto = MOSQUITTO + MOSQUITTO_BRIDGE
    for names, options in ((named(FROM_MOSQUITTO), of_mosquitto), (named(FROM_EMQTTD), EMQTTD)):
        unknown = [name for name in names if not any(covers(name, each) for each in options)]
        assert set(unknown) <= NOT_OF_THE_CORE


#: Of the plugins that come with emqttd.
NOT_OF_THE_CORE = {
    "retainer.max_message_num",
    ".max_payload_size",
    ".expiry_interval",
}
