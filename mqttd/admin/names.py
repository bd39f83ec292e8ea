"""The names on ``$SYS``, and the value that stands under each.

Two vocabularies for one snapshot: emqttd's under ``$SYS/brokers/<node>/`` and
mosquitto's under ``$SYS/broker/``, each as tools know them. ``SysTopics``
publishes what these functions return; docs/sys-topics.rst explains it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mqttd.admin.load import SPANS, LoadAverages
from mqttd.admin.memory import Memory
from mqttd.admin.publisher import level_of
from mqttd.admin.stats import Level, Snapshot
from mqttd.wire.codes import PacketType

if TYPE_CHECKING:
    from mqttd.bridge import BridgeStatus

#: emqttd's names that are neither statistics, metrics nor ``sysmon``. The first
#: stands above the node.
BROKER = ("$SYS/brokers", "version", "sysdescr", "uptime", "datetime")

_LEVELS = (
    "clients",
    "sessions",
    "topics",
    "subscribers",
    "subscriptions",
    "routes",
    "retained",
)

_ACKNOWLEDGEMENTS = ("puback", "pubrec", "pubrel", "pubcomp")
_RECEIVED = ("connect", "subscribe", "unsubscribe", "pingreq", "disconnect")
_SENT = ("connack", "suback", "unsuback", "pingresp")


def emqttd_stats(snapshot: Snapshot) -> dict[str, int]:
    """The 14 names under ``stats/``."""
    values: dict[str, int] = {}
    for name in _LEVELS:
        level: Level = getattr(snapshot.gauges, name)
        values[f"stats/{name}/count"] = level.count
        values[f"stats/{name}/max"] = level.maximum
    return values


def emqttd_metrics(snapshot: Snapshot) -> dict[str, int]:
    """The 38 names under ``metrics/``."""
    counters = snapshot.counters
    received, sent = counters.packets_received, counters.packets_sent
    values = {
        "bytes/received": counters.bytes_received,
        "bytes/sent": counters.bytes_sent,
        "packets/received": sum(received),
        "packets/sent": sum(sent),
        "packets/publish/received": received[PacketType.PUBLISH],
        "packets/publish/sent": sent[PacketType.PUBLISH],
        "messages/received": sum(counters.messages_received),
        "messages/sent": sum(counters.messages_sent),
        # A client that leaves too many unreleased is disconnected (0x93).
        "messages/qos2/dropped": 0,
        "messages/retained": snapshot.gauges.retained.count,
        "messages/dropped": counters.messages_dropped + counters.messages_unrouted,
    }
    for name in _ACKNOWLEDGEMENTS:
        kind = PacketType[name.upper()]
        values[f"packets/{name}/received"] = received[kind]
        values[f"packets/{name}/sent"] = sent[kind]
        values[f"packets/{name}/missed"] = counters.packets_missed[kind]
    values |= {f"packets/{name}": received[PacketType[name.upper()]] for name in _RECEIVED}
    values |= {f"packets/{name}": sent[PacketType[name.upper()]] for name in _SENT}
    for qos in range(3):
        values[f"messages/qos{qos}/received"] = counters.messages_received[qos]
        values[f"messages/qos{qos}/sent"] = counters.messages_sent[qos]
    return {f"metrics/{name}": value for name, value in values.items()}


def reasons(snapshot: Snapshot) -> dict[str, int]:
    """Our own names: how often, by reason. The reasons stand in the source."""
    counters = snapshot.counters
    return {
        f"{table}/{reason}": n
        for table in ("dropped", "closed", "refused", "errors")
        for reason, n in getattr(counters, table).items()
    }


def bridges(statuses: Iterable[BridgeStatus]) -> dict[str, str]:
    """Our own names of each bridge; that of mosquitto the bridge itself keeps true."""
    values: dict[str, str] = {}
    for status in statuses:
        place = f"bridges/{level_of(status.name)}"
        values |= {
            f"{place}/state": status.state.value,
            f"{place}/messages/sent": str(status.sent),
            f"{place}/messages/received": str(status.received),
            f"{place}/messages/dropped": str(sum(status.dropped.values())),
            f"{place}/messages/queued": str(status.queued),
        }
    return values


def mosquitto(
    snapshot: Snapshot, load: LoadAverages, memory: Memory, version: str
) -> dict[str, str]:
    """mosquitto's names, below ``$SYS/broker/``."""
    gauges, counters = snapshot.gauges, snapshot.counters
    connected, offline = gauges.clients.count, gauges.offline_sessions
    stored = gauges.retained.count + gauges.queued_messages + gauges.inflight
    numbers: dict[str, int] = {
        "clients/total": connected + offline,
        "clients/connected": connected,
        "clients/active": connected,
        "clients/disconnected": offline,
        "clients/inactive": offline,
        "clients/maximum": gauges.clients.maximum,
        "clients/expired": counters.sessions_expired,
        "bytes/received": counters.bytes_received,
        "bytes/sent": counters.bytes_sent,
        # "Messages" are packets of any type here, unlike in publish/messages.
        "messages/received": sum(counters.packets_received),
        "messages/sent": sum(counters.packets_sent),
        "messages/inflight": gauges.inflight,
        "messages/stored": stored,
        "store/messages/count": stored,
        "store/messages/bytes": gauges.retained_bytes + gauges.queued_bytes,
        "publish/messages/received": sum(counters.messages_received),
        "publish/messages/sent": sum(counters.messages_sent),
        "publish/messages/dropped": counters.messages_dropped,
        "publish/bytes/received": counters.payload_bytes_received,
        "publish/bytes/sent": counters.payload_bytes_sent,
        "retained messages/count": gauges.retained.count,
        "subscriptions/count": gauges.subscriptions.count,
        "shared_subscriptions/count": gauges.shared_subscriptions,
        "heap/maximum": memory.maximum,
    }
    if memory.current is not None:
        numbers["heap/current"] = memory.current
    values = {name: str(value) for name, value in numbers.items()}
    values["version"] = f"mqttd version {version}"
    values["uptime"] = f"{int(snapshot.uptime)} seconds"
    for name, averages in load.averages.items():
        for span, average in zip(SPANS, averages, strict=True):
            values[f"load/{name}/{span}min"] = f"{average:.2f}"
    return values


def uptime_text(seconds: float) -> str:
    """As emqttd writes it."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    return f"{day} days,{hour} hours, {minute} minutes, {second} seconds"
