"""Hashes of passwords: those of others, ours, and what is none."""

from __future__ import annotations

import subprocess
from base64 import b64decode
from collections.abc import Callable
from itertools import count
from pathlib import Path

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttd.access import passwords
from mqttd.access.extras import MissingExtra, need
from mqttd.access.passwords import (
    SCHEMES,
    BadHash,
    check_hash,
    decoy,
    make_hash,
    matches,
    need_library,
    scram_keys,
)

#: Made by mosquitto_passwd 2.0.11, htpasswd 2.4 and argon2 of Debian, of "secret".
FOREIGN = {
    "pbkdf2": "$7$101$/86a8Rc1bWwQdaCb$nKGA+r3qMxucrYCQxLELQSkGXX3ksWQog1sydJheI/DXEoJjSQU+"
    "OyFqU3kxRALRIvfeEd+3SJN3OzDbldvx8w==",
    "sha512": "$6$LnoOXJ15l06EUIRr$XkBh3N6TOjPYewyn9vxyUU36C4QIFvZTSsyD2htLIZEJ5xCY2lYYeu/C6RQ3"
    "GojWgSZEkh+Vs/jYvEUXHOZLrw==",
    "bcrypt": bcrypt.hashpw(b"secret", bcrypt.gensalt(4, prefix=b"2a")).decode(),
    # RFC 7677's example, whose password is "pencil", is in test_the_keys_of_rfc_7677.
    "scram": make_hash(b"secret", "scram"),
    "argon2id": make_hash(b"secret", "argon2id"),
}


@pytest.mark.parametrize("scheme", FOREIGN)
def test_only_the_right_password_matches(scheme: str) -> None:
    assert check_hash(FOREIGN[scheme]) == scheme
    assert matches(FOREIGN[scheme], b"secret")
    for wrong in (b"", b"Secret", b"secret ", b"secret\0", b"\xff"):
        assert not matches(FOREIGN[scheme], wrong)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_made_has_a_salt_of_its_own(scheme: str) -> None:
    one, other = make_hash("pässword".encode(), scheme), make_hash("pässword".encode(), scheme)
    assert one != other
    assert check_hash(one) == scheme
    assert matches(one, "pässword".encode())


def test_mosquitto_passwd_writes_what_we_read(
    tmp_path: Path, program: Callable[[str], str]
) -> None:
    path = tmp_path / "passwords"
    for user, options in {"ann": ["-c"], "bob": ["-H", "sha512"]}.items():
        command = [program("mosquitto_passwd"), *options, "-b", str(path), user, f"{user} s"]
        subprocess.run(command, check=True)
    for line in path.read_text().splitlines():
        user, _, encoded = line.partition(":")
        assert matches(encoded, f"{user} s".encode())
        assert not matches(encoded, b"s")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        "$",
        "$7$",
        FOREIGN["pbkdf2"][:-1],
        FOREIGN["pbkdf2"] + "\n",
        FOREIGN["pbkdf2"].replace("$101$", "$0$"),
        FOREIGN["pbkdf2"].replace("$101$", "$999999999$"),
        FOREIGN["pbkdf2"].replace("/86a8Rc1bWwQdaCb", "="),
        FOREIGN["sha512"][:-8],
        FOREIGN["bcrypt"][:-1],
        FOREIGN["bcrypt"].replace("$04$", "$31$"),
        FOREIGN["argon2id"].replace("m=19456", "m=99999999"),
        FOREIGN["argon2id"].replace("t=2", "t=9999"),
        FOREIGN["argon2id"].replace("p=1", "p=0"),
        FOREIGN["argon2id"].replace("argon2id", "argon2d"),
        "$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00",
        "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
        "$5$rounds=5$salt$hash",
        "\N{FULLWIDTH DOLLAR SIGN}7$101$a$b",
        "$7$\N{ARABIC-INDIC DIGIT ONE}$" + FOREIGN["pbkdf2"].split("$", 3)[3],
    ],
    # Some have another salt in each run.
    ids=count(),
)
def test_what_could_not_be_compared_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(BadHash) as caught:
        check_hash(text)
    assert len(text) < 8 or text not in str(caught.value)


@given(st.text())
def test_no_text_makes_trouble(text: str) -> None:
    with pytest.raises(BadHash):
        check_hash(text)


@pytest.mark.parametrize("scheme", FOREIGN)
def test_a_decoy_costs_what_the_others_do_and_lets_nobody_in(scheme: str) -> None:
    substitute = decoy(FOREIGN[scheme])
    assert check_hash(substitute) == scheme
    assert substitute.split("$")[1:3] == FOREIGN[scheme].split("$")[1:3] or scheme in (
        "scram",
        "sha512",
    )
    assert not matches(substitute, b"secret")
    assert not matches(substitute, b"")


def test_without_anything_to_go_by_a_decoy_is_argon2id() -> None:
    assert check_hash(decoy(None)) == "argon2id"


def test_the_keys_of_rfc_7677() -> None:
    made = passwords._scram(b"pencil", b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
    assert passwords._text(made.stored_key) == "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
    assert passwords._text(made.server_key) == "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="


def test_only_scram_entries_have_keys() -> None:
    assert scram_keys(FOREIGN["argon2id"]) is None
    keys = scram_keys(FOREIGN["scram"])
    assert keys is not None
    assert keys.iterations == passwords.SCRAM_ITERATIONS


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingExtra, match=r"needs nosuch: pip install 'txmqttd\[x\]'"):
        need("nosuch", "x")
    monkeypatch.setitem(passwords._LIBRARIES, "bcrypt", "nosuch")
    need_library("pbkdf2")
    with pytest.raises(MissingExtra, match="passwords"):
        need_library("bcrypt")


def test_bcrypt_looks_at_no_more_than_it_can() -> None:
    long = b"x" * 72
    encoded = bcrypt.hashpw(long, bcrypt.gensalt(4)).decode()
    assert matches(encoded, long + b"y")
    with pytest.raises(ValueError, match="72"):
        make_hash(long + b"y", "bcrypt")
