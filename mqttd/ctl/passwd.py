"""``mqttctl passwd``: files of users and their password hashes.

It needs no daemon; tell a running one by ``mqttctl reload``. Passwords are
asked for, or come by standard input: on the command line everyone could see
them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from getpass import getpass
from typing import Any

from mqttd.access import password_edit
from mqttd.access.password_file import read_passwords
from mqttd.access.passwords import DEFAULT_SCHEME, SCHEMES, check_hash, make_hash, matches
from mqttd.ctl.context import Context
from mqttd.ctl.errors import Failed
from mqttd.ctl.parser import Run, Subparsers, command, group


def add_to(subparsers: Subparsers) -> None:
    passwd = group(subparsers, "passwd", "files of users and passwords")

    def add(name: str, run: Run, help: str, *arguments: str, scheme: bool = False) -> Any:
        parser = command(passwd, name, _told(run), help)
        for argument in arguments:
            parser.add_argument(argument)
        if scheme:
            known = ", ".join(SCHEMES)
            parser.add_argument(
                "--scheme",
                choices=SCHEMES,
                default=DEFAULT_SCHEME,
                metavar="SCHEME",
                help=f"kind of hash: {known} (default: {DEFAULT_SCHEME})",
            )
        return parser

    creating = add("create", create, "make a file with one user", "file", "user", scheme=True)
    creating.add_argument("--force", action="store_true", help="replace a file that is there")
    add("add", change, "add a user, or change a password", "file", "user", scheme=True)
    add("delete", delete, "take a user out", "file", "user")
    batch_help = 'add the users of lines "user:password" on standard input'
    add("batch", batch, batch_help, "file", scheme=True)
    verify_help = "tell whether a password is right (exit code 0) or not (1)"
    add("verify", verify, verify_help, "file", "user")
    add("list", show, "show the users and the kinds of their hashes", "file")
    add("hash", hash_one, "write a hash, for a database", scheme=True)


def _told(run: Run) -> Run:
    """*run*, with what is wrong with a file or a library told in one line."""

    def told(context: Context) -> int | None:
        try:
            return run(context)
        except (ValueError, OSError) as error:
            raise Failed(str(error)) from None

    return told


def create(context: Context) -> None:
    arguments = context.arguments
    password_edit.check_user(arguments.user)
    exists = os.path.lexists(arguments.file)
    if exists and not arguments.force:
        password_edit.create(arguments.file, {})
    encoded = make_hash(new_password(), arguments.scheme)
    password_edit.create(arguments.file, {arguments.user: encoded}, replace=arguments.force)
    context.out.line(f"{arguments.file}: made, with user {arguments.user}")


def change(context: Context) -> None:
    arguments = context.arguments
    password_edit.check_user(arguments.user)
    # Before a person is asked for anything.
    read_passwords(arguments.file, may_be_empty=True)
    encoded = make_hash(new_password(), arguments.scheme)
    known = password_edit.change(arguments.file, {arguments.user: encoded})
    done = "changed" if known else "added"
    context.out.line(f"{arguments.file}: user {arguments.user} {done}")


def delete(context: Context) -> None:
    path, user = context.arguments.file, context.arguments.user
    if not password_edit.change(path, {user: None}):
        raise Failed(f"{path}: no user {user!r}; mqttctl passwd list {path} shows who is there")
    context.out.line(f"{path}: user {user} deleted")


def batch(context: Context) -> None:
    arguments = context.arguments
    given = dict(_pairs(sys.stdin))
    if not given:
        raise Failed('nothing on standard input; it should be lines "user:password"')

    def encoded(password: bytes) -> str:
        return make_hash(password, arguments.scheme)

    with ThreadPoolExecutor() as threads:
        hashes = dict(zip(given, threads.map(encoded, given.values()), strict=True))
    if os.path.lexists(arguments.file):
        password_edit.change(arguments.file, hashes)
    else:
        password_edit.create(arguments.file, hashes)
    context.out.line(f"{arguments.file}: {len(hashes)} users added or changed")


def _pairs(lines: Iterable[str]) -> Iterable[tuple[str, bytes]]:
    for number, line in enumerate(lines, 1):
        user, colon, password = line.rstrip("\r\n").partition(":")
        if not user and not colon:
            continue
        if not colon or not password:
            raise Failed(f"standard input, line {number}: not of the form user:password")
        password_edit.check_user(user)
        yield user, password.encode()


def verify(context: Context) -> int:
    path, user = context.arguments.file, context.arguments.user
    users = read_passwords(path)
    if user not in users:
        raise Failed(f"{path}: no user {user!r}")
    right = matches(users[user], _password("Password: "))
    context.out.line("right" if right else "wrong")
    if context.out.as_json:
        context.out.value({"user": user, "right": right})
    return 0 if right else 1


def show(context: Context) -> None:
    users = read_passwords(context.arguments.file)
    rows = [{"user": user, "scheme": check_hash(encoded)} for user, encoded in users.items()]
    context.out.table(rows, ("user", "scheme"))


def hash_one(context: Context) -> None:
    encoded = make_hash(new_password(), context.arguments.scheme)
    if context.out.as_json:
        context.out.value({"hash": encoded})
    context.out.line(encoded)


def new_password() -> bytes:
    """A password that is asked for, or the first line of standard input."""
    password = _password("New password: ")
    if not password:
        raise Failed("an empty password would be none")
    if sys.stdin.isatty() and _password("Again: ") != password:
        raise Failed("the two passwords differ")
    return password


def _password(prompt: str, ask: Callable[[str], str] = getpass) -> bytes:
    if sys.stdin.isatty():
        return ask(prompt).encode()
    return sys.stdin.readline().rstrip("\r\n").encode()
