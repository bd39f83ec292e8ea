"""The fast lane: common PUBLISHes from the input buffer straight to the outputs.

Most of what a broker moves needs nothing special: a PUBLISH without retain,
alias or expiry, to receivers of the publisher's version that can take it now.
For those the lane does at once what else goes through parser, protocol machine,
publish service, session and serializer: it knows the route by the topic's bytes,
and the incoming frame's own bytes are what goes out. QoS 0 frames of one topic
that follow each other travel as one slice.

The plain way is the reference. Whatever is not surely simple the lane leaves in
the buffer before it has touched anything; the plain way takes that packet, and
what it decides about a topic (valid, allowed) the lane learns from it. A
property test holds the two to the same output, byte for byte.

The functions here are long and reach into connections and sessions: each call
that they do not make is a good part of a message. Measured on CPython 3.11,
per QoS 0 message: see docs/performance.rst.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mqttd.broker.delivery import RELEASED, Delivery
from mqttd.broker.message import Message
from mqttd.broker.owed import Source
from mqttd.broker.router import Plan
from mqttd.broker.subscription import Target, Unsure
from mqttd.interfaces import PUBLISH, RECEIVE
from mqttd.settings import Overflow
from mqttd.wire.codes import MQTT5, MQTT311, PacketType, ReasonCode
from mqttd.wire.serializer import PUBACK, PUBCOMP, PUBREC, PUBREL

if TYPE_CHECKING:
    from mqttd.broker.broker import Broker
    from mqttd.broker.connection import Connection
    from mqttd.broker.session import Session
    from mqttd.broker.shared import SharedGroup
    from mqttd.wire.packets import Publish
    from mqttd.wire.parser import Parser

#: Routes kept per connection; one that uses more topics begins anew.
MAXIMUM_ROUTES = 1024
#: Encoded properties kept per connection, under 128 bytes each.
MAXIMUM_BLOCKS = 64

#: Added to the lane of a durable session.
KEPT: Final = 16

_PUBLISH: Final = int(PacketType.PUBLISH)
#: First bytes of PUBLISH with QoS 0, 1 and 2, neither DUP nor RETAIN.
_PUBLISHES: Final = frozenset((0x30, 0x32, 0x34))
#: Bytes that a packet may have which ``take_alone`` takes.
LONGEST_ALONE: Final = 129
_PUBLISH_QOS0: Final = 0x30
_PUBLISH_QOS1: Final = 0x32
_PUBACK: Final = 0x40
_PUBREC: Final = 0x50
_PUBREL: Final = 0x62
_PUBCOMP: Final = 0x70
_ACKNOWLEDGEMENTS: Final = frozenset((_PUBACK, _PUBREC, _PUBREL, _PUBCOMP))
#: How the acknowledgement to a 5.0 client ends when nobody subscribes.
NOBODY: Final = bytes((ReasonCode.NO_MATCHING_SUBSCRIBERS,))
#: And how it begins.
_PUBACK_TO_NOBODY: Final = PUBACK[:1] + bytes((2 + len(NOBODY),))
#: What a PUBLISH of each QoS is answered with.
_ANSWERS: Final = (b"", PUBACK, PUBREC)


#: Properties that do not travel on as they are, or that bind the payload.
_NEEDS_A_LOOK = frozenset(("message_expiry_interval", "topic_alias", "payload_format_indicator"))


class Route:
    """What was decided about a topic of a connection: it is valid and allowed."""

    __slots__ = ("alone", "epoch", "plan", "targets", "topic")

    plan: Plan
    #: Nobody or one client gets it, and no group.
    alone: bool
    #: The plan's, or with rules for receiving those of ``judged``.
    targets: tuple[Target, ...]
    #: Of the access rules that allowed it.
    epoch: int

    def __init__(self, topic: str, broker: Broker, qos: int) -> None:
        self.topic = topic
        self.renew(broker, qos)

    def renew(self, broker: Broker, qos: int) -> Plan:
        """Subscriptions or rules have changed."""
        plan = self.plan = broker.router.plan(self.topic)
        self.epoch = broker.authorizer.epoch
        self.targets = plan.targets
        if RECEIVE in broker.authorizer.checks:
            self.targets = judged(plan, qos, self.epoch)
        self.alone = not plan.groups and len(plan.targets) <= 1
        return plan


def judged(plan: Plan, qos: int, epoch: int) -> tuple[Target, ...]:
    """The targets of *plan*, with ``Unsure`` for who may not surely receive it.

    Decided once for all publishers. The plan is replaced when a receiver comes,
    goes or is another user; the rules' *epoch* voids what rules decided.
    """
    if plan.judged is None:
        plan.judged = {}
    known = plan.judged.get(qos)
    if known is None or known[0] != epoch:
        targets = tuple(
            target if _may_surely_receive(target, plan.topic, qos) else Unsure(target)
            for target in plan.targets
        )
        if not any(type(target) is Unsure for target in targets):
            targets = plan.targets
        known = plan.judged[qos] = (epoch, targets)
    return known[1]


def _may_surely_receive(target: Target, topic: str, qos: int) -> bool:
    receiver: Connection | None = target.session.consumer  # type: ignore[attr-defined]
    return (
        receiver is not None
        and receiver.lane != 0
        and receiver.guard.settled(RECEIVE, topic, qos, False)
    )


#: Topic, its length before it as in the packet, -> route, for each QoS.
Routes = tuple[dict[bytes, Route], dict[bytes, Route], dict[bytes, Route]]


def receiving_lane(connection: Connection) -> int:
    """Whose frames the client can be sent as they are: MQTT5, MQTT311, or 0.

    More by ``KEPT`` when its session is durable.
    """
    if (
        connection.mount_point
        or connection.maximum_aliases
        or connection.session.settings.upgrade_qos
        or connection.session.settings.retry_interval
        or connection.session.settings.maximum_inflight_bytes
        or connection.transport.listener.limits.outbound_messages is not None
    ):
        return 0
    lane = MQTT5 if connection.version >= MQTT5 else MQTT311
    return lane + KEPT if connection.session.durable else lane


def learn(connection: Connection, packet: Publish, topic: str) -> None:
    """The plain way has just let *packet* pass to *topic*: so may the next like it."""
    if packet.retain or connection.mount_point:
        return
    hooks = connection.broker.hooks
    if hooks.blocks_lane or (hooks.watching and hooks.watches(topic)):
        return
    if not connection.guard.settled(PUBLISH, topic, packet.qos, False):
        return  # it was looked up, and is to be again
    admission = connection.broker.admission
    if admission is not None and admission.has_quota:
        return
    if packet.properties:
        _learn_properties(connection, packet)
    routes = connection.routes
    if routes is None:
        routes = connection.routes = ({}, {}, {})
    known = routes[packet.qos]
    encoded = topic.encode()
    key = len(encoded).to_bytes(2, "big") + encoded
    route = known.get(key)
    broker = connection.broker
    if route is not None:
        if route.epoch != broker.authorizer.epoch:
            route.renew(broker, packet.qos)
        return
    if len(known) >= MAXIMUM_ROUTES:
        known.clear()
    known[key] = Route(topic, broker, packet.qos)


def _learn_properties(connection: Connection, packet: Publish) -> None:
    if _NEEDS_A_LOOK.isdisjoint(packet.properties) and len(packet.passthrough) < 0x80:
        known = connection.known_properties
        if known is None:
            known = connection.known_properties = set()
        elif len(known) >= MAXIMUM_BLOCKS:
            known.clear()
        known.add(bytes((len(packet.passthrough),)) + packet.passthrough)


def take_from(connection: Connection, parser: Parser) -> bool:
    """Move what can be moved from the front of the parser's buffer.

    True when that was all of it.
    """
    data, begin = parser.window()
    position = take(connection, data, begin)
    if position != begin:
        parser.skip_to(position)
    return begin < position == len(data)


def take(connection: Connection, data: bytes, position: int) -> int:
    """Move what can be moved of *data* from *position* on; the position behind it.

    Nothing of this connection waits before *data*.
    """
    if connection.broker.hooks.blocks_lane:
        return position
    routes = connection.routes
    end = len(data)
    while end - position >= 4:
        first = data[position]
        if first in _PUBLISHES:
            if routes is None:
                break
            after = _take_publishes(connection, routes, data, position, end)
            if after < end and data[after] == first:
                # It has refused this one, and would again.
                position = after
                break
        elif first in _ACKNOWLEDGEMENTS:
            after = _take_acknowledgements(connection, data, position, end)
        else:
            break
        if after == position:
            break
        position = after
        if connection.holds:
            break
    return position


def take_alone(connection: Connection, data: bytes) -> bytes | None:
    """Move *data*, if it is one PUBLISH that nobody or one client gets at once.

    Nothing of this connection waits before it, and it has at most ``LONGEST_ALONE``
    bytes and not more than the client may send. Returns what the client is to be sent;
    None when nothing was done. It does what ``_take_publishes`` does, without what only
    runs and durable sessions need.
    """
    routes = connection.routes
    size = len(data)
    if routes is None or size < 5 or data[1] != size - 2:
        return None
    if data[0] == _PUBLISH_QOS1:
        qos, known = 1, routes[1]
    elif data[0] == _PUBLISH_QOS0:
        qos, known = 0, routes[0]
    else:
        return None
    # A topic that is longer than the packet is under no key.
    head = 4 + data[3]
    route = known.get(data[2:head])
    broker = connection.broker
    if route is None or route.epoch != broker.authorizer.epoch:
        return None
    payload = head + 2 if qos else head
    version5 = connection.version >= MQTT5
    if version5:
        if payload >= size or data[payload]:
            return None
        payload += 1
    if payload > size or not route.plan.valid or not route.alone:
        return None
    identifier = data[head : head + 2]
    if qos and (identifier == b"\0\0" or connection.receipts is not None):
        return None
    metrics = broker.metrics
    inside = size - payload
    answer = b""
    targets = route.targets
    for target in targets:
        session: Session = target.session  # type: ignore[assignment]
        receiver: Connection | None = session.consumer  # type: ignore[assignment]
        queue = session.queue
        inflight = session.inflight
        # The conditions of ``_take_publishes``; and the session is not durable.
        if (
            receiver is None
            or receiver.lane != (MQTT5 if version5 else MQTT311)
            or not receiver.transport.writable
            or target.qos < qos
            or target.selective
            or (version5 and target.identifiers)
            or size > receiver.maximum_packet_size
            or (queue is not None and (queue.messages if qos else queue.messages_qos0))
            or session.asking is not None
            or session.resends
            or (qos and len(inflight) >= receiver.window)
        ):
            return None
        sent = data
        if qos:
            packet_id = session.next_packet_id
            while packet_id in inflight:
                packet_id = packet_id % 65_535 + 1
            sent = data[:head] + packet_id.to_bytes(2, "big") + data[head + 2 :]
            inflight[packet_id] = sent
            session.next_packet_id = packet_id % 65_535 + 1
        metrics.packets_sent[_PUBLISH] += 1
        metrics.messages_sent[qos] += 1
        metrics.payload_bytes_sent += inside
        if receiver is connection:
            answer = sent
        else:
            receiver.transport.write_now(sent)
    metrics.bytes_received += size
    metrics.packets_received[_PUBLISH] += 1
    metrics.messages_received[qos] += 1
    metrics.payload_bytes_received += inside
    if not targets:
        metrics.messages_unrouted += 1
        if qos and version5:
            metrics.packets_sent[_PUBACK >> 4] += 1
            return _PUBACK_TO_NOBODY + identifier + NOBODY
    if qos:
        metrics.packets_sent[_PUBACK >> 4] += 1
        answer += PUBACK + identifier
    return answer


def _take_publishes(
    connection: Connection, routes: Routes, data: bytes, position: int, end: int
) -> int:
    """Move PUBLISH packets of one QoS, run by run; the position behind them."""
    first = data[position]
    qos = first >> 1 & 3
    known = routes[qos]
    broker = connection.broker
    epoch = broker.authorizer.epoch
    version5 = connection.version >= MQTT5
    lane = MQTT5 if version5 else MQTT311
    kept = lane + KEPT
    durability = broker.durability
    if qos and durability is not None:
        if qos == 2 and connection.session.durable:
            return position  # what it sends is to be remembered
        if qos == 2 or durability.problem:
            kept = -1  # to durable sessions by the plain way
    startswith = data.startswith
    received = sent = received_bytes = sent_bytes = 0
    withheld: list[bytes] | None = None
    while end - position >= 5 and data[position] == first:
        start = position
        # Remaining Length, up to three bytes; odd ones are for the parser to judge.
        length = data[start + 1]
        body = start + 2
        if length >= 0x80:
            length = length & 0x7F | (data[body] & 0x7F) << 7
            body += 1
            if data[body - 1] >= 0x80:
                length |= data[body] << 14
                body += 1
                if length < 0x4000 or length >= 0x200000:
                    break
            elif length < 0x80:
                break
        stop = body + length
        size = stop - start
        if stop > end or length < 3 or size > connection.maximum_incoming:
            break
        head = body + 2 + (data[body] << 8 | data[body + 1])
        # What stands between topic and payload: packet id and properties.
        payload = block = head + 2 if qos else head
        if version5:
            if block >= stop:
                break
            payload += 1 + data[block]
            if data[block] and not _is_known(connection, data, block, payload):
                break
        if payload > stop:
            break
        route = known.get(data[body:head])
        if route is None or route.epoch != epoch:
            break
        plan = route.plan
        if not plan.valid:
            plan = route.renew(broker, qos)
        # Frames that begin alike have the same size: find where the run ends.
        last = end - size
        others: list[Target] | None = None
        groups = plan.groups
        if groups:
            if kept < 0 or payload - block > 1:
                break  # who gets it is not known yet; properties are to be parsed
            others = []
            # No run: that keeps the order where a member is a receiver as well.
            last = 0
        if stop <= last:
            if qos and version5:
                prefix, properties = data[start:head], data[block:payload]
                inner = block - start
                while startswith(prefix, stop) and startswith(properties, stop + inner):
                    stop += size
            else:
                prefix = data[start:payload] if not qos else data[start:head]
                while startswith(prefix, stop):
                    stop += size
            if stop > end:
                stop -= size  # a part of a frame
        count = (stop - start) // size

        receivers: list[Session] = []
        for target in route.targets:
            session: Session = target.session  # type: ignore[assignment]
            receiver: Connection | None = session.consumer  # type: ignore[assignment]
            queue = session.queue
            if (
                receiver is not None
                and (receiver.lane == lane or receiver.lane == kept)
                and receiver.transport.writable
                and target.qos >= qos
                and not target.selective
                and not (version5 and target.identifiers)
                and size <= receiver.maximum_packet_size
                and (queue is None or not (queue.messages if qos else queue.messages_qos0))
                and session.asking is None
                and not session.resends
            ):
                receivers.append(session)
                if qos:
                    count = min(count, receiver.window - len(session.inflight))
            elif kept < 0 and session.durable:
                count = 0
                break
            elif payload - block > 1 or session.settings.overflow is Overflow.PAUSE_PUBLISHERS:
                # Properties are to be parsed, or the publisher is paused message by message.
                count = 0
                break
            elif others is None:
                others = [target]
            else:
                others.append(target)
        if count <= 0:
            break

        if qos:
            ending = NOBODY if version5 and not plan.targets and not groups else b""
            if durability is not None:
                durability.receipt = None
                withheld = []
            count = _send_with_ids(
                connection,
                receivers,
                data,
                start,
                size,
                head,
                count,
                qos,
                ending,
                withheld,
                route,
                payload,
            )
            if not count:
                break
        else:
            run = data[start : start + count * size]
            for session in receivers:
                session.consumer.transport.write(run)  # type: ignore[union-attr]
        position = start + count * size
        received += count
        inside = count * (size + start - payload)
        received_bytes += inside
        if receivers:
            number = len(receivers)
            sent += count * number
            sent_bytes += inside * number
        if others is not None:
            if route.targets is not plan.targets:
                others = [each.original if type(each) is Unsure else each for each in others]
            inner = payload - start
            for frame in range(start, position, size):
                payload_bytes = data[frame + inner : frame + size]
                _deliver(connection, route.topic, payload_bytes, qos, others, groups)
            if connection.is_closed:  # it was among them, and too slow
                break
        elif not receivers:
            broker.metrics.messages_unrouted += count
        if withheld and durability is not None:
            if durability.receipt is None and connection.receipts is None:
                broker.metrics.packets_sent[withheld[0][0] >> 4] += count
                connection.transport.write(b"".join(withheld))
            else:
                durability.acknowledge(connection, tuple(withheld))
        if groups and connection.holds:
            break
    metrics = broker.metrics
    metrics.packets_received[_PUBLISH] += received
    metrics.messages_received[qos] += received
    metrics.payload_bytes_received += received_bytes
    metrics.packets_sent[_PUBLISH] += sent
    metrics.messages_sent[qos] += sent
    metrics.payload_bytes_sent += sent_bytes
    return position


def _is_known(connection: Connection, data: bytes, block: int, payload: int) -> bool:
    """Whether these properties, their length first, may travel on as they are."""
    known = connection.known_properties
    return known is not None and data[block] < 0x80 and data[block:payload] in known


def _send_with_ids(
    connection: Connection,
    receivers: list[Session],
    data: bytes,
    start: int,
    size: int,
    head: int,
    count: int,
    qos: int,
    ending: bytes,
    withheld: list[bytes] | None,
    route: Route,
    payload: int,
) -> int:
    """Send QoS 1 or 2 frames under the receivers' packet ids, and acknowledge them.

    *ending* is what an acknowledgement says beside its packet id. Where they may
    have to wait, the acknowledgements go into *withheld*. Returns how many: a
    packet id that is zero, or awaits its PUBREL, ends the run.
    """
    offset = head - start
    answer = _ANSWERS[qos]
    if ending:
        answer = answer[:1] + bytes((2 + len(ending),))
    answers: list[bytes] = []
    awaiting = connection.session.awaiting_release
    if qos == 2:
        if awaiting is None:
            awaiting = connection.session.awaiting_release = set()
        count = min(count, connection.maximum_awaiting - len(awaiting))
    rests: list[bytes] = []
    for frame in range(start, start + count * size, size):
        identifier = data[frame + offset : frame + offset + 2]
        if identifier == b"\0\0":
            break
        if qos == 2:
            packet_id = identifier[0] << 8 | identifier[1]
            if packet_id in awaiting:  # type: ignore[operator]
                break
            awaiting.add(packet_id)  # type: ignore[union-attr]
        rests.append(data[frame + offset + 2 : frame + size])
        answers.append(answer + identifier + ending)
    prefix = data[start:head]
    source: Source | None = None
    for session in receivers:
        inflight = session.inflight
        packet_id = session.next_packet_id
        frames: list[bytes] = []
        for rest in rests:
            while packet_id in inflight:
                packet_id = packet_id % 65_535 + 1
            sent = prefix + packet_id.to_bytes(2, "big") + rest
            inflight[packet_id] = sent
            frames.append(sent)
            packet_id = packet_id % 65_535 + 1
        session.next_packet_id = packet_id
        session.consumer.transport.write(b"".join(frames))  # type: ignore[union-attr]
        if session.durable:
            if source is None:
                source = Source(connection, route.topic, offset, payload - start)
            session.sent_run(source, frames)
    if withheld is None:
        connection.broker.metrics.packets_sent[answer[0] >> 4] += len(answers)
        connection.transport.write(b"".join(answers))
    else:
        withheld += answers
    return len(answers)


def _take_acknowledgements(connection: Connection, data: bytes, start: int, end: int) -> int:
    """Take a run of PUBACK, PUBREC, PUBREL or PUBCOMP; the position behind it."""
    first = data[start]
    session = connection.session
    if session.durable and first != _PUBACK:
        return start  # these are written, and answered when that is done
    inflight = session.inflight
    awaiting = session.awaiting_release
    hooks = connection.broker.hooks
    watched = bool(hooks.message_acknowledged)
    position = start
    answers: list[bytes] = []
    known: list[Delivery] = []
    while end - position >= 4 and data[position] == first and data[position + 1] == 2:
        packet_id = data[position + 2] << 8 | data[position + 3]
        if first == _PUBREL:
            if awaiting is None or packet_id not in awaiting:
                break
            awaiting.discard(packet_id)
            answers.append(PUBCOMP + data[position + 2 : position + 4])
        else:
            sent: Any = inflight.get(packet_id)
            if type(sent) is bytes:
                qos, released = sent[0] >> 1 & 3, False
            elif sent is not None:
                qos, released = sent.qos, sent.released
                if qos == 1:
                    if watched and hooks.watches(sent.message.topic):
                        break
                    known.append(sent)
            else:
                break
            if first == _PUBACK:
                if qos != 1:
                    break
                del inflight[packet_id]
            elif first == _PUBREC:
                if qos != 2 or released:
                    break
                if type(sent) is bytes:
                    inflight[packet_id] = RELEASED
                else:
                    session.received(packet_id, True)
                answers.append(PUBREL + data[position + 2 : position + 4])
            elif released:
                del inflight[packet_id]
            else:
                break
        position += 4
    if position != start:
        metrics = connection.broker.metrics
        metrics.packets_received[first >> 4] += (position - start) // 4
        if answers:
            metrics.packets_sent[answers[0][0] >> 4] += len(answers)
            connection.transport.write(b"".join(answers))
        if first in (_PUBACK, _PUBCOMP):
            session.note_free(data[position - 2] << 8 | data[position - 1])
        if session.durable:
            session.acknowledged_in_lane(known)
        if session.queue or session.is_replaying:
            session.pump()
    return position


def _deliver(
    connection: Connection,
    topic: str,
    payload: bytes,
    qos: int,
    targets: list[Target],
    groups: tuple[SharedGroup, ...],
) -> None:
    """The plain way for those receivers that need it, and for a member of each group."""
    message = Message(
        topic,
        payload,
        qos,
        publisher=connection.client_id,
        guard=connection.guard,
        created_at=connection.broker.seconds(),
    )
    publisher = connection.broker.publisher
    publisher.deliver(message, targets)
    if groups:
        publisher.publish_shared(message, groups, connection)
