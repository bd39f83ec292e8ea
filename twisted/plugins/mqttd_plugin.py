"""Makes ``twistd mqttd`` and ``twist mqttd``; the rest is in ``mqttd.tap``."""

from twisted.application.service import ServiceMaker

# The module is named, not imported: twistd reads every plugin on every start.
mqttd = ServiceMaker("mqttd", "mqttd.tap", "An MQTT broker", "mqttd")
