"""The scenarios: a name, what it shows, and the generator's arguments.

A table, and nothing that runs. README.rst explains the groups.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Scenario:
    """One row of the benchmark."""

    name: str
    title: str
    arguments: str
    #: What one "message" of the CPU figure is.
    unit: str = "message"
    #: Arguments that replace those of the same name with --quick.
    quick: str = ""
    #: Part of --quick when no scenario is named.
    core: bool = False
    tls: bool = False
    #: Latency counts: compare with mosquitto-nodelay and print percentiles.
    paced: bool = False
    #: Brokers that cannot do it, or take hours: names as in brokers.py.
    without: frozenset[str] = frozenset()
    #: Seconds that the run may take beside warm-up and window.
    patience: float = 60

    @property
    def mode(self) -> str:
        return self.arguments.split()[0]


NO_V5 = frozenset({"aedes", "nats", "amqtt"})
#: Nothing that they keep survives, in the form in which they run here.
NOT_KEPT = frozenset({"aedes", "amqtt", "flashmq", "nats"})
NO_SHARED = frozenset({"aedes", "nats"})
SLOW_TABLE = frozenset({"amqtt"})

_PAIRS = [
    Scenario(
        f"q{qos}-{pairs}",
        f"QoS {qos}, 64 bytes, {pairs}:{pairs}, pipelined",
        f"traffic --qos {qos} --publishers {pairs}",
        core=pairs == 1 or (qos == 1 and pairs == 100),
    )
    for qos in (0, 1, 2)
    for pairs in (1, 10, 100)
]

_FANS = [
    Scenario(
        f"in100-q{qos}",
        f"QoS {qos}, 100 publishers to one subscriber of a wildcard",
        f"traffic --qos {qos} --pattern in --publishers 100",
        core=qos == 1,
    )
    for qos in (0, 1)
] + [
    Scenario(
        f"out{receivers}-q{qos}",
        f"QoS {qos}, one publisher to {receivers} subscribers, per delivery",
        f"traffic --qos {qos} --pattern out --subscribers {receivers}",
        unit="delivery",
        core=receivers == 100,
    )
    for receivers in (100, 1000)
    for qos in (0, 1)
]

_SIZES = [
    Scenario(
        f"size{size}",
        f"QoS 0, {size} bytes, 1:1, pipelined",
        f"traffic --payload {size}",
        core=size == 16384,
    )
    for size in (16, 256, 1024, 4096, 16384, 65536)
] + [
    Scenario(
        "size16384-q1",
        "QoS 1, 16 KiB, 1:1, pipelined",
        "traffic --qos 1 --payload 16384",
    )
]

_LOCK_STEP = [
    Scenario(
        "lock1000-q1",
        "1,000 clients, each sends a QoS 1 message and waits for PUBACK",
        "traffic --pattern ack --qos 1 --publishers 1000 --window 1",
        unit="request",
        core=True,
    ),
    Scenario(
        "echo1000-q0",
        "1,000 clients, each sends a QoS 0 message to itself and waits for it",
        "traffic --pattern echo --publishers 1000 --outstanding 1",
    ),
    Scenario(
        "echo1000-q1",
        "1,000 clients, each sends a QoS 1 message to itself and waits for it and for PUBACK",
        "traffic --pattern echo --qos 1 --publishers 1000 --window 1 --outstanding 1",
    ),
    Scenario(
        "single-q0",
        "QoS 0, 1:1, one message at a time",
        "traffic --outstanding 1",
    ),
]

_PACED = [
    Scenario(
        f"paced{rate // 1000}k-q{qos}",
        f"{rate} messages a second, open loop, QoS {qos}, 1:1",
        f"traffic --rate {rate} --qos {qos}",
        core=qos == 0,
        paced=True,
    )
    for rate in (1000, 10000)
    for qos in (0, 1)
]

_DURABLE = [
    Scenario(
        f"durable{pairs}-q{qos}",
        f"QoS {qos}, 64 bytes, {pairs}:{pairs}, to subscribers whose sessions are kept",
        f"traffic --durable --qos {qos} --publishers {pairs}",
        without=NOT_KEPT,
    )
    for qos in (1, 2)
    for pairs in (1, 10)
] + [
    Scenario(
        f"durable-paced{rate // 1000}k-q1",
        f"{rate} messages a second, open loop, QoS 1, to a subscriber whose session is kept",
        f"traffic --durable --rate {rate} --qos 1",
        paced=True,
        without=NOT_KEPT,
    )
    for rate in (1000, 5000)
]

_V5 = [
    Scenario(
        "v5-q1",
        "MQTT 5.0, QoS 1, 1:1, pipelined",
        "traffic --version 5 --qos 1",
        without=NO_V5,
    ),
    Scenario(
        "v5-q1-user3",
        "MQTT 5.0, QoS 1, three user properties, 1:1, pipelined",
        "traffic --version 5 --qos 1 --user-properties 3",
        without=NO_V5,
        core=True,
    ),
]

_MIXED = [
    Scenario(
        f"mixed-q{qos}",
        f"QoS {qos}, 32 to 96 bytes in turn on 16 topics in turn, 1:1, pipelined",
        f"traffic --qos {qos} --vary --topics 16",
        core=qos < 2,
    )
    for qos in (0, 1, 2)
] + [
    Scenario(
        "mixed-in100-q1",
        "QoS 1, the same from 100 publishers to one subscriber of a wildcard",
        "traffic --qos 1 --vary --topics 16 --pattern in --publishers 100",
    )
]

_SHARED = [
    Scenario(
        "share4-q1",
        "QoS 1, four publishers to a shared subscription of four",
        "traffic --qos 1 --pattern shared --publishers 4 --subscribers 4",
        without=NO_SHARED,
    )
]

_STORM = [
    Scenario(
        "storm-q0",
        "QoS 0, 10:10, while 20 clients subscribe and unsubscribe 2,000 times a second",
        "traffic --publishers 10 --storm-clients 20 --storm-rate 2000",
    ),
    Scenario(
        "storm-q1",
        "QoS 1, 10:10, while 20 clients subscribe and unsubscribe 2,000 times a second",
        "traffic --qos 1 --publishers 10 --storm-clients 20 --storm-rate 2000",
    ),
]

_TLS = [
    Scenario("tls-q0", "TLS, QoS 0, 1:1, pipelined", "traffic", tls=True, core=True),
    Scenario("tls-q1", "TLS, QoS 1, 1:1, pipelined", "traffic --qos 1", tls=True),
    Scenario(
        "tls-single",
        "TLS, QoS 0, 1:1, one message at a time",
        "traffic --outstanding 1",
        tls=True,
    ),
]

_CONNECTIONS = [
    Scenario("connect", "connect, CONNACK, DISCONNECT", "connect", unit="connect", core=True),
    Scenario("connect-tls", "the same over TLS", "connect", unit="connect", tls=True),
    Scenario(
        "idle",
        "15,000 idle connections with one subscription each",
        "idle --count 15000",
        quick="--count 3000",
        unit="connect",
        core=True,
        patience=240,
    ),
    Scenario(
        "idle-tls",
        "3,000 idle TLS connections with one subscription each",
        "idle --count 3000",
        quick="--count 500",
        unit="connect",
        tls=True,
        patience=240,
    ),
]

_TABLES = [
    Scenario(
        f"subs-{kind}-{label}",
        f"{count} {kind} filters of 100 clients, then messages that match one each",
        f"subscribe --kind {kind} --count {count}",
        quick=f"--count {min(count, 50_000)}",
        without=(NO_SHARED if kind == "shared" else frozenset())
        | (SLOW_TABLE if count > 1000 else frozenset()),
        patience=300,
    )
    for kind in ("exact", "plus", "hash", "shared")
    for label, count in (("1k", 1000), ("1m", 1_000_000))
] + [
    Scenario(
        "retained-1m",
        "1,000,000 retained messages stored, 100 of them selected, all replayed",
        "retained --count 1000000 --drain 15",
        quick="--count 50000",
        without=SLOW_TABLE,
        patience=600,
    )
]

SCENARIOS: list[Scenario] = [
    *_PAIRS,
    *_FANS,
    *_SIZES,
    *_MIXED,
    *_LOCK_STEP,
    *_PACED,
    *_DURABLE,
    *_V5,
    *_SHARED,
    *_STORM,
    *_TLS,
    *_CONNECTIONS,
    *_TABLES,
]
