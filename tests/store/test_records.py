"""What a store keeps of a message comes back as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttd.store.records import (
    StoredMessage,
    StoredWill,
    decode_message,
    decode_will,
    encode_message,
    encode_will,
    is_released,
    order_of,
    packet_id_of,
    qos_of,
    retain_of,
    row_key,
    row_state,
    seq_of,
    sid_of,
)

MESSAGES = st.builds(
    StoredMessage,
    topic=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50),
    payload=st.binary(max_size=200),
    qos=st.integers(0, 2),
    retain=st.booleans(),
    passthrough=st.binary(max_size=50),
    created_at=st.floats(0, 1e11),
    expires_at=st.none() | st.floats(1, 1e11),
    source=st.binary(max_size=50),
)


def encoded(message: StoredMessage) -> bytes:
    return encode_message(
        message.topic.encode(),
        message.payload,
        message.qos,
        message.retain,
        message.passthrough,
        message.created_at,
        message.expires_at,
        message.source,
    )


@given(MESSAGES)
def test_a_message_comes_back(message: StoredMessage) -> None:
    assert decode_message(encoded(message)) == message


@given(MESSAGES, st.integers(0, 2**32 - 1), st.none() | st.integers(0, 2**32 - 1))
def test_a_will_comes_back(message: StoredMessage, delay: int, expiry: int | None) -> None:
    data = encode_will(encoded(message), delay, expiry)
    assert decode_will(data) == StoredWill(message, delay, expiry)


@given(MESSAGES, st.integers(1, 200))
def test_a_message_cut_short_is_refused(message: StoredMessage, cut: int) -> None:
    data = encoded(message)
    header = len(data) - len(message.payload)
    with pytest.raises(ValueError, match="stored message"):
        decode_message(data[: max(0, header - cut)])


@given(
    st.integers(0, 2),
    st.booleans(),
    st.integers(0, 65_535),
    st.integers(0, 2**40),
    st.booleans(),
)
def test_the_state_of_a_row(
    qos: int, retain: bool, packet_id: int, order: int, released: bool
) -> None:
    state = row_state(qos, retain, packet_id, order, released)
    assert qos_of(state) == qos
    assert retain_of(state) is retain
    assert packet_id_of(state) == packet_id
    assert order_of(state) == order
    assert is_released(state) is released
    assert 0 <= state < 2**63


@given(st.integers(1, 2**24 - 1), st.integers(1, 2**39 - 1))
def test_the_key_of_a_row(sid: int, seq: int) -> None:
    key = row_key(sid, seq)
    assert (sid_of(key), seq_of(key)) == (sid, seq)
    assert 0 < key < 2**63
