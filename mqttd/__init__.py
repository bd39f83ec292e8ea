"""mqttd: an MQTT broker on Twisted."""
