"""Client certificates in access rules: what a rule may say of one.

A condition is "any", "cn:NAME", "dn:SUBJECT" (RFC 4514) or "sha256:FINGERPRINT".
The certificate itself was verified by TLS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

FORMS = 'a list of "any", "cn:NAME", "dn:SUBJECT" or "sha256:FINGERPRINT"'


def is_condition(text: str) -> bool:
    """Whether *text* is a condition on a certificate."""
    kind, _, value = text.partition(":")
    if kind == "sha256":
        try:
            return len(bytes.fromhex(value.replace(":", ""))) == 32
        except ValueError:
            return False
    return text == "any" or (kind in ("cn", "dn") and bool(value))


def certificate_matches(certificate: Certificate | None, condition: str) -> bool:
    """Whether there is a *certificate* and it meets *condition*."""
    if certificate is None:
        return False
    kind, _, value = condition.partition(":")
    if kind == "cn":
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        # With several names it would be anyone's choice which one counts.
        return len(names) == 1 and names[0].value == value
    if kind == "dn":
        return certificate.subject.rfc4514_string() == value
    if kind == "sha256":
        return certificate.fingerprint(SHA256()) == bytes.fromhex(value.replace(":", ""))
    return condition == "any"
