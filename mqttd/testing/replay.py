"""What a flight recorder kept, once more: at a broker on virtual time.

``replay`` takes the document that ``mqttctl --json flight show`` writes. A client of
the same version connects, subscribes as the other had, and sends what the other sent,
at the same intervals. Payloads were not kept; others of the same size take their place.
Messages that the client was sent by others are published anew. ``python -m
mqttd.testing.replay FILE`` says what comes of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from mqttd.settings import BrokerSettings
from mqttd.testing.virtual import VirtualBroker, VirtualClient
from mqttd.wire.packets import Packet, Publish

#: Stands for each byte of a payload.
FILLER = b"x"

#: Bytes of the largest packet that is made up anew.
LARGEST = 16 * 1024 * 1024


@frozen
class Replayed:
    """What came of a replay."""

    broker: VirtualBroker
    client: VirtualClient
    #: What the client got, after CONNACK and the first SUBACKs.
    received: list[Packet]
    #: Packets that were sent, and records that could not be.
    sent: int
    left_out: list[Mapping[str, Any]] = field(factory=list)

    @property
    def closed_reason(self) -> str:
        return self.client.closed_reason


def replay(document: Mapping[str, Any], settings: BrokerSettings | None = None) -> Replayed:
    """Play *document* to a new broker with *settings*."""
    broker = VirtualBroker(settings)
    client = broker.connect(
        document["client_id"], document["version"], keep_alive=document["keep_alive"]
    )
    for subscription in document["subscriptions"]:
        client.subscribe(subscription["topic_filter"], qos=subscription["qos"])
    play = _Play(broker, client)
    records = document["records"]
    play.all(records)
    offending = document.get("offending")
    if offending and not _is_last(offending, records):
        play.send(offending)
    play.take()
    return Replayed(broker, client, play.received, play.sent, play.left_out)


class _Play:
    def __init__(self, broker: VirtualBroker, client: VirtualClient) -> None:
        self._broker = broker
        self._client = client
        self.received: list[Packet] = []
        self.sent = 0
        self.left_out: list[Mapping[str, Any]] = []
        #: Messages that have come and that no record has told of yet.
        self._ahead: list[Publish] = []

    def all(self, records: Iterable[Mapping[str, Any]]) -> None:
        before: float | None = None
        for record in records:
            if before is not None:
                self._broker.advance(max(0.0, record["at"] - before))
            before = record["at"]
            if record["direction"] == "in":
                self.send(record)
            elif record.get("packet") == "PUBLISH":
                self._deliver(record)

    def send(self, record: Mapping[str, Any]) -> None:
        head = bytes.fromhex(record.get("head", ""))
        size = record.get("size", 0)
        complete = record.get("packet") == "PUBLISH" or not record.get("cut")
        if not head or not complete or size > LARGEST:
            self.left_out.append(record)
            return
        if not self._client.closed:
            self._client.send_bytes(head.ljust(size, FILLER))
            self.sent += 1
        self.take()

    def _deliver(self, record: Mapping[str, Any]) -> None:
        """The client was sent this: by its own doing, or somebody else published it."""
        self.take()
        topic = record.get("topic", "")
        for message in self._ahead:
            if message.topic == topic:
                self._ahead.remove(message)
                return
        if not topic or "payload_size" not in record:
            self.left_out.append(record)
            return
        payload = FILLER * min(record["payload_size"], LARGEST)
        self._broker.publish(topic, payload, record.get("qos", 0))
        self.take()
        self._ahead = [each for each in self._ahead if each.topic != topic]

    def take(self) -> None:
        received = self._client.received
        self._ahead += [packet for packet in received if isinstance(packet, Publish)]
        self.received += received
        received.clear()


def _is_last(offending: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> bool:
    sent = [record for record in records if record["direction"] == "in" and "head" in record]
    return bool(sent) and sent[-1]["head"] == offending.get("head")


def main(arguments: Sequence[str]) -> int:
    """Play the file that is named."""
    if len(arguments) != 1:
        print("usage: python -m mqttd.testing.replay FILE", file=sys.stderr)
        return 2
    with open(arguments[0], encoding="utf-8") as file:
        played = replay(json.load(file))
    for packet in played.received:
        print(packet)
    print(f"{played.sent} packets sent, {len(played.left_out)} records left out")
    print(f"the connection is {played.closed_reason or 'open'}")
    played.broker.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
