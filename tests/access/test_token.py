"""Tokens: whom they let in, until when, and what is tried with them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.task import Clock

from mqttd.access.token import TokenLogin
from mqttd.interfaces import NOT_MINE, LoginUnavailable
from mqttd.settings_authentication import JWTSettings
from tests.access.logins import login, now

NOW = 1_800_000_000
SECRET = "0123456789abcdef0123456789abcdef"
RSA = rsa.generate_private_key(65537, 2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()
OTHERS = {
    type(RSA): rsa.generate_private_key(65537, 2048),
    type(CURVE): ec.generate_private_key(ec.SECP256R1()),
    type(EDWARDS): ed25519.Ed25519PrivateKey.generate(),
}
CLAIMS = {"sub": "ann", "exp": NOW + 600, "groups": ["staff"], "acl": [{"topic": "a/#"}]}


def pem(key: Any) -> str:
    form = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return str(key.public_key().public_bytes(*form).decode())


class Maker:
    """Makes authenticators whose keys are in files, at a time that stands still."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()

    def __call__(self, key: str | None = SECRET, algorithm: str = "HS256", **more: Any) -> Any:
        if key is not None:
            path = self.folder / "key"
            path.write_text(key)
            more["key_file"] = str(path)
        settings = JWTSettings(algorithms=more.pop("algorithms", (algorithm,)), **more)
        return TokenLogin(settings, self.clock, self.clock.seconds, self.now)

    def now(self) -> float:
        return NOW + self.clock.seconds()


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    # PyJWT looks at the clock by itself.
    import jwt.api_jwt

    class Time(jwt.api_jwt.datetime):  # type: ignore[name-defined,misc]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls.fromtimestamp(NOW, tz)

    monkeypatch.setattr(jwt.api_jwt, "datetime", Time)
    return Maker(tmp_path)


def token(key: Any = SECRET, algorithm: str = "HS256", kid: str = "", **changes: Any) -> bytes:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    headers = {"kid": kid} if kid else None
    return jwt.encode(claims, key, algorithm, headers).encode()


def forged(header: Any, claims: Any = CLAIMS, signature: bytes = b"") -> bytes:
    """A token made by hand."""

    def part(value: Any) -> bytes:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    return b".".join((part(header), part(claims), part(signature) if signature else b""))


def ask(authenticator: Any, password: bytes | None, user: str | None = None, **more: Any) -> Any:
    return now(authenticator.authenticate(login(user, password, **more)))


def test_a_good_token_says_who_until_when_and_what_else(make: Maker) -> None:
    avatar = ask(make(leeway=5), token())
    assert avatar.principal == "ann"
    assert avatar.expires_at == make.clock.seconds() + 605
    assert avatar.claims == CLAIMS
    assert (avatar.superuser, avatar.source) == (False, "jwt")


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [("RS256", RSA), ("PS384", RSA), ("ES256", CURVE), ("EdDSA", EDWARDS)],
)
def test_algorithms_with_a_public_key(make: Maker, algorithm: str, key: Any) -> None:
    authenticator = make(pem(key), algorithm)
    assert ask(authenticator, token(key, algorithm)).principal == "ann"
    with pytest.raises(UnauthorizedLogin):
        ask(make(pem(OTHERS[type(key)]), algorithm), token(key, algorithm))


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW - 11},
        {"exp": None},
        {"exp": "soon"},
        {"exp": [NOW]},
        {"exp": 1e400},
        {"nbf": NOW + 60},
        {"iat": NOW + 60},
        {"aud": "others"},
        {"sub": None},
        {"sub": ""},
        {"sub": "a\0"},
        {"user": "x", "sub": 5},
        {"sub": ["ann"]},
    ],
    ids=repr,
)
def test_a_token_with_wrong_claims_is_a_no(make: Maker, changes: dict[str, Any]) -> None:
    if isinstance(changes.get("sub", ""), str):
        password = token(**changes)
    else:
        # PyJWT does not make such ones.
        header = {"alg": "HS256", "typ": "JWT"}
        unsigned = forged(header, {**CLAIMS, **changes}).rpartition(b".")[0]
        import hashlib
        import hmac

        digest = hmac.digest(SECRET.encode(), unsigned, hashlib.sha256)
        password = unsigned + b"." + base64.urlsafe_b64encode(digest).rstrip(b"=")
    with pytest.raises(UnauthorizedLogin):
        ask(make(), password)


