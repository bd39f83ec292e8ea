"""MQTT over WebSocket by the clients that people use: libraries, and a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from paho.mqtt.client import WebsocketConnectionError

from tests.end_to_end.browser import Pages, visit
from tests.end_to_end.certificates import Authority
from tests.end_to_end.clients import VERSIONS, Library, Message, Refused, Target, Will, unique
from tests.end_to_end.daemon import Daemon, free_port, toml

PAGE = """
<script src="/mqtt.js"></script>
<script>
const received = [];
const client = mqtt.connect(%(url)r, {
  protocolVersion: %(version)d, reconnectPeriod: 0, clientId: "browser-%(version)d"});
client.on("message", (topic, payload) => {
  received.push([topic, payload.length, payload.toString().slice(0, 5)]);
  if (received.length == 3) { client.end(); report(received); }
});
client.on("connect", async () => {
  await client.subscribeAsync("browser/+", {qos: 2});
  await client.publishAsync("browser/small", "gr\u00fc\u00dfe", {qos: 1});
  await client.publishAsync("browser/empty", "", {qos: 2});
  await client.publishAsync("browser/large", "x".repeat(300000), {qos: 1});
});
client.on("close", () => report({closed: received.length}));
client.on("error", (error) => report({error: String(error)}));
</script>
"""


@frozen
class Served:
    daemon: Daemon
    plain: Target
    websocket: Target
    secure: Target
    #: Of the web server whose pages may connect.
    page_port: int


@pytest.fixture(scope="module")
def served(folder: Path, authority: Authority) -> Iterator[Served]:
    certificate, key = authority.sign("localhost", "websocket")
    ports = [free_port() for _ in range(4)]
    tls = {"certificate": str(certificate), "private_key": str(key), "alpn": ["http/1.1"]}
    where = [f"tcp:{port}:interface=127.0.0.1" for port in ports[:3]]
    websocket = {"origins": [f"http://127.0.0.1:{ports[3]}"]}
    listeners: list[dict[str, Any]] = [
        {"endpoint": where[0], "allow_anonymous": True},
        {"endpoint": where[1], "allow_anonymous": True, "websocket": websocket},
        {"endpoint": where[2], "allow_anonymous": True, "websocket": {"path": "/x"}, "tls": tls},
    ]
    config = folder / "websocket.toml"
    config.write_text(toml(listeners, store={"backend": "memory"}, http={"socket": "none"}))
    daemon = Daemon(folder, ["--config", str(config)])
    try:
        daemon.wait_for(" serves ")
        yield Served(
            daemon,
            Target(ports[0]),
            Target(ports[1], websocket="/mqtt"),
            Target(ports[2], websocket="/x", authority=str(authority.certificate)),
            ports[3],
        )
    finally:
        daemon.stop()


LIBRARIES = [
    pytest.param((name, version), id=f"{name}-{VERSIONS[version]}")
    for name in ("paho", "mqttjs")
    for version in (3, 4, 5)
]


@pytest.fixture(scope="module", params=LIBRARIES)
def library(request: pytest.FixtureRequest, libraries: Callable[[str, int], Library]) -> Library:
    return libraries(*request.param)


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("door", ["websocket", "secure"])
def test_messages_pass_between_websocket_and_tcp(
    library: Library, served: Served, door: str, qos: int
) -> None:
    topic = unique("ws/")
    inside = library.connect(getattr(served, door))
    outside = library.connect(served.plain)
    inside.subscribe(f"{topic}/in", qos)
    outside.subscribe(f"{topic}/out", qos)
    outside.publish(f"{topic}/in", "grüße", qos)
    inside.publish(f"{topic}/out", "grüße", qos)
    assert inside.next_message() == Message(f"{topic}/in", "grüße".encode(), qos, False)
    assert outside.next_message() == Message(f"{topic}/out", "grüße".encode(), qos, False)
    inside.disconnect()


def test_large_and_many_messages_arrive_whole_and_in_order(
    library: Library, served: Served
) -> None:
    topic = unique("ws/")
    client = library.connect(served.websocket)
    client.subscribe(topic, 1)
    payloads = [f"{number}" for number in range(300)] + ["x" * 500_000]
    client.publish_many(topic, payloads, 1)
    assert [client.next_message().payload.decode() for _ in payloads] == payloads


def test_the_will_of_a_client_that_is_lost_is_published(library: Library, served: Served) -> None:
    topic = unique("will/")
    reader = library.connect(served.plain)
    reader.subscribe(topic, 1)
    library.connect(served.websocket, will=Will(topic, "lost", 1)).drop()
    assert reader.next_message() == Message(topic, b"lost", 1, False)


def test_another_path_is_refused(library: Library, served: Served) -> None:
    with pytest.raises((Refused, WebsocketConnectionError)):
        library.connect(Target(served.websocket.port, websocket="/other"))


def open_page(served: Served, node_modules: Path, version: int, port: int) -> Pages:
    url = f"ws://127.0.0.1:{served.websocket.port}/mqtt"
    scripts = {"/mqtt.js": node_modules / "mqtt" / "dist" / "mqtt.min.js"}
    return Pages(PAGE % {"url": url, "version": version}, scripts, port)


@pytest.mark.parametrize("version", [4, 5])
def test_a_page_publishes_and_subscribes(
    served: Served, program: Callable[[str], str], node_modules: Path, tmp_path: Path, version: int
) -> None:
    pages = open_page(served, node_modules, version, served.page_port)
    found = visit(program("chromium"), pages, tmp_path)
    assert found == [
        ["browser/small", 7, "grüße"],
        ["browser/empty", 0, ""],
        ["browser/large", 300_000, "xxxxx"],
    ]


def test_a_page_of_another_origin_is_refused(
    served: Served, program: Callable[[str], str], node_modules: Path, tmp_path: Path
) -> None:
    pages = open_page(served, node_modules, 4, 0)
    assert visit(program("chromium"), pages, tmp_path) == {"closed": 0}
