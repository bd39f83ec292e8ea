"""The settings of ``[[authorization]]``, ``[access]`` and ``[abuse]``.

Each type of rule source has a class of its own. ``settings.py`` puts them into
``BrokerSettings``, ``mqttd.access`` obeys them. No secret stands in a setting: each
is in a file of its own that a setting names.
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from mqttd.fields import SettingError, count, flag, seconds, size, text, texts
from mqttd.settings_authentication import RedisSettings, SQLSettings, WebLoginSettings


def _need(settings: Any, *names: str) -> None:
    for name in names:
        if not getattr(settings, name):
            raise SettingError(name, getattr(settings, name), "set, since it has no default")


@frozen
class RuleSourceSettings:
    """What every table of ``[[authorization]]`` may say."""

    TYPE: ClassVar[str] = ""

    #: What logs and explanations call it; "" is the type and where it is.
    name: str = text("", 255)
    #: Only report what it would deny, by itself and with others in shadow.
    shadow: bool = flag(False)


@frozen
class RuleFileSettings(RuleSourceSettings):
    """A file of rules in mqttd's own form."""

    TYPE: ClassVar[str] = "file"

    #: Where the file is.
    path: str = text()

    def __attrs_post_init__(self) -> None:
        _need(self, "path")


@frozen
class MosquittoFileSettings(RuleSourceSettings):
    """An acl_file of mosquitto."""

    TYPE: ClassVar[str] = "mosquitto"

    #: Where the file is.
    path: str = text()
    #: Names of the listeners that it is for; none: it is for all of them.
    listeners: tuple[str, ...] = texts((), "a list of names of listeners", bool)

    def __attrs_post_init__(self) -> None:
        _need(self, "path")


@frozen
class ClaimsSettings(RuleSourceSettings):
    """Rules that the client's own token, or directory entry, lists."""

    TYPE: ClassVar[str] = "claims"

    #: The claim that holds them; a dot leads into a table.
    claim: str = text("acl")

    def __attrs_post_init__(self) -> None:
        _need(self, "claim")


@frozen
class WebRulesSettings(WebLoginSettings):
    """A web service that is asked about each topic."""

    #: Only report what it would deny, by itself and with others in shadow.
    shadow: bool = flag(False)


@frozen
class SQLRulesSettings(SQLSettings):
    """Rules in a database: a query gives those of a client, in order."""

    #: Only report what it would deny, by itself and with others in shadow.
    shadow: bool = flag(False)


@frozen
class RedisRulesSettings(RedisSettings):
    """Hashes in Redis, one for each client: topic filter -> action."""

    #: Key of the hash of a client.
    key: str = text("mqtt_acl:${username}")
    #: Only report what it would deny, by itself and with others in shadow.
    shadow: bool = flag(False)


RuleSource = RuleSourceSettings | WebRulesSettings | SQLRulesSettings | RedisRulesSettings

#: Type, as a configuration has it -> its settings.
RULE_SOURCES: dict[str, type[RuleSource]] = {
    kind.TYPE: kind
    for kind in (
        RuleFileSettings,
        MosquittoFileSettings,
        ClaimsSettings,
        WebRulesSettings,
        SQLRulesSettings,
        RedisRulesSettings,
    )
}


@frozen
class AccessSettings:
    """What each connection remembers of decisions."""

    #: Seconds that an answer from a database or web service holds; what rules in
    #: files say holds until they change. 0: ask each time.
    decision_lifetime: float = seconds(60.0, 0, 86_400)
    #: Decisions that a connection remembers.
    decisions: int = count(256, 1, 65_536)


@frozen
class AbuseSettings:
    """What is done about those who misbehave; 0 switches each of these off."""

    #: Connections of one user, on all listeners.
    maximum_connections_per_user: int = count(0)
    #: Failed logins of an address (IPv6: a /64) within the window, after which it
    #: is not let in for the delay, and twice as long each next time.
    failed_logins: int = count(100)
    #: Seconds within which they count.
    failed_login_window: float = seconds(60.0, 1, 86_400)
    #: Seconds for which the address is not let in, the first time.
    failed_login_delay: float = seconds(10.0, 1, 86_400)
    #: Seconds above which that does not grow.
    maximum_failed_login_delay: float = seconds(3600.0, 1, 31_536_000)
    #: Connections that one client id may end within the window before it is banned.
    flapping_limit: int = count(0)
    #: Seconds within which they count.
    flapping_window: float = seconds(60.0, 1, 86_400)
    #: Seconds for which it is banned.
    flapping_ban: float = seconds(300.0, 1, 31_536_000)
    #: File that keeps bans over a restart; "" is bans.json in the data directory.
    ban_file: str = text()
    #: PUBLISH packets that one user may send in a period; clients without a name
    #: share those of their address.
    message_quota: int = count(0)
    #: The same for bytes of payloads.
    byte_quota: int = size(0)
    #: Seconds.
    quota_period: float = seconds(86_400.0, 1, 31_536_000)