def test_leeway_and_tokens_for_ever_are_a_matter_of_settings(make: Maker) -> None:
    assert ask(make(leeway=20), token(exp=NOW - 11)).expires_at == 9
    assert ask(make(require_expiry=False), token(exp=None)).expires_at is None


def test_issuer_and_audience(make: Maker) -> None:
    authenticator = make(issuer="us", audience="mqtt")
    assert ask(authenticator, token(iss="us", aud=["mqtt", "web"])).principal == "ann"
    for wrong in ({}, {"iss": "us"}, {"aud": "mqtt"}, {"iss": "them", "aud": "mqtt"}):
        with pytest.raises(UnauthorizedLogin):
            ask(authenticator, token(**wrong))


@pytest.mark.parametrize(
    "password",
    [
        token("another secret of thirty-two byte"),
        token()[:-2],
        token() + b"AA",
        forged({"alg": "none"}),
        forged({"alg": "None"}, signature=b"x"),
        forged({"alg": "HS256"}),
        forged({"alg": "HS512"}, signature=b"x" * 64),
        forged({"alg": ["HS256"]}, signature=b"x"),
        forged({"alg": None}, signature=b"x"),
        token(algorithm="HS384", key=SECRET * 2),
        forged({"alg": "HS256", "crit": ["x"], "x": 1}, signature=b"x"),
        forged({"alg": "HS256", "jwk": {"kty": "oct", "k": "AA"}}, signature=b"x"),
        token(data="x" * 9000),
    ],
)
def test_a_forged_token_is_a_no(make: Maker, password: bytes) -> None:
    with pytest.raises(UnauthorizedLogin):
        ask(make(), password)


def test_a_public_key_is_never_a_shared_secret(make: Maker) -> None:
    public = pem(RSA).encode()
    unsigned = forged({"alg": "HS256"}).rpartition(b".")[0]
    import hmac

    digest = hmac.digest(public, unsigned, "sha256")
    password = unsigned + b"." + base64.urlsafe_b64encode(digest).rstrip(b"=")
    with pytest.raises(UnauthorizedLogin):
        ask(make(pem(RSA), "RS256"), password)
    with pytest.raises(ValueError, match="not a public key"):
        make("x" * 64, "RS256")


@pytest.mark.parametrize(
    "password",
    [
        None,
        b"",
        b"secret",
        b"a.b",
        b"a.b.c.d",
        b"..",
        b"\xff.\xff.\xff",
        b"a.b.c",
        b"abcd.b.c",
        b"eyJhIjox.b.c",
    ],
)
def test_what_is_no_token_is_for_others(make: Maker, password: bytes | None) -> None:
    assert ask(make(), password, "ann") is NOT_MINE


def test_a_token_may_stand_in_the_user_name(make: Maker) -> None:
    authenticator = make(token="username")
    assert ask(authenticator, None, token().decode()).principal == "ann"
    assert ask(authenticator, token(), "ann") is NOT_MINE


def test_names_may_have_to_match(make: Maker) -> None:
    authenticator = make(user_name_must_match=True, client_id_claim="cid")
    good = token(cid="c")
    assert ask(authenticator, good, "ann").principal == "ann"
    assert ask(authenticator, good, None).principal == "ann"
    for user, password in (("bob", good), ("ann", token(cid="d")), ("ann", token())):
        with pytest.raises(UnauthorizedLogin):
            ask(authenticator, password, user)


def test_only_true_makes_a_superuser_and_only_a_list_groups(make: Maker) -> None:
    authenticator = make(superuser_claim="root", groups_claim="teams")
    assert ask(authenticator, token(root=True)).superuser
    for value in (1, "true", [True], False):
        assert not ask(authenticator, token(root=value)).superuser
    assert ask(authenticator, token(teams=["a"])).claims["groups"] == ["a"]
    assert ask(authenticator, token(teams="a")).claims["groups"] == []


# --- keys -------------------------------------------------------------------------


def jwks(*keys: tuple[str, Any, str], **more: Any) -> str:
    """A key set of (key id, key, algorithm)."""
    made = []
    for kid, key, algorithm in keys:
        kind = jwt.get_algorithm_by_name(algorithm)
        shown = key if isinstance(key, (str, bytes)) else key.public_key()
        made.append({**kind.to_jwk(shown, as_dict=True), "kid": kid, **more})
    return json.dumps({"keys": made})


