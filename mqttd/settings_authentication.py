"""The settings of ``[[authentication]]``: one class for each type of authenticator.

``settings.py`` puts them into ``BrokerSettings``, ``mqttd.access`` makes
authenticators of them. No secret stands in a setting: each is in a file of its
own that a setting names, so whatever shows settings shows no secret.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any, ClassVar
from urllib.parse import urlsplit

from attrs import field, frozen

from mqttd.fields import SettingError, check, count, flag, one_of, seconds, size, text, texts

#: What stands for "all of them" in a listener's ``authentication``.
ALL = "all"

#: ``${username}`` and its like in queries, keys and names.
_PLACE_HOLDER = re.compile(r"\$\{(\w*)\}")
PLACE_HOLDERS = ("username", "client_id", "address", "listener")

ALGORITHMS = (
    *("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)


def is_loopback(host: str) -> bool:
    """Whether *host* can only be this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def placeholders(template: str) -> set[str]:
    """The names in *template* that are written as ``${name}``."""
    return set(_PLACE_HOLDER.findall(template))


def _check_placeholders(name: str, template: str) -> None:
    if not placeholders(template) <= set(PLACE_HOLDERS) or "$" in _PLACE_HOLDER.sub("", template):
        known = ", ".join(f"${{{each}}}" for each in PLACE_HOLDERS)
        raise SettingError(name, template, f"a text in which each $ begins one of {known}")


def _need(settings: Any, *names: str) -> None:
    for name in names:
        if not getattr(settings, name):
            raise SettingError(name, getattr(settings, name), "set, since it has no default")


