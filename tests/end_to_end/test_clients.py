"""What users of the four client libraries do, with each of them and in each version."""

from __future__ import annotations

import pytest

from tests.end_to_end.clients import Library, Message, Will, unique
from tests.end_to_end.conftest import Served


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_arrive_as_they_were_sent(library: Library, served: Served, qos: int) -> None:
    topic = unique("plain/")
    reader = library.connect(served.plain)
    reader.subscribe(topic, qos)
    writer = library.connect(served.plain)
    writer.publish(topic, "grüße", qos)
    assert reader.next_message() == Message(topic, "grüße".encode(), qos, False)
    writer.disconnect()
    reader.disconnect()
    assert list(reader.messages.queue) == []


def test_retained_messages_wait_until_they_are_cleared(library: Library, served: Served) -> None:
    topic = unique("retained/")
    writer = library.connect(served.plain)
    writer.publish(topic, "old", 1, retain=True)
    writer.publish(topic, "new", 1, retain=True)
    reader = library.connect(served.plain)
    reader.subscribe(topic, 1)
    assert reader.next_message() == Message(topic, b"new", 1, True)
    reader.disconnect()
    writer.publish(topic, "", 1, retain=True)
    late = library.connect(served.plain)
    late.subscribe(topic, 1)
    writer.publish(topic, "live", 1)
    assert late.next_message() == Message(topic, b"live", 1, False)


def test_the_will_of_a_client_that_is_lost_is_published(library: Library, served: Served) -> None:
    topic = unique("will/")
    reader = library.connect(served.plain)
    reader.subscribe(topic, 1)
    library.connect(served.plain, will=Will(topic, "good-bye", 1)).disconnect()
    if library.leaves_with_will:
        assert reader.next_message() == Message(topic, b"good-bye", 1, False)
    library.connect(served.plain, will=Will(topic, "lost", 1)).drop()
    assert reader.next_message() == Message(topic, b"lost", 1, False)


def test_messages_wait_for_a_session_that_is_away(library: Library, served: Served) -> None:
    topic = unique("away/")
    name = unique("keeper")
    reader = library.connect(served.plain, name, keep=True)
    reader.subscribe(topic, 1)
    reader.disconnect()
    writer = library.connect(served.plain)
    writer.publish_many(topic, [f"{number}" for number in range(20)], 1)
    back = library.connect(served.plain, name, keep=True)
    found = [back.next_message().payload for _ in range(20)]
    assert found == [b"%d" % number for number in range(20)]


def test_wildcards_match_levels(library: Library, served: Served) -> None:
    top = unique("tree")
    one = library.connect(served.plain)
    one.subscribe(f"{top}/+/leaf")
    all_below = library.connect(served.plain)
    all_below.subscribe(f"{top}/#")
    writer = library.connect(served.plain)
    topics = [top, f"{top}/a/leaf", f"{top}/a/b/leaf", f"{top}//leaf", f"{top}/end"]
    for topic in topics:
        writer.publish(topic, topic, 1)
    assert [all_below.next_message().topic for _ in topics] == topics
    assert [one.next_message().topic for _ in range(2)] == [topics[1], topics[3]]


def test_members_of_a_group_share_the_messages(library: Library, served: Served) -> None:
    topic = unique("shared/")
    members = [library.connect(served.plain) for _ in range(2)]
    for member in members:
        member.subscribe(f"$share/group/{topic}", 1)
    writer = library.connect(served.plain)
    writer.publish_many(topic, [f"{number}" for number in range(10)], 1)
    found = [[member.next_message().payload for _ in range(5)] for member in members]
    assert sorted(found[0] + found[1]) == [b"%d" % number for number in range(10)]
    assert all(member.messages.empty() for member in members)


def test_a_large_payload_arrives_whole(library: Library, served: Served) -> None:
    topic = unique("large/")
    reader = library.connect(served.plain)
    reader.subscribe(topic, 1)
    payload = "0123456789abcdef" * 65_536
    library.connect(served.plain).publish(topic, payload, 1)
    assert reader.next_message().payload == payload.encode()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_many_messages_keep_their_order(library: Library, served: Served, qos: int) -> None:
    topic = unique("many/")
    reader = library.connect(served.plain)
    reader.subscribe(topic, qos)
    payloads = [f"{number}" for number in range(500)]
    library.connect(served.plain).publish_many(topic, payloads, qos)
    assert [reader.next_message().payload.decode() for _ in payloads] == payloads
