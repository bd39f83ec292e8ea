"""TLS of a listener: certificates, revocation, names; exchanged while it runs.

The listener puts a ``TLSFactory`` between its gate and its protocols. Each
connection takes the OpenSSL context that is in force when it comes, so a reload
concerns new connections only. The protocol asks ``identify`` who has shown a
certificate. Knows nothing of MQTT.

A session ticket lets a client come back without a full handshake, and without
its certificate being looked at again. Tickets are of one context, so after a
reload (of a revocation list, say) none of before is taken, and at most
``TICKET_LIFETIME`` old otherwise.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from OpenSSL.crypto import X509StoreFlags
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from mqttd.identity import user_name
from mqttd.interfaces import Peer
from mqttd.net.brief_tls import in_memory
from mqttd.net.gathered_tls import GatheredTLS
from mqttd.settings import ClientCertificate, Identity, TLSSettings

#: For TLS 1.2: forward secrecy and authenticated encryption only.
DEFAULT_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

#: Seconds that a client may come back with a ticket.
TICKET_LIFETIME = 3600

_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
_VERIFY = {
    ClientCertificate.NONE: SSL.VERIFY_NONE,
    ClientCertificate.OPTIONAL: SSL.VERIFY_PEER,
    ClientCertificate.REQUIRED: SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
}
_OPTIONS = (
    SSL.OP_NO_COMPRESSION
    | SSL.OP_NO_RENEGOTIATION
    | SSL.OP_CIPHER_SERVER_PREFERENCE
    | SSL.OP_SINGLE_ECDH_USE
)
_REVOCATION_LIST = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


class TLSError(ValueError):
    """Certificates, keys or ciphers that cannot be used; says which file."""


class TLSFactory(TLSMemoryBIOFactory):
    """Puts TLS around the protocols of a factory."""

    # Its default gathers small writes for a turn; ours come gathered.
    protocol = GatheredTLS
    noisy = False


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """The TLS side of a listener."""

    def __init__(self, settings: TLSSettings) -> None:
        """Raises ``TLSError``."""
        self._context = _context_with_names(settings)

    def reload(self, settings: TLSSettings) -> None:
        """Read everything again; on ``TLSError`` what was in force stays."""
        self._context = _context_with_names(settings)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return in_memory(self._context)


def _context_with_names(settings: TLSSettings) -> SSL.Context:
    """The context of new connections; it picks another by the server's name."""
    default = _context(settings, settings.certificate, settings.private_key)
    named = {
        _server_name(name): _context(settings, file, "")
        for name, file in settings.server_names.items()
    }

    def choose(connection: SSL.Connection) -> None:
        name = (connection.get_servername() or b"").lower()
        # One level of a wildcard, as in certificates.
        found = named.get(name) or named.get(b"*." + name.partition(b".")[2])
        if found is not None:
            connection.set_context(found)

    if named:
        default.set_tlsext_servername_callback(choose)
    return default


def _server_name(name: str) -> bytes:
    """*name* as clients send it."""
    try:
        return name.lower().encode("idna")
    except UnicodeError:
        raise TLSError(f"server name {name!r}: not a name of a server") from None


def _context(settings: TLSSettings, certificate: str, key: str) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_options(_OPTIONS | (0 if settings.session_tickets else SSL.OP_NO_TICKET))
    context.set_min_proto_version(_VERSIONS[settings.minimum_version])
    # An idle connection gives its buffers back.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    # A cache costs memory per client; a ticket is kept by the client.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"mqttd")
    context.set_timeout(TICKET_LIFETIME)
    _set_ciphers(context, settings)
    _load_certificate(context, certificate, key)
    if settings.client_certificate is not ClientCertificate.NONE:
        _load_authorities(context, settings)
    if settings.alpn:
        _offer(context, [name.encode() for name in settings.alpn])
    return context


