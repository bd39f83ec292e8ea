"""Which store the settings make."""

from __future__ import annotations

from pathlib import Path

import pytest

from mqttd.settings import BrokerSettings, StoreBackend, StoreSettings
from mqttd.store import make_store
from mqttd.testing.store_suite import StoreReactor

IN_MEMORY = StoreSettings(backend=StoreBackend.MEMORY)


@pytest.mark.parametrize(
    ("settings", "durable"),
    [
        pytest.param(BrokerSettings(), False, id="no directory"),
        pytest.param(BrokerSettings(data_directory="d", store=IN_MEMORY), False, id="memory"),
        pytest.param(BrokerSettings(data_directory="d"), True, id="a directory"),
    ],
)
def test_a_directory_makes_it_durable(
    settings: BrokerSettings, durable: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert make_store(StoreReactor(), settings).durable is durable
    assert not list(tmp_path.iterdir()), "nothing is made before the start"
