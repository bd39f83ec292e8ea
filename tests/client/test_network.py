"""The client over real sockets, with and without TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from mqttd.client import Client, ClientSettings, ConnectionEnded, make_endpoint
from mqttd.testing.live import LiveBroker, reactor_thread
from mqttd.testing.virtual import VirtualClock


async def echo(client: Client) -> bytes:
    client.startService()
    try:
        inbox = await client.subscribe("t", qos=2)
        await client.publish("t", b"x" * 100_000, 2)
        return (await inbox.get()).payload
    finally:
        await client.stopService()


@pytest.mark.parametrize("version", [3, 4, 5])
@pytest.mark.parametrize("tls", [False, True])
def test_a_message_over_the_network(tmp_path: Path, version: int, tls: bool) -> None:
    with LiveBroker(folder=tmp_path, tls=tls) as broker:
        port = broker.tls_port if tls else broker.port
        where = f"mqtts://localhost:{port}" if tls else f"mqtt://127.0.0.1:{port}"

        def run() -> Deferred[bytes]:
            reactor = reactor_thread().reactor
            settings = ClientSettings(version=version)
            client = Client(reactor, where, settings, ca_file=broker.authority)
            return Deferred.fromCoroutine(echo(client))

        answer: Any = broker.call(run)  # type: ignore[arg-type]
        assert answer == b"x" * 100_000


def test_a_server_with_a_certificate_of_others_is_not_trusted(tmp_path: Path) -> None:
    with LiveBroker(folder=tmp_path, tls=True) as broker:

        def run() -> Deferred[Exception]:
            client = Client(reactor_thread().reactor, f"mqtts://localhost:{broker.tls_port}")
            told: Deferred[Exception] = Deferred()
            client.on_disconnected.append(told.callback)
            client.startService()

            def stop(error: Exception) -> Deferred[Exception]:
                return client.stopService().addCallback(lambda _: error)

            return told.addCallback(stop)

        error: Any = broker.call(run)  # type: ignore[arg-type]
        assert isinstance(error, ConnectionEnded)
        assert "certificate" in str(error)


@pytest.mark.parametrize(
    "where", ["http://x", "mqtt://", "mqtt://user:secret@x", "mqtt://x/path", "mqtt://x:y"]
)
def test_what_is_no_address_is_refused_without_telling_secrets(where: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        make_endpoint(VirtualClock(), where)
    assert "secret" not in str(caught.value)
