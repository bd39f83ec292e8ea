"""Tests of a project that uses aiomqtt: the broker has a thread of its own."""

import asyncio

import aiomqtt


async def relay(host: str, port: int, ready: asyncio.Event) -> None:
    """The project: what comes on in/# goes out on out/#, in capitals."""
    async with aiomqtt.Client(host, port, identifier="relay") as client:
        await client.subscribe("in/#", 1)
        ready.set()
        async for message in client.messages:
            topic = "out/" + str(message.topic).removeprefix("in/")
            await client.publish(topic, bytes(message.payload).upper(), 1)


def test_relay(mqttd_broker) -> None:
    async def main() -> None:
        ready = asyncio.Event()
        task = asyncio.create_task(relay(mqttd_broker.host, mqttd_broker.port, ready))
        await asyncio.wait_for(ready.wait(), 10)
        mqttd_broker.publish("in/greeting", "hello", qos=1)
        # It blocks: not in the loop's own thread.
        message = await asyncio.to_thread(mqttd_broker.wait_for, "out/greeting")
        assert message.payload == b"HELLO"
        task.cancel()

    asyncio.run(main())
