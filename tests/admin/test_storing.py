"""Who listens to ``$SYS`` hears that the disk is full, and when it is not any more."""

from __future__ import annotations

import json

import pytest

from mqttd.admin import Admin
from mqttd.admin.http.routes.watch import unready
from mqttd.admin.prometheus import _store
from mqttd.admin.storing import STORE_ALARM
from mqttd.settings import BrokerSettings
from mqttd.testing import ManualStore, VirtualBroker, VirtualClient

ALERT = "$SYS/brokers/node-1/alarms/store/alert"
CLEAR = "$SYS/brokers/node-1/alarms/store/clear"


@pytest.fixture
def store() -> ManualStore:
    store = ManualStore()
    store.automatic = True
    return store


def begin(store: ManualStore) -> tuple[VirtualBroker, Admin, VirtualClient]:
    virtual = VirtualBroker(BrokerSettings(node="node-1", sys_interval=0), store=store)
    admin = Admin(virtual.broker, wall_clock=lambda: 1_800_000_000.0)
    admin.start()
    listener = virtual.connect("listener", version=4)
    listener.subscribe("$SYS/brokers/+/alarms/#")
    return virtual, admin, listener


def heard(virtual: VirtualBroker, listener: VirtualClient) -> list[tuple[str, str]]:
    virtual.advance(1)
    found = [(m.topic, json.loads(m.payload or b"{}")) for m in listener.messages()]
    return [(topic, payload.get("summary", "")) for topic, payload in found]


def test_the_alarm_is_there_as_long_as_the_problem(store: ManualStore) -> None:
    virtual, admin, listener = begin(store)
    assert heard(virtual, listener) == []
    store.fail("the disk is full")
    assert heard(virtual, listener) == [(ALERT, "the disk is full")]
    assert unready_of(virtual) == ["nothing is kept, nor acknowledged: the disk is full"]
    store.fail("the disk is gone")
    assert (ALERT, "the disk is gone") in heard(virtual, listener)
    (alarm,) = admin.alarms.active
    assert (alarm.id, alarm.summary) == (STORE_ALARM, "the disk is gone")
    store.recover()
    assert (CLEAR, "") in heard(virtual, listener)
    assert admin.alarms.active == ()
    assert unready_of(virtual) == []
    admin.stop()
    store.fail("nobody is told")
    assert admin.alarms.active == ()


def unready_of(virtual: VirtualBroker) -> list[str]:
    class Daemon:
        broker = virtual.broker
        listeners: dict[str, object] = {}  # noqa: RUF012

    return unready(Daemon)


def test_figures_for_prometheus(store: ManualStore) -> None:
    virtual, _admin, _listener = begin(store)
    store.commit()
    store.fail()
    found = {metric.name: metric.samples[0].value for metric in _store(virtual.broker)}
    assert found["mqttd_store_failing"] == 1
    assert found["mqttd_store_backlog_bytes"] == 0
    assert found["mqttd_store_commits"] == store.commits > 0
