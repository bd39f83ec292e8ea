"""What is on its way: the sum of bytes is right after any changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mqttd.broker.delivery import Delivery
from mqttd.broker.inflight import MeasuredInflight, size_of, suited
from mqttd.broker.message import Message
from mqttd.settings import SessionSettings

MEASURED = SessionSettings(maximum_inflight_bytes=1)

steps = st.lists(st.tuples(st.sampled_from("sdpb"), st.integers(1, 5), st.integers(0, 50)))


@given(steps)
def test_the_sum_is_that_of_what_is_there(steps: list[tuple[str, int, int]]) -> None:
    inflight = suited({}, MEASURED)
    for action, packet_id, size in steps:
        match action:
            case "s":
                inflight[packet_id] = Delivery(Message("t", bytes(size), 1), 1, False)
            case "b":
                inflight[packet_id] = bytes(size)
            case "p":
                inflight.pop(packet_id, None)
            case "d" if packet_id in inflight:
                del inflight[packet_id]
        expected = sum(
            len(sent) if isinstance(sent, bytes) else sent.message.size
            for sent in inflight.values()
        )
        assert size_of(inflight) == expected
        assert size_of(suited(inflight, MEASURED)) == expected


def test_without_a_bound_it_is_a_plain_dict() -> None:
    assert type(suited(MeasuredInflight({1: b"x"}), SessionSettings())) is dict