def _set_ciphers(context: SSL.Context, settings: TLSSettings) -> None:
    try:
        context.set_cipher_list((settings.ciphers or DEFAULT_CIPHERS).encode())
    except SSL.Error:
        raise TLSError(f"ciphers {settings.ciphers!r}: OpenSSL knows none of them") from None
    if settings.ciphersuites:
        try:
            context.set_tls13_ciphersuites(settings.ciphersuites.encode())
        except SSL.Error:
            text = f"ciphersuites {settings.ciphersuites!r}: OpenSSL does not know them"
            raise TLSError(text) from None


def _load_certificate(context: SSL.Context, certificate: str, key: str) -> None:
    _read(certificate)
    try:
        context.use_certificate_chain_file(certificate)
    except SSL.Error as error:
        raise TLSError(f"certificate {certificate}: {_reason(error)}") from None
    key = key or certificate
    text = _read(key)
    try:
        # Not by OpenSSL from the file: it would ask the terminal for a password,
        # and the broker would stand still.
        loaded = load_pem_private_key(text, None)
        context.use_privatekey(loaded)  # type: ignore[arg-type]
        context.check_privatekey()
    except TypeError:
        cause = "protected by a password; store it without one"
        raise TLSError(f"private key {key}: {cause}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise TLSError(f"private key {key}: no usable PEM in it") from None
    except SSL.Error as error:
        raise TLSError(f"private key {key}: {_reason(error)}") from None


def _load_authorities(context: SSL.Context, settings: TLSSettings) -> None:
    authorities = settings.client_authorities
    _read(authorities)
    try:
        context.load_verify_locations(authorities)
        context.load_client_ca(authorities.encode())
    except SSL.Error as error:
        raise TLSError(f"client authorities {authorities}: {_reason(error)}") from None
    context.set_verify(_VERIFY[settings.client_certificate])
    if settings.revocation_list:
        _load_revocation_lists(context, settings.revocation_list)


def _load_revocation_lists(context: SSL.Context, file: str) -> None:
    store = context.get_cert_store()
    assert store is not None
    texts = _REVOCATION_LIST.findall(_read(file))
    if not texts:
        raise TLSError(f"revocation list {file}: none in it")
    try:
        for text in texts:
            store.add_crl(x509.load_pem_x509_crl(text))
    except ValueError as error:
        raise TLSError(f"revocation list {file}: {error}") from None
    # Without a list of its issuer a certificate is refused.
    store.set_flags(X509StoreFlags.CRL_CHECK)


def _offer(context: SSL.Context, names: list[bytes]) -> None:
    def choose(connection: SSL.Connection, offered: list[bytes]) -> bytes | object:
        for name in names:
            if name in offered:
                return name
        # Clients are in use that offer names of their own and speak MQTT.
        return SSL.NO_OVERLAPPING_PROTOCOLS

    context.set_alpn_select_callback(choose)  # type: ignore[arg-type]


def _read(file: str) -> bytes:
    # OpenSSL's own error for a missing file names neither it nor the cause.
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise TLSError(f"{file}: {error.strerror}") from None


def _reason(error: SSL.Error) -> str:
    queue = error.args[0] if error.args else ()
    return "; ".join(entry[2] for entry in queue) or "no usable PEM in it"


# --- who the client is -------------------------------------------------------------


def identify(peer: Peer, transport: Any, settings: TLSSettings | None) -> bool:
    """Note in *peer* what the handshake on *transport* has shown.

    False when the certificate should say who the client is and does not: such a
    client must not pass for an anonymous one.
    """
    handle: SSL.Connection = transport.getHandle()
    peer.tls = True
    name = handle.get_servername()
    peer.server_name = None if name is None else name.decode("ascii", "replace")
    peer.certificate = handle.get_peer_certificate(as_cryptography=True)
    if peer.certificate is None or settings is None or settings.identity is Identity.NONE:
        return True
    peer.certificate_user = user_name(peer.certificate, settings.identity)
    return peer.certificate_user is not None
