"""How Sphinx builds these pages: ``sphinx-build docs docs/_build``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import mqttd

project = "mqttd"
author = "the mqttd developers"
copyright = author
release = version = mqttd.__version__
extensions = ["docs.from_code"]
# A :confval:, :option: or :doc: that leads nowhere fails the build.
nitpicky = True
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "An MQTT broker on Twisted"}
