"""Bad topics and subscriptions: items 37 to 39, 41 to 45 and 47 to 50."""

from __future__ import annotations

import pytest

from mqttd.interfaces import SUBSCRIBE
from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import Puback, Publish, Subscribe, SubscriptionRequest, Will
from tests.bad_input.support import calls, growth, instructions, unaffected
from tests.broker.doubles import Rules
from tests.broker.harness import BareBroker, settings_with

DEEP = "/" * 65_535


@pytest.mark.parametrize("version", [4, 5])
def test_37_the_deepest_topic_is_refused_everywhere(bare: BareBroker, version: int) -> None:
    with unaffected(bare):
        client = bare.connect("publisher", version)
        client.send_publish(DEEP, b"x", 1)
        if version == 5:
            client.expect(Puback, reason=ReasonCode.TOPIC_NAME_INVALID)
        else:
            client.expect_closed()
        client = bare.connect("subscriber", version)
        code = ReasonCode.TOPIC_FILTER_INVALID if version == 5 else 0x80
        assert client.subscribe(DEEP).reasons == [code]
        assert client.subscribe("+/" * 32_767).reasons == [code]
        client = bare.open(version)
        client.connect("will", will=Will(DEEP, b"x"))
        assert client.closed
        assert bare.broker.router.route_count == 1  # the witness's own


def test_37_the_deepest_topic_that_is_allowed_harms_nobody() -> None:
    bare = BareBroker(
        settings_with(protocol={"maximum_topic_levels": 65_535, "maximum_topic_length": 65_535})
    )
    topic = "/" * 65_534
    with unaffected(bare):
        client = bare.connect("c")
        client.subscribe(topic, "#", "/+/#")
        client.publish(topic, b"x", 1, retain=True)
        assert len(client.messages()) == 1
        again = bare.connect("again")
        again.subscribe("#")
        assert len(again.messages()) == 1
        client.unsubscribe(topic, "#", "/+/#")
        bare.publish(topic, b"", retain=True)
        again.disconnect()
        client.disconnect()
    bare.stop()


@pytest.mark.parametrize(
    "topic_filter",
    [
        "a/#/b",
        "a#",
        "#a",
        "+a",
        "a+/b",
        "##",
        "#/",
        "",
        "$share/ab",
        "$share//x",
        "$share/+/x",
        "$share/#/x",
        "$share/g/",
        "$queue/",
        "$share/g/$share/h/x",
        "$share/g/a#",
    ],
)
@pytest.mark.parametrize("version", [4, 5])
def test_38_what_is_no_filter_subscribes_to_nothing(
    bare: BareBroker, topic_filter: str, version: int
) -> None:
    with unaffected(bare):
        client = bare.connect("c", version)
        client.send(Subscribe(1, [SubscriptionRequest(topic_filter)]))
        assert client.closed or client.received[0].reasons[0] >= 0x80  # type: ignore[union-attr]
        assert len(bare.broker.router) == 1  # the witness's


def test_38_the_rules_see_the_filter_inside() -> None:
    rules = Rules((SUBSCRIBE, "$SYS/#"), (SUBSCRIBE, "secret")).only(SUBSCRIBE)
    bare = BareBroker(authorizer=rules)
    client = bare.connect("c")
    denied = ReasonCode.NOT_AUTHORIZED
    found = client.subscribe("$share/g/$SYS/#", "$queue/secret", "$share/$queue/secret")
    assert found.reasons == [denied] * 3
    bare.stop()


@pytest.mark.parametrize("topic_filter", ["$share/g/x", "$queue/x"])
def test_39_no_local_on_a_shared_subscription(bare: BareBroker, topic_filter: str) -> None:
    with unaffected(bare):
        client = bare.connect("c")
        client.send(Subscribe(1, [SubscriptionRequest(topic_filter, no_local=True)]))
        client.expect_closed(ReasonCode.PROTOCOL_ERROR)


def test_41_filters_without_end_are_bounded_and_cost_the_same(bare: BareBroker) -> None:
    client = bare.connect("c")

    def subscribe(first: int, count: int) -> list[int]:
        requests = [SubscriptionRequest(f"{n}/+/x") for n in range(first, first + count)]
        return client.subscribe(*requests).reasons

    early = calls(lambda: subscribe(0, 500))
    for first in range(500, 9_500, 1000):
        assert subscribe(first, 1000) == [0] * 1000
    late = calls(lambda: subscribe(9_500, 500))
    assert late < 2 * early
    assert subscribe(10_000, 1000) == [ReasonCode.QUOTA_EXCEEDED] * 1000
    assert len(bare.broker.router) == 10_000
    client.disconnect()
    assert len(bare.broker.router) == 0


