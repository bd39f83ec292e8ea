"""What a client certificate says of who shows it.

``net`` takes a listener's user names from here, ``access`` those of the
``certificate`` authenticator. The certificate has been verified before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from mqttd.settings import Identity


def user_name(certificate: x509.Certificate, identity: Identity) -> str | None:
    """The part of *certificate* that is the user name.

    None when it has none, or more than one, so that it cannot be mistaken; or one
    that MQTT could not carry.
    """
    try:
        name = _name(certificate, identity)
        usable = name and "\0" not in name and len(name.encode()) <= 65_535
    except ValueError:
        # It is signed by the authority, and garbled nevertheless.
        return None
    return name if usable else None


def _name(certificate: x509.Certificate, identity: Identity) -> str | None:
    match identity:
        case Identity.COMMON_NAME:
            return _only(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
        case Identity.SUBJECT:
            return certificate.subject.rfc4514_string()
        case Identity.ALTERNATIVE_NAME:
            return _alternative_name(certificate)
    return None


def _only(attributes: Sequence[Any]) -> str | None:
    return str(attributes[0].value) if len(attributes) == 1 else None


def _alternative_name(certificate: x509.Certificate) -> str | None:
    """The one e-mail address, or else URI, or else DNS name."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    for kind in (x509.RFC822Name, x509.UniformResourceIdentifier, x509.DNSName):
        found = names.get_values_for_type(kind)
        if found:
            return found[0] if len(found) == 1 else None
    return None
