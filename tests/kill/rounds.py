"""Rounds of load and ``kill -9`` against one data directory."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from random import Random

from attrs import define, field

from mqttd.store.operations import check
from mqttd.wire.codes import MQTT5, MQTT311
from tests.end_to_end.daemon import Daemon, free_port, toml
from tests.kill.clients import Client, Publisher, Subscriber, verdict

#: Seconds in which something must come in the last round, while something is left.
PATIENCE = 20.0


@define
class Result:
    """What came out."""

    rounds: int = 0
    acknowledged: int = 0
    received: int = 0
    #: Messages that came again, which QoS 1 allows.
    repeated: int = 0
    #: Seconds from the start of a daemon to its first CONNACK, the longest.
    slowest_start: float = 0.0
    faults: list[str] = field(factory=list)


class Trial:
    """The clients, and the daemon that they outlive."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.source = source = Random(seed)
        self.port = free_port()
        self.publishers = [
            Publisher("p1-4", MQTT311, 1),
            Publisher("p1-5", MQTT5, 1, window=50),
            Publisher("p2-4", MQTT311, 2),
            Publisher("p2-5", MQTT5, 2, window=5),
        ]
        self.subscribers = [
            Subscriber("quick", MQTT311, 20, 0.0, source),
            Subscriber("slow", MQTT5, 30, 0.02, source),
            Subscriber("absent", MQTT5, 100, 0.0, source),
        ]
        self.result = Result()
        config = folder / "mqttd.toml"
        endpoint = f"tcp:{self.port}:interface=127.0.0.1"
        config.write_text(
            toml(
                [{"endpoint": endpoint, "allow_anonymous": True}],
                broker={"drain_timeout": 2},
                session={"maximum_queued_messages": 1_000_000, "maximum_queued_bytes": 2**30},
            )
        )
        self._arguments = ["--config", str(config)]

    async def run(self, rounds: int) -> Result:
        """All of it, and the verdict."""
        for number in range(rounds):
            # Now and then it ends as it should.
            await self._round(number, gracefully=number % 10 == 9)
            self.result.rounds += 1
        await self._last_round()
        result = self.result
        result.acknowledged = sum(len(each.acknowledged) for each in self.publishers)
        result.received = sum(len(each.messages) for each in self.subscribers)
        result.repeated = result.received - sum(
            len(set(each.messages)) for each in self.subscribers
        )
        result.faults += verdict(self.publishers, self.subscribers)
        result.faults += check(self.folder / "state" / "mqttd").problems
        return result

    async def _round(self, number: int, gracefully: bool) -> None:
        daemon = await self._start()
        try:
            absent = number % 2 == 1
            tasks = await self._connect(self.subscribers[: 2 if absent else 3])
            tasks += await self._connect(self.publishers)
            await asyncio.sleep(self.source.choice((0.0, 0.05, 0.2, 0.5, 0.9)))
            await asyncio.sleep(self.source.random() * 0.3)
        finally:
            if not gracefully:
                daemon.process.kill()
            await asyncio.to_thread(daemon.stop)
        await asyncio.gather(*tasks)

    async def _last_round(self) -> None:
        for publisher in self.publishers:
            publisher.is_stopped = True
        for subscriber in self.subscribers:
            subscriber.delay = 0.0
        daemon = await self._start()
        try:
            tasks = await self._connect(self.publishers)
            tasks += await self._connect(self.subscribers)
            received, since = 0, time.monotonic()
            while time.monotonic() < since + PATIENCE and not self._is_complete():
                await asyncio.sleep(0.2)
                if received != (received := sum(len(each.messages) for each in self.subscribers)):
                    since = time.monotonic()
            # What should not come as well would come now.
            await asyncio.sleep(0.5)
        finally:
            await asyncio.to_thread(daemon.stop)
        await asyncio.gather(*tasks)

    def _is_complete(self) -> bool:
        wanted = {message for each in self.publishers for message in each.acknowledged}
        return all(publisher.is_done for publisher in self.publishers) and all(
            wanted <= set(subscriber.messages) for subscriber in self.subscribers
        )

    async def _start(self) -> Daemon:
        began = time.monotonic()
        daemon = Daemon(self.folder, self._arguments)
        try:
            await asyncio.to_thread(daemon.wait_for, " serves ")
        except AssertionError:
            await asyncio.to_thread(daemon.stop)
            raise
        self.result.slowest_start = max(self.result.slowest_start, time.monotonic() - began)
        return daemon

    async def _connect(
        self, clients: list[Publisher] | list[Subscriber]
    ) -> list[asyncio.Task[None]]:
        chosen: list[Client] = list(clients)
        tasks = [asyncio.create_task(client.run(self.port)) for client in chosen]
        for client in chosen:
            await asyncio.wait_for(client.connected.wait(), 30)
            if isinstance(client, Subscriber):
                await asyncio.wait_for(client.subscribed.wait(), 30)
        return tasks


async def trial(folder: Path, rounds: int, seed: int) -> Result:
    """*rounds* kills in *folder*; *seed* decides when."""
    return await Trial(folder, seed).run(rounds)
