"""The ``sql``, ``redis`` and ``ldap`` authenticators: users in a server of another kind.

A database or Redis gives the hash of a user's password, which is compared
here, beside the reactor; a directory compares by itself.
"""

from __future__ import annotations

from typing import Any

from twisted.cred.error import UnauthorizedLogin
from zope.interface import implementer

from mqttd.access.backends import BackendError
from mqttd.access.backends.database import Database
from mqttd.access.backends.directory import Directory
from mqttd.access.backends.redis import Redis
from mqttd.access.hashing import Compares
from mqttd.access.passwords import BadHash, check_hash, decoy
from mqttd.interfaces import NOT_MINE, Avatar, IAuthenticator, Revoked
from mqttd.settings_authentication import LDAPSettings, RedisSettings, SQLSettings

#: What a superuser's field or column may say; anything else is no superuser.
_TRUE = (True, 1, "1", "true", "t", "yes")


class StoredHash:
    """Compares with a hash that a subclass finds."""

    def __init__(self, name: str, client: Any, pool: Compares) -> None:
        self.name = name
        self._client = client
        self._pool = pool
        #: Costs what the last hash did that was found.
        self._decoy = decoy(None)

    def start(self) -> None:
        self._client.start()

    def stop(self) -> None:
        self._client.stop()

    def reload(self) -> Revoked:
        self._client.reload()
        return Revoked()

    async def find(self, credentials: Any) -> dict[str, Any] | None:
        """Password, superuser, groups and claims of who this may be."""
        raise NotImplementedError

    async def authenticate(self, credentials: Any) -> Any:
        found = await self.find(credentials)
        if credentials.password is None:
            if found is None:
                return NOT_MINE
            raise UnauthorizedLogin("no password")
        encoded = None if found is None else self._hash_in(found)
        right = await self._pool.matches(credentials, encoded, self._decoy)
        if found is None:
            return NOT_MINE
        if not right:
            raise UnauthorizedLogin("the password is wrong")
        return self._avatar(found, credentials)

    def _hash_in(self, found: dict[str, Any]) -> str:
        encoded = found.get("password")
        if encoded is None:
            raise UnauthorizedLogin("the user has no password")
        try:
            check_hash(encoded)
        except (BadHash, TypeError):
            raise BackendError("the password of a user is no hash that is known here") from None
        self._decoy = decoy(encoded)
        return str(encoded)

    def _avatar(self, found: dict[str, Any], credentials: Any) -> Avatar:
        groups = found.get("groups") or ""
        names = groups if isinstance(groups, list) else str(groups).split(",")
        claims = {
            name: value
            for name, value in found.items()
            if name not in ("password", "superuser", "groups", "username")
        }
        claims["groups"] = [str(name).strip() for name in names if str(name).strip()]
        # A database that does not tell "alice" from "Alice" had better spell the name.
        user = found.get("username") or credentials.username.decode() or credentials.client_id
        superuser = found.get("superuser") in _TRUE
        return Avatar(str(user), superuser=superuser, claims=claims, source=self.name)


@implementer(IAuthenticator)
class SQLLogin(StoredHash):
    """Users in a table."""

    def __init__(self, settings: SQLSettings, pool: Compares, reactor: Any) -> None:
        """:raise ValueError: for files that cannot be used, or a missing library."""
        super().__init__(settings.title, Database(settings, reactor), pool)

    async def find(self, credentials: Any) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await self._client.row(credentials)
        if found is not None and "password" not in found:
            raise BackendError("the query gives no column of the name password")
        return found


@implementer(IAuthenticator)
class RedisLogin(StoredHash):
    """Users in hashes."""

    def __init__(self, settings: RedisSettings, pool: Compares, reactor: Any) -> None:
        """:raise ValueError: for files that cannot be used, or a missing library."""
        super().__init__(settings.title, Redis(settings, reactor), pool)

    async def find(self, credentials: Any) -> dict[str, Any] | None:
        # No field at all means no such user.
        return await self._client.fields(credentials, "password", "superuser", "groups") or None


@implementer(IAuthenticator)
class DirectoryLogin:
    """Users in a directory."""

    def __init__(self, settings: LDAPSettings, reactor: Any) -> None:
        """:raise ValueError: for files that cannot be used, or a missing library."""
        self.name = settings.title
        self._settings = settings
        self._client = Directory(settings, reactor)

    def start(self) -> None:
        self._client.start()

    def stop(self) -> None:
        self._client.stop()

    def reload(self) -> Revoked:
        self._client.reload()
        return Revoked()

    async def authenticate(self, credentials: Any) -> Any:
        found = await self._client.find(credentials)
        if found is None:
            return NOT_MINE
        if isinstance(found, bool):
            raise UnauthorizedLogin("the directory says no")
        user = found.user or credentials.username.decode() or credentials.client_id
        return Avatar(
            user,
            superuser=user in self._settings.superusers,
            claims={"groups": list(found.groups), "dn": found.dn},
            source=self.name,
        )
