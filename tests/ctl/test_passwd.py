"""``mqttctl passwd``: files are made, changed and read, and nothing is ever half done."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mqttd.access import password_edit, passwords
from mqttd.access.password_file import BadFile, read_passwords
from mqttd.access.passwords import check_hash, matches
from mqttd.ctl.__main__ import main

ROOT = Path(__file__).parents[2]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command with something on standard input: (code, output, errors)."""

    def run(*arguments: str, given: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        try:
            code = main(["passwd", *arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hash costs is not the matter here."""
    monkeypatch.setattr(passwords, "PBKDF2_ITERATIONS", 1000)
    monkeypatch.setattr(passwords, "ARGON2_MEMORY", 1024)
    monkeypatch.setattr(passwords, "BCRYPT_COST", 4)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "passwords")


def test_the_life_of_a_file(run: Run, path: str) -> None:
    assert run("create", path, "ann", given="secret\n")[0] == 0
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert check_hash(read_passwords(path)["ann"]) == "argon2id"
    assert run("add", "--scheme", "pbkdf2", path, "bob", given="other\r\n")[1].endswith("added\n")
    assert run("verify", path, "bob", given="other\n")[:2] == (0, "right\n")
    assert run("verify", path, "bob", given="secret\n")[:2] == (1, "wrong\n")
    assert run("add", path, "bob", given="third\n")[1].endswith("changed\n")
    assert run("verify", path, "bob", given="third\n")[0] == 0
    code, out, _ = run("list", path, "--json")
    assert [row["user"] for row in json.loads(out)] == ["ann", "bob"]
    assert run("delete", path, "ann")[0] == 0
    assert list(read_passwords(path)) == ["bob"]
    code, _, error = run("delete", path, "ann")
    assert (code, "no user 'ann'" in error) == (1, True)


@pytest.mark.parametrize("scheme", ["argon2id", "pbkdf2", "bcrypt", "scram"])
def test_hashes_of_each_kind(run: Run, scheme: str) -> None:
    code, out, _ = run("hash", "--scheme", scheme, given="secret\n")
    assert code == 0
    assert check_hash(out.strip()) == scheme
    assert matches(out.strip(), b"secret")


def test_mosquitto_reads_what_we_write(run: Run, path: str, program: Callable[[str], str]) -> None:
    run("create", "--scheme", "pbkdf2", path, "ann", given="secret\n")
    # It refuses to touch a file that it does not understand.
    subprocess.run([program("mosquitto_passwd"), "-b", path, "bob", "x"], check=True)
    assert list(read_passwords(path)) == ["ann", "bob"]


def test_many_at_once(run: Run, path: str) -> None:
    lines = "".join(f"user{number}:p:{number}\n" for number in range(8))
    assert run("batch", path, given=lines)[0] == 0
    users = read_passwords(path)
    assert len(users) == 8
    assert matches(users["user7"], b"p:7")
    assert run("batch", path, given="user7:new\n\nann:x\n")[0] == 0
    users = read_passwords(path)
    assert len(users) == 9
    assert matches(users["user7"], b"new")


@pytest.mark.parametrize("given", ["", "ann\n", "ann:\n", "good:x\n:y\n", "a\tb:x\n", "#c:x\n"])
def test_a_batch_with_anything_wrong_does_nothing(run: Run, path: str, given: str) -> None:
    assert run("batch", path, given=given)[0] == 1
    assert not os.path.exists(path)


@pytest.mark.parametrize("user", ["", "a:b", "#a", "a\nb", "a\0", "\x1b[2J"])
def test_a_name_that_no_line_can_hold(run: Run, path: str, user: str) -> None:
    code, _, error = run("create", path, user, given="secret\n")
    assert (code, "can not be a user" in error) == (1, True)
    assert "\x1b" not in error


def test_an_empty_password_is_none(run: Run, path: str) -> None:
    assert "empty" in run("create", path, "ann", given="\n")[2]
    assert "NUL" in run("create", path, "ann", given="a\0b\n")[2]
    assert not os.path.exists(path)


def test_a_file_that_is_there_is_not_made_anew_by_mistake(run: Run, path: str) -> None:
    run("create", "--scheme", "pbkdf2", path, "ann", given="secret\n")
    code, _, error = run("create", path, "bob", given="secret\n")
    assert (code, "exists already" in error) == (1, True)
    assert list(read_passwords(path)) == ["ann"]
    assert run("create", "--force", path, "bob", given="s\n")[0] == 0
    assert list(read_passwords(path)) == ["bob"]


@pytest.mark.parametrize("text", ["ann:secret\n", "ann", "ann:$7$101$x"])
def test_a_file_that_is_not_right_is_left_alone(run: Run, path: str, text: str) -> None:
    Path(path).write_text(text)
    for arguments in (("add", path, "bob"), ("delete", path, "ann"), ("list", path)):
        code, _, error = run(*arguments, given="secret\n")
        assert code == 1
        assert path in error
        assert ":secret" not in error
    assert Path(path).read_text() == text


def test_what_is_not_there_is_told(run: Run, path: str) -> None:
    for arguments in (("add", path, "bob"), ("delete", path, "ann"), ("verify", path, "ann")):
        code, _, error = run(*arguments, given="secret\n")
        assert (code, "cannot be read: No such file" in error) == (1, True)
    assert "cannot be written" in run("create", f"{path}/x/y", "ann", given="s\n")[2]


def test_comments_order_owner_and_links_stay(run: Run, path: str, tmp_path: Path) -> None:
    run("create", "--scheme", "pbkdf2", path, "ann", given="secret\n")
    line = Path(path).read_text()
    text = f"# ours\n{line}\n# ann:old\nbob{line[3:]}"
    Path(path).write_text(text)
    os.chmod(path, 0o640)
    link = tmp_path / "link"
    link.symlink_to(path)
    assert run("delete", str(link), "ann")[0] == 0
    assert Path(path).read_text() == f"# ours\n\n# ann:old\nbob{line[3:]}"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
    assert link.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "passwords"]


def test_two_who_change_it_at_once_both_do(path: str) -> None:
    encoded = "$6$LnoOXJ15l06EUIRr$" + "A" * 86 + "=="
    password_edit.create(path, {"first": encoded})

    def add(name: str) -> None:
        for number in range(20):
            password_edit.change(path, {f"{name}{number}": encoded})

    threads = [threading.Thread(target=add, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_passwords(path)) == 61


def test_when_it_cannot_be_written_the_old_one_stays(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = "$6$LnoOXJ15l06EUIRr$" + "A" * 86 + "=="
    password_edit.create(path, {"ann": encoded})

    def full(handle: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadFile, match="No space left"):
        password_edit.change(path, {"bob": encoded})
    assert list(read_passwords(path)) == ["ann"]
    assert os.listdir(os.path.dirname(path)) == ["passwords"]


def test_on_a_terminal_it_is_asked_for_twice(path: str) -> None:
    import pty

    program = [sys.executable, "-m", "mqttd.ctl", "passwd"]
    for answers, expected in (("secret\nsecret\n", 0), ("secret\nother\n", 1)):
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [*program, "create", "--scheme", "pbkdf2", "--force", path, "ann"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            start_new_session=True,
        )
        os.close(slave)
        shown = b""
        for answer in answers.splitlines():
            while not shown.endswith(b": "):
                shown += os.read(master, 1024)
            shown += b"|"
            os.write(master, f"{answer}\n".encode())
        assert process.wait(30) == expected
        os.close(master)
        assert b"secret" not in shown
