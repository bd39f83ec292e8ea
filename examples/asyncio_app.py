"""A broker beside asyncio code: Twisted runs on asyncio's own event loop.

Run it with ``python asyncio_app.py``; it ends by itself.
"""

import asyncio

from twisted.internet import asyncioreactor


async def main() -> None:
    loop = asyncio.get_running_loop()
    asyncioreactor.install(loop)
    # Only now, when it is known which reactor there is.
    from twisted.internet import reactor

    from mqttd import BrokerSettings, ListenerSettings, MQTTBroker

    reactor.startRunning(installSignalHandlers=False)
    local = ListenerSettings("tcp:0:interface=127.0.0.1", allow_anonymous=True)
    mqtt = MQTTBroker(reactor, BrokerSettings(listeners=(local,), drain_timeout=1.0))
    mqtt.startService()

    client = await mqtt.broker.client("app").asFuture(loop)
    inbox = await client.subscribe("rooms/+/temperature", qos=1).asFuture(loop)

    async def sensor() -> None:
        await asyncio.sleep(0.01)
        await client.publish("rooms/kitchen/temperature", b"21.5", qos=1).asFuture(loop)

    task = asyncio.create_task(sensor())
    message = await inbox.get().asFuture(loop)
    await task
    print(message.payload.decode(), "degrees in the", message.topic.split("/")[1])

    await mqtt.stopService().asFuture(loop)
    print("stopped")


if __name__ == "__main__":
    asyncio.run(main())
