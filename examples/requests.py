"""Requests and responses between two parts of a program, by way of the broker.

Run it with ``python requests.py``; it ends by itself.
"""

import json

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.task import react

from mqttd import BrokerSettings, MQTTBroker


async def main(reactor) -> None:
    mqtt = MQTTBroker(reactor, BrokerSettings(drain_timeout=1.0))
    mqtt.startService()

    # One part answers; several may share the work.
    adder = await mqtt.broker.client("adder")

    def add(request) -> Deferred:
        return request.respond(json.dumps(sum(json.loads(request.payload))).encode())

    await adder.subscribe("$share/adders/jobs/add", add, qos=1)

    # The other asks.
    app = await mqtt.broker.client("app")
    answer = await app.request("jobs/add", b"[1, 2, 39]", timeout=5)
    print("1 + 2 + 39 =", answer.payload.decode())

    await adder.subscribe("jobs/never", lambda request: None, qos=1)
    try:
        await app.request("jobs/never", timeout=0.1)
    except TimeoutError as error:
        print("error:", error)

    await mqtt.stopService()


react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