def test_42_a_storm_of_wildcards_against_deep_topics() -> None:
    bare = BareBroker(settings_with(protocol={"maximum_topic_levels": 200}))
    with unaffected(bare):
        client = bare.connect("c")
        client.subscribe(
            *("+/" * n + "+" for n in range(199)), *("+/" * n + "#" for n in range(199))
        )

        def publish(depth: int, first: int) -> None:
            for n in range(first, first + 20):
                bare.broker.publish(f"{n}/" + "a/" * (depth - 2) + "b", b"")

        shallow = calls(lambda: publish(20, 0))
        deep = calls(lambda: publish(200, 20))
        assert deep < 30 * shallow
        client.disconnect()
    bare.stop()


def test_42_filters_that_share_their_beginning_do_not_multiply(bare: BareBroker) -> None:
    """Every level a, + or #: what matches is the answer, what does not costs little."""
    client = bare.connect("c")
    depth = 12
    filters = ["/".join("+" if n >> i & 1 else "a" for i in range(depth)) for n in range(4096)]
    for first in range(0, 4096, 512):
        client.subscribe(*filters[first : first + 512])
    elsewhere = calls(lambda: bare.broker.publish("b/" * depth + "b", b""))
    assert elsewhere < 4096 * 3
    bare.broker.publish("/".join("a" * depth), b"")
    assert len(client.messages()) == 1


@pytest.mark.parametrize("tail", ["x", "+/x", "#"])
def test_43_no_filter_backtracks(bare: BareBroker, tail: str) -> None:
    from mqttd.wire.topics import matches

    def match(depth: int) -> bool:
        return matches("+/" * depth + tail, "a/" * depth + "y")

    client = bare.connect("c")
    client.subscribe("+/" * 100 + tail)
    client.publish("a/" * 100 + "y", b"x")
    assert instructions(lambda: match(2_000)) < 25 * instructions(lambda: match(100))


def test_44_a_leading_wildcard_does_not_match_dollar_topics(bare: BareBroker) -> None:
    bare.publish("$SYS/x", b"retained", retain=True)
    client = bare.connect("c")
    client.subscribe("#", "+/x", "+/#", "$share/g/#", "/#")
    bare.publish("$SYS/x", b"live")
    client.expect_nothing()
    client.subscribe("$SYS/#")
    assert client.payloads() == [b"retained"]


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("topic", ["$SYS/x", "$CONTROL/x", "$share/g/x", "$queue/x", "$x"])
def test_45_clients_do_not_publish_to_reserved_topics(
    bare: BareBroker, topic: str, version: int, qos: int
) -> None:
    with unaffected(bare):
        watcher = bare.connect("watcher")
        watcher.subscribe("$SYS/#", "$CONTROL/#", "$x", "#")
        client = bare.connect("c", version)
        answer = client.publish(topic, b"x", qos, retain=True)
        if version == 5 and qos:
            assert answer is not None
            assert answer.reason == ReasonCode.NOT_AUTHORIZED
        assert watcher.messages() == []
        assert bare.broker.retained.count == 0
        watcher.disconnect()


def test_47_filters_that_overlap_a_thousandfold_give_one_copy(bare: BareBroker) -> None:
    client = bare.connect("c")
    filters = ["/".join("+" if n >> i & 1 else "a" for i in range(10)) for n in range(1024)]
    client.subscribe(*filters[:1000], qos=1)
    client.subscribe("a/#", qos=2)
    bare.publish("/".join("a" * 10), b"x", 2)
    (message,) = client.messages()
    assert message.qos == 2


def test_48_subscriptions_that_come_and_go_between_messages(bare: BareBroker) -> None:
    with unaffected(bare):
        steady = bare.connect("steady")
        steady.subscribe("t/#", qos=1)
        client = bare.connect("c")

        def jitter(count: int) -> None:
            for n in range(count):
                client.subscribe("t/+", f"t/{n}", "$share/g/t/#")
                bare.broker.publish("t/x", b"%d" % n)
                client.unsubscribe("t/+", f"t/{n}", "$share/g/t/#")
                bare.broker.publish("t/x", b"%d" % n)
                client.messages()
                assert len(steady.messages()) == 2

        assert growth(lambda: jitter(200)) < 20_000
        assert len(bare.broker.router) == 2
        steady.disconnect()


def test_49_a_shared_filter_has_its_own_name(bare: BareBroker) -> None:
    client = bare.connect("c")
    client.subscribe("$share/g/t", "$queue/t", "t")
    assert client.unsubscribe("t").reasons == [0]
    bare.publish("t", b"x")
    assert len(client.messages()) == 2
    assert client.unsubscribe("t", "$share/h/t").reasons == [0x11, 0x11]
    assert client.unsubscribe("$share/g/t", "$queue/t").reasons == [0, 0]
    bare.publish("t", b"x")
    client.expect_nothing()


@pytest.mark.parametrize("response_topic", ["a/+", "#", ""])
def test_50_a_response_topic_that_is_none(bare: BareBroker, response_topic: str) -> None:
    with unaffected(bare):
        watcher = bare.connect("watcher")
        watcher.subscribe("t")
        client = bare.connect("c")
        client.send(Publish("t", b"x", properties={"response_topic": response_topic}))
        assert client.closed
        assert watcher.messages() == []
        watcher.disconnect()
