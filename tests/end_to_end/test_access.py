"""The ways in: TLS, client certificates, Unix sockets, passwords, proxies."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from tests.end_to_end.certificates import Authority
from tests.end_to_end.clients import Library, Message, Refused, Target, unique
from tests.end_to_end.conftest import PASSWORD, USER, Served

CONNECT = bytes.fromhex("10 0d 0004 4d515454 04 02 003c 0001")
CONNACK = bytes.fromhex("20 02 00 00")


def exchange(library: Library, target: Target) -> None:
    """Send a message from one client to another."""
    topic = unique("way/")
    reader = library.connect(target)
    reader.subscribe(topic, 1)
    library.connect(target).publish(topic, "through", 1)
    assert reader.next_message() == Message(topic, b"through", 1, False)


def test_tls_with_a_private_authority(library: Library, served: Served) -> None:
    exchange(library, served.tls)


def test_a_server_of_another_authority_is_not_believed(
    library: Library, served: Served, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    with pytest.raises((Refused, ssl.SSLError)):
        library.connect(evolve(served.tls, authority=str(other.certificate)))


def test_client_certificates(library: Library, served: Served) -> None:
    certificate, key = served.authority.sign("sensor", unique("sensor"))
    exchange(library, evolve(served.mutual, certificate=str(certificate), key=str(key)))


def test_without_a_client_certificate_nobody_comes_in(served: Served) -> None:
    context = ssl.create_default_context(cafile=served.mutual.authority)
    with (
        socket.create_connection(("127.0.0.1", served.mutual.port), 20) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        # TLS 1.3 tells its clients with the first read.
        context.wrap_socket(plain, server_hostname="localhost").recv(1)


def test_unix_socket(library: Library, served: Served) -> None:
    exchange(library, served.unix)


def test_a_password_opens(library: Library, served: Served) -> None:
    exchange(library, evolve(served.closed, user_name=USER, password=PASSWORD))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({}, id="nobody"),
        pytest.param({"user_name": USER, "password": "guess"}, id="wrong password"),
        pytest.param({"user_name": "mallory", "password": PASSWORD}, id="unknown user"),
    ],
)
def test_nothing_else_opens(library: Library, served: Served, wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        library.connect(evolve(served.closed, **wrong))


def address(port: int) -> bytes:
    return socket.inet_aton("192.0.2.77") + socket.inet_aton("192.0.2.1") + port.to_bytes(2, "big")


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"PROXY TCP4 192.0.2.77 192.0.2.1 5000 1883\r\n", id="version 1"),
        pytest.param(
            b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + address(5000) + b"\x07\x5b",
            id="version 2",
        ),
    ],
)
def test_the_address_that_a_proxy_tells_is_the_clients(
    libraries: Callable[[str, int], Library], served: Served, header: bytes
) -> None:
    watcher = libraries("paho", 4).connect(served.plain)
    name = unique("proxied")
    watcher.subscribe(f"$SYS/brokers/node/clients/{name}/connected")
    packet = bytearray(CONNECT)
    packet[1] = 12 + len(name)
    packet[-1] = len(name)
    with closing(socket.create_connection(("127.0.0.1", served.proxied.port), 20)) as stream:
        stream.sendall(header + bytes(packet) + name.encode())
        assert stream.recv(4) == CONNACK
        assert b"192.0.2.77" in watcher.next_message().payload


def test_without_the_header_of_the_proxy_nobody_comes_in(served: Served) -> None:
    with closing(socket.create_connection(("127.0.0.1", served.proxied.port), 20)) as stream:
        stream.sendall(CONNECT + b"c")
        assert stream.recv(4) == b""