def _check_url(name: str, url: str, secure: str, plain: str, allow_plaintext: bool) -> None:
    """*url* names a server and no secret, and is encrypted unless it stays here."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in (secure, plain) or not host:
        raise SettingError(name, url, f'a URL such as "{secure}://host"')
    if "@" in parts.netloc:
        # The value is not shown: it holds a password.
        raise SettingError(name, "...", "a URL without a user name or password in it")
    if parts.scheme == plain and not (allow_plaintext or is_loopback(host)):
        raise SettingError(
            name,
            url,
            f"{secure}:// since passwords would pass the network in the clear; set "
            "allow_plaintext = true where that is wanted",
        )


def _check_server(settings: Any) -> None:
    """A server that is not this machine is asked over TLS."""
    if not (settings.tls or settings.allow_plaintext or is_loopback(settings.host)):
        raise SettingError(
            "tls",
            False,
            "true since passwords would pass the network in the clear; set "
            "allow_plaintext = true where that is wanted",
        )


@frozen
class AuthenticatorSettings:
    """What every table of ``[[authentication]]`` may say."""

    TYPE: ClassVar[str] = ""

    #: By which listeners, logs and metrics call it; "" is the type.
    name: str = text("", 255)

    @property
    def title(self) -> str:
        return self.name or self.TYPE


@frozen
class UserFileSettings(AuthenticatorSettings):
    """Users in a file, and their groups in another."""

    #: File with lines "user:hash".
    path: str = text()
    #: File with lines "group: user user ...".
    groups_file: str = text()
    #: Users that no access rule concerns.
    superusers: tuple[str, ...] = texts((), 'a list of user names, such as ["admin"]', bool)

    def __attrs_post_init__(self) -> None:
        _need(self, "path")


@frozen
class PasswordFileSettings(UserFileSettings):
    """Password hashes of users."""

    TYPE: ClassVar[str] = "password-file"


@frozen
class SCRAMSettings(UserFileSettings):
    """SCRAM-SHA-256, by the enhanced authentication of MQTT 5.0.

    The file is a password file; its SCRAM-SHA-256 entries count here.
    """

    TYPE: ClassVar[str] = "scram"


@frozen
class CertificateSettings(AuthenticatorSettings):
    """The certificate that a client showed in the TLS handshake."""

    TYPE: ClassVar[str] = "certificate"

    #: What the user name is taken from.
    identity: str = one_of("cn", "cn", "dn", "san")
    #: Refuse a client whose CONNECT names another user than its certificate.
    user_name_must_match: bool = flag(False)
    #: Users that no access rule concerns.
    superusers: tuple[str, ...] = texts((), 'a list of user names, such as ["admin"]', bool)


@frozen
class JWTSettings(AuthenticatorSettings):
    """A JSON Web Token in place of a password."""

    TYPE: ClassVar[str] = "jwt"

    #: The only algorithms accepted, whatever a token says.
    algorithms: tuple[str, ...] = texts(
        (), 'a list such as ["RS256"], of ' + ", ".join(ALGORITHMS), lambda x: x in ALGORITHMS
    )
    #: A file with the secret (HS...) or a public key in PEM. Exactly one of this,
    #: jwks_file and jwks_url must be given.
    key_file: str = text()
    #: A file with a JWKS.
    jwks_file: str = text()
    #: The https:// URL of a JWKS.
    jwks_url: str = text()
    #: PEM file of the authorities that sign the certificate of jwks_url; "" are
    #: the system's.
    ca_file: str = text()
    #: Seconds after which a JWKS is fetched anew.
    refresh: float = seconds(3600.0, 10)
    #: Seconds that fetching it may take.
    timeout: float = seconds(5.0, 0.1, 60)
    #: Fetch keys from another machine without TLS all the same.
    allow_plaintext: bool = flag(False)
    #: Who must have issued a token; "" asks for nobody.
    issuer: str = text()
    #: For whom a token must be; "" refuses tokens that name an audience.
    audience: str = text()
    #: Where the token stands: in the password or in the user name.
    token: str = one_of("password", "password", "username")
    #: The claim that is the user name.
    user_claim: str = text("sub")
    #: Claim that must be the client id; "" means none.
    client_id_claim: str = text()
    #: The claim that lists the user's groups.
    groups_claim: str = text("groups")
    #: Claim that makes a superuser when it is true; "" means none.
    superuser_claim: str = text()
    #: Refuse a client whose CONNECT names another user than its token.
    user_name_must_match: bool = flag(False)
    #: Refuse tokens that never expire.
    require_expiry: bool = flag(True)
    #: Seconds by which clocks may differ.
    leeway: float = seconds(10.0, 0, 600)
    #: Of a token; bytes.
    maximum_token_size: int = size(8192, 64, 65_535)

    def __attrs_post_init__(self) -> None:
        _need(self, "algorithms", "user_claim")
        sources = [each for each in (self.key_file, self.jwks_file, self.jwks_url) if each]
        if len(sources) != 1:
            raise SettingError("key_file", self.key_file, "set, or else jwks_file or jwks_url")
        if len({name[:2] == "HS" for name in self.algorithms}) > 1:
            # A public key must never be taken for a shared secret.
            raise SettingError(
                "algorithms", list(self.algorithms), "either all HS... or none of them"
            )
        if self.jwks_url:
            _check_url("jwks_url", self.jwks_url, "https", "http", self.allow_plaintext)


@frozen
class WebLoginSettings(AuthenticatorSettings):
    """A web service that is asked about each login."""

    TYPE: ClassVar[str] = "http"

    #: Where to ask; https:// unless it is this machine.
    url: str = text()
    #: What is sent: JSON, or a form.
    body: str = one_of("json", "json", "form")
    #: PEM file of the authorities that sign the server's certificate; "" are the
    #: system's.
    ca_file: str = text()
    #: PEM file with certificate and key that we show the server.
    client_certificate: str = text()
    #: File with a token that is sent as "Authorization: Bearer".
    token_file: str = text()
    #: Send passwords to another machine without TLS all the same.
    allow_plaintext: bool = flag(False)
    #: Seconds that an answer may take.
    timeout: float = seconds(5.0, 0.1, 60)
    #: Requests under way at once.
    connections: int = count(16, 1, 1000)
    #: Logins that wait for their turn; more are refused as "busy".
    maximum_waiting: int = count(1000)
    #: Largest answer read; bytes.
    maximum_answer: int = size(65_536, 16)

    def __attrs_post_init__(self) -> None:
        _check_url("url", self.url, "https", "http", self.allow_plaintext)


@frozen
class SQLSettings(AuthenticatorSettings):
    """A table of users in a database."""

    TYPE: ClassVar[str] = "sql"

    #: Which database it is.
    driver: str = one_of("postgresql", "postgresql", "mariadb", "sqlite")
    #: Selects the row of a user; ${username} and its like become parameters. Its
    #: columns: password (a hash), superuser, groups; others become claims.
    query: str = text()
    #: Name or address of the server, or the path of its Unix socket (folder of
    #: the socket, for PostgreSQL).
    host: str = text("localhost")
    #: 0 is the usual one.
    port: int = count(0, 0, 65_535)
    #: Name of the database; the file, for SQLite.
    database: str = text()
    #: Who we are there.
    user: str = text()
    #: File with the password of *user*; "" means none.
    password_file: str = text()
    #: Connect by TLS.
    tls: bool = flag(False)
    #: PEM file of the authorities that sign the server's certificate.
    ca_file: str = text()
    #: Send passwords to another machine without TLS all the same.
    allow_plaintext: bool = flag(False)
    #: Seconds that connecting, and a query, may take.
    timeout: float = seconds(5.0, 0.1, 60)
    #: Connections to the database, which is queries at once.
    connections: int = count(4, 1, 100)
    #: Logins that wait for their turn; more are refused as "busy".
    maximum_waiting: int = count(1000)

    def __attrs_post_init__(self) -> None:
        _need(self, "query", "database")
        _check_placeholders("query", self.query)
        if re.search(r"""['"`]\s*\$\{|\}\s*['"`]""", self.query):
            raise SettingError("query", self.query, "one with no quotes around a place holder")
        if self.driver != "sqlite" and not self.host.startswith("/"):
            _check_server(self)
            if self.tls and not self.ca_file:
                raise SettingError("ca_file", "", "the name of a PEM file when tls is true")


