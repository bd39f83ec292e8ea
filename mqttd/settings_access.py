"""The settings of ``[[authorization]]``: one class for each type of rule source.

``settings.py`` puts them into ``BrokerSettings``, ``mqttd.access`` makes sources of
them. No secret stands in a setting: each is in a file of its own that a setting
names.
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from mqttd.fields import SettingError, count, flag, seconds, text


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

    path: str = text()

    def __attrs_post_init__(self) -> None:
        _need(self, "path")


@frozen
class MosquittoFileSettings(RuleSourceSettings):
    """An acl_file of mosquitto."""

    TYPE: ClassVar[str] = "mosquitto"

    path: str = text()

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


#: Type, as a configuration has it -> its settings.
RULE_SOURCES: dict[str, type[RuleSourceSettings]] = {
    kind.TYPE: kind for kind in (RuleFileSettings, MosquittoFileSettings, ClaimsSettings)
}


@frozen
class AccessSettings:
    """What each connection remembers of decisions."""

    #: Seconds that an answer from a database or web service holds; what rules in
    #: files say holds until they change. 0: ask each time.
    decision_lifetime: float = seconds(60.0, 0, 86_400)
    #: Decisions that a connection remembers.
    decisions: int = count(256, 1, 65_536)
