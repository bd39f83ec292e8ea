"""What MQTT 5.0 adds, from one client library to another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.end_to_end.clients import Library, unique
from tests.end_to_end.conftest import Served

LIBRARIES = ("paho", "aiomqtt", "mosquitto", "mqttjs")

PROPERTIES: dict[str, Any] = {
    "content_type": "text/plain",
    "response_topic": "answers/here",
    "correlation_data": b"42",
    "user_property": [("name", "value"), ("other", "")],
}


@pytest.mark.parametrize("reading", LIBRARIES)
@pytest.mark.parametrize("writing", LIBRARIES)
def test_properties_pass_unchanged(
    libraries: Callable[[str, int], Library], served: Served, writing: str, reading: str
) -> None:
    topic = unique("properties/")
    reader = libraries(reading, 5).connect(served.plain)
    reader.subscribe(topic, 1)
    writer = libraries(writing, 5).connect(served.plain)
    writer.publish(topic, "text", 1, message_expiry_interval=1000, **PROPERTIES)
    found = reader.next_message().properties
    assert 990 < found["message_expiry_interval"] <= 1000
    for name, value in PROPERTIES.items():
        if name == "user_property":
            assert [tuple(pair) for pair in found[name]] == value
        else:
            assert found[name] == value


@pytest.mark.parametrize("reading", LIBRARIES)
@pytest.mark.parametrize("old", [3, 4])
def test_clients_of_older_versions_get_the_message_without(
    libraries: Callable[[str, int], Library], served: Served, old: int, reading: str
) -> None:
    if (reading, old) == ("aiomqtt", 3):
        old = 4  # aiomqtt knows no 3.1.
    topic = unique("properties/")
    reader = libraries(reading, old).connect(served.plain)
    reader.subscribe(topic, 1)
    libraries("paho", 5).connect(served.plain).publish(topic, "text", 1, **PROPERTIES)
    assert reader.next_message().payload == b"text"


@pytest.mark.parametrize("writing", ["paho", "mqttjs"])
def test_topic_aliases_of_a_client(
    libraries: Callable[[str, int], Library], served: Served, writing: str
) -> None:
    topic = unique("alias/")
    reader = libraries("mqttjs", 5).connect(served.plain)
    reader.subscribe("alias/+", 1)
    writer = libraries(writing, 5).connect(served.plain)
    if writing == "paho":
        writer.publish(topic, "0", 1, topic_alias=1)
        writer.publish("", "1", 1, topic_alias=1)
        writer.publish("", "2", 1, topic_alias=1)
    else:
        # MQTT.js gives aliases by itself.
        writer.publish_many(topic, ["0", "1", "2"], 1)
    found = [reader.next_message() for _ in range(3)]
    assert [message.topic for message in found] == [topic] * 3
    assert [message.payload for message in found] == [b"0", b"1", b"2"]


def test_a_message_that_has_expired_does_not_arrive(
    libraries: Callable[[str, int], Library], served: Served
) -> None:
    topic = unique("expiry/")
    name = unique("keeper")
    library = libraries("paho", 5)
    reader = library.connect(served.plain, name, keep=True)
    reader.subscribe(topic, 1)
    reader.disconnect()
    writer = library.connect(served.plain)
    writer.publish(topic, "stale", 1, message_expiry_interval=1)
    writer.publish(topic, "fresh", 1, message_expiry_interval=1000)
    # $SYS comes once a second by the daemon's own clock: wait until two have passed.
    clock = libraries("paho", 4).connect(served.plain)
    clock.subscribe("$SYS/broker/uptime")
    ticks = {clock.next_message().payload for _ in range(4)}
    assert len(ticks) > 2
    assert library.connect(served.plain, name, keep=True).next_message().payload == b"fresh"