@frozen
class RedisSettings(AuthenticatorSettings):
    """Hashes in Redis, one for each user."""

    TYPE: ClassVar[str] = "redis"

    #: Name or address of the server.
    host: str = text("localhost")
    #: Of the server.
    port: int = count(6379, 1, 65_535)
    #: Number of the database.
    database: int = count(0)
    #: File with the password of the server; "" means none.
    password_file: str = text()
    #: Connect by TLS.
    tls: bool = flag(False)
    #: PEM file of the authorities that sign the server's certificate; "" are the
    #: system's.
    ca_file: str = text()
    #: Send passwords to another machine without TLS all the same.
    allow_plaintext: bool = flag(False)
    #: Key of the hash, with fields password (a hash), superuser and groups.
    key: str = text("mqtt_user:${username}")
    #: Seconds that connecting, and an answer, may take.
    timeout: float = seconds(5.0, 0.1, 60)
    #: Connections to the server.
    connections: int = count(4, 1, 100)
    #: Logins that wait for their turn; more are refused as "busy".
    maximum_waiting: int = count(1000)

    def __attrs_post_init__(self) -> None:
        _need(self, "key")
        _check_placeholders("key", self.key)
        _check_server(self)


@frozen
class LDAPSettings(AuthenticatorSettings):
    """A directory: the client's password must let it bind."""

    TYPE: ClassVar[str] = "ldap"

    #: Of the server: ldaps://, or ldap:// with start_tls or to this machine.
    url: str = text()
    #: Upgrade an ldap:// connection by StartTLS.
    start_tls: bool = flag(False)
    #: PEM file of the authorities that sign the server's certificate; "" are the
    #: system's.
    ca_file: str = text()
    #: Send passwords to another machine without TLS all the same.
    allow_plaintext: bool = flag(False)
    #: The name to bind as: "uid=${username},ou=people,dc=example,dc=org".
    user_dn: str = text()
    #: Or where to look for it.
    search_base: str = text()
    #: What the entry of a user must fulfil.
    search_filter: str = text("(uid=${username})")
    #: Who searches; "" is the anonymous.
    bind_dn: str = text()
    #: File with the password of bind_dn.
    bind_password_file: str = text()
    #: Attribute of the user's entry that is the user name from then on, since a
    #: directory does not tell "alice" from "Alice"; "" leaves the client's spelling.
    user_attribute: str = text("uid")
    #: Attribute of the user's entry that names groups; "" asks for none.
    groups_attribute: str = text()
    #: Users that no access rule concerns.
    superusers: tuple[str, ...] = texts((), 'a list of user names, such as ["admin"]', bool)
    #: Seconds that each step may take.
    timeout: float = seconds(5.0, 1, 60)
    #: Logins checked at once, each in a thread.
    connections: int = count(4, 1, 100)
    #: Logins that wait for their turn; more are refused as "busy".
    maximum_waiting: int = count(1000)

    def __attrs_post_init__(self) -> None:
        plain_is_fine = self.allow_plaintext or self.start_tls
        _check_url("url", self.url, "ldaps", "ldap", plain_is_fine)
        if bool(self.user_dn) == bool(self.search_base):
            raise SettingError("user_dn", self.user_dn, "set, or else search_base")
        for name in ("user_dn", "search_filter"):
            _check_placeholders(name, getattr(self, name))
        if self.bind_dn and not self.bind_password_file:
            # Without a password a bind would be anonymous, and succeed.
            raise SettingError("bind_password_file", "", "set when bind_dn is")


@frozen
class CredSettings(AuthenticatorSettings):
    """Any checker of twisted.cred, by the description that ``--auth`` takes."""

    TYPE: ClassVar[str] = "cred"

    #: As ``twistd mqttd --help-auth`` lists them: "file:/etc/mqttd/passwords".
    #: One that says yes is enough.
    auth: tuple[str, ...] = field(
        default=(),
        repr=False,
        validator=check(
            'a list such as ["file:/etc/mqttd/passwords"]',
            lambda value: isinstance(value, tuple) and all(isinstance(x, str) and x for x in value),
        ),
        metadata={"allowed": 'a list such as ["file:/etc/mqttd/passwords"]'},
    )

    def __attrs_post_init__(self) -> None:
        _need(self, "auth")


#: Type, as a configuration has it -> its settings.
AUTHENTICATORS: dict[str, type[AuthenticatorSettings]] = {
    kind.TYPE: kind
    for kind in (
        PasswordFileSettings,
        CertificateSettings,
        JWTSettings,
        WebLoginSettings,
        SQLSettings,
        RedisSettings,
        LDAPSettings,
        CredSettings,
        SCRAMSettings,
    )
}


def check_names(authenticators: tuple[AuthenticatorSettings, ...], chosen: tuple[str, ...]) -> None:
    """Each authenticator has a name of its own, and *chosen* ones are there.

    :raise SettingError: for ``authentication``.
    """
    names = [each.title for each in authenticators]
    for index, name in enumerate(names):
        if name == ALL or name in names[:index]:
            raise SettingError("authentication", name, "a name that no other table has")
    for name in chosen:
        if name != ALL and name not in names:
            known = ", ".join(f'"{each}"' for each in (ALL, *names))
            raise SettingError("authentication", name, f"one of {known}")
