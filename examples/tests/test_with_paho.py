"""Tests of a project that uses paho: the fixture stands in for its broker."""

import json
import threading

import paho.mqtt.client as paho
import pytest

from mqttd.wire.packets import Puback


class Thermostat:
    """The project: it reports a temperature, and takes a target."""

    def __init__(self, host: str, port: int) -> None:
        self.target = 20.0
        self.ready = threading.Event()
        self.changed = threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, "thermostat")
        self.client.will_set("thermostat/state", "offline", 1, retain=True)
        self.client.on_connect = self._connected
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_message = self._message
        self.client.reconnect_delay_set(1, 1)
        self.client.connect(host, port)
        self.client.loop_start()
        assert self.ready.wait(10)

    def _connected(self, client, *_) -> None:
        client.publish("thermostat/state", "online", 1, retain=True)
        client.subscribe("thermostat/target", 1)

    def _message(self, client, data, message) -> None:
        self.target = float(message.payload)
        self.changed.set()

    def report(self, temperature: float) -> paho.MQTTMessageInfo:
        return self.client.publish("thermostat/report", json.dumps({"t": temperature}), 1)

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def thermostat(mqttd_broker):
    thermostat = Thermostat(mqttd_broker.host, mqttd_broker.port)
    yield thermostat
    thermostat.stop()


def test_it_says_that_it_is_there(mqttd_broker, thermostat) -> None:
    mqttd_broker.wait_for("thermostat/state", b"online", retain=True)


def test_it_reports(mqttd_broker, thermostat) -> None:
    thermostat.report(21.5)
    report = mqttd_broker.wait_for("thermostat/report", client_id="thermostat")
    assert json.loads(report.payload) == {"t": 21.5}


def test_it_takes_a_target(mqttd_broker, thermostat) -> None:
    mqttd_broker.publish("thermostat/target", "23", qos=1)
    assert thermostat.changed.wait(10)
    assert thermostat.target == 23


def test_its_will_is_published_when_it_is_lost(mqttd_broker, thermostat) -> None:
    mqttd_broker.drop("thermostat")
    mqttd_broker.wait_for("thermostat/state", b"offline")


def test_it_comes_back_after_a_restart(mqttd_broker, thermostat) -> None:
    thermostat.ready.clear()
    mqttd_broker.restart()
    assert thermostat.ready.wait(20)
    thermostat.report(19).wait_for_publish(10)
    mqttd_broker.wait_for("thermostat/report")


def test_a_lost_acknowledgement_is_no_lost_report(mqttd_broker, thermostat) -> None:
    mqttd_broker.faults.drop(Puback)
    lost = thermostat.report(22)
    mqttd_broker.wait_for("thermostat/report")
    assert not lost.is_published()
    mqttd_broker.drop("thermostat")  # it connects again, and repeats what is open
    lost.wait_for_publish(20)
    mqttd_broker.wait_for("thermostat/report")
