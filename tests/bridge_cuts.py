"""A bridge to mosquitto under load, whose link is cut again and again.

``python -m tests.bridge_cuts [cuts]`` starts a mosquitto, a broker that is bridged to
it, both ways, through a proxy, and a publisher and a subscriber at each end. The proxy
cuts the link at moments of its own, while QoS 1 messages flow. In the end every message
must have come to the other side: what is missing is printed, and is the exit status.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import ensureDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import connectionDone
from twisted.internet.task import deferLater
from twisted.protocols.portforward import ProxyFactory, ProxyServer
from twisted.python.failure import Failure

from mqttd import BrokerSettings, ListenerSettings, MQTTBroker
from mqttd.bridge import State
from mqttd.client import Client, ClientSettings, Received
from mqttd.settings import SessionSettings
from mqttd.settings_bridge import BridgeSettings, BridgeTopic, Direction
from mqttd.testing.live import reactor_thread
from tests.conftest import find_program
from tests.end_to_end.daemon import free_port

CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
max_queued_messages 0
max_inflight_messages 100
"""

#: Seconds in the end for what is still on its way.
PATIENCE = 60.0


@frozen
class Result:
    """What a run has shown."""

    cuts: int
    published: int
    #: Messages that did not come: out, and in.
    missing: tuple[int, int]
    #: Those that came again.
    repeated: tuple[int, int]
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.cuts} cuts, {self.published} messages each way in {self.seconds:.1f} s: "
            f"lost {self.missing[0]} out and {self.missing[1]} in, "
            f"repeated {self.repeated[0]} and {self.repeated[1]}"
        )


class Cutter(ProxyFactory):
    """A proxy that can cut what goes through it."""

    def __init__(self, reactor: Any, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self.open: set[Any] = set()
        cutter = self

        class Server(ProxyServer):
            def connectionMade(self) -> None:
                cutter.open.add(self)
                super().connectionMade()

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                cutter.open.discard(self)
                super().connectionLost(reason)  # type: ignore[no-untyped-call]

        Server.reactor = reactor
        self.protocol = Server

    def cut(self) -> bool:
        """Whether there was anything to cut."""
        found = bool(self.open)
        for each in list(self.open):
            each.transport.abortConnection()
            if each.peer is not None:
                each.peer.transport.abortConnection()
        return found


class Side:
    """A publisher and a subscriber at one broker."""

    def __init__(self, reactor: Any, port: int, name: str, topic: str) -> None:
        settings = ClientSettings(f"load-{name}", clean_start=True, maximum_queued=100_000)
        self.client = Client(reactor, f"mqtt://127.0.0.1:{port}", settings)
        self.topic = topic
        self.sent = 0
        self.seen: dict[int, int] = {}

    def take(self, message: Received) -> None:
        number = int(message.payload)
        self.seen[number] = self.seen.get(number, 0) + 1

    async def listen(self, topic: str) -> None:
        self.client.startService()
        await self.client.subscribe(topic, self.take, qos=1)

    async def publish(self, count: int) -> None:
        """*count* messages at once; done when the broker here has all of them."""
        answers = []
        for _ in range(count):
            self.sent += 1
            answers.append(self.client.publish(self.topic, b"%d" % (self.sent - 1), 1))
        for answer in answers:
            await answer


async def run(reactor: Any, cuts: int, folder: Path, theirs: int, rate: int, quiet: bool) -> Result:
    ours, between = free_port(), free_port()
    cutter = Cutter(reactor, theirs)
    port = await TCP4ServerEndpoint(reactor, between, interface="127.0.0.1").listen(cutter)
    topics = (
        BridgeTopic("out", Direction.OUT, 1),
        BridgeTopic("in", Direction.IN, 1),
    )
    bridge = BridgeSettings(
        "cuts",
        (f"mqtt://127.0.0.1:{between}",),
        topics=topics,
        retry_first=0.02,
        retry_last=0.2,
        client_id="cuts",
    )
    # What is measured is the bridge: no queue behind it may overflow.
    session = SessionSettings(maximum_queued_messages=10_000_000, maximum_queued_bytes=1 << 30)
    settings = BrokerSettings(
        session=session,
        data_directory=str(folder / "data"),
        bridges=(bridge,),
        listeners=(
            ListenerSettings(
                f"tcp:{ours}:interface=127.0.0.1", allow_anonymous=True, session=session
            ),
        ),
    )
    service = MQTTBroker(reactor, settings)
    service.startService()
    near, far = Side(reactor, ours, "near", "out"), Side(reactor, theirs, "far", "in")
    await near.listen("in")
    await far.listen("out")
    # What is published there before the bridge has first subscribed is not for it.
    while service.bridges.statuses()[0].state is not State.CONNECTED:
        await deferLater(reactor, 0.05)
    await deferLater(reactor, 0.5)
    began = time.monotonic()
    done = 0
    chance = random.Random(1)
    while done < cuts:
        flows = [ensureDeferred(side.publish(rate)) for side in (near, far)]
        await deferLater(reactor, chance.uniform(0.01, 0.2))
        done += cutter.cut()
        for flow in flows:
            await flow
        if not quiet and done and done % 10 == 0:
            print(f"{done} cuts, {near.sent} messages each way", flush=True)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and (len(far.seen) < near.sent or len(near.seen) < far.sent):
        await deferLater(reactor, 0.1)
    result = Result(
        done,
        near.sent,
        (near.sent - len(far.seen), far.sent - len(near.seen)),
        (_repeated(far), _repeated(near)),
        time.monotonic() - began,
    )
    await near.client.stopService()
    await far.client.stopService()
    await service.stopService()
    await port.stopListening()
    return result


def _repeated(side: Side) -> int:
    return sum(times - 1 for times in side.seen.values())


def bridge_cuts(cuts: int, rate: int = 100, quiet: bool = True) -> Result:
    """Run it; *rate*: messages each way for each cut."""
    program = find_program("mosquitto")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        theirs = free_port()
        (folder / "mosquitto.conf").write_text(CONFIG.format(port=theirs))
        process = subprocess.Popen(
            [program, "-c", str(folder / "mosquitto.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            thread = reactor_thread()
            answer: list[Any] = []

            def start() -> None:
                running = ensureDeferred(run(thread.reactor, cuts, folder, theirs, rate, quiet))
                running.addBoth(answer.append)

            thread.call(start)
            deadline = time.monotonic() + 60 + 6 * cuts
            while not answer and time.monotonic() < deadline:
                time.sleep(0.05)
            if not answer:
                raise TimeoutError("the run does not end")
            if not isinstance(answer[0], Result):
                answer[0].raiseException()
            return answer[0]  # type: ignore[no-any-return]
        finally:
            process.kill()
            process.wait(60)


if __name__ == "__main__":
    shown = bridge_cuts(int(sys.argv[1]) if len(sys.argv) > 1 else 100, quiet=False)
    print(shown)
    sys.exit(min(1, sum(shown.missing)))
