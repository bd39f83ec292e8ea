"""A bridge over TLS, on real sockets."""

from __future__ import annotations

from pathlib import Path

import pytest

from mqttd import BrokerSettings
from mqttd.settings_bridge import BridgeSettings, BridgeTopic
from mqttd.testing.certificates import Authority
from mqttd.testing.live import LiveBroker

STATE = "$SYS/broker/connection/near/state"


def bridged(far: LiveBroker, ca_file: str) -> BrokerSettings:
    address = f"mqtts://localhost:{far.tls_port}"
    link = BridgeSettings(
        "link",
        (address,),
        ca_file=ca_file,
        client_id="near",
        retry_first=0.01,
        topics=(BridgeTopic("sensors/#", remote_prefix="near/"),),
    )
    return BrokerSettings(bridges=(link,))


def test_messages_go_over_tls(tmp_path: Path) -> None:
    with (
        LiveBroker(folder=tmp_path, tls=True) as far,
        LiveBroker(bridged(far, far.authority)) as near,
    ):
        near.publish("sensors/hall", b"21.5", qos=1)
        assert far.wait_for("near/sensors/hall").payload == b"21.5"


def test_a_server_of_another_authority_gets_nothing(tmp_path: Path) -> None:
    other = Authority("Another authority").write(tmp_path / "other.pem")
    with LiveBroker(folder=tmp_path, tls=True) as far, LiveBroker(bridged(far, other)) as near:
        near.publish("sensors/hall", b"21.5", qos=1)
        with pytest.raises(AssertionError):
            far.wait_for("near/#", timeout=1)
        assert near.retained(STATE) == b"0"
        assert "near" not in far.clients()
