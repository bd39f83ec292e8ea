"""Password hashes: what they look like, what they cost, and how one is made.

Read by the password file, by the databases that hold hashes, and by ``mqttctl
passwd``. Pure and slow on purpose: who runs a reactor calls ``matches`` in a
thread. Errors never show a hash or a password.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

from attrs import frozen

from mqttd.access.extras import need

#: What is made, unless another is asked for.
DEFAULT_SCHEME = "argon2id"

#: Parameters for argon2id that OWASP recommends: 19 MiB, two passes, one lane.
ARGON2_MEMORY, ARGON2_PASSES, ARGON2_LANES = 19_456, 2, 1
#: mosquitto's own default is 101, which is too little; it reads more as well.
PBKDF2_ITERATIONS = 210_000
SCRAM_ITERATIONS = 4096 * 8
BCRYPT_COST = 12

#: Bounds of what a hash may ask of us: KiB, passes, iterations, log2 of rounds.
MAXIMUM_ARGON2_MEMORY, MAXIMUM_ARGON2_PASSES = 1 << 20, 64
MAXIMUM_ITERATIONS, MAXIMUM_BCRYPT_COST = 10_000_000, 16

#: Bytes of a password that bcrypt looks at, here as everywhere.
BCRYPT_LENGTH = 72

_ARGON2 = re.compile(
    r"\$argon2id?\$v=19\$m=(\d{1,8}),t=(\d{1,4}),p=(\d{1,3})\$([\w+/]{11,}={0,2})\$([\w+/]{22,}={0,2})",
    re.ASCII,
)
_PBKDF2 = re.compile(r"\$7\$(\d{1,9})\$([\w+/]+={0,2})\$([\w+/]{86}==)", re.ASCII)
_SHA512 = re.compile(r"\$6\$([\w+/]+={0,2})\$([\w+/]{86}==)", re.ASCII)
_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_SCRAM = re.compile(
    r"SCRAM-SHA-256\$(\d{1,9}):([\w+/]+={0,2})\$([\w+/]{43}=):([\w+/]{43}=)", re.ASCII
)


#: Scheme -> the library that it needs.
_LIBRARIES = {"argon2id": "argon2", "bcrypt": "bcrypt"}


class BadHash(ValueError):
    """What should be a password hash is none that we know, or asks for too much."""


@frozen
class SCRAMKeys:
    """What a server keeps of a password for SCRAM-SHA-256 (RFC 5803)."""

    iterations: int
    salt: bytes = b""
    stored_key: bytes = b""
    server_key: bytes = b""


def check_hash(encoded: str) -> str:
    """The scheme of *encoded*.

    :raise BadHash: for anything that could not be compared.
    """
    for scheme, (pattern, right) in _KNOWN.items():
        if found := pattern.fullmatch(encoded):
            if not right(found):
                raise BadHash(f"a {scheme} hash whose parameters are out of bounds")
            return scheme
    raise BadHash("no password hash that is known here; make one by: mqttctl passwd")


def need_library(scheme: str) -> None:
    """Make sure that hashes of *scheme* can be compared.

    :raise MissingExtra: when they cannot.
    """
    if scheme in _LIBRARIES:
        _library(scheme)


def _library(scheme: str) -> Any:
    return need(_LIBRARIES[scheme], "passwords")


def matches(encoded: str, password: bytes) -> bool:
    """Whether *password* is the one that *encoded* was made of. Slow.

    :raise BadHash: when it cannot be told.
    """
    scheme = check_hash(encoded)
    if b"\0" in password:
        # HMAC takes "x" and "x\0" for the same key; no other tool can set such a one.
        return False
    return _MATCHERS[scheme](encoded, password)


def make_hash(password: bytes, scheme: str = DEFAULT_SCHEME) -> str:
    """A hash of *password*, with a salt of its own. Slow.

    :raise ValueError: for a password that the scheme cannot take.
    """
    if b"\0" in password:
        raise ValueError("a password has no NUL characters")
    return _MAKERS[scheme](password)


def decoy(encoded: str | None) -> str:
    """A hash of nothing that costs as much to compare as *encoded* does.

    Comparing with it makes an unknown user cost what a known one does.
    """
    if encoded is None:
        encoded = f"$argon2id$v=19$m={ARGON2_MEMORY},t={ARGON2_PASSES},p={ARGON2_LANES}$x$x"
    head, _, _ = encoded.rpartition("$")
    match encoded[:3]:
        case "$7$" | "$6$":
            return f"{head}${_text(os.urandom(64))}"
        case "SCR":
            return f"{head}${_text(os.urandom(32))}:{_text(os.urandom(32))}"
        case "$ar":
            parameters = "$".join(encoded.split("$")[:4])
            salt, digest = (_text(os.urandom(n)).rstrip("=") for n in (16, 32))
            return f"{parameters}${salt}${digest}"
    # bcrypt: any digest will do, but its alphabet is its own.
    return encoded[:29] + "." * 31


def scram_keys(encoded: str) -> SCRAMKeys | None:
    """The keys in a SCRAM-SHA-256 entry; None for other hashes."""
    found = _SCRAM.fullmatch(encoded)
    if found is None:
        return None
    return SCRAMKeys(int(found[1]), *(b64decode(found[i]) for i in (2, 3, 4)))


# --- comparing ------------------------------------------------------------------


def _matches_argon2(encoded: str, password: bytes) -> bool:
    argon2 = _library("argon2id")
    try:
        return bool(argon2.PasswordHasher().verify(encoded, password))
    except argon2.exceptions.VerificationError:
        return False


def _matches_pbkdf2(encoded: str, password: bytes) -> bool:
    found = _PBKDF2.fullmatch(encoded)
    assert found is not None
    digest = hashlib.pbkdf2_hmac("sha512", password, b64decode(found[2]), int(found[1]))
    return hmac.compare_digest(digest, b64decode(found[3]))


def _matches_sha512(encoded: str, password: bytes) -> bool:
    found = _SHA512.fullmatch(encoded)
    assert found is not None
    digest = hashlib.sha512(password + b64decode(found[1])).digest()
    return hmac.compare_digest(digest, b64decode(found[2]))


def _matches_bcrypt(encoded: str, password: bytes) -> bool:
    return bool(_library("bcrypt").checkpw(password[:BCRYPT_LENGTH], encoded.encode()))


def _matches_scram(encoded: str, password: bytes) -> bool:
    keys = scram_keys(encoded)
    assert keys is not None
    made = _scram(password, keys.salt, keys.iterations)
    return hmac.compare_digest(made.stored_key, keys.stored_key)


def _scram(password: bytes, salt: bytes, iterations: int) -> SCRAMKeys:
    # Plain ASCII passwords need no SASLprep; for others clients differ.
    salted = hashlib.pbkdf2_hmac("sha256", _prepared(password), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client_key).digest()
    return SCRAMKeys(iterations, salt, stored, hmac.digest(salted, b"Server Key", "sha256"))


def _prepared(password: bytes) -> bytes:
    """*password* after SASLprep; as it is where that can not be (RFC 5802)."""
    if password.isascii():
        return password
    try:
        return str(need("scramp.utils", "scram").saslprep(password.decode())).encode()
    except Exception:
        return password


_MATCHERS: dict[str, Callable[[str, bytes], bool]] = {
    "argon2id": _matches_argon2,
    "pbkdf2": _matches_pbkdf2,
    "sha512": _matches_sha512,
    "bcrypt": _matches_bcrypt,
    "scram": _matches_scram,
}


# --- making ---------------------------------------------------------------------


def _make_argon2(password: bytes) -> str:
    hasher = _library("argon2id").PasswordHasher(ARGON2_PASSES, ARGON2_MEMORY, ARGON2_LANES)
    return str(hasher.hash(password))


def _make_pbkdf2(password: bytes) -> str:
    salt = os.urandom(12)
    digest = hashlib.pbkdf2_hmac("sha512", password, salt, PBKDF2_ITERATIONS)
    return f"$7${PBKDF2_ITERATIONS}${_text(salt)}${_text(digest)}"


def _make_bcrypt(password: bytes) -> str:
    bcrypt = _library("bcrypt")
    if len(password) > BCRYPT_LENGTH:
        raise ValueError(f"bcrypt takes passwords of at most {BCRYPT_LENGTH} bytes")
    return str(bcrypt.hashpw(password, bcrypt.gensalt(BCRYPT_COST)).decode())


def _make_scram(password: bytes) -> str:
    keys = _scram(password, os.urandom(16), SCRAM_ITERATIONS)
    salt, stored, server = map(_text, (keys.salt, keys.stored_key, keys.server_key))
    return f"SCRAM-SHA-256${keys.iterations}:{salt}${stored}:{server}"


def _text(data: bytes) -> str:
    return b64encode(data).decode()


_MAKERS: dict[str, Callable[[bytes], str]] = {
    "argon2id": _make_argon2,
    "pbkdf2": _make_pbkdf2,
    "bcrypt": _make_bcrypt,
    "scram": _make_scram,
}
SCHEMES = tuple(_MAKERS)


# --- what is in bounds ----------------------------------------------------------


def _argon2_is_right(found: re.Match[str]) -> bool:
    memory, passes, lanes = (int(found[i]) for i in (1, 2, 3))
    return (
        8 * lanes <= memory <= MAXIMUM_ARGON2_MEMORY
        and 1 <= passes <= MAXIMUM_ARGON2_PASSES
        and 1 <= lanes <= 64
    )


def _is_base64(text: str) -> bool:
    try:
        return bool(b64decode(text, validate=True))
    except binascii.Error:
        return False


def _iterations_are_right(found: re.Match[str]) -> bool:
    return 1 <= int(found[1]) <= MAXIMUM_ITERATIONS and _is_base64(found[2])


#: Scheme -> form, and whether its parameters are in bounds.
_KNOWN: dict[str, tuple[re.Pattern[str], Callable[[Any], bool]]] = {
    "argon2id": (_ARGON2, _argon2_is_right),
    "pbkdf2": (_PBKDF2, _iterations_are_right),
    "sha512": (_SHA512, lambda found: _is_base64(found[1])),
    "bcrypt": (_BCRYPT, lambda found: 4 <= int(found[1]) <= MAXIMUM_BCRYPT_COST),
    "scram": (_SCRAM, _iterations_are_right),
}
