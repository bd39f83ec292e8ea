"""Start a broker, use it, stop it, many times, and see what that leaves.

``python -m tests.cycles [N]`` does it N times (1,000) in a process of its own, and says
what the process has gained since the first fifth of them: objects, threads, file
descriptors, delayed calls and readers of the reactor. It fails when that is anything.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import react
from twisted.logger import globalLogBeginner
from twisted.python.failure import Failure

from mqttd import BrokerSettings, ListenerSettings, MQTTBroker
from mqttd.hooks.rewrite import RewriteSettings, Rule, TopicRewrite

CONNECT = bytes.fromhex("10 0d 00 04 4d515454 04 02 003c 00 01 61")
SUBSCRIBE = bytes.fromhex("82 06 0001 0001 74 00")

#: Objects that are no leak, however many cycles: what Python's own caches grow by.
#: A broker is thousands.
TOLERATED = 1000


class Peer(Protocol):
    """A client on a socket: connected, subscribed to "t", then told to go."""

    def __init__(self) -> None:
        self.data = b""
        self.got: Deferred[bytes] = Deferred()
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(CONNECT + SUBSCRIBE)

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if b"hello" in self.data and not self.got.called:
            self.got.callback(self.data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)


async def cycle(reactor: Any) -> weakref.ref[Any]:
    """A broker's whole life, with something of everything in it."""
    plugin = TopicRewrite(RewriteSettings((Rule("old/#", "$1"),)))
    listener = ListenerSettings("tcp:0:interface=127.0.0.1", allow_anonymous=True)
    settings = BrokerSettings(listeners=(listener,), drain_timeout=5.0)
    mqtt = MQTTBroker(reactor, settings, plugins=[plugin])
    mqtt.startService()
    (serving,) = mqtt.listeners.values()
    address: Any = serving.address
    peer = Peer()
    await connectProtocol(HostnameEndpoint(reactor, b"127.0.0.1", address.port), peer)
    client = await mqtt.broker.client("app", session_expiry=100)
    inbox = await client.subscribe("t", qos=1, user_property=[("max-rate", "1/h")])
    while mqtt.broker.router.subscription_count < 2:
        turn: Deferred[None] = Deferred()
        reactor.callLater(0, turn.callback, None)
        await turn
    await client.publish("old/t", b"hello", 2, retain=True)
    await peer.got
    await inbox.get()
    await mqtt.stopService()
    await peer.gone
    return weakref.ref(mqtt.broker)


def measure(reactor: Any) -> dict[str, int]:
    gc.collect()
    return {
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "calls": len(reactor.getDelayedCalls()),
        "readers": len(reactor.getReaders()),
        "objects": sys.getallocatedblocks(),
    }


async def main(reactor: Any, number: int = 1000) -> None:
    # Until logging has begun, Twisted keeps the last 65,536 events.
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False)
    warm = number // 5
    for _ in range(warm):
        broker = await cycle(reactor)
    before = measure(reactor)
    for _ in range(number - warm):
        broker = await cycle(reactor)
    after = measure(reactor)
    gained = {name: after[name] - before[name] for name in before}
    print(f"{number} cycles;", ", ".join(f"{name} {n:+}" for name, n in gained.items()))
    objects = gained.pop("objects")
    if any(gained.values()) or objects > TOLERATED or broker() is not None:
        raise SystemExit("something was left")


if __name__ == "__main__":
    react(lambda r: Deferred.fromCoroutine(main(r, *map(int, sys.argv[1:]))))
