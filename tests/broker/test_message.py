"""What an application message knows of its size and its age."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttd.broker.message import Message


def test_size_is_counted_in_bytes_of_utf8() -> None:
    assert Message("température", b"21.5", passthrough=b"\x01\x01").size == 12 + 4 + 2
    assert Message("t", b"").size == 1


def test_a_message_without_expiry_never_expires() -> None:
    message = Message("t", b"x")
    assert not message.expired(1e12)
    assert message.remaining(1e12) is None


def test_expires_when_its_time_has_come() -> None:
    """[MQTT-3.3.2-5]"""
    message = Message("t", b"x", expires_at=100.0)
    assert not message.expired(99.999)
    assert message.expired(100.0)


@pytest.mark.parametrize(
    ("waited", "remaining"),
    [(0, 10), (0.4, 10), (1, 9), (1.5, 9), (9.5, 1), (10, 0), (11, 0)],
)
def test_remaining_interval_is_less_by_the_seconds_waited(waited: float, remaining: int) -> None:
    """[MQTT-3.3.2-6]"""
    assert Message("t", b"x", expires_at=1000.0 + 10).remaining(1000.0 + waited) == remaining


@given(st.floats(0, 1e7), st.integers(0, 0xFFFFFFFF))
def test_a_message_passed_on_at_once_keeps_its_interval(now: float, interval: int) -> None:
    """[MQTT-3.3.2-6]"""
    assert Message("t", b"x", expires_at=now + interval).remaining(now) == interval


def test_a_stored_copy_says_the_same_and_caches_no_encodings() -> None:
    message = Message("t", b"x", 1, True, {"content_type": "c"}, b"p", 5.0, "me", created_at=2.0)
    stored = message.stored()
    names = [name for name in dir(message) if name[0] != "_" and name != "frames"]
    values = [name for name in names if not callable(getattr(message, name))]
    assert "expires_at" in values
    for name in values:
        assert getattr(stored, name) == getattr(message, name)
    assert stored.size == message.size
    frames = stored.frames
    assert frames is not None
    frames["variant"] = b"frame"
    assert not frames
    assert message.frames is None
