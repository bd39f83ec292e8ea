"""The password file: who is in it, what is wrong with it, and what a reload does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.cred.error import UnauthorizedLogin
from zope.interface.verify import verifyObject

from mqttd.access.password_edit import change_groups
from mqttd.access.password_file import BadFile, PasswordFile, read_groups, read_passwords
from mqttd.access.passwords import make_hash
from mqttd.interfaces import NOT_MINE, Avatar, IAuthenticator, Revoked
from mqttd.settings_authentication import PasswordFileSettings
from tests.access.logins import SlowPool, Threadless, login, now
from tests.access.test_passwords import FOREIGN

ANN = FOREIGN["pbkdf2"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "passwords"
    found.write_text(f"# ours\n\nann:{ANN}\nbob:{FOREIGN['sha512']}\r\n")
    return found


def users(path: Path, pool: Any = None, **more: Any) -> PasswordFile:
    return PasswordFile(PasswordFileSettings(path=str(path), **more), pool or Threadless())


def test_it_is_an_authenticator(path: Path) -> None:
    assert verifyObject(IAuthenticator, users(path))


def test_users_of_the_file_come_in(path: Path) -> None:
    found = users(path, superusers=("bob",))
    ann = now(found.authenticate(login("ann", b"secret")))
    assert ann == Avatar("ann", source="password-file")
    bob = now(found.authenticate(login("bob", b"secret")))
    assert bob.superuser


def test_groups_become_a_claim(path: Path, tmp_path: Path) -> None:
    groups = tmp_path / "groups"
    groups.write_text("# group: users\nstaff: ann bob\nnight : ann\nempty:\n")
    found = users(path, groups_file=str(groups))
    assert now(found.authenticate(login("ann", b"secret"))).claims == {"groups": ["staff", "night"]}


@pytest.mark.parametrize("password", [b"", b"Secret", b"secret\0", None])
def test_a_wrong_password_is_a_no(path: Path, password: bytes | None) -> None:
    with pytest.raises(UnauthorizedLogin):
        now(users(path).authenticate(login("ann", password)))


@pytest.mark.parametrize("user", ["eve", "ANN", "ann ", "", "a\0nn"])
def test_others_are_for_others_and_cost_as_much(path: Path, user: str) -> None:
    pool = Threadless()
    found = users(path, pool)
    assert now(found.authenticate(login(user, b"secret"))) is NOT_MINE
    (compared,) = pool.compared
    assert compared.split("$")[1:3] == ANN.split("$")[1:3] or compared.startswith("$6$")
    assert compared not in (ANN, FOREIGN["sha512"])


def test_nobody_at_all_costs_nothing(path: Path) -> None:
    pool = Threadless()
    found = users(path, pool)
    assert now(found.authenticate(login(None, b"secret"))) is NOT_MINE
    assert now(found.authenticate(login("eve", None))) is NOT_MINE
    assert pool.compared == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no user in it"),
        ("# nothing\n", "no user in it"),
        (f"ann:{ANN}", "half written"),
        (f"ann:{ANN}\nbo", "half written"),
        (f"ann:{ANN[:-9]}\n", "line 1: user 'ann' has no password hash"),
        ("ann:\n", "line 1: user 'ann' has no password hash"),
        ("ann:hunter2\n", "line 1: user 'ann' has no password hash"),
        (f"ann:{ANN}\nann\n", "line 2: not of the form"),
        (f"ann:{ANN}\n:{ANN}\n", "line 2: not of the form"),
        (f"ann:{ANN}\nann:{ANN}\n", "line 2: user 'ann' is there twice"),
        (f"ann:{ANN}\n\0\n", "line 2: a NUL"),
        (f"ann:{ANN}:more\n", "line 1: user 'ann' has no password hash"),
    ],
)
def test_a_file_with_anything_wrong_is_no_file(path: Path, text: str, told: str) -> None:
    path.write_text(text)
    with pytest.raises(BadFile) as caught:
        read_passwords(str(path))
    assert told in str(caught.value)
    assert str(path) in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert ANN[8:40] not in str(caught.value)


def test_a_file_that_cannot_be_read_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="cannot be read: Is a directory"):
        read_passwords(str(tmp_path))
    (tmp_path / "latin").write_bytes(b"\xe9:x\n")
    with pytest.raises(BadFile, match="not UTF-8"):
        read_passwords(str(tmp_path / "latin"))
    (tmp_path / "groups").write_text("staff ann\n")
    with pytest.raises(BadFile, match="line 1"):
        read_groups(str(tmp_path / "groups"))


def test_a_reload_tells_who_is_gone_and_who_has_changed(path: Path) -> None:
    found = users(path)
    assert found.reload() == Revoked()
    path.write_text(f"ann:{make_hash(b'new', 'pbkdf2')}\neve:{ANN}\n")
    assert found.reload() == Revoked(frozenset({"bob"}), frozenset({"ann"}), different=True)
    assert now(found.authenticate(login("bob", b"secret"))) is NOT_MINE
    assert now(found.authenticate(login("eve", b"secret"))).principal == "eve"
    with pytest.raises(UnauthorizedLogin):
        now(found.authenticate(login("ann", b"secret")))


@pytest.mark.parametrize("text", ["", "eve:", "ann:x\n", None])
def test_a_broken_file_leaves_the_old_one_in_force(path: Path, text: str | None) -> None:
    found = users(path)
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(BadFile):
        found.reload()
    assert now(found.authenticate(login("ann", b"secret"))).principal == "ann"


def test_who_gets_other_groups_must_log_in_again(path: Path, tmp_path: Path) -> None:
    groups = tmp_path / "groups"
    groups.write_text("staff: ann bob\n")
    found = users(path, groups_file=str(groups))
    groups.write_text("staff: bob\nnight: nobody\n")
    assert found.reload().changed == {"ann"}
    groups.write_text("# the same\nstaff: bob\n")
    assert found.reload().changed == set()


@pytest.mark.parametrize(
    ("before", "user", "wanted", "after"),
    [
        ("# a\nstaff: ann bob\n", "ann", [], "# a\nstaff: bob\n"),
        ("staff: bob\n", "ann", ["staff", "night"], "staff: bob ann\nnight: ann\n"),
        ("staff : ann\n\nnight: bob\n", "ann", ["night"], "staff :\n\nnight: bob ann\n"),
        ("staff: ann\nstaff: bob ann\n", "ann", ["staff"], "staff: ann\nstaff: bob\n"),
        ("staff:  ann   bob\n", "ann", ["staff"], "staff:  ann   bob\n"),
        ("", "ann", ["night watch"], "night watch: ann\n"),
    ],
)
def test_groups_of_a_user_change_and_nothing_else(
    tmp_path: Path, before: str, user: str, wanted: list[str], after: str
) -> None:
    groups = tmp_path / "groups"
    groups.write_text(before)
    change_groups(str(groups), user, wanted)
    assert groups.read_text() == after


@pytest.mark.parametrize(
    ("user", "group"),
    [("ann", "a:b"), ("ann", " "), ("ann", "#staff"), ("ann", "a\nb"), ("ann lee", "staff")],
)
def test_names_that_a_file_of_groups_cannot_hold(tmp_path: Path, user: str, group: str) -> None:
    groups = tmp_path / "groups"
    groups.write_text("staff: bob\n")
    with pytest.raises(ValueError, match="can"):
        change_groups(str(groups), user, [group])
    assert groups.read_text() == "staff: bob\n"


def test_a_broken_file_of_groups_leaves_the_passwords_too(path: Path, tmp_path: Path) -> None:
    groups = tmp_path / "groups"
    groups.write_text("staff: ann\n")
    found = users(path, groups_file=str(groups))
    groups.write_text("staff ann\n")
    path.write_text(f"eve:{ANN}\n")
    with pytest.raises(BadFile):
        found.reload()
    assert now(found.authenticate(login("ann", b"secret"))).claims == {"groups": ["staff"]}
    assert now(found.authenticate(login("eve", b"secret"))) is NOT_MINE


def test_who_was_removed_while_the_password_was_compared_stays_out(path: Path) -> None:
    from twisted.internet.defer import Deferred

    pool = SlowPool()
    found = users(path, pool)
    answers: list[Any] = []
    waiting: Deferred[Any] = Deferred.fromCoroutine(found.authenticate(login("ann", b"secret")))
    waiting.addBoth(answers.append)
    path.write_text(f"bob:{ANN}\n")
    found.reload()
    pool.asked[0].callback(True)
    assert answers[0].check(UnauthorizedLogin)


def test_nothing_shows_a_password(path: Path) -> None:
    credentials = login("ann", b"hunter2")
    assert "hunter2" not in repr(credentials)
    assert ANN not in repr(users(path)) + repr(vars(users(path))["_users"])
