"""A broker in a Twisted application, beside a service that uses it.

Run it with ``twistd -ny embed.py``.
"""

import os

from twisted.application.internet import TimerService
from twisted.application.service import Application
from twisted.internet import reactor

from mqttd import BrokerSettings, ListenerSettings, MQTTBroker

port = os.environ.get("MQTT_PORT", "1883")
local = ListenerSettings(f"tcp:{port}:interface=127.0.0.1", allow_anonymous=True)
mqtt = MQTTBroker(reactor, BrokerSettings(listeners=(local,), drain_timeout=2.0))

ticks = 0


def tick() -> None:
    global ticks
    ticks += 1
    mqtt.broker.publish("app/ticks", b"%d" % ticks, retain=True)


application = Application("example")
mqtt.setServiceParent(application)
TimerService(0.5, tick).setServiceParent(application)
