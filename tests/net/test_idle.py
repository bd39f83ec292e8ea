"""What a connection costs that does nothing, in memory."""

from __future__ import annotations

import gc
import os
import tracemalloc
from typing import Any

from mqttd.wire.packets import Connect, Subscribe, SubscriptionRequest
from mqttd.wire.serializer import serialize

from .sockets import OnSockets, open_socket

#: Bytes, the session and one subscription included; sockets are the kernel's.
MOST = 4096
COUNT = 300


class Idle(OnSockets):
    def open(self, address: Any, first: int, count: int) -> None:
        """Clients that connect, subscribe and then rest."""
        for number in range(first, first + count):
            connect = Connect(f"client-{number:06}", 4, clean_start=False)
            wanted = Subscribe(1, [SubscriptionRequest(f"topic/{number:06}", 1)])
            stream = open_socket(address, serialize(connect, 4) + serialize(wanted, 4))
            answers = b""
            while len(answers) < 9:
                answers += stream.recv(16)
            # The number alone: what Python keeps for the client does not count.
            self.addCleanup(os.close, stream.detach())

    async def test_an_idle_connection_costs_little(self) -> None:
        listener = await self.listen()
        address = self.where(listener)
        await self.client(self.open, address, 0, 50)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        await self.client(self.open, address, 50, COUNT)
        gc.collect()
        cost = (tracemalloc.get_traced_memory()[0] - before) / COUNT
        assert cost < MOST
        assert len(self.broker.sessions) == 50 + COUNT
