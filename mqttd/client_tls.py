"""TLS towards servers: their certificate is for the name that was asked for, or nothing.

Whoever connects to a server takes its TLS from here and not from Twisted's
``optionsForClientTLS`` alone: up to 26.10 that lets a certificate pass which has
no alternative name at all, whatever server was meant. Here any doubt ends the
handshake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from OpenSSL.crypto import Error as CryptoError
from service_identity.cryptography import (
    verify_certificate_hostname,
    verify_certificate_ip_address,
)
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from zope.interface import implementer

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_VERIFY = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT

#: What OpenSSL calls for each certificate of the chain.
_Callback = Callable[[Any, Any, int, int, Any], bool]


@implementer(IOpenSSLClientConnectionCreator)
class ServerName:
    """TLS to the server *hostname*."""

    def __init__(
        self,
        hostname: str,
        trust: Any,
        own: PrivateCertificate | None = None,
        alpn: Iterable[str] = (),
    ) -> None:
        """
        :param hostname: a name or an address.
        :param trust: from ``load_trust``.
        :param own: the certificate that we show.
        :param alpn: protocols to offer.
        """
        offered = [name.encode() for name in alpn] or None
        self._creator = optionsForClientTLS(hostname, trust, own, offered)
        self._verify = _verifier(hostname)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection: SSL.Connection = self._creator.clientConnectionForTLS(tlsProtocol)
        connection.set_verify(_VERIFY, self._verify)
        return connection


def _verifier(hostname: str) -> _Callback:
    def verify(connection: Any, certificate: Any, error: int, depth: int, good: Any) -> bool:
        if depth or not good:
            return bool(good)
        try:
            _check_name(certificate.to_cryptography(), hostname)
        except Exception:
            return False
        return True

    return verify


def _check_name(certificate: Any, hostname: str) -> None:
    try:
        ip_address(hostname)
    except ValueError:
        verify_certificate_hostname(certificate, hostname)
    else:
        verify_certificate_ip_address(certificate, hostname)


def load_trust(ca_file: str) -> Any:
    """Those who may sign a server's certificate; "" are the system's authorities.

    :raise ValueError: for a file that has no certificates.
    """
    if not ca_file:
        return platformTrust()
    return trustRootFromCertificates(load_certificates(ca_file))


def load_certificates(path: str) -> list[Certificate]:
    """The certificates in the PEM file at *path*.

    :raise ValueError: when there is none.
    """
    try:
        parts = Path(path).read_bytes().split(_BEGIN)[1:]
        found = [Certificate.loadPEM(_BEGIN + part) for part in parts]
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, CryptoError):
        raise ValueError(f"{path}: a certificate in it is damaged") from None
    if not found:
        raise ValueError(f"{path}: no certificate in it")
    return found


def load_own(path: str, key_path: str = "") -> PrivateCertificate | None:
    """The certificate with its key in the PEM file at *path*; "" is none.

    :param key_path: where the key is, if it is not there.

    :raise ValueError: for a file that does not have both.
    """
    if not path:
        return None
    try:
        pem = b"\n".join(Path(each).read_bytes() for each in (path, key_path) if each)
        return PrivateCertificate.loadPEM(pem)  # type: ignore[no-any-return]
    except OSError as error:
        raise ValueError(f"{error.filename}: cannot be read: {error.strerror}") from None
    except Exception:
        where = f"{path} and {key_path}" if key_path else path
        raise ValueError(f"{where}: not PEM with a certificate and its key") from None
