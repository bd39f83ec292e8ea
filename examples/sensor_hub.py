"""A sensor hub: sensors publish to it, and it prints what they say.

Run it with ``python sensor_hub.py`` and publish, for instance, with
``mosquitto_pub -t sensors/hall/temperature -m 21.5``.
"""

import os

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred

from mqttd import BrokerSettings, ListenerSettings, MQTTBroker


async def hub() -> None:
    port = os.environ.get("MQTT_PORT", "1883")
    sensors = ListenerSettings(f"tcp:{port}:interface=127.0.0.1", allow_anonymous=True)
    mqtt = MQTTBroker(reactor, BrokerSettings(listeners=(sensors,)))
    mqtt.startService()
    client = await mqtt.broker.client("hub")
    async for reading in await client.subscribe("sensors/+/+", qos=1):
        print(*reading.topic.split("/")[1:], reading.payload.decode(), flush=True)


ensureDeferred(hub())
reactor.run()
