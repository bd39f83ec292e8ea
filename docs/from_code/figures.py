"""What the broker counts: the names for Prometheus and those on ``$SYS``.

Taken from a broker on virtual time that has every part whose figures there may be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from docs.from_code.markup import described, literal, table
from mqttd.access.admission import Admission
from mqttd.access.authorizer import AccessControl
from mqttd.access.bans import BanList
from mqttd.admin import Admin
from mqttd.admin.prometheus import Prometheus
from mqttd.bridge import Bridges
from mqttd.settings import BrokerSettings
from mqttd.settings_bridge import BridgeSettings, StartType
from mqttd.testing import ManualStore, VirtualBroker
from mqttd.testing.virtual import VirtualClock


@contextmanager
def _daemon() -> Iterator[Any]:
    clock = VirtualClock()
    settings = BrokerSettings(node="NODE")
    virtual = VirtualBroker(
        settings,
        clock=clock,
        authorizer=AccessControl(clock, clock.seconds),
        store=ManualStore(),
    )
    broker = virtual.broker
    broker.admission = Admission(
        settings.abuse, BanList(clock.seconds), clock.seconds, clock.seconds
    )
    bridge = BridgeSettings("NAME", ("mqtt://NAME",), start=StartType.MANUAL)
    bridges = Bridges(clock, broker, [bridge], clock.seconds)
    bridges.start()
    admin = Admin(broker, bridges=bridges, wall_clock=clock.seconds)
    admin.start()
    listener = SimpleNamespace(name="NAME", connections=0, address=None)
    yield SimpleNamespace(broker=broker, admin=admin, listeners={"NAME": listener}, bridges=bridges)
    admin.stop()
    virtual.stop()


def prometheus() -> Iterator[str]:
    """Every figure at ``/metrics`` that is mqttd's own."""
    with _daemon() as daemon:
        for counted in vars(daemon.broker.metrics).values():
            # So that the labels show of what has not happened yet.
            if isinstance(counted, Counter):
                counted["any"] += 1
        text = Prometheus(daemon).text().decode()
    for family in text_string_to_metric_families(text):
        if family.name.startswith("mqttd"):
            suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
            name = family.name.removesuffix(suffix) + suffix
            yield from described("metric", name, [_said(family)])


def _said(family: Any) -> str:
    names = {name: None for sample in family.samples for name in sample.labels}
    names.pop("le", None)
    labels = f", by {', '.join(literal(each) for each in names)}" if names else ""
    return f"{family.documentation.rstrip('.')} ({family.type}{labels})."


def sys_topics() -> Iterator[str]:
    """Every topic with a figure, and what stands there at the start."""
    with _daemon() as daemon:
        values = daemon.admin.sys_topics.values()
    yield from table(
        (
            (literal(topic.replace("NODE", "<node>").replace("NAME", "<name>")),)
            for topic in sorted(values)
        ),
        "Topic",
    )
