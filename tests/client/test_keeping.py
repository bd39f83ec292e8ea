"""The client with a store: what a crash leaves is sent, once at QoS 2."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from mqttd.client import Client, ClientSettings
from mqttd.interfaces import StoreError
from mqttd.testing.store import ManualStore
from mqttd.testing.virtual import VirtualClock
from mqttd.wire.packets import Connack, Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.client.link import Peers, result

SETTINGS: dict[str, Any] = {
    "client_id": "c",
    "clean_start": False,
    "session_expiry": 1000,
    "keep_alive": 0,
}


class Crashing:
    """A client on a store by hand, and what is left of it after a crash."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.peers = Peers(self.clock)
        self.store = ManualStore(seconds=self.clock.seconds)
        self.start()

    def start(self) -> None:
        self.store.automatic = True
        self.client = Client(
            self.clock, self.peers.link, ClientSettings(**SETTINGS), store=lambda: self.store
        )
        self.client.startService()
        self.peers.advance()

    def crash(self) -> None:
        """What was committed is all that the next client finds."""
        tables = deepcopy(self.store.tables)
        self.peers.link.cut()
        self.client.stopService()
        self.peers.advance(1)
        self.store = ManualStore(seconds=self.clock.seconds, tables=tables)
        self.peers.connack = Connack(True)
        self.start()


def test_what_was_not_acknowledged_is_sent_after_a_crash() -> None:
    run = Crashing()
    for number in range(3):
        run.client.publish("t", b"%d" % number, 1, content_type="x").addErrback(lambda f: None)
    assert result(run.client.kept()) == [None]
    run.peers.advance()
    first = run.peers.last.take(Publish)
    run.peers.last.send(Puback(first[0].packet_id))
    run.peers.advance()
    run.store.commit()
    run.crash()
    again = run.peers.last.take(Publish)
    assert [(p.payload, p.packet_id, p.dup) for p in again] == [
        (p.payload, p.packet_id, True) for p in first[1:]
    ]
    assert again[0].properties["content_type"] == "x"
    run.client.publish("t", b"new", 1).addErrback(lambda f: None)
    run.peers.advance()
    (new,) = run.peers.last.take(Publish)
    assert new.packet_id not in {p.packet_id for p in again}


def test_what_waited_for_a_connection_is_sent_in_order_after_a_crash() -> None:
    run = Crashing()
    run.peers.link.down = True
    run.peers.link.cut()
    run.peers.advance()
    for number in range(5):
        run.client.publish("t", b"%d" % number, 1, message_expiry_interval=1000).addErrback(
            lambda f: None
        )
    run.store.commit()
    tables = deepcopy(run.store.tables)
    run.client.stopService()
    run.peers.advance(100)
    run.store = ManualStore(seconds=run.clock.seconds, tables=tables)
    run.peers.link.down = False
    run.start()
    sent = run.peers.last.take(Publish)
    assert [p.payload for p in sent] == [b"%d" % n for n in range(5)]
    assert all(890 <= p.properties["message_expiry_interval"] <= 1000 for p in sent)


def test_qos_2_is_not_sent_before_its_packet_id_is_safe() -> None:
    run = Crashing()
    run.store.automatic = False
    run.client.publish("t", b"x", 2).addErrback(lambda f: None)
    run.peers.advance()
    assert run.peers.last.take(Publish) == []
    run.store.commit()
    run.peers.advance()
    (packet,) = run.peers.last.take(Publish)
    run.peers.last.send(Pubrec(packet.packet_id))
    run.peers.advance()
    assert run.peers.last.take(Pubrel) == []
    run.store.commit()
    run.peers.advance()
    assert len(run.peers.last.take(Pubrel)) == 1
    run.crash()
    assert run.peers.last.take(Publish) == []
    (released,) = run.peers.last.take(Pubrel)
    assert released.packet_id == packet.packet_id
    run.peers.last.send(Pubcomp(packet.packet_id))
    run.peers.advance()
    assert run.client.unsent == 0


def test_an_incoming_qos_2_message_is_known_after_a_crash() -> None:
    run = Crashing()
    got: list[bytes] = []
    run.client.subscribe("t", lambda m: got.append(m.payload), qos=2)
    run.peers.last.send(Publish("t", b"x", 2, packet_id=7))
    run.peers.advance()
    assert len(run.peers.last.take(Pubrec)) == 1
    run.crash()
    run.client.subscribe("t", lambda m: got.append(m.payload), qos=2)
    run.peers.last.send(Publish("t", b"x", 2, dup=True, packet_id=7))
    run.peers.advance()
    assert len(run.peers.last.take(Pubrec)) == 1
    run.peers.last.send(Pubrel(7))
    run.peers.advance()
    run.peers.last.send(Publish("t", b"new", 2, packet_id=7))
    run.peers.advance()
    assert got == [b"x", b"new"]


def test_nothing_is_promised_while_the_disk_is_full() -> None:
    run = Crashing()
    run.store.fail("full")
    (error,) = result(run.client.publish("t", b"x", 1))
    assert isinstance(error, StoreError)
    assert run.client.unsent == 0


def test_a_store_needs_a_client_id(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="client id"):
        Client(VirtualClock(), "mqtt://localhost", store=ManualStore)
