"""Where a client connects to: a URL, an endpoint string, or an endpoint.

``Client`` asks here. Any object that is an ``IStreamClientEndpoint`` will do, so MQTT
goes over whatever has one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, clientFromString
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from mqttd.client_tls import ServerName, load_own, load_trust

#: Scheme -> (default port, TLS).
SCHEMES = {"mqtt": (1883, False), "mqtts": (8883, True)}


def make_endpoint(
    reactor: Any,
    where: Any,
    *,
    ca_file: str = "",
    certificate: str = "",
    private_key: str = "",
    alpn: Iterable[str] = (),
    bind_address: str = "",
    timeout: float = 30.0,
) -> Any:
    """An endpoint for *where*.

    :param where: ``mqtt://host[:port]``, ``mqtts://host[:port]``, a string for
        Twisted's ``clientFromString``, or an endpoint, which is returned as it is.
    :param ca_file: PEM file of the authorities for ``mqtts``; "" are the system's.
    :param certificate: PEM file with the certificate and key that we show; "" is none.
    :param private_key: PEM file with the key, if it is not in *certificate*.
    :param alpn: protocols to offer in the TLS handshake.
    :param bind_address: what to connect from; "" leaves that to the system.
    :param timeout: for connecting, in seconds.

    :raise ValueError: for what is none of these, or a file that is not right.
    """
    if not isinstance(where, str):
        return where
    if "://" not in where:
        return clientFromString(reactor, where)
    host, port, tls = split_url(where)
    endpoint = HostnameEndpoint(
        reactor, host, port, timeout=timeout, bindAddress=bind_address or None
    )
    if not tls:
        return endpoint
    creator = ServerName(host, load_trust(ca_file), load_own(certificate, private_key), alpn)
    return TLSEndpoint(reactor, creator, endpoint)


@implementer(IStreamClientEndpoint)
class TLSEndpoint:
    """Twisted's ``wrapClientTLS``, but on the reactor that was passed in: that one
    gathers writes by the global reactor."""

    def __init__(self, reactor: Any, creator: Any, endpoint: Any) -> None:
        self._reactor = reactor
        self._creator = creator
        self._endpoint = endpoint

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        wrapped = TLSMemoryBIOFactory(self._creator, True, factory, self._reactor)
        connecting: Deferred[Any] = self._endpoint.connect(wrapped)
        return connecting.addCallback(lambda protocol: protocol.wrappedProtocol)


def split_url(url: str) -> tuple[str, int, bool]:
    """Host, port, and whether it is TLS.

    :raise ValueError: for a URL with something else in it. Secrets do not belong
        into it: what names a server ends up in logs.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ValueError(f"{parts.scheme}://...: must be mqtt://host:port or mqtts://host:port")
    if parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{parts.scheme}://{parts.hostname}: only host and port belong there")
    port, tls = SCHEMES[parts.scheme]
    return parts.hostname, parts.port or port, tls
