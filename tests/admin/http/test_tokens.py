"""Tokens: making, using and taking them away; and the file that keeps them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from mqttd.admin.http import Role
from mqttd.admin.http.tokens import TokenError, Tokens
from tests.admin.http.harness import Web


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def test_a_token_is_good_until_it_is_taken_away(path: Path) -> None:
    tokens = Tokens(str(path))
    secret = tokens.add("grafana", Role.VIEWER)
    identity = tokens.find(secret, "192.0.2.1")
    assert identity is not None
    assert (identity.name, identity.role) == ("grafana", Role.VIEWER)
    assert tokens.find(secret + "x", "192.0.2.1") is None
    assert tokens.find("", "192.0.2.1") is None
    assert tokens.remove("grafana")
    assert tokens.find(secret, "192.0.2.1") is None
    assert not tokens.remove("grafana")


def test_the_file_lets_nobody_in(path: Path) -> None:
    secret = Tokens(str(path)).add("grafana", Role.VIEWER)
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    after = Tokens(str(path))
    after.load()
    assert after.find(secret, "192.0.2.1") is not None
    assert [child.name for child in path.parent.iterdir()] == [path.name]


def test_two_of_a_name_there_are_not(path: Path) -> None:
    tokens = Tokens(str(path))
    tokens.add("a", Role.VIEWER)
    with pytest.raises(KeyError):
        tokens.add("a", Role.OPERATOR)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"tokens": [1]}',
        '{"tokens": [{"name": "a"}]}',
        '{"tokens": [{"name": "a", "role": "god", "sha256": "x", "created": 1}]}',
    ],
)
def test_a_broken_file_changes_nothing_and_says_which(path: Path, text: str) -> None:
    tokens = Tokens(str(path))
    secret = tokens.add("a", Role.VIEWER)
    path.write_text(text)
    with pytest.raises(TokenError, match=r"tokens\.json"):
        tokens.load()
    assert tokens.find(secret, "192.0.2.1") is not None


def test_a_file_that_cannot_be_written_makes_no_token(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    tokens = Tokens(str(tmp_path / "file" / "tokens.json"))
    with pytest.raises(OSError, match="file"):
        tokens.add("a", Role.VIEWER)
    assert len(tokens) == 0


def test_the_first_token_ends_with_the_first_real_one(path: Path) -> None:
    tokens = Tokens(str(path))
    first = tokens.offer_first()
    identity = tokens.find(first, "192.0.2.1")
    assert identity is not None
    assert identity.role is Role.ADMINISTRATOR
    assert not path.exists()
    tokens.add("ann", Role.ADMINISTRATOR)
    assert tokens.find(first, "192.0.2.1") is None


def test_the_api_makes_lists_and_takes_away(web: Web) -> None:
    made = web.ask("POST", "/tokens", {"name": "ci", "role": "operator"})
    assert made.status == 201
    assert web.tokens.find(made.json["token"], "192.0.2.1") is not None
    (shown,) = web.get("/tokens")["items"]
    assert shown == {"name": "ci", "role": "operator", "created": 1_767_323_045}
    assert web.ask("POST", "/tokens", {"name": "ci", "role": "viewer"}).status == 409
    assert web.ask("DELETE", "/tokens/ci").status == 204
    assert web.ask("DELETE", "/tokens/ci").status == 404


@pytest.mark.parametrize("name", ["", "a b", "a/b", "<b>", "a" * 65, "a\n"])
def test_names_are_plain(web: Web, name: str) -> None:
    assert web.ask("POST", "/tokens", {"name": name, "role": "viewer"}).status == 422


def test_tokens_are_an_administrators_matter(web: Web) -> None:
    web.role = Role.OPERATOR
    assert web.ask("GET", "/tokens").status == 403
    assert json.loads(web.ask("POST", "/tokens", {}).body)["status"] == 403
