"""Each route and command of emqttd has a counterpart, or a reason why not, on the page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from mqttd.admin.http.routes import all_routes
from mqttd.ctl.__main__ import build_parser

PAGE = (Path(__file__).parent.parent / "docs" / "coming-from.rst").read_text()

#: ``emqttd_rest_api.erl`` of 2.3, without ``/api/v2/``.
ROUTES = """
GET nodes/{n}/alarms
GET nodes/{n}/clients
GET nodes/{n}/clients/{id}
GET clients/{id}
DELETE clients/{id}
PUT clients/{id}/clean_acl_cache
GET routes
GET routes/{topic}
GET nodes/{n}/sessions
GET nodes/{n}/sessions/{id}
GET sessions/{id}
GET nodes/{n}/subscriptions
GET nodes/{n}/subscriptions/{id}
GET subscriptions/{id}
POST mqtt/publish
POST mqtt/subscribe
POST mqtt/unsubscribe
GET management/nodes
GET management/nodes/{n}
GET monitoring/nodes
GET monitoring/nodes/{n}
GET monitoring/listeners
GET monitoring/listeners/{n}
GET monitoring/metrics
GET monitoring/metrics/{n}
GET monitoring/stats
GET monitoring/stats/{n}
GET nodes/{n}/plugins
PUT nodes/{n}/plugins/{p}
GET configs
PUT configs/{app}
GET nodes/{n}/configs
PUT nodes/{n}/configs/{app}
GET nodes/{n}/plugin_configs/{p}
PUT nodes/{n}/plugin_configs/{p}
GET users
POST users
GET users/{u}
PUT users/{u}
DELETE users/{u}
POST auth
PUT change_pwd/{u}
""".strip().splitlines()

#: ``emqttd_ctl`` of 2.3, without its plugins' own.
COMMANDS = (
    "status",
    "broker",
    "cluster",
    "acl reload",
    "clients",
    "sessions",
    "routes",
    "topics",
    "subscriptions",
    "plugins",
    "bridges",
    "listeners",
    "vm",
    "mnesia",
    "trace",
)


def rows(title: str) -> list[tuple[list[str], str]]:
    """Of each row below *title*: what is named on the left, and the cell on the right."""
    text = PAGE.partition(f"\n{title}\n---")[2]
    text = re.split(r"\n[^\n]+\n---", text)[0]
    found = re.findall(r"^   \* - (.*(?:\n {7}.*)*)\n     - (.*(?:\n {7}.*)*)", text, flags=re.M)
    return [(re.findall(r"``([^`]+)``", left), right) for left, right in found[1:]]


def test_every_route_has_its_counterpart() -> None:
    known = {f"{route.method} {route.path}" for route in all_routes()}
    table = rows("emqttd's REST API")
    assert len(ROUTES) == 42
    assert sorted(name for names, _ in table for name in names) == sorted(ROUTES)
    for names, right in table:
        ours = re.findall(r"``((?:GET|POST|PUT|PATCH|DELETE) /[^`]*)``", right)
        assert ours or right.startswith("no: "), names
        assert set(ours) <= known, names


def test_every_command_has_its_counterpart() -> None:
    table, parser = rows("emqttd_ctl"), build_parser()
    assert len(COMMANDS) == 15
    assert sorted(name for names, _ in table for name in names) == sorted(COMMANDS)
    for names, right in table:
        ours = re.findall(r"``mqttctl ([^`]*)``", right)
        assert ours or right.startswith("no: "), names
        for words in ours:
            parser.parse_args(shlex.split(words))
