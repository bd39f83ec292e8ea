"""The users of the password files that the configuration names: look, add, change, delete.

A file is changed as ``mqttctl passwd`` does it, and read again at once: who is deleted,
or has another password or other groups, is disconnected. Superusers stand in the
configuration, and are not changed here. Files are read, and passwords hashed, in a
thread; the answer comes when it is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from mqttd.access import password_edit
from mqttd.access.password_edit import LastUser, NoSuchUser, UserExists
from mqttd.access.password_file import read_groups, read_passwords
from mqttd.access.passwords import DEFAULT_SCHEME, SCHEMES, check_hash, make_hash
from mqttd.admin.http.call import Call
from mqttd.admin.http.paging import list_of, page, page_of
from mqttd.admin.http.problems import Problem, not_found
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
        "user": {"type": "string", "description": "The user's name."},
        "source": {"type": "string", "description": "The authentication that has the file."},
        "scheme": {"type": "string", "description": "Kind of hash."},
        "superuser": {"type": "boolean", "description": "The configuration says so."},
        "groups": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Groups that it is in.",
        },
    },
}
FILE = {
    "type": "object",
    "required": ["source", "type", "path", "groups_file"],
    "properties": {
        "source": {"type": "string", "description": "The authentication that has it."},
        "type": {"type": "string", "description": "Of the authentication."},
        "path": {"type": "string", "description": "The file."},
        "groups_file": {"type": ["string", "null"], "description": "null: it has none."},
    },
}
CHANGED = {
    "type": "object",
    "required": ["user", "source"],
    "properties": {
        "user": {"type": "string", "description": "The user's name."},
        "source": {"type": "string", "description": "The authentication that has the file."},
    },
}
SOURCE = Parameter(
    "source",
    NAME,
    "Title of the authentication that has the file, where there are several.",
)


def show_files(call: Call) -> dict[str, Any]:
    return {
        "items": [
            {
                "source": each.title,
                "type": each.TYPE,
                "path": each.path,
                "groups_file": each.groups_file or None,
            }
            for each in _files(call).values()
        ]
    }


async def show_all(call: Call) -> dict[str, Any]:
    settings = _find(call, call.query["source"])
    users, groups = await _read(call, settings)
    return await page(call, users, lambda user: _shown(settings, user, users[user], groups))


async def show(call: Call) -> dict[str, Any]:
    settings, user = _find(call, call.query["source"]), call.path["user"]
    users, groups = await _read(call, settings)
    if user not in users:
        raise not_found("user", user)
    return _shown(settings, user, users[user], groups)


async def _read(
    call: Call, settings: UserFileSettings
) -> tuple[dict[str, str], dict[str, list[str]]]:
    def read() -> tuple[dict[str, str], dict[str, list[str]]]:
        groups = read_groups(settings.groups_file) if settings.groups_file else {}
        return read_passwords(settings.path, may_be_empty=True), groups

    return await _aside(call, read)


def _shown(
    settings: UserFileSettings, user: str, encoded: str, groups: dict[str, list[str]]
) -> dict[str, Any]:
    return {
        "user": user,
        "source": settings.title,
        "scheme": check_hash(encoded),
        "superuser": user in settings.superusers,
        "groups": groups.get(user, []),
    }


async def add(call: Call) -> dict[str, Any]:
    return await _set(call, call.body["user"], known=False)


async def change(call: Call) -> dict[str, Any]:
    return await _set(call, call.path["user"], known=True)


async def change_groups(call: Call) -> dict[str, Any]:
    settings, user = _find(call, call.query["source"]), call.path["user"]
    path = _groups_file(settings)

    def write() -> None:
        if user not in read_passwords(settings.path, may_be_empty=True):
            raise NoSuchUser(f"{settings.path}: no user {user!r}")
        password_edit.change_groups(path, user, call.body["groups"])

    await _aside(call, write)
    _reread(call)
    return {"user": user, "source": settings.title}


async def remove(call: Call) -> None:
    settings, user = _find(call, call.query["source"]), call.path["user"]

    def write() -> None:
        password_edit.change(settings.path, {user: None}, known=True, may_be_empty=False)
        # Else the next one of the name would be in them.
        if settings.groups_file:
            password_edit.change_groups(settings.groups_file, user, ())

    await _aside(call, write)
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


def _groups_file(settings: UserFileSettings) -> str:
    if not settings.groups_file:
        raise Problem(
            409, f"{settings.title} has no groups: name a groups_file in its [[authentication]]."
        )
    return settings.groups_file


def _files(call: Call) -> dict[str, UserFileSettings]:
    """Title -> the authentications that have a file."""
    return {
        each.title: each
        for each in call.daemon.settings.authentication
        if isinstance(each, UserFileSettings)
    }


def _find(call: Call, title: str | None) -> UserFileSettings:
    """The authentication whose file is meant."""
    files = _files(call)
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
        "/user-files",
        Role.ADMINISTRATOR,
        show_files,
        "The files of users that the configuration names",
        "users",
        answer=list_of(FILE),
    ),
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
        "GET",
        "/users/{user}",
        Role.ADMINISTRATOR,
        show,
        "One user and its groups",
        "users",
        query=(SOURCE,),
        example={"user": "ann"},
        answer=USER,
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
            "properties": {
                "user": {**NAME, "description": "The user's name."},
                "password": {
                    **PASSWORD,
                    "description": "The password as it will be typed; a hash of it is kept.",
                },
                "scheme": SCHEME,
            },
        },
        example={"body": {"user": "bob", "password": "correct horse"}},
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
            "properties": {
                "password": {
                    **PASSWORD,
                    "description": "The password as it will be typed; a hash of it is kept.",
                },
                "scheme": SCHEME,
            },
        },
        example={"user": "ann", "body": {"password": "battery staple"}},
        answer=CHANGED,
        problems=(404, 409),
    ),
    Route(
        "PUT",
        "/users/{user}/groups",
        Role.ADMINISTRATOR,
        change_groups,
        "Put a user into these groups and no others, and end its connections",
        "users",
        query=(SOURCE,),
        body={
            "type": "object",
            "required": ["groups"],
            "additionalProperties": False,
            "properties": {
                "groups": {
                    "type": "array",
                    "items": NAME,
                    "maxItems": 1000,
                    "description": "All that it is to be in.",
                }
            },
        },
        example={"user": "ann", "body": {"groups": ["staff"]}},
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
        example={"user": "carol"},
        problems=(404, 409, 422),
    ),
)
