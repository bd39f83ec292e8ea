"""Delayed publish: in time, by right, and bounded."""

from __future__ import annotations

import pytest

from mqttd.hooks.delayed import DelayedPublish, DelayedSettings
from mqttd.interfaces import PUBLISH
from mqttd.settings import SettingError
from mqttd.testing import VirtualClient
from mqttd.wire.packets import Will
from tests.broker.doubles import Rules
from tests.hooks.conftest import Use


def reason(client: VirtualClient, topic: str, payload: bytes = b"1", **more: object) -> int:
    answer = client.publish(topic, payload, 1, **more)
    assert answer is not None
    return answer.reason


def test_a_message_comes_when_it_is_due(use: Use) -> None:
    virtual = use(DelayedPublish(DelayedSettings()))
    waiting = virtual.broker.delayed
    client = virtual.connect("x", keep_alive=0)
    client.subscribe("a/b", "$delayed/#", qos=2)
    assert reason(client, "$delayed/10/a/b") == 0
    client.publish("$delayed/5/a/b", b"2", 2)
    client.publish("$delayed/0/a/b", b"0")
    assert len(waiting) == 2
    virtual.advance(4.9)
    assert [m.payload for m in client.messages()] == [b"0"]
    virtual.advance(1)
    (message,) = client.messages()
    assert (message.payload, message.qos) == (b"2", 2)
    virtual.advance(5)
    assert [m.payload for m in client.messages()] == [b"1"]
    assert (len(waiting), waiting.bytes) == (0, 0)


def test_it_may_be_retained_and_survives_its_publisher(use: Use) -> None:
    virtual = use(DelayedPublish(DelayedSettings()))
    client = virtual.connect("x")
    client.publish("$delayed/10/t", b"1", retain=True)
    client.disconnect()
    assert virtual.broker.retained.count == 0
    virtual.advance(11)
    assert virtual.broker.retained.get("t") is not None


def test_a_will_can_be_delayed(use: Use) -> None:
    virtual = use(DelayedPublish(DelayedSettings()))
    watcher = virtual.connect("watcher", keep_alive=0)
    watcher.subscribe("t")
    settings = virtual.listener.protocol
    assert not settings.dollar_topics
    # As a will it is refused at CONNECT already: such topics are not for clients.
    client = virtual.connect("x", will=Will("$delayed/5/t", b"1"))
    assert client.closed


@pytest.mark.parametrize(
    "topic", ["$delayed", "$delayed/5", "$delayed/5/", "$delayed//t", "$delayed/x/t"]
)
def test_what_has_another_form_is_refused(use: Use, topic: str) -> None:
    client = use(DelayedPublish(DelayedSettings())).connect("x")
    assert reason(client, topic) in (0x87, 0x90)


@pytest.mark.parametrize("delay", ["-1", "1.5", "9999999999", "³", "1_0"])
def test_a_delay_is_a_number_within_bounds(use: Use, delay: str) -> None:
    client = use(DelayedPublish(DelayedSettings())).connect("x")
    assert reason(client, f"$delayed/{delay}/t") == 0x90
    assert reason(client, "$delayed/86401/t") == 0x97


def test_the_inner_topic_is_checked_now_and_then(use: Use) -> None:
    rules = Rules((PUBLISH, "secret"))
    virtual = use(DelayedPublish(DelayedSettings()), authorizer=rules)
    client = virtual.connect("x", keep_alive=0)
    client.subscribe("#")
    assert reason(client, "$delayed/1/secret") == 0x87
    assert reason(client, "$delayed/1/$SYS/x") == 0x87
    assert reason(client, "$delayed/1/$delayed/1/x") == 0x87
    assert reason(client, "$delayed/5/open") == 0
    rules.change((PUBLISH, "open"))
    virtual.advance(10)
    client.expect_nothing()
    assert virtual.broker.metrics.dropped["not-authorized"] == 4


def test_slow_rules_are_waited_for(use: Use) -> None:
    rules = Rules().only(PUBLISH)
    virtual = use(DelayedPublish(DelayedSettings()), authorizer=rules)
    client = virtual.connect("x", keep_alive=0)
    client.subscribe("t")
    client.publish("$delayed/5/t")
    rules.slow = True
    rules.epoch += 1
    virtual.advance(6)
    client.expect_nothing()
    rules.answer()
    virtual.advance()
    assert len(client.messages()) == 1


def test_what_waits_is_bounded(use: Use) -> None:
    plugin = DelayedPublish(DelayedSettings(maximum_messages=3, maximum_bytes=10_000))
    virtual = use(plugin)
    client = virtual.connect("x", keep_alive=0)
    assert reason(client, "$delayed/9/t", bytes(9_600)) == 0x97
    assert [reason(client, "$delayed/9/t") for _ in range(4)] == [0, 0, 0, 0x97]
    virtual.advance(10)
    assert reason(client, "$delayed/9/t") == 0


def test_the_expiry_counts_from_the_beginning(use: Use) -> None:
    virtual = use(DelayedPublish(DelayedSettings()))
    client = virtual.connect("x", keep_alive=0)
    client.subscribe("t")
    reason(client, "$delayed/9/t", message_expiry_interval=5)
    reason(client, "$delayed/9/t", message_expiry_interval=20)
    virtual.advance(9)
    (message,) = client.messages()
    assert message.properties["message_expiry_interval"] == 11
    assert virtual.broker.metrics.dropped["expired"] == 1


def test_what_waits_at_the_stop_is_counted(use: Use) -> None:
    virtual = use(DelayedPublish(DelayedSettings()))
    reason(virtual.connect("x"), "$delayed/9/t")
    virtual.broker.stop()
    assert virtual.broker.metrics.dropped["delayed-lost"] == 1
    assert (len(virtual.broker.delayed), virtual.broker.delayed.bytes) == (0, 0)


def test_the_prefix_is_one_level() -> None:
    for wrong in ("", "a/b", "+", "a#"):
        with pytest.raises(SettingError):
            DelayedSettings(prefix=wrong)
    assert DelayedPublish(DelayedSettings(prefix="later")).topics == ("later/#",)
