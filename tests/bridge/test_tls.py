"""A bridge over TLS, on real sockets."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from mqttd import BrokerSettings
from mqttd.client_tls import load_own
from mqttd.fields import SettingError
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


def test_what_it_shows_and_where_it_comes_from(tmp_path: Path) -> None:
    authority = Authority()
    trusted = authority.write(tmp_path / "ca.pem")
    authority.issue("localhost").write(tmp_path / "server.pem")
    own = authority.issue("bridge")
    (tmp_path / "certificate.pem").write_bytes(own.certificate_pem)
    (tmp_path / "key.pem").write_bytes(own.key_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    context.load_verify_locations(trusted)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["other", "mqtt"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        link = BridgeSettings(
            "link",
            (f"mqtts://localhost:{server.getsockname()[1]}",),
            ca_file=trusted,
            certificate=str(tmp_path / "certificate.pem"),
            private_key=str(tmp_path / "key.pem"),
            alpn=("mqtt",),
            bind_address="127.0.0.2",
        )
        with LiveBroker(BrokerSettings(bridges=(link,))):
            plain, (host, _) = server.accept()
            with context.wrap_socket(plain, server_side=True) as secure:
                assert host == "127.0.0.2"
                assert secure.selected_alpn_protocol() == "mqtt"
                shown: Any = secure.getpeercert()
                assert shown["subject"] == ((("commonName", "bridge"),),)
                # CONNECT follows.
                assert secure.recv(1) == b"\x10"


@pytest.mark.parametrize(
    "more",
    [
        {"bind_address": "localhost"},
        {"private_key": "key.pem"},
        {"alpn": ("",)},
        {"alpn": ("x" * 256,)},
    ],
)
def test_settings_of_a_link_that_are_wrong(more: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        BridgeSettings("link", ("mqtts://x",), **more)


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    Authority().issue("bridge").write(tmp_path / "own.pem")
    with pytest.raises(ValueError, match="absent: cannot be read"):
        load_own(str(tmp_path / "own.pem"), str(tmp_path / "absent"))
