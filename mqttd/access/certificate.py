"""The ``certificate`` authenticator: the TLS handshake has shown who a client is.

For listeners that ask for certificates and know other clients besides; where
the certificate alone decides, ``identity`` in ``[listener.tls]`` is enough.
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from twisted.cred.error import UnauthorizedLogin
from zope.interface import implementer

from mqttd.identity import user_name
from mqttd.interfaces import NOT_MINE, Avatar, IAuthenticator, Revoked
from mqttd.settings import Identity
from mqttd.settings_authentication import CertificateSettings


@implementer(IAuthenticator)
class CertificateLogin:
    """Knows clients by their certificate; its units (OU) are their groups."""

    def __init__(self, settings: CertificateSettings) -> None:
        self.name = settings.title
        self._settings = settings

    def start(self) -> None:
        """Nothing to open."""

    def stop(self) -> None:
        """Nothing to close."""

    def reload(self) -> Revoked:
        """The listeners read authorities and revocation lists."""
        return Revoked()

    def authenticate(self, credentials: Any) -> Any:
        certificate = credentials.peer.certificate
        if certificate is None:
            return NOT_MINE
        user = user_name(certificate, Identity(self._settings.identity))
        if user is None:
            raise UnauthorizedLogin("the certificate names nobody, or several")
        named = credentials.username.decode() if credentials.has_username else user
        if self._settings.user_name_must_match and named != user:
            raise UnauthorizedLogin("the certificate is another user's")
        return Avatar(
            user,
            superuser=user in self._settings.superusers,
            claims=_claims(certificate),
            source=self.name,
        )


def _claims(certificate: x509.Certificate) -> dict[str, Any]:
    def values(kind: x509.ObjectIdentifier) -> list[str]:
        return [str(each.value) for each in certificate.subject.get_attributes_for_oid(kind)]

    return {
        "groups": values(NameOID.ORGANIZATIONAL_UNIT_NAME),
        "organizations": values(NameOID.ORGANIZATION_NAME),
        "subject": certificate.subject.rfc4514_string(),
        "fingerprint": certificate.fingerprint(SHA256()).hex(),
    }
