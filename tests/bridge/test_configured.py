"""Bridges of a configuration file, in a whole service."""

from __future__ import annotations

from pathlib import Path

import pytest

from mqttd.config import ConfigError, parse_settings
from mqttd.config.render import render_settings
from mqttd.service import MQTTBroker, StartError
from mqttd.settings import BrokerSettings
from mqttd.settings_bridge import BridgeSettings, BridgeTopic, Direction, StartType
from mqttd.testing.virtual import VirtualClock

TEXT = """
[[bridge]]
name = "site"
addresses = ["mqtts://broker.example", "mqtt://other:1884"]
start = "once"
version = "3.1.1"
idle_timeout = "2m"
[[bridge.topics]]
filter = "a/#"
direction = "both"
remote_prefix = "x/"
[[bridge.topics]]
filter = "b"
"""


def parse(text: str) -> BrokerSettings:
    return parse_settings(text, "mqttd.toml")


def test_a_bridge_in_the_file() -> None:
    (bridge,) = parse(TEXT).bridges
    assert bridge == BridgeSettings(
        "site",
        ("mqtts://broker.example", "mqtt://other:1884"),
        version="3.1.1",
        start=StartType.ONCE,
        idle_timeout=120.0,
        topics=(BridgeTopic("a/#", Direction.BOTH, remote_prefix="x/"), BridgeTopic("b")),
    )


def test_it_is_shown_as_it_can_be_read_again() -> None:
    settings = parse(TEXT)
    assert parse(render_settings(settings)).bridges == settings.bridges


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[[bridge]]\naddresses = ["mqtt://x"]', "bridge[1].name: missing"),
        ('[[bridge]]\nname = "x"', "bridge[1].addresses"),
        ('[[bridge]]\nname = "x"\naddresses = ["mqtt://u:p@x"]', "bridge[1].addresses"),
        (TEXT + TEXT, 'bridge[2].name = "site": that of bridge[1] already'),
        ('[[bridge]]\nname = "x"\nadresses = []', 'did you mean "addresses"'),
        (TEXT.replace('"both"', '"up"'), "bridge[1].topics"),
        (TEXT.replace('"b"', '""'), "bridge[1].topics"),
    ],
)
def test_what_is_wrong_is_told_by_its_place(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert problem in "\n".join(caught.value.lines())


def test_a_broker_whose_bridge_cannot_be_does_not_start(tmp_path: Path) -> None:
    wrong = BridgeSettings("x", ("mqtts://x",), ca_file=str(tmp_path / "nowhere"))
    service = MQTTBroker(VirtualClock(), BrokerSettings(bridges=(wrong,)))
    with pytest.raises(StartError, match="the bridge 'x'"):
        service.startService()
