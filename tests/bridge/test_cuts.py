"""A few cuts of ``tests.bridge_cuts``."""

from __future__ import annotations

import pytest

from tests.bridge_cuts import bridge_cuts


@pytest.mark.slow
def test_a_bridge_to_mosquitto_loses_nothing_when_its_link_is_cut() -> None:
    result = bridge_cuts(5, 40)
    assert result.cuts >= 5
    assert result.missing == (0, 0), result
