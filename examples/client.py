"""A client of a broker elsewhere: it greets itself, and leaves."""

import os

from twisted.internet.task import react

from mqttd.client import Client, ClientSettings


async def main(reactor):
    port = os.environ.get("MQTT_PORT", "1883")
    client = Client(reactor, f"mqtt://127.0.0.1:{port}", ClientSettings("example"))
    client.startService()
    inbox = await client.subscribe("greeting/+", qos=1)
    await client.publish("greeting/world", b"hello", qos=1)
    message = await inbox.get()
    print(message.topic, message.payload.decode())
    await client.stopService()


if __name__ == "__main__":
    react(main)
