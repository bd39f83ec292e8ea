"""Makes ``twistd mqttd`` and ``twist mqttd``, and the reactor of ``twistd -r mqttd``."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

# Modules are named, not imported: twistd reads every plugin on every start.
mqttd = ServiceMaker("mqttd", "mqttd.tap", "An MQTT broker", "mqttd")
mqttd_reactor = Reactor("mqttd", "mqttd.net.reactor", "epoll without a log context per event")
