"""The configuration file: TOML in, checked ``mqttd.settings`` out, and back.

``load_settings`` reads a file, ``render_settings`` writes what is in force.
Whoever embeds the broker may use them or make ``BrokerSettings`` by hand.
"""

from __future__ import annotations

from mqttd.config.errors import ConfigError, Problem
from mqttd.config.loader import check_listeners, find_config, load_settings, parse_settings
from mqttd.config.render import render_settings

__all__ = [
    "ConfigError",
    "Problem",
    "check_listeners",
    "find_config",
    "load_settings",
    "parse_settings",
    "render_settings",
]
