"""Client certificates in the chain."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from twisted.cred.error import UnauthorizedLogin
from zope.interface.verify import verifyObject

from mqttd.access.certificate import CertificateLogin
from mqttd.interfaces import NOT_MINE, IAuthenticator, Peer
from mqttd.settings_authentication import CertificateSettings
from tests.access.logins import login
from tests.certificates import Authority, common_name, dns

AUTHORITY = Authority()


def shown(subject: Any, names: Any = ()) -> Peer:
    return Peer("192.0.2.1", certificate=AUTHORITY.issue(subject, names).certificate)


def ask(peer: Peer, user: str | None = None, **settings: Any) -> Any:
    return CertificateLogin(CertificateSettings(**settings)).authenticate(login(user, peer=peer))


def test_it_is_an_authenticator() -> None:
    assert verifyObject(IAuthenticator, CertificateLogin(CertificateSettings()))


def test_a_certificate_says_who_and_its_units_are_groups() -> None:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "staff"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "night"),
            x509.NameAttribute(NameOID.COMMON_NAME, "ann"),
        ]
    )
    avatar = ask(shown(subject), superusers=("ann",))
    assert (avatar.principal, avatar.superuser, avatar.source) == ("ann", True, "certificate")
    assert avatar.claims["groups"] == ["staff", "night"]
    assert avatar.claims["organizations"] == ["Example"]
    assert len(avatar.claims["fingerprint"]) == 64


def test_the_name_may_stand_elsewhere() -> None:
    peer = shown("ann", dns("device.example.org"))
    assert ask(peer, identity="san").principal == "device.example.org"
    assert ask(peer, identity="dn").principal == "CN=ann"


def test_without_a_certificate_it_is_for_others() -> None:
    assert ask(Peer("192.0.2.1"), "ann") is NOT_MINE


def test_a_certificate_that_names_nobody_or_several_is_a_no() -> None:
    for subject in (common_name(), common_name("ann", "bob")):
        with pytest.raises(UnauthorizedLogin):
            ask(shown(subject))
    with pytest.raises(UnauthorizedLogin):
        ask(shown("ann"), identity="san")


def test_the_user_name_is_of_no_account_or_must_be_the_same() -> None:
    assert ask(shown("ann"), "bob").principal == "ann"
    assert ask(shown("ann"), None, user_name_must_match=True).principal == "ann"
    assert ask(shown("ann"), "ann", user_name_must_match=True).principal == "ann"
    with pytest.raises(UnauthorizedLogin):
        ask(shown("ann"), "bob", user_name_must_match=True)
