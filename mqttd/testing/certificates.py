"""Certificates for tests: an authority, what it signs, and what it revokes.

Made anew by each test or fixture that wants them, with keys on a curve, which cost
next to nothing, and valid for a day. Nothing here is fit for anything but a test.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)

#: What the key of an authority may do.
_SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@frozen
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self, password: bytes = b"") -> bytes:
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)

    def write(self, path: Path) -> str:
        """Write certificate and key into one PEM file; its name."""
        path.write_bytes(self.certificate_pem + self.key_pem())
        return str(path)


def common_name(*names: str) -> x509.Name:
    """A subject with these common names."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


class Authority:
    """An authority that issues and revokes."""

    def __init__(self, name: str = "Test authority") -> None:
        self.subject = common_name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        self.certificate = (
            self._builder(self.subject, self._key)
            .add_extension(constraints, critical=True)
            .add_extension(_SIGNS, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def write(self, path: Path) -> str:
        """Write the authority's own certificate; the file's name."""
        path.write_bytes(self.pem)
        return str(path)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
            # Python from 3.13 on asks for both.
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )

    def issue(
        self, subject: str | x509.Name, names: Iterable[x509.GeneralName] | None = None
    ) -> Issued:
        """A certificate for *subject* (a text is its common name).

        *names* are its alternative names; None: a server on this machine.
        """
        if names is None:
            names = [*dns("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        if isinstance(subject, str):
            subject = common_name(subject)
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(subject, key)
        alternatives = list(names)
        if alternatives:
            extension = x509.SubjectAlternativeName(alternatives)
            builder = builder.add_extension(extension, critical=False)
        return Issued(builder.sign(self._key, hashes.SHA256()), key)

    def revocation_list(self, *revoked: Issued) -> bytes:
        """A list in PEM that revokes these."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.subject)
            .last_update(now - DAY)
            .next_update(now + DAY)
        )
        for issued in revoked:
            entry = x509.RevokedCertificateBuilder()
            entry = entry.serial_number(issued.certificate.serial_number).revocation_date(now - DAY)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
