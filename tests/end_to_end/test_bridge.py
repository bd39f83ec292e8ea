"""A mosquitto that is bridged to the daemon, with its settings as they come."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.clients import Library, Target, unique
from tests.end_to_end.conftest import Served
from tests.end_to_end.daemon import PATIENCE, free_port

CONFIG = """\
listener {own} 127.0.0.1
allow_anonymous true
connection to-mqttd
address 127.0.0.1:{theirs}
bridge_protocol_version {version}
remote_clientid {name}
topic # both 1 here/{name}/ there/{name}/
"""


@pytest.fixture(params=["mqttv31", "mqttv311", "mqttv50"])
def bridge(
    request: pytest.FixtureRequest,
    program: Callable[[str], str],
    served: Served,
    tmp_path: Path,
    libraries: Callable[[str, int], Library],
) -> Iterator[tuple[Target, str]]:
    """The port of a mosquitto that is connected to the daemon, and the bridge's name."""
    name = unique("bridge")
    own = free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        CONFIG.format(own=own, theirs=served.plain.port, version=request.param, name=name)
    )
    watcher = libraries("paho", 4).connect(served.plain)
    watcher.subscribe(f"$SYS/broker/connection/{name}/state", 1)
    process = subprocess.Popen(
        [program("mosquitto"), "-c", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        # The bridge says that it is there, and its will that it is not.
        while watcher.next_message().payload != b"1":
            pass
        yield Target(own), name
        process.kill()
        assert watcher.next_message().payload == b"0"
    finally:
        process.kill()
        process.wait(PATIENCE)


def test_messages_cross_the_bridge_both_ways_and_once(
    libraries: Callable[[str, int], Library], served: Served, bridge: tuple[Target, str]
) -> None:
    target, name = bridge
    library = libraries("paho", 4)
    far, near = library.connect(target), library.connect(served.plain)
    far.subscribe(f"here/{name}/#", 1)
    near.subscribe(f"there/{name}/#", 1)
    far.publish(f"here/{name}/a", "out", 1)
    message = near.next_message()
    assert (message.topic, message.payload) == (f"there/{name}/a", b"out")
    assert far.next_message().payload == b"out"
    near.publish(f"there/{name}/b", "in", 1)
    message = far.next_message()
    assert (message.topic, message.payload) == (f"here/{name}/b", b"in")
    assert near.next_message().payload == b"in"
    # No copy has come back to where it came from.
    far.publish(f"here/{name}/c", "last", 1)
    assert [client.next_message().payload for client in (far, near)] == [b"last", b"last"]
