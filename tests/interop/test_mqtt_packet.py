"""Our codec and mqtt-packet's, the codec of MQTT.js and aedes, on the same packets.

Every valid wire vector goes through mqtt-packet and comes back: what it generates
must mean to us what the vector means. mqtt-packet comes with MQTT.js from npm.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from mqttd.wire.packets import Connect, Packet, Publish
from mqttd.wire.parser import Parser
from tests.vectors import CLIENT, VALID, Vector

#: What the specifications allow and mqtt-packet does not take or make.
BEYOND_MQTT_PACKET = {
    "connect-5-password-alone-item19",
    "connect-5-empty-id",
    "connect-31-user-flag-without-user",
    "connect-31-reserved-flag-unused",
    "pubrel-31-dup",
    "subscribe-31-dup",
    "unsubscribe-31-dup",
    "auth-success-short",
}
ROWS = [
    (row, version)
    for row in VALID
    if row.name not in BEYOND_MQTT_PACKET
    for version in row.versions
]


@pytest.fixture(scope="module")
def passed(program: Callable[[str], str], node_modules: Path) -> dict[tuple[str, int], Any]:
    """What mqtt-packet makes of each vector."""
    asked = [{"wire": row.wire.hex(), "version": version} for row, version in ROWS]
    found = subprocess.run(
        [program("node"), str(Path(__file__).with_name("mqtt_packet.cjs"))],
        env={"NODE_PATH": str(node_modules)},
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answers = json.loads(found.stdout)
    assert len(answers) == len(ROWS)
    return {
        (row.name, version): answer for (row, version), answer in zip(ROWS, answers, strict=True)
    }


def decode(row: Vector, version: int, data: bytes) -> Packet | None:
    parser = Parser(1 << 24, server_side=row.sender == CLIENT)
    if data[0] >> 4 != 1:
        parser.version = version
    parser.feed(data)
    packet = parser.next_packet()
    # The encoded properties may stand in another order.
    if isinstance(packet, Publish):
        return evolve(packet, passthrough=b"")
    if isinstance(packet, Connect) and packet.will is not None:
        return evolve(packet, will=evolve(packet.will, passthrough=b""))
    return packet


@pytest.mark.parametrize(
    ("row", "version"),
    [pytest.param(row, version, id=f"{row.name}-{version}") for row, version in ROWS],
)
def test_both_codecs_mean_the_same(
    passed: dict[tuple[str, int], Any], row: Vector, version: int
) -> None:
    answer = passed[row.name, version]
    assert "error" not in answer
    assert answer["command"] == type(row.packet).__name__.lower()
    assert decode(row, version, bytes.fromhex(answer["again"])) == row.packet
