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

from typing import TYPE_CHECKING

from mqttd.broker.message import Message
from mqttd.broker.router import Plan
from mqttd.broker.subscription import Target
from mqttd.interfaces import RECEIVE
from mqttd.settings import Overflow
from mqttd.wire.codes import MQTT5, MQTT311, PacketType

if TYPE_CHECKING:
    from mqttd.broker.connection import Connection
    from mqttd.broker.session import Session
    from mqttd.wire.parser import Parser

#: Routes kept per connection; one that uses more topics begins anew.
MAXIMUM_ROUTES = 1024

_PUBLISH = int(PacketType.PUBLISH)


class Route:
    """What was decided about a topic of a connection: it is valid and allowed."""

    __slots__ = ("epoch", "plan", "topic")

    def __init__(self, topic: str, plan: Plan, epoch: int) -> None:
        self.topic = topic
        self.plan = plan
        #: Of the access rules that allowed it.
        self.epoch = epoch


#: Topic bytes -> route, for each QoS.
Routes = tuple[dict[bytes, Route], dict[bytes, Route], dict[bytes, Route]]


def receiving_lane(connection: Connection) -> int:
    """Whose frames the client can be sent as they are: MQTT5, MQTT311, or 0."""
    if (
        connection.mount_point
        or connection.maximum_aliases
        or connection.session.settings.upgrade_qos
        or connection.transport.listener.limits.outbound_messages is not None
    ):
        return 0
    return MQTT5 if connection.version >= MQTT5 else MQTT311


def learn(connection: Connection, topic: str, qos: int) -> None:
    """The plain way has just let a PUBLISH on *topic* pass: so may the next."""
    if connection.mount_point:
        return
    routes = connection.routes
    if routes is None:
        routes = connection.routes = ({}, {}, {})
    known = routes[qos]
    key = topic.encode()
    route = known.get(key)
    broker = connection.broker
    if route is not None:
        route.epoch = broker.authorizer.epoch
        return
    if len(known) >= MAXIMUM_ROUTES:
        known.clear()
    known[key] = Route(topic, broker.router.plan(topic), broker.authorizer.epoch)


def take(connection: Connection, parser: Parser) -> None:
    """Move what can be moved from the front of the parser's buffer."""
    routes = connection.routes
    if routes is None or RECEIVE in connection.broker.authorizer.checks:
        return
    data, position = parser.window()
    begin = position
    end = len(data)
    while end - position >= 5:
        first = data[position]
        if first == 0x30:
            after = _publish_qos0(connection, routes[0], data, position, end)
        else:
            break
        if after == position:
            break
        position = after
    if position != begin:
        parser.skip_to(position)


def _publish_qos0(
    connection: Connection, routes: dict[bytes, Route], data: bytes, start: int, end: int
) -> int:
    """Move a run of QoS 0 frames of one topic; the position behind it."""
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
                return start
        elif length < 0x80:
            return start
    stop = body + length
    size = stop - start
    if stop > end or length < 3 or size > connection.maximum_incoming:
        return start
    topic = body + 2
    head = topic + (data[body] << 8 | data[body + 1])
    if head > stop:
        return start
    route = routes.get(data[topic:head])
    if route is None or route.epoch != connection.broker.authorizer.epoch:
        return start
    version5 = connection.version >= MQTT5
    if version5:
        if head == stop or data[head]:
            return start
        head += 1
    plan = route.plan
    if not plan.valid:
        plan = route.plan = connection.broker.router.plan(route.topic)
    if plan.groups:
        return start
    lane = MQTT5 if version5 else MQTT311
    others: list[Target] | None = None
    receivers: list[Connection] = []
    for target in plan.targets:
        session: Session = target.session  # type: ignore[assignment]
        receiver = session.consumer
        if (
            receiver is not None
            and receiver.lane == lane
            and receiver.transport.writable
            and not target.no_local
            and not (version5 and target.identifiers)
            and size <= receiver.maximum_packet_size
            and (session.queue is None or not session.queue.messages_qos0)
            and session.is_clear
        ):
            receivers.append(receiver)
        elif session.settings.overflow is Overflow.PAUSE_PUBLISHERS:
            return start  # its publisher is paused message by message
        elif others is None:
            others = [target]
        else:
            others.append(target)
    # Frames of the same head have the same size: find where the run ends.
    prefix = data[start:head]
    startswith = data.startswith
    last = end - size
    while stop <= last and startswith(prefix, stop):
        stop += size
    run = data[start:stop]
    count = (stop - start) // size
    metrics = connection.broker.metrics
    metrics.packets_received[_PUBLISH] += count
    metrics.messages_received[0] += count
    for receiver in receivers:
        receiver.transport.write(run)
    sent = count * len(receivers)
    metrics.packets_sent[_PUBLISH] += sent
    metrics.messages_sent[0] += sent
    if others is not None:
        for frame in range(start, stop, size):
            payload = data[frame + head - start : frame + size]
            _deliver(connection, route.topic, payload, others)
    elif not receivers:
        metrics.messages_unrouted += count
    return stop


def _deliver(connection: Connection, topic: str, payload: bytes, targets: list[Target]) -> None:
    """The plain way for those receivers that need it."""
    message = Message(
        topic,
        payload,
        publisher=connection.client_id,
        guard=connection.guard,
        created_at=connection.broker.seconds(),
    )
    connection.broker.publisher.deliver(message, targets)
