"""Races for sessions: items 63 and 64."""

from __future__ import annotations

import pytest

from mqttd.wire.codes import ReasonCode
from mqttd.wire.packets import Properties, Will
from tests.bad_input.support import growth, unaffected
from tests.broker.doubles import Checker
from tests.broker.harness import BareBroker


@pytest.mark.parametrize("clean_start", [False, True])
def test_63_a_thousand_take_overs(bare: BareBroker, clean_start: bool) -> None:
    with unaffected(bare):
        watcher = bare.connect("watcher")
        watcher.subscribe("w")
        will = Will("w", b"gone", properties=Properties(will_delay_interval=5))

        def take_over(count: int) -> None:
            client = None
            for _ in range(count):
                previous = client
                client = bare.connect(
                    "c", clean_start=clean_start, will=will, session_expiry_interval=3600
                )
                client.subscribe("t", qos=1)
                bare.broker.publish("t", b"x")
                if previous is not None:
                    assert previous.closed
                bare.advance(0.001)
            watcher.messages()

        assert growth(lambda: take_over(1000)) < 200_000
        assert len(bare.broker.wheel) < 5_000
        assert list(bare.broker.connections) == ["witness", "watcher", "c"]
        assert len(bare.broker.sessions) == 3
        bare.advance(10)
        assert watcher.messages() == []
        watcher.disconnect()


@pytest.mark.parametrize("clean_start", [False, True])
def test_64_another_user_gets_nothing_of_a_session(clean_start: bool) -> None:
    bare = BareBroker(checkers=[Checker()])
    alice = bare.connect(
        "c",
        user_name="alice",
        password=b"ecila",
        session_expiry_interval=100,
        will=Will("w", b"alice's", 1),
    )
    alice.subscribe("private", "w", qos=1)
    alice.drop()
    bare.publish("private", b"secret", 1)
    for _ in range(3):
        mallory = bare.connect(
            "c", clean_start=clean_start, user_name="mallory", password=b"yrollam"
        )
        assert mallory.connack is not None
        assert mallory.connack.reason == ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
        mallory.expect_closed()
    back = bare.connect("c", clean_start=False, user_name="alice", password=b"ecila")
    assert back.connack is not None
    assert back.connack.session_present
    assert back.payloads() == [b"alice's", b"secret"]
    bare.stop()
