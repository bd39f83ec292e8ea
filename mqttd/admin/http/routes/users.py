"""The users of the password files that the configuration names: look, add, change, delete.

A file is changed as ``mqttctl passwd`` does it, and read again at once: who is deleted,
or has another password, is disconnected. Files are read, and passwords hashed, in a
thread; the answer comes when it is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from mqttd.access import password_edit
from mqttd.access.password_edit import LastUser, NoSuchUser, UserExists
from mqttd.access.password_file import read_passwords
from mqttd.access.passwords import DEFAULT_SCHEME, SCHEMES, check_hash, make_hash
from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import page, page_of
from mqttd.admin.http.problems import Problem
from mqttd.admin.http.table import PAGING, Parameter, Role, Route
from mqttd.settings_authentication import SCRAMSettings, UserFileSettings

T = TypeVar("T")

NAME = {"type": "string", "minLength": 1, "maxLength": 4096}
PASSWORD = {"type": "string", "minLength": 1, "maxLength": 65_535}
SCHEME = {"type": "string", "enum": list(SCHEMES), "description": "Kind of hash."}
USER = {
    "type": "object",
    "required": ["user", "source", "scheme", "superuser"],
    "properties": {
        "user": {"type": "string"},
        "source": {"type": "string", "description": "The authentication that has the file."},
        "scheme": {"type": "string", "description": "Kind of hash."},
        "superuser": {"type": "boolean"},
    },
}
CHANGED = {
    "type": "object",
    "required": ["user", "source"],
    "properties": {"user": {"type": "string"}, "source": {"type": "string"}},
}
SOURCE = Parameter(
    "source",
    NAME,
    "Title of the authentication that has the file, where there are several.",
)


async def show_all(call: Call) -> dict[str, Any]:
    settings = _find(call, call.query["source"])
    users = await _aside(call, lambda: read_passwords(settings.path, may_be_empty=True))

    def show(user: str) -> dict[str, Any]:
        return {
            "user": user,
            "source": settings.title,
            "scheme": check_hash(users[user]),
            "superuser": user in settings.superusers,
        }

    return await page(call, users, show)


async def add(call: Call) -> dict[str, Any]:
    return await _set(call, call.body["user"], known=False)


async def change(call: Call) -> dict[str, Any]:
    return await _set(call, call.path["user"], known=True)


async def remove(call: Call) -> None:
    settings, user = _find(call, call.query["source"]), call.path["user"]
    await _aside(
        call,
        lambda: password_edit.change(settings.path, {user: None}, known=True, may_be_empty=False),
    )
    _reread(call)


async def _set(call: Call, user: str, *, known: bool) -> dict[str, Any]:
    settings = _find(call, call.query["source"])
    usual = "scram" if isinstance(settings, SCRAMSettings) else DEFAULT_SCHEME
    scheme = call.body.get("scheme", usual)
    password = call.body["password"].encode()

    def write() -> None:
        password_edit.check_user(user)
        encoded = make_hash(password, scheme)
        password_edit.change(settings.path, {user: encoded}, known=known)

    await _aside(call, write)
    _reread(call)
    return {"user": user, "source": settings.title}


def _find(call: Call, title: str | None) -> UserFileSettings:
    """The authentication whose file is meant."""
    files = {
        each.title: each
        for each in call.daemon.settings.authentication
        if isinstance(each, UserFileSettings)
    }
    if not files:
        raise Problem(
            404,
            'The configuration has no file of users: [[authentication]] type = "password-file".',
        )
    if title is None and len(files) == 1:
        return next(iter(files.values()))
    if title is None or title not in files:
        raise Problem(409, f"Say which file is meant: source is one of {', '.join(files)}.")
    return files[title]


async def _aside(call: Call, work: Callable[[], T]) -> T:
    """What *work*, done in a thread, returns; what it refuses as a ``Problem``."""
    reactor = call.daemon.clock
    try:
        doing: Deferred[T] = deferToThreadPool(reactor, reactor.getThreadPool(), work)
        return await doing
    except NoSuchUser as error:
        raise Problem(404, f"{error}.") from None
    except (UserExists, LastUser) as error:
        raise Problem(409, f"{error}.") from None
    except OSError as error:
        raise Problem(503, f"The file cannot be used: {error.strerror}.") from None
    except ValueError as error:
        raise Problem(422, f"{error}.") from None


def _reread(call: Call) -> None:
    if errors := call.daemon.reread_users():
        raise Problem(409, "The file is changed; reading it again went wrong.", errors=errors)


ROUTES = (
    Route(
        "GET",
        "/users",
        Role.ADMINISTRATOR,
        show_all,
        "The users of a password file",
        "users",
        query=(*PAGING, SOURCE),
        answer=page_of(USER),
        problems=(404, 409, 422),
    ),
    Route(
        "POST",
        "/users",
        Role.ADMINISTRATOR,
        add,
        "Add a user",
        "users",
        query=(SOURCE,),
        body={
            "type": "object",
            "required": ["user", "password"],
            "additionalProperties": False,
            "properties": {"user": NAME, "password": PASSWORD, "scheme": SCHEME},
        },
        answer=CHANGED,
        status=201,
        problems=(404, 409),
    ),
    Route(
        "PUT",
        "/users/{user}",
        Role.ADMINISTRATOR,
        change,
        "Give a user another password, and end what has connected with the old one",
        "users",
        query=(SOURCE,),
        body={
            "type": "object",
            "required": ["password"],
            "additionalProperties": False,
            "properties": {"password": PASSWORD, "scheme": SCHEME},
        },
        answer=CHANGED,
        problems=(404, 409),
    ),
    Route(
        "DELETE",
        "/users/{user}",
        Role.ADMINISTRATOR,
        remove,
        "Take a user out, and end its connections",
        "users",
        query=(SOURCE,),
        problems=(404, 409, 422),
    ),
)
