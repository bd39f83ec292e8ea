"""Clients of all versions that do what they like, against the model.

After each step the broker is asked for what must always hold (DESIGN.md, the
invariants): packets in order, no message finished that was not delivered, QoS 2
once, one connection per client id, counts that add up.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mqttd.broker.durability import TICK
from mqttd.settings import BrokerSettings, Overflow, SessionSettings
from mqttd.testing import ManualStore, VirtualBroker, VirtualClient
from mqttd.testing.virtual import VirtualClock
from mqttd.wire.packets import Puback, Pubcomp, Publish, Pubrec, Pubrel, Will
from tests.stateful.model import EXPIRY, Model, ModelSession

CLIENTS = st.sampled_from(["alice", "bob", "carol"])
TOPICS = st.sampled_from(["t/1", "t/2", "u"])
#: Wills have a topic of their own: they are numbered when they are made.
WILLS = "w"
FILTERS = st.sampled_from(["t/1", "t/+", "#", "u", "+/2", WILLS])
QOS = st.integers(0, 2)
WINDOW = 4


class Link:
    """One connection of a client, and what it has in its hands."""

    def __init__(self, client: VirtualClient, window: int, will: tuple[int, bytes] | None) -> None:
        self.client = client
        self.window = window
        #: (QoS, payload) of the will.
        self.will = will
        #: Packet id -> (payload, QoS, released) of what it has not finished.
        self.held: dict[int, tuple[bytes, int, bool]] = {}
        self.aliases: dict[int, str] = {}


class Clients(RuleBasedStateMachine):
    """No queue ever overflows: nothing may be lost but QoS 0 for the absent."""

    session_settings = SessionSettings(maximum_inflight=WINDOW)
    lossless = True
    #: Whether sessions survive the broker.
    keeps = False

    def __init__(self) -> None:
        super().__init__()
        clock = VirtualClock()
        store = None
        if self.keeps:
            store = ManualStore(lambda: 1e9 + clock.seconds(), clock.seconds)
            store.automatic = True
        settings = BrokerSettings(session=self.session_settings)
        self.mqtt = VirtualBroker(settings, clock=clock, store=store)
        self.model = Model()
        self.links: dict[str, Link] = {}
        self.numbers = count(1)
        self.sound = True

    def teardown(self) -> None:
        if self.lossless and self.sound:
            self._finish()
        self.mqtt.stop()

    # --- connections --------------------------------------------------------------

    @rule(
        client_id=CLIENTS,
        version=st.sampled_from([3, 4, 5]),
        clean=st.booleans(),
        kept=st.booleans(),
        maximum=st.sampled_from([0, 1, 2]),
        aliases=st.sampled_from([0, 2]),
        will=st.one_of(st.none(), QOS),
    )
    def connect(
        self,
        client_id: str,
        version: int,
        clean: bool,
        kept: bool,
        maximum: int,
        aliases: int,
        will: int | None,
    ) -> None:
        """New, resumed, or taken over."""
        fields: dict[str, Any] = {}
        if version == 5:
            if kept:
                fields["session_expiry_interval"] = EXPIRY
            if maximum:
                fields["receive_maximum"] = maximum
            if aliases:
                fields["topic_alias_maximum"] = aliases
        else:
            kept = not clean
        last_will = None
        if will is not None:
            last_will = (will, self._payload())
            fields["will"] = Will(WILLS, last_will[1], will)
        old = self.links.get(client_id)
        if old is not None:
            self._ended(client_id)
        if clean:
            self.model.sessions.pop(client_id, None)
        present = client_id in self.model.sessions
        session = self.model.sessions.setdefault(client_id, ModelSession())
        session.online = True
        session.kept = kept
        session.for_ever = kept and version < 5
        client = self.mqtt.connect(client_id, version, clean, **fields)
        window = min(WINDOW, maximum) if version == 5 and maximum else WINDOW
        self.links[client_id] = Link(client, window, last_will)
        if old is not None:
            assert old.client.closed
        assert client.connack is not None
        assert client.connack.reason == 0
        assert client.connack.session_present is (present and version != 3)

    @precondition(lambda self: self.links)
    @rule(data=st.data(), how=st.sampled_from(["drop", "disconnect", "garbage"]))
    def leave(self, data: st.DataObject, how: str) -> None:
        client_id, link = self._pick(data)
        if how == "drop":
            self._ended(client_id)
            link.client.drop()
        elif how == "garbage":
            self._ended(client_id)
            link.client.send_bytes(b"\x00\x00")
            assert link.client.closed
        else:
            link.will = None
            self._ended(client_id)
            link.client.disconnect()

    def _ended(self, client_id: str) -> None:
        """The connection is at its end: the session is away, the will goes out."""
        link = self.links.pop(client_id)
        self.model.detach(client_id)
        if link.will is not None:
            qos, payload = link.will
            self.model.route(WILLS, payload, qos)

    @rule(seconds=st.sampled_from([0, 1, 4, 30]))
    def wait(self, seconds: int) -> None:
        self.mqtt.advance(seconds)
        self.model.now += seconds
        for client_id in list(self.model.sessions):
            overdue = self.model.overdue(client_id)
            there = client_id in self.mqtt.broker.sessions
            assert overdue is None or there is not overdue
            if not there:
                del self.model.sessions[client_id]

    # --- subscriptions ------------------------------------------------------------

    @precondition(lambda self: self.links)
    @rule(data=st.data(), topic_filter=FILTERS, qos=QOS)
    def subscribe(self, data: st.DataObject, topic_filter: str, qos: int) -> None:
        client_id, link = self._pick(data)
        assert link.client.subscribe(topic_filter, qos=qos).reasons == [qos]
        self.model.sessions[client_id].subscriptions[topic_filter] = qos

    @precondition(lambda self: self.links)
    @rule(data=st.data(), topic_filter=FILTERS)
    def unsubscribe(self, data: st.DataObject, topic_filter: str) -> None:
        client_id, link = self._pick(data)
        link.client.unsubscribe(topic_filter)
        self.model.sessions[client_id].subscriptions.pop(topic_filter, None)

    # --- publishing ---------------------------------------------------------------

    @precondition(lambda self: self.links)
    @rule(data=st.data(), topic=TOPICS, qos=QOS, times=st.sampled_from([1, 1, 3, 9]))
    def publish(self, data: st.DataObject, topic: str, qos: int, times: int) -> None:
        """Some at once, in one piece; QoS 2 ones stay to be released."""
        client_id, link = self._pick(data)
        session = self.model.sessions[client_id]
        messages = []
        for _ in range(times):
            packet_id = self._free_packet_id(link, session) if qos else 0
            message = Publish(topic, self._payload(), qos, packet_id=packet_id)
            messages.append(message)
            if qos == 2:
                session.outstanding[packet_id] = (topic, message.payload)
            self.model.route(topic, message.payload, qos)
        link.client.send(*messages)
        if self.keeps:
            # Who has not acknowledged by then has it on disk.
            self.mqtt.advance(3 * TICK)
            self.model.now += 3 * TICK
        kind: Any = (None, Puback, Pubrec)[qos]
        if kind is not None:
            answers = [answer.packet_id for answer in link.client.take(kind)]
            assert answers == [message.packet_id for message in messages]

    @precondition(lambda self: self._with_outstanding())
    @rule(data=st.data(), release=st.booleans())
    def go_on(self, data: st.DataObject, release: bool) -> None:
        """Release a QoS 2 message, or send it once more."""
        client_id = data.draw(st.sampled_from(self._with_outstanding()))
        link, session = self.links[client_id], self.model.sessions[client_id]
        packet_id = data.draw(st.sampled_from(sorted(session.outstanding)))
        if release:
            link.client.send(Pubrel(packet_id))
            assert len(link.client.take(Pubcomp, packet_id=packet_id, reason=0)) == 1
            del session.outstanding[packet_id]
        else:
            topic, payload = session.outstanding[packet_id]
            link.client.send(Publish(topic, payload, 2, dup=True, packet_id=packet_id))
            assert len(link.client.take(Pubrec, packet_id=packet_id, reason=0)) == 1

    # --- acknowledging ------------------------------------------------------------

    @precondition(lambda self: any(link.held for link in self.links.values()))
    @rule(data=st.data(), refuse=st.booleans())
    def acknowledge(self, data: st.DataObject, refuse: bool) -> None:
        """One step for one message."""
        holding = sorted(name for name, link in self.links.items() if link.held)
        client_id = data.draw(st.sampled_from(holding))
        packet_id = data.draw(st.sampled_from(sorted(self.links[client_id].held)))
        self._acknowledge(client_id, packet_id, refuse)

    def _acknowledge(self, client_id: str, packet_id: int, refuse: bool = False) -> None:
        link = self.links[client_id]
        payload, qos, released = link.held[packet_id]
        reason = 0x80 if refuse and link.client.version == 5 else 0
        if qos == 1:
            link.client.send(Puback(packet_id, reason))
        elif released:
            link.client.send(Pubcomp(packet_id))
        else:
            link.client.send(Pubrec(packet_id, reason))
            if not reason:
                return
            self.model.sessions[client_id].unreleased.discard(packet_id)
        del link.held[packet_id]
        session = self.model.sessions[client_id]
        del session.owed[payload]
        session.finished += 1

    # --- what the clients see -----------------------------------------------------

    @invariant()
    def all_is_well(self) -> None:
        self.sound = False
        self.what_came_is_right()
        self.the_books_agree()
        self.the_counts_add_up()
        self.sound = True

    def what_came_is_right(self) -> None:
        for client_id, link in self.links.items():
            session = self.model.sessions[client_id]
            packets = list(link.client.received)
            link.client.received.clear()
            for packet in packets:
                if isinstance(packet, Publish):
                    self._message(link, session, packet)
                elif isinstance(packet, Pubrel):
                    self._released(link, session, packet)
                else:
                    raise AssertionError(f"{client_id} received {packet!r}")
            assert len(link.held) <= link.window
            assert not link.client.closed

    def _message(self, link: Link, session: ModelSession, packet: Publish) -> None:
        topic = packet.topic
        alias = packet.properties.get("topic_alias")
        if alias is not None:
            topic = link.aliases.setdefault(alias, topic)
        payload, qos = packet.payload, packet.qos
        number = int(payload)
        if not qos:
            session.received_qos0 += 1
        else:
            assert session.owed.get(payload) == qos
            assert packet.packet_id not in link.held
            if packet.dup:
                assert session.packet_ids[payload] == packet.packet_id
            else:
                assert payload not in session.packet_ids
                assert packet.packet_id not in session.unreleased
                session.packet_ids[payload] = packet.packet_id
            link.held[packet.packet_id] = (payload, qos, False)
            if qos == 2:
                if packet.packet_id in session.unreleased:
                    return
                session.unreleased.add(packet.packet_id)
        session.seen[payload] += 1
        if not packet.dup and topic != WILLS:
            assert session.last.get((topic, qos), 0) < number
            session.last[topic, qos] = number
        assert qos == 1 or session.seen[payload] == 1

    def _released(self, link: Link, session: ModelSession, packet: Pubrel) -> None:
        packet_id = packet.packet_id
        if packet_id in link.held:
            payload, qos, _ = link.held[packet_id]
            assert qos == 2
        else:
            # After a reconnection PUBREL comes for what was received before it.
            payload = next(p for p in session.owed if session.packet_ids.get(p) == packet_id)
        session.unreleased.discard(packet_id)
        link.held[packet_id] = (payload, 2, True)

    # --- what the broker knows ----------------------------------------------------

    def the_books_agree(self) -> None:
        broker = self.mqtt.broker
        assert set(broker.connections) == set(self.links)
        assert {session.client_id for session in broker.sessions} == set(self.model.sessions)
        assert broker.sessions.offline == len(self.model.sessions) - len(self.links)
        assert len(broker.router) == sum(
            len(session.subscriptions) for session in self.model.sessions.values()
        )
        assert not broker.metrics.errors

    def the_counts_add_up(self) -> None:
        for client_id, known in self.model.sessions.items():
            session = self.mqtt.broker.sessions.get(client_id)
            assert session is not None
            assert session.online is known.online
            done = known.received_qos0 + known.finished
            assert known.routed == (done + session.dropped + session.queued + len(session.inflight))
            assert (session.awaiting_release or set()) == set(known.outstanding)
            assert session.queued <= self.session_settings.maximum_queued_messages
            link = self.links.get(client_id)
            if link is not None:
                assert set(link.held) <= set(session.inflight)

    # --- the end --------------------------------------------------------------------

    def _finish(self) -> None:
        """Everyone comes back and takes what is owed to them: it is all there."""
        for client_id, session in list(self.model.sessions.items()):
            if client_id not in self.links:
                self.connect(client_id, 5, False, True, 0, 0, None)
            while True:
                self.what_came_is_right()
                held = list(self.links[client_id].held)
                if not held:
                    break
                for packet_id in held:
                    if packet_id in self.links[client_id].held:
                        self._acknowledge(client_id, packet_id)
            assert session.owed == {}
        self.the_books_agree()
        self.the_counts_add_up()

    # --- helpers --------------------------------------------------------------------

    def _pick(self, data: st.DataObject) -> tuple[str, Link]:
        client_id = data.draw(st.sampled_from(sorted(self.links)))
        return client_id, self.links[client_id]

    def _payload(self) -> bytes:
        return b"%d" % next(self.numbers)

    def _with_outstanding(self) -> list[str]:
        return sorted(name for name in self.links if self.model.sessions[name].outstanding)

    def _free_packet_id(self, link: Link, session: ModelSession) -> int:
        while (packet_id := link.client.next_packet_id()) in session.outstanding:
            pass
        return packet_id


class CrowdedClients(Clients):
    """Queues of three messages: what is lost is counted."""

    session_settings = SessionSettings(
        maximum_inflight=WINDOW, maximum_queued_messages=3, overflow=Overflow.DROP_OLDEST
    )
    lossless = False


class KeptClients(Clients):
    """Sessions that survive the broker: the same holds, and the counts add up too."""

    keeps = True


class CrowdedKeptClients(CrowdedClients):
    """The same with short queues."""

    keeps = True