def from_jwks(make: Maker, text: str, *algorithms: str, **more: Any) -> Any:
    path = make.folder / "jwks"
    path.write_text(text)
    return make(None, algorithms=algorithms, jwks_file=str(path), **more)


def test_a_key_set_has_the_key_that_a_token_names(make: Maker) -> None:
    text = jwks(("r", RSA, "RS256"), ("c", CURVE, "ES256"))
    authenticator = from_jwks(make, text, "RS256", "ES256")
    assert ask(authenticator, token(RSA, "RS256", "r")).principal == "ann"
    assert ask(authenticator, token(CURVE, "ES256", "c")).principal == "ann"
    for key, algorithm, kid in ((RSA, "RS256", "c"), (RSA, "RS256", "x"), (RSA, "RS256", "")):
        with pytest.raises(UnauthorizedLogin):
            ask(authenticator, token(key, algorithm, kid))


def test_a_key_is_used_for_its_own_algorithm_only(make: Maker) -> None:
    authenticator = from_jwks(make, jwks(("r", RSA, "RS256"), alg="RS256"), "RS256", "PS256")
    assert ask(authenticator, token(RSA, "RS256", "r")).principal == "ann"
    with pytest.raises(UnauthorizedLogin):
        ask(authenticator, token(RSA, "PS256", "r"))


def test_keys_of_other_kinds_are_left_out(make: Maker) -> None:
    text = jwks(("r", RSA, "RS256"), ("s", SECRET.encode(), "HS256"))
    authenticator = from_jwks(make, text, "RS256")
    with pytest.raises(UnauthorizedLogin):
        ask(authenticator, token(SECRET, "HS256", "s"))
    assert ask(authenticator, token(RSA, "RS256")).principal == "ann"


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", '{"keys": 5}', '{"keys": []}', '{"keys": [5]}', '{"keys": [{}]}'),
        jwks(("s", b"short", "HS256")),
        jwks(("c", CURVE, "ES256"), use="enc"),
    ],
)
def test_a_key_set_that_is_none_is_refused(make: Maker, text: str) -> None:
    with pytest.raises(ValueError, match="jwks"):
        from_jwks(make, text, "HS256" if "oct" in text else "ES256")


def test_a_secret_must_be_long_enough(make: Maker) -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        make("short")
    with pytest.raises(ValueError, match="at least 64 bytes"):
        make(SECRET, "HS512")


def test_a_reload_takes_new_keys_and_keeps_the_old_ones_when_they_are_broken(make: Maker) -> None:
    authenticator = make()
    new = SECRET[::-1]
    (make.folder / "key").write_text(new)
    authenticator.reload()
    assert ask(authenticator, token(new)).principal == "ann"
    (make.folder / "key").write_text("")
    with pytest.raises(ValueError, match="32 bytes"):
        authenticator.reload()
    assert ask(authenticator, token(new)).principal == "ann"


class FakeClient:
    """A web client whose answers the test gives."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    async def request(self, method: str, url: str) -> tuple[int, bytes]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return 200, answer.encode()


def test_keys_from_a_url_are_fetched_when_needed_and_not_too_often(make: Maker) -> None:
    from mqttd.access.backends import BackendError

    authenticator = make(None, "RS256", jwks_url="https://127.0.0.1/jwks", refresh=100)
    keys = authenticator._keys
    one, two = jwks(("1", RSA, "RS256")), jwks(("2", RSA, "RS256"))
    keys._client = client = FakeClient(BackendError("down"), one, two, BackendError("down"))
    first, second = token(RSA, "RS256", "1"), token(RSA, "RS256", "2")
    for _ in range(2):
        with pytest.raises(LoginUnavailable):
            ask(authenticator, first)
    assert len(client.answers) == 3
    make.clock.advance(11)
    assert ask(authenticator, first).principal == "ann"
    with pytest.raises(UnauthorizedLogin):
        ask(authenticator, second)
    assert len(client.answers) == 2
    make.clock.advance(11)
    assert ask(authenticator, second).principal == "ann"
    make.clock.advance(101)
    assert ask(authenticator, second).principal == "ann"
    assert client.answers == []
